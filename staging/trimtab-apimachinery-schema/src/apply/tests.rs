//! Ownership story by story, and the clauses of the module as properties.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use trimtab_apimachinery_meta::{ApiError, managed_fields};

use super::last_applied::ANNOTATION as LAST_APPLIED;
use super::set::FieldSet;
use super::*;
use crate::schema::{Additional, ListType, Schema, Type};

fn typed(type_: Type) -> Schema {
    Schema {
        type_: Some(type_),
        ..Schema::default()
    }
}

fn object(fields: Vec<(&str, Schema)>) -> Schema {
    let properties = fields
        .into_iter()
        .map(|(k, v)| (k.to_owned(), Arc::new(v)))
        .collect();
    Schema {
        properties,
        ..typed(Type::Object)
    }
}

fn map_of(values: Schema) -> Schema {
    Schema {
        additional: Additional::Schema(Arc::new(values)),
        ..typed(Type::Object)
    }
}

fn list_of(items: Schema, list_type: ListType, keys: &[&str]) -> Schema {
    Schema {
        items: Some(Arc::new(items)),
        list_type,
        list_map_keys: keys.iter().map(|k| (*k).to_owned()).collect(),
        ..typed(Type::Array)
    }
}

/// Text, numbers, maps, sets, map lists with a defaulted key, atomic lists and maps.
fn schema() -> Schema {
    let text = || typed(Type::String);
    let protocol = Schema {
        default: Some(json!("TCP")),
        ..text()
    };
    let port = object(vec![
        ("port", typed(Type::Integer)),
        ("protocol", protocol),
        ("name", text()),
    ]);
    let part = object(vec![
        ("name", text()),
        ("image", text()),
        ("ports", list_of(port, ListType::Map, &["port", "protocol"])),
    ]);
    let spec = object(vec![
        ("replicas", typed(Type::Integer)),
        ("paused", typed(Type::Boolean)),
        (
            "selector",
            Schema {
                map_atomic: true,
                ..map_of(text())
            },
        ),
        ("parts", list_of(part, ListType::Map, &["name"])),
        ("args", list_of(text(), ListType::Atomic, &[])),
        ("tags", list_of(text(), ListType::Set, &[])),
        ("blob", Schema::any()),
    ]);
    let metadata = object(vec![
        ("name", text()),
        ("uid", text()),
        ("labels", map_of(text())),
        ("annotations", map_of(text())),
        ("managedFields", list_of(Schema::any(), ListType::Atomic, &[])),
    ]);
    let empty = |schema: Schema| Schema {
        default: Some(json!({})),
        ..schema
    };
    object(vec![
        ("apiVersion", text()),
        ("kind", text()),
        ("metadata", empty(metadata)),
        ("spec", empty(spec)),
        ("data", map_of(text())),
        ("status", empty(object(vec![("ready", typed(Type::Integer))]))),
    ])
}

fn write(manager: &str, minute: u32) -> Write {
    Write {
        manager: manager.to_owned(),
        api_version: "x.io/v1".to_owned(),
        kind: "Thing".to_owned(),
        now: format!("2030-01-01T00:{:02}:00Z", minute % 60),
        ..Write::default()
    }
}

