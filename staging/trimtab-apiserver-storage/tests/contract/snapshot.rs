//! Snapshots: everything as of one revision, whatever is written and compacted while they are read.

use futures::StreamExt as _;
use trimtab_apiserver_storage::{Config, RangeRequest, RangeResponse};

use crate::backends::all;
use crate::example::{delete, put, run};

#[tokio::test]
async fn a_snapshot_is_of_one_revision() {
    for backend in all() {
        let subject = backend.open(Config::default()).await;
        let store = subject.store.clone();
        for n in 0..600 {
            run(&*store, [put(&format!("k{n:03}"), "1")]).await;
        }
        run(&*store, [delete("k003"), put("k005", "2")]).await;
        let wanted: RangeResponse = store.range(RangeRequest::prefix("")).await.expect("reads");
        let mut snapshot = store.snapshot().await.expect("reads");
        assert_eq!(
            (snapshot.revision, snapshot.count),
            (wanted.revision, 599),
            "{backend:?}"
        );
        let mut got = Vec::new();
        while let Some(part) = snapshot.entries.next().await {
            got.extend(part.expect("reads"));
            let now = run(&*store, [put("k001", "3"), delete("k599"), put("k900", "")]).await;
            store.compact(now).await.expect("compacts");
        }
        assert!(got.iter().all(|entry| entry.expires.is_none()));
        let got: Vec<_> = got.into_iter().map(|entry| entry.kv).collect();
        assert_eq!(got, wanted.kvs, "{backend:?}: Snapshot");
    }
}
