//! What an environment is to be.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::tokens::StaticTokens;
use trimtab_apiserver_core::limits::Limits;
use trimtab_apiserver_core::{ApiServer, Entropy};
use trimtab_apiserver_storage::{self as storage, MemoryStore};
use trimtab_client_cache::reflector;
use trimtab_workloads_controllers::{self as workloads, Clock};
#[cfg(feature = "nodes")]
use trimtab_workloads_node::{self as nodes, SimulatedNodes, Stages};

use crate::env::{EnvError, TestEnv};
use crate::history::History;

/// When time begins where a seed is given: 2030-01-01T00:00:00Z.
const EPOCH: i64 = 1_893_456_000;

/// What an environment is to be. Start with [`TestEnv::builder`].
#[derive(Clone, Debug, Default)]
pub struct Builder {
    seed: Option<u64>,
    epoch: Option<Timestamp>,
    socket: bool,
    users: Vec<UserInfo>,
    definitions: Vec<CustomResourceDefinition>,
    without: Vec<String>,
    workloads: bool,
    #[cfg(feature = "nodes")]
    nodes: usize,
    #[cfg(feature = "nodes")]
    stages: Vec<String>,
    #[cfg(feature = "nodes")]
    heartbeats: Option<Duration>,
}

impl Builder {
    /// Takes from this seed what is random: UIDs, generated names, addresses, backoffs (of what uses `fastrand`, whose seed for
    /// this thread is set). On a runtime of one thread and paused time the same seed gives the same history. Keys and
    /// certificates are never from the seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The time when it starts; then it goes on as tokio's clock does, which tests pause. Now unless set, and
    /// 2030-01-01T00:00:00Z where a [seed](Builder::seed) is given.
    #[must_use]
    pub fn epoch(mut self, epoch: Timestamp) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// Listens on a free port of this machine too, by TLS, for clients in other processes and languages. Not for paused time,
    /// which does not wait for sockets.
    #[must_use]
    pub fn socket(mut self) -> Self {
        self.socket = true;
        self
    }

    /// Knows a user of these groups, for whom there is a [kubeconfig](TestEnv::kubeconfig_as).
    #[must_use]
    pub fn user(mut self, name: &str, groups: &[&str]) -> Self {
        self.users.push(UserInfo {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..UserInfo::default()
        });
        self
    }

    /// Serves the custom resource from the beginning.
    #[must_use]
    pub fn crd<K: CustomResourceExt>(mut self) -> Self {
        self.definitions.push(K::crd());
        self
    }

    /// Leaves out one of the controllers that are part of every cluster, as `garbage-collector-controller`: for those who test that
    /// very one, or another in its place.
    #[must_use]
    pub fn without(mut self, controller: &str) -> Self {
        self.without.push(format!("-{controller}"));
        self
    }

    /// Runs the controllers of workloads too, from Deployments and Jobs to endpoints, volumes, budgets and quotas: those that
    /// `trimtab up` runs. Pods are made then; they run where there are [nodes](Builder::nodes).
    #[must_use]
    pub fn workload_controllers(mut self) -> Self {
        self.workloads = true;
        self
    }

    /// Simulates so many nodes, `node-0` the first, with a scheduler and a default storage class: pods get to nodes and run there, as
    /// their annotations say. All nodes are ready when it has [started](Builder::start). None unless set.
    #[cfg(feature = "nodes")]
    #[must_use]
    pub fn nodes(mut self, count: usize) -> Self {
        self.nodes = count;
        self
    }

    /// Has pods and nodes go through these stages instead of what they do by themselves: YAML as KWOK has it (kind `Stage`).
    /// Those of several calls come together.
    #[cfg(feature = "nodes")]
    #[must_use]
    pub fn node_stages(mut self, stages: &str) -> Self {
        self.stages.push(stages.to_owned());
        self
    }

    /// Has nodes say so seldom that they live, and be taken for dead after five times as long: 10 seconds unless set, as in Kubernetes.
    /// That makes most of what happens in a cluster where nothing does, so days pass faster with an hour.
    #[cfg(feature = "nodes")]
    #[must_use]
    pub fn node_heartbeats(mut self, period: Duration) -> Self {
        self.heartbeats = Some(period);
        self
    }

