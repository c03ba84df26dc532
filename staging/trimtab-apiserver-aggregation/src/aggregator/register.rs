//! APIServices that are written by the server itself: once at the start for its built-in groups, and as they come and go for
//! custom resources. What others have taken out of its hands, by the label, stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Duration, sleep};
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_core::extensions::Within;
use trimtab_apiserver_core::registry::{Registry, Resources};

use super::service::{GROUP, available};
use super::status::{Finding, ask, write_condition};

/// Says that an APIService is kept by the server, and how.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Only when it starts.
const ON_START: &str = "onstart";
/// All the time.
const ALWAYS: &str = "true";
/// How long to wait after something could not be written.
const PAUSE: Duration = Duration::from_secs(1);

/// The priorities of a group's versions.
type Versions = &'static [(&'static str, i64)];

/// The priorities of groups and versions; kube-apiserver's.
const PRIORITIES: &[(&str, i64, Versions)] = &[
    ("", 18000, &[("v1", 1)]),
    ("apps", 17800, &[("v1", 15)]),
    ("events.k8s.io", 17750, &[("v1", 15), ("v1beta1", 5)]),
    (
        "authentication.k8s.io",
        17700,
        &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)],
    ),
    ("authorization.k8s.io", 17600, &[("v1", 15)]),
    (
        "autoscaling",
        17500,
        &[("v1", 15), ("v2", 30), ("v2beta1", 9), ("v2beta2", 1)],
    ),
    ("batch", 17400, &[("v1", 15), ("v1beta1", 9), ("v2alpha1", 9)]),
    (
        "certificates.k8s.io",
        17300,
        &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)],
    ),
    ("networking.k8s.io", 17200, &[("v1", 15), ("v1beta1", 9)]),
    ("policy", 17100, &[("v1", 15), ("v1beta1", 9)]),
    ("rbac.authorization.k8s.io", 17000, &[("v1", 15)]),
    (
        "storage.k8s.io",
        16800,
        &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)],
    ),
    ("apiextensions.k8s.io", 16700, &[("v1", 15)]),
    (
        "admissionregistration.k8s.io",
        16700,
        &[("v1", 15), ("v1beta1", 12), ("v1alpha1", 9)],
    ),
    ("scheduling.k8s.io", 16600, &[("v1", 15), ("v1alpha2", 2)]),
    (
        "coordination.k8s.io",
        16500,
        &[("v1", 15), ("v1beta1", 13), ("v1alpha2", 12)],
    ),
    (
        "node.k8s.io",
        16300,
        &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)],
    ),
    ("discovery.k8s.io", 16200, &[("v1", 15), ("v1beta1", 12)]),
    (
        "resource.k8s.io",
        16200,
        &[("v1", 21), ("v1beta2", 15), ("v1beta1", 9), ("v1alpha3", 1)],
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        16100,
        &[("v1", 21), ("v1beta3", 18)],
    ),
    ("internal.apiserver.k8s.io", 16000, &[("v1alpha1", 9)]),
    ("storagemigration.k8s.io", 15800, &[("v1beta1", 9)]),
];
/// Those of custom resources.
const CUSTOM: (i64, i64) = (1000, 100);

/// The APIServices that there are, by name.
pub(super) type Known = Arc<BTreeMap<String, Arc<Value>>>;

/// What is to become of one APIService.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Create,
    Delete,
    Update,
}

