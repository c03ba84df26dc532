//! Shared informers: one reflector and one store for any number of handlers.
//!
//! A change goes to the store first, then to every handler's own queue, in one step: who joins late is told of all that
//! is stored, then of every change after that, of each once.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cached::{Cached, Undecodables, Untyped};
pub use crate::factory::InformerFactory;
use crate::lister::Lister;
use crate::mailbox::{Everything, Mailbox};
use crate::reflector::{Config, Sink, StatusHandle, UntypedReflector};
pub use crate::selection::Selection;
use crate::store::{self, Replacement, Store, UntypedWriter, WaitError};
use crate::{Delta, Object};

mod metadata;
mod status;

pub use metadata::{Change, MetadataInformer, MetadataRegistration};
pub use status::{HandlerStatus, InformerStatus, Unhealthy};

/// After how many deltas a handler's task lets others run.
const DELTAS_PER_TURN: u32 = 32;

/// The shortest time between two resyncs of a handler; as client-go's.
const SHORTEST_RESYNC: Duration = Duration::from_secs(1);

/// A running informer. Clones share it; it stops when the last clone, registration and stream is dropped. Stores and
/// listers do not keep it running: after it has stopped they show what was seen last.
pub struct SharedInformer<K> {
    core: Arc<Core>,
    of: PhantomData<fn() -> K>,
}

/// How a handler is told. The default is without a name and without resyncs.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Handling {
    /// What the handler is called in status, metrics and logs.
    pub name: String,
    /// After how long the handler is told of every object again, in the state that it knows, as an update from that state to
    /// itself ([`Delta::is_resync`]). Shorter times than a second count as a second. What has to be told otherwise comes
    /// first, and no resync begins before the one before it has ended.
    pub resync: Option<Duration>,
}

/// A handler's place at an informer. Dropping it leaves: the handler is told nothing more.
#[must_use = "dropping the registration removes the handler"]
pub struct Registration<K: Object> {
    place: Place,
    of: PhantomData<fn() -> K>,
}

/// The deltas of an informer as a stream. It does not end while the informer runs. Taking the next delta says that the
/// one before has been handled.
#[must_use = "streams do nothing unless polled"]
pub struct Deltas<K: Object> {
    seat: Seat,
    line: Line,
    of: PhantomData<fn() -> K>,
}

/// Says when a handler has seen the whole initial list (*Synced*). Clones say the same.
#[derive(Clone, Debug)]
pub struct Synced(watch::Receiver<bool>);

/// An informer on objects of whatever type.
pub(crate) struct Core {
    hub: Arc<Hub>,
    kind: String,
    resource: String,
    metadata_only: bool,
    selection: Selection,
    statuses: Vec<StatusHandle>,
    undecodable: Undecodables,
    _stop: DropGuard,
}

/// Where changes go: the store, then the handlers, under one lock.
struct Hub {
    store: Store<Untyped>,
    panics: AtomicU64,
    /// Lock order: this, then the store's, then a mailbox's.
    inlet: Mutex<Inlet>,
}

struct Inlet {
    /// One for each reflector.
    writers: Vec<UntypedWriter>,
    handlers: Vec<Handler>,
}

struct Handler {
    name: String,
    mailbox: Arc<Mailbox>,
}

/// A handler's place, and the task that calls it.
struct Place {
    seat: Seat,
    task: JoinHandle<()>,
}

struct Seat {
    mailbox: Arc<Mailbox>,
    core: Arc<Core>,
}

/// Where a handler's deltas come from. It does not keep the informer running.
struct Line {
    mailbox: Arc<Mailbox>,
    hub: Arc<Hub>,
    resync: Option<Interval>,
}

impl Handling {
    /// Calls the handler by a name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Tells of everything again after this time.
    #[must_use]
    pub fn resync(self, period: Duration) -> Self {
        Self {
            resync: Some(period),
            ..self
        }
    }
}

// === impl SharedInformer ===