fn thing(fields: Value) -> Value {
    let mut thing = json!({"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"name": "a"}});
    crate::patch::merge(&mut thing, &fields);
    thing
}

/// Applies as the server would: what it adds to a new object is added.
fn applied(live: Option<&Value>, config: Value, write: &Write) -> Value {
    let mut object = apply(&schema(), live, &thing(config), write).unwrap_or_else(|e| panic!("{e}"));
    object["metadata"]["uid"] = json!("u");
    object
}

fn refused(live: &Value, config: Value, write: &Write) -> ApiError {
    apply(&schema(), Some(live), &thing(config), write)
        .expect_err("must be refused")
        .into()
}

fn updated(live: Option<&Value>, new: Value, write: &Write) -> Value {
    let mut new = thing(new);
    track_update(&schema(), live, &mut new, write);
    new["metadata"]["uid"] = json!("u");
    new
}

/// Manager, operation and fields of each entry.
fn owners(object: &Value) -> Value {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let row = |e: &Value| json!([e["manager"], e["operation"], e["fieldsV1"]]);
    entries.iter().map(row).collect()
}

#[test]
fn an_applier_owns_what_it_applies_and_drops_what_it_no_longer_does() {
    let a = write("a", 1);
    let one = applied(None, json!({"data": {"k": "v", "l": "w"}}), &a);
    assert_eq!(
        owners(&one),
        json!([["a", "Apply", {"f:data": {"f:k": {}, "f:l": {}}}]])
    );
    let two = applied(Some(&one), json!({"data": {"k": "v", "l": "w"}}), &write("b", 2));
    assert_eq!(
        two["metadata"]["managedFields"][0].get("time"),
        None,
        "b changed nothing: {two}"
    );
    let three = applied(Some(&two), json!({"data": {"k": "v"}}), &write("a", 3));
    assert_eq!(three["data"], json!({"k": "v", "l": "w"}), "l is b's too");
    let four = applied(Some(&three), json!({"data": {"k": "v"}}), &write("b", 4));
    assert_eq!(four["data"], json!({"k": "v"}));
    let five = applied(Some(&four), json!({}), &write("b", 5));
    let six = applied(Some(&five), json!({}), &write("a", 6));
    assert_eq!(
        (six.get("data"), owners(&six)),
        (None, json!([])),
        "the last field takes the map along"
    );
}

#[test]
fn conflicts_name_owner_and_field() {
    let live = applied(
        None,
        json!({"data": {"k": "v", "l": "w"}, "spec": {"parts": [{"name": "p", "image": "1"}]}}),
        &write("a", 1),
    );
    let error = refused(
        &live,
        json!({"spec": {"parts": [{"name": "p", "image": "2"}]}}),
        &write("b", 2),
    );
    assert_eq!(
        error.message,
        r#"Apply failed with 1 conflict: conflict with "a": .spec.parts[name="p"].image"#
    );
    assert_eq!(
        (error.code, error.causes[0].reason.as_str()),
        (409, "FieldManagerConflict")
    );
    let error = refused(&live, json!({"data": {"k": "1", "l": "2"}}), &write("b", 2));
    assert_eq!(
        error.message,
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .data.k\n- .data.l"
    );

    let status = Write {
        subresource: "status".to_owned(),
        ..write("c", 2)
    };
    let live = updated(
        Some(&live),
        json!({"data": {"k": "v", "l": "w"}, "status": {"ready": 1}}),
        &status,
    );
    let error = refused(&live, json!({"status": {"ready": 2}}), &write("b", 3));
    assert_eq!(
        error.causes[0].message,
        r#"conflict with "c" with subresource "status" using x.io/v1"#
    );

    let force = Write {
        force: true,
        ..write("b", 4)
    };
    let taken = applied(Some(&live), json!({"status": {"ready": 2}}), &force);
    assert_eq!(
        owners(&taken)[1],
        json!(["b", "Apply", {"f:status": {"f:ready": {}}}])
    );
    assert_eq!(
        owners(&taken).as_array().map(Vec::len),
        Some(2),
        "c owned nothing else"
    );
}

#[test]
fn misfits_read_as_the_server_says() {
    let cases = [
        (json!({"nosuch": 1}), ".nosuch: field not declared in schema"),
        (
            json!({"data": {"k": true}}),
            ".data.k: expected string, got &value.valueUnstructured{Value:true}",
        ),
        (
            json!({"spec": {"replicas": "x"}}),
            ".spec.replicas: expected numeric (int or float), got string",
        ),
        (
            json!({"spec": {"tags": ["x", "x"]}}),
            r#".spec.tags: duplicate entries for key [="x"]"#,
        ),
        (
            json!({"spec": {"parts": [{"name": "a"}, {"name": "a"}]}}),
            r#".spec.parts: duplicate entries for key [name="a"]"#,
        ),
        (
            json!({"spec": {"replicas": "x", "paused": 1}}),
            "errors:\n  .spec.paused: expected boolean, got &{1}\n  .spec.replicas: expected numeric (int or float), got string",
        ),
    ];
    for (config, text) in cases {
        let error = apply(&schema(), None, &thing(config), &write("a", 1)).expect_err(text);
        assert_eq!(
            error.to_string(),
            format!("failed to create typed patch object (/a; x.io/v1, Kind=Thing): {text}")
        );
    }
    let managed = json!({"metadata": {"managedFields": []}});
    let error = apply(&schema(), None, &thing(managed), &write("a", 1)).expect_err("managed fields");
    assert_eq!(
        error,
        ApplyError::BadRequest("metadata.managedFields must be nil".to_owned())
    );
    let error = apply(
        &schema(),
        None,
        &json!({"apiVersion": "v1", "kind": "Pod"}),
        &write("a", 1),
    )
    .expect_err("kind");
    assert_eq!(error.to_string(), "invalid object type: /v1, Kind=Pod");
}

#[test]
fn a_create_owns_all_it_sets() {
    let new = json!({"spec": {"replicas": 1, "selector": {"a": "b"}, "parts": [{"name": "p", "ports": [{"port": 1, "protocol": "TCP"}]}]}, "metadata": {"labels": {"x": "y"}}, "status": {}});
    let parts = json!({".": {}, "k:{\"name\":\"p\"}": {".": {}, "f:name": {}, "f:ports": {".": {}, "k:{\"port\":1,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:protocol": {}}}}});
    let built_in = updated(None, new.clone(), &write("a", 1));
    let spec = json!({"f:parts": parts, "f:replicas": {}, "f:selector": {}});
    let labels = json!({"f:labels": {".": {}, "f:x": {}}});
    assert_eq!(
        owners(&built_in),
        json!([["a", "Update", {"f:metadata": labels, "f:spec": spec}]])
    );
    let custom = updated(
        None,
        new,
        &Write {
            custom: true,
            reset: Reset::field("status"),
            ..write("a", 1)
        },
    );
    let mut spec = spec;
    spec["."] = json!({});
    assert_eq!(
        owners(&custom),
        json!([["a", "Update", {"f:metadata": labels, "f:spec": spec}]])
    );
}

#[test]
fn an_update_takes_only_what_it_changes() {
    let one = updated(None, json!({"data": {"k": "v", "l": "w"}}), &write("a", 1));
    let two = updated(Some(&one), json!({"data": {"k": "z", "l": "w"}}), &write("b", 2));
    assert_eq!(
        owners(&two),
        json!([["a", "Update", {"f:data": {".": {}, "f:l": {}}}], ["b", "Update", {"f:data": {"f:k": {}}}]])
    );
    let three = updated(Some(&two), json!({"data": {"l": "w"}}), &write("b", 3));
    assert_eq!(
        owners(&three),
        json!([["a", "Update", {"f:data": {".": {}, "f:l": {}}}]])
    );
    let four = updated(Some(&three), json!({"data": {"l": "w"}}), &write("c", 4));
    assert_eq!(four, three, "nothing changed");
}

#[test]
fn managed_fields_can_be_edited_and_reset() {
    let live = applied(None, json!({"data": {"k": "v"}}), &write("a", 1));
    let with = |entries: Value| json!({"data": {"k": "v"}, "metadata": {"managedFields": entries}});
    let mut renamed = live["metadata"]["managedFields"].clone();
    renamed[0]["manager"] = json!("z");
    let renamed = updated(Some(&live), with(renamed), &write("x", 2));
    assert_eq!(owners(&renamed), json!([["z", "Apply", {"f:data": {"f:k": {}}}]]));
    for reset in [json!([]), json!([{}])] {
        assert_eq!(
            owners(&updated(Some(&live), with(reset), &write("x", 2))),
            json!([])
        );
    }
    for kept in [Value::Null, json!([{"operation": "Frob"}])] {
        assert_eq!(
            owners(&updated(Some(&live), with(kept), &write("x", 2))),
            owners(&live)
        );
    }
    // Once reset, nothing is tracked until someone applies.
    let bare = updated(Some(&live), with(json!([])), &write("x", 2));
    let bare = updated(Some(&bare), json!({"data": {"k": "w"}}), &write("x", 3));
    assert_eq!(owners(&bare), json!([]));
    let again = applied(Some(&bare), json!({"spec": {"replicas": 1}}), &write("a", 4));
    assert_eq!(
        owners(&again),
        json!([["a", "Apply", {"f:spec": {"f:replicas": {}}}], ["before-first-apply", "Update", {"f:data": {".": {}, "f:k": {}}}]])
    );
}

#[test]
fn old_update_entries_are_merged() {
    let mut data = json!({"k0": "v"});
    let mut live = updated(None, json!({"data": data}), &write("m00", 0));
    for n in 1..=14 {
        data[format!("k{n}")] = json!("v");
        live = updated(Some(&live), json!({"data": data}), &write(&format!("m{n:02}"), n));
    }
    let managers: Vec<_> = live["metadata"]["managedFields"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|e| e["manager"].clone())
        .collect();
    assert_eq!(managers.len(), 10);
    assert_eq!(
        (&managers[0], &managers[9]),
        (&json!("ancient-changes"), &json!("m14"))
    );
    assert_eq!(
        owners(&live)[0][2],
        json!({"f:data": {".": {}, "f:k0": {}, "f:k1": {}, "f:k2": {}, "f:k3": {}, "f:k4": {}, "f:k5": {}}})
    );
}

#[test]
fn lists_merge_by_their_kind() {
    let a = applied(
        None,
        json!({"spec": {"parts": [{"name": "a"}], "tags": ["x"], "args": ["1"]}}),
        &write("a", 1),
    );
    let b = json!({"spec": {"parts": [{"name": "b", "image": "i"}], "tags": ["y"]}});
    let both = applied(Some(&a), b, &write("b", 2));
    assert_eq!(
        both["spec"]["parts"],
        json!([{"name": "a"}, {"name": "b", "image": "i"}])
    );
    assert_eq!(both["spec"]["tags"], json!(["x", "y"]));
    let gone = applied(
        Some(&both),
        json!({"spec": {"parts": [], "tags": []}}),
        &write("a", 3),
    );
    assert_eq!(
        gone["spec"],
        json!({"parts": [{"name": "b", "image": "i"}], "tags": ["y"]})
    );
    let error = refused(&both, json!({"spec": {"args": ["1", "2"]}}), &write("b", 4));
    assert_eq!(error.causes[0].field, ".spec.args");
}

#[test]
fn shared_list_elements_take_the_order_of_what_is_applied() {
    let live = applied(
        None,
        json!({"spec": {"tags": ["a", "b", "c", "d"]}}),
        &write("a", 1),
    );
    let live = applied(
        Some(&live),
        json!({"spec": {"tags": ["d", "x", "b"]}}),
        &write("b", 2),
    );
    assert_eq!(live["spec"]["tags"], json!(["a", "c", "d", "x", "b"]));
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let last = r#"{"apiVersion":"x.io/v1","kind":"Thing","metadata":{"name":"a"},"data":{"k":"v"}}"#;
    let annotated = json!({"data": {"k": "v"}, "metadata": {"annotations": {LAST_APPLIED: last}}});
    let live = updated(None, annotated, &write("kubectl-client-side-apply", 1));
    assert_eq!(
        refused(&live, json!({"data": {"k": "w"}}), &write("someone", 2)).code,
        409
    );
    let taken = applied(Some(&live), json!({"data": {"k": "w"}}), &write("kubectl", 2));
    assert_eq!(taken["data"]["k"], "w");
    let annotation = taken["metadata"]["annotations"][LAST_APPLIED]
        .as_str()
        .unwrap_or_default();
    assert!(annotation.contains(r#""k":"w""#), "{annotation}");
}

#[test]
fn a_field_that_became_atomic_is_owned_as_a_whole() {
    let mut live = thing(json!({"spec": {"selector": {"a": "b"}}, "metadata": {"uid": "u"}}));
    live["metadata"]["managedFields"] = json!([{"manager": "m", "operation": "Update", "apiVersion": "x.io/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:selector": {".": {}, "f:a": {}}}}}]);
    let new = updated(
        Some(&live),
        json!({"spec": {"selector": {"a": "b"}, "replicas": 1}}),
        &write("n", 1),
    );
    assert_eq!(
        owners(&new)[0],
        json!(["m", "Update", {"f:spec": {"f:selector": {}}}])
    );
}

#[test]
fn times_alone_are_no_change() {
    let old = json!({"metadata": {"managedFields": [{"manager": "m", "time": "1"}]}, "a": 1});
    let mut new = json!({"metadata": {"managedFields": [{"manager": "m", "time": "2"}]}, "a": 1});
    keep_times(&old, &mut new);
    assert_eq!(new, old);
    let mut new = json!({"metadata": {"managedFields": [{"manager": "m", "time": "2"}]}, "a": 2});
    keep_times(&old, &mut new);
    assert_eq!(new["metadata"]["managedFields"][0]["time"], "2");
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("c".to_owned())]
}

