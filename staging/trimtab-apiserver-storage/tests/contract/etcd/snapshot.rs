//! What of a snapshot only etcd has: leases, a root of its own, and a key that is nobody's.

use bytes::Bytes;
use futures::TryStreamExt as _;
use trimtab_apiserver_storage::{
    Config, EtcdConfig, EtcdStore, MemoryStore, Op, RangeRequest, Snapshot, Store, backup,
};

use super::{Etcd, Settings, versions};
use crate::example::{put, run};

/// What there is, in words, and what is said of how much.
async fn all(snapshot: Snapshot) -> (u64, Vec<String>) {
    let parts: Vec<_> = snapshot.entries.try_collect().await.expect("reads");
    let entries = parts.into_iter().flatten();
    let words = entries.map(|entry| {
        let until = entry.expires.map_or("for ever", |_| "for a while");
        format!("{} {until}", entry.kv.key.escape_ascii())
    });
    (snapshot.count, words.collect())
}

#[tokio::test]
async fn a_snapshot_knows_when_keys_end_and_leaves_out_what_is_not_ours() {
    for version in versions() {
        let etcd = Etcd::start(version, 1, Settings::default());
        let theirs = EtcdStore::connect(EtcdConfig::new(etcd.urls()))
            .await
            .expect("connects");
        let mut settings = EtcdConfig::new(etcd.urls());
        settings.root = Some(("/registry/".to_owned(), "/ours/".to_owned()));
        let ours = EtcdStore::connect(settings).await.expect("connects");
        for key in ["compact_rev_key", "/other/a", "/registry/b"] {
            run(&theirs, [put(key, "")]).await;
        }
        let event = Op::Put {
            key: Bytes::from_static(b"/registry/events/e"),
            value: Bytes::from_static(b"soon over"),
            ttl: Some(3600),
        };
        run(&ours, [event, put("/registry/pods/p", "here")]).await;

        let seen = all(theirs.snapshot().await.expect("reads")).await;
        let everything = [
            "/other/a for ever",
            "/ours/events/e for a while",
            "/ours/pods/p for ever",
            "/registry/b for ever",
        ];
        assert_eq!(seen, (4, everything.map(str::to_owned).to_vec()), "{version}");
        let below = ["/registry/events/e for a while", "/registry/pods/p for ever"];
        let seen = all(ours.snapshot().await.expect("reads")).await;
        assert_eq!(seen, (2, below.map(str::to_owned).to_vec()), "{version}");

        // And it can be brought back elsewhere.
        let snapshot = ours.snapshot().await.expect("reads");
        let was = snapshot.revision;
        let mut saved = Vec::new();
        backup::save(snapshot, 0, &mut saved, |_, _| {})
            .await
            .expect("saves");
        let restored = MemoryStore::restore(Config::default(), &saved[..], 1000).expect("restores");
        let range = restored
            .range(RangeRequest::prefix("/registry/"))
            .await
            .expect("reads");
        let keys: Vec<_> = range.kvs.iter().map(|kv| (&kv.key[..], &kv.value[..])).collect();
        let expected: [(&[u8], &[u8]); 2] = [
            (b"/registry/events/e", b"soon over"),
            (b"/registry/pods/p", b"here"),
        ];
        assert_eq!(
            (range.revision, &keys[..]),
            (was + 1000, &expected[..]),
            "{version}"
        );
    }
}
