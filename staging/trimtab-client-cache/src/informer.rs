//! Shared informers: one reflector and one store for any number of handlers.
//!
//! A change goes to the store first, then to every handler's own queue, in one step: who joins late is told of all that
//! is stored, then of every change after that, of each once.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use crate::factory::{InformerFactory, Selection};
use crate::lister::Lister;
use crate::mailbox::Mailbox;
use crate::reflector::{Reflector, Sink, Status, StatusHandle};
use crate::store::{self, Replacement, Store, WaitError, Writer};
use crate::{Delta, Object};

/// After how many deltas a handler's task lets others run.
const DELTAS_PER_TURN: u32 = 32;

/// A running informer. Clones share it; it stops when the last clone, registration and stream is dropped. Stores and
/// listers do not keep it running: after it has stopped they show what was seen last.
pub struct SharedInformer<K> {
    core: Arc<Core<K>>,
}

/// A handler's place at an informer. Dropping it leaves: the handler is told nothing more.
#[must_use = "dropping the registration removes the handler"]
pub struct Registration<K: Object> {
    seat: Seat<K>,
    task: Option<JoinHandle<()>>,
}

/// The deltas of an informer as a stream. It does not end while the informer runs. Taking the next delta says that the
/// one before has been handled.
#[must_use = "streams do nothing unless polled"]
pub struct Deltas<K: Object> {
    seat: Seat<K>,
}

/// Says when a handler has seen the whole initial list (*Synced*). Clones say the same.
#[derive(Clone, Debug)]
pub struct Synced(watch::Receiver<bool>);

/// What an informer is doing, for people and metrics.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InformerStatus {
    /// Whether the first list is in the store.
    pub synced: bool,
    /// The resource version that the store is at.
    pub resource_version: String,
    /// How many objects are stored.
    pub objects: usize,
    /// For each handler how many objects it still has to be told of.
    pub backlogs: Vec<usize>,
    /// How many deltas were lost to a panic of their handler.
    pub handler_panics: u64,
    /// What the reflector has done and what it struggles with.
    pub reflector: Status,
}

pub(crate) struct Core<K> {
    hub: Arc<Hub<K>>,
    status: StatusHandle,
    _stop: DropGuard,
}

/// Where changes go: the store, then the handlers, under one lock.
struct Hub<K> {
    store: Store<K>,
    panics: AtomicU64,
    /// Lock order: this, then the store's, then a mailbox's.
    inlet: Mutex<Inlet<K>>,
}

struct Inlet<K> {
    writer: Writer<K>,
    handlers: Vec<Arc<Mailbox<K>>>,
}

struct Seat<K: Object> {
    mailbox: Arc<Mailbox<K>>,
    core: Arc<Core<K>>,
}

// === impl SharedInformer ===

impl<K> Clone for SharedInformer<K> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
        }
    }
}

impl<K: Object> fmt::Debug for SharedInformer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedInformer")
            .field("store", &self.core.hub.store)
            .finish()
    }
}

