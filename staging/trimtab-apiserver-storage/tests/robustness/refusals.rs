//! That the checkers can say no: good histories, each falsified in one way, and the clause by which that is found.

use bytes::Bytes;
use trimtab_apiserver_storage::{EventKind, WatchBatch};

use crate::clauses;
use crate::histories::good;
use crate::history::{History, check};

type Falsify = fn(&mut History);

/// The watch of everything.
fn batches(history: &mut History) -> &mut Vec<WatchBatch> {
    &mut history.watches[0].batches
}

/// The first batch from the middle on with at least so many events.
fn full(history: &mut History, events: usize) -> usize {
    let batches = batches(history);
    let half = batches.len() / 2;
    let from_half = (half..batches.len()).chain(0..half);
    let mut full = from_half.filter(|n| batches[*n].events.len() >= events);
    full.next().expect("there is one")
}

/// The second batch in a row with events.
fn second(history: &mut History) -> usize {
    let batches = batches(history);
    let mut seconds =
        (1..batches.len()).filter(|n| !batches[n - 1].events.is_empty() && !batches[*n].events.is_empty());
    seconds.next().expect("there is one")
}

const FALSE: &[(&str, &str, Falsify)] = &[
    ("Linearizable", "an answer from before another transaction", |h| {
        let asked = h.lives[1]
            .asked
            .iter_mut()
            .rev()
            .find(|a| a.response.as_ref().is_some_and(|r| r.succeeded));
        let response = asked
            .and_then(|a| a.response.as_mut())
            .expect("one that succeeded");
        if let Some(kv) = response.kvs.iter_mut().flatten().next() {
            kv.create_revision += 1;
        }
    }),
    ("Linearizable", "two transactions with one revision", |h| {
        let mut done = h.lives[0]
            .asked
            .iter_mut()
            .filter_map(|a| a.response.as_mut())
            .filter(|r| r.succeeded);
        let first = done.next().expect("one that succeeded").revision;
        done.next().expect("another one").revision = first;
    }),
    ("Linearizable", "a comparison that failed and succeeded", |h| {
        let asked = h.lives[1]
            .asked
            .iter_mut()
            .find(|a| a.response.as_ref().is_some_and(|r| !r.succeeded));
        let asked = asked.expect("one that failed");
        asked.txn.compare.clear();
    }),
    (
        "Linearizable",
        "a read from before what had been acknowledged",
        |h| {
            let early = h.lives[0].reads[0].response.clone();
            let prefix = h.lives[0].reads[0].prefix.clone();
            let read = h.lives[2].reads.last_mut().expect("a read");
            (read.response, read.prefix) = (early, prefix);
        },
    ),
    ("Linearizable", "a read of what had not begun", |h| {
        let late = h.lives[2].reads.last().expect("a read").clone();
        let read = &mut h.lives[0].reads[0];
        (read.response, read.prefix) = (late.response, late.prefix);
    }),
    ("Durable", "an acknowledged transaction that is gone", |h| {
        let last = h.last.kvs.pop().expect("a key");
        h.last.count -= 1;
        assert!(!last.key.is_empty());
    }),
    (
        "Durable",
        "the last transactions gone, and nobody saw them",
        |h| {
            h.last.revision += 1;
        },
    ),
    ("Snapshot", "a value that was not there", |h| {
        let read = h.lives[1].reads.iter_mut().find(|r| !r.response.kvs.is_empty());
        read.expect("a read of something").response.kvs[0].value = Bytes::from("other");
    }),
    ("Snapshot", "a wrong count", |h| {
        h.lives[1].reads[0].response.count += 1;
    }),
    ("Ordered", "two batches exchanged", |h| {
        let n = second(h);
        batches(h).swap(n - 1, n);
    }),
    ("Unique", "a batch twice", |h| {
        let n = full(h, 1);
        let mut again = batches(h)[n].clone();
        again.events.retain(|e| e.kv.mod_revision == again.revision);
        if again.events.is_empty() {
            again
                .events
                .push(batches(h)[n].events.last().expect("an event").clone());
        }
        batches(h).insert(n + 1, again);
    }),
    ("Atomic", "one transaction in two batches", |h| {
        let n = (0..batches(h).len()).find(|n| {
            let events = &batches(h)[*n].events;
            events.len() >= 2
                && events[events.len() - 1].kv.mod_revision == events[events.len() - 2].kv.mod_revision
        });
        let n = n.expect("a transaction with two changes");
        let mut rest = batches(h)[n].clone();
        rest.events = vec![batches(h)[n].events.pop().expect("an event")];
        batches(h).insert(n + 1, rest);
    }),
    ("Reliable", "an event left out", |h| {
        let watched = &mut h.watches[1];
        let n = watched
            .batches
            .iter()
            .rposition(|b| !b.events.is_empty())
            .expect("a batch");
        watched.batches[n].events.remove(0);
    }),
    ("Reliable", "a deletion that was a put", |h| {
        let events = h.watches[1].batches.iter_mut().flat_map(|b| &mut b.events);
        let mut deletions = events.filter(|e| e.kind == EventKind::Delete);
        deletions.next().expect("a deletion").kind = EventKind::Put;
    }),
    ("Reliable", "a wrong predecessor", |h| {
        let events = h.watches[1].batches.iter_mut().flat_map(|b| &mut b.events);
        let mut changes = events.filter(|e| e.prev.is_some());
        changes.next().expect("a change").prev = None;
    }),
    ("Reliable", "a watch that ends too early", |h| {
        let watched = &mut h.watches[1];
        let half = watched.batches.len() / 2;
        watched.batches.truncate(half);
    }),
    ("Bookmarkable", "progress beyond what was delivered", |h| {
        let watched = &mut h.watches[1];
        let n = (1..watched.batches.len()).rfind(|n| !watched.batches[*n].events.is_empty());
        let n = n.expect("a batch");
        watched.batches[n - 1].revision = watched.batches[n].events[0].kv.mod_revision;
    }),
];

#[test]
fn what_is_false_is_refused_by_the_clause_that_it_breaks() {
    for seed in 1..4 {
        let history = good(seed);
        assert_eq!(check(&history), Ok(()), "seed {seed}");
        for (clause, what, falsify) in FALSE {
            let mut falsified = history.clone();
            falsify(&mut falsified);
            let said = check(&falsified).expect_err(what);
            assert!(
                said.starts_with(clause),
                "seed {seed}: {what} is {clause}, not {said}"
            );
        }
    }
}

/// A watch that resumes one revision too late, or too early.
#[test]
fn a_gap_or_a_repetition_at_a_resumption_is_refused() {
    let history = good(1);
    let model = crate::history::linearizable(&history).expect("a good history");
    let batches = &history.watches[0].batches;
    let n = (1..batches.len()).find(|n| !batches[*n].events.is_empty() && !batches[n - 1].events.is_empty());
    let n = n.expect("two batches in a row");
    let resumed = |parts| clauses::resumable(&model, b"", 1, parts);
    assert_eq!(resumed([&batches[..n], &batches[n..]]), Ok(()));
    for parts in [
        [&batches[..n], &batches[n + 1..]],
        [&batches[..n], &batches[n - 1..]],
    ] {
        let said = resumed(parts).expect_err("a gap, or a repetition");
        assert!(said.starts_with("Resumable"), "{said}");
    }
}
