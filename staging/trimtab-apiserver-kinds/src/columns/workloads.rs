//! Rows of what runs pods: workload controllers, jobs, autoscalers, budgets.

use serde_json::Value;

use super::format::{
    NONE, UNSET, age, condition, containers, items, labels, number, quantity, seconds, selector,
    selector_or_none, text,
};
use super::{Row, human_duration};
use crate::strategies::autoscaling::v1;

/// The cells of containers and images of the pod template.
fn template(row: Row<'_>) -> [Value; 2] {
    let (names, images) = containers(&row.spec["template"]["spec"]["containers"]);
    [names.into(), images.into()]
}

/// How many replicas are wished for; built-in kinds always say.
fn desired(row: Row<'_>) -> i64 {
    number(&row.spec["replicas"])
}

pub(super) fn deployment(row: Row<'_>) -> Vec<Value> {
    let [names, images] = template(row);
    vec![
        row.name(),
        format!("{}/{}", number(&row.status["readyReplicas"]), desired(row)).into(),
        number(&row.status["updatedReplicas"]).into(),
        number(&row.status["availableReplicas"]).into(),
        row.age(),
        names,
        images,
        selector(&row.spec["selector"])
            .unwrap_or_else(|| "<invalid>".to_owned())
            .into(),
    ]
}

/// A ReplicaSet, whose selector is an object.
pub(super) fn replica_set(row: Row<'_>) -> Vec<Value> {
    replicas(row, selector_or_none(&row.spec["selector"]))
}

/// A ReplicationController, whose selector is a map of labels.
pub(super) fn replication_controller(row: Row<'_>) -> Vec<Value> {
    replicas(row, labels(&row.spec["selector"]))
}

fn replicas(row: Row<'_>, selector: String) -> Vec<Value> {
    let [names, images] = template(row);
    vec![
        row.name(),
        desired(row).into(),
        number(&row.status["replicas"]).into(),
        number(&row.status["readyReplicas"]).into(),
        row.age(),
        names,
        images,
        selector.into(),
    ]
}

pub(super) fn stateful_set(row: Row<'_>) -> Vec<Value> {
    let [names, images] = template(row);
    let ready = format!("{}/{}", number(&row.status["readyReplicas"]), desired(row));
    vec![row.name(), ready.into(), row.age(), names, images]
}

pub(super) fn daemon_set(row: Row<'_>) -> Vec<Value> {
    let [names, images] = template(row);
    let observed = |field: &str| Value::from(number(&row.status[field]));
    vec![
        row.name(),
        observed("desiredNumberScheduled"),
        observed("currentNumberScheduled"),
        observed("numberReady"),
        observed("updatedNumberScheduled"),
        observed("numberAvailable"),
        labels(&row.spec["template"]["spec"]["nodeSelector"]).into(),
        row.age(),
        names,
        images,
        selector_or_none(&row.spec["selector"]).into(),
    ]
}

pub(super) fn controller_revision(row: Row<'_>) -> Vec<Value> {
    let owners = items(&row.object["metadata"]["ownerReferences"]);
    let controller = owners.iter().find(|owner| owner["controller"] == true);
    let controller = controller.map_or_else(
        || NONE.to_owned(),
        |owner| {
            let kind = text(&owner["kind"]);
            let (kind, name) = (kind.to_lowercase(), text(&owner["name"]));
            match text(&owner["apiVersion"]).split_once('/') {
                Some((group, _)) => format!("{kind}.{}/{name}", group.to_lowercase()),
                None => format!("{kind}/{name}"),
            }
        },
    );
    vec![
        row.name(),
        controller.into(),
        number(&row.object["revision"]).into(),
        row.age(),
    ]
}

