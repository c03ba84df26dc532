//! The controller of resource quotas: what is used, counted from what is there, in the status that admission goes by.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, ReplicationController, ResourceQuota, ResourceQuotaStatus, Secret,
    Service,
};
use kube::core::PartialObjectMeta;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::quota::{self, Amounts, Counted};
use trimtab_apimachinery_meta::{GroupResource, ObjectKey, Quantity};
use trimtab_client_cache::{Cached, Delta};
use trimtab_controller_runtime::predicate::Predicate;
use trimtab_controller_runtime::source::{Caches, Source, Watch};
use trimtab_controller_runtime::{Error, Manager, Next, Reconcile, Reconciled, Result, Turn};

use crate::live;
use crate::resources::{Recent, Resources};
use crate::workload::clock::Clock;
use crate::workload::pods::facts;

/// The controller's name.
pub(crate) const NAME: &str = "resourcequota-controller";

/// How many are worked on at once. kube-controller-manager's figure.
const WORKERS: usize = 5;
/// How often all quotas are counted anew. kube-controller-manager's figure.
const RESYNC: Duration = Duration::from_secs(5 * 60);
/// When a quota that was corrected is counted again: something may have been let in that was not to be seen yet.
const AGAIN: Duration = Duration::from_secs(10);
/// What the names of counts of any kind begin with.
const COUNT: &str = "count/";

/// Describes the controller.
pub(crate) fn describe(manager: &Manager, options: &crate::Options) -> Result<()> {
    // What a pod uses is given back when it ends.
    let ends = Predicate::updates(|old: &Cached<Pod>, new: &Cached<Pod>| {
        facts(old).has_ended() != facts(new).has_ended() || facts(old).deleting != facts(new).deleting
    });
    manager
        .controller::<ResourceQuota, _>(Quotas {
            clock: options.clock,
            served: Recent::default(),
        })
        .named(NAME)
        .watching(Watch::new().when(Predicate::part(["spec"])))
        .source(gone::<Pod>(ends))
        .source(gone::<Service>(Predicate::part(["spec"])))
        .source(gone::<PersistentVolumeClaim>(Predicate::part(["spec"])))
        .source(gone::<ReplicationController>(never()))
        .source(gone::<PartialObjectMeta<Secret>>(never()))
        .source(gone::<PartialObjectMeta<ConfigMap>>(never()))
        .source(gone::<Deployment>(never()))
        .source(gone::<ReplicaSet>(never()))
        .source(gone::<StatefulSet>(never()))
        .source(gone::<DaemonSet>(never()))
        .source(gone::<Job>(never()))
        .source(gone::<CronJob>(never()))
        .resync(RESYNC)
        .workers(WORKERS)
        .start()
        .map(drop)
}

/// No update: such objects are counted, and that is all.
fn never<T: 'static>() -> Predicate<T> {
    Predicate::updates(|_, _| false)
}

/// Has the quotas of its namespace looked at when an object is gone or uses something else. What is made is counted by
/// admission.
fn gone<T: Reconciled>(updates: Predicate<T>) -> Source<ObjectKey> {
    let matters = updates.and(Predicate::new(|delta: &Delta<T>| {
        !matches!(delta, Delta::Added { .. })
    }));
    Source::watch_related(
        Watch::new().when(matters),
        |object: &Cached<T>, caches: &Caches| {
            let quotas = caches
                .store::<ResourceQuota>()
                .map(|quotas| quotas.list_in(object.namespace()));
            quotas
                .into_iter()
                .flatten()
                .map(|quota| quota.key().clone())
                .collect()
        },
    )
}

struct Quotas {
    clock: Clock,
    served: Recent,
}

