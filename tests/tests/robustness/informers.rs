//! The informers under test, with handlers that record what they are told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use kube::Client;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;
use trimtab::apimachinery::ObjectKey;
use trimtab::client::cache::index::Index;
use trimtab::client::cache::informer::{Deltas, Handling, Registration, Synced};
use trimtab::client::cache::reflector::Config;
use trimtab::client::cache::store::Store;
use trimtab::client::cache::{Cached, Delta, Form, Object, Selection, SharedInformer};

use crate::history::{HandlerId, HandlerSeen, InformerId, Kind, Log, Seen, Told, What};
use crate::model::{Content, Mark, Scope, Tier, View};
use crate::recorder::{TIER, VALUE, number};

/// How often those who asked for it are told again.
const RESYNC: Duration = Duration::from_secs(1);

/// The index by the label; objects without it are under the empty value.
const BY_TIER: &str = "tier";

/// In which way a handler takes what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Called at once.
    Prompt,
    /// Called at once, and again from time to time.
    PromptResynced,
    /// A stream, from which something is taken now and then.
    Slow,
    /// The same, told again from time to time.
    SlowResynced,
    /// A stream, from which nothing is taken before the end.
    Stuck,
}

impl How {
    pub(crate) const ALL: [Self; 5] = [
        Self::Prompt,
        Self::PromptResynced,
        Self::Slow,
        Self::SlowResynced,
        Self::Stuck,
    ];

    fn is_called(self) -> bool {
        matches!(self, Self::Prompt | Self::PromptResynced)
    }

    /// Whether something is to be taken from it during a run.
    pub(crate) fn is_slow(self) -> bool {
        matches!(self, Self::Slow | Self::SlowResynced)
    }
}

/// An informer of any kind.
pub(crate) trait Informer {
    fn id(&self) -> InformerId;
    fn join(&mut self, handler: HandlerId, how: How);
    /// Which handlers there are, and whether something can be taken from them.
    fn handlers(&self) -> Vec<(HandlerId, How)>;
    /// Takes at most so much for a handler.
    fn take(&mut self, handler: HandlerId, most: usize);
    /// Has a handler leave; `waits` until it has.
    fn leave(&mut self, handler: HandlerId, waits: bool) -> BoxFuture<'static, ()>;
    /// Notes what the informer and its handlers look like.
    fn look(&self);
    /// Waits until the store has this object at this version.
    fn has(&self, key: ObjectKey, version: u64) -> BoxFuture<'static, Result<(), String>>;
    /// How much handlers that are called still have to be told.
    fn backlog(&self) -> usize;
    /// Every object as JSON; decoded on the way.
    fn contents(&self) -> Result<BTreeMap<ObjectKey, Value>, String>;
    /// What the informer says of itself, for people.
    fn status(&self) -> String;
    /// Ends the informer: its handlers leave.
    fn end(self: Box<Self>);
}

/// An informer on objects of one type.
pub(crate) struct Watched<K: Object> {
    id: InformerId,
    log: Log,
    informer: SharedInformer<K>,
    handlers: Vec<Handler<K>>,
    /// Whether the first list has been noted.
    first: Arc<AtomicBool>,
    _first: AbortOnDropHandle<()>,
}

struct Handler<K: Object> {
    id: HandlerId,
    how: How,
    place: Place<K>,
}

enum Place<K: Object> {
    Called(Registration<K>),
    Stream(Deltas<K>),
}

/// The selection that sees what a scope says.
pub(crate) fn selection(scope: &Scope, form: Form) -> Selection {
    let selection = Selection::in_namespaces(scope.namespaces.clone()).form(form);
    let (labels, fields) = selectors(scope);
    selection.labels(labels).fields(fields)
}

/// The label selector and the field selector of a scope.
pub(crate) fn selectors(scope: &Scope) -> (String, String) {
    let labels = match scope.tier {
        Tier::Any => String::new(),
        Tier::Is(tier) => format!("{TIER}={tier}"),
        Tier::IsNot(tier) => format!("{TIER}!={tier}"),
    };
    let fields = scope.not_named.map(|name| format!("metadata.name!={name}"));
    (labels, fields.unwrap_or_default())
}

