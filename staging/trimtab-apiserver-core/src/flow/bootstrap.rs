//! The flow schemas and priority levels that every cluster has: those that must be, and those that are suggested. They
//! are written when the server starts, and kept as they should be unless they say that they are not to be.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use trimtab_apiserver_storage::{Compare, Error, KeyValue, Op, RangeRequest, Store, Txn};

use crate::ambient::Ambient;
use crate::registry::{keys, meta};

/// Whether the server keeps an object's spec as it suggests: `true` or `false`.
pub(crate) const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// The names that only mandatory objects have.
pub(crate) const EXEMPT: &str = "exempt";
pub(crate) const CATCH_ALL: &str = "catch-all";
const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";

/// Where flow schemas and priority levels are stored.
pub(crate) const SCHEMAS: &str = "flowschemas/";
pub(crate) const LEVELS: &str = "prioritylevelconfigurations/";

const NODES: &str = "system:nodes";
const MASTERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";

/// One of the objects that every cluster has.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) object: Value,
    /// It is as it is, whatever anybody says.
    pub(crate) mandatory: bool,
}

/// All of them, levels first.
pub(crate) fn objects() -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::new();
    let mut add = |object, mandatory| all.push(Wanted { object, mandatory });
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    add(object("PriorityLevelConfiguration", EXEMPT, exempt), true);
    let rest = limited(5, 0, &json!({"type": "Reject"}));
    add(object("PriorityLevelConfiguration", CATCH_ALL, rest), true);
    for (name, shares, lendable, queues, hand) in [
        ("system", 30, 33, 64, 6),
        ("node-high", 40, 25, 64, 6),
        ("leader-election", 10, 0, 16, 4),
        ("workload-high", 40, 50, 128, 6),
        ("workload-low", 100, 90, 128, 6),
        ("global-default", 20, 50, 128, 6),
    ] {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
        let spec = limited(shares, lendable, &json!({"type": "Queue", "queuing": queuing}));
        add(object("PriorityLevelConfiguration", name, spec), false);
    }
    let everything = || {
        (
            json!([resource(&["*"], "*", &["*"], true)]),
            paths(&["*"], &["*"]),
        )
    };
    let anyone = || groups(&[UNAUTHENTICATED, AUTHENTICATED]);
    let kube_system =
        || json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "kube-system"}});
    add(
        schema(EXEMPT, EXEMPT, 1, "", groups(&[MASTERS]), everything()),
        true,
    );
    add(
        schema(CATCH_ALL, CATCH_ALL, 10_000, "ByUser", anyone(), everything()),
        true,
    );
    let mut suggest = |name, level, precedence, by, subjects, does: (Value, Value)| {
        add(schema(name, level, precedence, by, subjects, does), false);
    };
    suggest(
        "system-nodes",
        "system",
        500,
        "ByUser",
        groups(&[NODES]),
        everything(),
    );
    let nodes = json!([
        resource(&["*"], "", &["nodes", "nodes/status"], true),
        resource(&["*"], "coordination.k8s.io", &["leases"], false),
    ]);
    suggest(
        "system-node-high",
        "node-high",
        400,
        "ByUser",
        groups(&[NODES]),
        (nodes, Value::Null),
    );
    let probes = paths(&["get"], &["/healthz", "/readyz", "/livez"]);
    suggest("probes", EXEMPT, 2, "", anyone(), (Value::Null, probes));
    let mut leaders = users(&[CONTROLLER_MANAGER, SCHEDULER]);
    leaders.push(kube_system());
    let leases = resource(
        &["get", "create", "update"],
        "coordination.k8s.io",
        &["leases"],
        false,
    );
    suggest(
        "system-leader-election",
        "leader-election",
        100,
        "ByUser",
        leaders,
        (json!([leases]), Value::Null),
    );
    for (name, precedence, subjects) in [
        ("kube-controller-manager", 800, users(&[CONTROLLER_MANAGER])),
        ("kube-scheduler", 800, users(&[SCHEDULER])),
        ("kube-system-service-accounts", 900, vec![kube_system()]),
    ] {
        suggest(
            name,
            "workload-high",
            precedence,
            "ByNamespace",
            subjects,
            everything(),
        );
    }
    let accounts = groups(&["system:serviceaccounts"]);
    suggest(
        "service-accounts",
        "workload-low",
        9000,
        "ByUser",
        accounts,
        everything(),
    );
    suggest(
        "global-default",
        "global-default",
        9900,
        "ByUser",
        anyone(),
        everything(),
    );
    all
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}},
        "spec": spec,
    })
}