impl<K: Object> SharedInformer<K> {
    /// Starts an informer of its own on a reflector. [`InformerFactory`] hands out shared ones.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(reflector: Reflector<K>) -> Self {
        let (store, writer) = store::store();
        let hub = Arc::new(Hub {
            store,
            panics: AtomicU64::new(0),
            inlet: Mutex::new(Inlet {
                writer,
                handlers: Vec::new(),
            }),
        });
        let stop = CancellationToken::new();
        let status = reflector.status_handle();
        let (stopped, mut sink) = (stop.clone(), Feed(hub.clone()));
        tokio::spawn(async move {
            stopped.run_until_cancelled(reflector.run(&mut sink)).await;
        });
        Self {
            core: Arc::new(Core {
                hub,
                status,
                _stop: stop.drop_guard(),
            }),
        }
    }

    pub(crate) fn from_core(core: Arc<Core<K>>) -> Self {
        Self { core }
    }

    pub(crate) fn core(&self) -> &Arc<Core<K>> {
        &self.core
    }

    /// The stored objects.
    pub fn store(&self) -> Store<K> {
        self.core.hub.store.clone()
    }

    /// The stored objects, by namespace and selector.
    pub fn lister(&self) -> Lister<K> {
        Lister::new(self.store())
    }

    /// Calls `handler` with every delta, one after the other, beginning with all objects that are there.
    ///
    /// The handler runs on a task of its own and should return at once: put a key into a queue and let workers do the
    /// work. A slow one delays only itself. If it panics, the delta is lost for it, counted and logged, and it is
    /// called again with the next.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn add_handler(&self, mut handler: impl FnMut(Delta<K>) + Send + 'static) -> Registration<K> {
        let seat = self.join();
        let (mailbox, hub) = (seat.mailbox.clone(), self.core.hub.clone());
        let task = tokio::spawn(async move {
            let mut handled = 0_u32;
            while let Some(delta) = std::future::poll_fn(|cx| mailbox.poll_next(cx)).await {
                let key = delta.key();
                if catch_unwind(AssertUnwindSafe(|| handler(delta))).is_err() {
                    hub.panics.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(kind = %std::any::type_name::<K>(), %key, "a handler panicked; it has not seen this change");
                }
                handled = handled.wrapping_add(1);
                if handled.is_multiple_of(DELTAS_PER_TURN) {
                    tokio::task::yield_now().await;
                }
            }
        });
        Registration {
            seat,
            task: Some(task),
        }
    }

    /// The deltas as a stream, beginning with all objects that are there.
    pub fn deltas(&self) -> Deltas<K> {
        Deltas { seat: self.join() }
    }

    /// Waits until the store has the first list.
    ///
    /// # Errors
    /// [`WaitError::Stopped`]: the informer's runtime is shutting down.
    pub async fn synced(&self) -> Result<(), WaitError> {
        self.core.hub.store.synced().await
    }

    /// What the informer is doing.
    pub fn status(&self) -> InformerStatus {
        let hub = &self.core.hub;
        let backlogs = hub
            .inlet
            .lock()
            .handlers
            .iter()
            .map(|handler| handler.backlog())
            .collect();
        InformerStatus {
            synced: hub.store.is_synced(),
            resource_version: hub.store.resource_version(),
            objects: hub.store.len(),
            backlogs,
            handler_panics: hub.panics.load(Ordering::Relaxed),
            reflector: self.core.status.snapshot(),
        }
    }

    fn join(&self) -> Seat<K> {
        let hub = &self.core.hub;
        let mailbox = Arc::new(Mailbox::new());
        let mut inlet = hub.inlet.lock();
        let stored = hub.store.list();
        let initial: Vec<_> = stored
            .into_iter()
            .map(|object| Delta::Added {
                object,
                initial: true,
            })
            .collect();
        mailbox.push(&initial);
        if hub.store.is_synced() {
            mailbox.listed();
        }
        inlet.handlers.push(mailbox.clone());
        drop(inlet);
        Seat {
            mailbox,
            core: self.core.clone(),
        }
    }
}

// === impl Registration, Deltas, Synced ===

impl<K: Object> Registration<K> {
    /// Waits until the handler has handled the whole initial list (*Synced*).
    pub async fn synced(&self) {
        self.sync_signal().wait().await;
    }

    /// Whether the handler has handled the whole initial list.
    pub fn is_synced(&self) -> bool {
        self.sync_signal().is_synced()
    }

    /// What says when the handler is synced, to be kept elsewhere.
    pub fn sync_signal(&self) -> Synced {
        Synced(self.seat.mailbox.synced())
    }

    /// How many objects the handler still has to be told of.
    pub fn backlog(&self) -> usize {
        self.seat.mailbox.backlog()
    }

    /// Removes the handler and waits until a call that is under way has returned. Must not be awaited by the handler
    /// itself. If cancelled, the handler is removed, but a call may still be under way.
    pub async fn leave(mut self) {
        self.seat.mailbox.close();
        if let Some(task) = self.task.take() {
            // The task catches the handler's panics, and it is not cancelled but by the end of the runtime.
            let _ended = task.await;
        }
    }
}

impl<K: Object> fmt::Debug for Registration<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("synced", &self.is_synced())
            .finish_non_exhaustive()
    }
}

impl<K: Object> Deltas<K> {
    /// What says when the initial list has been taken from the stream and handled.
    pub fn sync_signal(&self) -> Synced {
        Synced(self.seat.mailbox.synced())
    }
}

