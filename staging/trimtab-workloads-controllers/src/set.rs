//! The controllers together: which there are, started with one call, waited for, and stopped with a deadline.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trimtab_client_cache::informer::InformerFactory;
use trimtab_controller_runtime::Manager;

use crate::Options;
use crate::context::{Context, InvalidController, without_bookkeeping};
use crate::{
    autoscaler, cron_job, daemon_set, deployment, disruption, endpoints, ephemeral, garbage_collector, job,
    namespace, node_lifecycle, pod_collector, protection, quota, replica_set, role_aggregation, standing,
    stateful_set, volumes,
};

/// How long [`run`] waits for a server. kube-controller-manager's figure.
const SERVER_PATIENCE: Duration = Duration::from_secs(10);
/// The wait between two tries to reach the server.
const BETWEEN_TRIES: Duration = Duration::from_millis(250);
/// Whose fields they are that the controllers write, and who tells of it.
const MANAGER: &str = "trimtab-controller-manager";
/// What a set waits beyond the time that its controllers have for draining.
const MARGIN: Duration = Duration::from_secs(1);

type Run = fn(Context) -> BoxFuture<'static, Result<(), InvalidController>>;
type Describe = fn(&Manager, &Options) -> trimtab_controller_runtime::Result<()>;

/// How a controller is run.
#[derive(Clone, Copy)]
enum Work {
    /// By itself, since it does not reconcile objects of one kind; its watches are shared with the others.
    Alone(Run),
    /// By the manager that all of these share, with one cache for each kind.
    Managed(Describe),
}

/// Every controller: its name, the short name that kube-controller-manager takes too, and what it runs.
const CONTROLLERS: &[(&str, &str, Work)] = &[
    (
        garbage_collector::NAME,
        "garbagecollector",
        Work::Alone(|context| garbage_collector::run(context).boxed()),
    ),
    (
        standing::ROOT_CA,
        "root-ca-cert-publisher",
        Work::Alone(|context| standing::root_ca(context).boxed()),
    ),
    (
        standing::SERVICE_ACCOUNTS,
        "serviceaccount",
        Work::Alone(|context| standing::service_accounts(context).boxed()),
    ),
    (
        namespace::NAME,
        "namespace",
        Work::Alone(|context| namespace::run(context).boxed()),
    ),
    (
        protection::CLAIMS,
        "pvc-protection",
        Work::Alone(|context| protection::claims(context).boxed()),
    ),
    (
        protection::VOLUMES,
        "pv-protection",
        Work::Alone(|context| protection::volumes(context).boxed()),
    ),
    (
        replica_set::NAME,
        "replicaset",
        Work::Managed(replica_set::describe),
    ),
    (
        replica_set::REPLICATION,
        "replicationcontroller",
        Work::Managed(replica_set::describe_replication),
    ),
    (
        deployment::NAME,
        "deployment",
        Work::Managed(deployment::describe),
    ),
    (
        stateful_set::NAME,
        "statefulset",
        Work::Managed(stateful_set::describe),
    ),
    (daemon_set::NAME, "daemonset", Work::Managed(daemon_set::describe)),
    (
        node_lifecycle::NAME,
        "nodelifecycle",
        Work::Managed(node_lifecycle::describe),
    ),
    (
        node_lifecycle::EVICTION,
        "taint-eviction",
        Work::Managed(node_lifecycle::describe_eviction),
    ),
    (
        autoscaler::NAME,
        "horizontalpodautoscaling",
        Work::Managed(autoscaler::describe),
    ),
    (
        volumes::CLAIMS,
        "persistentvolume-binder",
        Work::Managed(volumes::describe),
    ),
    (
        ephemeral::NAME,
        "ephemeral-volume",
        Work::Managed(ephemeral::describe),
    ),
    (
        disruption::NAME,
        "disruption",
        Work::Managed(disruption::describe),
    ),
    (
        pod_collector::NAME,
        "podgc",
        Work::Managed(pod_collector::describe),
    ),
    (quota::NAME, "resourcequota", Work::Managed(quota::describe)),
    (
        role_aggregation::NAME,
        "clusterrole-aggregation",
        Work::Managed(role_aggregation::describe),
    ),
    (cron_job::NAME, "cronjob", Work::Managed(cron_job::describe)),
    (job::NAME, "job", Work::Managed(job::describe)),
    (job::TTL, "ttl-after-finished", Work::Managed(job::describe_ttl)),
    (
        endpoints::SLICES,
        "endpointslice",
        Work::Managed(endpoints::describe_slices),
    ),
    (
        endpoints::MIRROR,
        "endpointslicemirroring",
        Work::Managed(endpoints::describe_mirror),
    ),
    (
        endpoints::CLASSIC,
        "endpoint",
        Work::Managed(endpoints::describe_classic),
    ),
];