pub(super) fn job(row: Row<'_>) -> Vec<Value> {
    let [names, images] = template(row);
    let succeeded = number(&row.status["succeeded"]);
    let completions = match (row.spec["completions"].as_i64(), number(&row.spec["parallelism"])) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let ended = seconds(&row.status["completionTime"]).unwrap_or(row.now);
    let duration = seconds(&row.status["startTime"]).map(|started| human_duration(ended - started));
    let is = |type_: &str| condition(row.object, type_) == Some("True");
    let status = if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if !row.object["metadata"]["deletionTimestamp"].is_null() {
        "Terminating"
    } else {
        ["Suspended", "FailureTarget", "SuccessCriteriaMet"]
            .into_iter()
            .find(|type_| is(type_))
            .unwrap_or("Running")
    };
    vec![
        row.name(),
        status.into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        row.age(),
        names,
        images,
        selector_or_none(&row.spec["selector"]).into(),
    ]
}

pub(super) fn cron_job(row: Row<'_>) -> Vec<Value> {
    let job = &row.spec["jobTemplate"]["spec"];
    let (names, images) = containers(&job["template"]["spec"]["containers"]);
    let suspend = match row.spec["suspend"] {
        Value::Bool(true) => "True",
        Value::Bool(false) => "False",
        _ => UNSET,
    };
    let last = &row.status["lastScheduleTime"];
    vec![
        row.name(),
        text(&row.spec["schedule"]).into(),
        row.spec["timeZone"].as_str().unwrap_or(NONE).into(),
        suspend.into(),
        items(&row.status["active"]).len().into(),
        last.as_str()
            .map_or_else(|| NONE.to_owned(), |last| age(last, row.now))
            .into(),
        row.age(),
        names.into(),
        images.into(),
        selector_or_none(&job["selector"]).into(),
    ]
}

pub(super) fn pod_disruption_budget(row: Row<'_>) -> Vec<Value> {
    let amount = |field: &str| match &row.spec[field] {
        Value::Null => "N/A".into(),
        Value::String(text) => text.as_str().into(),
        other => Value::from(other.to_string()),
    };
    vec![
        row.name(),
        amount("minAvailable"),
        amount("maxUnavailable"),
        number(&row.status["disruptionsAllowed"]).into(),
        row.age(),
    ]
}

/// A HorizontalPodAutoscaler of any version.
pub(super) fn autoscaler(row: Row<'_>) -> Vec<Value> {
    if text(&row.object["apiVersion"]) == "autoscaling/v1" {
        return autoscaler(Row::of(&v1::to_v2(row.object), row.now));
    }
    let target = &row.spec["scaleTargetRef"];
    let min = &row.spec["minReplicas"];
    vec![
        row.name(),
        format!("{}/{}", text(&target["kind"]), text(&target["name"])).into(),
        metrics(&row.spec["metrics"], &row.status["currentMetrics"]).into(),
        min.as_i64()
            .map_or_else(|| UNSET.to_owned(), |min| min.to_string())
            .into(),
        number(&row.spec["maxReplicas"]).into(),
        number(&row.status["currentReplicas"]).into(),
        row.age(),
    ]
}

fn metrics(specs: &Value, statuses: &Value) -> String {
    const SHOWN: usize = 2;
    let all: Vec<String> = items(specs)
        .iter()
        .enumerate()
        .map(|(i, spec)| metric(spec, &statuses[i]))
        .collect();
    if all.is_empty() {
        return NONE.to_owned();
    }
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>();
    let shown = shown.join(", ");
    if all.len() > SHOWN {
        format!("{shown} + {} more...", all.len() - SHOWN)
    } else {
        shown
    }
}

