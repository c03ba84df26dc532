//! Each plugin against objects, with other objects in a map.

pub(super) mod tables;

use std::collections::BTreeMap;

use serde_json::json;
use trimtab_apiserver_auth::{Decision, UserInfo};
use trimtab_apiserver_kinds::resource::{Resource, Scope};
use trimtab_apiserver_kinds::strategy::Strategy;

use trimtab_apiserver_storage::{Config, MemoryStore, Store};

use super::dynamic::Surroundings;
use super::*;
use crate::auth::Authorizer;
use crate::registry::{Caches, ResourceTable};

#[derive(Debug)]
struct Plain;

impl Strategy for Plain {
    fn validate_name(&self, _: &str, _: bool) -> Vec<String> {
        Vec::new()
    }
}

/// Objects by group, resource, namespace, name.
#[derive(Debug, Default)]
pub(in crate::admission) struct Objects(BTreeMap<[String; 4], Value>);

impl Objects {
    pub(in crate::admission) fn with(mut self, plural: &str, namespace: &str, object: Value) -> Self {
        let group = group_of(plural);
        let key = [group, plural, namespace, meta::name(&object)].map(str::to_owned);
        self.0.insert(key, object);
        self
    }
}

/// The group of a resource of the tests.
fn group_of(plural: &str) -> &'static str {
    match plural {
        "priorityclasses" => "scheduling.k8s.io",
        "storageclasses" => "storage.k8s.io",
        "deployments" => "apps",
        "cronjobs" => "batch",
        "ingresses" | "ingressclasses" => "networking.k8s.io",
        "runtimeclasses" => "node.k8s.io",
        "certificatesigningrequests" => "certificates.k8s.io",
        "leases" => "coordination.k8s.io",
        "csinodes" | "csidrivers" | "volumeattributesclasses" => "storage.k8s.io",
        "resourceslices" => "resource.k8s.io",
        _ => "",
    }
}

