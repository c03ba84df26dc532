//! Configurations as the store has them: read once, followed by watches, and put together only when they have changed.
//!
//! **Invariant:** what [`Configurations::current`] answers is never older than the last write that was acknowledged before it
//! was called, as long as the store's watches are immediate (checked by `a_configuration_counts_from_the_next_request_on`
//! and `whoever_has_written_sees_it_whatever_others_do`). Those of a store that others keep are late by what a message
//! takes, as kube-apiserver's are.
//!
//! Unlike what is followed for other reasons ([`crate::registry::followed`]), configurations that cannot be read are an error of
//! the request: to go on by old ones could let through what is to be refused.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_storage::{Error, EventKind, Store};

use crate::registry::followed::Feed;
use crate::registry::hooks::Attributes;
use crate::registry::{keys, storage};

/// How often it is read anew because a watch has ended at once.
const ATTEMPTS: usize = 8;
/// How long to wait after configurations could not be read.
const PAUSE: Duration = Duration::from_secs(1);

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
struct Configurations<K: Kinds> {
    store: Arc<dyn Store>,
    state: Mutex<State<K>>,
}

/// The configurations of those that change requests, and of those that only refuse them.
#[derive(Debug)]
pub(crate) struct Both<M: Kinds, V: Kinds> {
    mutating: Configurations<M>,
    validating: Configurations<V>,
    /// Which requests are seen by none.
    exempts: fn(&Attributes) -> bool,
}

impl<M: Kinds, V: Kinds> Both<M, V> {
    pub(crate) fn new(store: &Arc<dyn Store>, exempts: fn(&Attributes) -> bool) -> Self {
        Self {
            mutating: Configurations::new(store.clone()),
            validating: Configurations::new(store.clone()),
            exempts,
        }
    }

    /// Keeps up with the store; ends when it is dropped.
    pub(crate) async fn follow(&self) {
        tokio::join!(self.mutating.follow(), self.validating.follow());
    }

    /// What may change a request, as of now: nothing if it is exempt.
    ///
    /// # Errors
    ///
    /// When configurations have to be read and cannot.
    pub(crate) async fn mutating(&self, attributes: &Attributes) -> Result<Arc<M::All>, ApiError> {
        match (self.exempts)(attributes) {
            true => Ok(Arc::default()),
            false => self.mutating.current().await,
        }
    }

    /// What may refuse a request, as of now: nothing if it is exempt.
    ///
    /// # Errors
    ///
    /// When configurations have to be read and cannot.
    pub(crate) async fn validating(&self, attributes: &Attributes) -> Result<Arc<V::All>, ApiError> {
        match (self.exempts)(attributes) {
            true => Ok(Arc::default()),
            false => self.validating.current().await,
        }
    }
}

struct State<K: Kinds> {
    /// `None` when it has to be read.
    live: Option<Live<K>>,
    /// Told when a watch has something to say, whoever polled it last.
    waker: Waker,
}

struct Live<K: Kinds> {
    feed: Feed,
    parts: Vec<BTreeMap<Bytes, K::One>>,
    all: Arc<K::All>,
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
        let state = State {
            live: None,
            waker: Waker::noop().clone(),
        };
        Self {
            store,
            state: Mutex::new(state),
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
            if let Some(all) = self.state.lock().catch_up() {
                return Ok(all);
            }
            let read = Live::load(&*self.store).await;
            let read = read.map_err(|error| storage::error(&error))?;
            // Whoever was faster has something that is followed already.
            self.state.lock().live.get_or_insert(read);
        }
        let of = K::PLURALS.join(" and ");
        Err(ApiError::internal(format_args!(
            "{of} cannot be followed; try again"
        )))
    }

    /// Keeps up with the store while nobody asks: some watches go on only while they are polled.
    pub(crate) async fn follow(&self) {
        loop {
            if let Err(error) = self.current().await {
                tracing::warn!(%error, of = ?K::PLURALS, "cannot read configurations of admission; trying again");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            poll_fn(|context| {
                let mut state = self.state.lock();
                state.waker.clone_from(context.waker());
                match state.catch_up() {
                    Some(_) => Poll::Pending,
                    None => Poll::Ready(()),
                }
            })
            .await;
        }
    }
}

impl<K: Kinds> State<K> {
    /// Takes in what the watches have to say; `None` if there are none, or one has ended.
    fn catch_up(&mut self) -> Option<Arc<K::All>> {
        let live = self.live.as_mut()?;
        if live.catch_up(&mut Context::from_waker(&self.waker)).is_none() {
            self.live = None;
            return None;
        }
        Some(live.all.clone())
    }
}

impl<K: Kinds> Live<K> {
    async fn load(store: &dyn Store) -> Result<Self, Error> {
        let prefix = |plural: &&str| format!("{}{plural}/", keys::ROOT);
        let prefixes: Vec<String> = K::PLURALS.iter().map(prefix).collect();
        let mut parts: Vec<BTreeMap<Bytes, K::One>> = prefixes.iter().map(|_| BTreeMap::new()).collect();
        let feed = Feed::open(store, &prefixes, |kind, kv| {
            if let (Some(parts), Some(one)) = (parts.get_mut(kind), read::<K>(kind, &kv.value)) {
                parts.insert(kv.key, one);
            }
        });
        Ok(Self {
            feed: feed.await?,
            all: Arc::new(K::all(&parts)),
            parts,
        })
    }

    /// Takes in what the watches have to say; `None` when one has ended.
    fn catch_up(&mut self, context: &mut Context<'_>) -> Option<()> {
        let (mut changed, parts) = (false, &mut self.parts);
        self.feed.poll(context, |kind, event| {
            let Some(parts) = parts.get_mut(kind) else {
                return;
            };
            changed = true;
            let read = match event.kind {
                EventKind::Put => read::<K>(kind, &event.kv.value),
                EventKind::Delete => None,
            };
            match read {
                Some(one) => drop(parts.insert(event.kv.key, one)),
                None => drop(parts.remove(&event.kv.key)),
            }
        })?;
        if changed {
            self.all = Arc::new(K::all(&self.parts));
        }
        Some(())
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
