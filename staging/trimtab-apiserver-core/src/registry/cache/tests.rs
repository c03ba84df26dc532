//! The cache's clauses, each with a checker, over a memory store, and over one whose watches are held up and lost.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::{FutureExt as _, StreamExt as _};
use proptest::prelude::*;
use tokio::sync::Notify;
use trimtab_apiserver_storage::{
    Config, Error, Event, MemoryStore, Op, RangeRequest, RangeResponse, Result, Txn, TxnResponse,
    WatchRequest, WatchStream,
};

use super::watcher::MOST_WAITING;
use super::*;
use crate::registry::tests::kit::config_maps;

const PREFIX: &str = "/registry/configmaps/";

/// A memory store whose watches can be held up, and lost.
#[derive(Debug)]
struct Unsteady {
    store: MemoryStore,
    /// Watches deliver nothing.
    held: AtomicBool,
    let_go: Notify,
    lose: Notify,
}

#[async_trait::async_trait]
impl Store for Unsteady {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.store.range(request).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.store.txn(txn).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream> {
        self.store.watch(request).await
    }

    async fn revision(&self) -> Result<Revision> {
        self.store.revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.store.compact(revision).await
    }

    async fn request_progress(&self) -> Result<()> {
        self.store.request_progress().await
    }

    async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}

/// As [`Unsteady`], which a watch refers to as long as it lasts.
#[derive(Clone, Debug)]
struct Shared(Arc<Unsteady>);

#[async_trait::async_trait]
impl Store for Shared {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.0.range(request).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.0.txn(txn).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream> {
        let stream = self.0.watch(request).await?;
        let state = (stream, self.0.clone());
        let stream = futures::stream::unfold(state, |(mut stream, store)| async move {
            let next = loop {
                let let_go = store.let_go.notified();
                if store.held.load(Ordering::SeqCst) {
                    tokio::select! {
                        biased;
                        () = let_go => continue,
                        () = store.lose.notified() => break Some(Err(Error::Io("lost".to_owned()))),
                    }
                }
                tokio::select! {
                    biased;
                    () = store.lose.notified() => break Some(Err(Error::Io("lost".to_owned()))),
                    () = let_go => {}
                    next = stream.next() => break next,
                }
            };
            next.map(|next| (next, (stream, store)))
        });
        Ok(stream.boxed())
    }

    async fn revision(&self) -> Result<Revision> {
        self.0.revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.0.compact(revision).await
    }

