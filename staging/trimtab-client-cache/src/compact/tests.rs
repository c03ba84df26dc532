//! What goes in comes out.

use proptest::prelude::*;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::encode::{Drops, Encoder, TypeMeta};
use super::read::{self, Reader};
use super::{Document, words};

fn value() -> impl Strategy<Value = Value> {
    let strings = prop_oneof![
        Just("name".to_owned()),
        Just("Running".to_owned()),
        "[a-z/.]{0,70}",
        "\\PC{0,80}",
        "[0-9a-f]{0,80}",
        "sha256:[0-9a-f]{60,66}",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-fA-F]{4}-[0-9a-f]{4}-[0-9a-f]{11}[0-9a-g]",
        "(19|20)[0-9][0-9]-(0|1)[0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]Z",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..20_u8).prop_map(Value::from),
        // Of other fractions `serde_json` itself reads some as their neighbour.
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        strings.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(strings.clone(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn back(document: &Document, encoder: &Encoder) -> Value {
    Value::deserialize(&mut Reader::new(document, encoder.words())).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Also of documents whose parts are shared with others, or become words, in between.
    #[test]
    fn documents_come_back_as_they_were(
        values in prop::collection::vec(value(), 1..5),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        let mut encoder = Encoder::new(Drops::default());
        let mut kept = Vec::new();
        for at in order {
            let value = at.get(&values);
            let nested = json!({"metadata": {"name": kept.len()}, "spec": value});
            kept.push((encoder.encode(nested.to_string().as_bytes(), None).unwrap(), nested));
        }
        for (document, value) in &kept {
            prop_assert_eq!(&back(document, &encoder), value);
            let text = Reader::new(document, encoder.words()).json().unwrap();
            prop_assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), value);
            let spec = Reader::new(document, encoder.words()).find(["spec"]).unwrap().unwrap().json().unwrap();
            prop_assert_eq!(&serde_json::from_str::<Value>(&spec).unwrap(), &value["spec"]);
        }
    }

    /// Those of the object, and nothing else that is called the same.
    #[test]
    fn managed_fields_can_be_left_out(managed in value(), other in value(), twice in any::<bool>()) {
        let mut encoder = Encoder::new(Drops::default());
        let inner = json!({"metadata": {"managedFields": other}, "managedFields": other});
        let with = json!({
            "apiVersion": "v1",
            "managedFields": other,
            "metadata": {"labels": inner, "managedFields": managed, "name": "a"},
            "spec": inner,
        });
        let mut without = with.clone();
        without["metadata"].as_object_mut().unwrap().remove("managedFields");
        // What comes again is kept once, and then lies elsewhere.
        let earlier = twice.then(|| encoder.encode(with.to_string().as_bytes(), None).unwrap());
        let document = encoder.encode(with.to_string().as_bytes(), None).unwrap();
        prop_assert_eq!(back(&document, &encoder), with.clone());
        let mut reader = Reader::new(&document, encoder.words()).unmanaged();
        prop_assert_eq!(Value::deserialize(&mut reader).unwrap(), without);
        drop(earlier);
    }

    #[test]
    fn what_is_no_json_is_refused(value in value(), cut in any::<prop::sample::Index>()) {
        let whole = json!({"spec": value}).to_string();
        let bytes = whole.as_bytes();
        let cut = &bytes[..cut.index(bytes.len())];
        prop_assert!(Encoder::new(Drops::default()).encode(cut, None).is_err());
    }
}

#[test]
fn order_and_repetition_are_kept() {
    let text = r#"{"b":1,"a":{"y":[],"x":{}},"b":-1,"":"","c":1.0}"#;
    let mut encoder = Encoder::new(Drops::default());
    for _ in 0..4 {
        let document = encoder.encode(text.as_bytes(), None).unwrap();
        assert_eq!(Reader::new(&document, encoder.words()).json().unwrap(), text);
    }
}

