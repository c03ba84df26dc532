//! One checker for each clause of the module's docs.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::sharding::assign::share;
use crate::sharding::partitions::Partitions;

/// What was done on a partition. Members and pieces of work have numbers; a member that starts again is another one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Act {
    pub(super) at: Instant,
    pub(super) who: usize,
    pub(super) work: u64,
    pub(super) partition: u8,
}

pub(super) type Verdict = Result<(), String>;

/// Exclusive, in what was done: between the first and the last that one member does in one piece of work, no other member
/// does anything on its partition.
pub(super) fn exclusive(history: &[Act]) -> Verdict {
    type Span = (usize, usize, usize);
    let mut spans: BTreeMap<(u8, usize, u64), Span> = BTreeMap::new();
    for (at, act) in history.iter().enumerate() {
        spans
            .entry((act.partition, act.who, act.work))
            .or_insert((at, at, act.who))
            .1 = at;
    }
    let mut by_partition: BTreeMap<u8, Vec<Span>> = BTreeMap::new();
    for ((partition, ..), span) in spans {
        by_partition.entry(partition).or_default().push(span);
    }
    for (partition, mut spans) in by_partition {
        spans.sort_unstable();
        let mut last = spans[0];
        for span in spans.into_iter().skip(1) {
            if span.0 < last.1 && span.2 != last.2 {
                let (began, acted) = (history[span.0].at, history[last.1].at);
                return Err(format!(
                    "Exclusive: {} began on {partition} at {began:?}, and {} worked on it at {acted:?}",
                    span.2, last.2
                ));
            }
            if span.1 > last.1 {
                last = span;
            }
        }
    }
    Ok(())
}

/// Exclusive, in what may be done now: each partition is at most one member's.
pub(super) fn disjoint(owned: &[Partitions]) -> Verdict {
    let mut taken = Partitions::NONE;
    for owned in owned {
        let twice = taken & *owned;
        if !twice.is_empty() {
            return Err(format!("Exclusive: {twice:?} are owned twice"));
        }
        taken = taken | *owned;
    }
    Ok(())
}

/// Covered: each partition is somebody's.
pub(super) fn covered(owned: &[Partitions]) -> Verdict {
    let taken = owned.iter().fold(Partitions::NONE, |taken, owned| taken | *owned);
    match taken == Partitions::ALL {
        true => Ok(()),
        false => Err(format!("Covered: {:?} are nobody's", Partitions::ALL - taken)),
    }
}

/// Minimal: when `member` joins these members, what changes hands is what it is given, and all of that.
pub(super) fn minimal(members: &BTreeSet<String>, member: &str) -> Verdict {
    let mut more = members.clone();
    more.insert(member.to_owned());
    let given = share(&more, member);
    for other in members.iter().filter(|other| *other != member) {
        let (before, after) = (share(members, other), share(&more, other));
        if after != before - given {
            return Err(format!(
                "Minimal: {other} has {after:?} of {before:?} when {member} takes {given:?}"
            ));
        }
    }
    Ok(())
}
