//! What a store in etcd does as time passes: the clauses are those of [`crate::time`], and the time is real, since
//! it is another process's. Nothing here says how long something takes, only that it comes.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::time::timeout;
use trimtab_apiserver_storage::{
    Config, Error, EventKind, Op, RangeRequest, Store, WatchBatch, WatchRequest, WatchStream,
};

use super::{Etcd, Settings, versions};
use crate::backends::{Backend, connect};
use crate::example::{put, run};

/// Longer than anything here takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

async fn next(watch: &mut WatchStream) -> WatchBatch {
    timeout(PATIENCE, watch.next())
        .await
        .expect("something comes")
        .expect("goes on")
        .expect("no error")
}

fn put_for(key: &str, seconds: u64) -> Op {
    Op::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::new(),
        ttl: Some(seconds),
    }
}

fn quick() -> Config {
    Config {
        compaction_window: None,
        progress_interval: Duration::from_millis(50),
        ..Config::default()
    }
}

#[tokio::test]
async fn a_key_lives_as_long_as_its_last_put_says() {
    for version in versions() {
        let subject = Backend::Etcd(version).open(quick()).await;
        let store = subject.store.clone();
        let mut watch = store.watch(WatchRequest::prefix("")).await.expect("watches");
        let first = [
            put_for("a", 2),
            put_for("b", 2),
            put_for("kept", 2),
            put_for("renewed", 2),
        ];
        run(&*store, first).await;
        let last = run(&*store, [put("kept", ""), put_for("renewed", 1000)]).await;
        let mut gone = Vec::new();
        while gone.len() < 2 {
            let events = next(&mut watch).await.events;
            gone.extend(events.into_iter().filter(|e| e.kv.mod_revision > last));
        }
        let keys: Vec<&[u8]> = gone.iter().map(|e| &e.kv.key[..]).collect();
        assert_eq!(keys, [&b"a"[..], b"b"], "{version}");
        assert!(gone.iter().all(|e| e.kind == EventKind::Delete), "{version}");
        let left = store.range(RangeRequest::prefix("")).await.expect("reads");
        assert_eq!(left.count, 2, "{version}");
    }
}

#[tokio::test]
async fn keys_that_go_at_the_same_time_share_a_lease() {
    for version in versions() {
        let etcd = Etcd::start(version, 1, Settings::default());
        let store = connect(&etcd, &quick()).await;
        for n in 0..1001 {
            run(&store, [put_for(&format!("{n:04}"), 1000)]).await;
        }
        run(&store, [put_for("other", 2000)]).await;
        let leases = etcd.ctl(&["lease", "list"]).expect("lists");
        assert!(leases.starts_with("found 3 leases"), "{version}: {leases}");
        // Others may end it: what is put afterwards gets another.
        for lease in leases.lines().skip(1) {
            etcd.ctl(&["lease", "revoke", lease]).expect("revokes");
        }
        run(&store, [put_for("again", 1000)]).await;
        let left = store.range(RangeRequest::prefix("")).await.expect("reads");
        assert_eq!(left.count, 1, "{version}");
    }
}