    async fn request_progress(&self) -> Result<()> {
        self.0.request_progress().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

struct World {
    caches: Caches,
    resource: Resource,
    /// The store that the cache follows.
    unsteady: Arc<Unsteady>,
}

impl World {
    fn new() -> Self {
        let unsteady = Arc::new(Unsteady {
            store: MemoryStore::new(Config {
                compaction_window: None,
                ..Config::default()
            }),
            held: AtomicBool::new(false),
            let_go: Notify::new(),
            lose: Notify::new(),
        });
        let store: Arc<dyn Store> = Arc::new(Shared(unsteady.clone()));
        let table = Arc::new(ResourceTable::new([Arc::new(config_maps())]));
        Self {
            caches: Caches::new(store, table),
            resource: config_maps(),
            unsteady,
        }
    }

    fn store(&self) -> &dyn Store {
        &self.unsteady.store
    }

    async fn cache(&self) -> Arc<Cache> {
        let cache = self.caches.of(&self.resource);
        assert!(cache.ready().await, "Optional: it has something to show");
        cache
    }

    async fn write(&self, name: &str, value: Option<&str>) -> Revision {
        let key = Bytes::from(format!("{PREFIX}{name}"));
        let op = match value {
            Some(value) => Op::Put {
                key,
                value: value.to_owned().into(),
                ttl: None,
            },
            None => Op::Delete { key },
        };
        let txn = Txn {
            success: vec![op],
            ..Txn::default()
        };
        self.store().txn(txn).await.unwrap().revision
    }

    fn hold(&self) {
        self.unsteady.held.store(true, Ordering::SeqCst);
        self.unsteady.let_go.notify_waiters();
    }

    fn let_go(&self) {
        self.unsteady.held.store(false, Ordering::SeqCst);
        self.unsteady.let_go.notify_waiters();
    }

    /// *Consistent*: once it has come as far as the store, a snapshot is what the store holds.
    async fn check_consistent(&self) {
        let cache = self.cache().await;
        let current = self.store().revision().await.unwrap();
        assert!(
            cache.reach(self.store(), current).await,
            "Consistent: it comes to {current}"
        );
        let request = RangeRequest::prefix(PREFIX);
        let snapshot = cache.snapshot(&request.start, &request.end, 0, None).unwrap();
        assert!(snapshot.revision >= current, "Consistent");
        let wanted = self.store().range(request.at(snapshot.revision)).await.unwrap();
        let got = snapshot.items.iter().map(|i| (&i.key, &i.value, i.revision));
        let wanted = wanted.kvs.iter().map(|kv| (&kv.key, &kv.value, kv.mod_revision));
        assert!(got.eq(wanted), "Consistent: {snapshot:?}");
    }

    /// What the store tells of a scope, after a revision.
    async fn events(&self, scope: &str, after: Revision) -> Vec<Event> {
        let mut request = WatchRequest::prefix(scope.to_owned()).from(after + 1);
        if !scope.ends_with('/') {
            request.end = Bound::Included(request.start.clone());
        }
        let mut stream = self.store().watch(request).await.unwrap();
        let mut events = Vec::new();
        while let Some(batch) = stream.next().now_or_never() {
            events.extend(batch.unwrap().unwrap().events);
        }
        events
    }

    /// *Ordered*, *Unique*, *Reliable*: the changes are those that the store tells of.
    async fn check_changes(&self, scope: &str, after: Revision, got: &[Arc<Change>]) {
        let wanted = self.events(scope, after).await;
        assert_eq!(got.len(), wanted.len(), "Reliable, Unique: {scope} after {after}");
        for (change, event) in got.iter().zip(wanted) {
            let change = (
                change.revision,
                &change.key,
                change.now.as_ref().map(|i| &i.value),
                change.before.as_ref().map(|i| &i.value),
            );
            let now = (event.kind == trimtab_apiserver_storage::EventKind::Put).then_some(&event.kv.value);
            let event = (
                event.kv.mod_revision,
                &event.kv.key,
                now,
                event.prev.as_ref().map(|kv| &kv.value),
            );
            assert_eq!(change, event, "Ordered, Reliable: {scope} after {after}");
        }
    }
}

/// Everything that comes until the watch is quiet; whether it has ended.
async fn drain(watch: &mut CacheWatch) -> (Vec<Arc<Change>>, bool) {
    let mut all = Vec::new();
    loop {
        match timeout(Duration::from_secs(60), watch.next()).await {
            Ok(Woken::Changes(changes)) => all.extend(changes),
            Ok(Woken::Poked) => {}
            Ok(Woken::Ended) => return (all, true),
            Err(_) => return (all, false),
        }
    }
}

/// A write to one of some objects, or a trouble of the store's watch.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8, u8),
    Watch(u8),
    Hold,
    LetGo,
    Lose,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3u8, 0..3u8).prop_map(|(ns, name)| Step::Put(ns, name)),
        2 => (0..3u8, 0..3u8).prop_map(|(ns, name)| Step::Delete(ns, name)),
        2 => (0..6u8).prop_map(Step::Watch),
        1 => Just(Step::Hold),
        1 => Just(Step::LetGo),
        1 => Just(Step::Lose),
    ];
    proptest::collection::vec(step, 1..40)
}

