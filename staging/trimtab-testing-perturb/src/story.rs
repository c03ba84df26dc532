//! Tells what happened in a run that failed, for people: what the controller saw and did, and where that was not as usual.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::journal::{Entry, What};
use crate::plan::Plan;
use crate::point::{Point, Sort};
use crate::run::Run;

/// How much is shown before the first fault and after it.
const BEFORE: usize = 25;
const AFTER: usize = 80;

/// The story of a failure.
pub(crate) fn tell(plan: &Plan, run: &Run, learned: &Run) -> String {
    let usual: BTreeSet<&Point> = learned.journal.iter().filter_map(Entry::point).collect();
    let mut text = String::new();
    for wrong in &run.wrong {
        let _ = writeln!(text, "  {wrong}"); // to a text, it cannot fail
    }
    let plan = plan.to_string();
    let what_is_marked = if plan.is_empty() {
        ""
    } else {
        "; + is what did not happen in the run in which nothing went wrong"
    };
    let _ = writeln!(text, "\n  What happened{what_is_marked}:\n");
    let first = run
        .journal
        .iter()
        .position(|entry| matches!(entry.what, What::Fault(_)));
    let first = first.unwrap_or(0);
    let shown = first.saturating_sub(BEFORE)..run.journal.len().min(first + AFTER);
    if shown.start > 0 {
        let _ = writeln!(text, "     … {} before that", shown.start);
    }
    let last = run.journal.len() - shown.end;
    for entry in &run.journal[shown] {
        let unusual = entry.point().is_some_and(|point| !usual.contains(point));
        let _ = writeln!(text, "  {} {entry}", if unusual { '+' } else { ' ' });
    }
    if last > 0 {
        let _ = writeln!(text, "     … {last} after that");
    }
    let did: BTreeSet<&Point> = run.journal.iter().filter_map(Entry::point).collect();
    let missing = usual
        .into_iter()
        .filter(|point| point.sort() == Sort::Write && !did.contains(*point));
    let missing: Vec<String> = missing.map(ToString::to_string).collect();
    if !missing.is_empty() {
        let _ = writeln!(
            text,
            "\n  What it did when nothing went wrong, and not here: {}",
            missing.join(", ")
        );
    }
    if !plan.is_empty() {
        let _ = write!(
            text,
            "\n  To see it again, put this in the place of `.check()`:\n\n      .replay({plan:?});\n"
        );
    }
    text
}
