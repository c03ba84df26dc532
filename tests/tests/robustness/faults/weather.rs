//! How likely each fault is.

use super::stream::Ending;

/// The chances of one run: of each request, of each line of a stream, of each list.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    // Of each request:
    pub(super) refused: f64,
    pub(super) mute: f64,
    pub(super) answered: f64,
    pub(super) late: f64,
    pub(super) old_list: f64,
    /// Of each page but the first.
    pub(super) pages_expired: f64,
    /// A resumed watch begins with what was delivered before.
    pub(super) begins_again: f64,
    // Of each line, and, so many times as often, of each list:
    pub(super) of_lists: f64,
    pub(super) cut: f64,
    /// Ends in the middle of a line, or after one, as if it were complete.
    pub(super) half: f64,
    pub(super) stalled: f64,
    pub(super) error_event: f64,
    pub(super) delayed: f64,
    /// Lines that were delivered before come again in between.
    pub(super) again: f64,
    /// Comes in several pieces.
    pub(super) pieces: f64,
    /// What happens during a streamed list is told before its end.
    pub(super) grows: f64,
}

impl Weather {
    /// The ways in which a body can end early.
    pub(super) fn endings(&self) -> [(f64, Ending); 3] {
        [
            (self.cut, Ending::Cut),
            (self.half, Ending::Ended),
            (self.stalled, Ending::Stalled),
        ]
    }

    /// Each fault is absent, usual or frequent in a run, so that no two runs are alike.
    pub(crate) fn of(rng: &mut fastrand::Rng) -> Self {
        let mut chance = |usual: f64| usual * [0.0, 0.5, 0.5, 1.0, 1.0, 1.0, 2.0, 4.0][rng.usize(..8)];
        Self {
            refused: chance(0.06),
            mute: chance(0.02),
            answered: chance(0.15),
            late: chance(0.2),
            old_list: chance(0.3),
            pages_expired: chance(0.25),
            begins_again: chance(0.5),
            of_lists: 20.0,
            cut: chance(0.008),
            half: chance(0.008),
            stalled: chance(0.003),
            error_event: chance(0.006),
            delayed: chance(0.05),
            again: chance(0.02),
            pieces: chance(0.2),
            grows: chance(0.6),
        }
    }
}
