//! What is held against a recorded history, clause by clause. Revisions give the order of transactions, so a history is
//! checked in one pass: each transaction must have answered as the model does at its revision.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant, SystemTime};

use trimtab_apiserver_storage::{Event, EventKind, Op, RangeResponse, Revision, Txn};

use crate::clauses::{self, Call, Verdict};
use crate::model::Model;
use crate::traffic::{Asked, EXPIRING, IDS, Life, Read, Watched};

/// Longer than any life lasts.
const LIFE: Duration = Duration::from_secs(600);

/// Everything that clients saw, and what was there in the end.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) lives: Vec<Life>,
    pub(crate) watches: Vec<Watched>,
    pub(crate) last: RangeResponse,
}

/// Holds every clause against a history.
pub(crate) fn check(history: &History) -> Verdict {
    let model = linearizable(history)?;
    clauses::durable(&model, &history.last)?;
    for life in &history.lives {
        life.reads
            .iter()
            .try_for_each(|read| current(history, &model, read))?;
    }
    for Watched {
        prefix,
        from,
        batches,
    } in &history.watches
    {
        let prefix = prefix.as_bytes();
        clauses::ordered(batches)?;
        clauses::unique(batches)?;
        clauses::atomic(batches)?;
        clauses::reliable(&model, prefix, *from, batches)?;
        clauses::bookmarkable(&model, prefix, *from, batches)?;
        let half = batches.len() / 2;
        clauses::resumable(&model, prefix, *from, [&batches[..half], &batches[half..]])?;
        let told = batches.last().map_or(0, |batch| batch.revision);
        if told < model.revision() {
            return Err(format!(
                "Reliable: the watch ends at {told}, the store at {}",
                model.revision()
            ));
        }
    }
    Ok(())
}

/// The revision that an acknowledged transaction made: all that succeed put something.
fn changed(asked: &Asked) -> Option<Revision> {
    let response = asked.response.as_ref()?;
    response.succeeded.then_some(response.revision)
}

/// *Linearizable*, and *Durable* of what was acknowledged: each revision is one transaction of a client or of the expiry,
/// and each acknowledged transaction has its own. Answers with the model that the history leads to.
pub(crate) fn linearizable(history: &History) -> Result<Model, String> {
    let mut calls = Vec::new();
    let mut known: BTreeMap<Revision, &Asked> = BTreeMap::new();
    let mut refused: HashMap<u64, &Asked> = HashMap::new();
    for asked in history.lives.iter().flat_map(|life| &life.asked) {
        match &asked.response {
            None => drop(refused.insert(asked.id, asked)),
            Some(response) => {
                if let Some(revision) = changed(asked)
                    && let Some(other) = known.insert(revision, asked)
                {
                    return Err(format!(
                        "Linearizable: {} and {} share revision {revision}",
                        other.id, asked.id
                    ));
                }
                calls.push(Call {
                    began: asked.began,
                    ended: asked.ended,
                    txn: asked.txn.clone(),
                    response: response.clone(),
                });
            }
        }
    }
    // What nobody was told about is known from the watch of everything.
    let all = history.watches.iter().find(|watched| watched.prefix.is_empty());
    let mut seen: BTreeMap<Revision, Vec<&Event>> = BTreeMap::new();
    for event in all
        .iter()
        .flat_map(|watched| &watched.batches)
        .flat_map(|batch| &batch.events)
    {
        seen.entry(event.kv.mod_revision).or_default().push(event);
    }
    let mut model = Model::default();
    let mut silent = Vec::new();
    for revision in 2..=history.last.revision {
        if let Some(asked) = known.get(&revision) {
            model.txn(&asked.txn);
        } else {
            let events = seen.get(&revision).map_or(&[][..], |events| &events[..]);
            let (txn, began) = unacknowledged(history, &refused, revision, events)?;
            let response = model.txn(&txn);
            silent.push(Call {
                began,
                ended: Instant::now() + LIFE,
                txn,
                response,
            });
        }
        if model.revision() != revision {
            return Err(format!(
                "Linearizable: the transaction of revision {revision} changes nothing"
            ));
        }
    }
    calls.extend(silent);
    clauses::linearizable(&calls)
}

