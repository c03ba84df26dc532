//! Objects that are followed in the store and at hand without reading it: for what nearly every request asks for.
//!
//! **Invariant:** what is answered is never older than the last write that was acknowledged before it was asked for, as
//! long as the store's watches are immediate (checked by `a_write_is_seen_at_once`). Those of a store that others keep are
//! late by what a message takes, as kube-apiserver's informers are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;
use trimtab_apiserver_storage::{
    Error, Event, EventKind, KeyValue, RangeRequest, Store, WatchRequest, WatchStream,
};

/// How long to wait after the objects could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// What is made of the objects that are followed. Those of each prefix have its number, from 0 on; a path is what follows the
/// prefix in a key: `name`, or `namespace/name`.
pub(crate) trait View: Default + Send + 'static {
    /// An object is there, or has changed.
    fn put(&mut self, prefix: usize, path: &str, object: Value);

    /// An object is no longer there.
    fn delete(&mut self, prefix: usize, path: &str);
}

/// All objects below some prefixes, which are stored as they are served.
pub(crate) struct Followed<V> {
    store: Arc<dyn Store>,
    prefixes: Vec<String>,
    live: Mutex<Live<V>>,
}

struct Live<V> {
    view: V,
    feed: Feed,
    /// A watch has ended: everything must be read again.
    broken: bool,
    reloading: bool,
    /// What reads everything again, when that takes a while. It ends with this.
    reload: Option<AbortOnDropHandle<()>>,
    /// Told when a watch has something to say, whoever polled it last.
    waker: Waker,
}

/// What the store has below some prefixes and, from then on, every change of that.
///
/// Watches are asked every time, which takes tens of nanoseconds, rather than when they have said that they have something: a
/// store may acknowledge a write before it has woken everybody.
pub(crate) struct Feed {
    /// One for each prefix.
    watches: Vec<WatchStream>,
}

impl<V> std::fmt::Debug for Followed<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Followed")
            .field("prefixes", &self.prefixes)
            .finish_non_exhaustive()
    }
}

// === impl Followed ===

impl<V: View> Followed<V> {
    /// Reads what is there below the prefixes, which end in slashes.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub(crate) async fn load(store: Arc<dyn Store>, prefixes: Vec<String>) -> Result<Arc<Self>, Error> {
        let live = Mutex::new(Live::load(&*store, &prefixes).await?);
        Ok(Arc::new(Self {
            store,
            prefixes,
            live,
        }))
    }

    /// What there is as of now, as `look` sees it. If the watches that it lives by have ended, it is read again; until that
    /// is done it stays as it was.
    pub(crate) fn look<T>(self: &Arc<Self>, look: impl FnOnce(&V) -> T) -> T {
        look(&self.live().view)
    }

    /// Keeps up with the store while nobody looks: some watches go on only while they are polled. It never ends.
    pub(crate) async fn follow(self: Arc<Self>) {
        std::future::poll_fn(|cx| {
            self.live.lock().waker.clone_from(cx.waker());
            drop(self.live());
            Poll::<()>::Pending
        })
        .await;
    }

    fn live(self: &Arc<Self>) -> MutexGuard<'_, Live<V>> {
        let mut live = self.live.lock();
        live.catch_up(&self.prefixes);
        if live.broken && !live.reloading {
            live.reloading = true;
            drop(live);
            let mut reload = Box::pin(self.reload());
            // A local store answers at once; for any other one this goes on beside.
            let task = match reload.as_mut().now_or_never() {
                Some(()) => None,
                None => Some(AbortOnDropHandle::new(tokio::spawn(reload))),
            };
            live = self.live.lock();
            if task.is_some() {
                live.reload = task;
            }
        }
        live
    }

    /// Reads everything again, for as long as anybody has this.
    fn reload(self: &Arc<Self>) -> impl Future<Output = ()> + use<V> {
        let (this, store, prefixes) = (Arc::downgrade(self), self.store.clone(), self.prefixes.clone());
        async move {
            let fresh = Live::load(&*store, &prefixes).await;
            if let Err(error) = &fresh {
                tracing::error!(%error, ?prefixes, "cannot read what is followed, trying again");
                tokio::time::sleep(PAUSE).await;
            }
            if let Some(this) = this.upgrade() {
                this.reloaded(fresh);
            }
        }
    }

    fn reloaded(&self, fresh: Result<Live<V>, Error>) {
        let mut live = self.live.lock();
        let waker = live.waker.clone();
        live.reloading = false;
        if let Ok(mut fresh) = fresh {
            // It may be what does this, and is not to be ended in the middle.
            fresh.reload = live.reload.take();
            *live = fresh;
            live.waker.clone_from(&waker);
        }
        drop(live);
        waker.wake();
    }
}