impl<K: Object> fmt::Debug for Deltas<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deltas").finish_non_exhaustive()
    }
}

impl<K: Object> Stream for Deltas<K> {
    type Item = Delta<K>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delta<K>>> {
        self.seat.mailbox.poll_next(cx)
    }
}

impl Synced {
    /// Waits until the handler is synced, or can no longer become it because it has left.
    pub async fn wait(&self) {
        let mut synced = self.0.clone();
        let _left = synced.wait_for(|synced| *synced).await;
    }

    /// Whether the handler is synced.
    pub fn is_synced(&self) -> bool {
        *self.0.borrow()
    }
}

impl<K: Object> Drop for Seat<K> {
    fn drop(&mut self) {
        self.mailbox.close();
        let mut inlet = self.core.hub.inlet.lock();
        inlet.handlers.retain(|other| !Arc::ptr_eq(other, &self.mailbox));
    }
}

// === impl Feed ===

/// The reflector's end of the hub. When the reflector ends, handlers finish what they have and end too.
struct Feed<K: Object>(Arc<Hub<K>>);

impl<K: Object> Feed<K> {
    fn apply(&self, change: impl FnOnce(&mut Writer<K>) -> Vec<Delta<K>>) {
        let mut inlet = self.0.inlet.lock();
        let deltas = change(&mut inlet.writer);
        for handler in &inlet.handlers {
            handler.push(&deltas);
        }
    }
}

impl<K: Object> Sink<K> for Feed<K> {
    fn replace(&mut self, replacement: Replacement<K>) {
        let mut inlet = self.0.inlet.lock();
        let deltas = inlet.writer.replace(replacement);
        for handler in &inlet.handlers {
            handler.push(&deltas);
            handler.listed();
        }
    }

    fn upsert(&mut self, object: K) {
        self.apply(|writer| writer.upsert(object));
    }

    fn delete(&mut self, last: K) {
        self.apply(|writer| writer.delete(last));
    }

    fn delete_key(&mut self, key: &trimtab_apimachinery_meta::ObjectKey, resource_version: &str) {
        self.apply(|writer| writer.delete_key(key, resource_version));
    }

    fn bookmark(&mut self, resource_version: &str) {
        self.0.inlet.lock().writer.bookmark(resource_version);
    }

    fn resource_version(&self) -> String {
        self.0.store.resource_version()
    }
}

impl<K: Object> Drop for Feed<K> {
    fn drop(&mut self) {
        for handler in &self.0.inlet.lock().handlers {
            handler.finish();
        }
        self.0.store.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use futures::{FutureExt, StreamExt};
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;
    use crate::tests::clauses::{Ordered, complete, view};

    fn object(version: u32) -> ConfigMap {
        let name = format!("object-{version}");
        let meta = json!({"name": name, "uid": name, "resourceVersion": version.to_string()});
        serde_json::from_value(json!({"metadata": meta})).unwrap()
    }

    /// Who joins between two changes, or during one, misses neither and hears of neither twice.
    #[test]
    fn joining_races_with_no_change() {
        let (store, writer) = store::store();
        let hub = Arc::new(Hub {
            store: store.clone(),
            panics: AtomicU64::new(0),
            inlet: Mutex::new(Inlet {
                writer,
                handlers: Vec::new(),
            }),
        });
        let mut feed = Feed(hub.clone());
        let informer = SharedInformer::from_core(Arc::new(Core {
            hub,
            status: StatusHandle::default(),
            _stop: CancellationToken::new().drop_guard(),
        }));
        let (begun, enough) = (AtomicBool::new(false), AtomicBool::new(false));
        let joined = std::thread::scope(|scope| {
            scope.spawn(|| {
                for version in 1..3000 {
                    feed.upsert(object(version));
                    begun.store(true, Ordering::Relaxed);
                    if enough.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            while !begun.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            let joined: Vec<_> = (0..30).map(|_| informer.deltas()).collect();
            enough.store(true, Ordering::Relaxed);
            joined
        });
        let stored = view(&store);
        for mut deltas in joined {
            let mut ordered = Ordered::default();
            while let Some(Some(delta)) = deltas.next().now_or_never() {
                ordered.told(&delta).unwrap();
            }
            complete(&ordered.known, &stored).unwrap();
        }
    }
}