fn any_part() -> impl Strategy<Value = Value> {
    (
        any_text(),
        prop::option::of(any_text()),
        prop::collection::btree_map(1..3, prop::option::of(any_text()), 0..3),
    )
        .prop_map(|(name, image, ports)| {
            let mut part = json!({"name": name});
            if let Some(image) = image {
                part["image"] = json!(image);
            }
            if !ports.is_empty() {
                let port = |(port, name): (i32, Option<String>)| match name {
                    Some(name) => json!({"port": port, "name": name}),
                    None => json!({"port": port, "protocol": "UDP"}),
                };
                part["ports"] = ports.into_iter().map(port).collect();
            }
            part
        })
}

/// The writable part of a thing, of the right types and without duplicates.
fn any_config() -> impl Strategy<Value = Value> {
    let map = || prop::option::of(prop::collection::btree_map(any_text(), any_text(), 0..3));
    let set = || prop::option::of(prop::sample::subsequence(vec!["a", "b", "c", "d"], 0..4).prop_shuffle());
    let parts = prop::option::of(prop::collection::vec(any_part(), 0..3));
    (map(), map(), set(), set(), parts, prop::option::of(0..3)).prop_map(|(data, selector, tags, args, parts, replicas)| {
        let parts = parts.map(|parts| {
            let mut seen = Vec::new();
            let fresh = |part: &Value| !seen.contains(&part["name"]) && { seen.push(part["name"].clone()); true };
            parts.into_iter().filter(fresh).collect::<Vec<_>>()
        });
        let mut config = json!({
            "data": data,
            "spec": {"selector": selector, "tags": tags, "args": args, "parts": parts, "replicas": replicas},
        });
        drop_empty(&mut config);
        config
    })
}