/// Keeps the conditions of APIServices that this server serves itself and, if it `registers`, the APIServices of what it has. It
/// ends when `known` does.
pub(super) async fn keep(within: Within, mut known: watch::Receiver<Known>, registers: bool) {
    let registry = &within.registry;
    let at_start: BTreeSet<String> = known.borrow().keys().cloned().collect();
    let mut done: BTreeSet<String> = BTreeSet::new();
    loop {
        let mut table = registry.resources().changes();
        let current = known.borrow_and_update().clone();
        let mut is_whole = true;
        for (name, _) in current.iter().filter(|(_, object)| is_unsettled(object)) {
            let local = Finding::yes("Local", "Local APIServices are always available");
            // Who has written meanwhile, or deleted it, is told of.
            is_whole &= match write_condition(&within, name, &local).await {
                Err(error) => error.is_conflict() || error.is_not_found(),
                Ok(()) => true,
            };
        }
        let wanted = match registers {
            true => wanted(&registry.resources().snapshot()),
            false => BTreeMap::new(),
        };
        let all = wanted.keys().chain(current.keys()).filter(|_| registers);
        let names: BTreeSet<&String> = all.collect();
        for name in names {
            let (there, wanted) = (current.get(name).map(|v| &**v), wanted.get(name));
            let step = step(there, wanted, at_start.contains(name), done.contains(name));
            let taken = match (step, there, wanted) {
                (Some(step), there, wanted) => take(registry, &step, name, there, wanted).await,
                (None, ..) => Ok(()),
            };
            match taken {
                Ok(()) => drop(done.insert(name.clone())),
                Err(error) => {
                    tracing::warn!(%error, name, "an APIService of this server cannot be kept, trying again");
                    is_whole = false;
                }
            }
        }
        tokio::select! {
            biased;
            changed = known.changed() => if changed.is_err() { return },
            () = table.changed() => {}
            () = sleep(PAUSE), if !is_whole => {}
        }
    }
}

/// Whether an APIService of this server itself does not say so.
fn is_unsettled(object: &Value) -> bool {
    object["spec"]["service"].is_null()
        && available(object)
            .is_none_or(|condition| condition["status"] != "True" || condition["reason"] != "Local")
}

/// The APIServices that the server is to have.
fn wanted(table: &Resources) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for resource in table.iter().filter(|resource| resource.group != GROUP) {
        let (group, version) = (resource.group.as_str(), resource.version.as_str());
        let (priorities, managed) = match resource.custom {
            true => (Some(CUSTOM), ALWAYS),
            false => (priorities(group, version), ON_START),
        };
        // Others would stay for ever if they were of a definition that goes.
        let Some((of_group, of_version)) = priorities else {
            continue;
        };
        let name = format!("{version}.{group}");
        all.entry(name.clone()).or_insert_with(|| {
            json!({
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": name, "labels": {MANAGED: managed}},
                "spec": spec(group, version, of_group, of_version),
            })
        });
    }
    all
}

