//! The manager: what runs together, in one client, one set of caches and one life.

mod endpoints;
mod lead;
mod part;
mod run;

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::Client;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use trimtab_client_cache::informer::{InformerFactory, Selection};
use trimtab_client_cache::reflector;
use trimtab_client_coordination::leader::ElectionConfig;
use trimtab_client_coordination::sharding::MemberConfig;

use crate::builder::ControllerBuilder;
use crate::cluster::Cluster;
use crate::controller::{Begin, Controller};
use crate::error::{Error, Result};
use crate::introspection::Introspection;
use crate::metrics::{Figures, Metrics};
use crate::rbac::{Rule, Rules};
use crate::reconcile::Reconcile;
use crate::serving::Health;
use crate::subject::{RequestKey, Subject};

pub use endpoints::Endpoints;
use endpoints::{Bound, Ready};
pub use part::{Lead, Part};

/// How long turns that are under way at the stop may take; controller-runtime's figure.
const GRACE: Duration = Duration::from_secs(30);

/// Runs controllers together: they share a client, caches, an event recorder and one life.
pub struct Manager {
    /// With the client, which counts requests.
    informers: InformerFactory,
    name: String,
    selection: Selection,
    grace: Duration,
    sync_within: Option<Duration>,
    waiting: Mutex<Parts>,
    election: Option<ElectionConfig>,
    membership: Option<MemberConfig>,
    introspection: Introspection,
    endpoints: Mutex<Option<Endpoints>>,
    bound: Bound,
    health: Health,
    metrics: Arc<Metrics>,
    run: AtomicBool,
    ready: Ready,
}

/// What waits for the manager to run.
#[derive(Default)]
struct Parts {
    controllers: Vec<Waiting>,
    parts: Vec<Part>,
    clusters: Vec<Cluster>,
    /// Of controllers, parts and clusters.
    names: HashSet<(&'static str, String)>,
    rules: Rules,
}

/// A controller that waits for the manager to run.
struct Waiting {
    controller: Box<dyn Begin>,
    figures: Arc<Figures>,
}

impl Manager {
    /// A manager without controllers. Its name is that of the program until [`Manager::name`] says otherwise.
    ///
    /// It is given a client, or an [`InformerFactory`] whose watches and caches it shares with whoever has them. All requests
    /// go through the client and are counted; what the server warns of is logged, once.
    pub fn new(cluster: impl Into<InformerFactory>) -> Self {
        let (metrics, informers) = (Arc::new(Metrics::new()), cluster.into());
        let client = metrics.observe(informers.client().clone());
        Self {
            informers: informers.through(client),
            name: program(),
            selection: Selection::all(),
            grace: GRACE,
            sync_within: None,
            waiting: Mutex::default(),
            election: None,
            membership: None,
            introspection: Introspection::new(program()),
            endpoints: Mutex::default(),
            bound: Bound::default(),
            health: Health::new(),
            metrics,
            run: AtomicBool::new(false),
            ready: Ready::default(),
        }
    }

