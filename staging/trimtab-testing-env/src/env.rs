//! The environment: started, filled, stopped.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleRef, Subject};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Client, CustomResourceExt, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_core::{ApiServer, StartError};
use trimtab_workloads_controllers::Driving;

use crate::builder::Builder;
use crate::eventually::{self, GaveUp};
use crate::history::{History, Recorder};
use crate::manifests;
use crate::requests::{RequestEntry, Requests};

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
    /// A manifest cannot be read.
    #[error("the manifest cannot be applied: {0}")]
    Manifest(String),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
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
    requests: Requests,
    history: History,
    /// How much of the history is what every cluster begins with.
    begun: usize,
    /// Users with their tokens.
    users: Vec<(UserInfo, String)>,
    files: parking_lot::Mutex<Vec<tempfile::NamedTempFile>>,
    _recorder: Recorder,
    _driving: Driving,
}

impl TestEnv {
    /// Starts an API server in memory, and the controllers that are part of every cluster.
    ///
    /// # Errors
    ///
    /// [`EnvError::Start`], for example where no random numbers can be had for keys.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers.
    pub async fn start() -> Result<Self, EnvError> {
        Self::builder().start().await
    }

    /// An environment with a seed, users, custom resources, a socket.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn with(
        server: ApiServer,
        history: History,
        recorder: Recorder,
        users: Vec<(UserInfo, String)>,
        driving: Driving,
    ) -> Self {
        let requests = Requests::new();
        let client = Client::new(requests.of("kubernetes-admin", server.service()), "default");
        Self {
            server,
            client,
            stop: CancellationToken::new(),
            running: JoinSet::new(),
            requests,
            history,
            begun: 0,
            users,
            files: parking_lot::Mutex::default(),
            _recorder: recorder,
            _driving: driving,
        }
    }

    /// What there is now is what there was at the beginning.
    pub(crate) fn begin(&mut self) {
        self.begun = self.history.len();
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
        let name = user.name.clone();
        let server = self.server.service().for_user(user.authenticated());
        Client::new(self.requests.of(&name, server), "default")
    }

    /// The server's address, for clients in other processes; it leads nowhere without a [socket](Builder::socket).
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// A kubeconfig (YAML) with which one is the administrator.
    pub fn kubeconfig(&self) -> String {
        self.server.kubeconfig()
    }

    /// A kubeconfig with which one is this user, whom the [builder](Builder::user) knows. None: it does not.
    pub fn kubeconfig_as(&self, user: &str) -> Option<String> {
        let (_, token) = self.users.iter().find(|(known, _)| known.name == user)?;
        let mut config: Value = serde_saphyr::from_str(&self.kubeconfig()).ok()?;
        config["users"] = json!([{"name": user, "user": {"token": token}}]);
        config["contexts"][0]["context"]["user"] = json!(user);
        Some(config.to_string()) // what is JSON is YAML
    }

    /// Writes a kubeconfig into a file that only this user can read, and that is removed with the environment.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn kubeconfig_file(&self, kubeconfig: &str) -> Result<PathBuf, EnvError> {
        let file = tempfile::Builder::new()
            .prefix("trimtab-")
            .suffix(".kubeconfig")
            .tempfile();
        let failed = |source| EnvError::File {
            path: std::env::temp_dir(),
            source,
        };
        let file = file.map_err(failed)?;
        std::fs::write(file.path(), kubeconfig).map_err(failed)?;
        let path = file.path().to_owned();
        self.files.lock().push(file);
        Ok(path)
    }

    /// Every change that the server has committed.
    pub fn history(&self) -> History {
        self.history.clone()
    }

    /// How many changes of the [history](TestEnv::history) made what every cluster begins with.
    pub fn begun(&self) -> usize {
        self.begun
    }

    /// The last thousand requests of [clients](TestEnv::client) of this environment, its own controllers' among them.
    pub fn requests(&self) -> Vec<RequestEntry> {
        self.requests.entries()
    }

    /// What has been changed since the beginning as it is now, and the last hundred requests; for people.
    pub fn dump(&self) -> String {
        crate::dump::text(&self.history, self.begun, &self.requests())
    }

    /// Applies manifests: YAML or JSON, of one or several documents, in their order. A custom resource is served when this
    /// returns, and one document may be of the kind that another defines.
    ///
    /// # Errors
    ///
    /// When a document cannot be read, or the server refuses an object; those before it are applied then.
    pub async fn apply(&self, manifests: &str) -> Result<(), EnvError> {
        for object in manifests::parse(manifests)? {
            match manifests::definition(&object) {
                Some(definition) => self.install_definition(definition).await?,
                None => drop(manifests::apply(&self.client, object).await?),
            }
        }
        Ok(())
    }

    /// [`TestEnv::apply`] of a file.
    ///
    /// # Errors
    ///
    /// As of [`TestEnv::apply`], and when the file cannot be read.
    pub async fn apply_file(&self, path: impl AsRef<Path>) -> Result<(), EnvError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| EnvError::File {
            path: path.to_owned(),
            source,
        })?;
        self.apply(&text).await
    }

    /// Lets a user do what the cluster role of this name allows, in all namespaces. It counts as soon as this returns.
    ///
    /// # Errors
    ///
    /// When the binding is refused.
    pub async fn grant_all(&self, user: &str, cluster_role: &str) -> Result<(), EnvError> {
        let binding = json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": {"name": format!("{}:{cluster_role}", user.replace(':', "-"))},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": cluster_role},
            "subjects": [subject(user)],
        });
        manifests::apply(&self.client, binding).await.map(drop)
    }

    /// Lets a user do what the cluster role of this name allows, as `view`, `edit` or `admin`, in a namespace. It counts as
    /// soon as this returns.
    ///
    /// # Errors
    ///
    /// When the binding is refused.
    pub async fn grant(&self, user: &str, cluster_role: &str, namespace: &str) -> Result<(), EnvError> {
        let binding = json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": "RoleBinding",
            "metadata": {"name": format!("{}:{cluster_role}", user.replace(':', "-")), "namespace": namespace},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": cluster_role},
            "subjects": [subject(user)],
        });
        manifests::apply(&self.client, binding).await.map(drop)
    }

    /// Lets a user do what a role allows, in all namespaces: makes the role, and a binding of its name. It counts as soon as
    /// this returns. For a role of the same name again, its rules and the user take the place of those before.
    ///
    /// # Errors
    ///
    /// When the role has no name, or is refused.
    pub async fn allow(&self, user: &str, role: ClusterRole) -> Result<(), EnvError> {
        let name = role.name_any();
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
            subjects: Some(vec![subject(user)]),
        };
        self.put(&name, &role).await?;
        self.put(&name, &binding).await
    }

    async fn put<K>(&self, name: &str, object: &K) -> Result<(), EnvError>
    where
        K: kube::Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned + Serialize,
    {
        let params = PatchParams::apply(manifests::MANAGER).force();
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
        let params = PatchParams::apply(manifests::MANAGER).force();
        let crd = crds
            .patch(&definition.name_any(), &params, &Patch::Apply(&definition))
            .await?;
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

    /// Waits until the object of that name has these fields, whatever else it has; lists are compared by place. Who waits in vain
    /// is told of each field that is otherwise.
    ///
    /// # Errors
    ///
    /// [`GaveUp`], with the differences, after [`TestEnv::PATIENCE`].
    pub async fn eventually_like<K: eventually::Watched>(
        &self,
        api: &Api<K>,
        name: &str,
        fields: &Value,
    ) -> Result<K, GaveUp> {
        let lacks = |object: &K| crate::diff::lacks(fields, &eventually::value(object));
        let mut gave_up = match self
            .eventually(api, name, |object| lacks(object).is_empty())
            .await
        {
            Ok(object) => return Ok(object),
            Err(gave_up) => gave_up,
        };
        if let Ok(Some(object)) = api.get_opt(name).await {
            gave_up.last = format!("\n  {}", lacks(&object).join("\n  "));
        }
        Err(gave_up)
    }

    /// Watches that the object of that name stays as `is` says for so long.
    ///
    /// # Errors
    ///
    /// [`GaveUp`], with the object as it was when it was not so, or when it was not there.
    pub async fn consistently<K: eventually::Watched>(
        &self,
        lasting: Duration,
        api: &Api<K>,
        name: &str,
        is: impl Fn(&K) -> bool,
    ) -> Result<(), GaveUp> {
        eventually::stays(api, name, is, lasting).await
    }

    /// Compares what has been made since the beginning with a file of YAML, without what is different in each run
    /// ([`normalised`](crate::normalised)), of these kinds. With `TRIMTAB_GOLDEN=write` in the environment of the process it
    /// writes the file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, and with the differences.
    pub fn golden(&self, path: impl AsRef<Path>, kinds: &[&str]) -> Result<(), EnvError> {
        let world = crate::dump::since(&self.history, self.begun);
        let of_kinds = world
            .iter()
            .filter(|object| kinds.iter().any(|kind| object["kind"] == *kind));
        crate::golden::compare(path.as_ref(), &crate::normal::normalised(of_kinds))
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
        let stopped = self.server.stop().await;
        outcome.and(stopped.map_err(|e| EnvError::Failed(e.to_string())))
    }
}

impl Drop for TestEnv {
    /// A test that fails says what there was.
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[allow(clippy::print_stderr)] // where the harness takes what a failed test says
            {
                eprintln!("{}", self.dump());
            }
        }
    }
}

fn subject(user: &str) -> Subject {
    match named(user).service_account() {
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