fn spec(group: &str, version: &str, of_group: i64, of_version: i64) -> Value {
    let mut spec =
        json!({"version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version});
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    spec
}

fn priorities(group: &str, version: &str) -> Option<(i64, i64)> {
    let (_, of_group, versions) = PRIORITIES.iter().find(|(name, ..)| *name == group)?;
    let (_, of_version) = versions.iter().find(|(name, _)| *name == version)?;
    Some((*of_group, *of_version))
}

/// How an APIService is managed; empty when it is not.
fn managed(object: Option<&Value>) -> &str {
    let label = object.map(|object| &object["metadata"]["labels"][MANAGED]);
    label.and_then(Value::as_str).unwrap_or_default()
}

/// What is to be done about an APIService that is there or not, and wanted or not; `done` says whether something or nothing was
/// done about it successfully before. The table is that of kube-aggregator's `autoregister`.
fn step(there: Option<&Value>, wanted: Option<&Value>, was_at_start: bool, done: bool) -> Option<Step> {
    if managed(wanted) == ON_START && done {
        return None;
    }
    let Some(current) = there else {
        return wanted.map(|_| Step::Create);
    };
    match (managed(there), wanted) {
        (ON_START, _) if !was_at_start || done => None,
        (ON_START | ALWAYS, None) => Some(Step::Delete),
        (ON_START | ALWAYS, Some(wanted)) => {
            (!is_same(&current["spec"], &wanted["spec"])).then_some(Step::Update)
        }
        _ => None,
    }
}

/// Whether two specs say the same; the core group may be left out or empty.
fn is_same(one: &Value, other: &Value) -> bool {
    let bare = |spec: &Value| {
        let mut spec = spec.as_object().cloned().unwrap_or_default();
        spec.retain(|_, value| !value.is_null() && value != "");
        spec
    };
    bare(one) == bare(other)
}

async fn take(
    registry: &Registry,
    step: &Step,
    name: &str,
    there: Option<&Value>,
    wanted: Option<&Value>,
) -> Result<(), ApiError> {
    let there = there.cloned().unwrap_or_default();
    let done = match step {
        Step::Create => ask(registry, "create", "POST", "", "", wanted).await,
        Step::Delete => {
            let options = json!({"preconditions": {"uid": there["metadata"]["uid"]}});
            ask(registry, "delete", "DELETE", name, "", Some(&options)).await
        }
        Step::Update => {
            let mut current = ask(registry, "get", "GET", name, "", None).await?;
            current["spec"] = wanted.map(|wanted| wanted["spec"].clone()).unwrap_or_default();
            ask(registry, "update", "PUT", name, "", Some(&current)).await
        }
    };
    match done {
        // Somebody else has been there: that is told, and looked at again.
        Err(error) if error.is_conflict() || error.is_already_exists() || error.is_not_found() => Ok(()),
        done => done.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(managed: &str, version_priority: i64) -> Value {
        let mut object = json!({"metadata": {"labels": {}}, "spec": spec("g", "v1", 1000, version_priority)});
        if !managed.is_empty() {
            object["metadata"]["labels"][MANAGED] = managed.into();
        }
        object
    }

    #[test]
    fn what_becomes_of_an_api_service_is_kube_aggregators_table() {
        let (none, start, always) = (None, Some(object(ON_START, 1)), Some(object(ALWAYS, 1)));
        let (mine, old_start, old_always) = (
            Some(object("", 2)),
            Some(object(ON_START, 2)),
            Some(object(ALWAYS, 2)),
        );
        use Step::{Create, Delete, Update};
        // What is there, whether it was so at the start, what is wanted, whether it was done before, and what is to be done.
        for (there, was_at_start, wanted, done, step_wanted) in [
            (&none, false, &none, false, None),
            (&none, false, &start, false, Some(Create)),
            (&none, false, &start, true, None),
            (&none, false, &always, false, Some(Create)),
            (&none, false, &always, true, Some(Create)),
            (&mine, true, &none, false, None),
            (&mine, true, &start, false, None),
            (&mine, true, &always, true, None),
            (&old_start, false, &none, false, None),
            (&old_start, false, &start, false, None),
            (&old_start, false, &always, false, None),
            (&old_start, true, &none, false, Some(Delete)),
            (&old_start, true, &none, true, None),
            (&old_start, true, &start, false, Some(Update)),
            (&old_start, true, &start, true, None),
            (&old_start, true, &always, false, Some(Update)),
            (&old_always, false, &none, true, Some(Delete)),
            (&old_always, true, &start, false, Some(Update)),
            (&old_always, false, &always, true, Some(Update)),
            (&always, false, &always, false, None),
        ] {
            let case = format!("{there:?} at start {was_at_start}, wanted {wanted:?}, done {done}");
            let taken = step(there.as_ref(), wanted.as_ref(), was_at_start, done);
            assert_eq!(taken, step_wanted, "{case}");
        }
    }

    #[test]
    fn every_built_in_group_has_its_priorities() {
        let all = trimtab_apiserver_kinds::builtin::all();
        let missing: BTreeSet<String> = all
            .iter()
            .filter(|r| r.group != GROUP && priorities(&r.group, &r.version).is_none())
            .map(|r| format!("{}/{}", r.group, r.version))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(spec("", "v1", 18000, 1).get("group"), None);
        assert!(is_same(
            &json!({"group": "", "version": "v1"}),
            &json!({"version": "v1"})
        ));
    }
}
