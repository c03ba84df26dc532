//! One turn after another: what is recorded of it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use trimtab_client_workqueue::{Add, WorkQueue};

use super::clauses;
use crate::introspection::{
    Bounds, Occasion, Outcome, Place, StatusWrite, Timeline, Verb, Write, WriteResult,
};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn noon() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("a time")
}

pub(super) fn failure(message: &str) -> Outcome {
    Outcome::Error {
        message: message.to_owned(),
        delay: 5 * SECOND,
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_recorded_as_it_was() {
    let timeline = Timeline::new();
    let triggered = Instant::now();
    sleep(SECOND).await;
    let queued = Instant::now();
    sleep(2 * SECOND).await;
    let occasion = Occasion::new(noon())
        .because("Widget default/a updated")
        .because("resync")
        .priority(-100)
        .attempt(3)
        .triggered(triggered)
        .queued(queued);
    let mut record = timeline.begin("default/a", occasion);
    sleep(4 * SECOND).await;

    let status = &timeline.in_hand()[0];
    assert_eq!((status.place, status.time), (Place::Reconciling, 4 * SECOND));
    assert_eq!((status.priority, status.attempt), (-100, Some(3)));
    assert_eq!(status.reasons, ["Widget default/a updated", "resync"]);
    let open = &timeline.of_key("default/a").turns[0];
    assert_eq!((open.reconciled, open.settled), (4 * SECOND, None));
    assert_eq!(open.outcome, None);

    record.wrote(Write::new(Verb::Apply, "ConfigMap", "default/a").version("7"));
    record.wrote(
        Write::new(Verb::Apply, "Secret", "default/a")
            .version("3")
            .unchanged(),
    );
    sleep(SECOND).await;
    record.wrote(Write::new(Verb::Delete, "Pod".to_owned(), "default/b").refused("no"));
    record.status(StatusWrite::Unchanged);
    record.status(StatusWrite::Written);
    record.reconciled();
    sleep(8 * SECOND).await;
    let settling = &timeline.in_hand()[0];
    assert_eq!((settling.place, settling.time), (Place::Settling, 8 * SECOND));
    record.unseen();
    record.end(failure("quota exceeded"));
    sleep(16 * SECOND).await;

    let shown = timeline.of_key("default/a");
    let [turn] = &shown.turns[..] else {
        panic!("one turn: {shown:?}");
    };
    assert_eq!((turn.number, turn.at, turn.attempt), (1, noon(), 3));
    assert_eq!(
        (turn.triggered, turn.waited),
        (Some(3 * SECOND), Some(2 * SECOND))
    );
    assert_eq!((turn.reconciled, turn.settled), (5 * SECOND, Some(8 * SECOND)));
    assert_eq!((turn.unseen, turn.status), (true, StatusWrite::Written));
    assert_eq!(turn.outcome, Some(failure("quota exceeded")));
    let writes: Vec<_> = turn
        .writes
        .iter()
        .map(|of| {
            (
                of.write.verb,
                &*of.write.kind,
                of.after.as_secs(),
                &of.write.result,
            )
        })
        .collect();
    let refused = WriteResult::Refused("no".into());
    assert_eq!(
        writes,
        [
            (Verb::Apply, "ConfigMap", 4, &WriteResult::Written),
            (Verb::Apply, "Secret", 4, &WriteResult::Unchanged),
            (Verb::Delete, "Pod", 5, &refused),
        ]
    );
    let failing = &timeline.failing(10).items[0];
    assert_eq!(
        (failing.place, failing.time, failing.failures),
        (Place::Idle, 16 * SECOND, 1)
    );
    let last = failing.last.as_ref().expect("it had a turn");
    assert_eq!((last.at, last.time), (noon() + 13 * SECOND, 13 * SECOND));
    assert_eq!((last.attempt, last.writes), (3, 1));
    let counters = timeline.counters();
    assert_eq!((counters.writes, counters.unchanged, counters.refused), (1, 1, 1));
    assert_eq!((counters.error, counters.unseen), (1, 1));
}

/// A turn that never says that it has reconciled did so until its end.
#[tokio::test(start_paused = true)]
async fn a_turn_without_a_wait_reconciles_until_its_end() {
    let timeline = Timeline::new();
    let record = timeline.begin("a", Occasion::new(noon()));
    sleep(SECOND).await;
    record.end(Outcome::Success);
    sleep(SECOND).await;
    let turn = &timeline.of_key("a").turns[0];
    assert_eq!((turn.reconciled, turn.settled), (SECOND, Some(Duration::ZERO)));
    assert_eq!((turn.waited, turn.triggered), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_aborted_leaves_a_turn_that_was_cut_off() {
    let timeline = Timeline::new();
    timeline.begin("a", Occasion::new(noon())).end(failure("first"));
    let record = timeline.begin("a", Occasion::new(noon()));
    let task = tokio::spawn(async move {
        let _record = record;
        std::future::pending::<()>().await;
    });
    sleep(SECOND).await;
    assert_eq!(timeline.open(), 1);
    task.abort();
    let _cancelled = task.await;
    assert_eq!(timeline.open(), 0);
    let shown = timeline.of_key("a");
    assert_eq!(shown.turns[0].outcome, Some(Outcome::CutOff));
    let failing = &timeline.failing(1).items[0];
    assert_eq!(failing.failures, 1, "it neither failed nor ended well");
    let last = failing.last.as_ref().map(|last| &last.outcome);
    assert_eq!(last, Some(&failure("first")), "what is wrong is what failed");
}

#[tokio::test(start_paused = true)]
async fn a_key_from_a_queue_brings_what_the_queue_knows() {
    let queue = WorkQueue::<String>::builder().build().expect("the defaults work");
    for number in 0..10 {
        let add = Add::now().priority(5).because(format!("reason {number}"));
        queue.add_with("a".to_owned(), add).expect("it is open");
    }
    sleep(3 * SECOND).await;
    let work = queue.get().await.expect("it is open");
    let timeline = Timeline::new();
    let record = timeline.begin(work.key(), Occasion::of(&work, noon()));
    sleep(SECOND).await;
    record.end(Outcome::Success);
    let turn = &timeline.of_key("a").turns[0];
    assert_eq!((turn.priority, turn.attempt), (5, 1));
    assert_eq!((turn.reasons.len(), turn.reasons_omitted), (8, 2));
    assert_eq!(turn.waited, Some(3 * SECOND));
    work.done();
}

/// Texts are cut where a character ends, and more writes than are kept are counted.
#[tokio::test(start_paused = true)]
async fn what_is_too_long_is_cut() {
    let bounds = Bounds {
        text: 4,
        writes: 2,
        ..Bounds::default()
    };
    let timeline = Timeline::with_bounds(bounds);
    let occasion = Occasion::new(noon())
        .because("ab€d")
        .because("abcd")
        .because("abcde");
    let mut record = timeline.begin("a", occasion);
    for _ in 0..5 {
        record.wrote(Write::new(Verb::Create, "Pod", "default/a"));
    }
    record.end(failure("€uro"));
    clauses::bounded(bounds, &timeline);
    let turn = &timeline.of_key("a").turns[0];
    assert_eq!(turn.reasons, ["ab…", "abcd", "abcd…"]);
    assert_eq!((turn.writes.len(), turn.writes_omitted), (2, 3));
    assert_eq!(&*turn.writes[0].write.key, "defa…");
    assert_eq!(turn.outcome, Some(failure("€u…")));
    assert_eq!(timeline.counters().writes, 5);
    let last = timeline.failing(1).items.remove(0).last;
    assert_eq!(last.map(|last| last.writes), Some(5));
}

#[tokio::test(start_paused = true)]
async fn keys_are_found_by_any_part_in_any_case_the_latest_first() {
    let timeline = Timeline::new();
    for key in ["prod/Web", "test/web-2", "test/api"] {
        timeline.begin(key, Occasion::new(noon())).end(Outcome::Success);
    }
    let found = |search: &str, limit| {
        let found = timeline.keys(search, limit);
        let keys: Vec<_> = found.items.into_iter().map(|key| key.key).collect();
        (found.total, keys.join(" "))
    };
    assert_eq!(found("WEB", 10), (2, "test/web-2 prod/Web".to_owned()));
    assert_eq!(found("", 1), (3, "test/api".to_owned()));
    assert_eq!(found("web-3", 10), (0, String::new()));
}