#[tokio::test]
async fn old_revisions_are_compacted_by_one_store_of_several() {
    for version in versions() {
        let etcd = Etcd::start(version, 1, Settings::default());
        let config = Config {
            compaction_window: Some(Duration::from_millis(100)),
            ..quick()
        };
        let stores = [connect(&etcd, &config).await, connect(&etcd, &config).await];
        run(&stores[0], [put("a", "1")]).await;
        let second = run(&stores[0], [put("a", "2")]).await;
        for store in &stores {
            let at = |revision| store.range(RangeRequest::key("a").at(revision));
            let compacted = async {
                while at(second - 1).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(PATIENCE, compacted).await.expect("compacted");
            let now = store.range(RangeRequest::key("a")).await.expect("reads");
            assert_eq!(&now.kvs[0].value[..], b"2", "the latest stays");
        }
        // Where kube-apiserver's compactor looks too.
        let clock = etcd
            .ctl(&["get", "compact_rev_key", "--print-value-only"])
            .expect("reads");
        let compacted: u64 = clock.trim().parse().expect("a revision");
        assert!(compacted >= second, "{version}: {compacted}");
    }
}

#[tokio::test]
async fn compaction_by_others_is_noticed() {
    for version in versions() {
        let etcd = Etcd::start(version, 1, Settings::default());
        let store = connect(&etcd, &quick()).await;
        for n in 0..10 {
            run(&store, [put("a", &n.to_string())]).await;
        }
        let mut watch = store
            .watch(WatchRequest::prefix("").from(2))
            .await
            .expect("watches");
        // It has not been polled, so nothing of it is on its way.
        etcd.ctl(&["compaction", "6"]).expect("compacts");
        let ended = timeout(PATIENCE, watch.next()).await.expect("ends");
        assert!(
            matches!(ended, Some(Err(Error::Compacted { oldest: 7 }))),
            "{version}: {ended:?}"
        );
        for revision in [1, 5] {
            let read = store.range(RangeRequest::key("a").at(revision)).await;
            assert!(
                matches!(read, Err(Error::Compacted { oldest: 7 })),
                "{version}: {read:?}"
            );
        }
        for other in [&store, &connect(&etcd, &quick()).await] {
            let refused = other.watch(WatchRequest::prefix("").from(6)).await.map(drop);
            assert!(
                matches!(refused, Err(Error::Compacted { oldest: 7 })),
                "{version}: {refused:?}"
            );
            let mut again = other
                .watch(WatchRequest::prefix("").from(7))
                .await
                .expect("watches");
            let first = next(&mut again).await.events.remove(0);
            let before = first.prev.expect("there was something before");
            assert_eq!(
                (first.kv.mod_revision, &before.value[..]),
                (7, &b"4"[..]),
                "{version}"
            );
            let compacted = other.compact(7).await;
            assert!(
                matches!(compacted, Err(Error::Compacted { oldest: 7 })),
                "{version}: {compacted:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_quiet_watch_reports_progress() {
    for version in versions() {
        // Old versions do not report what they are asked for, but only what they are told to report.
        let settings = Settings {
            flags: vec![["--experimental-watch-progress-notify-interval", "100ms"].join("=")],
            ..Settings::default()
        };
        let etcd = Etcd::start(version, 1, settings);
        let store = connect(&etcd, &quick()).await;
        let mut watch = store
            .watch(WatchRequest::prefix("quiet/"))
            .await
            .expect("watches");
        for _ in 0..2 {
            let revision = run(&store, [put("loud/a", "")]).await;
            store.request_progress().await.expect("asks");
            loop {
                let batch = next(&mut watch).await;
                assert!(batch.events.is_empty(), "{version}: {batch:?}");
                if batch.revision >= revision {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_slow_watch_holds_up_etcd_and_loses_nothing() {
    for version in versions() {
        let subject = Backend::Etcd(version).open(quick()).await;
        let store = subject.store.clone();
        let mut slow = store.watch(WatchRequest::prefix("")).await.expect("watches");
        let mut quick = store.watch(WatchRequest::prefix("")).await.expect("watches");
        let value = "x".repeat(100_000);
        // More than the connection's windows and the server's buffers of a stream hold.
        for n in 0..200 {
            run(&*store, [put(&format!("{}", n % 7), &value)]).await;
            if n == 0 {
                assert_eq!(next(&mut slow).await.events.len(), 1);
            }
            assert!(
                !next(&mut quick).await.events.is_empty(),
                "{version}: one holds up another"
            );
        }
        let mut count = 1;
        while count < 200 {
            count += next(&mut slow).await.events.len();
        }
        assert_eq!(count, 200, "{version}");
    }
}
