//! Configurations as the store has them: read once, followed by watches, and looked at only when they have changed.
//!
//! A request costs nothing but a comparison of two numbers as long as nobody writes configurations.
//!
//! **Invariant:** what [`Configurations::current`] answers is never older than the last write that was acknowledged before it
//! was called, as long as the store's watches are immediate (checked by `a_configuration_counts_from_the_next_request_on`).
//! Those of a store that others keep are late by what a message takes, as kube-apiserver's are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::Mutex;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_storage::{EventKind, RangeRequest, Store, WatchRequest, WatchStream};

use crate::registry::{keys, storage};

/// How often it is read anew because a watch has ended at once.
const ATTEMPTS: usize = 8;

/// What configurations are read as: each by itself, and all together.
pub(crate) trait Kinds: fmt::Debug + Send + Sync + 'static {
    /// The resources of admissionregistration.k8s.io that belong together.
    const PLURALS: &'static [&'static str];
    /// One configuration.
    type One: fmt::Debug + Send;
    /// All of them.
    type All: fmt::Debug + Default + Send + Sync;

    /// Reads a configuration; `kind` is its place in [`Kinds::PLURALS`].
    fn read(kind: usize, configuration: &Value) -> Self::One;

    /// Puts them together: for each kind its configurations, in the order of their names.
    fn all(of: &[BTreeMap<Bytes, Self::One>]) -> Self::All;
}

/// The configurations of some kinds.
pub(crate) struct Configurations<K: Kinds> {
    store: Arc<dyn Store>,
    known: ArcSwap<Known<K::All>>,
    woken: Arc<Woken>,
    /// What keeps `known` up to date; `None` when it has to be read.
    live: Mutex<Option<Live<K>>>,
}

/// How often watches had something to say. It begins at one, so that what has never been read is not up to date.
#[derive(Debug)]
struct Woken(AtomicU64);

/// All configurations, as they were when watches had had something to say so often.
#[derive(Debug, Default)]
struct Known<A> {
    woken: u64,
    all: Arc<A>,
}

struct Live<K: Kinds> {
    watches: Vec<WatchStream>,
    parts: Vec<BTreeMap<Bytes, K::One>>,
    waker: Waker,
    /// Whether it has just been read.
    is_new: bool,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl<K: Kinds> fmt::Debug for Configurations<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configurations")
            .field("of", &K::PLURALS)
            .finish_non_exhaustive()
    }
}

impl<K: Kinds> Configurations<K> {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            known: ArcSwap::default(),
            woken: Arc::new(Woken(AtomicU64::new(1))),
            live: Mutex::default(),
        }
    }

    /// All configurations as of now.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// When they have to be read and cannot.
    pub(crate) async fn current(&self) -> Result<Arc<K::All>, ApiError> {
        for _ in 0..ATTEMPTS {
            let known = self.known.load();
            let woken = self.woken.0.load(Ordering::Acquire);
            if known.woken == woken {
                return Ok(known.all.clone());
            }
            drop(known);
            if let Some(all) = self.catch_up(woken) {
                return Ok(all);
            }
            let waker = Waker::from(self.woken.clone());
            let read = Live::load(&*self.store, waker).await;
            let read = read.map_err(|error| storage::error(&error))?;
            // Whoever was faster has something that is followed already.
            self.live.lock().get_or_insert(read);
        }
        let of = K::PLURALS.join(" and ");
        Err(ApiError::internal(format_args!(
            "{of} cannot be followed; try again"
        )))
    }

    /// Takes in what the watches have to say; `None` if there are none, or one has ended.
    fn catch_up(&self, woken: u64) -> Option<Arc<K::All>> {
        let mut live = self.live.lock();
        let following = live.as_mut()?;
        let Some(changed) = following.catch_up() else {
            *live = None;
            return None;
        };
        let all = if changed {
            Arc::new(K::all(&following.parts))
        } else {
            self.known.load().all.clone()
        };
        self.known.store(Arc::new(Known {
            woken,
            all: all.clone(),
        }));
        Some(all)
    }
}

impl<K: Kinds> Live<K> {
    async fn load(store: &dyn Store, waker: Waker) -> Result<Self, trimtab_apiserver_storage::Error> {
        let revision = store.revision().await?;
        let (mut watches, mut parts) = (Vec::new(), Vec::new());
        for (kind, plural) in K::PLURALS.iter().enumerate() {
            let prefix = format!("{}{plural}/", keys::ROOT);
            let range = RangeRequest::prefix(prefix.clone()).at(revision);
            let kvs = store.range(range).await?.kvs;
            let read = kvs
                .into_iter()
                .filter_map(|kv| Some((kv.key, read::<K>(kind, &kv.value)?)));
            parts.push(read.collect());
            watches.push(
                store
                    .watch(WatchRequest::prefix(prefix).from(revision + 1))
                    .await?,
            );
        }
        Ok(Self {
            watches,
            parts,
            waker,
            is_new: true,
        })
    }

