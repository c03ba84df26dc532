//! Tests of the protobuf form: against bytes that Go wrote, against the schemas, and against nonsense.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;
use serde_json::{Value, json};
use trimtab_apimachinery_schema::Schema;
use trimtab_apimachinery_schema::schema::{Additional, Type as JsonType};

use super::table::{Field, MessageId, Shape, TABLE, Type};
use super::wire::{put_bytes, put_int, put_varint};
use super::{Error, ListEncoder, MAGIC, MAX_DEPTH, MAX_MESSAGES, decode, encode, encode_watch_event};
use crate::builtin;

/// Bytes that Go wrote, and the JSON that Go makes of them.
fn samples() -> impl Iterator<Item = (Vec<u8>, Value)> {
    include_str!("samples.txt").lines().map(|line| {
        let (bytes, json) = line.split_once('\t').unwrap();
        (BASE64.decode(bytes).unwrap(), serde_json::from_str(json).unwrap())
    })
}

#[test]
fn reads_and_writes_what_go_does() {
    let mut kinds = BTreeSet::new();
    for (bytes, json) in samples() {
        let what = format!("{} {}", json["apiVersion"], json["kind"]);
        assert_eq!(decode(&bytes, "", "").unwrap(), json, "{what}");
        assert_eq!(encode(&json).unwrap(), bytes, "{what}");
        kinds.insert(what);
    }
    for resource in builtin::all() {
        let what = format!("{:?} {:?}", resource.api_version(), resource.kind);
        assert!(kinds.contains(&what), "no sample of {what}");
    }
}

#[test]
fn every_line_of_the_table_is_read() {
    let text = include_str!("fields.txt");
    let fields = text
        .lines()
        .filter(|l| l.starts_with(|c: char| c.is_ascii_digit()));
    assert_eq!(fields.count(), TABLE.count());
    let kinds = text.lines().filter(|l| l.starts_with("kind ")).count();
    assert_eq!(kinds, TABLE.kinds());
}

/// The fields of a message as JSON has them.
fn flat(id: MessageId) -> Vec<&'static Field> {
    TABLE
        .fields(id)
        .iter()
        .flat_map(|field| match field.type_ {
            Type::Message(inner) if field.inline => flat(inner),
            _ => vec![field],
        })
        .collect()
}

/// The problems of a message that a schema describes.
fn compare(
    path: &str,
    schema: &Schema,
    id: MessageId,
    seen: &mut BTreeSet<MessageId>,
    problems: &mut Vec<String>,
) {
    if !seen.insert(id) || schema.properties.is_empty() {
        return;
    }
    let fields = flat(id);
    for name in schema.properties.keys() {
        // The envelope has them; objects within objects lose them.
        if !matches!(name.as_str(), "apiVersion" | "kind") && !fields.iter().any(|f| f.name == name) {
            problems.push(format!("{path}.{name} is not in the table"));
        }
    }
    for field in fields {
        let path = format!("{path}.{}", field.name);
        let Some(schema) = schema.properties.get(field.name) else {
            problems.push(format!("{path} is not in the schema"));
            continue;
        };
        let one = match (field.shape, field.type_) {
            (Shape::One, Type::Strings) | (Shape::List, _) => schema.items.as_ref(),
            (Shape::Map, _) => match &schema.additional {
                Additional::Schema(values) => Some(values),
                _ => None,
            },
            (Shape::One, _) => Some(schema),
        };
        let Some(one) = one else {
            problems.push(format!("{path} is no {:?}", field.shape));
            continue;
        };
        let expected = match field.type_ {
            Type::Message(inner) => {
                compare(&path, one, inner, seen, problems);
                Some(JsonType::Object)
            }
            Type::String | Type::Bytes | Type::Time | Type::MicroTime => Some(JsonType::String),
            Type::Quantity | Type::IntOrString if !one.int_or_string => {
                problems.push(format!("{path} is no number or string"));
                None
            }
            Type::Bool => Some(JsonType::Boolean),
            Type::Int32 | Type::Int64 => Some(JsonType::Integer),
            Type::Double => Some(JsonType::Number),
            _ => None,
        };
        if expected.is_some() && one.type_ != expected {
            problems.push(format!("{path} is {:?}, not {expected:?}", one.type_));
        }
    }
}

