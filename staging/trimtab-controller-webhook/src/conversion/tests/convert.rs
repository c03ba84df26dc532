//! One object on its way between versions.

use kube::api::ObjectMeta;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::convert::{Converts, Failure};
use super::super::{Conversion, keep_in_annotation, restore_from_annotation};
use super::{check_identity_kept, websites};
use crate::WebhookError;
use crate::tests::websites::{strange, v1alpha1, v1beta1, website};

fn with(mut object: Value, key: &str, value: Value) -> Value {
    object["metadata"][key] = value;
    object
}

#[test]
fn every_version_goes_to_every_other_through_the_hub() {
    let rest = json!({"websites.example.com/rest": "[\"h\",\"red\",[{\"name\":\"p\",\"text\":\"\"}]]"});
    let hub = json!({"host": "h", "text": "t", "color": "red", "replicas": 2, "pages": [{"name": "p", "text": ""}]});
    let plain = json!({"text": "t", "color": "white", "pages": []});
    let labelled = |object| with(object, "labels", json!({"app": "w"}));
    let cases = [
        (
            website("v1", hub.clone()),
            with(
                website("v1beta1", json!({"html": "t", "replicas": 2})),
                "annotations",
                rest.clone(),
            ),
        ),
        (
            with(
                website("v1beta1", json!({"html": "t", "replicas": 2})),
                "annotations",
                rest,
            ),
            website("v1", hub),
        ),
        (
            website("v1", plain.clone()),
            website("v1beta1", json!({"html": "t"})),
        ),
        (
            website("v1beta1", json!({"html": "t", "unknown": 1})),
            website("v1", plain.clone()),
        ),
        // Labels are carried by who passes metadata on, and by who does not.
        (
            labelled(website("v1beta1", json!({"html": "t"}))),
            labelled(website("v1", plain.clone())),
        ),
        (
            labelled(website("v1alpha1", json!({"text": "t"}))),
            labelled(website("v1", plain.clone())),
        ),
        (
            labelled(website("v1alpha1", json!({"text": "t"}))),
            labelled(website("v1beta1", json!({"html": "t"}))),
        ),
        // Who makes metadata up can add a label, and nothing else.
        (
            labelled(website("v1", plain.clone())),
            with(
                website("v1alpha1", json!({"text": "t"})),
                "labels",
                json!({"app": "w", "careless": "yes"}),
            ),
        ),
        (website("v1", plain.clone()), website("v1", plain)),
    ];
    for (sent, wanted) in cases {
        let version = wanted["apiVersion"]
            .as_str()
            .and_then(|v| v.strip_prefix("example.com/"));
        let converted = websites().convert(&sent, version.expect("a version"));
        let converted = converted.expect("a conversion");
        check_identity_kept(&sent, &converted);
        assert_eq!(converted, wanted, "{sent}");
    }
}

/// A spoke can take away a label or annotation.
#[test]
fn an_annotation_that_is_restored_is_gone() {
    let mut metadata = ObjectMeta::default();
    keep_in_annotation(&mut metadata, "k", &vec![1, 2]).expect("JSON");
    keep_in_annotation(&mut metadata, "other", &"x").expect("JSON");
    assert_eq!(
        restore_from_annotation::<Vec<i32>>(&mut metadata, "k"),
        Some(vec![1, 2])
    );
    assert_eq!(restore_from_annotation::<Vec<i32>>(&mut metadata, "k"), None);
    assert_eq!(
        restore_from_annotation::<Vec<i32>>(&mut metadata, "other"),
        None,
        "somebody wrote something else"
    );
    assert_eq!(metadata, ObjectMeta::default());
}