impl<K: Object<DynamicType = ()>> Watched<K> {
    pub(crate) fn start(
        id: InformerId,
        log: Log,
        client: Client,
        selection: Selection,
        config: &Config,
    ) -> Self {
        let informer = SharedInformer::<K>::start(client, &(), selection, config);
        let store = informer.store();
        let by_tier = Index::by(BY_TIER, |object: &Cached<K>| {
            vec![tier(object).unwrap_or_default()]
        });
        store.add_index(by_tier).expect("the first index of this name");
        let first = Arc::new(AtomicBool::new(false));
        let (noted, to) = (first.clone(), log.clone());
        let noting = tokio::spawn(async move {
            if store.synced().await.is_ok() {
                note_first(&noted, &to, id, &store);
            }
        });
        Self {
            id,
            log,
            informer,
            handlers: Vec::new(),
            first,
            _first: AbortOnDropHandle::new(noting),
        }
    }
}

impl<K: Object> Watched<K> {
    /// The store, with its first list noted if it has it.
    fn store(&self) -> Store<K> {
        let store = self.informer.store();
        note_first(&self.first, &self.log, self.id, &store);
        store
    }

    fn find(&mut self, id: HandlerId) -> Option<&mut Handler<K>> {
        self.handlers.iter_mut().find(|handler| handler.id == id)
    }
}

impl<K: Object> Informer for Watched<K> {
    fn id(&self) -> InformerId {
        self.id
    }

    fn join(&mut self, handler: HandlerId, how: How) {
        let store = self.store();
        let listed = store.is_synced().then(|| view(store.list()));
        self.log.note(self.id, What::Joined { handler, listed });
        let mut handling = Handling::named(format!("{how:?}-{handler}"));
        if matches!(how, How::PromptResynced | How::SlowResynced) {
            handling = handling.resync(RESYNC);
        }
        let place = if how.is_called() {
            let (log, id, first) = (self.log.clone(), self.id, self.first.clone());
            let signal = Arc::new(OnceLock::<Synced>::new());
            let asked = signal.clone();
            let registration = self.informer.add_handler_with(handling, move |delta| {
                note_first(&first, &log, id, &store);
                let synced = asked.get().is_some_and(Synced::is_synced);
                let told = told(&delta, handler, log.taking(), synced, &store);
                log.note(id, What::Told(told));
            });
            // The handler is not called before this task waits for something.
            let _ = signal.set(registration.sync_signal());
            Place::Called(registration)
        } else {
            Place::Stream(self.informer.deltas_with(handling))
        };
        self.handlers.push(Handler {
            id: handler,
            how,
            place,
        });
    }

    fn handlers(&self) -> Vec<(HandlerId, How)> {
        self.handlers
            .iter()
            .map(|handler| (handler.id, handler.how))
            .collect()
    }

    fn take(&mut self, id: HandlerId, most: usize) {
        let (log, informer, store) = (self.log.clone(), self.id, self.store());
        let Some(Handler {
            place: Place::Stream(deltas),
            ..
        }) = self.find(id)
        else {
            return;
        };
        let taking = log.taking();
        for _ in 0..most {
            let next = deltas.next().now_or_never();
            let Some(Some(delta)) = next else { return };
            let synced = deltas.sync_signal().is_synced();
            log.note(informer, What::Told(told(&delta, id, taking, synced, &store)));
        }
    }