/// Removes nulls, and then maps and lists that are empty: what is empty is in no field set, so the clauses leave it out.
fn drop_empty(value: &mut Value) {
    let Some(fields) = value.as_object_mut() else {
        return;
    };
    fields.values_mut().for_each(drop_empty);
    let empty = |v: &Value| match v {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        other => other.is_null(),
    };
    fields.retain(|_, v| !empty(v));
}

#[derive(Clone, Debug)]
struct Step {
    manager: usize,
    config: Value,
    kind: usize,
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..3usize, any_config(), 0..3usize).prop_map(|(manager, config, kind)| Step {
        manager,
        config,
        kind,
    });
    prop::collection::vec(step, 1..6)
}

/// Runs steps as a server would; refused applies change nothing.
fn run(steps: &[Step], mut check: impl FnMut(Option<&Value>, &Value, &Step, &Write)) -> Option<Value> {
    let mut live: Option<Value> = None;
    for (minute, step) in (0u32..).zip(steps) {
        let write = Write {
            force: step.kind == 1,
            custom: true,
            ..write(["a", "b", "c"][step.manager], minute)
        };
        let next = match step.kind {
            0 | 1 => apply(&schema(), live.as_ref(), &thing(step.config.clone()), &write).ok(),
            _ => Some(updated(live.as_ref(), step.config.clone(), &write)),
        };
        if let Some(mut next) = next {
            next["metadata"]["uid"] = json!("u");
            check(live.as_ref(), &next, step, &write);
            live = Some(next);
        }
    }
    live
}

