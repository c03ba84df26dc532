//! The validators: one function per clause of the cache's crate docs, over what was recorded of a run.

mod handlers;
mod stores;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use trimtab::apimachinery::ObjectKey;

pub(crate) use self::handlers::{bounded, complete, leaves, ordered, synced};
pub(crate) use self::stores::{atomic, monotonic, reliable};
use crate::history::{HandlerId, Kind, Report, Told, What};
use crate::model::View;

/// A clause that was broken, and by what.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) clause: &'static str,
    /// Which entry of the report shows it, if a single one does.
    pub(crate) entry: Option<usize>,
    pub(crate) key: Option<ObjectKey>,
    pub(crate) why: String,
}

pub(crate) type Verdict = Result<(), Violation>;

/// Looks for what breaks one clause.
type Validator = fn(&Report) -> Verdict;

/// Every clause with its validator, in the order of the crate docs; what is not the cache's comes first.
pub(crate) const CLAUSES: [(&str, Validator); 8] = [
    ("Reliable", reliable),
    ("Ordered", ordered),
    ("Monotonic", monotonic),
    ("Complete", complete),
    ("Atomic", atomic),
    ("Bounded", bounded),
    ("Synced", synced),
    ("Leaves", leaves),
];

/// How many of the last things that concern a violation are shown.
const SHOWN: usize = 12;

/// Checks every clause.
///
/// # Errors
/// What is wrong, with all that is needed to look for the cause and to see it again.
pub(crate) fn check(report: &Report) -> Result<(), String> {
    for (_, validator) in CLAUSES {
        validator(report).map_err(|violation| explain(report, &violation))?;
    }
    Ok(())
}

/// Follows what a handler knows by what it is told.
pub(crate) fn follow(known: &mut View, told: &Told) {
    match told.kind {
        Kind::Deleted { .. } => known.remove(&told.key),
        _ => known.insert(told.key.clone(), told.mark.clone()),
    };
}

/// The handlers of each informer, as entries come by.
#[derive(Default)]
pub(crate) struct Present(BTreeMap<HandlerId, usize>);

impl Present {
    /// Takes note of who joins and leaves.
    pub(crate) fn note(&mut self, informer: usize, what: &What) {
        match what {
            What::Joined { handler, .. } => drop(self.0.insert(*handler, informer)),
            What::Left(handler) => drop(self.0.remove(handler)),
            _ => {}
        }
    }

    /// The handlers that an informer has.
    pub(crate) fn of(&self, informer: usize) -> impl Iterator<Item = HandlerId> {
        self.0
            .iter()
            .filter(move |(_, of)| **of == informer)
            .map(|(handler, _)| *handler)
    }
}

fn explain(report: &Report, violation: &Violation) -> String {
    let Violation {
        clause,
        entry,
        key,
        why,
    } = violation;
    let mut lines = vec![format!("{clause}: {why}")];
    let shown = entry.and_then(|at| report.entries.get(at));
    let step = shown.map_or(report.steps, |entry| entry.step);
    let on = key.as_ref().map(|key| format!(", key {key}")).unwrap_or_default();
    lines.push(format!(
        "seed {}, step {step} of {}{on}",
        report.seed, report.steps
    ));
    if let Some(shown) = shown {
        lines.push(format!(
            "informer {}: {}",
            shown.informer, report.informers[shown.informer].name
        ));
        let before = &report.entries[..=entry.unwrap_or_default()];
        let of_informer = || before.iter().filter(|other| other.informer == shown.informer);
        if let Some(key) = key {
            lines.push("the server's last states of it:".to_owned());
            lines.extend(report.model.tell(key, u64::MAX, SHOWN));
            lines.push("what handlers were told of it:".to_owned());
            let told =
                of_informer().filter(|other| matches!(&other.what, What::Told(told) if told.key == *key));
            lines.extend(last(
                told.map(|entry| format!("step {}: {:?}", entry.step, entry.what)),
            ));
        }
        lines.push("on the wire:".to_owned());
        let wire = of_informer().filter_map(|other| match &other.what {
            What::Wire { wire, detail } => Some(format!("step {}: {wire:?} {detail}", other.step)),
            _ => None,
        });
        lines.extend(last(wire));
    }
    lines.push(format!(
        "run it again: TRIMTAB_ROBUSTNESS_SEED={} TRIMTAB_ROBUSTNESS_STEPS={} cargo test -p trimtab-tests --test robustness",
        report.seed, report.steps
    ));
    lines.join("\n  ")
}

fn last(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<_> = lines.collect();
    lines.split_off(lines.len().saturating_sub(SHOWN))
}