#[async_trait]
impl Reader for Objects {
    async fn get(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ApiError> {
        Ok(self
            .0
            .get(&[group, plural, namespace, name].map(str::to_owned))
            .cloned())
    }

    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, ApiError> {
        let here = |key: &[String; 4]| {
            key[0] == group && key[1] == plural && (namespace.is_empty() || key[2] == namespace)
        };
        Ok(self
            .0
            .iter()
            .filter(|(key, _)| here(key))
            .map(|(_, object)| object.clone())
            .collect())
    }
}

pub(in crate::admission) fn named(name: &str, fields: Value) -> Value {
    let mut object = json!({"metadata": {"name": name}});
    trimtab_apimachinery_schema::patch::merge(&mut object, &fields);
    object
}

pub(in crate::admission) fn attributes(
    operation: Operation,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Attributes {
    let resource = Resource {
        group: group_of(plural).to_owned(),
        version: "v1".to_owned(),
        kind: String::new(),
        list_kind: String::new(),
        plural: plural.to_owned(),
        singular: String::new(),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope: Scope::Namespaced,
        verbs: Vec::new(),
        subresources: Vec::new(),
        storage: trimtab_apimachinery_meta::GroupResource::new("", plural),
        columns: Vec::new(),
        schema: trimtab_apimachinery_schema::Schema::default().into(),
        strategy: Arc::new(Plain),
        custom: false,
        deprecation_warning: None,
        conversion: None,
    };
    Attributes {
        operation,
        resource: Arc::new(resource),
        subresource: String::new(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        user: UserInfo::default(),
        dry_run: false,
        options: Value::Null,
        deadline: None,
    }
}

/// A namespace with its default service account.
fn cluster() -> Objects {
    Objects::default()
        .with(
            "namespaces",
            "",
            named("ns", json!({"status": {"phase": "Active"}})),
        )
        .with(
            "namespaces",
            "",
            named("going", json!({"status": {"phase": "Terminating"}})),
        )
        .with(
            "serviceaccounts",
            "ns",
            named("default", json!({"imagePullSecrets": [{"name": "pull"}]})),
        )
        .with(
            "serviceaccounts",
            "ns",
            named("quiet", json!({"automountServiceAccountToken": false})),
        )
}

/// Allows nobody anything, but `admin` everything.
#[derive(Debug)]
struct Admin;

impl Authorizer for Admin {
    fn authorize(&self, user: &UserInfo, _: &trimtab_apiserver_auth::Attributes) -> Decision {
        if user.name == "admin" {
            Decision::allow("")
        } else {
            Decision::deny("")
        }
    }
}

/// What plugins work with when there is nothing else.
pub(in crate::admission) fn around() -> Surroundings {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Config::default()));
    let resources = Arc::new(ResourceTable::new(crate::crd::builtin()));
    Surroundings {
        caches: Arc::new(Caches::new(store.clone(), resources.clone())),
        store,
        reader: Arc::new(Objects::default()),
        authorizer: Arc::new(Admin),
        resources,
        entropy: crate::Entropy::default(),
    }
}

/// The plugins that are on by default.
pub(crate) fn standard(reader: &Arc<dyn Reader>) -> Chain {
    let around = Surroundings {
        reader: reader.clone(),
        ..around()
    };
    Chain::of(&Plugins::default(), &around).expect("a chain")
}

async fn admit(objects: Objects, plural: &str, namespace: &str, object: Value) -> Result<Value, ApiError> {
    let reader: Arc<dyn Reader> = Arc::new(objects);
    let chain = standard(&reader);
    let attributes = attributes(Operation::Create, plural, namespace, meta::name(&object));
    let mut object = object;
    chain
        .mutate(&attributes, &mut object, None, &mut Vec::new())
        .await?;
    chain
        .validate(&attributes, Some(&object), None, &mut Vec::new())
        .await?;
    Ok(object)
}

fn pod(spec: Value) -> Value {
    let mut pod = named(
        "p",
        json!({"spec": {"containers": [{"name": "c", "image": "i"}]}}),
    );
    trimtab_apimachinery_schema::patch::merge(&mut pod["spec"], &spec);
    pod
}

async fn refused(objects: Objects, plural: &str, namespace: &str, object: Value) -> ApiError {
    admit(objects, plural, namespace, object)
        .await
        .expect_err("must be refused")
}

#[tokio::test(start_paused = true)]
async fn objects_go_only_where_namespaces_are() {
    let map = || named("m", json!({}));
    assert!(admit(cluster(), "configmaps", "ns", map()).await.is_ok());
    let error = refused(cluster(), "configmaps", "none", map()).await;
    assert_eq!(
        (error.code, error.message.as_str()),
        (404, "namespaces \"none\" not found")
    );
    let error = refused(cluster(), "configmaps", "going", map()).await;
    let text = "configmaps \"m\" is forbidden: unable to create new content in namespace going because it is being terminated";
    assert_eq!((error.code, error.message.as_str()), (403, text));
    assert!(error.has_cause("NamespaceTerminating"));
}

#[tokio::test(start_paused = true)]
async fn the_systems_namespaces_stay() {
    let reader: Arc<dyn Reader> = Arc::new(cluster());
    let chain = standard(&reader);
    for (name, refused) in [("default", true), ("kube-system", true), ("ns", false)] {
        let attributes = attributes(Operation::Delete, "namespaces", name, name);
        let answer = chain.validate(&attributes, None, None, &mut Vec::new()).await;
        assert_eq!(answer.is_err(), refused, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_gets_account_token_tolerations_and_priority() {
    let init = json!({"initContainers": [{"name": "i", "volumeMounts": [{"name": "own", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}]});
    let pod = admit(cluster(), "pods", "ns", pod(init)).await.expect("admitted");
    let spec = &pod["spec"];
    assert_eq!(
        (&spec["serviceAccountName"], &spec["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
    let volume = spec["volumes"][0]["name"].as_str().expect("a volume");
    assert!(
        volume.starts_with("kube-api-access-") && volume.len() == "kube-api-access-".len() + 5,
        "{volume}"
    );
    let mounts = &spec["containers"][0]["volumeMounts"];
    assert_eq!(
        *mounts,
        json!([{"name": volume, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}])
    );
    assert_eq!(spec["initContainers"][0]["volumeMounts"][0]["name"], "own");
    assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&spec["priority"], &spec["preemptionPolicy"]),
        (&json!(0), &json!("PreemptLowerPriority"))
    );
    assert_eq!(spec.get("priorityClassName"), None);
}

#[tokio::test(start_paused = true)]
async fn a_pod_may_decline_the_token() {
    for spec in [
        json!({"automountServiceAccountToken": false}),
        json!({"serviceAccountName": "quiet"}),
    ] {
        let pod = admit(cluster(), "pods", "ns", pod(spec)).await.expect("admitted");
        assert_eq!(pod["spec"].get("volumes"), None);
        assert_eq!(pod["spec"]["containers"][0].get("volumeMounts"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_needs_its_account() {
    let error = refused(
        cluster(),
        "pods",
        "ns",
        pod(json!({"serviceAccountName": "none"})),
    )
    .await;
    let text = "pods \"p\" is forbidden: error looking up service account ns/none: serviceaccount \"none\" not found";
    assert_eq!((error.code, error.message.as_str()), (403, text));
}

#[tokio::test(start_paused = true)]
async fn tolerations_that_are_there_are_kept() {
    let own = json!([{"operator": "Exists"}]);
    let pod = admit(cluster(), "pods", "ns", pod(json!({"tolerations": own})))
        .await
        .expect("admitted");
    assert_eq!(pod["spec"]["tolerations"], own);
}

#[tokio::test(start_paused = true)]
async fn priorities_come_from_classes() {
    let classes = || {
        cluster()
            .with(
                "priorityclasses",
                "",
                named("high", json!({"value": 100, "preemptionPolicy": "Never"})),
            )
            .with(
                "priorityclasses",
                "",
                named("usual", json!({"value": 5, "globalDefault": true})),
            )
    };
    let cases = [
        (json!({}), "usual", 5, "PreemptLowerPriority"),
        (json!({"priorityClassName": "high"}), "high", 100, "Never"),
        (
            json!({"priorityClassName": "system-node-critical"}),
            "system-node-critical",
            2_000_001_000,
            "PreemptLowerPriority",
        ),
    ];
    for (spec, name, value, policy) in cases {
        let pod = admit(classes(), "pods", "ns", pod(spec)).await.expect("admitted");
        let spec = &pod["spec"];
        assert_eq!(
            [
                &spec["priorityClassName"],
                &spec["priority"],
                &spec["preemptionPolicy"]
            ],
            [&json!(name), &json!(value), &json!(policy)]
        );
    }
    let error = refused(classes(), "pods", "ns", pod(json!({"priorityClassName": "none"}))).await;
    assert_eq!(
        error.message,
        "pods \"p\" is forbidden: no PriorityClass with name none was found"
    );
    let error = refused(classes(), "pods", "ns", pod(json!({"priority": 7}))).await;
    assert!(
        error
            .message
            .contains("the integer value of priority (7) must not be provided in pod spec"),
        "{error}"
    );
    let second = named("second", json!({"value": 1, "globalDefault": true}));
    let error = refused(classes(), "priorityclasses", "", second).await;
    assert!(
        error
            .message
            .ends_with("PriorityClass usual is already marked as default. Only one default can exist")
    );
}

#[tokio::test(start_paused = true)]
async fn limit_ranges_fill_in_and_refuse() {
    let range = named(
        "r",
        json!({"spec": {"limits": [
            {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "250m"}, "max": {"cpu": "1"}, "min": {"cpu": "100m"}},
            {"type": "Pod", "max": {"memory": "1Gi"}},
        ]}}),
    );
    let ranges = || cluster().with("limitranges", "ns", range.clone());
    let container = |resources: Value| json!({"containers": [{"name": "c", "resources": resources}]});
    let fine = pod(container(json!({"limits": {"memory": "1Gi"}})));
    let admitted = admit(ranges(), "pods", "ns", fine).await.expect("admitted");
    let resources = &admitted["spec"]["containers"][0]["resources"];
    assert_eq!(
        *resources,
        json!({"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "250m"}})
    );
    let note = &admitted["metadata"]["annotations"]["kubernetes.io/limit-ranger"];
    assert_eq!(
        *note,
        json!("LimitRanger plugin set: cpu request for container c; cpu limit for container c")
    );

    let large = pod(container(json!({"limits": {"cpu": "2", "memory": "2Gi"}})));
    let error = refused(ranges(), "pods", "ns", large).await;
    assert_eq!(
        error.message,
        "pods \"p\" is forbidden: [maximum cpu usage per Container is 1, but limit is 2, maximum memory usage per Pod is 1Gi, but limit is 2Gi]"
    );
    let none = refused(ranges(), "pods", "ns", pod(json!({}))).await;
    assert_eq!(
        none.message,
        "pods \"p\" is forbidden: maximum memory usage per Pod is 1Gi.  No limit is specified"
    );
}

#[tokio::test(start_paused = true)]
async fn claims_get_the_newest_default_class() {
    let class = |name: &str, created: &str| {
        let annotations = json!({"storageclass.kubernetes.io/is-default-class": "true"});
        named(
            name,
            json!({"metadata": {"creationTimestamp": created, "annotations": annotations}}),
        )
    };
    let classes = || {
        cluster()
            .with("storageclasses", "", class("old", "2030-01-01T00:00:00Z"))
            .with("storageclasses", "", class("new", "2031-01-01T00:00:00Z"))
            .with("storageclasses", "", named("other", json!({})))
    };
    let claim = |spec: Value| named("c", json!({"spec": spec}));
    let given = admit(
        classes(),
        "persistentvolumeclaims",
        "ns",
        claim(json!({"volumeName": "v"})),
    )
    .await;
    assert_eq!(given.expect("admitted")["spec"]["storageClassName"], "new");
    let named = admit(
        classes(),
        "persistentvolumeclaims",
        "ns",
        claim(json!({"storageClassName": ""})),
    )
    .await;
    assert_eq!(named.expect("admitted")["spec"]["storageClassName"], "");
}