#[test]
fn times_are_packed_only_if_they_come_back() {
    let cases = [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("2000-02-29T12:30:59Z", Some(951_827_459)),
        ("2026-11-24T16:40:00Z", Some(1_795_538_400)),
        ("9999-12-31T23:59:59Z", Some(253_402_300_799_u64)),
        ("2100-02-29T00:00:00Z", None),
        ("2026-11-31T00:00:00Z", None),
        ("2026-00-01T00:00:00Z", None),
        ("2016-12-31T23:59:60Z", None),
        ("1969-12-31T23:59:59Z", None),
        ("2026-11-24T16:40:00z", None),
        ("2026-11-24 16:40:00Z", None),
    ];
    for (text, seconds) in cases {
        let mut encoder = Encoder::new(Drops::default());
        let document = encoder.encode(json!(text).to_string().as_bytes(), None).unwrap();
        assert_eq!(document.bytes[0] == super::tag::TIME, seconds.is_some(), "{text}");
        assert_eq!(back(&document, &encoder), json!(text));
        if let Some(seconds) = seconds {
            let mut expected = vec![super::tag::TIME];
            super::encode::push_varint(&mut expected, seconds);
            assert_eq!(*document.bytes, *expected, "{text}");
        }
    }
}

#[test]
fn equal_parts_are_kept_once_and_go_with_the_last_who_has_them() {
    let args: Vec<_> = (0..40).map(|number| format!("--option-{number}")).collect();
    let template = json!({"containers": [{"image": "registry.example/app:1", "args": args}]});
    let mut encoder = Encoder::new(Drops::default());
    let mut documents: Vec<_> = (0..100)
        .map(|name| json!({"name": format!("name-{name}"), "spec": template}).to_string())
        .map(|text| encoder.encode(text.as_bytes(), None).unwrap())
        .collect();
    let largest = documents
        .iter()
        .skip(50)
        .map(|document| document.bytes.len())
        .max()
        .unwrap();
    assert!(largest < 24, "a name and a pointer, not {largest} bytes");
    let spec = &documents[99].shared[0];
    assert!(
        documents[50..]
            .iter()
            .all(|document| std::sync::Arc::ptr_eq(&document.shared[0], spec))
    );
    let weak = std::sync::Arc::downgrade(spec);
    documents.truncate(1);
    assert_eq!(weak.strong_count(), 0);
}

#[test]
fn the_table_of_words_is_bounded_and_full_only_costs_space() {
    let mut encoder = Encoder::new(Drops::default());
    let mut last = None;
    for round in 0..3 * words::MOST_WORDS {
        let text = json!({format!("field-{}", round / 2): round}).to_string();
        last = Some((encoder.encode(text.as_bytes(), None).unwrap(), text));
    }
    let (document, text) = last.unwrap();
    assert_eq!(Reader::new(&document, encoder.words()).json().unwrap(), text);
    assert!(document.bytes.len() > 10, "written out");
}

#[test]
fn paths_are_dropped_wherever_they_end() {
    let mut drops = Drops::default();
    drops.add(["metadata", "managedFields"]);
    drops.add(["metadata", "annotations", "a/b"]);
    let mut encoder = Encoder::new(drops);
    let cases = [
        (
            json!({"metadata": {"managedFields": [1, {"x": 2}], "name": "n", "annotations": {"a/b": "1", "c": "2"}}}),
            json!({"metadata": {"name": "n", "annotations": {"c": "2"}}}),
        ),
        (
            json!({"managedFields": 1, "spec": {"metadata": {"managedFields": 1}}}),
            json!({"managedFields": 1, "spec": {"metadata": {"managedFields": 1}}}),
        ),
        (json!({"metadata": null}), json!({"metadata": null})),
        (
            json!({"metadata": {"annotations": {"a/b": "1"}}}),
            json!({"metadata": {"annotations": {}}}),
        ),
    ];
    for (before, after) in cases {
        let document = encoder.encode(before.to_string().as_bytes(), None).unwrap();
        assert_eq!(back(&document, &encoder), after);
    }
}

