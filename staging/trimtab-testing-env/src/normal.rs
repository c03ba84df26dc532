//! Objects without what is different in each run, so that runs and golden files can be compared.
//!
//! | what | becomes |
//! |---|---|
//! | `uid`, `resourceVersion`, `generation`, `managedFields`, `selfLink` of the metadata | nothing |
//! | `resourceVersion` of a reference by UID | nothing |
//! | `observedGeneration` | `current` or `behind`, where the object has a generation |
//! | the UID of an object that is there, wherever it is written | that object's kind, namespace and name |
//! | the UID of an owner that is not there | `nobody` |
//! | a generated name, wherever it is written | its prefix and a number |
//! | the name of the volume that a pod has its token from | `kube-api-access-<>` |
//! | a time (RFC 3339) | `<time>` |
//! | addresses and node ports that the server has given to a Service | nothing |

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

/// What the server calls the volume with a pod's token, before five characters that are random.
const TOKEN_VOLUME: &str = "kube-api-access-";

/// Objects by kind, namespace and name, without what is different in each run.
pub type State = BTreeMap<String, Value>;

/// The objects without what is different in each run.
pub fn normalised<'a>(objects: impl IntoIterator<Item = &'a Value>) -> State {
    let objects: Vec<&Value> = objects.into_iter().collect();
    let names = generated(&objects);
    let mut known = names.clone();
    for object in &objects {
        let uid = text(object, "uid");
        if !uid.is_empty() {
            known.insert(uid.to_owned(), id(object, &names));
        }
    }
    let normal = |object: &&Value| {
        let id = id(object, &names);
        let mut object = (*object).clone();
        scrub_object(&mut object, &known);
        (id, object)
    };
    objects.iter().map(normal).collect()
}

/// What an object is called in a [`State`], but for generated names.
pub fn name_of(object: &Value) -> String {
    id(object, &BTreeMap::new())
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

fn id(object: &Value, names: &BTreeMap<String, String>) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    let name = text(object, "name");
    let name = names.get(name).map_or(name, String::as_str);
    match text(object, "namespace") {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    }
}

/// What generated names become: numbered by what the objects say, since the names say nothing.
fn generated(objects: &[&Value]) -> BTreeMap<String, String> {
    let mut by_prefix = BTreeMap::<(String, String), Vec<(String, String)>>::new();
    for object in objects {
        let (prefix, name) = (text(object, "generateName"), text(object, "name"));
        if prefix.is_empty() || !name.starts_with(prefix) {
            continue;
        }
        let mut content = (*object).clone();
        scrub_object(&mut content, &BTreeMap::from([(name.to_owned(), String::new())]));
        let kind = format!("{} {}", object["kind"], text(object, "namespace"));
        let same = by_prefix.entry((kind, prefix.to_owned())).or_default();
        same.push((content.to_string(), name.to_owned()));
    }
    let mut names = BTreeMap::new();
    for ((_, prefix), mut same) in by_prefix {
        same.sort();
        for (number, (_, name)) in same.into_iter().enumerate() {
            names.insert(name, format!("{prefix}<{number}>"));
        }
    }
    names
}

fn scrub_object(object: &mut Value, known: &BTreeMap<String, String>) {
    let generation = object["metadata"]["generation"].clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in [
            "uid",
            "resourceVersion",
            "generation",
            "managedFields",
            "selfLink",
        ] {
            metadata.remove(field);
        }
        let owners = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut);
        for owner in owners.into_iter().flatten() {
            let uid = owner["uid"].as_str().unwrap_or_default();
            owner["uid"] = known.get(uid).map_or("nobody", String::as_str).into();
        }
    }
    if object["kind"] == "Service" {
        scrub_service(object);
    }
    scrub(object, known, &generation);
}

fn scrub_service(object: &mut Value) {
    let Some(spec) = object["spec"].as_object_mut() else {
        return;
    };
    if spec.get("clusterIP").is_some_and(|ip| ip != "None") {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    spec.remove("healthCheckNodePort");
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        port.remove("nodePort");
    }
}

fn scrub(value: &mut Value, known: &BTreeMap<String, String>, generation: &Value) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("uid") {
                fields.remove("resourceVersion");
            }
            for (field, value) in fields {
                if field == "observedGeneration" && !generation.is_null() {
                    *value = if value == generation { "current" } else { "behind" }.into();
                } else {
                    scrub(value, known, generation);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| scrub(item, known, generation)),
        Value::String(text) => {
            if let Some(name) = known.get(text.as_str()) {
                text.clone_from(name);
            } else if text
                .strip_prefix(TOKEN_VOLUME)
                .is_some_and(|suffix| suffix.len() == 5)
            {
                *text = format!("{TOKEN_VOLUME}<>");
            } else if is_time(text) {
                "<time>".clone_into(text);
            }
        }
        _ => {}
    }
}

fn is_time(text: &str) -> bool {
    (20..=40).contains(&text.len()) && text.as_bytes()[10] == b'T' && text.parse::<Timestamp>().is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(uids: [&str; 3], suffixes: [&str; 2], time: &str, generation: u32) -> State {
        let objects = [
            json!({"kind": "Toy", "metadata": {"name": "a", "namespace": "n", "uid": uids[0], "generation": generation,
                "creationTimestamp": time}, "status": {"observedGeneration": generation, "first": format!("w-{}", suffixes[0])}}),
            json!({"kind": "Pod", "metadata": {"name": format!("w-{}", suffixes[0]), "generateName": "w-", "uid": uids[1],
                "ownerReferences": [{"name": "a", "uid": uids[0]}]}, "spec": {"colour": "red", "volume": format!("kube-api-access-{}", suffixes[1])}}),
            json!({"kind": "Pod", "metadata": {"name": format!("w-{}", suffixes[1]), "generateName": "w-", "uid": uids[2],
                "ownerReferences": [{"name": "gone", "uid": "of one that is gone"}]},
                "spec": {"colour": "blue", "ref": {"name": "a", "uid": uids[0], "resourceVersion": uids[1]}}}),
        ];
        normalised(&objects)
    }

    #[test]
    fn runs_that_did_the_same_are_the_same() {
        let one = run(["1", "2", "3"], ["aaaaa", "zzzzz"], "2030-01-01T00:00:00Z", 1);
        let other = run(
            ["7", "8", "9"],
            ["zzzzz", "aaaaa"],
            "2031-01-01T00:00:00.123456Z",
            5,
        );
        assert_eq!(one, other);
        assert_eq!(
            one["Toy n/a"]["status"],
            json!({"observedGeneration": "current", "first": "w-<0>"})
        );
        let owners: Vec<_> = ["Pod w-<0>", "Pod w-<1>"]
            .iter()
            .map(|pod| one[*pod]["metadata"]["ownerReferences"][0]["uid"].as_str())
            .collect();
        assert_eq!(owners, [Some("Toy n/a"), Some("nobody")]);
        assert_eq!(
            one["Pod w-<1>"]["spec"]["ref"],
            json!({"name": "a", "uid": "Toy n/a"})
        );
    }
}