// === impl Live ===

impl<V: View> Live<V> {
    async fn load(store: &dyn Store, prefixes: &[String]) -> Result<Self, Error> {
        let mut view = V::default();
        let feed = Feed::open(store, prefixes, |number, kv| {
            let prefix = prefixes.get(number).map_or("", String::as_str);
            put(&mut view, number, path(&kv.key, prefix), &kv.value);
        });
        Ok(Self {
            feed: feed.await?,
            view,
            broken: false,
            reloading: false,
            reload: None,
            waker: Waker::noop().clone(),
        })
    }

    /// Takes in what the watches have to say by now.
    fn catch_up(&mut self, prefixes: &[String]) {
        if self.broken {
            return;
        }
        let Self {
            view, feed, waker, ..
        } = self;
        let going = feed.poll(&mut Context::from_waker(waker), |number, event| {
            let prefix = prefixes.get(number).map_or("", String::as_str);
            let path = path(&event.kv.key, prefix);
            match event.kind {
                EventKind::Put => put(view, number, path, &event.kv.value),
                EventKind::Delete => view.delete(number, path),
            }
        });
        self.broken = going.is_none();
    }
}

// === impl Feed ===

impl Feed {
    /// Hands out all that there is, each with the number of its prefix, and watches from there on. Prefixes end in slashes.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub(crate) async fn open(
        store: &dyn Store,
        prefixes: &[String],
        mut there: impl FnMut(usize, KeyValue) + Send,
    ) -> Result<Self, Error> {
        let revision = store.revision().await?;
        let mut watches = Vec::new();
        for (number, prefix) in prefixes.iter().enumerate() {
            let range = RangeRequest::prefix(prefix.clone()).at(revision);
            let kvs = store.range(range).await?.kvs;
            kvs.into_iter().for_each(|kv| there(number, kv));
            let watch = WatchRequest::prefix(prefix.clone()).from(revision + 1);
            watches.push(store.watch(watch).await?);
        }
        Ok(Self { watches })
    }

    /// Hands out what has changed by now; `None` when a watch has ended, after which everything has to be read again.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        mut changed: impl FnMut(usize, Event),
    ) -> Option<()> {
        for (number, watch) in self.watches.iter_mut().enumerate() {
            while let Poll::Ready(next) = watch.poll_next_unpin(context) {
                next?
                    .ok()?
                    .events
                    .into_iter()
                    .for_each(|event| changed(number, event));
            }
        }
        Some(())
    }
}

fn put(view: &mut impl View, prefix: usize, path: &str, stored: &[u8]) {
    match serde_json::from_slice::<Value>(stored) {
        Ok(object) => view.put(prefix, path, object),
        Err(error) => tracing::error!(%error, path, "a stored object cannot be read"),
    }
}

/// What follows the prefix in a key. Names are ASCII.
fn path<'a>(key: &'a [u8], prefix: &str) -> &'a str {
    let path = key.strip_prefix(prefix.as_bytes()).unwrap_or_default();
    std::str::from_utf8(path).unwrap_or_default()
}

/// The objects themselves, without their managed fields, by their paths. For one prefix.
#[derive(Debug, Default)]
pub(crate) struct Objects(BTreeMap<String, Arc<Value>>);

impl View for Objects {
    fn put(&mut self, _: usize, path: &str, mut object: Value) {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        self.0.insert(path.to_owned(), Arc::new(object));
    }

    fn delete(&mut self, _: usize, path: &str) {
        self.0.remove(path);
    }
}

impl Objects {
    /// The object at a path.
    pub(crate) fn get(&self, path: &str) -> Option<Arc<Value>> {
        self.0.get(path).cloned()
    }