impl Reconcile<ResourceQuota> for Quotas {
    async fn reconcile(&self, turn: &mut Turn<ResourceQuota>) -> Result<Next> {
        let Some(quota) = turn.latest() else {
            return Ok(Next::Done);
        };
        let spec = serde_json::to_value(&quota.spec)?;
        let hard = quota::amounts(&spec["hard"]);
        let terms: Vec<Value> = quota::terms(&spec).collect();
        let now = self.clock.now().as_second();
        let mut used = Amounts::new();
        let mut known = Vec::new();
        for (group, resource, list) in KINDS {
            let Some(counted) = Counted::of(&GroupResource::new(*group, *resource)) else {
                continue;
            };
            let names: Vec<_> = hard.keys().filter(|name| counted.knows(name)).cloned().collect();
            if names.is_empty() {
                continue;
            }
            for object in list(turn)? {
                if terms.iter().all(|term| counted.is_in_scope(term, &object)) {
                    quota::add(&mut used, &counted.usage(&object, now));
                }
            }
            known.extend(names);
        }
        let before = serde_json::to_value(&quota.status)?;
        let before = quota::amounts(&before["used"]);
        let others: Vec<_> = hard
            .keys()
            .filter(|name| !known.contains(name))
            .cloned()
            .collect();
        let mut asked = false;
        for name in others.iter().filter(|_| terms.is_empty()) {
            if let Some(count) = self.count(turn, name).await? {
                asked = true;
                used.insert(name.clone(), Quantity::whole(count));
                known.push(name.clone());
            }
        }
        // Of what cannot be counted, the server's own count stays.
        let mut counted = Amounts::new();
        for name in hard.keys() {
            let amount = match known.contains(name) {
                true => used.get(name).copied(),
                false => before.get(name).copied(),
            };
            counted.insert(name.clone(), amount.unwrap_or_else(|| Quantity::whole(0)));
        }
        let status: BTreeMap<_, _> = [
            ("hard", quota::to_value(&hard)),
            ("used", quota::to_value(&counted)),
        ]
        .into();
        let said = json!({"hard": quota::to_value(&quota::amounts(&serde_json::to_value(&quota.status)?["hard"])),
            "used": quota::to_value(&before)});
        if json!(status) != said {
            let status: ResourceQuotaStatus = serde_json::from_value(json!(status))?;
            turn.put_status(quota.status.as_ref(), &status)?;
            return Ok(Next::After(AGAIN));
        }
        // Nobody says when an object of a kind that is not watched is gone.
        Ok(if asked { Next::After(AGAIN) } else { Next::Done })
    }
}

impl Quotas {
    /// How many objects there are of a kind that is not watched here, by the name of its count: `count/widgets.example.com`.
    /// `None`: it is no such name, or such objects are not served now.
    async fn count(&self, turn: &Turn<ResourceQuota>, name: &str) -> Result<Option<i64>> {
        let Some(of) = name.strip_prefix(COUNT) else {
            return Ok(None);
        };
        let (plural, group) = of.split_once('.').unwrap_or((of, ""));
        let has = |served: &Resources| served.listed(group, plural).is_some();
        let served = self.served.get(turn.client(), has).await;
        let served = served.map_err(Error::other)?;
        let Some(resource) = served
            .listed(group, plural)
            .filter(|resource| resource.namespaced)
        else {
            return Ok(None);
        };
        let counted = live::count(turn.client(), resource, &turn.key().namespace).await;
        let counted = counted.map_err(Error::other)?;
        Ok(Some(i64::try_from(counted).unwrap_or(i64::MAX)))
    }
}

/// What is counted: group, resource, and where the objects are.
const KINDS: &[(&str, &str, Listed)] = &[
    ("", "pods", listed::<Pod>),
    ("", "services", listed::<Service>),
    ("", "persistentvolumeclaims", listed::<PersistentVolumeClaim>),
    ("", "replicationcontrollers", listed::<ReplicationController>),
    ("", "resourcequotas", listed::<ResourceQuota>),
    ("", "secrets", listed::<PartialObjectMeta<Secret>>),
    ("", "configmaps", listed::<PartialObjectMeta<ConfigMap>>),
    ("apps", "deployments", listed::<Deployment>),
    ("apps", "replicasets", listed::<ReplicaSet>),
    ("apps", "statefulsets", listed::<StatefulSet>),
    ("apps", "daemonsets", listed::<DaemonSet>),
    ("batch", "jobs", listed::<Job>),
    ("batch", "cronjobs", listed::<CronJob>),
];

type Listed = fn(&Turn<ResourceQuota>) -> Result<Vec<Value>>;

/// The objects of a kind in the quota's namespace.
fn listed<T: Reconciled>(turn: &Turn<ResourceQuota>) -> Result<Vec<Value>> {
    let all = turn.store::<T>()?.list_in(&turn.key().namespace);
    all.iter()
        .map(|object| Ok(serde_json::from_str(&object.to_json())?))
        .collect()
}