/// The transaction of a revision that nobody was told about, and since when it may have happened.
fn unacknowledged(
    history: &History,
    refused: &HashMap<u64, &Asked>,
    revision: Revision,
    events: &[&Event],
) -> Result<(Txn, Instant), String> {
    let lives = &history.lives;
    let own = events
        .iter()
        .find(|event| event.kv.key.starts_with(IDS.as_bytes()));
    let Some(own) = own else {
        let at = lives.iter().position(|life| life.revisions.contains(&revision));
        let at = at.ok_or_else(|| format!("Durable: nothing is known of revision {revision}"))?;
        let life = &lives[at];
        // When a store is opened keys expire before clients have a look at it.
        let clock = lives[at..].iter().take(2).map(|life| life.now).max();
        expired(history, clock.unwrap_or(life.now), revision, events)?;
        let began = life.asked.iter().map(|asked| asked.began).min();
        let deletions = events.iter().map(|event| Op::Delete {
            key: event.kv.key.clone(),
        });
        let txn = Txn {
            success: deletions.collect(),
            ..Txn::default()
        };
        return Ok((txn, began.unwrap_or_else(Instant::now)));
    };
    let id: u64 = String::from_utf8_lossy(&own.kv.value)
        .parse()
        .map_err(|e| format!("Atomic: {e}"))?;
    let asked = refused.get(&id);
    let asked =
        asked.ok_or_else(|| format!("Unique: transaction {id} has happened again at revision {revision}"))?;
    // It may have happened when nothing was written after it, until the power was gone.
    let life = lives
        .iter()
        .find(|life| life.asked.iter().any(|asked| asked.id == id));
    let after = life
        .iter()
        .flat_map(|life| &life.asked)
        .find(|later| changed(later).is_some() && later.began > asked.ended);
    if let Some(after) = after {
        return Err(format!(
            "Linearizable: transaction {id} was refused before {} began, and has happened after it, at {revision}",
            after.id
        ));
    }
    Ok((asked.txn.clone(), asked.began))
}

/// Whether all of a revision is the expiry of keys, and none before its time by a clock that said `now` at the start.
fn expired(history: &History, now: SystemTime, revision: Revision, events: &[&Event]) -> Verdict {
    if events.is_empty() {
        return Err(format!("Durable: revision {revision} was seen by nobody"));
    }
    for event in events {
        let expiring = event.kv.key.starts_with(EXPIRING.as_bytes()) && event.kind == EventKind::Delete;
        let prev = event.prev.as_ref().filter(|_| expiring);
        let prev = prev.ok_or_else(|| format!("Linearizable: nobody has asked for {event:?}"))?;
        // The value is the number of the transaction that put it.
        let id: u64 = String::from_utf8_lossy(&prev.value).parse().unwrap_or_default();
        let put = history.lives.iter().find_map(|life| {
            let asked = life.asked.iter().find(|asked| asked.id == id)?;
            let ttl = asked.txn.success.iter().rev().find_map(|op| match op {
                Op::Put { key, ttl, .. } if *key == event.kv.key => *ttl,
                _ => None,
            });
            Some(life.now + Duration::from_secs(ttl?))
        });
        let due = put.ok_or_else(|| format!("Linearizable: nobody has put {event:?}"))?;
        if let Ok(left) = due.duration_since(now + LIFE) {
            return Err(format!("Expiry: {left:?} before its time: {event:?}"));
        }
    }
    Ok(())
}

/// *Linearizable* for reads: it is what was there at its revision, which is none before those acknowledged when it
/// began, nor after those that began when it had ended.
pub(crate) fn current(history: &History, model: &Model, read: &Read) -> Verdict {
    let revision = read.response.revision;
    if revision > model.revision() {
        return Err(format!("Durable: {revision} was read, and is gone"));
    }
    clauses::snapshot(
        model,
        read.prefix.as_bytes(),
        revision,
        std::slice::from_ref(&read.response),
    )?;
    if read.response.count != read.response.kvs.len() {
        return Err(format!(
            "Snapshot: {} keys are {}",
            read.response.kvs.len(),
            read.response.count
        ));
    }
    for asked in history.lives.iter().flat_map(|life| &life.asked) {
        let Some(happened) = changed(asked) else { continue };
        if asked.ended < read.began && happened > revision {
            return Err(format!(
                "Linearizable: {happened} had been acknowledged, and {revision} is read"
            ));
        }
        if asked.began > read.ended && happened <= revision {
            return Err(format!(
                "Linearizable: {happened} had not begun, and {revision} is read"
            ));
        }
    }
    Ok(())
}