    /// Whether anything has changed; `None` when a watch has ended.
    fn catch_up(&mut self) -> Option<bool> {
        let mut context = Context::from_waker(&self.waker);
        let mut changed = std::mem::take(&mut self.is_new);
        for (kind, (watch, parts)) in self.watches.iter_mut().zip(&mut self.parts).enumerate() {
            while let Poll::Ready(next) = watch.poll_next_unpin(&mut context) {
                for event in next?.ok()?.events {
                    changed = true;
                    let read = match event.kind {
                        EventKind::Put => read::<K>(kind, &event.kv.value),
                        EventKind::Delete => None,
                    };
                    match read {
                        Some(one) => drop(parts.insert(event.kv.key, one)),
                        None => drop(parts.remove(&event.kv.key)),
                    }
                }
            }
        }
        Some(changed)
    }
}

fn read<K: Kinds>(kind: usize, stored: &[u8]) -> Option<K::One> {
    match serde_json::from_slice(stored) {
        Ok(configuration) => Some(K::read(kind, &configuration)),
        Err(error) => {
            let of = K::PLURALS.get(kind);
            tracing::error!(%error, of, "a stored configuration of admission cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trimtab_apiserver_storage::{Config, MemoryStore, Op, Txn};

    use super::*;

    /// Names of two kinds.
    #[derive(Debug)]
    struct Names;

    impl Kinds for Names {
        const PLURALS: &'static [&'static str] = &["as", "bs"];
        type One = String;
        type All = Vec<String>;

        fn read(kind: usize, object: &Value) -> String {
            format!("{kind}{}", object["name"].as_str().unwrap_or_default())
        }

        fn all(of: &[BTreeMap<Bytes, String>]) -> Vec<String> {
            of.iter().flat_map(BTreeMap::values).cloned().collect()
        }
    }

    fn store() -> Arc<dyn Store> {
        Arc::new(MemoryStore::new(Config::default()))
    }

    async fn run(store: &dyn Store, op: Op) -> u64 {
        let txn = Txn {
            success: vec![op],
            ..Txn::default()
        };
        store.txn(txn).await.expect("writes").revision
    }

    fn put(key: &str) -> Op {
        Op::Put {
            key: format!("/registry/{key}").into(),
            value: json!({"name": key}).to_string().into(),
            ttl: None,
        }
    }

    fn delete(key: &str) -> Op {
        Op::Delete {
            key: format!("/registry/{key}").into(),
        }
    }

    #[tokio::test]
    async fn a_write_counts_at_once_also_when_watches_have_been_cut_off() {
        let store = store();
        run(&*store, put("bs/x")).await;
        let configurations = Configurations::<Names>::new(store.clone());
        let current = async || configurations.current().await.expect("reads").join(" ");
        assert_eq!(current().await, "1bs/x");
        run(&*store, put("as/y")).await;
        run(&*store, put("elsewhere/z")).await;
        assert_eq!(current().await, "0as/y 1bs/x");
        run(&*store, delete("bs/x")).await;
        let revision = run(&*store, put("as/a")).await;
        run(&*store, put("elsewhere/z")).await;
        store.compact(revision + 1).await.expect("compacts");
        assert_eq!(current().await, "0as/a 0as/y");
        run(&*store, delete("as/y")).await;
        assert_eq!(current().await, "0as/a");
    }

    #[tokio::test]
    async fn nothing_is_put_together_anew_as_long_as_nobody_writes() {
        let store = store();
        let configurations = Configurations::<Names>::new(store.clone());
        run(&*store, put("as/x")).await;
        let first = configurations.current().await.expect("reads");
        run(&*store, put("elsewhere/z")).await;
        let second = configurations.current().await.expect("reads");
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_has_written_sees_it_whatever_others_do() {
        let store = store();
        let configurations = Arc::new(Configurations::<Names>::new(store.clone()));
        let writers = (0..4).map(|writer| {
            let (store, configurations) = (store.clone(), configurations.clone());
            tokio::spawn(async move {
                for turn in 0..200 {
                    let key = format!("as/{writer}-{turn}");
                    run(&*store, put(&key)).await;
                    let current = configurations.current().await.expect("reads");
                    assert!(current.contains(&format!("0{key}")), "{key} is not seen");
                    run(&*store, delete(&key)).await;
                    let current = configurations.current().await.expect("reads");
                    assert!(!current.contains(&format!("0{key}")), "{key} is still seen");
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("ends");
        }
    }

    #[tokio::test]
    async fn a_store_that_is_closed_is_an_error() {
        let store = store();
        let configurations = Configurations::<Names>::new(store.clone());
        assert!(configurations.current().await.is_ok());
        store.close().await.expect("closes");
        assert!(configurations.current().await.is_err());
    }
}
