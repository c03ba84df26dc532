//! A control plane in the process with some of the controllers, and a kubelet that makes pods ready.
//!
//! With `TRIMTAB_CLUSTER=1` in the environment it is the cluster of `KUBECONFIG` with the controllers that run there, in a namespace
//! for each test. What needs the whole cluster, or driven time, is left out then.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trimtab_client_cache::Delta;
use trimtab_client_cache::informer::{InformerFactory, Selection};
use trimtab_testing_env::TestEnv;
use trimtab_workloads_controllers::{Clock, Options, SetError, run};

/// A kind with a namespace.
pub(crate) trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + 'static
{
}

/// A pod with this image never becomes ready.
pub(crate) const BAD: &str = "bad";
/// A pod with this image succeeds.
pub(crate) const DONE: &str = "done";
/// A pod with this image fails.
pub(crate) const FAILS: &str = "fails";
/// How long pods take to become ready, or to end.
pub(crate) const READY_AFTER: Duration = Duration::from_millis(100);

pub(crate) struct Cluster {
    client: Client,
    namespace: String,
    place: Place,
}

/// Where it is.
enum Place {
    /// In the process.
    Here(Box<TestEnv>),
    /// Somewhere else, where its kubelet is all that runs here.
    There(CancellationToken, JoinHandle<Result<(), SetError>>),
}

/// Whether the tests are about a cluster that is there already.
fn is_there_already() -> bool {
    std::env::var_os("TRIMTAB_CLUSTER").is_some()
}

impl Cluster {
    /// With these controllers, or with whatever runs where `KUBECONFIG` leads.
    pub(crate) async fn start(controllers: &[&str]) -> Self {
        if is_there_already() {
            Self::there().await
        } else {
            Self::here(controllers).await
        }
    }

    /// With these controllers, for what needs the whole cluster or driven time; `None` if it is not this test's own.
    #[allow(clippy::print_stderr)] // a reason to skip is for who runs the tests
    pub(crate) async fn alone(controllers: &[&str]) -> Option<Self> {
        if is_there_already() {
            eprintln!("skipped: it needs a cluster of its own, on driven time");
            return None;
        }
        Some(Self::here(controllers).await)
    }

    async fn here(controllers: &[&str]) -> Self {
        let mut env = TestEnv::start().await.expect("a control plane");
        let clock = Clock::driven(Timestamp::now());
        let mut options = Options::default();
        options.controllers = controllers.iter().map(|name| (*name).to_owned()).collect();
        options.clock = clock;
        env.run(|client, stop| run(client, options, stop));
        env.run(|client, stop| kubelet_of_all(client, "default".to_owned(), clock, stop));
        Self {
            client: env.client(),
            namespace: "default".to_owned(),
            place: Place::Here(Box::new(env)),
        }
    }