    /// The name of the field manager and of the reporter of events. It decides which fields this program owns: another
    /// name is another owner. At most 128 bytes.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            introspection: Introspection::new(&*name),
            name,
            ..self
        }
    }

    /// Watches one namespace instead of all; kinds without namespaces are watched as a whole.
    #[must_use]
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        self.selecting(Selection::in_namespace(namespace))
    }

    /// What the server warns of that the author knows, by how its text begins: it is not logged. For a kind that is deprecated and
    /// has to be watched all the same.
    #[must_use]
    pub fn aware_of(self, warning: impl Into<String>) -> Self {
        self.metrics.know(warning.into());
        self
    }

    /// Which objects are watched of each kind that has namespaces, and what is kept of the objects of every kind, unless a
    /// [`Watch`](crate::source::Watch) says otherwise. Label and field selectors are for every kind that has namespaces. Set it
    /// before controllers and clusters are added.
    #[must_use]
    pub fn selecting(self, selection: Selection) -> Self {
        Self { selection, ..self }
    }

    /// How informers list and watch. The default is as those that the manager was given. Set it before clusters are added, and
    /// before anyone asks for the [`Manager::informers`].
    #[must_use]
    pub fn watching(self, watching: reflector::Config) -> Self {
        Self {
            informers: self.informers.watching(watching),
            ..self
        }
    }

    /// How long turns that are under way at the stop may take before they are cut off; and then the parts of the
    /// manager, stage by stage. The default is 30 seconds.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Fails [`Manager::run`] if the caches are not filled within this time. By default a controller waits for ever, as for a
    /// kind that is yet to be installed; meanwhile the manager is not ready and says what it waits for.
    #[must_use]
    pub fn sync_within(self, deadline: Duration) -> Self {
        Self {
            sync_within: Some(deadline),
            ..self
        }
    }

    /// Works only while it leads, by election among all managers with the same Lease; what is made
    /// [without leader](ControllerBuilder::without_leader) works all the same. Caches are filled and queues kept
    /// meanwhile, so that work begins at once. A manager that loses the leadership stops that work, and may lead again:
    /// the process does not end.
    ///
    /// The grace of the election is that of the manager.
    #[must_use]
    pub fn elected(self, election: ElectionConfig) -> Self {
        Self {
            election: Some(election),
            ..self
        }
    }

    /// Makes the manager a member of a group of replicas that share the keys of its [sharded](ControllerBuilder::sharded)
    /// controllers. At its stop it leaves the group while its turns end, so that others go on at once.
    ///
    /// The grace of the membership is that of the manager.
    #[must_use]
    pub fn sharded(self, member: MemberConfig) -> Self {
        Self {
            membership: Some(member),
            ..self
        }
    }

    /// Tells health and metrics to those who ask. A manager has no endpoints unless it is given some.
    #[must_use]
    pub fn endpoints(self, endpoints: Endpoints) -> Self {
        Self {
            endpoints: Mutex::new(Some(endpoints)),
            ..self
        }
    }

    /// The checks behind the health endpoints, to add others: *ready* has one of the caches, *live* one of the leadership and one
    /// of the membership.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Where the endpoints are, once the manager runs.
    pub fn address(&self) -> Option<SocketAddr> {
        self.bound.address()
    }

    /// Describes a controller that reconciles `S`s: the objects of a kind, or [keys](crate::Keyed) of its own.
    pub fn controller<S: Subject, R: Reconcile<S>>(&self, reconciler: R) -> ControllerBuilder<'_, S, R> {
        ControllerBuilder::new(self, reconciler)
    }

    /// Adds another cluster, for controllers and watches to work [on](crate::ControllerBuilder::on).
    ///
    /// # Errors
    /// [`Error::NameTaken`]; [`Error::Invalid`] for the empty name, which is that of the manager's own;
    /// [`Error::AlreadyRun`].
    pub fn cluster(&self, name: impl Into<String>, client: Client) -> Result<Cluster> {
        let name = name.into();
        if name.is_empty() {
            return Err(Error::Invalid("a further cluster needs a name".to_owned()));
        }
        let mut waiting = self.before_the_run("cluster", &name)?;
        let client = self.metrics.observe(client);
        let informers = InformerFactory::with_config(client, self.informers.config().clone());
        let cluster = Cluster::new(name, informers, self.selection.clone());
        waiting.clusters.push(cluster.clone());
        Ok(cluster)
    }

    /// Adds something that runs beside the controllers: a server, a task, a task of the leader. What it brings of checks,
    /// figures and rules is the manager's from now on.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; [`Error::AlreadyRun`]; [`Error::Part`] if one of its checks has the name of another one.
    pub fn part(&self, part: impl Into<Part>) -> Result<()> {
        let mut part = part.into();
        let mut waiting = self.before_the_run("part", &part.name)?;
        let brings = std::mem::take(&mut part.brings);
        for (name, check) in brings.checks {
            let added = self.health.ready(name, move || check());
            added.map_err(|error| Error::part(part.name.clone(), &Error::other(error)))?;
        }
        brings
            .figures
            .into_iter()
            .for_each(|figures| self.metrics.also(figures));
        waiting.rules.extend(brings.rules);
        waiting.parts.push(part);
        Ok(())
    }

    /// The name by which it writes.
    pub fn field_manager(&self) -> &str {
        &self.name
    }

    /// The client, with its requests counted.
    pub fn client(&self) -> &Client {
        self.informers.client()
    }

    /// The informers on the manager's own cluster, which its controllers share with whoever asks: for the same type and
    /// selection there is one watch and one cache. They work before the manager runs, and without it.
    pub fn informers(&self) -> &InformerFactory {
        &self.informers
    }

    /// Whether the caches of all controllers are filled and the manager is not stopping.
    pub fn is_ready(&self) -> bool {
        self.ready.is_set()
    }

    /// Waits until it [is ready](Manager::is_ready). Cancelling loses nothing.
    pub async fn ready(&self) {
        self.ready.reached().await;
    }

    /// The figures of all controllers, queues, informers, parts and requests and of the process, in the OpenMetrics text format.
    pub fn metrics_text(&self) -> String {
        self.metrics.text()
    }

    /// What the manager needs to be allowed, as its controllers and parts declare it: to be printed as a Role, or checked by a test.
    pub fn rules(&self) -> Rules {
        let mut rules = self.waiting.lock().rules.clone();
        rules.add(Rule::events());
        if self.election.is_some() {
            rules.add(Rule::leases());
        }
        if self.membership.is_some() {
            rules.add(Rule::leases_of_members());
        }
        if self
            .endpoints
            .lock()
            .as_ref()
            .is_some_and(Endpoints::is_authorized)
        {
            rules.extend(Rule::reviews());
        }
        rules
    }

    /// Starts everything and runs until `stop`: servers first, then informers, then each controller as soon as its caches are
    /// filled. It stops against that order: no turn is begun any more, those under way may end, the last events are written,
    /// the informers stop, and the servers go last.
    ///
    /// Dropping the future stops everything at once.
    ///
    /// # Errors
    /// [`Error::AlreadyRun`]; [`Error::Invalid`] for a name that the server would not take; [`Error::NotSynced`];
    /// [`Error::Part`] if something ended that should run; [`Error::Other`] for an election or a membership that cannot work or an
    /// address that cannot be listened on; [`Error::CutOff`] if turns had to be cut off.
    pub async fn run(&self, stop: CancellationToken) -> Result<()> {
        run::run(self, stop).await
    }

    pub(crate) fn is_sharded(&self) -> bool {
        self.membership.is_some()
    }

    /// Takes a controller that its builder has described.
    pub(crate) fn add<Q: RequestKey>(
        &self,
        handle: &Controller<Q>,
        workers: usize,
        rules: Vec<Rule>,
        controller: Box<dyn Begin>,
    ) -> Result<()> {
        let name = handle.name();
        let mut waiting = self.before_the_run("controller", name)?;
        let figures = self.metrics.controller(name, workers, handle.queue().clone());
        let figures = Arc::new(figures);
        waiting.controllers.push(Waiting { controller, figures });
        waiting.rules.extend(rules);
        Ok(())
    }

    /// Takes a name, if it is not too late.
    fn before_the_run(&self, what: &'static str, name: &str) -> Result<parking_lot::MutexGuard<'_, Parts>> {
        let mut waiting = self.waiting.lock();
        if self.run.load(Ordering::Acquire) {
            return Err(Error::AlreadyRun);
        }
        if !waiting.names.insert((what, name.to_owned())) {
            return Err(Error::NameTaken {
                what,
                name: name.to_owned(),
            });
        }
        Ok(waiting)
    }
}

/// The name of the program, as other clients of Kubernetes use it.
fn program() -> String {
    let path = std::env::args().next().unwrap_or_default();
    let stem = std::path::Path::new(&path)
        .file_stem()
        .and_then(|stem| stem.to_str());
    stem.filter(|stem| !stem.is_empty())
        .unwrap_or("trimtab")
        .to_owned()
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager")
            .field("name", &self.name)
            .field("ready", &self.is_ready())
            .finish_non_exhaustive()
    }
}