#[test]
fn the_table_has_what_the_schemas_have() {
    let mut problems = Vec::new();
    for resource in builtin::all() {
        let id = TABLE.kind(&resource.api_version(), &resource.kind).unwrap();
        compare(
            &resource.kind,
            &resource.schema,
            id,
            &mut BTreeSet::new(),
            &mut problems,
        );
    }
    // The one type within itself, whose schema says nothing.
    let open = "CustomResourceDefinition.spec.versions.schema.openAPIV3Schema is None, not Some(Object)";
    assert_eq!(problems, [open]);
}

/// An object whose envelope holds these bytes.
fn enveloped(api_version: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let (mut meta, mut out) = (Vec::new(), MAGIC.to_vec());
    put_bytes(&mut meta, 1, api_version.as_bytes());
    put_bytes(&mut meta, 2, kind.as_bytes());
    put_bytes(&mut out, 1, &meta);
    put_bytes(&mut out, 2, body);
    out
}

#[test]
fn what_is_no_object_is_refused() {
    let config_map = |body: &[u8]| enveloped("v1", "ConfigMap", body);
    let wrong = |wire_type, field: &str| Error::WrongWireType {
        wire_type,
        field: field.to_owned(),
    };
    let value = |field: &str, why: &str| Error::Value {
        field: field.to_owned(),
        why: why.to_owned(),
    };
    let cases: &[(Vec<u8>, Error)] = &[
        (Vec::new(), Error::Empty),
        (b"{\"kind\":\"ConfigMap\"}".to_vec(), Error::NoMagic),
        (MAGIC.to_vec(), Error::NoBody),
        (b"k8s\0\x0a\xff".to_vec(), Error::Truncated),
        (b"k8s\0\x0a\x7f".to_vec(), Error::Truncated),
        (
            b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".to_vec(),
            Error::Truncated,
        ),
        ([b"k8s\0\x0a".as_slice(), &[0xff; 11]].concat(), Error::Overflow),
        (b"k8s\0\x08\x01".to_vec(), wrong(0, "typeMeta")),
        (config_map(b"\x08\x01"), wrong(0, "metadata")),
        (config_map(b"\x20\x01\x21"), Error::Truncated),
        (config_map(b"\x02\x00"), Error::IllegalTag(0, 2)),
        (config_map(b"\x0f"), Error::IllegalTag(0, 7)),
        // A group that does not end, and an end without a group.
        (config_map(b"\x7b\x08\x01"), Error::Truncated),
        (config_map(b"\x7c"), Error::EndOfGroup),
        (
            // metadata.creationTimestamp in a year that has five digits.
            config_map(b"\x0a\x09\x42\x07\x08\x80\xdc\x9a\x93\xb0\x07"),
            value("creationTimestamp", "year outside of range [0,9999]"),
        ),
        (
            enveloped("apps/v1", "ControllerRevision", b"\x12\x03\x0a\x01{"),
            value("data", "EOF while parsing an object at line 1 column 1"),
        ),
    ];
    for (bytes, error) in cases {
        let found = match decode(bytes, "", "") {
            Err(Error::Object { why, .. }) => Err(*why),
            found => found,
        };
        assert_eq!(found.as_ref(), Err(error), "{bytes:02x?}");
    }
}