    /// Starts an API server in memory, and the controllers that are part of every cluster.
    ///
    /// # Errors
    ///
    /// [`EnvError::Start`], for example where no random numbers can be had for keys; what a definition is refused for; and
    /// [`EnvError::Failed`] where nodes cannot be simulated so.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers.
    pub async fn start(self) -> Result<TestEnv, EnvError> {
        let Self {
            seed,
            epoch,
            socket,
            users,
            definitions,
            without,
            workloads,
            #[cfg(feature = "nodes")]
            nodes,
            #[cfg(feature = "nodes")]
            stages,
            #[cfg(feature = "nodes")]
            heartbeats,
        } = self;
        let start = epoch.unwrap_or_else(|| match seed {
            Some(_) => Timestamp::from_second(EPOCH).unwrap_or_default(),
            None => Timestamp::now(),
        });
        if let Some(seed) = seed {
            fastrand::seed(seed);
        }
        let store = Arc::new(MemoryStore::new(storage::Config::default()));
        let (history, recorder) = History::record(&*store).await.map_err(failed)?;
        let mut tokens = StaticTokens::default();
        let mut known = Vec::new();
        for user in users {
            // Nobody outside of this process gets to know it but by a kubeconfig that the test asks for.
            let token = format!("{:032x}", fastrand::Rng::new().u128(..));
            known.push((user.clone(), token.clone()));
            tokens.insert(token, user);
        }
        let mut limits = Limits::default();
        limits.in_flight.fair = false; // there is nobody to be kept from whom, and it would look around every few seconds
        let clock = Clock::driven(start);
        let mut server = ApiServer::builder(store)
            .tokens(tokens)
            .limits(limits)
            .clock(Arc::new(move || clock.now()));
        if let Some(seed) = seed {
            server = server.entropy(Entropy::seeded(seed));
        }
        if socket {
            server = server.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        }
        let mut env = TestEnv::with(server.start().await?, history, recorder, known, clock.drive());
        let mut options = if workloads {
            workloads::Options::default()
        } else {
            workloads::Options::essential()
        };
        options.clock = clock;
        options.watching = reflector::Config::in_process();
        options.controllers.splice(0..0, without);
        #[cfg(feature = "nodes")]
        if let Some(heartbeats) = heartbeats {
            options.node_monitor_grace = 5 * heartbeats;
        }
        options.namespace_delay = Duration::ZERO; // there is one server, which lets nothing more in
        env.run(|client, stop| workloads::run(client, options, stop));
        for definition in definitions {
            env.install_definition(definition).await?;
        }
        #[cfg(feature = "nodes")]
        if nodes > 0 {
            let mut options = nodes::Options::default();
            options.nodes = nodes;
            options.stages = Stages::parse(&stages.join("\n---\n")).map_err(failed)?;
            options.seed = seed.unwrap_or_else(|| fastrand::u64(..));
            options.heartbeat = heartbeats.unwrap_or(options.heartbeat);
            options.clock = clock;
            options.watching = reflector::Config::in_process();
            simulate(&mut env, options).await?;
        }
        env.begin();
        Ok(env)
    }
}

#[cfg(feature = "nodes")]
async fn simulate(env: &mut TestEnv, options: nodes::Options) -> Result<(), EnvError> {
    // What runs on simulated nodes has simulated volumes.
    workloads::install_storage_class(&env.client()).await?;
    let mut nodes = SimulatedNodes::start(env.client(), options).map_err(failed)?;
    let are_ready = tokio::time::timeout(TestEnv::PATIENCE, nodes.ready()).await;
    are_ready.map_err(|_| EnvError::Failed(format!("nodes are not ready within {:?}", TestEnv::PATIENCE)))?;
    env.run(|_, stop| nodes.run(stop));
    Ok(())
}

fn failed(why: impl Display) -> EnvError {
    EnvError::Failed(why.to_string())
}
