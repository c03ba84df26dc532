//! How a controller is described: what it reconciles, what it owns and watches, how much it does at once.

use std::any::TypeId;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use trimtab_apimachinery_meta::{LabelSelector, ObjectKey};
use trimtab_client_workqueue::{Backoff, Exponential, Jittered, WorkQueue};

use crate::cluster::Cluster;
use crate::controller::{Controller, Described, Settings};
use crate::error::{Error, Result};
use crate::failing::Failing;
use crate::manager::Manager;
use crate::predicate::Predicate;
use crate::rbac::Rule;
use crate::reconcile::Reconcile;
use crate::source::{self, Inlet, Source, Sources, Watch};
use crate::subject::{Reconciled, Subject};

/// How long a key waits for the caches to show what was written in its last turn, at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often all keys are looked at without a reason. controller-runtime's figure.
const RESYNC: Duration = Duration::from_secs(10 * 60 * 60);
/// How much longer a backoff may be by chance, as a part of itself.
const JITTER: f64 = 0.1;

/// A controller that is being described. Made by [`Manager::controller`]; [`ControllerBuilder::start`] hands it to the
/// manager.
#[must_use = "a controller does nothing before `start`"]
pub struct ControllerBuilder<'m, S: Subject, R> {
    manager: &'m Manager,
    reconciler: R,
    settings: Settings,
    named: bool,
    backoff: Box<dyn Backoff>,
    queue: trimtab_client_workqueue::Builder<S::Key>,
    main: Watch<S>,
    cluster: Option<Cluster>,
    sources: Vec<Source<S::Key>>,
    rules: Vec<Rule>,
    written: HashSet<TypeId>,
}

impl<'m, S: Subject, R: Reconcile<S>> ControllerBuilder<'m, S, R> {
    pub(crate) fn new(manager: &'m Manager, reconciler: R) -> Self {
        let name = S::kind_name().map(|kind| kind.to_lowercase());
        Self {
            manager,
            reconciler,
            named: name.is_some(),
            settings: Settings {
                name: name.unwrap_or_default(),
                workers: 1,
                patience: PATIENCE,
                resync: RESYNC,
                deadline: None,
                led: true,
                sharded: false,
                reporter: None,
            },
            backoff: match Jittered::new(Exponential::default(), JITTER) {
                Ok(backoff) => Box::new(backoff),
                Err(_) => Box::new(Exponential::default()),
            },
            queue: WorkQueue::builder(),
            main: Watch::new(),
            cluster: None,
            sources: Vec::new(),
            rules: Vec::new(),
            written: HashSet::new(),
        }
    }

    /// The controller's name in logs, metrics and on the live page; the default is its kind in lower case. Two controllers of
    /// a manager cannot have the same, and one without a kind has none until this gives it one.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self.named = true;
        self
    }

    /// In whose name events are written that its turns record (`reportingController`, by convention as
    /// `example.com/website-controller`); the default is the manager's name.
    pub fn reporting_as(mut self, controller: impl Into<String>) -> Self {
        self.settings.reporter = Some(controller.into());
        self
    }

    /// Watches a kind whose objects concern keys in any way: a change triggers the keys that `map` finds for the object
    /// before and after it. `map` must be quick and must not depend on what it was asked before.
    ///
    /// For `PartialObjectMeta` of a kind only metadata is watched, as a watch of its own.
    pub fn watches<T: Reconciled>(self, map: impl Fn(&T) -> Vec<S::Key> + Send + Sync + 'static) -> Self {
        self.source(Source::watch(Watch::new(), map))
    }

    /// Adds a source: a watch of some objects or changes only, a stream, a timer.
    pub fn source(mut self, source: Source<S::Key>) -> Self {
        self.sources.push(source);
        self
    }

    /// Says that turns write objects of a watched kind that they do not own. Without it, only what is owned can be written.
    pub fn writes<T: Reconciled>(mut self) -> Self {
        self.written.insert(TypeId::of::<T>());
        self.rules.extend(Rule::written::<T>());
        self
    }

    /// Says that the reconciler needs something else to be allowed, for requests of its own client.
    pub fn needs(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Works on another cluster than the manager's own: the kind, what it owns and what is watched without saying where are
    /// there, and turns write there.
    pub fn on(mut self, cluster: &Cluster) -> Self {
        self.cluster = Some(cluster.clone());
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

    /// Gives each flow of keys its turn, such as each namespace: among keys of one priority, the flows take turns, so that one
    /// with many keys does not hold up the others. `flow` must be quick and give the same answer for the same key.
    pub fn fair_by<F: Hash>(mut self, flow: impl Fn(&S::Key) -> F + Send + 'static) -> Self {
        self.queue = self.queue.fair_by(flow);
        self
    }

    /// How long a key waits for more urgent ones before it gets its share of turns all the same; the default is 1 second.
    pub fn ageing(mut self, ageing: Duration) -> Self {
        self.queue = self.queue.ageing(ageing);
        self
    }

    /// How often every key that the watches know of gets a turn without a reason, against what no watch can tell: changes
    /// outside the cluster. The default is 10 hours; each period is up to a tenth longer or shorter.
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

    /// How long a turn may take before it is cancelled, which is a failure of its key. What was collected of the status is
    /// written. By default a turn may take for ever.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = Some(deadline);
        self
    }

    /// Works on every replica, whoever leads: for what each of them has to do for itself.
    pub fn without_leader(mut self) -> Self {
        self.settings.led = false;
        self
    }

    /// Shares the keys with the other replicas of the manager, which [says](Manager::sharded) who they are: each replica works
    /// on its share, no two on one key at once, and what another one leaves or loses is taken over. Whose a key is follows from
    /// how it is shown. Elections do not concern such a controller.
    ///
    /// Every replica watches everything and drops what is another's. The one that is given a key may not have
    /// seen yet what the one before has just written: the server refuses what rests on that, and the key comes back.
    pub fn sharded(mut self) -> Self {
        self.settings.sharded = true;
        self.settings.led = false;
        self
    }

    /// Hands the controller to the manager: it starts and stops with it.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; [`Error::Invalid`] for a controller without workers, without a name or without anything that could
    /// trigger it, sharded in a manager that is not, or for settings that cannot work; [`Error::AlreadyRun`] if the manager runs
    /// already.
    pub fn start(self) -> Result<Controller<S::Key>> {
        let invalid = |why: &str| {
            let name = &self.settings.name;
            Err(Error::Invalid(format!("controller {name:?} {why}")))
        };
        if !self.named {
            return invalid("has no kind, and needs a name: add .named(…)");
        }
        if self.settings.sharded && !self.manager.is_sharded() {
            return invalid("is sharded, and its manager knows of no group: add Manager::sharded(…)");
        }
        if self.settings.workers == 0 {
            return invalid("has no workers");
        }
        if self.settings.resync.is_zero() {
            return invalid("has no time between resyncs");
        }
        if self.settings.deadline.is_some_and(|deadline| deadline.is_zero()) {
            return invalid("has a deadline that no turn can meet");
        }
        let cluster = self.cluster.or_else(|| self.main.is_on().cloned());
        let main = S::source(self.main);
        if main.is_none() && self.sources.is_empty() {
            return invalid("has no kind, and nothing else triggers it: add .watches(…) or .source(…)");
        }
        let queue = self.queue.build().map_err(Error::other)?;
        let inlet = Inlet {
            queue,
            failing: Arc::new(Failing::new(self.backoff)),
        };
        let sources = Sources::new();
        let mut rules = self.rules;
        for mut source in main.into_iter().chain(self.sources) {
            rules.append(&mut source.rules);
            sources.add(source);
        }
        let controller = Controller::new(self.settings.name.clone(), inlet.clone(), sources.clone());
        let workers = self.settings.workers;
        let described = Described {
            settings: self.settings,
            inlet,
            sources,
            reconciler: self.reconciler,
            cluster,
            written: self.written,
        };
        self.manager
            .add(&controller, workers, rules, Box::new(described))?;
        Ok(controller)
    }
}

