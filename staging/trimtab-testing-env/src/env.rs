//! The environment: started, filled, stopped.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleRef, Subject};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Client, CustomResourceExt, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_core::{ApiServer, StartError};
use trimtab_apiserver_storage::{self as storage, MemoryStore};
use trimtab_workloads_controllers as workloads;

use crate::eventually::{self, GaveUp};

const RBAC: &str = "rbac.authorization.k8s.io";

/// An environment that cannot be started or filled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvError {
    /// The API server does not start.
    #[error("the API server does not start: {0}")]
    Start(#[from] StartError),
    /// A request was refused.
    #[error(transparent)]
    Request(#[from] kube::Error),
    /// A custom resource did not come up.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
    /// Something that ran in the environment failed.
    #[error("{0}")]
    Failed(String),
}

/// A control plane inside the process. Dropping it stops everything at once; [`TestEnv::shutdown`] does it in order
/// and says what went wrong.
pub struct TestEnv {
    server: ApiServer,
    client: Client,
    stop: CancellationToken,
    running: JoinSet<Result<(), EnvError>>,
}

impl TestEnv {
    /// Starts an API server in memory, and the controllers that are part of every cluster.
    ///
    /// # Errors
    ///
    /// [`EnvError::Start`], for example where no random numbers can be had for keys.
    pub async fn start() -> Result<Self, EnvError> {
        let store = Arc::new(MemoryStore::new(storage::Config::default()));
        let server = ApiServer::builder(store).start().await?;
        let client = Client::new(server.service(), "default");
        let mut env = Self {
            server,
            client,
            stop: CancellationToken::new(),
            running: JoinSet::new(),
        };
        let mut options = workloads::Options::essential();
        options.namespace_delay = Duration::ZERO; // there is one server, which lets nothing more in
        env.run(|client, stop| workloads::run(client, options, stop));
        Ok(env)
    }

    /// A client of the server, as its administrator; its default namespace is `default`.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client of the server as a user of this name, who may do what everybody may and what is
    /// [allowed](TestEnv::allow) to them; a service account, as `system:serviceaccount:NAMESPACE:NAME`, is in its groups
    /// too. Its default namespace is `default`. For tests of what a controller needs to be allowed.
    pub fn client_as(&self, user: &str) -> Client {
        let user = named(user);
        let user = match user.service_account() {
            Some((namespace, name)) => UserInfo::of_service_account(namespace, name),
            None => user,
        };
        Client::new(self.server.service().for_user(user.authenticated()), "default")
    }

    /// Lets a user do what a role allows, in all namespaces: makes the role, and a binding of its name. It counts as soon as
    /// this returns. For a role of the same name again, its rules and the user take the place of those before.
    ///
    /// # Errors
    ///
    /// When the role has no name, or is refused.
    pub async fn allow(&self, user: &str, role: ClusterRole) -> Result<(), EnvError> {
        let name = role.name_any();
        let subject = match named(user).service_account() {
            Some((namespace, name)) => Subject {
                kind: "ServiceAccount".to_owned(),
                name: name.to_owned(),
                namespace: Some(namespace.to_owned()),
                ..Subject::default()
            },
            None => Subject {
                kind: "User".to_owned(),
                name: user.to_owned(),
                api_group: Some(RBAC.to_owned()),
                ..Subject::default()
            },
        };
        let binding = ClusterRoleBinding {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                ..ObjectMeta::default()
            },
            role_ref: RoleRef {
                api_group: Some(RBAC.to_owned()),
                kind: "ClusterRole".to_owned(),
                name: name.clone(),
            },
            subjects: Some(vec![subject]),
        };
        self.put(&name, &role).await?;
        self.put(&name, &binding).await
    }

    async fn put<K>(&self, name: &str, object: &K) -> Result<(), EnvError>
    where
        K: kube::Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned + Serialize,
    {
        let params = PatchParams::apply("trimtab-testing").force();
        Api::<K>::all(self.client())
            .patch(name, &params, &Patch::Apply(object))
            .await?;
        Ok(())
    }

    /// Runs something in the environment, as the controllers under test, until it is shut down.
    pub fn run<F, E>(&mut self, start: impl FnOnce(Client, CancellationToken) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let runs = start(self.client(), self.stop.child_token());
        self.running
            .spawn(async move { runs.await.map_err(|e| EnvError::Failed(e.to_string())) });
    }

    /// Makes the custom resource known, and waits until it is served.
    ///
    /// # Errors
    ///
    /// When the definition is refused, or not established within [`TestEnv::PATIENCE`].
    pub async fn install<K: CustomResourceExt>(&self) -> Result<(), EnvError> {
        self.install_definition(K::crd()).await
    }

    /// [`TestEnv::install`], for a definition that is more than one type's: with several versions, say.
    ///
    /// # Errors
    ///
    /// As of [`TestEnv::install`].
    pub async fn install_definition(&self, definition: CustomResourceDefinition) -> Result<(), EnvError> {
        let crds: Api<CustomResourceDefinition> = Api::all(self.client());
        let crd = crds.create(&PostParams::default(), &definition).await?;
        let established = |crd: &CustomResourceDefinition| {
            let status = crd.status.as_ref();
            let mut conditions = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
            conditions.any(|c| c.type_ == "Established" && c.status == "True")
        };
        eventually::object(&crds, &crd.name_any(), established, Self::PATIENCE).await?;
        Ok(())
    }

    /// Lets the API server find what listens on this machine, as webhooks do, by a Service of that name in the namespace `default`.
    /// The Service leads to `localhost` and changes no port, so whoever refers to it names the one that is listened on.
    ///
    /// # Errors
    ///
    /// When the Service is refused, as for a name that is taken.
    pub async fn expose(&self, name: &str) -> Result<(), EnvError> {
        let service = Service {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                type_: Some("ExternalName".to_owned()),
                external_name: Some("localhost".to_owned()),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        };
        let services: Api<Service> = Api::namespaced(self.client(), "default");
        services.create(&PostParams::default(), &service).await?;
        Ok(())
    }

    /// How long [`TestEnv::eventually`] waits: long enough for a loaded machine.
    pub const PATIENCE: Duration = Duration::from_secs(30);

    /// Waits until the object of that name in `api` is as `is` says, and returns it. It watches; it does not poll.
    ///
    /// # Errors
    ///
    /// [`GaveUp`], with the object as it was seen last, after [`TestEnv::PATIENCE`].
    pub async fn eventually<K: eventually::Watched>(
        &self,
        api: &Api<K>,
        name: &str,
        is: impl Fn(&K) -> bool,
    ) -> Result<K, GaveUp> {
        self.eventually_within(Self::PATIENCE, api, name, is).await
    }

    /// [`TestEnv::eventually`] with another patience.
    ///
    /// # Errors
    ///
    /// [`GaveUp`], with the object as it was seen last.
    pub async fn eventually_within<K: eventually::Watched>(
        &self,
        patience: Duration,
        api: &Api<K>,
        name: &str,
        is: impl Fn(&K) -> bool,
    ) -> Result<K, GaveUp> {
        eventually::object(api, name, is, patience).await
    }

    /// Waits until there is no object of that name in `api`.
    ///
    /// # Errors
    ///
    /// [`GaveUp`], with the object as it was seen last, after [`TestEnv::PATIENCE`].
    pub async fn eventually_gone<K: eventually::Watched>(
        &self,
        api: &Api<K>,
        name: &str,
    ) -> Result<(), GaveUp> {
        eventually::gone(api, name, Self::PATIENCE).await
    }

    /// Stops what runs, then the server.
    ///
    /// # Errors
    ///
    /// What failed first of all that ran.
    pub async fn shutdown(mut self) -> Result<(), EnvError> {
        self.stop.cancel();
        let mut outcome = Ok(());
        while let Some(ended) = self.running.join_next().await {
            outcome = outcome.and(
                ended
                    .map_err(|e| EnvError::Failed(e.to_string()))
                    .and_then(|ended| ended),
            );
        }
        let stopped = self
            .server
            .shutdown()
            .await
            .map_err(|e| EnvError::Failed(e.to_string()));
        outcome.and(stopped)
    }
}

/// A user of this name, in no group.
fn named(name: &str) -> UserInfo {
    UserInfo {
        name: name.to_owned(),
        ..UserInfo::default()
    }
}

impl fmt::Debug for TestEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestEnv")
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}