#[test]
fn what_cannot_be_converted_says_which_and_why() {
    let site = |version: &str, spec: Value| website(version, spec);
    let says = "Website.example.com \"a\" cannot be converted from";
    let cases = [
        (
            site("v1", json!({})),
            "v3",
            format!("{says} v1 to v3: there is no version \"v3\", but v1, v1beta1, v1alpha1"),
        ),
        (
            site("v0", json!({})),
            "v1",
            format!("{says} v0 to v1: there is no version \"v0\", but v1, v1beta1, v1alpha1"),
        ),
        (
            site("v1beta1", json!({"html": "error"})),
            "v1",
            format!("{says} v1beta1 to v1: it says error"),
        ),
        (
            site("v1beta1", json!({"html": 1})),
            "v1",
            format!(
                "{says} v1beta1 to v1: it is not a Website: invalid type: integer `1`, expected a string"
            ),
        ),
    ];
    for (object, version, says) in cases {
        assert_eq!(
            websites().convert(&object, version),
            Err(Failure::Refused(says)),
            "{object}"
        );
    }
    let panics = websites().convert(&site("v1beta1", json!({"html": "panic"})), "v1");
    assert!(matches!(panics, Err(Failure::Panicked(words)) if words.contains("a secret")));
}

#[test]
fn spokes_are_of_one_kind_and_of_several_versions() {
    assert!(websites().check().is_ok());
    let twice = websites().spoke::<v1beta1::Website>().check();
    let says = "Website of example.com/v1beta1 cannot be a spoke of Website of example.com/v1: \
                its version is there already";
    assert_eq!(twice.expect_err("twice").to_string(), says);
    let other = Conversion::hub()
        .spoke::<strange::Webpage>()
        .spoke::<v1alpha1::Website>()
        .check();
    assert!(matches!(other, Err(WebhookError::Spoke { why, .. }) if why.contains("another group or kind")));
    assert_eq!(websites().definition(), "websites.example.com");
    assert_eq!(websites().kind().to_string(), "Website.example.com");
}

/// Fields of metadata, known and not, which conversions have no business with; and labels, with which they have.
fn metadata() -> impl Strategy<Value = Value> {
    let text = || "[a-z]{0,3}".prop_map(Value::from);
    let texts = || prop::collection::vec(text(), 0..3).prop_map(Value::from);
    let map = || {
        let map = prop::collection::btree_map("[a-z]{1,3}", "[a-z]{0,3}", 0..3);
        map.prop_map(|map| json!(map))
    };
    let field = prop_oneof![
        text().prop_map(|value| ("namespace", value)),
        text().prop_map(|value| ("uid", value)),
        text().prop_map(|value| ("resourceVersion", value)),
        any::<i32>().prop_map(|value| ("generation", json!(value))),
        Just(("creationTimestamp", Value::Null)),
        texts().prop_map(|value| ("finalizers", value)),
        map().prop_map(|value| ("labels", value)),
        map().prop_map(|value| ("annotations", value)),
        map().prop_map(|value| ("later", value)),
        Just((
            "managedFields",
            json!([{"manager": "m", "fieldsV1": {"f:spec": {}}, "later": 1}])
        )),
    ];
    let fields = prop::collection::vec(field, 0..8);
    fields.prop_map(|fields| {
        let named = [("name", json!("a"))]; // every object that the API server sends is
        let fields = fields.into_iter().chain(named);
        fields.map(|(key, value)| (key.to_owned(), value)).collect()
    })
}

proptest! {
    #[test]
    fn no_conversion_touches_what_an_object_is(
        metadata in metadata(),
        from in prop::sample::select(vec!["v1", "v1beta1", "v1alpha1"]),
        to in prop::sample::select(vec!["v1", "v1beta1", "v1alpha1"]),
    ) {
        let mut sent = website(from, json!({"color": "red"}));
        sent["metadata"] = metadata;
        let converted = websites().convert(&sent, to).expect("a conversion");
        check_identity_kept(&sent, &converted);
        // Labels go with the object, unless a version adds its own.
        for (label, value) in sent["metadata"]["labels"].as_object().into_iter().flatten() {
            prop_assert_eq!(&converted["metadata"]["labels"][label], value);
        }
    }
}