/// Puts something empty where nothing is.
fn fill_with_empty(value: &mut Value, names: &[&str], empty: &Value) {
    let fields = value.as_object_mut().expect("an object");
    for name in names {
        fields.entry(*name).or_insert(empty.clone());
    }
}

/// With what the schema adds, as the server stores it.
fn defaulted(live: &Value) -> Value {
    let mut live = live.clone();
    let parts = live.pointer_mut("/spec/parts").and_then(Value::as_array_mut);
    for part in parts.into_iter().flatten() {
        for port in part
            .get_mut("ports")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let fields = port.as_object_mut().expect("ports are objects");
            fields.entry("protocol").or_insert(json!("TCP"));
        }
    }
    live
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3).prop_map(Value::from),
        Just(json!(1.0)),
        any_text().prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        let key = prop_oneof![
            "metadata|spec|data|status|parts|tags|blob",
            "selector|name|ports|port|managedFields",
            "fieldsV1|manager|operation"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn apply_is_idempotent(steps in any_steps()) {
        let mut fault = None;
        run(&steps, |_, next, step, write| {
            // Of what nobody owns, an apply finds an owner.
            let is_owned = next.pointer("/metadata/managedFields").is_some();
            if step.kind != 2 && is_owned {
                let again = apply(&schema(), Some(next), &thing(step.config.clone()), &Write { now: "2031-01-01T00:00:00Z".to_owned(), ..write.clone() });
                if again.as_ref() != Ok(next) {
                    fault = Some(format!("{step:?}\n{next}\n{again:?}"));
                }
            }
        });
        prop_assert_eq!(fault, None);
    }

    /// What the managed fields say would change nothing does not.
    #[test]
    fn what_is_applied_need_not_be_applied(steps in any_steps(), config in any_config(), fills: [bool; 3]) {
        let mut fault = None;
        run(&steps, |_, live, step, write| {
            let live = &defaulted(live);
            // Also of things that are like what was applied.
            for (config, fill) in [(&step.config, fills[0]), (&config, fills[1]), (&steps[0].config, fills[2])] {
                let mut wish = thing(config.clone());
                if fill {
                    fill_with_empty(&mut wish, &["data", "status", "spec"], &json!({}));
                    fill_with_empty(&mut wish["spec"], &["selector"], &json!({}));
                    fill_with_empty(&mut wish["spec"], &["args", "tags", "parts"], &json!([]));
                }
                if !managed_fields::is_applied(&wish, live, &write.manager) {
                    continue;
                }
                let again = apply(&schema(), Some(live), &wish, &Write { now: "2031-01-01T00:00:00Z".to_owned(), force: true, ..write.clone() });
                if again.as_ref() != Ok(live) {
                    fault = Some(format!("{step:?}\n{live}\n{wish}\n{again:?}"));
                }
            }
        });
        prop_assert_eq!(fault, None);
    }

    /// And it is found: an apply whose values the server takes as they are need not be made again.
    #[test]
    fn what_was_applied_is_applied(steps in any_steps()) {
        let mut fault = None;
        run(&steps, |_, live, step, write| {
            let (live, wish) = (&defaulted(live), thing(step.config.clone()));
            // Who has applied nothing has no entry.
            let applied = step.kind != 2 && step.config != json!({});
            if applied && !managed_fields::is_applied(&wish, live, &write.manager) {
                fault = Some(format!("{step:?}\n{live}\n{wish}"));
            }
        });
        prop_assert_eq!(fault, None);
    }

    #[test]
    fn managed_fields_describe_the_object(steps in any_steps()) {
        let mut fault = None;
        run(&steps, |_, next, step, _| {
            let have = typed::field_set(&schema(), next).with_named_fields(&schema());
            let managed = Managed::decode(next["metadata"].get("managedFields")).expect("what was encoded");
            for (id, owned) in &managed.0 {
                // A map or list itself is not in the field set of a value; what it holds is.
                let extra: Vec<_> = owned.set.difference(&have).paths().into_iter().filter(|p| at(next, &p.0).is_none()).collect();
                if !extra.is_empty() {
                    fault = Some(format!("{step:?}\n{next}\n{id:?} owns {extra:?}"));
                }
            }
        });
        prop_assert_eq!(fault, None);
    }

    #[test]
    fn without_force_nobody_is_disturbed(steps in any_steps()) {
        let mut fault = None;
        run(&steps, |live, next, step, write| {
            let Some(live) = live.filter(|_| step.kind == 0) else { return };
            for (id, owned) in &Managed::decode(live["metadata"].get("managedFields")).expect("decodes").0 {
                if id.manager == write.manager && id.operation == Operation::Apply {
                    continue;
                }
                let found = compare::compare(&schema(), live, next).expect("compares");
                // An element of a list goes with all that is in it when nobody owns the element itself any more.
                let in_element = |p: &path::Path| p.0.iter().any(|e| matches!(e, path::Element::Key(_)));
                let mut lost = owned.set.intersection(&found.modified).paths();
                lost.extend(owned.set.intersection(&found.removed).paths().into_iter().filter(|p| !in_element(p)));
                if !lost.is_empty() {
                    fault = Some(format!("{step:?}\n{live}\n{next}\n{id:?} lost {lost:?}"));
                }
            }
        });
        prop_assert_eq!(fault, None);
    }

    #[test]
    fn field_sets_survive_the_wire(config in any_config()) {
        let set = typed::field_set(&schema(), &thing(config));
        prop_assert_eq!(FieldSet::decode(&set.encode()), Ok(set));
    }

    #[test]
    fn set_algebra_holds(a in any_config(), b in any_config()) {
        let (a, b) = (typed::field_set(&schema(), &thing(a)), typed::field_set(&schema(), &thing(b)));
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&a).is_empty());
        prop_assert_eq!(a.difference(&b).intersection(&b), FieldSet::new());
    }

    #[test]
    fn nothing_panics(live in any_json(), new in any_json(), fields in any_json()) {
        let write = write("m", 1);
        let mut config = thing(json!({}));
        crate::patch::merge(&mut config, &new);
        let _ = apply(&schema(), Some(&live), &config, &write);
        let _ = apply(&Schema::any(), Some(&live), &config, &write);
        let mut new = new;
        track_update(&schema(), Some(&live), &mut new, &write);
        let _ = FieldSet::decode(&fields);
    }
}