impl<K> Clone for SharedInformer<K> {
    fn clone(&self) -> Self {
        Self::from_core(self.core.clone())
    }
}

impl<K> SharedInformer<K> {
    pub(crate) fn from_core(core: Arc<Core>) -> Self {
        Self {
            core,
            of: PhantomData,
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
    /// Starts an informer of its own. [`InformerFactory`] hands out shared ones.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(client: Client, kind: &K::DynamicType, selection: Selection, config: &Config) -> Self {
        let reflectors = UntypedReflector::of_each_namespace::<K>(&client, kind, &selection, config);
        let resource = match &*K::group(kind) {
            "" => K::plural(kind).into_owned(),
            group => format!("{}.{group}", K::plural(kind)),
        };
        let core = Core::start(
            reflectors,
            K::kind(kind).into_owned(),
            resource,
            K::metadata_api(),
            selection,
        );
        Self::from_core(core)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The stored objects.
    pub fn store(&self) -> Store<K> {
        self.core.hub.store.cast()
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
    pub fn add_handler(&self, handler: impl FnMut(Delta<K>) + Send + 'static) -> Registration<K> {
        self.add_handler_with(Handling::default(), handler)
    }

    /// [`SharedInformer::add_handler`], with a name or resyncs.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn add_handler_with(
        &self,
        handling: Handling,
        mut handler: impl FnMut(Delta<K>) + Send + 'static,
    ) -> Registration<K> {
        let told = move |delta: Delta<Untyped>| handler(delta.cast());
        Registration {
            place: self.core.handle(handling, Box::new(told)),
            of: PhantomData,
        }
    }

    /// The deltas as a stream, beginning with all objects that are there.
    pub fn deltas(&self) -> Deltas<K> {
        self.deltas_with(Handling::default())
    }

    /// [`SharedInformer::deltas`], with a name or resyncs.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn deltas_with(&self, handling: Handling) -> Deltas<K> {
        Deltas::of(self.core.join(handling))
    }

    /// Waits until the store has the first list.
    ///
    /// # Errors
    /// [`WaitError::Stopped`]: the informer's runtime is shutting down.
    pub async fn synced(&self) -> Result<(), WaitError> {
        self.core.synced().await
    }

    /// What the informer is doing.
    pub fn status(&self) -> InformerStatus {
        self.core.status()
    }

    /// What tells of the reflectors even when the informer has stopped.
    #[cfg(test)]
    pub(crate) fn status_handles(&self) -> Vec<StatusHandle> {
        self.core.statuses.clone()
    }
}

// === impl Core ===

impl Core {
    fn start(
        reflectors: Vec<UntypedReflector>,
        kind: String,
        resource: String,
        metadata_only: bool,
        selection: Selection,
    ) -> Arc<Self> {
        let (store, writers) = store::store_in(store::Scope::of(&selection));
        let hub = Arc::new(Hub {
            store,
            panics: AtomicU64::new(0),
            inlet: Mutex::new(Inlet {
                writers,
                handlers: Vec::new(),
            }),
        });
        let stop = CancellationToken::new();
        let statuses = reflectors.iter().map(UntypedReflector::status_handle).collect();
        let first = reflectors.first();
        let undecodable = first.map(UntypedReflector::undecodable).unwrap_or_default();
        for (part, reflector) in reflectors.into_iter().enumerate() {
            let hub = hub.clone();
            let (stopped, mut sink) = (stop.clone(), Feed { hub, part });
            tokio::spawn(async move {
                stopped.run_until_cancelled(reflector.run(&mut sink)).await;
            });
        }
        Arc::new(Self {
            hub,
            kind,
            resource,
            metadata_only,
            selection,
            statuses,
            undecodable,
            _stop: stop.drop_guard(),
        })
    }

    async fn synced(&self) -> Result<(), WaitError> {
        self.hub.store.synced().await
    }