    async fn there() -> Self {
        tokio::time::resume(); // a cluster's time is not driven
        let client = Client::try_default().await.expect("a kubeconfig");
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"generateName": "trimtab-test-"}}));
        let namespace = namespaces
            .create(&PostParams::default(), &namespace.expect("a namespace"))
            .await
            .expect("it is created")
            .name_any();
        let stop = CancellationToken::new();
        let kubelet = kubelet_of_all(client.clone(), namespace.clone(), Clock::System, stop.clone());
        let cluster = Self {
            client,
            namespace,
            place: Place::There(stop, tokio::spawn(kubelet)),
        };
        // Pods are refused before it is there.
        cluster.until::<ServiceAccount>("default", |_| true).await;
        cluster
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client(), &self.namespace)
    }

    pub(crate) async fn create<K: Kind>(&self, object: Value) -> K {
        let object: K = serde_json::from_value(object).expect("an object");
        let created = self.api().create(&PostParams::default(), &object).await;
        created.expect("it is created")
    }

    /// Applies an object of any kind to a cluster of this test's own. A custom resource is served then.
    pub(crate) async fn apply(&self, object: &Value) {
        let Place::Here(env) = &self.place else {
            panic!("the cluster is others'");
        };
        env.apply(&object.to_string()).await.expect("it is applied");
    }

    pub(crate) async fn merge<K: Kind>(&self, name: &str, patch: Value) -> K {
        let patched = self
            .api()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.expect("it is patched")
    }

    pub(crate) async fn merge_status<K: Kind>(&self, name: &str, patch: Value) -> K {
        let patched = self
            .api()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.expect("its status is patched")
    }

    pub(crate) async fn delete<K: Kind>(&self, name: &str) {
        let deleted = self.api::<K>().delete(name, &DeleteParams::background()).await;
        deleted.expect("it is deleted");
    }

    pub(crate) async fn get<K: Kind>(&self, name: &str) -> Option<K> {
        self.api().get_opt(name).await.expect("an answer")
    }

    pub(crate) async fn list<K: Kind>(&self) -> Vec<K> {
        let listed = self.api().list(&ListParams::default()).await;
        listed.expect("a list").items
    }

    /// Waits until the object is so.
    pub(crate) async fn until<K: Kind>(&self, name: &str, is: impl Fn(&K) -> bool) -> K {
        if let Place::Here(env) = &self.place {
            let found = env.eventually(&self.api(), name, is).await;
            return found.unwrap_or_else(|gave_up| panic!("{gave_up}"));
        }
        let named = |object: &&K| object.name_any() == name;
        let is_there = |all: &[K]| all.iter().find(named).is_some_and(&is);
        let all = self.until_all(is_there).await;
        all.into_iter()
            .find(|object| named(&object))
            .expect("it was there")
    }

    /// Waits until as many objects of a kind are so as should be.
    pub(crate) async fn until_all<K: Kind>(&self, is: impl Fn(&[K]) -> bool) -> Vec<K> {
        let deadline = tokio::time::Instant::now() + TestEnv::PATIENCE;
        loop {
            let all = self.list::<K>().await;
            if is(&all) {
                return all;
            }
            assert!(tokio::time::Instant::now() < deadline, "gave up: {all:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Who told what of an object: the reporters, reasons and texts of its events.
    pub(crate) async fn events(&self, name: &str) -> Vec<String> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut events = self.list::<k8s_openapi::api::events::v1::Event>().await;
        events.retain(|event| {
            event
                .regarding
                .as_ref()
                .is_some_and(|regarding| regarding.name.as_deref() == Some(name))
        });
        events.sort_by_key(|event| event.event_time.clone());
        let text = |event: &k8s_openapi::api::events::v1::Event| {
            let word = |word: &Option<String>| word.clone().unwrap_or_default();
            format!(
                "{}: {} {}",
                word(&event.reporting_controller),
                word(&event.reason),
                word(&event.note)
            )
        };
        events.iter().map(text).collect()
    }

    pub(crate) async fn end(self) {
        match self.place {
            Place::Here(env) => env.shutdown().await.expect("a clean end"),
            Place::There(stop, kubelet) => {
                stop.cancel();
                kubelet.await.expect("no panic").expect("a clean end");
                let namespaces: Api<Namespace> = Api::all(self.client);
                let deleted = namespaces.delete(&self.namespace, &DeleteParams::default()).await;
                deleted.expect("its namespace is deleted");
            }
        }
    }
}

/// Of a pod with this image. No scheduler takes it: where there are nodes, they are not asked.
pub(crate) fn spec(image: &str) -> Value {
    json!({"schedulerName": "none", "containers": [{"name": "c", "image": image}]})
}

/// A template whose pods have this image.
pub(crate) fn template(app: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": spec(image)})
}

/// A pod of its own.
pub(crate) fn image_pod(name: &str, app: &str, image: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": app}}, "spec": spec(image)})
}

pub(crate) fn names<K: Kind>(objects: &[K]) -> Vec<String> {
    objects.iter().map(ResourceExt::name_any).collect()
}

pub(crate) fn images(pods: &[Pod]) -> BTreeMap<String, usize> {
    let mut images = BTreeMap::new();
    for pod in pods {
        *images.entry(image_of(pod)).or_default() += 1;
    }
    images
}

fn image_of(pod: &Pod) -> String {
    let containers = pod.spec.as_ref().map(|spec| &spec.containers);
    let image = containers.and_then(|containers| containers.first()?.image.clone());
    image.unwrap_or_default()
}

/// Makes every pod of a namespace what its image says, after a while.
async fn kubelet_of_all(
    client: Client,
    namespace: String,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), SetError> {
    let informers = InformerFactory::new(client.clone());
    let pods = informers.informer::<Pod>(Selection::in_namespace(namespace));
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let _registration = pods.add_handler(move |delta| {
        if let Delta::Added { object, .. } = delta {
            let _nobody_listens = sender.send(object);
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    while let Some(Some(pod)) = stop.run_until_cancelled(receiver.recv()).await {
        let pod = pod.decode().expect("a pod");
        let client = client.clone();
        tasks.spawn(async move {
            tokio::time::sleep(READY_AFTER).await;
            let ended = json!({"type": "Ready", "status": "False", "lastTransitionTime": whole(clock.now())});
            let status = match &*image_of(&pod) {
                BAD => return,
                DONE => json!({"phase": "Succeeded", "conditions": [ended]}),
                FAILS => json!({"phase": "Failed", "conditions": [ended]}),
                _ => json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [
                    {"type": "Ready", "status": "True", "lastTransitionTime": whole(clock.now())}]}),
            };
            let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
            let patch = Patch::Merge(json!({ "status": status }));
            // It may be gone by now.
            let _gone = api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
        });
    }
    Ok(())
}

/// A time as objects have it.
pub(crate) fn whole(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .expect("a time")
        .to_string()
}
