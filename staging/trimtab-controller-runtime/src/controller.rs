//! A controller: described, started by its manager, triggered and looked at from elsewhere.

use std::any::TypeId;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use trimtab_client_coordination::events::Recorder;
use trimtab_client_coordination::sharding::Shards;
use trimtab_client_workqueue::{Add, Reason, WorkQueue};

use crate::cluster::Cluster;
use crate::introspection::{ControllerState, Introspection, Observed, Timeline};
use crate::manager::Lead;
use crate::metrics::Figures;
use crate::reconcile::Reconcile;
use crate::share::Share;
use crate::source::{Inlet, LOW, Place, Running, Sight, Source, SourceId, Sources};
use crate::subject::{RequestKey, Subject};
use crate::turn::{Stores, World};
use crate::worker::{Reconciling, Stage, Worker};

/// What a controller was told by its builder.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    /// In whose name its events are; in the manager's unless it says.
    pub(crate) reporter: Option<String>,
    pub(crate) workers: usize,
    pub(crate) patience: Duration,
    pub(crate) resync: Duration,
    pub(crate) deadline: Option<Duration>,
    /// Whether it works only where its manager leads.
    pub(crate) led: bool,
    /// Whether the replicas of its manager share its keys.
    pub(crate) sharded: bool,
}

/// A controller of a manager, to be triggered from elsewhere. Clones are the same controller.
pub struct Controller<Q> {
    name: Arc<str>,
    inlet: Inlet<Q>,
    sources: Sources<Q>,
}

/// A controller that waits for its manager to run.
pub(crate) struct Described<S: Subject, R> {
    pub(crate) settings: Settings,
    pub(crate) inlet: Inlet<S::Key>,
    pub(crate) sources: Sources<S::Key>,
    pub(crate) reconciler: R,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) written: HashSet<TypeId>,
}

/// What a manager gives to its controllers.
pub(crate) struct Context {
    /// The name of the field manager.
    pub(crate) manager: String,
    pub(crate) cluster: Cluster,
    pub(crate) recorder: Recorder,
    /// This replica's share, where replicas share keys.
    pub(crate) shards: Option<Shards>,
    /// Where controllers show what they do, if anybody looks.
    pub(crate) introspection: Option<Introspection>,
    /// How long turns that are under way at a stop may take.
    pub(crate) grace: Duration,
}

/// A controller of any kind, before its manager runs.
pub(crate) trait Begin: Send {
    /// Starts the sources.
    fn begin(self: Box<Self>, context: &Context, figures: Arc<Figures>) -> Arc<dyn Operate>;
}

/// A controller of any kind, whose sources run.
pub(crate) trait Operate: Send + Sync {
    fn settings(&self) -> &Settings;

    fn sources(&self) -> Vec<Arc<dyn Running>>;

    /// What it does, for people.
    fn state(&self) -> ControllerState;

    /// Waits for the sources, then takes keys and gives them turns until it is to stop; turns that are under way then may end
    /// within the grace. Returns how many were cut off. Dropped, it cuts off all of them at once. May be called again after
    /// it has ended.
    fn work(&self, lead: Lead) -> BoxFuture<'_, usize>;

    /// Ends the sources and the queue, for good.
    fn close(&self);
}

impl<S: Subject, R: Reconcile<S>> Begin for Described<S, R> {
    fn begin(self: Box<Self>, context: &Context, figures: Arc<Figures>) -> Arc<dyn Operate> {
        let cluster = self.cluster.unwrap_or_else(|| context.cluster.clone());
        let stores = Arc::new(Stores::new(self.written));
        self.sources.start(Place {
            inlet: self.inlet.clone(),
            cluster: cluster.clone(),
            stores: stores.clone(),
        });
        let world = World {
            cluster,
            manager: context.manager.clone(),
            store: stores.main::<S>(),
            stores,
            recorder: match &self.settings.reporter {
                Some(reporter) => context.recorder.reporting_as(reporter),
                None => context.recorder.clone(),
            },
            applied: Default::default(),
            leadership: Default::default(),
        };
        let hand = Reconciling {
            reconciler: self.reconciler,
            world: Arc::new(world),
            deadline: self.settings.deadline,
        };
        let worker = Arc::new(Worker {
            hand: Box::new(hand),
            timeline: context.introspection.as_ref().map(|_| Timeline::new()),
            inlet: self.inlet,
            lost: Default::default(),
            sources: self.sources,
            figures,
            shards: context.shards.clone().filter(|_| self.settings.sharded),
            settings: self.settings,
            grace: context.grace,
            stage: Stage::default(),
        });
        if let (Some(introspection), Some(timeline)) = (&context.introspection, &worker.timeline) {
            let (settings, shown) = (&worker.settings, worker.clone());
            let observed = Observed::new(&*settings.name, timeline.clone())
                .workers(settings.workers)
                .queue(worker.inlet.queue.clone())
                .state(move || shown.state());
            introspection.controller(match S::kind_name() {
                Some(kind) => observed.kind(kind),
                None => observed,
            });
        }
        Arc::new(worker)
    }
}

impl<Q: RequestKey> Controller<Q> {
    pub(crate) fn new(name: String, inlet: Inlet<Q>, sources: Sources<Q>) -> Self {
        Self {
            name: name.into(),
            inlet,
            sources,
        }
    }

    /// The controller's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives a key a turn, for a reason that no watch can know. False: the controller has stopped.
    pub fn trigger(&self, key: Q, reason: impl Into<Reason>) -> bool {
        self.inlet.add(key, Sight::Hidden, Add::now().because(reason))
    }

    /// [`Controller::trigger`], with all that an add can say: when, how urgently, whether a backoff ends.
    pub fn trigger_with(&self, key: Q, add: Add) -> bool {
        self.inlet.add(key, Sight::Hidden, add)
    }

    /// Gives each key a turn that the controller's watches know of, when nothing more urgent waits: what all depends on has
    /// changed, such as a setting that no watch shows. False: the controller has stopped.
    pub fn trigger_all(&self, reason: impl Into<Reason>) -> bool {
        let add = Add::now().priority(LOW).because(reason).marked();
        let sources = self.sources.running();
        sources.iter().for_each(|source| source.again(&add, &Share::All));
        !self.inlet.queue.is_shut_down()
    }

    /// Adds a source. In a running controller it starts at once; it ends with the controller.
    ///
    /// What the source needs to be allowed is not among the rules of a manager that has told them already.
    pub fn add(&self, source: Source<Q>) -> SourceId {
        self.sources.add(source)
    }

    /// Removes a source: what it watches is watched no more, unless others do, and turns have no store of it any more. What it
    /// has triggered still has its turns. False: it was not there.
    pub fn remove(&self, source: SourceId) -> bool {
        self.sources.remove(source)
    }

    /// The controller's queue, to look at. Its counts of failures stay at 0, since the controller counts for itself.
    pub fn queue(&self) -> &WorkQueue<Q> {
        &self.inlet.queue
    }
}

impl<Q> Clone for Controller<Q> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            inlet: self.inlet.clone(),
            sources: self.sources.clone(),
        }
    }
}

impl<Q> fmt::Debug for Controller<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Controller").field(&self.name).finish()
    }
}
