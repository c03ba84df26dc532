//! Patches against small objects, case by case, and the laws of merging.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::{Additional, Schema, Type};

fn leaf() -> Arc<Schema> {
    Arc::new(Schema {
        type_: Some(Type::String),
        ..Schema::default()
    })
}

fn object(fields: &[(&str, Arc<Schema>)]) -> Schema {
    let properties = fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    Schema {
        type_: Some(Type::Object),
        properties,
        ..Schema::default()
    }
}

fn list(items: Arc<Schema>, key: &str) -> Arc<Schema> {
    Arc::new(Schema {
        type_: Some(Type::Array),
        items: Some(items),
        patch_merge: true,
        patch_merge_key: key.to_owned(),
        ..Schema::default()
    })
}

/// `{labels: map, items: [{name, image, args, env: [{name, value}]}], fin: set, plain: list}`
fn schema() -> Schema {
    let env = list(Arc::new(object(&[("name", leaf()), ("value", leaf())])), "name");
    let args = Arc::new(Schema {
        type_: Some(Type::Array),
        items: Some(leaf()),
        ..Schema::default()
    });
    let item = object(&[
        ("name", leaf()),
        ("image", leaf()),
        ("args", args.clone()),
        ("env", env),
    ]);
    let labels = Schema {
        additional: Additional::Schema(leaf()),
        ..object(&[])
    };
    object(&[
        ("labels", Arc::new(labels)),
        ("items", list(Arc::new(item), "name")),
        ("fin", list(leaf(), "")),
        ("plain", args),
    ])
}

#[test]
fn strategic_cases() {
    let live = json!({
        "labels": {"a": "1"},
        "items": [{"name": "x", "image": "i", "env": [{"name": "E", "value": "1"}]}, {"name": "y", "image": "j"}],
        "fin": ["p", "q"],
        "plain": ["1", "2"],
    });
    let cases = [
        (
            "elements merge by key",
            json!({"items": [{"name": "y", "image": "k"}]}),
            "/items/1",
            json!({"name": "y", "image": "k"}),
        ),
        (
            "other elements stay",
            json!({"items": [{"name": "y", "image": "k"}]}),
            "/items/0/name",
            json!("x"),
        ),
        (
            "a new element comes first",
            json!({"items": [{"name": "z"}]}),
            "/items/0",
            json!({"name": "z"}),
        ),
        (
            "an element is deleted",
            json!({"items": [{"name": "x", "$patch": "delete"}]}),
            "/items",
            json!([{"name": "y", "image": "j"}]),
        ),
        (
            "a list is replaced",
            json!({"items": [{"$patch": "replace"}, {"name": "z"}]}),
            "/items",
            json!([{"name": "z"}]),
        ),
        (
            "lists nest",
            json!({"items": [{"name": "x", "env": [{"name": "F", "value": "2"}]}]}),
            "/items/0/env",
            json!([{"name": "F", "value": "2"}, {"name": "E", "value": "1"}]),
        ),
        (
            "order is set",
            json!({"$setElementOrder/items": [{"name": "y"}, {"name": "x"}], "items": [{"name": "x", "image": "n"}]}),
            "/items/1/image",
            json!("n"),
        ),
        (
            "scalars are united",
            json!({"fin": ["r", "p"]}),
            "/fin",
            json!(["r", "p", "q"]),
        ),
        (
            "scalars are deleted",
            json!({"$deleteFromPrimitiveList/fin": ["p"]}),
            "/fin",
            json!(["q"]),
        ),
        (
            "plain lists are replaced",
            json!({"plain": ["3"]}),
            "/plain",
            json!(["3"]),
        ),
        (
            "maps merge",
            json!({"labels": {"b": "2"}}),
            "/labels",
            json!({"a": "1", "b": "2"}),
        ),
        (
            "null removes",
            json!({"labels": {"a": null}}),
            "/labels",
            json!({}),
        ),
        (
            "a map is replaced",
            json!({"labels": {"$patch": "replace", "b": "2"}}),
            "/labels",
            json!({"b": "2"}),
        ),
        (
            "a map is emptied",
            json!({"labels": {"$patch": "delete"}}),
            "/labels",
            json!({}),
        ),
        (
            "keys are retained",
            json!({"labels": {"$retainKeys": ["b"], "b": "2"}}),
            "/labels",
            json!({"b": "2"}),
        ),
    ];
    for (what, patch, pointer, want) in cases {
        let got = strategic(&schema(), &live, &patch).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(got.pointer(pointer), Some(&want), "{what}: {got}");
    }
}