    fn leave(&mut self, id: HandlerId, waits: bool) -> BoxFuture<'static, ()> {
        let Some(at) = self.handlers.iter().position(|handler| handler.id == id) else {
            return async {}.boxed();
        };
        let (log, informer) = (self.log.clone(), self.id);
        let left = move || log.note(informer, What::Left(id));
        match self.handlers.remove(at).place {
            Place::Called(registration) if waits => async move {
                registration.leave().await;
                left();
            }
            .boxed(),
            place => {
                drop(place);
                left();
                async {}.boxed()
            }
        }
    }

    fn look(&self) {
        let store = self.store();
        let status = self.informer.status();
        let handlers = self
            .handlers
            .iter()
            .zip(&status.handlers)
            .map(|(handler, status)| HandlerSeen {
                handler: handler.id,
                backlog: status.backlog,
                synced: status.synced,
            });
        let mut indexed = View::new();
        for value in store.index_values(BY_TIER).unwrap_or_default() {
            for object in store.by_index(BY_TIER, &value).unwrap_or_default() {
                let mut mark = mark(&object);
                if tier(&object).unwrap_or_default() != value {
                    mark.uid = format!("wrongly under {value:?}");
                }
                indexed.insert(object.key().clone(), mark);
            }
        }
        let seen = Seen {
            version: number(&status.resource_version).unwrap_or_default(),
            synced: status.synced,
            view: view(store.list()),
            indexed,
            handlers: handlers.collect(),
        };
        self.log.note(self.id, What::Seen(seen));
    }

    fn has(&self, key: ObjectKey, version: u64) -> BoxFuture<'static, Result<(), String>> {
        let store = self.informer.store();
        async move {
            let reached = |object: Option<&Cached<K>>| {
                let object =
                    object.filter(|object| number(&object.resource_version()).is_ok_and(|at| at >= version));
                object.map(|_| ())
            };
            store.wait_for(&key, reached).await.map_err(|e| e.to_string())
        }
        .boxed()
    }

    fn backlog(&self) -> usize {
        let called = self.handlers.iter().filter_map(|handler| match &handler.place {
            Place::Called(registration) => Some(registration.backlog()),
            Place::Stream(_) => None,
        });
        called.sum()
    }

    fn contents(&self) -> Result<BTreeMap<ObjectKey, Value>, String> {
        let one = |object: &Cached<K>| {
            object.decode().map_err(|e| e.to_string())?;
            let json = serde_json::from_str(&object.to_json()).map_err(|e| e.to_string())?;
            Ok((object.key().clone(), json))
        };
        self.informer.store().list().iter().map(one).collect()
    }

    fn status(&self) -> String {
        format!("{:?}", self.informer.status())
    }

    fn end(self: Box<Self>) {
        let Self {
            id,
            log,
            informer,
            handlers,
            ..
        } = *self;
        let left: Vec<_> = handlers.iter().map(|handler| handler.id).collect();
        drop((informer, handlers));
        left.into_iter()
            .for_each(|handler| log.note(id, What::Left(handler)));
    }
}

/// Notes the first list once it is there. Whoever looks first after it does so before anything else can have happened:
/// nothing is delivered for a moment after a list.
fn note_first<K>(first: &AtomicBool, log: &Log, id: InformerId, store: &Store<K>) {
    if store.is_synced() && !first.swap(true, Ordering::Relaxed) {
        log.note(id, What::FirstList(view(store.list())));
    }
}

fn told<K>(delta: &Delta<K>, handler: HandlerId, taking: u64, synced: bool, store: &Store<K>) -> Told {
    let object = delta.object();
    let kind = match delta {
        delta if delta.is_resync() => Kind::Resync,
        Delta::Added { initial, .. } => Kind::Added { initial: *initial },
        Delta::Updated { old, .. } => Kind::Updated { old: mark(old) },
        Delta::Deleted { observed, .. } => Kind::Deleted { observed: *observed },
        other => unreachable!("a kind of delta that the tests do not know: {other:?}"),
    };
    Told {
        handler,
        taking,
        synced,
        key: object.key().clone(),
        mark: mark(object),
        content: Content {
            tier: tier(object),
            value: object.text(["data", VALUE]).map(std::borrow::Cow::into_owned),
        },
        kind,
        stored: store.get(object.key()).as_ref().map(mark),
    }
}

fn tier<K>(object: &Cached<K>) -> Option<String> {
    object.label(TIER).map(std::borrow::Cow::into_owned)
}

fn mark<K>(object: &Cached<K>) -> Mark {
    Mark {
        uid: object.uid().into_owned(),
        version: number(&object.resource_version()).unwrap_or_default(),
    }
}

fn view<K>(objects: impl IntoIterator<Item = Cached<K>>) -> View {
    objects
        .into_iter()
        .map(|object| (object.key().clone(), mark(&object)))
        .collect()
}