    fn handle(
        self: &Arc<Self>,
        handling: Handling,
        mut handler: Box<dyn FnMut(Delta<Untyped>) + Send>,
    ) -> Place {
        let (name, kind) = (handling.name.clone(), self.kind.clone());
        let (seat, mut line) = self.join(handling);
        let handles = async move {
            let mut handled = 0_u32;
            while let Some(delta) = std::future::poll_fn(|cx| line.poll_next(cx)).await {
                let key = delta.object().shared_key().clone();
                if catch_unwind(AssertUnwindSafe(|| handler(delta))).is_err() {
                    line.hub.panics.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%kind, handler = %name, %key, "a handler panicked; it has not seen this change");
                }
                handled = handled.wrapping_add(1);
                if handled.is_multiple_of(DELTAS_PER_TURN) {
                    tokio::task::yield_now().await;
                }
            }
        };
        Place {
            seat,
            task: tokio::spawn(handles),
        }
    }

    fn join(self: &Arc<Self>, handling: Handling) -> (Seat, Line) {
        let resync = handling.resync.map(|period| {
            let period = period.max(SHORTEST_RESYNC);
            let mut interval = tokio::time::interval_at(Instant::now() + period, period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        let hub = &self.hub;
        let mailbox = Arc::new(Mailbox::new());
        let mut inlet = hub.inlet.lock();
        if hub.store.is_synced() {
            mailbox.begin(hub.store.list().into());
        }
        inlet.handlers.push(Handler {
            name: handling.name,
            mailbox: mailbox.clone(),
        });
        drop(inlet);
        let line = Line {
            mailbox: mailbox.clone(),
            hub: hub.clone(),
            resync,
        };
        let seat = Seat {
            mailbox,
            core: self.clone(),
        };
        (seat, line)
    }
}

// === impl Registration, Deltas, Synced ===

impl Place {
    fn sync_signal(&self) -> Synced {
        Synced(self.seat.mailbox.synced())
    }

    async fn leave(self) {
        self.seat.mailbox.close();
        // The task catches the handler's panics, and it is not cancelled but by the end of the runtime.
        let _ended = self.task.await;
    }
}

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
        self.place.sync_signal()
    }

    /// How many objects the handler still has to be told of.
    pub fn backlog(&self) -> usize {
        self.place.seat.mailbox.backlog()
    }

    /// Removes the handler and waits until a call that is under way has returned. Must not be awaited by the handler
    /// itself. If cancelled, the handler is removed, but a call may still be under way.
    pub async fn leave(self) {
        self.place.leave().await;
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
    fn of((seat, line): (Seat, Line)) -> Self {
        Self {
            seat,
            line,
            of: PhantomData,
        }
    }

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

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delta<K>>> {
        let next = self.line.poll_next(cx);
        next.map(|delta| delta.map(Delta::cast))
    }
}

impl Line {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delta<Untyped>>> {
        while self
            .resync
            .as_mut()
            .is_some_and(|interval| interval.poll_tick(cx).is_ready())
        {
            self.mailbox.resync(self.hub.store.list().into());
        }
        self.mailbox.poll_next(&self.hub.store, cx)
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

impl Hub {
    fn leave(&self, mailbox: &Arc<Mailbox>) {
        let mut inlet = self.inlet.lock();
        inlet
            .handlers
            .retain(|other| !Arc::ptr_eq(&other.mailbox, mailbox));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.mailbox.close();
        self.core.hub.leave(&self.mailbox);
    }
}

// === impl Feed ===

/// One reflector's end of the hub. When all reflectors have ended, handlers finish what they have and end too.
struct Feed {
    hub: Arc<Hub>,
    part: usize,
}

impl Feed {
    fn apply(&self, change: impl FnOnce(&mut UntypedWriter) -> Vec<Delta<Untyped>>) {
        let Inlet { writers, handlers } = &mut *self.hub.inlet.lock();
        let deltas = change(&mut writers[self.part]);
        // Before the first list is complete, handlers wait for it.
        if !deltas.is_empty() && self.hub.store.is_synced() {
            handlers.iter().for_each(|handler| handler.mailbox.push(&deltas));
        }
    }
}

impl Sink<Untyped> for Feed {
    fn replace(&mut self, replacement: Replacement<Untyped>) {
        let Inlet { writers, handlers } = &mut *self.hub.inlet.lock();
        let store = &self.hub.store;
        let was_synced = store.is_synced();
        let deltas = writers[self.part].replace(replacement);
        if was_synced {
            handlers.iter().for_each(|handler| handler.mailbox.push(&deltas));
        } else if store.is_synced() {
            let all: Everything = store.list().into();
            handlers
                .iter()
                .for_each(|handler| handler.mailbox.begin(all.clone()));
        }
    }

    fn upsert(&mut self, object: Cached<Untyped>) {
        self.apply(|writer| writer.upsert(object));
    }

    fn delete(&mut self, last: Cached<Untyped>) {
        self.apply(|writer| writer.delete(last));
    }

    fn delete_key(&mut self, key: &trimtab_apimachinery_meta::ObjectKey, resource_version: &str) {
        self.apply(|writer| writer.delete_key(key, resource_version));
    }

    fn bookmark(&mut self, resource_version: &str) {
        self.hub.inlet.lock().writers[self.part].bookmark(resource_version);
    }

    fn resource_version(&self) -> String {
        self.hub.inlet.lock().writers[self.part].resource_version()
    }

    fn stored(&self, key: &trimtab_apimachinery_meta::ObjectKey) -> Option<Cached<Untyped>> {
        self.hub.store.get(key)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let inlet = self.hub.inlet.lock();
        inlet.writers[self.part].stop();
        if self.hub.store.is_stopped() {
            inlet.handlers.iter().for_each(|handler| handler.mailbox.finish());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::AtomicBool;

    use futures::{FutureExt as _, StreamExt as _};
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;
    use crate::cached::{Codec, Form};
    use crate::tests::clauses::{Ordered, complete, view};

    fn object(version: u32) -> ConfigMap {
        let name = format!("object-{version}");
        let meta = json!({"name": name, "uid": name, "resourceVersion": version.to_string()});
        serde_json::from_value(json!({"metadata": meta})).unwrap()
    }

    /// Who joins between two changes, or during one, misses neither and hears of neither twice.
    #[test]
    fn joining_races_with_no_change() {
        let (store, writers) = store::store_in(store::Scope::default());
        let hub = Arc::new(Hub {
            store: store.clone(),
            panics: AtomicU64::new(0),
            inlet: Mutex::new(Inlet {
                writers,
                handlers: Vec::new(),
            }),
        });
        let mut feed = Feed {
            hub: hub.clone(),
            part: 0,
        };
        let mut codec = Codec::new(&(), Form::default());
        feed.replace(Replacement {
            objects: Vec::new(),
            skipped: HashMap::new(),
            resource_version: "1".into(),
        });
        let informer = SharedInformer::<ConfigMap>::from_core(Arc::new(Core {
            hub,
            kind: "ConfigMap".into(),
            resource: "configmaps".to_owned(),
            metadata_only: false,
            selection: Selection::all(),
            statuses: Vec::new(),
            undecodable: Undecodables::default(),
            _stop: CancellationToken::new().drop_guard(),
        }));
        let (begun, enough) = (AtomicBool::new(false), AtomicBool::new(false));
        let joined = std::thread::scope(|scope| {
            scope.spawn(|| {
                for version in 2..3000 {
                    feed.upsert(codec.encode_object(&object(version)).unwrap().cast());
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
        let stored = view(&store.cast());
        for mut deltas in joined {
            let mut ordered = Ordered::default();
            while let Some(Some(delta)) = deltas.next().now_or_never() {
                ordered.told(&delta).unwrap();
            }
            complete(&ordered.known, &stored).unwrap();
        }
    }
}