/// The value at a path, as far as it exists.
fn at<'v>(value: &'v Value, path: &[path::Element]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, element| match element {
        path::Element::Field(name) => value.get(name),
        path::Element::Value(wanted) => value.as_array()?.iter().find(|v| *v == wanted),
        path::Element::Key(fields) => {
            let default = json!("TCP");
            let matches = |item: &&Value| fields.iter().all(|(k, v)| item.get(k).unwrap_or(&default) == v);
            value.as_array()?.iter().find(matches)
        }
        path::Element::Index(_) => None,
    })
}

/// A write that differs in nothing but the times of managed fields takes them from what is there, and no other does.
#[test]
fn times_alone_make_no_difference() {
    let object =
        |entries: Value, x: i32| json!({"metadata": {"name": "a", "managedFields": entries}, "x": x});
    let entry = |manager: &str, time: Value| json!({"manager": manager, "time": time});
    let old = object(json!([entry("a", json!("1")), entry("b", Value::Null), 7]), 1);
    let cases = [
        (
            json!([entry("a", json!("2")), entry("b", json!("2")), 7]),
            1,
            true,
        ),
        (json!([{"manager": "a"}, {"manager": "b"}, 7]), 1, true),
        (
            json!([entry("a", json!("1")), entry("c", Value::Null), 7]),
            1,
            false,
        ),
        (
            json!([entry("a", json!("1")), {"manager": "b", "more": 1}, 7]),
            1,
            false,
        ),
        (
            json!([entry("a", json!("1")), entry("b", Value::Null), 8]),
            1,
            false,
        ),
        (json!([entry("a", json!("2"))]), 1, false),
        (Value::Null, 1, false),
        (
            json!([entry("a", json!("2")), entry("b", Value::Null), 7]),
            2,
            false,
        ),
    ];
    for (entries, x, expected) in cases {
        let mut new = object(entries, x);
        let written = new.clone();
        keep_times(&old, &mut new);
        assert_eq!(
            new,
            if expected { old.clone() } else { written.clone() },
            "{written}"
        );
    }
}