impl<K: Reconciled, R: Reconcile<K>> ControllerBuilder<'_, K, R> {
    /// Watches a kind whose objects are made for `K`s: a change or deletion of one triggers the `K` that is its
    /// controller. [`Turn::apply`](crate::Turn::apply) and [`Turn::owned`](crate::Turn::owned) need it.
    pub fn owns<T: Reconciled>(self) -> Self {
        self.owns_by::<T>(Watch::new())
    }

    /// [`ControllerBuilder::owns`], of some objects or changes only.
    pub fn owns_by<T: Reconciled>(self, watch: Watch<T>) -> Self {
        self.source(source::of_owned::<K, T>(watch))
    }

    /// [Owns](ControllerBuilder::owns) a kind that `K`s select by labels, for [`Turn::claim`](crate::Turn::claim): what has no
    /// controller triggers the `K`s of its namespace that select it, and is found without a look at the rest. `selector` must be
    /// pure; `None` selects nothing.
    pub fn claims<T: Reconciled>(
        self,
        selector: impl Fn(&K) -> Option<LabelSelector> + Send + Sync + 'static,
    ) -> Self {
        self.owns::<T>().source(source::of_orphans::<K, T>(selector))
    }

    /// Watches a kind that `K`s refer to by name: a change of an object triggers the `K`s of whose `references` it is one, whether
    /// it was there before them or not. The `K`s are kept in an index by their references, so nothing is searched; each new
    /// state of a `K` is decoded once for it. `references` must be pure.
    ///
    /// ```ignore
    /// .refers_to::<Secret>(|database: &Database| vec![database.secret_key()])
    /// ```
    pub fn refers_to<T: Reconciled>(
        self,
        references: impl Fn(&K) -> Vec<ObjectKey> + Send + Sync + 'static,
    ) -> Self {
        self.refers_to_by::<T>(Watch::new(), references)
    }

    /// [`ControllerBuilder::refers_to`], of some objects or changes only.
    pub fn refers_to_by<T: Reconciled>(
        self,
        watch: Watch<T>,
        references: impl Fn(&K) -> Vec<ObjectKey> + Send + Sync + 'static,
    ) -> Self {
        self.source(source::of_referred::<K, T>(watch, references))
    }

    /// Which `K`s are watched, and which of their changes matter; all of them by default.
    pub fn watching(mut self, watch: Watch<K>) -> Self {
        self.main = watch;
        self
    }

    /// Leaves a `K` alone when only its status has changed: neither generation nor labels, annotations, finalizers,
    /// owners or deletion.
    pub fn ignore_status(mut self) -> Self {
        self.main = self.main.when(Predicate::beyond_status());
        self
    }
}

impl<S: Subject, R> fmt::Debug for ControllerBuilder<'_, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControllerBuilder")
            .field("settings", &self.settings)
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}