    /// Whether there is any object in a namespace.
    pub(crate) fn any(&self, namespace: &str) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let start = format!("{namespace}/");
        let mut after = self.0.range(start.clone()..);
        after.next().is_some_and(|(path, _)| path.starts_with(&start))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trimtab_apiserver_storage::{Config, MemoryStore, Op, RangeResponse, Revision, Txn, TxnResponse};

    use super::*;

    async fn run(store: &dyn Store, op: Op) -> u64 {
        let txn = Txn {
            success: vec![op],
            ..Txn::default()
        };
        store.txn(txn).await.expect("writes").revision
    }

    #[tokio::test]
    async fn a_write_is_seen_at_once() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Config::default()));
        let put = |key: &str| {
            let object = json!({"metadata": {"name": "q", "managedFields": []}, "spec": key});
            Op::Put {
                key: format!("/registry/quotas/{key}").into(),
                value: object.to_string().into(),
                ttl: None,
            }
        };
        let delete = |key: &str| Op::Delete {
            key: format!("/registry/quotas/{key}").into(),
        };
        run(&*store, put("a/q")).await;
        let quotas: Arc<Followed<Objects>> =
            Followed::load(store.clone(), vec!["/registry/quotas/".to_owned()])
                .await
                .expect("loads");
        let shown = || quotas.look(|all| ["a", "a-b", "b"].map(|namespace| all.any(namespace)));
        assert_eq!(shown(), [true, false, false]);
        run(&*store, put("a-b/q")).await;
        assert_eq!(shown(), [true, true, false]);
        assert_eq!(
            *quotas.look(|all| all.get("a-b/q")).expect("is there"),
            json!({"metadata": {"name": "q"}, "spec": "a-b/q"})
        );
        let revision = run(&*store, delete("a/q")).await;
        // Even when the watch has been cut off.
        run(&*store, put("b/q")).await;
        store.compact(revision + 1).await.expect("compacts");
        assert_eq!(shown(), [false, true, true]);
        assert_eq!(quotas.look(|all| all.get("a/q")), None);
    }

    /// A store of which nothing can be read any more.
    #[derive(Debug)]
    struct Stuck {
        store: MemoryStore,
        is_stuck: std::sync::atomic::AtomicBool,
    }

    #[async_trait::async_trait]
    impl Store for Stuck {
        async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
            match self.is_stuck.load(std::sync::atomic::Ordering::Relaxed) {
                true => std::future::pending().await,
                false => self.store.range(request).await,
            }
        }

        async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
            self.store.txn(txn).await
        }

        async fn watch(&self, request: WatchRequest) -> Result<WatchStream, Error> {
            self.store.watch(request).await
        }

        async fn revision(&self) -> Result<Revision, Error> {
            self.store.revision().await
        }

        async fn compact(&self, revision: Revision) -> Result<(), Error> {
            self.store.compact(revision).await
        }

        async fn request_progress(&self) -> Result<(), Error> {
            self.store.request_progress().await
        }

        async fn close(&self) -> Result<(), Error> {
            self.store.close().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_reads_everything_again_ends_with_what_it_reads_for() {
        let store = Arc::new(Stuck {
            store: MemoryStore::new(Config::default()),
            is_stuck: false.into(),
        });
        let put = |key: &'static str| Op::Put {
            key: key.into(),
            value: "{}".into(),
            ttl: None,
        };
        run(&*store, put("/registry/a/x")).await;
        let followed: Arc<Followed<Objects>> = Followed::load(store.clone(), vec!["/registry/a/".to_owned()])
            .await
            .expect("loads");
        run(&*store, put("/registry/a/y")).await;
        let revision = run(&*store, put("/registry/a/z")).await;
        store.is_stuck.store(true, std::sync::atomic::Ordering::Relaxed);
        store.compact(revision).await.expect("compacts");
        assert!(
            followed.look(|all| all.get("x")).is_some(),
            "what was known stays"
        );
        assert!(followed.live.lock().reload.is_some(), "it is read again");
        drop(followed);
        let only_here = async {
            while Arc::strong_count(&store) > 1 {
                tokio::task::yield_now().await;
            }
        };
        let only_here = tokio::time::timeout(Duration::from_secs(60), only_here).await;
        assert!(only_here.is_ok(), "nobody has the store any more");
    }
}
