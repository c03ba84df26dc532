//! The timeline's named clauses: for each one a checker over what has happened and what is shown.

use std::collections::HashSet;

use crate::introspection::{Bounds, Outcome, Timeline};

/// What has happened to a timeline, as its callers know it.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Turns that have begun and not ended, by number and key.
    pub(super) open: Vec<(u64, String)>,
    /// Turns that have ended, in that order.
    pub(super) ended: Vec<Ended>,
}

#[derive(Debug)]
pub(super) struct Ended {
    pub(super) number: u64,
    pub(super) key: String,
    pub(super) outcome: Outcome,
}

/// All of them.
pub(super) fn all(history: &History, bounds: Bounds, timeline: &Timeline) {
    accounted(history, timeline);
    bounded(bounds, timeline);
    latest_kept(history, bounds, timeline);
}

pub(super) fn accounted(history: &History, timeline: &Timeline) {
    let counters = timeline.counters();
    let ended =
        |of: fn(&Outcome) -> bool| history.ended.iter().filter(|turn| of(&turn.outcome)).count() as u64;
    let counts = [
        (counters.success, ended(|of| matches!(of, Outcome::Success))),
        (
            counters.requeue_after,
            ended(|of| matches!(of, Outcome::RequeueAfter { .. })),
        ),
        (
            counters.conflict,
            ended(|of| matches!(of, Outcome::Conflict { .. })),
        ),
        (counters.error, ended(|of| matches!(of, Outcome::Error { .. }))),
        (
            counters.terminal,
            ended(|of| matches!(of, Outcome::Terminal { .. })),
        ),
        (counters.panic, ended(|of| matches!(of, Outcome::Panic { .. }))),
        (
            counters.timed_out,
            ended(|of| matches!(of, Outcome::TimedOut { .. })),
        ),
        (counters.cut_off, ended(|of| matches!(of, Outcome::CutOff))),
    ];
    for (number, (counted, happened)) in counts.into_iter().enumerate() {
        assert_eq!(counted, happened, "Accounted: outcome {number} of {counters:?}");
    }
    assert_eq!(counters.turns(), history.ended.len() as u64, "Accounted: all");
    let mut open: Vec<_> = history.open.iter().map(|(_, key)| key.clone()).collect();
    let mut shown: Vec<_> = timeline.in_hand().into_iter().map(|key| key.key).collect();
    open.sort();
    shown.sort();
    assert_eq!(shown, open, "Accounted: turns under way");
    assert_eq!(timeline.open(), open.len(), "Accounted: how many are under way");
}

pub(super) fn bounded(bounds: Bounds, timeline: &Timeline) {
    // A text that was cut ends with an ellipsis, of three bytes.
    let text = bounds.text + '…'.len_utf8();
    timeline.look(|state| {
        let keys = state.keys().count();
        assert!(keys <= bounds.keys, "Bounded: {keys} keys");
        let (mut bytes, mut turns) = (0, 0);
        for (key, lane) in state.keys() {
            let kept = lane.turns.len();
            assert!(
                (1..=bounds.turns.max(1)).contains(&kept),
                "Bounded: {kept} turns of {key}"
            );
            turns += kept;
            for turn in &lane.turns {
                bytes += turn.bytes();
                let writes = turn.writes.len();
                assert!(writes <= bounds.writes, "Bounded: {writes} writes of {key}");
                for reason in &turn.occasion.reasons {
                    assert!(
                        reason.len() <= text,
                        "Bounded: a reason of {} bytes",
                        reason.len()
                    );
                }
                let message = turn.outcome.clone().and_then(|mut of| of.message().cloned());
                let message = message.map_or(0, |message| message.len());
                assert!(message <= text, "Bounded: a message of {message} bytes");
            }
        }
        assert_eq!(state.bytes(), bytes, "Bounded: bytes are counted");
        assert!(
            bytes <= bounds.bytes || turns == 1,
            "Bounded: {bytes} bytes in {turns} turns"
        );
    });
}

pub(super) fn latest_kept(history: &History, bounds: Bounds, timeline: &Timeline) {
    let kept: HashSet<String> = timeline
        .keys("", usize::MAX)
        .items
        .into_iter()
        .map(|key| key.key)
        .collect();
    for key in &kept {
        let shown = timeline.of_key(key);
        let mut shown: Vec<u64> = shown
            .turns
            .iter()
            .filter(|turn| turn.outcome.is_some())
            .map(|turn| turn.number)
            .collect();
        shown.reverse();
        let happened = history.ended.iter().filter(|turn| turn.key == *key);
        let happened: Vec<u64> = happened.map(|turn| turn.number).collect();
        assert!(
            happened.ends_with(&shown),
            "Latest kept: {shown:?} are not the last of {happened:?}"
        );
    }
    if let Some(last) = history.ended.last().filter(|_| bounds.keys > 0) {
        assert!(kept.contains(&last.key), "Latest kept: {} is not", last.key);
    }
    if bounds.bytes == usize::MAX {
        let expected: HashSet<String> = replay(history, bounds.keys)
            .into_iter()
            .map(|key| key.0)
            .collect();
        assert_eq!(kept, expected, "Latest kept: which keys");
        for (key, failures) in replay(history, bounds.keys) {
            let shown = timeline
                .keys(&key, usize::MAX)
                .items
                .into_iter()
                .find(|of| of.key == key);
            assert_eq!(
                shown.map(|key| key.failures),
                Some(failures),
                "Latest kept: failures of {key}"
            );
        }
    }
}

/// Which keys are kept, with their failures in a row, in the order in which their last turns ended: said as plainly as can
/// be.
fn replay(history: &History, most: usize) -> Vec<(String, u32)> {
    let mut keys: Vec<(String, u32)> = Vec::new();
    for turn in &history.ended {
        let known = keys.iter().position(|(key, _)| *key == turn.key);
        let failures = known.map_or(0, |at| keys.remove(at).1);
        let failures = match &turn.outcome {
            Outcome::CutOff => failures,
            outcome if outcome.is_failure() => failures + 1,
            _ => 0,
        };
        keys.push((turn.key.clone(), failures));
        while keys.len() > most {
            let failing = keys.iter().filter(|(_, failures)| *failures > 0).count();
            let failing_first = failing * 2 > keys.len();
            let others = keys.len() - 1;
            let oldest = |failing: bool| {
                keys[..others]
                    .iter()
                    .position(|(_, failures)| (*failures > 0) == failing)
            };
            let victim = oldest(failing_first).or_else(|| oldest(!failing_first));
            keys.remove(victim.unwrap_or(others));
        }
    }
    keys
}