#[test]
fn kinds_are_said_or_given() {
    let name = b"\x0a\x03\x0a\x01a";
    let cases = [
        // A group that is unknown is skipped, with what is in it.
        (
            enveloped("", "", &[name.as_slice(), b"\x7b\x7b\x08\x01\x7c\x7c"].concat()),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}),
        ),
        (
            enveloped("v1", "DeleteOptions", b"\x08\x05"),
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 5}),
        ),
        (
            enveloped("apps/v1", "DeleteOptions", b"\x08\x00"),
            json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}),
        ),
        (
            enveloped("example.com/v1", "Foo", name),
            json!({"apiVersion": "example.com/v1", "kind": "Foo"}),
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(decode(&bytes, "v1", "ConfigMap"), Ok(expected));
    }
}

#[test]
fn integers_may_be_packed() {
    // A pod whose security context names groups: once one by one, once together.
    let pod = |groups: &[u8]| {
        let (mut context, mut spec, mut pod) = (groups.to_vec(), Vec::new(), Vec::new());
        put_int(&mut context, 2, 1);
        put_bytes(&mut spec, 14, &context);
        put_bytes(&mut pod, 2, &spec);
        decode(&enveloped("v1", "Pod", &pod), "", "").unwrap()["spec"]["securityContext"].take()
    };
    let expected = json!({"supplementalGroups": [1, 300], "runAsUser": 1});
    let (mut single, mut packed, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    for number in [1, 300] {
        put_int(&mut single, 4, number);
        put_varint(&mut numbers, number);
    }
    put_bytes(&mut packed, 4, &numbers);
    assert_eq!(pod(&single), expected);
    assert_eq!(pod(&packed), expected);
}

#[test]
fn depth_is_bounded() {
    // A schema whose field `not` holds a schema, and so on.
    const NOT: u64 = 28;
    let body = |depth: usize| {
        let mut schema = Vec::new();
        for _ in 0..depth {
            let mut outer = Vec::new();
            put_bytes(&mut outer, NOT, &schema);
            schema = outer;
        }
        // spec.versions[0].schema.openAPIV3Schema
        for number in [1, 4, 7, 2] {
            let mut outer = Vec::new();
            put_bytes(&mut outer, number, &schema);
            schema = outer;
        }
        enveloped("apiextensions.k8s.io/v1", "CustomResourceDefinition", &schema)
    };
    let read = decode(&body(MAX_DEPTH - 5), "", "").unwrap();
    assert!(encode(&read).is_ok());
    let refused = Error::Object {
        api_version: "apiextensions.k8s.io/v1".to_owned(),
        kind: "CustomResourceDefinition".to_owned(),
        why: Box::new(Error::TooDeep),
    };
    assert_eq!(decode(&body(MAX_DEPTH + 1), "", ""), Err(refused));
    let mut schema = json!({});
    for _ in 0..=MAX_DEPTH {
        schema = json!({"not": schema});
    }
    let spec = json!({"versions": [{"schema": {"openAPIV3Schema": schema}}]});
    let crd =
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": spec});
    assert_eq!(encode(&crd), Err(Error::TooDeep));
}

#[test]
fn what_is_not_of_its_type_is_not_written() {
    let object = |field: &str, value: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", field: value});
    for (field, value, expected) in [
        ("immutable", json!("yes"), "bool"),
        ("metadata", json!([]), "message"),
        ("data", json!([]), "map"),
        ("binaryData", json!({"a": "?"}), "bytes"),
    ] {
        let error = Error::Type {
            field: field.to_owned(),
            expected,
        };
        assert_eq!(encode(&object(field, value)), Err(error));
    }
    let unknown = Error::UnknownKind {
        api_version: "example.com/v1".to_owned(),
        kind: "Foo".to_owned(),
    };
    assert_eq!(
        encode(&json!({"apiVersion": "example.com/v1", "kind": "Foo"})),
        Err(unknown)
    );
}

#[test]
fn a_watch_event_is_a_frame() {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}});
    let frame = encode_watch_event(&json!({"type": "ADDED", "object": object})).unwrap();
    let (mut raw, mut event) = (Vec::new(), Vec::new());
    put_bytes(&mut raw, 1, &encode(&object).unwrap());
    put_bytes(&mut event, 1, b"ADDED");
    put_bytes(&mut event, 2, &raw);
    assert_eq!(frame[..4], (event.len() as u32).to_be_bytes());
    assert_eq!(frame[4..], event);
}

