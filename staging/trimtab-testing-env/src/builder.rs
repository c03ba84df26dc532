//! What an environment is to be.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use tokio::time::Instant;
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::tokens::StaticTokens;
use trimtab_apiserver_core::limits::Limits;
use trimtab_apiserver_core::{ApiServer, Entropy};
use trimtab_apiserver_storage::{self as storage, MemoryStore};
use trimtab_workloads_controllers as workloads;

use crate::env::{EnvError, TestEnv};
use crate::history::History;

/// When time begins where a seed is given: 2030-01-01T00:00:00Z.
const EPOCH: i64 = 1_893_456_000;

/// What an environment is to be. Start with [`TestEnv::builder`].
#[derive(Debug, Default)]
pub struct Builder {
    seed: Option<u64>,
    epoch: Option<Timestamp>,
    socket: bool,
    users: Vec<UserInfo>,
    definitions: Vec<CustomResourceDefinition>,
    without: Vec<String>,
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

    /// Starts an API server in memory, and the controllers that are part of every cluster.
    ///
    /// # Errors
    ///
    /// [`EnvError::Start`], for example where no random numbers can be had for keys, and what a definition is refused for.
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
        } = self;
        let start = epoch.unwrap_or_else(|| match seed {
            Some(_) => Timestamp::from_second(EPOCH).unwrap_or_default(),
            None => Timestamp::now(),
        });
        if let Some(seed) = seed {
            fastrand::seed(seed);
        }
        let store = Arc::new(MemoryStore::new(storage::Config::default()));
        let (history, recorder) = History::record(&*store)
            .await
            .map_err(|e| EnvError::Failed(e.to_string()))?;
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
        let began = Instant::now();
        let mut server = ApiServer::builder(store)
            .tokens(tokens)
            .limits(limits)
            .clock(Arc::new(move || start + began.elapsed()));
        if let Some(seed) = seed {
            server = server.entropy(Entropy::seeded(seed));
        }
        if socket {
            server = server.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        }
        let mut env = TestEnv::with(server.start().await?, history, recorder, known);
        let mut options = workloads::Options::essential();
        options.controllers.splice(0..0, without);
        options.namespace_delay = Duration::ZERO; // there is one server, which lets nothing more in
        env.run(|client, stop| workloads::run(client, options, stop));
        for definition in definitions {
            env.install_definition(definition).await?;
        }
        env.begin();
        Ok(env)
    }
}