/// How many of them there are in every cluster, wherever pods come from: the first ones.
const ESSENTIAL: usize = 6;

/// Why controllers did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// There is no controller of this name.
    #[error("{name:?} is not in the list of known controllers ({})", known().join(", "))]
    Unknown {
        /// The name as it was given.
        name: String,
    },
    /// The server could not be reached for ten seconds. Check its address and whether it runs.
    #[error("failed to wait for apiserver being healthy: {}", at_bottom(.0))]
    Unreachable(#[source] Box<kube::Error>),
    /// The controllers cannot work together. This is a defect of one of them.
    #[error("the controllers of workloads cannot be described")]
    Manager(#[from] trimtab_controller_runtime::Error),
    /// A controller ended, which none does by itself. This is a defect of the controller.
    #[error("controller {name} ended: {why}")]
    Ended {
        /// The controller's name.
        name: String,
        /// What it ended with.
        why: String,
    },
    /// What the controllers had begun took longer than they were given; it was cut off. The next start takes it up.
    #[error("controllers did not finish within {0:?} of being stopped")]
    Undrained(Duration),
}

/// Running controllers. Dropping it stops them at once; [`ControllerSet::shut_down`] lets them finish.
///
/// Which of several replicas runs them is for the caller to settle: two sets on one cluster do no harm, but everything
/// twice.
#[derive(Debug)]
#[must_use = "dropping it stops the controllers"]
pub struct ControllerSet {
    names: Vec<&'static str>,
    tasks: JoinSet<(&'static str, Result<(), InvalidController>)>,
    synced: Vec<oneshot::Receiver<()>>,
    stop: CancellationToken,
    drain: Duration,
}

/// The names of all controllers.
pub fn known() -> Vec<&'static str> {
    CONTROLLERS.iter().map(|(name, ..)| *name).collect()
}

/// The names of those without which nothing in a cluster would ever go: they make and change no workloads. See
/// [`Options::essential`].
pub(crate) fn essential() -> Vec<String> {
    let names = CONTROLLERS.iter().take(ESSENTIAL);
    names.map(|(name, ..)| (*name).to_owned()).collect()
}

/// Runs the controllers until `stop` is cancelled, on the cluster of a client, or of an [`InformerFactory`] with which they share
/// watches and caches. The server may come up a little later than this.
///
/// # Errors
/// See [`SetError`].
pub async fn run(
    cluster: impl Into<InformerFactory>,
    options: Options,
    stop: CancellationToken,
) -> Result<(), SetError> {
    check(&options)?;
    let informers = cluster.into();
    let Some(reached) = stop.run_until_cancelled(reach(informers.client())).await else {
        return Ok(());
    };
    reached?;
    let mut set = ControllerSet::start(informers, options)?;
    let ended = async {
        set.synced().await;
        tracing::info!(controllers = ?set.names, "synced");
        set.ended().await
    };
    match stop.run_until_cancelled(ended).await {
        Some(error) => Err(error),
        None => set.shut_down().await,
    }
}

// === impl ControllerSet ===

impl ControllerSet {
    /// Starts the controllers that the options choose, on one set of informers: that which is given instead of a client, or
    /// their own.
    ///
    /// # Errors
    /// [`SetError::Unknown`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(cluster: impl Into<InformerFactory>, options: Options) -> Result<Self, SetError> {
        check(&options)?;
        let informers = cluster.into();
        let client = informers.client().clone();
        let mut set = Self {
            names: Vec::new(),
            tasks: JoinSet::new(),
            synced: Vec::new(),
            stop: CancellationToken::new(),
            drain: options.drain,
        };
        let manager = Manager::new(informers)
            .name(MANAGER)
            .grace(options.drain)
            .watching(options.watching.clone())
            .aware_of("v1 Endpoints is deprecated")
            .selecting(without_bookkeeping());
        let mut is_managed = false;
        for (name, alias, work) in CONTROLLERS {
            if !is_enabled(&options.controllers, [name, alias]) {
                tracing::info!(controller = name, "disabled");
                continue;
            }
            set.names.push(name);
            let run = match work {
                Work::Alone(run) => run,
                Work::Managed(describe) => {
                    describe(&manager, &options)?;
                    is_managed = true;
                    continue;
                }
            };
            let (synced, has_synced) = oneshot::channel();
            let running = run(Context {
                client: client.clone(),
                informers: manager.informers().clone(),
                options: options.clone(),
                stop: set.stop.clone(),
                synced,
            });
            set.tasks.spawn(async move { (*name, running.await) });
            set.synced.push(has_synced);
        }
        if is_managed {
            set.manage(manager);
        }
        Ok(set)
    }

    /// Runs the controllers that share a manager.
    fn manage(&mut self, manager: Manager) {
        let (synced, has_synced) = oneshot::channel();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let told = async {
                manager.ready().await;
                let _nobody_waits = synced.send(());
                std::future::pending().await
            };
            let ended = tokio::select! {
                biased;
                ended = manager.run(stop) => ended,
                () = told => Ok(()),
            };
            (MANAGER, ended.map_err(InvalidController::from))
        });
        self.synced.push(has_synced);
    }

    /// The names of the controllers that run.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Waits until every controller has seen all that there was when it started, and is at work. Cancelling loses
    /// nothing.
    pub async fn synced(&mut self) {
        while let Some(synced) = self.synced.last_mut() {
            let _synced_or_ended = synced.await;
            self.synced.pop();
        }
    }

    /// Waits until a controller ends, which none does by itself, and says which and why. Never ends if there are none.
    pub async fn ended(&mut self) -> SetError {
        match self.tasks.join_next().await {
            Some(Ok((name, Ok(())))) => SetError::Ended {
                name: name.to_owned(),
                why: "without being told to".to_owned(),
            },
            Some(Ok((name, Err(why)))) => SetError::Ended {
                name: name.to_owned(),
                why: why.to_string(),
            },
            Some(Err(panic)) => SetError::Ended {
                name: "task".to_owned(),
                why: panic.to_string(),
            },
            None => std::future::pending().await,
        }
    }

    /// Stops the controllers and waits until they have finished what they had begun, for as long as their options say.
    /// If cancelled, they are stopped at once.
    ///
    /// # Errors
    /// [`SetError::Undrained`]; they are stopped nevertheless.
    pub async fn shut_down(mut self) -> Result<(), SetError> {
        self.stop.cancel();
        let longest = self.drain.saturating_add(MARGIN);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(longest, ended).await;
        in_time.map_err(|_| SetError::Undrained(longest))
    }
}