#[test]
fn an_item_of_a_list_says_what_it_is() {
    let type_meta = TypeMeta {
        api_version: "example.dev/v1".into(),
        kind: "Widget".into(),
    };
    let mut encoder = Encoder::new(Drops::default());
    for before in [
        json!({"spec": 1}),
        json!({"kind": "Widget", "spec": 1, "apiVersion": "example.dev/v1"}),
    ] {
        let document = encoder
            .encode(before.to_string().as_bytes(), Some(&type_meta))
            .unwrap();
        assert_eq!(
            back(&document, &encoder),
            json!({"apiVersion": "example.dev/v1", "kind": "Widget", "spec": 1})
        );
    }
}

/// A type that asks for everything in another way.
#[derive(serde::Deserialize, Debug, PartialEq, serde::Serialize)]
struct Demanding {
    unit: Kind,
    newtype: Kind,
    tuple: Kind,
    fields: Kind,
    pair: (u8, String),
    numbered: std::collections::BTreeMap<i32, bool>,
    by_kind: std::collections::BTreeMap<Unit, f64>,
    wrapped: Wrapped,
    none: Option<String>,
    nothing: (),
    float: f64,
    letter: char,
    #[serde(flatten)]
    rest: std::collections::BTreeMap<String, Value>,
}

#[derive(serde::Deserialize, Debug, PartialEq, serde::Serialize)]
enum Kind {
    Unit,
    Newtype(String),
    Tuple(u8, u8),
    Fields { a: u8 },
}

#[derive(serde::Deserialize, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
enum Unit {
    One,
    Two,
}

#[derive(serde::Deserialize, Debug, PartialEq, serde::Serialize)]
struct Wrapped(Vec<i64>);

#[test]
fn every_way_of_asking_is_answered_as_by_json() {
    let text = json!({
        "unit": "Unit", "newtype": {"Newtype": "01234567-89ab-cdef-0123-456789abcdef"}, "tuple": {"Tuple": [1, 200]},
        "fields": {"Fields": {"a": 3}}, "pair": [7, "2026-11-24T16:40:00Z"], "numbered": {"-5": true, "70": false},
        "by_kind": {"One": 1, "Two": 2.5}, "wrapped": [-1, -1_000_000, i64::MIN], "none": null, "nothing": null,
        "float": 3, "letter": "ß", "other": {"more": [1, 2, {"x": null}]}, "text": "x".repeat(300),
    })
    .to_string();
    let mut encoder = Encoder::new(Drops::default());
    for _ in 0..4 {
        let document = encoder.encode(text.as_bytes(), None).unwrap();
        let read: Demanding =
            serde::Deserialize::deserialize(&mut Reader::new(&document, encoder.words())).unwrap();
        assert_eq!(read, serde_json::from_str(&text).unwrap());
    }
    #[derive(serde::Deserialize)]
    struct Raw {
        other: Box<serde_json::value::RawValue>,
    }
    let document = encoder.encode(text.as_bytes(), None).unwrap();
    let raw: Raw = serde::Deserialize::deserialize(&mut Reader::new(&document, encoder.words())).unwrap();
    assert_eq!(raw.other.get(), r#"{"more":[1,2,{"x":null}]}"#);
}

#[test]
fn what_does_not_fit_the_type_is_an_error_not_a_panic() {
    let wrong = [
        json!({"unit": 1}),
        json!({"unit": {}}),
        json!({"unit": {"Unit": null, "Newtype": ""}}),
        json!({"pair": [1, "a", 2]}),
        json!({"pair": [1]}),
        json!({"numbered": {"x": true}}),
        json!([]),
        json!("text"),
        Value::Null,
    ];
    for value in wrong {
        let mut encoder = Encoder::new(Drops::default());
        let document = encoder.encode(value.to_string().as_bytes(), None).unwrap();
        let mut reader = Reader::new(&document, encoder.words());
        let read: Result<Demanding, read::Error> = serde::Deserialize::deserialize(&mut reader);
        assert!(read.is_err(), "{value}");
        assert!(serde_json::from_value::<Demanding>(value).is_err());
    }
}