fn limited(shares: u32, lendable: u32, response: &Value) -> Value {
    let limited =
        json!({"nominalConcurrencyShares": shares, "limitResponse": response, "lendablePercent": lendable});
    json!({"type": "Limited", "limited": limited})
}

fn schema(
    name: &str,
    level: &str,
    precedence: u32,
    by: &str,
    subjects: Vec<Value>,
    (resources, paths): (Value, Value),
) -> Value {
    let mut rule = json!({"subjects": subjects});
    for (field, rules) in [("resourceRules", resources), ("nonResourceRules", paths)] {
        if !rules.is_null() {
            rule[field] = rules;
        }
    }
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [rule],
    });
    if !by.is_empty() {
        spec["distinguisherMethod"] = json!({"type": by});
    }
    object("FlowSchema", name, spec)
}

fn groups(names: &[&str]) -> Vec<Value> {
    let group = |name: &&str| json!({"kind": "Group", "group": {"name": name}});
    names.iter().map(group).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    let user = |name: &&str| json!({"kind": "User", "user": {"name": name}});
    names.iter().map(user).collect()
}

fn resource(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = true.into();
    }
    rule
}

fn paths(verbs: &[&str], paths: &[&str]) -> Value {
    json!([{"verbs": verbs, "nonResourceURLs": paths}])
}

/// The condition of a flow schema whose level is there, or is not.
pub(crate) fn dangling(level: &str, found: bool, now: &str) -> Value {
    let (status, reason, what) = if found {
        ("False", "Found", "it exists")
    } else {
        ("True", "NotFound", "there is no such object")
    };
    let but = if found { "and" } else { "but" };
    json!({
        "type": "Dangling",
        "status": status,
        "lastTransitionTime": now,
        "reason": reason,
        "message":
            format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {but} {what}"),
    })
}

/// Writes what is missing or is not as it should be, in one transaction.
///
/// # Errors
///
/// When the store cannot be read or written.
pub(crate) async fn ensure(store: &dyn Store, ambient: &Ambient) -> Result<(), Error> {
    let wanted = objects();
    loop {
        let mut stored = read(store).await?;
        let mut txn = Txn::default();
        for Wanted { object, mandatory } in &wanted {
            let key = Bytes::from(key(object));
            let kv = stored.remove(&key);
            let revision = kv.as_ref().map_or(0, |kv| kv.mod_revision);
            let Some(object) = due(kv.map(|kv| kv.value), object, *mandatory, ambient) else {
                continue;
            };
            txn.compare.push(Compare::ModRevision(key.clone(), revision));
            txn.success.push(Op::Put {
                key,
                value: object.to_string().into(),
                ttl: None,
            });
        }
        // Otherwise somebody has been quicker: what is missing now?
        if txn.success.is_empty() || store.txn(txn).await?.succeeded {
            return Ok(());
        }
    }
}

async fn read(store: &dyn Store) -> Result<BTreeMap<Bytes, KeyValue>, Error> {
    let mut all = BTreeMap::new();
    for path in [SCHEMAS, LEVELS] {
        let request = RangeRequest::prefix(format!("{}{path}", keys::ROOT));
        let kvs = store.range(request).await?.kvs;
        all.extend(kvs.into_iter().map(|kv| (kv.key.clone(), kv)));
    }
    Ok(all)
}

fn key(object: &Value) -> String {
    let path = if object["kind"] == "FlowSchema" {
        SCHEMAS
    } else {
        LEVELS
    };
    format!("{}{path}{}", keys::ROOT, meta::name(object))
}

