//! What the managed fields of an object tell of an apply.

use serde_json::{Value, json};

use super::is_applied;

const MANAGER: &str = "websites";

/// An object as the server has it after an apply of [`wish`], with the server's defaults, and another manager's fields.
fn object() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "a", "namespace": "default", "uid": "u1", "resourceVersion": "7",
            "labels": {"app": "a", "others": "x"},
            "ownerReferences": [{"apiVersion": "example.com/v1", "kind": "Website", "name": "a", "uid": "w1", "controller": true}],
            "finalizers": ["others/f", "example.com/a", "example.com/b"],
            "managedFields": [
                entry(MANAGER, "Apply", "apps/v1", "", json!({
                    "f:metadata": {
                        "f:labels": {"f:app": {}},
                        "f:ownerReferences": {"k:{\"uid\":\"w1\"}": {}},
                        "f:finalizers": {"v:\"example.com/a\"": {}, "v:\"example.com/b\"": {}},
                    },
                    "f:spec": {
                        "f:replicas": {},
                        "f:selector": {},
                        "f:template": {"f:spec": {
                            "f:containers": {
                                "k:{\"name\":\"web\"}": {
                                    ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                                },
                                "k:{\"name\":\"log\"}": {".": {}, "f:name": {}, "f:image": {}},
                            },
                            "f:volumes": {"k:{\"name\":\"tmp\"}": {".": {}, "f:name": {}, "f:emptyDir": {}}},
                        }},
                    },
                })),
                entry(MANAGER, "Update", "apps/v1", "", json!({"f:metadata": {"f:annotations": {"f:by-update": {}}}})),
                entry("others", "Update", "apps/v1", "", json!({"f:metadata": {"f:labels": {"f:others": {}}, "f:finalizers": {"v:\"others/f\"": {}}}})),
                entry(MANAGER, "Apply", "apps/v1", "status", json!({"f:status": {"f:replicas": {}}})),
            ],
        },
        "spec": {
            "replicas": 2,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"spec": {
                "containers": [
                    {"name": "web", "image": "nginx", "args": ["-v"], "imagePullPolicy": "Always",
                        "ports": [{"containerPort": 80, "protocol": "TCP"}]},
                    {"name": "injected", "image": "x"},
                    {"name": "log", "image": "log", "imagePullPolicy": "Always"},
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            }},
        },
        "status": {"replicas": 2},
    })
}

fn entry(manager: &str, operation: &str, version: &str, subresource: &str, fields: Value) -> Value {
    let mut entry = json!({"manager": manager, "operation": operation, "apiVersion": version,
        "fieldsType": "FieldsV1", "time": "2030-01-01T00:00:00Z", "fieldsV1": fields});
    if !subresource.is_empty() {
        entry["subresource"] = json!(subresource);
    }
    entry
}

fn wish() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "a", "namespace": "default",
            "labels": {"app": "a"},
            "ownerReferences": [{"apiVersion": "example.com/v1", "kind": "Website", "name": "a", "uid": "w1", "controller": true}],
            "finalizers": ["example.com/a", "example.com/b"],
        },
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"spec": {
                "containers": [
                    {"name": "web", "image": "nginx", "args": ["-v"], "ports": [{"containerPort": 80}]},
                    {"name": "log", "image": "log"},
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            }},
        },
    })
}

#[test]
fn a_wish_that_was_applied_and_is_all_there_is_known() {
    assert!(is_applied(&wish(), &object(), MANAGER));
    assert!(!is_applied(&wish(), &object(), "others"));
}

#[test]
fn what_others_change_beside_the_wish_does_not_matter() {
    let mut object = object();
    object["metadata"]["labels"]["others"] = json!("y");
    object["metadata"]["resourceVersion"] = json!("8");
    object["spec"]["revisionHistoryLimit"] = json!(3);
    object["spec"]["template"]["spec"]["containers"][1]["image"] = json!("y");
    object["status"]["replicas"] = json!(1);
    assert!(is_applied(&wish(), &object, MANAGER));
}

/// Where in the wish or the object, and what is put there; null removes it.
type Change = (&'static str, Value);

fn change(value: &mut Value, (path, new): Change) {
    let (parent, last) = path.rsplit_once('/').expect("a path");
    let parent = value
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("{path} leads nowhere"));
    match (parent, new) {
        (Value::Object(fields), Value::Null) => drop(fields.remove(last).expect("it is there")),
        (Value::Object(fields), new) => drop(fields.insert(last.to_owned(), new)),
        (Value::Array(items), Value::Null) => drop(items.remove(last.parse().expect("a number"))),
        (Value::Array(items), new) => items[last.parse::<usize>().expect("a number")] = new,
        (other, _) => panic!("{other} has nothing in it"),
    }
}

