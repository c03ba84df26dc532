//! One checker for each clause of the module's docs, over what candidates did.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// What happened, in order. Candidates have numbers; one that starts again is another one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// Work begins.
    Begin { who: usize, token: u64 },
    /// Work does something.
    Act { who: usize, token: u64 },
    /// Work has ended or was dropped.
    End { who: usize, token: u64 },
    /// The server has stored a Lease without holder.
    Released { who: usize },
    /// The candidate does not run any more.
    Gone { who: usize },
}

pub(super) type History = [(Instant, Event)];
pub(super) type Verdict = Result<(), String>;

/// Single: between the first and the last that one leadership does, no other one does anything.
pub(super) fn single(history: &History) -> Verdict {
    let mut spans: BTreeMap<(usize, u64), (usize, usize)> = BTreeMap::new();
    for (at, (_, event)) in history.iter().enumerate() {
        if let Event::Begin { who, token } | Event::Act { who, token } = event {
            spans.entry((*who, *token)).or_insert((at, at)).1 = at;
        }
    }
    let mut spans: Vec<_> = spans.into_iter().collect();
    spans.sort_by_key(|(_, (first, _))| *first);
    for pair in spans.windows(2) {
        let ((one, (_, last)), (other, (first, _))) = (pair[0], pair[1]);
        if first < last {
            let (began, acted) = (history[first].0, history[last].0);
            return Err(format!(
                "Single: {other:?} began at {began:?}, and {one:?} worked at {acted:?}"
            ));
        }
    }
    Ok(())
}

/// Fenced: tokens only grow.
pub(super) fn fenced(history: &History) -> Verdict {
    let mut greatest = None;
    for (_, event) in history {
        if let Event::Begin { who, token } = event {
            if greatest.is_some_and(|greatest| *token <= greatest) {
                return Err(format!("Fenced: {who} has token {token} after {greatest:?}"));
            }
            greatest = Some(*token);
        }
    }
    Ok(())
}

/// Released after work: whoever releases does not work.
pub(super) fn released_after_work(history: &History) -> Verdict {
    let mut works = BTreeMap::new();
    for (at, event) in history {
        match event {
            Event::Begin { who, token } => drop(works.insert(*who, *token)),
            Event::End { who, .. } => drop(works.remove(who)),
            Event::Released { who } if works.contains_key(who) => {
                return Err(format!(
                    "Released after work: {who} at {at:?}, with work under way"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Live: somebody works within `bound` of `from`.
pub(super) fn live(history: &History, from: Instant, bound: Duration) -> Verdict {
    let works = |(at, event): &(Instant, Event)| {
        matches!(event, Event::Act { .. }) && *at >= from && *at <= from + bound
    };
    match history.iter().any(works) {
        true => Ok(()),
        false => Err(format!("Live: nobody works within {bound:?} of {from:?}")),
    }
}

/// What must hold of every history.
pub(super) fn always(history: &History) -> Verdict {
    single(history)?;
    fenced(history)?;
    released_after_work(history)
}
