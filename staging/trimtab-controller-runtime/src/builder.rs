//! How a controller is described: what it reconciles, what it owns and watches, how much it does at once.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::Cached;
use trimtab_client_workqueue::{Add, Backoff, Exponential, Jittered, Reason, WorkQueue};

use crate::controller::{Described, Settings};
use crate::error::{Error, Result};
use crate::failing::Failing;
use crate::manager::Manager;
use crate::reconcile::{Reconcile, Reconciled};
use crate::source::{self, Inlet, Sight, Source};

/// How long a key waits for the caches to show what was written in its last turn, at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often all keys are looked at without a reason. controller-runtime's figure.
const RESYNC: Duration = Duration::from_secs(10 * 60 * 60);
/// How much longer a backoff may be by chance, as a part of itself.
const JITTER: f64 = 0.1;

/// A controller that is being described. Made by [`Manager::controller`]; [`ControllerBuilder::start`] hands it to the
/// manager.
#[must_use = "a controller does nothing before `start`"]
pub struct ControllerBuilder<'m, K, R> {
    manager: &'m Manager,
    reconciler: R,
    settings: Settings,
    backoff: Box<dyn Backoff>,
    ignore_status: bool,
    sources: Vec<SourceOf>,
    kind: PhantomData<fn() -> K>,
}

/// Makes a source when there is a place for its triggers.
type SourceOf = Box<dyn FnOnce(Inlet) -> Source + Send>;

/// A controller of a manager, to be triggered from elsewhere. Clones are the same controller.
#[derive(Clone, Debug)]
pub struct Controller {
    name: String,
    inlet: Inlet,
}

impl<'m, K: Reconciled, R: Reconcile<K>> ControllerBuilder<'m, K, R> {
    pub(crate) fn new(manager: &'m Manager, reconciler: R) -> Self {
        let settings = Settings {
            name: K::kind(&K::DynamicType::default()).to_lowercase(),
            workers: 1,
            patience: PATIENCE,
            resync: RESYNC,
        };
        Self {
            manager,
            reconciler,
            settings,
            backoff: match Jittered::new(Exponential::default(), JITTER) {
                Ok(backoff) => Box::new(backoff),
                Err(_) => Box::new(Exponential::default()),
            },
            ignore_status: false,
            sources: Vec::new(),
            kind: PhantomData,
        }
    }

    /// The controller's name in logs and metrics; the default is its kind in lower case. Two controllers of a manager
    /// cannot have the same.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Watches a kind whose objects are made for `K`s: a change or deletion of one triggers the `K` that is its
    /// controller. [`Turn::apply`](crate::Turn::apply) and [`Turn::owned`](crate::Turn::owned) need it.
    pub fn owns<T: Reconciled>(self) -> Self {
        self.source::<T>(Sight::InView, source::controller::<K, T>)
    }

    /// Watches a kind whose objects concern `K`s in another way: a change triggers the keys that `map` finds for the
    /// object before and after it. `map` must be quick and must not depend on what it was asked before.
    pub fn watches<T: Reconciled>(self, map: impl Fn(&T) -> Vec<ObjectKey> + Send + 'static) -> Self {
        self.source(Sight::Hidden, source::decoded(map))
    }

    fn source<T: Reconciled>(
        mut self,
        sight: Sight,
        map: impl Fn(&Cached<T>) -> Vec<ObjectKey> + Send + 'static,
    ) -> Self {
        self.sources.push(Box::new(move |inlet| {
            source::watch::<T>(inlet, sight, map, source::any)
        }));
        self
    }

    /// Leaves a `K` alone when only its status has changed: neither generation nor labels, annotations, finalizers,
    /// owners or deletion.
    pub fn ignore_status(mut self) -> Self {
        self.ignore_status = true;
        self
    }

    /// How many keys are worked on at once; the default is 1. No key is ever worked on twice at once.
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = workers;
        self
    }

    /// How long a key that failed waits. The default is client-go's, 5 ms doubled up to 1000 s, and up to a tenth longer
    /// by chance.
    pub fn backoff(mut self, backoff: impl Backoff) -> Self {
        self.backoff = Box::new(backoff);
        self
    }

    /// How often every `K` gets a turn without a reason, against what no watch can tell: changes outside the cluster.
    /// The default is 10 hours; each period is up to a tenth longer or shorter.
    pub fn resync(mut self, period: Duration) -> Self {
        self.settings.resync = period;
        self
    }

    /// How long a key waits for the caches to show its last writes (*Own writes seen*) before it goes on with a
    /// warning. The default is 10 seconds.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self
    }

    /// Hands the controller to the manager: it starts and stops with it.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; [`Error::Invalid`] for no workers; [`Error::AlreadyRun`] if the manager runs already.
    pub fn start(self) -> Result<Controller> {
        if self.settings.workers == 0 {
            return Err(Error::Invalid(format!(
                "controller {:?} has no workers",
                self.settings.name
            )));
        }
        if self.settings.resync.is_zero() {
            return Err(Error::Invalid(format!(
                "controller {:?} has no time between resyncs",
                self.settings.name
            )));
        }
        let queue: WorkQueue<ObjectKey> = WorkQueue::builder().build().map_err(Error::other)?;
        let inlet = Inlet {
            queue,
            failing: Arc::new(Failing::new(self.backoff)),
        };
        let matters = if self.ignore_status {
            source::beyond_status::<K>
        } else {
            source::any::<K>
        };
        let controller = Controller {
            name: self.settings.name.clone(),
            inlet: inlet.clone(),
        };
        let described = Described {
            main: source::watch::<K>(inlet.clone(), Sight::InView, source::itself, matters),
            sources: self
                .sources
                .into_iter()
                .map(|source| source(inlet.clone()))
                .collect(),
            settings: self.settings,
            inlet,
            reconciler: self.reconciler,
            kind: PhantomData,
        };
        self.manager.add(
            controller.name.clone(),
            controller.inlet.queue.clone(),
            Box::new(described),
        )?;
        Ok(controller)
    }
}

impl<K, R> fmt::Debug for ControllerBuilder<'_, K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControllerBuilder")
            .field("settings", &self.settings)
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

impl Controller {
    /// The controller's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives a key a turn, for a reason that no watch can know. False: the controller has stopped.
    pub fn trigger(&self, key: ObjectKey, reason: impl Into<Reason>) -> bool {
        self.inlet.add(key, Sight::Hidden, Add::now().because(reason))
    }

    /// The controller's queue, to look at. Its counts of failures stay at 0, since the controller counts for itself.
    pub fn queue(&self) -> &WorkQueue<ObjectKey> {
        &self.inlet.queue
    }
}