#[test]
fn another_wish_is_not_the_one_that_was_applied() {
    let changes: Vec<Change> = vec![
        ("/apiVersion", json!("apps/v1beta1")),
        ("/metadata/labels/more", json!("z")),
        ("/metadata/labels/app", Value::Null),
        ("/metadata/labels/app", json!("b")),
        ("/metadata/labels", Value::Null),
        ("/metadata/annotations", json!({})),
        ("/spec/template/spec/tolerations", json!([])),
        ("/metadata/uid", json!("u1")),
        ("/metadata/ownerReferences/0/controller", Value::Null),
        ("/metadata/finalizers/1", Value::Null),
        ("/metadata/finalizers", json!(["example.com/b", "example.com/a"])),
        (
            "/metadata/finalizers",
            json!(["example.com/a", "example.com/b", "others/f"]),
        ),
        ("/metadata/finalizers", json!(["example.com/a", "example.com/a"])),
        ("/spec/replicas", Value::Null),
        ("/spec/replicas", json!(3)),
        ("/spec/paused", json!(true)),
        ("/spec/selector/matchLabels/more", json!("z")),
        ("/spec/template/spec/containers/1", Value::Null),
        (
            "/spec/template/spec/containers/1",
            json!({"name": "log2", "image": "log"}),
        ),
        ("/spec/template/spec/containers", json!("none")),
        ("/spec/template/spec/containers/0/args", json!([])),
        (
            "/spec/template/spec/containers/0/ports",
            json!([{"containerPort": 81}]),
        ),
        (
            "/spec/template/spec/containers/0/ports",
            json!([{"containerPort": 80, "protocol": "TCP"}]),
        ),
        (
            "/spec/template/spec/containers/0/ports",
            json!([{"containerPort": 80}, {"containerPort": 80}]),
        ),
        ("/spec/template/spec/containers/0/command", json!(["x"])),
        (
            "/spec/template/spec/volumes/0/emptyDir",
            json!({"medium": "Memory"}),
        ),
        ("/status", json!({"replicas": 2})),
    ];
    for change_of_wish in changes {
        let mut wish = wish();
        let what = format!("{change_of_wish:?}");
        change(&mut wish, change_of_wish);
        assert!(!is_applied(&wish, &object(), MANAGER), "{what}");
    }
    let mut wish = wish();
    let containers = wish
        .pointer_mut("/spec/template/spec/containers")
        .and_then(Value::as_array_mut);
    containers.expect("a list").reverse();
    assert!(!is_applied(&wish, &object(), MANAGER), "another order");
}

#[test]
fn an_object_that_lost_something_of_the_wish_is_seen() {
    let changes: Vec<Change> = vec![
        ("/metadata/managedFields", Value::Null),
        ("/metadata/managedFields", json!([])),
        ("/metadata/managedFields/0", Value::Null),
        ("/metadata/managedFields/0/operation", json!("Update")),
        ("/metadata/managedFields/0/subresource", json!("scale")),
        ("/metadata/managedFields/0/fieldsV1", Value::Null),
        (
            "/metadata/managedFields/0/fieldsV1/f:spec/f:replicas",
            Value::Null,
        ),
        ("/metadata/managedFields/0/fieldsV1/f:spec/f:paused", json!({})),
        (
            "/metadata/managedFields/0/fieldsV1/f:spec/f:selector",
            json!({"i:0": {}}),
        ),
        ("/metadata/labels/app", Value::Null),
        ("/metadata/labels/app", json!("b")),
        ("/metadata/ownerReferences/0/uid", json!("w2")),
        ("/metadata/ownerReferences/0/controller", json!(false)),
        ("/metadata/finalizers/1", Value::Null),
        ("/metadata/finalizers", json!(["example.com/b", "example.com/a"])),
        ("/spec/replicas", json!(3)),
        ("/spec/replicas", json!("2")),
        ("/spec/selector/matchLabels/more", json!("z")),
        ("/spec/template/spec/containers/2", Value::Null),
        ("/spec/template/spec/containers/0/args", json!(["-v", "-v"])),
        ("/spec/template/spec/containers/0/ports/0/protocol", json!("UDP")),
        (
            "/spec/template/spec/volumes/0/emptyDir",
            json!({"medium": "Memory"}),
        ),
    ];
    for change_of_object in changes {
        let mut object = object();
        let what = format!("{change_of_object:?}");
        change(&mut object, change_of_object);
        assert!(!is_applied(&wish(), &object, MANAGER), "{what}");
    }
    let mut object = object();
    let twice = object["metadata"]["managedFields"][0].clone();
    let entries = object
        .pointer_mut("/metadata/managedFields")
        .and_then(Value::as_array_mut);
    entries.expect("a list").push(twice);
    assert!(!is_applied(&wish(), &object, MANAGER), "which of the two");
}

/// A field in a map that the last apply left empty is not this manager's, even if the new wish has the same value.
#[test]
fn what_others_put_into_an_empty_map_is_theirs() {
    let (mut object, mut wish) = (object(), wish());
    let medium = json!({"medium": "Memory"});
    change(
        &mut object,
        ("/spec/template/spec/volumes/0/emptyDir", medium.clone()),
    );
    change(&mut wish, ("/spec/template/spec/volumes/0/emptyDir", medium));
    let theirs = json!({"f:spec": {"f:template": {"f:spec": {"f:volumes": {"k:{\"name\":\"tmp\"}": {"f:emptyDir": {"f:medium": {}}}}}}}});
    change(&mut object, ("/metadata/managedFields/2/fieldsV1", theirs));
    assert!(!is_applied(&wish, &object, MANAGER));
}