async fn check_history(steps: &[Step]) {
    let world = World::new();
    let scopes = ["", "n0/", "n1/", "n0/a0", "n2/a1", "n9/"].map(|scope| format!("{PREFIX}{scope}"));
    let cache = world.cache().await;
    let mut watches: Vec<(String, Revision, CacheWatch)> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        match *step {
            Step::Put(ns, name) => drop(world.write(&format!("n{ns}/a{name}"), Some(&i.to_string())).await),
            Step::Delete(ns, name) => drop(world.write(&format!("n{ns}/a{name}"), None).await),
            Step::Watch(scope) => {
                // From the past that the cache knows, or from the store's present, which it may not know yet.
                let scope = scopes[usize::from(scope)].clone();
                let current = world.store().revision().await.unwrap();
                let after = 1 + (i as Revision * 7) % current;
                let watch = cache.watch(scope.clone().into(), after).unwrap();
                watches.push((scope, after, watch));
            }
            Step::Hold => world.hold(),
            Step::LetGo => world.let_go(),
            Step::Lose => world.unsteady.lose.notify_waiters(),
        }
        tokio::task::yield_now().await;
    }
    world.let_go();
    world.check_consistent().await;
    for (scope, after, mut watch) in watches {
        let (changes, ended) = drain(&mut watch).await;
        assert!(!ended, "a watch that was lost is taken up again");
        world.check_changes(&scope, after, &changes).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn watchers_see_what_the_store_tells(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(check_history(&steps));
    }
}

#[tokio::test(start_paused = true)]
async fn it_holds_the_stores_own_bytes() {
    let world = World::new();
    world.write("ns/before", Some("1")).await;
    world.cache().await;
    world.write("ns/after", Some("2")).await;
    world.check_consistent().await;
    let request = RangeRequest::prefix(PREFIX);
    let snapshot = world
        .cache()
        .await
        .snapshot(&request.start, &request.end, 0, None)
        .unwrap();
    let stored = world.store().range(request).await.unwrap();
    assert_eq!(snapshot.items.len(), 2);
    for (item, kv) in snapshot.items.iter().zip(stored.kvs) {
        assert_eq!(item.value.as_ptr(), kv.value.as_ptr(), "{:?}", item.key);
    }
}

/// *Bounded*: who leaves too much lying is cut off, and is not given what comes after a gap.
#[tokio::test(start_paused = true)]
async fn a_watcher_that_is_too_slow_is_cut_off() {
    let world = World::new();
    let cache = world.cache().await;
    let mut slow = cache.watch(PREFIX.into(), 1).unwrap();
    let mut other = cache.watch(format!("{PREFIX}other/").into(), 1).unwrap();
    for _ in 0..=MOST_WAITING {
        world.write("ns/a", Some("1")).await;
    }
    world.check_consistent().await;
    let (changes, ended) = drain(&mut slow).await;
    assert!(ended && changes.is_empty(), "{} changes", changes.len());
    world.write("other/a", Some("1")).await;
    assert_eq!(drain(&mut other).await.0.len(), 1, "others are not held up");
}

/// *Bounded*: old changes are forgotten by number and by size, and are then not served at all.
#[tokio::test(start_paused = true)]
async fn the_far_past_is_left_to_the_store() {
    let large = "x".repeat(MOST_BYTES / 8);
    for (value, count) in [("1", MOST_CHANGES + 10), (large.as_str(), 20)] {
        let world = World::new();
        let cache = world.cache().await;
        for _ in 0..count {
            world.write("ns/a", Some(value)).await;
        }
        world.check_consistent().await;
        assert!(cache.watch(PREFIX.into(), 1).is_none());
        let complete_after = cache.inner.read().complete_after;
        let mut watch = cache.watch(PREFIX.into(), complete_after).unwrap();
        let changes = drain(&mut watch).await.0;
        world.check_changes(PREFIX, complete_after, &changes).await;
        let bytes: usize = changes.iter().map(|change| change.size()).sum();
        assert!(changes.len() <= MOST_CHANGES && bytes <= MOST_BYTES, "Bounded");
    }
}

/// What was missed while the watch was lost has been compacted: watches end, and what is shown is right again.
#[tokio::test(start_paused = true)]
async fn what_can_be_had_no_more_ends_watches() {
    let world = World::new();
    let cache = world.cache().await;
    let mut watch = cache.watch(PREFIX.into(), 1).unwrap();
    world.hold();
    tokio::task::yield_now().await;
    for _ in 0..3 {
        world.write("ns/a", Some("1")).await;
    }
    let current = world.store().revision().await.unwrap();
    world.store().compact(current).await.unwrap();
    world.unsteady.lose.notify_waiters();
    world.let_go();
    let (changes, ended) = drain(&mut watch).await;
    assert!(ended && changes.is_empty(), "{changes:?}");
    world.check_consistent().await;
    assert!(
        cache.watch(PREFIX.into(), 1).is_none(),
        "what was missed is not said to be there"
    );
}

