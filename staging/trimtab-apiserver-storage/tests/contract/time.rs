//! What a store does as time passes. Where timers matter, time is paused and the store is the one in memory:
//! the task that looks after time is shared, and paused time would run on while the embedded store's thread works.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use tokio::time::advance;
use trimtab_apiserver_storage::{Config, Error, EventKind, Op, RangeRequest, Store, WatchRequest};

use crate::backends::{Backend, OWN, all};
use crate::example::{put, run};

fn put_for(key: &str, seconds: u64) -> Op {
    Op::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::new(),
        ttl: Some(seconds),
    }
}

async fn count(store: &dyn Store) -> usize {
    store.range(RangeRequest::prefix("")).await.expect("reads").count
}

#[tokio::test(start_paused = true)]
async fn a_key_lives_as_long_as_its_last_put_says() {
    let backend = Backend::Memory;
    let subject = backend
        .open(Config {
            compaction_window: None,
            ..Config::default()
        })
        .await;
    let store = subject.store.clone();
    run(
        &*store,
        [
            put_for("short", 10),
            put_for("long", 100),
            put_for("kept", 10),
            put_for("renewed", 10),
        ],
    )
    .await;
    run(&*store, [put("kept", ""), put_for("renewed", 100)]).await;
    let mut watch = store.watch(WatchRequest::prefix("")).await.expect("watches");
    let gone = watch.next().await.expect("goes on").expect("no error");
    assert_eq!(
        (gone.events.len(), gone.events[0].kind),
        (1, EventKind::Delete),
        "{backend:?}"
    );
    assert_eq!(&gone.events[0].kv.key[..], b"short");
    assert_eq!(count(&*store).await, 3);
    let mut gone = Vec::new();
    while gone.len() < 2 {
        gone.extend(watch.next().await.expect("goes on").expect("no error").events);
    }
    assert_eq!(count(&*store).await, 1, "{backend:?}");
}

#[tokio::test(start_paused = true)]
async fn old_revisions_are_compacted_by_themselves() {
    let backend = Backend::Memory;
    let window = Duration::from_secs(60);
    let subject = backend
        .open(Config {
            compaction_window: Some(window),
            ..Config::default()
        })
        .await;
    let store = subject.store.clone();
    run(&*store, [put("a", "1")]).await;
    let second = run(&*store, [put("a", "2")]).await;
    let at = |revision| store.range(RangeRequest::prefix("").at(revision));
    tokio::time::sleep(window / 2).await;
    assert!(at(second - 1).await.is_ok(), "{backend:?}: young revisions stay");
    // The store learns of a revision's age only as often as it looks.
    let mut tries = 0;
    while at(second - 1).await.is_ok() {
        tries += 1;
        assert!(tries < 100, "{backend:?}: never compacted");
        tokio::time::sleep(window / 10).await;
    }
    assert_eq!(at(second).await.expect("the latest stays").count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_reports_progress() {
    let backend = Backend::Memory;
    let subject = backend.open(Config::default()).await;
    let store = subject.store.clone();
    let mut watch = store
        .watch(WatchRequest::prefix("quiet/"))
        .await
        .expect("watches");
    let revision = run(&*store, [put("loud/a", "")]).await;
    assert!(
        watch.next().now_or_never().is_none(),
        "{backend:?}: nothing to say yet"
    );
    let batch = watch.next().await.expect("goes on").expect("no error");
    assert!(
        batch.events.is_empty() && batch.revision == revision,
        "{backend:?}: {batch:?}"
    );

    let revision = run(&*store, [put("loud/a", "")]).await;
    store.request_progress().await.expect("asks");
    let batch = watch
        .next()
        .now_or_never()
        .flatten()
        .expect("at once")
        .expect("no error");
    assert!(
        batch.events.is_empty() && batch.revision == revision,
        "{backend:?}: {batch:?}"
    );
    advance(Duration::from_secs(60)).await;
    assert!(
        watch.next().now_or_never().is_none(),
        "{backend:?}: no news, no report"
    );
}

#[tokio::test]
async fn a_slow_watch_is_cut_off_and_can_resume() {
    for backend in OWN {
        let subject = backend
            .open(Config {
                max_watch_lag: 10,
                compaction_window: None,
                ..Config::default()
            })
            .await;
        let store = subject.store.clone();
        let mut watch = store.watch(WatchRequest::prefix("")).await.expect("watches");
        for _ in 0..12 {
            run(&*store, [put("a", "")]).await;
        }
        let Some(Err(Error::Lagged { last })) = watch.next().await else {
            panic!("{backend:?}: not cut off")
        };
        assert!(watch.next().await.is_none(), "{backend:?}: an error is the end");
        // From the beginning is not lag: nobody was slow.
        let mut again = store
            .watch(WatchRequest::prefix("").from(last + 1))
            .await
            .expect("resumes");
        assert_eq!(
            again
                .next()
                .await
                .expect("goes on")
                .expect("no error")
                .events
                .len(),
            12
        );

        run(&*store, [put("a", "")]).await;
        let current = run(&*store, [put("a", "")]).await;
        store.compact(current).await.expect("compacts");
        let cut = again.next().await;
        assert!(
            matches!(cut, Some(Err(Error::Lagged { .. }))),
            "{backend:?}: compacted away: {cut:?}"
        );
    }
}

#[tokio::test]
async fn closing_ends_watches_and_refuses_writes() {
    for backend in all() {
        let subject = backend.open(Config::default()).await;
        let store = subject.store.clone();
        let mut watch = store.watch(WatchRequest::prefix("")).await.expect("watches");
        run(&*store, [put("a", "")]).await;
        store.close().await.expect("closes");
        store.close().await.expect("closing twice is fine");
        assert_eq!(
            watch
                .next()
                .await
                .expect("goes on")
                .expect("what came before")
                .events
                .len(),
            1
        );
        assert!(
            matches!(watch.next().await, Some(Err(Error::Closed))),
            "{backend:?}"
        );
        let refused = store.txn(trimtab_apiserver_storage::Txn {
            success: vec![put("a", "")],
            ..Default::default()
        });
        assert!(matches!(refused.await, Err(Error::Closed)), "{backend:?}");
    }
}