#[test]
fn the_number_of_messages_is_bounded() {
    // Containers of which each is two bytes.
    let pod = |containers: usize| {
        let mut pod = Vec::new();
        put_bytes(&mut pod, 2, &[0x12, 0].repeat(containers));
        enveloped("v1", "Pod", &pod)
    };
    let read = decode(&pod(1000), "", "").unwrap();
    assert_eq!(read["spec"]["containers"].as_array().map(Vec::len), Some(1000));
    assert!(matches!(
        decode(&pod(MAX_MESSAGES), "", ""),
        Err(Error::Object { why, .. }) if *why == Error::TooMany
    ));
}

/// Without members that are null: a pointer to what JSON writes as null is no pointer, once it has been JSON.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Bytes that Go wrote, with some of them changed, left out or said twice.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let all: Vec<Vec<u8>> = samples().map(|(bytes, _)| bytes).collect();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..6);
    (prop::sample::select(all), changes).prop_map(|(mut bytes, changes)| {
        for (at, byte, how) in changes {
            let at = at.index(bytes.len().max(1)).max(MAGIC.len()).min(bytes.len());
            match how {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at),
                2 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(byte % 4),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => {}
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_can_be_read_can_be_written_and_reads_the_same(bytes in damaged()) {
        if let Ok(mut read) = decode(&bytes, "v1", "Pod") {
            match encode(&read) {
                Err(Error::UnknownKind { .. }) => prop_assert_eq!(read.as_object().map(|o| o.len()), Some(2)),
                written => {
                    let mut again = decode(&written.unwrap(), "", "").unwrap();
                    without_nulls(&mut again);
                    without_nulls(&mut read);
                    prop_assert_eq!(again, read);
                }
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in "Pod|Event|Lease|Status") {
        let _ = decode(&enveloped("v1", &kind, &bytes), "", "");
        let _ = decode(&[MAGIC.as_slice(), &bytes].concat(), "v1", &kind);
    }
}

#[test]
fn lists_are_the_same_item_by_item() {
    let metadata = |name: &str| json!({"name": name, "labels": {"a": "b"}});
    for (api_version, kind, item) in [
        (
            "v1",
            "PodList",
            json!({"metadata": metadata("p"), "spec": {"containers": [{"name": "c"}]}}),
        ),
        (
            "v1",
            "ConfigMapList",
            json!({"metadata": metadata("c"), "data": {"k": "v"}}),
        ),
        (
            "apps/v1",
            "DeploymentList",
            json!({"metadata": metadata("d"), "spec": {"replicas": 2}}),
        ),
        (
            "meta.k8s.io/v1",
            "PartialObjectMetadataList",
            json!({"metadata": metadata("m")}),
        ),
    ] {
        for items in [vec![], vec![item.clone()], vec![item.clone(); 3]] {
            let mut list =
                json!({"apiVersion": api_version, "kind": kind, "metadata": {"resourceVersion": "7"}});
            let mut encoder = ListEncoder::new(api_version, kind).unwrap();
            items.iter().for_each(|item| encoder.add(item).unwrap());
            let one_by_one = encoder.finish(&list).unwrap();
            list["items"] = items.into();
            assert_eq!(one_by_one, encode(&list).unwrap(), "{kind}");
        }
    }
    for (api_version, kind) in [
        ("v1", "Pod"),
        ("v1", "Nothing"),
        ("v1", "Status"),
        ("meta.k8s.io/v1", "Table"),
    ] {
        assert!(ListEncoder::new(api_version, kind).is_none(), "{kind}");
    }
}