async fn reach(client: &Client) -> Result<(), SetError> {
    let tried = async {
        loop {
            match client.apiserver_version().await {
                Ok(version) => {
                    tracing::info!(version = version.git_version, "reached the server");
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "the server cannot be reached yet");
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
            }
        }
    };
    if tokio::time::timeout(SERVER_PATIENCE, tried).await.is_ok() {
        return Ok(());
    }
    // The last word: what is in the way now.
    let answer = tokio::time::timeout(SERVER_PATIENCE, client.apiserver_version()).await;
    match answer {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(SetError::Unreachable(Box::new(error))),
        Err(late) => Err(SetError::Unreachable(Box::new(kube::Error::Service(late.into())))),
    }
}

/// The cause of all that is told above it: `connection refused` rather than `service error`.
fn at_bottom(error: &kube::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Refuses names that mean no controller.
fn check(options: &Options) -> Result<(), SetError> {
    let names = CONTROLLERS.iter().flat_map(|(name, alias, _)| [*name, *alias]);
    let names: BTreeSet<_> = names.chain(["*"]).collect();
    let unknown = |given: &&String| !names.contains(given.strip_prefix('-').unwrap_or(given));
    match options.controllers.iter().find(unknown) {
        Some(name) => Err(SetError::Unknown { name: name.clone() }),
        None => Ok(()),
    }
}

fn is_enabled(given: &[String], names: [&str; 2]) -> bool {
    let says = |given: &String| match given.strip_prefix('-') {
        Some(off) => names.contains(&off).then_some(false),
        None => names.contains(&given.as_str()).then_some(true),
    };
    let said = given.iter().find_map(says);
    said.unwrap_or_else(|| given.iter().any(|given| given == "*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_chosen_as_by_kubes_flag() {
        let cases: &[(&[&str], bool)] = &[
            (&["*"], true),
            (&[], false),
            (&["other"], false),
            (&["name"], true),
            (&["short"], true),
            (&["*", "-name"], false),
            (&["-short", "*"], false),
            (&["name", "-name"], true),
            (&["-name", "name"], false),
        ];
        for (given, expected) in cases {
            let given: Vec<_> = given.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(is_enabled(&given, ["name", "short"]), *expected, "{given:?}");
        }
        let options = Options {
            controllers: vec!["*".into(), "-nonsense".into()],
            ..Options::default()
        };
        let error = check(&options).map_err(|error| error.to_string());
        assert!(
            error.is_err_and(
                |text| text.starts_with("\"-nonsense\" is not in the list of known controllers (")
            )
        );
    }
}