/// *Optional*: a cache that does not come along is waited for so long, and not for ever.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let world = World::new();
    let cache = world.cache().await;
    world.hold();
    tokio::task::yield_now().await;
    let revision = world.write("ns/a", Some("1")).await;
    let begun = Instant::now();
    assert!(!cache.reach(world.store(), revision).await);
    assert_eq!(begun.elapsed(), PATIENCE);
    world.let_go();
    assert!(cache.reach(world.store(), revision).await);
    assert!(
        !cache.reach(world.store(), revision + 1).await,
        "it has not happened"
    );
}

#[tokio::test(start_paused = true)]
async fn watches_end_with_the_store_and_with_the_resource() {
    for by_store in [true, false] {
        let world = World::new();
        let cache = world.cache().await;
        let mut watch = cache.watch(PREFIX.into(), 1).unwrap();
        if by_store {
            world.store().close().await.unwrap();
        } else {
            world.caches.table.remove("", "configmaps");
        }
        assert!(drain(&mut watch).await.1, "by the store: {by_store}");
        assert!(cache.watch(PREFIX.into(), 1).is_none());
        tokio::task::yield_now().await;
        assert!(cache.has_ended());
    }
}

/// *Consistent*: the past is shown as long as it is the present, too.
#[tokio::test(start_paused = true)]
async fn a_past_that_has_not_changed_is_shown() {
    let world = World::new();
    let cache = world.cache().await;
    let end = RangeRequest::prefix(PREFIX).end;
    let shown = |at| {
        cache
            .snapshot(PREFIX.as_bytes(), &end, 0, Some(at))
            .map(|s| (s.revision, s.count))
    };
    let first = world.write("ns/a", Some("1")).await;
    let elsewhere = Txn {
        success: vec![Op::Put {
            key: "/registry/others/a".into(),
            value: "1".into(),
            ttl: None,
        }],
        ..Txn::default()
    };
    let second = world.store().txn(elsewhere).await.unwrap().revision;
    world.check_consistent().await;
    let seen = [first - 1, first, second, second + 1].map(shown);
    assert_eq!(seen, [None, Some((first, 1)), Some((second, 1)), None]);
    let third = world.write("ns/b", Some("1")).await;
    world.check_consistent().await;
    assert_eq!([second, third].map(shown), [None, Some((third, 2))]);
}

#[tokio::test(start_paused = true)]
async fn who_watches_no_more_is_forgotten() {
    let world = World::new();
    let cache = world.cache().await;
    let watches: Vec<CacheWatch> = (0..3).map(|_| cache.watch(PREFIX.into(), 1).unwrap()).collect();
    assert_eq!(cache.inner.read().watchers.len(), 1);
    drop(watches);
    assert!(cache.inner.read().watchers.is_empty());
}

/// The cache keeps neither itself nor the store alive.
#[tokio::test(start_paused = true)]
async fn what_nobody_has_is_gone() {
    let world = World::new();
    world.write("ns/a", Some("1")).await;
    world.check_consistent().await;
    let cache = Arc::downgrade(&world.cache().await);
    let store = Arc::downgrade(&world.caches.store);
    drop(world);
    assert!(store.upgrade().is_none() && cache.upgrade().is_none());
}

#[test]
fn a_key_is_in_the_scopes_of_its_collections() {
    let cases = [
        (
            "/registry/pods/",
            "/registry/pods/ns/a",
            vec!["/registry/pods/", "/registry/pods/ns/", "/registry/pods/ns/a"],
        ),
        (
            "/registry/minions/",
            "/registry/minions/a",
            vec!["/registry/minions/", "/registry/minions/a"],
        ),
    ];
    for (prefix, key, expected) in cases {
        let scopes: Vec<&[u8]> = scopes(prefix.as_bytes(), key.as_bytes()).collect();
        let expected: Vec<&[u8]> = expected.into_iter().map(str::as_bytes).collect();
        assert_eq!(scopes, expected, "{key}");
    }
}
