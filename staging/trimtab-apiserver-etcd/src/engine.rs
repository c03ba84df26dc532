//! Drives a change step by step, forward or back, through crashes and failures.
//!
//! - Before a step the journal says that it may have been begun; after it, that it is done. A step that may have been
//!   begun is done again.
//! - A step that fails turns the change back: what was done is taken back, last first, and so is what failed.
//! - Once clients may have written to what was restored there is no way back without losing what they wrote: then a
//!   failure stops, and the next run goes on.
//! - A failure on the way back stops as well, and the next run goes on with it.

use crate::error::Result;
use crate::journal::{Direction, Journal};
use crate::plan::Step;

/// What is done to the world. Each may be done again.
pub(crate) trait Hands {
    /// Does a step; `journal` gets to know what came of it.
    async fn perform(&mut self, step: Step, journal: &mut Journal) -> Result<()>;
    /// Keeps the journal.
    fn keep(&mut self, journal: &Journal) -> Result<()>;
    /// Tells people that a step begins; `back` when it is taken back.
    fn tell(&mut self, journal: &Journal, number: usize, step: Step, back: bool);
}

/// How a change ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// All steps are done.
    Changed,
    /// Everything is as before, for this reason.
    Returned(String),
    /// It waits, as it was told to, before clients of the old scheme are shut out.
    Held,
}

/// Goes on until it has ended. With `hold`, not further than to where clients of the old scheme are shut out.
pub(crate) async fn drive(journal: &mut Journal, hands: &mut impl Hands, hold: bool) -> Result<Ended> {
    loop {
        match journal.direction {
            Direction::Forward => {
                let Some(step) = journal.steps.get(journal.done).copied() else {
                    journal.finished = true;
                    hands.keep(journal)?;
                    return Ok(Ended::Changed);
                };
                if hold && step.shuts_out() {
                    return Ok(Ended::Held);
                }
                journal.begun = true;
                hands.keep(journal)?;
                hands.tell(journal, journal.done + 1, step, false);
                match hands.perform(step, journal).await {
                    Ok(()) => {
                        journal.done += 1;
                        journal.begun = false;
                    }
                    Err(error) if journal.can_go_back() => journal.turn_back(error.to_string()),
                    Err(error) => return Err(error),
                }
                hands.keep(journal)?;
            }
            Direction::Back => {
                if journal.done == 0 {
                    journal.finished = true;
                    hands.keep(journal)?;
                    return Ok(Ended::Returned(journal.why.clone().unwrap_or_default()));
                }
                if let Some(step) = journal.steps[journal.done - 1].inverse() {
                    hands.tell(journal, journal.done, step, true);
                    hands.perform(step, journal).await?;
                }
                journal.done -= 1;
                hands.keep(journal)?;
            }
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
