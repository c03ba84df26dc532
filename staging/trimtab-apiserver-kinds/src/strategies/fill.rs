//! What Go writes though nobody has set it: structs that are no pointers, and fields that are never left out.

use serde_json::{Map, Value};
use trimtab_apimachinery_schema::Schema;
use trimtab_apimachinery_schema::schema::{Additional, Type};

/// Fields that are written even when they say nothing, though they are not required: Go never leaves out a time that is
/// no pointer. By type, those of all groups.
const ALWAYS: [(&str, &[&str]); 19] = [
    (
        "CertificateSigningRequestCondition",
        &["lastUpdateTime", "lastTransitionTime"],
    ),
    ("ContainerStateRunning", &["startedAt"]),
    ("ContainerStateTerminated", &["startedAt", "finishedAt"]),
    ("DaemonSetCondition", &["lastTransitionTime"]),
    ("DeploymentCondition", &["lastUpdateTime", "lastTransitionTime"]),
    (
        "Event",
        &[
            "eventTime",
            "firstTimestamp",
            "lastTimestamp",
            "deprecatedFirstTimestamp",
            "deprecatedLastTimestamp",
            "reportingComponent",
            "reportingInstance",
        ],
    ),
    ("EventSeries", &["lastObservedTime"]),
    ("FlowSchemaCondition", &["lastTransitionTime"]),
    ("HorizontalPodAutoscalerCondition", &["lastTransitionTime"]),
    ("JobCondition", &["lastProbeTime", "lastTransitionTime"]),
    ("NamespaceCondition", &["lastTransitionTime"]),
    ("NodeCondition", &["lastHeartbeatTime", "lastTransitionTime"]),
    (
        "PersistentVolumeClaimCondition",
        &["lastProbeTime", "lastTransitionTime"],
    ),
    ("PodCondition", &["lastProbeTime", "lastTransitionTime"]),
    ("PriorityLevelConfigurationCondition", &["lastTransitionTime"]),
    ("ReplicaSetCondition", &["lastTransitionTime"]),
    ("ReplicationControllerCondition", &["lastTransitionTime"]),
    ("StatefulSetCondition", &["lastTransitionTime"]),
    ("VolumeError", &["time"]),
];

/// Whether a field of a type is always written.
fn is_always(type_: &Schema, field: &str) -> bool {
    let name = type_.name.rsplit('.').next().unwrap_or_default();
    let fields = ALWAYS.iter().find(|(known, _)| *known == name);
    fields.is_some_and(|(_, fields)| fields.contains(&field))
}

/// Fills in what an object has of an owner: empty structs, and zero values in elements of lists.
pub(super) fn fill_elements(schema: &Schema, object: &mut Value) {
    fill_below(schema, object, Zeros::InElements);
}

/// Fills in empty structs and zero values, below `metadata` only where it is not the object's own.
pub(super) fn fill_object(schema: &Schema, object: &mut Value) {
    fill_below(schema, object, Zeros::All);
}

/// When to fill in zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Zeros {
    /// Wherever Go writes them.
    All,
    /// In elements of lists and values of maps only. Elsewhere they are there in an empty object too, so that who writes
    /// an object does not own them, and they must not be there when owners are counted.
    InElements,
}

fn fill_below(schema: &Schema, object: &mut Value, zeros: Zeros) {
    let metadata = object.as_object_mut().and_then(|o| o.remove("metadata"));
    fill(schema, object, zeros);
    if let Some(object) = object.as_object_mut() {
        match metadata {
            Some(metadata) => drop(object.insert("metadata".to_owned(), metadata)),
            None => drop(object.remove("metadata")),
        }
    }
}

fn fill(schema: &Schema, value: &mut Value, zeros: Zeros) {
    match value {
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                for item in items {
                    fill(schema, item, Zeros::All);
                }
            }
        }
        Value::Object(fields) => {
            if let Additional::Schema(schema) = &schema.additional {
                for value in fields.values_mut() {
                    fill(schema, value, Zeros::All);
                }
            }
            for (name, field) in &schema.properties {
                if let Some(value) = fields.get_mut(name) {
                    fill(field, value, zeros);
                } else if is_struct(field) {
                    let mut value = Value::Object(Map::new());
                    fill(field, &mut value, zeros);
                    fields.insert(name.clone(), value);
                } else if zeros == Zeros::All && (schema.required.contains(name) || is_always(schema, name)) {
                    fields.insert(name.clone(), zero(field));
                }
            }
        }
        _ => {}
    }
}

/// Whether a field is a struct that is there even when it is empty.
fn is_struct(field: &Schema) -> bool {
    field
        .default
        .as_ref()
        .and_then(Value::as_object)
        .is_some_and(Map::is_empty)
}

/// The zero value of a field's type in Go.
fn zero(field: &Schema) -> Value {
    match field.type_ {
        _ if field.int_or_string => 0.into(),
        Some(Type::Integer | Type::Number) => 0.into(),
        Some(Type::Boolean) => false.into(),
        Some(Type::String) if !matches!(field.format.as_str(), "date-time" | "byte") => "".into(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_go_never_leaves_out_is_there() {
        let cases = [
            (
                "ReplicaSet",
                json!({"spec": {"selector": null, "template": {"metadata": {}, "spec": {"containers": null}}}, "status": {"replicas": 0}}),
            ),
            ("Ingress", json!({"spec": {}, "status": {"loadBalancer": {}}})),
            ("NetworkPolicy", json!({"spec": {"podSelector": {}}})),
            ("Lease", json!({"spec": {}})),
        ];
        for resource in crate::builtin::all() {
            let Some((_, expected)) = cases.iter().find(|(kind, _)| *kind == resource.kind) else {
                continue;
            };
            let mut object = json!({});
            fill_object(&resource.schema, &mut object);
            assert_eq!(&object, expected, "{}", resource.kind);
        }
    }
}
