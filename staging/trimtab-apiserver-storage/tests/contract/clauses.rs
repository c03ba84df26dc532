//! One checker for each clause. Each answers with the clause's name and what broke it.

use std::collections::HashSet;
use std::time::Instant;

use trimtab_apiserver_storage::{Event, KeyValue, Op, RangeResponse, Revision, Txn, TxnResponse, WatchBatch};

use crate::model::Model;

pub(crate) type Verdict = Result<(), String>;

fn fail<T: std::fmt::Debug>(clause: &str, what: &str, evidence: T) -> Verdict {
    Err(format!("{clause}: {what}: {evidence:?}"))
}

fn events(batches: &[WatchBatch]) -> Vec<Event> {
    batches.iter().flat_map(|b| b.events.clone()).collect()
}

/// *Ordered*: changes come in the order of their revisions.
pub(crate) fn ordered(batches: &[WatchBatch]) -> Verdict {
    let mut last = 0;
    for batch in batches {
        for event in &batch.events {
            if event.kv.mod_revision < last {
                return fail("Ordered", "an event is older than the one before", event);
            }
            last = event.kv.mod_revision;
        }
        if batch.revision < last {
            return fail("Ordered", "a batch claims less than it holds", batch);
        }
        last = batch.revision;
    }
    Ok(())
}

/// *Unique*: no change comes twice.
pub(crate) fn unique(batches: &[WatchBatch]) -> Verdict {
    let mut seen = HashSet::new();
    for event in events(batches) {
        if !seen.insert((event.kv.key.clone(), event.kv.mod_revision)) {
            return fail("Unique", "an event came twice", event);
        }
    }
    Ok(())
}

/// *Reliable*: from its start to where it is, a watch has left out nothing and made up nothing.
pub(crate) fn reliable(model: &Model, prefix: &[u8], from: Revision, batches: &[WatchBatch]) -> Verdict {
    let Some(last) = batches.last() else { return Ok(()) };
    let (wanted, got) = (model.events(prefix, from, last.revision), events(batches));
    let same = wanted
        .iter()
        .zip(&got)
        .take_while(|(wanted, got)| wanted == got)
        .count();
    if wanted.len() == same && got.len() == same {
        Ok(())
    } else {
        let counts = (same, wanted.len(), got.len());
        let evidence = (counts, wanted.get(same), got.get(same));
        fail(
            "Reliable",
            "(alike, wanted, got) events, then wanted, got",
            evidence,
        )
    }
}

/// *Atomic*: all changes of one transaction come in one batch.
pub(crate) fn atomic(batches: &[WatchBatch]) -> Verdict {
    let mut seen = HashSet::new();
    for batch in batches {
        let revisions: HashSet<_> = batch.events.iter().map(|e| e.kv.mod_revision).collect();
        for revision in revisions {
            if !seen.insert(revision) {
                return fail("Atomic", "a revision is spread over batches", revision);
            }
        }
    }
    Ok(())
}

/// *Bookmarkable*: whenever a batch says how far it is, everything up to there has come.
pub(crate) fn bookmarkable(model: &Model, prefix: &[u8], from: Revision, batches: &[WatchBatch]) -> Verdict {
    for n in 1..=batches.len() {
        let (wanted, got) = (
            model.events(prefix, from, batches[n - 1].revision),
            events(&batches[..n]),
        );
        if wanted != got {
            return fail(
                "Bookmarkable",
                "at its claim",
                (&batches[n - 1], wanted.len(), got.len()),
            );
        }
    }
    Ok(())
}

/// *Resumable*: a second watch from where the first one stopped continues without gap or repetition.
pub(crate) fn resumable(model: &Model, prefix: &[u8], from: Revision, parts: [&[WatchBatch]; 2]) -> Verdict {
    let whole: Vec<_> = parts.concat();
    reliable(model, prefix, from, &whole).map_err(|e| e.replace("Reliable", "Resumable"))
}

/// *Snapshot*: the pages of a list show one revision.
pub(crate) fn snapshot(model: &Model, prefix: &[u8], revision: Revision, pages: &[RangeResponse]) -> Verdict {
    let got: Vec<KeyValue> = pages.iter().flat_map(|p| p.kvs.clone()).collect();
    let wanted = model.range(prefix, revision);
    if got != wanted {
        return fail("Snapshot", "wanted, got", (wanted, got));
    }
    match pages.iter().find(|p| p.revision != revision) {
        Some(page) => fail("Snapshot", "a page is of another revision", page.revision),
        None => Ok(()),
    }
}

/// A transaction as its caller saw it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) txn: Txn,
    pub(crate) response: TxnResponse,
}

/// *Linearizable*: in the order of their revisions the calls give the answers that they gave, and no call comes
/// before one that had ended when it began. Answers with the model that the history leads to.
pub(crate) fn linearizable(calls: &[Call]) -> Result<Model, String> {
    let mut order: Vec<&Call> = calls.iter().collect();
    // A call that changed nothing happened at some moment after the change whose revision it names.
    order.sort_by_key(|c| (c.response.revision, !changed(c), c.began));
    let mut model = Model::default();
    let mut latest_begin: Option<Instant> = None;
    for call in order {
        if changed(call) {
            let answer = model.txn(&call.txn);
            if answer != call.response {
                return Err(format!("Linearizable: wanted {answer:?}, got {call:?}"));
            }
        } else {
            let mut copy = model.clone();
            let answer = copy.txn(&call.txn);
            if answer != call.response {
                return Err(format!(
                    "Linearizable: wanted {answer:?} without a change, got {call:?}"
                ));
            }
        }
        if latest_begin.is_some_and(|began| call.ended < began) {
            return Err(format!(
                "Linearizable: {call:?} comes after one that began after it had ended"
            ));
        }
        latest_begin = latest_begin.max(Some(call.began));
    }
    Ok(model)
}

fn changed(call: &Call) -> bool {
    let mut done = call.txn.success.iter().zip(&call.response.kvs);
    call.response.succeeded
        && done.any(|(op, kv)| match op {
            Op::Put { .. } => true,
            Op::Delete { .. } => kv.is_some(),
            Op::Get { .. } => false,
        })
}

/// *Durable*: what was acknowledged is there after the store was opened again.
pub(crate) fn durable(model: &Model, all: &RangeResponse) -> Verdict {
    if all.revision != model.revision() {
        return fail(
            "Durable",
            "wanted, got revision",
            (model.revision(), all.revision),
        );
    }
    let wanted = model.range(b"", model.revision());
    if all.kvs == wanted {
        Ok(())
    } else {
        fail("Durable", "wanted, got", (wanted, &all.kvs))
    }
}