#[test]
fn strategic_errors() {
    let live = json!({"items": [{"name": "x"}], "fin": ["p"]});
    let cases = [
        (
            json!({"items": [{"name": "x", "$patch": "frob"}]}),
            PatchError::Unusable("unknown patch type: frob in map: map[$patch:frob name:x]".to_owned()),
        ),
        (
            json!({"items": [{"image": "i"}]}),
            PatchError::Unusable("map: map[image:i] does not contain declared merge key: name".to_owned()),
        ),
        (
            json!({"$setElementOrder/items": [{"name": "b"}], "items": [{"name": "a"}]}),
            PatchError::Unusable(
                "The order in patch list:\n[map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n"
                    .to_owned(),
            ),
        ),
        (json!({"$retainKeys": ["fin"], "items": []}), PatchError::Malformed("invalid patch format of retainKeys".to_owned())),
        (json!({"fin": [["p"]]}), PatchError::Unusable("list element types are not identical: [[p] [[p]]]".to_owned())),
    ];
    for (patch, want) in cases {
        assert_eq!(strategic(&schema(), &live, &patch), Err(want), "{patch}");
    }
}

#[test]
fn json_patch_cases() {
    let cases = [
        (
            r#"[{"op":"add","path":"/d/n","value":"1"},{"op":"remove","path":"/d/k"}]"#,
            Some(json!({"d": {"n": "1"}})),
        ),
        (
            r#"[{"op":"replace","path":"/d/new","value":"1"}]"#,
            Some(json!({"d": {"k": "v", "new": "1"}})),
        ),
        (
            r#"[{"op":"test","path":"/d/none","value":null}]"#,
            Some(json!({"d": {"k": "v"}})),
        ),
        (
            r#"[{"op":"add","path":"/d/n","value":"1"},{"op":"test","path":"/d/k","value":"x"}]"#,
            None,
        ),
        (r#"[{"op":"remove","path":"/d/none"}]"#, None),
        (r#"[{"op":"replace","path":"/none/x","value":1}]"#, None),
        (r#"[{"op":"frob","path":"/d"}]"#, None),
    ];
    for (patch, want) in cases {
        let live = json!({"d": {"k": "v"}});
        let mut object = live.clone();
        match json(&mut object, patch.as_bytes()) {
            Ok(()) => assert_eq!(Some(object), want, "{patch}"),
            Err(PatchError::Inapplicable(_) | PatchError::TestFailed(_)) => {
                assert_eq!(want, None, "{patch}");
                assert_eq!(object, live, "a failed patch must change nothing");
            }
            Err(other) => panic!("{patch}: {other:?}"),
        }
    }
}

#[test]
fn malformed_patches_read_as_the_server_says() {
    let error = json(&mut json!({}), br#"{"op":"add"}"#).unwrap_err();
    assert_eq!(
        ApiError::from(error).message,
        "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
    );
    let error = json(&mut json!({}), b"[{").unwrap_err();
    assert_eq!(
        error.to_string(),
        "error decoding patch: unexpected end of JSON input"
    );
    assert!(read_merge(b"[]").is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3).prop_map(Value::from),
        "[a-c]".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof![
            "[a-c]",
            "labels|items|fin|plain|name|env",
            "\\$patch|\\$retainKeys|\\$setElementOrder/items|\\$deleteFromPrimitiveList/fin"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn merging_twice_is_merging_once(object in any_json(), patch in any_json()) {
        let mut once = object;
        merge(&mut once, &patch);
        let mut twice = once.clone();
        merge(&mut twice, &patch);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn strategic_never_panics(object in any_json(), patch in any_json()) {
        let _ = strategic(&schema(), &object, &patch);
    }

    #[test]
    fn json_patch_never_panics(object in any_json(), path in "(/[a-c0-2-]?){0,3}", op in "add|remove|replace|test|move|copy", value in any_json()) {
        let patch = json!([{"op": op, "path": path, "from": path, "value": value}]);
        let mut object = object;
        let _ = json(&mut object, patch.to_string().as_bytes());
    }
}