/// What is to be written of an object, if anything is.
fn due(stored: Option<Bytes>, wanted: &Value, mandatory: bool, ambient: &Ambient) -> Option<Value> {
    let now = ambient.timestamp();
    let now = now.as_str();
    let Some(stored) = stored else {
        let mut object = wanted.clone();
        meta::set(&mut object, "uid", ambient.entropy.uid());
        meta::set(&mut object, "creationTimestamp", now);
        meta::set(&mut object, "generation", 1);
        object["status"] = json!({});
        if object["kind"] == "FlowSchema" {
            // Its level is written beside it.
            let level = object["spec"]["priorityLevelConfiguration"]["name"].as_str();
            object["status"] = json!({"conditions": [dangling(level.unwrap_or_default(), true, now)]});
        }
        return Some(object);
    };
    let mut object: Value = match serde_json::from_slice(&stored) {
        Ok(object) => object,
        Err(error) => {
            tracing::error!(key = key(wanted), %error, "a stored object cannot be read");
            return None;
        }
    };
    // As Go reads booleans.
    let says = match object["metadata"]["annotations"][AUTO_UPDATE].as_str() {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Some(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Some(false),
        _ => None,
    };
    // If it says nothing, and nobody has changed it since it was made, it may be kept.
    let kept = mandatory || says.unwrap_or(object["metadata"]["generation"] == 1);
    let annotate = says != Some(kept);
    let respec = kept && !is_as_wanted(&object["spec"], wanted);
    if !annotate && !respec {
        return None;
    }
    let metadata = &mut object["metadata"];
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"][AUTO_UPDATE] = if kept { "true" } else { "false" }.into();
    if respec {
        metadata["generation"] = (metadata["generation"].as_i64().unwrap_or(0) + 1).into();
        object["spec"] = wanted["spec"].clone();
    }
    Some(object)
}

/// Whether a spec is the one that is wanted. How many seats the exempt level has and lends is anyone's to say.
fn is_as_wanted(spec: &Value, wanted: &Value) -> bool {
    if wanted["spec"]["type"] == "Exempt" {
        return spec["type"] == "Exempt" && spec["exempt"].is_object();
    }
    *spec == wanted["spec"]
}

#[cfg(test)]
mod tests {
    use trimtab_apiserver_kinds::strategy::RequestContext;

    use super::*;

    #[test]
    fn what_is_not_as_it_should_be_is_put_right_unless_it_says_no() {
        let wanted = objects();
        let suggested = wanted
            .iter()
            .find(|w| w.object["metadata"]["name"] == "workload-low")
            .expect("there");
        let ambient = &Ambient::default();
        let made = due(None, &suggested.object, false, ambient).expect("is missing");
        assert_eq!(made["metadata"]["generation"], 1);
        let due_of = |object: &Value, mandatory| {
            due(
                Some(object.to_string().into()),
                &suggested.object,
                mandatory,
                ambient,
            )
        };
        assert_eq!(due_of(&made, false), None);
        let mut changed = made.clone();
        changed["spec"]["limited"]["nominalConcurrencyShares"] = 7.into();
        changed["metadata"]["generation"] = 2.into();
        let again = due_of(&changed, false).expect("is put right");
        assert_eq!(
            (&again["spec"], &again["metadata"]["generation"]),
            (&made["spec"], &json!(3))
        );
        changed["metadata"]["annotations"][AUTO_UPDATE] = "false".into();
        assert_eq!(due_of(&changed, false), None, "it says no");
        let forced = due_of(&changed, true).expect("must be");
        assert_eq!(forced["metadata"]["annotations"][AUTO_UPDATE], "true");
        changed["metadata"]["annotations"] = Value::Null;
        let noted = due_of(&changed, false).expect("is noted");
        assert_eq!(
            (&noted["metadata"]["annotations"][AUTO_UPDATE], &noted["spec"]),
            (&json!("false"), &changed["spec"]),
            "somebody has changed it"
        );
    }

    #[test]
    fn the_kinds_rules_find_no_fault_with_them() {
        let context = RequestContext {
            now: "2026-01-01T00:00:00Z".to_owned(),
            namespace: String::new(),
            subresource: String::new(),
            user: "system:apiserver".to_owned(),
            requester: Value::Null,
        };
        for Wanted { object, .. } in objects() {
            let kind = object["kind"].as_str().expect("a kind");
            let resource = crate::crd::builtin().into_iter().find(|r| r.kind == kind);
            let strategy = resource.expect("served").strategy.clone();
            let errors = strategy.validate_create(&context, &object);
            assert!(errors.is_empty(), "{}: {errors:?}", object["metadata"]["name"]);
            let mut defaulted = object.clone();
            strategy.default(&mut defaulted);
            assert_eq!(defaulted["spec"], object["spec"], "nothing is left to defaults");
        }
    }
}