/// A metric: what it is now and what it should be.
fn metric(spec: &Value, status: &Value) -> String {
    const UNKNOWN: &str = "<unknown>";
    let (source, per_pod) = match text(&spec["type"]) {
        "External" => ("external", "average"),
        "Object" => ("object", "average"),
        "Pods" => ("pods", "always"),
        "Resource" => ("resource", "resource"),
        "ContainerResource" => ("containerResource", "resource"),
        _ => return "<unknown type>".to_owned(),
    };
    let (spec, status) = (&spec[source], &status[source]);
    let (target, current) = (&spec["target"], &status["current"]);
    let average = !target["averageValue"].is_null();
    let known = |field: &str, quantity_of: &dyn Fn(&Value) -> String| {
        if status.is_null() {
            UNKNOWN.to_owned()
        } else {
            quantity_of(&current[field])
        }
    };
    let percent = |value: &Value, none: &str| {
        value
            .as_i64()
            .map_or_else(|| none.to_owned(), |v| format!("{v}%"))
    };
    match (per_pod, average) {
        ("always", _) => format!(
            "{}/{}",
            known("averageValue", &quantity),
            quantity(&target["averageValue"])
        ),
        ("average", true) => {
            let current = match &current["averageValue"] {
                Value::Null => UNKNOWN.to_owned(),
                value => quantity(value),
            };
            format!("{current}/{} (avg)", quantity(&target["averageValue"]))
        }
        ("average", false) => format!("{}/{}", known("value", &quantity), quantity(&target["value"])),
        (_, true) => {
            let current = known("averageValue", &quantity);
            format!(
                "{}: {current}/{}",
                text(&spec["name"]),
                quantity(&target["averageValue"])
            )
        }
        (_, false) => {
            let current = percent(&current["averageUtilization"], UNKNOWN);
            let target = percent(&target["averageUtilization"], "<auto>");
            format!("{}: {current}/{target}", text(&spec["name"]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(cells: fn(Row<'_>) -> Vec<Value>, object: Value, expected: Value) {
        let cells = Value::from(cells(Row::of(&object, 1_000_000_000)));
        assert_eq!(cells, expected, "{object}");
    }

    #[test]
    fn rows_of_workloads() {
        let meta = json!({"name": "w", "creationTimestamp": "2001-09-09T01:45:40Z"});
        let template =
            json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}});
        let selector = json!({"matchLabels": {"app": "w"}});
        let spec = json!({"replicas": 3, "selector": selector, "template": template});
        check(
            deployment,
            json!({"metadata": meta, "spec": spec, "status": {"readyReplicas": 1}}),
            json!(["w", "1/3", 0, 0, "60s", "a,b", "x,y", "app=w"]),
        );
        check(
            replica_set,
            json!({"metadata": meta, "spec": spec, "status": {"replicas": 2}}),
            json!(["w", 3, 2, 0, "60s", "a,b", "x,y", "app=w"]),
        );
        check(
            job,
            json!({"metadata": meta, "spec": {"parallelism": 2, "template": template},
                "status": {"startTime": "2001-09-09T01:46:00Z", "succeeded": 1}}),
            json!(["w", "Running", "1/1 of 2", "40s", "60s", "a,b", "x,y", "<none>"]),
        );
        check(
            controller_revision,
            json!({"metadata": {"name": "r", "ownerReferences": [{"controller": true, "kind": "StatefulSet",
                "apiVersion": "apps/v1", "name": "w"}]}, "revision": 4}),
            json!(["r", "statefulset.apps/w", 4, "<unknown>"]),
        );
    }

    #[test]
    fn metrics_show_what_is_and_what_should_be() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 80}}});
        let pods = json!({"type": "Pods", "pods": {"target": {"averageValue": "500m"}}});
        let external = json!({"type": "External", "external": {"target": {"averageValue": "5"}}});
        let current = json!([{"type": "Resource", "resource": {"current": {"averageUtilization": 20}}}]);
        assert_eq!(metrics(&json!([]), &current), "<none>");
        assert_eq!(metrics(&json!([cpu]), &current), "cpu: 20%/80%");
        assert_eq!(
            metrics(&json!([cpu, pods, external]), &json!([])),
            "cpu: <unknown>/80%, <unknown>/500m + 1 more..."
        );
    }
}
