//! The objects of one kind, followed in the store and at hand without reading it: for what nearly every request asks for.
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
use trimtab_apiserver_storage::{Error, EventKind, RangeRequest, Store, WatchRequest, WatchStream};

/// How long to wait after the objects could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// All objects of a kind that is stored as it is served, without their managed fields.
#[derive(Debug)]
pub(super) struct Followed {
    store: Arc<dyn Store>,
    prefix: String,
    live: Mutex<Live>,
}

struct Live {
    /// By what follows the prefix in their keys: `name`, or `namespace/name`.
    objects: BTreeMap<String, Arc<Value>>,
    watch: WatchStream,
    /// The watch has ended: everything must be read again.
    broken: bool,
    reloading: bool,
    /// Told when the watch has something to say, whoever polled it last.
    waker: Waker,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live")
            .field("objects", &self.objects.len())
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

impl Followed {
    /// Reads what is there below `prefix`, which ends in a slash.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub(super) async fn load(store: Arc<dyn Store>, prefix: String) -> Result<Arc<Self>, Error> {
        let live = Mutex::new(Live::load(&*store, &prefix).await?);
        Ok(Arc::new(Self { store, prefix, live }))
    }

    /// The object at a path, `name` or `namespace/name`.
    pub(super) fn get(self: &Arc<Self>, path: &str) -> Option<Arc<Value>> {
        self.live().objects.get(path).cloned()
    }

    /// Whether there is any object in a namespace.
    pub(super) fn any(self: &Arc<Self>, namespace: &str) -> bool {
        let live = self.live();
        if live.objects.is_empty() {
            return false;
        }
        let start = format!("{namespace}/");
        let mut after = live.objects.range(start.clone()..);
        after.next().is_some_and(|(path, _)| path.starts_with(&start))
    }

    /// Keeps up with the store while nobody asks: some watches go on only while they are polled. It never ends.
    pub(super) async fn follow(self: Arc<Self>) {
        std::future::poll_fn(|cx| {
            self.live.lock().waker.clone_from(cx.waker());
            drop(self.live());
            Poll::<()>::Pending
        })
        .await;
    }

    /// What there is as of now. If the watch that it lives by has ended, it is read again; until that is done it stays as
    /// it was.
    fn live(self: &Arc<Self>) -> MutexGuard<'_, Live> {
        let mut live = self.live.lock();
        live.catch_up(&self.prefix);
        if live.broken && !live.reloading {
            live.reloading = true;
            let this = self.clone();
            drop(live);
            let mut reload = Box::pin(async move { this.reload().await });
            // A local store answers at once; for any other one this goes on beside.
            if reload.as_mut().now_or_never().is_none() {
                tokio::spawn(reload);
            }
            live = self.live.lock();
        }
        live
    }

    async fn reload(&self) {
        let fresh = Live::load(&*self.store, &self.prefix).await;
        if let Err(error) = &fresh {
            tracing::error!(%error, prefix = self.prefix, "cannot read what is followed, trying again");
            tokio::time::sleep(PAUSE).await;
        }
        let mut live = self.live.lock();
        let waker = live.waker.clone();
        live.reloading = false;
        if let Ok(fresh) = fresh {
            *live = fresh;
            live.waker.clone_from(&waker);
        }
        drop(live);
        waker.wake();
    }
}

impl Live {
    async fn load(store: &dyn Store, prefix: &str) -> Result<Self, Error> {
        let response = store.range(RangeRequest::prefix(prefix.to_owned())).await?;
        let request = WatchRequest::prefix(prefix.to_owned()).from(response.revision + 1);
        let mut live = Self {
            objects: BTreeMap::new(),
            watch: store.watch(request).await?,
            broken: false,
            reloading: false,
            waker: Waker::noop().clone(),
        };
        for kv in response.kvs {
            live.put(path(&kv.key, prefix), &kv.value);
        }
        Ok(live)
    }

    /// Takes in what the watch has to say by now.
    fn catch_up(&mut self, prefix: &str) {
        while !self.broken
            && let Poll::Ready(next) = self.watch.poll_next_unpin(&mut Context::from_waker(&self.waker))
        {
            let Some(Ok(batch)) = next else {
                self.broken = true;
                break;
            };
            for event in batch.events {
                let path = path(&event.kv.key, prefix);
                match event.kind {
                    EventKind::Put => self.put(path, &event.kv.value),
                    EventKind::Delete => drop(self.objects.remove(&path)),
                }
            }
        }
    }

    fn put(&mut self, path: String, stored: &[u8]) {
        match serde_json::from_slice::<Value>(stored) {
            Ok(mut object) => {
                if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.remove("managedFields");
                }
                self.objects.insert(path, Arc::new(object));
            }
            Err(error) => tracing::error!(%error, path, "a stored object cannot be read"),
        }
    }
}

fn path(key: &[u8], prefix: &str) -> String {
    let key = String::from_utf8_lossy(key);
    key.strip_prefix(prefix).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trimtab_apiserver_storage::{Config, MemoryStore, Op, Txn};

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
        let quotas = Followed::load(store.clone(), "/registry/quotas/".to_owned())
            .await
            .expect("loads");
        let shown = || ["a", "a-b", "b"].map(|namespace| quotas.any(namespace));
        assert_eq!(shown(), [true, false, false]);
        run(&*store, put("a-b/q")).await;
        assert_eq!(shown(), [true, true, false]);
        assert_eq!(
            *quotas.get("a-b/q").expect("is there"),
            json!({"metadata": {"name": "q"}, "spec": "a-b/q"})
        );
        let revision = run(&*store, delete("a/q")).await;
        // Even when the watch has been cut off.
        run(&*store, put("b/q")).await;
        store.compact(revision + 1).await.expect("compacts");
        assert_eq!(shown(), [false, true, true]);
        assert_eq!(quotas.get("a/q"), None);
    }
}
