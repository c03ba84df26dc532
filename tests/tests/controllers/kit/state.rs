//! What is in the cluster, without what is different each time: UIDs, versions, times, addresses.

use std::collections::BTreeMap;

use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use serde_json::Value;

/// The objects, by kind and key.
pub(crate) type State = BTreeMap<String, Value>;

/// What is in the cluster of these kinds.
pub(crate) async fn of(client: &Client, kinds: &[ApiResource]) -> Result<State, kube::Error> {
    let mut objects = Vec::new();
    for kind in kinds {
        let api = Api::<DynamicObject>::all_with(client.clone(), kind);
        for object in api.list(&ListParams::default()).await? {
            let mut object = serde_json::to_value(object).expect("objects can be written as JSON");
            object["kind"] = kind.kind.clone().into();
            objects.push(object);
        }
    }
    let names: BTreeMap<_, _> = objects
        .iter()
        .map(|object| (text(object, "uid"), name(object)))
        .collect();
    let versions: BTreeMap<_, _> = objects
        .iter()
        .map(|object| (text(object, "resourceVersion"), name(object)))
        .collect();
    let scrubbed = objects.iter().map(|object| {
        let mut scrubbed = object.clone();
        scrub(&mut scrubbed, &names, &versions);
        (name(object), scrubbed)
    });
    Ok(scrubbed.collect())
}

/// How two states differ, a line for each object.
pub(crate) fn difference(expected: &State, is: &State) -> Vec<String> {
    let keys = expected
        .keys()
        .chain(is.keys().filter(|key| !expected.contains_key(*key)));
    let different = keys.filter(|key| expected.get(*key) != is.get(*key));
    let words = |object: Option<&Value>| object.map_or("nothing".to_owned(), ToString::to_string);
    different
        .map(|key| {
            format!(
                "{key}\n  should be {}\n  and is    {}",
                words(expected.get(key)),
                words(is.get(key))
            )
        })
        .collect()
}

fn text(object: &Value, field: &str) -> String {
    object["metadata"][field].as_str().unwrap_or_default().to_owned()
}

fn name(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    format!("{kind} {}/{}", text(object, "namespace"), text(object, "name"))
}

/// Takes out what is different each time. What refers to another object by its UID or its version refers to it by its name
/// afterwards, if there still is such a one.
fn scrub(object: &mut Value, names: &BTreeMap<String, String>, versions: &BTreeMap<String, String>) {
    let is_builtin = !object["apiVersion"].to_string().contains("example.com");
    let metadata = object["metadata"].as_object_mut().expect("objects have metadata");
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        metadata.remove(field);
    }
    if is_builtin {
        // How often a child was repaired is a matter of chance.
        metadata.remove("generation");
        if let Some(status) = object["status"].as_object_mut() {
            status.remove("observedGeneration");
        }
    }
    for owner in object["metadata"]["ownerReferences"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        let uid = owner["uid"].as_str().unwrap_or_default();
        owner["uid"] = names
            .get(uid)
            .cloned()
            .unwrap_or_else(|| "of nobody".to_owned())
            .into();
    }
    if object["kind"] == "Service" {
        let spec = object["spec"].as_object_mut().expect("Services have one");
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    if let Some(conditions) = object["status"]["conditions"].as_array_mut() {
        conditions.sort_by_key(|condition| condition["type"].to_string());
        for condition in conditions {
            condition
                .as_object_mut()
                .expect("an object")
                .remove("lastTransitionTime");
        }
    }
    current_versions(object, versions);
}

/// Annotations with the version of another object, as it is now, say of which one.
fn current_versions(value: &mut Value, versions: &BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                match (field.as_str(), value) {
                    ("annotations", Value::Object(annotations)) => {
                        let texts = annotations.values_mut();
                        for value in texts {
                            if let Some(name) = value.as_str().and_then(|text| versions.get(text)) {
                                *value = format!("the version of {name}").into();
                            }
                        }
                    }
                    (_, value) => current_versions(value, versions),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| current_versions(item, versions)),
        _ => {}
    }
}
