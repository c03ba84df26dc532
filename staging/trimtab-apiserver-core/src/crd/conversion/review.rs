//! `ConversionReview` of apiextensions.k8s.io: what a webhook is asked to convert, and what of its answer is believed.
//!
//! A conversion may change all of an object but who it is: metadata other than labels and annotations stays as it was.

use serde_json::{Map, Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};
use trimtab_apimachinery_schema::go;

const GROUP: &str = "apiextensions.k8s.io";

/// A version of the review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V1beta1,
}

impl Version {
    /// The first of a webhook's versions that is known here.
    pub(super) fn choose(accepted: &[String]) -> Option<Self> {
        accepted.iter().find_map(|version| match version.as_str() {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1beta1),
            _ => None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// The kind of an object as errors name it: `example.com/v1, Kind=Widget`.
pub(super) fn kind(object: &Value) -> String {
    gvk(text(object, "apiVersion"), text(object, "kind"))
}

fn gvk(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}

/// The review that is sent.
pub(super) fn review(version: Version, uid: &str, objects: &[&Value], api_version: &str) -> Value {
    json!({
        "kind": "ConversionReview",
        "apiVersion": format!("{GROUP}/{}", version.as_str()),
        "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": objects},
    })
}

/// The objects in the answer to a review with this identifier.
///
/// # Errors
///
/// A text that says, in kube-apiserver's words, what is wrong with it, or what the webhook says went wrong.
pub(super) fn read(answer: &Value, version: Version, uid: &str) -> Result<Vec<Value>, String> {
    let (api_version, said_kind) = (text(answer, "apiVersion"), text(answer, "kind"));
    if version == Version::V1 && (api_version, said_kind) != ("apiextensions.k8s.io/v1", "ConversionReview") {
        return Err(format!(
            "expected webhook response of {GROUP}/v1, Kind=ConversionReview, got {}",
            gvk(api_version, said_kind)
        ));
    }
    let response = &answer["response"];
    if !response.is_object() {
        return Err("no response provided".to_owned());
    }
    let got = text(response, "uid");
    if version == Version::V1 && got != uid {
        return Err(format!("expected response.uid={uid:?}, got {got:?}"));
    }
    let result = &response["result"];
    let status = text(result, "status");
    if status != "Success" {
        return Err(match text(result, "message") {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            message => message.to_owned(),
        });
    }
    Ok(response["convertedObjects"]
        .as_array()
        .cloned()
        .unwrap_or_default())
}

/// Converted objects, each with the metadata of its original.
///
/// # Errors
///
/// A text that says, in kube-apiserver's words, what is wrong with one of them, or that they are not as many. `of` is the
/// kind that was converted.
pub(super) fn check(
    of: &str,
    originals: &[&Value],
    converted: Vec<Value>,
    api_version: &str,
) -> Result<Vec<Value>, String> {
    let returned = format!("conversion webhook for {of} returned");
    if converted.len() != originals.len() {
        return Err(format!(
            "{returned} {} objects, expected {}",
            converted.len(),
            originals.len()
        ));
    }
    let alone = originals.len() == 1;
    let mut checked = Vec::with_capacity(converted.len());
    for (i, (original, mut object)) in originals.iter().zip(converted).enumerate() {
        let (at, invalid, metadata) = if alone {
            (
                "invalid object at index 0".to_owned(),
                "invalid object".to_owned(),
                "invalid metadata".to_owned(),
            )
        } else {
            let at = format!("invalid converted object at index {i}");
            (at.clone(), at, format!("invalid metadata in object at index {i}"))
        };
        if text(&object, "kind").is_empty() {
            return Err(format!("{returned} {at}: Object 'Kind' is missing in '{object}'"));
        }
        let expected = [
            ("groupVersion", api_version, text(&object, "apiVersion")),
            ("kind", text(original, "kind"), text(&object, "kind")),
        ];
        for (what, expected, got) in expected {
            if expected != got {
                return Err(format!(
                    "{returned} {at}: invalid {what} (expected {expected}, received {got})"
                ));
            }
        }
        same(original, &object).map_err(|why| format!("{returned} {invalid}: {why}"))?;
        restore(original, &mut object).map_err(|why| format!("{returned} {metadata}: {why}"))?;
        checked.push(object);
    }
    Ok(checked)
}

/// Whether an object is still the one that it was.
fn same(original: &Value, converted: &Value) -> Result<(), String> {
    for (field, what) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let of = |object: &Value| text(&object["metadata"], field).to_owned();
        let (before, after) = (of(original), of(converted));
        if before != after {
            return Err(format!("must have the same {what}: {before} != {after}"));
        }
    }
    Ok(())
}

/// Gives a converted object its original's metadata, with its own labels and annotations.
fn restore(original: &Value, converted: &mut Value) -> Result<(), String> {
    let answered = match converted.get("metadata") {
        None => return Err("missing metadata in converted object".to_owned()),
        Some(Value::Object(metadata)) => metadata.clone(),
        Some(other) => {
            let type_ = go::type_name(other);
            return Err(format!("invalid metadata of type {type_} in converted object"));
        }
    };
    let mut metadata = original["metadata"].as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let before = metadata.remove(field);
        let after = match answered.get(field) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(after)) => after,
            Some(other) => {
                let type_ = go::type_name(other);
                return Err(format!(
                    "invalid metadata.{field} of type {type_} in converted object"
                ));
            }
        };
        if let Some((key, other)) = after.iter().find(|(_, value)| !value.is_string()) {
            let type_ = go::type_name(other);
            return Err(format!(
                "metadata.{field}[{key}] must be a string, but is {type_} in converted object"
            ));
        }
        if before.as_ref().and_then(Value::as_object) != Some(after) {
            let errors = faults(field, after);
            match errors.as_slice() {
                [] => {}
                [one] => return Err(one.clone()),
                many => return Err(format!("[{}]", many.join(", "))),
            }
        }
        metadata.insert(field.to_owned(), Value::Object(after.clone()));
    }
    converted["metadata"] = Value::Object(metadata);
    Ok(())
}

/// What is wrong with new labels or annotations.
fn faults(field: &str, entries: &Map<String, Value>) -> Vec<String> {
    let metadata = FieldPath::new("metadata");
    let mut errors = Vec::new();
    for (key, value) in entries {
        let value = value.as_str().unwrap_or_default();
        if field == "labels" {
            let at = metadata.child("labels");
            let of_key = names::qualified_name(key).into_iter();
            errors.extend(of_key.map(|why| FieldError::invalid(&at, key.as_str(), why)));
            let of_value = names::label_value(value).into_iter();
            errors.extend(of_value.map(|why| FieldError::invalid(&at, value, why)));
        } else {
            let at = metadata.child("annotation");
            let of_key = names::qualified_name(&key.to_lowercase()).into_iter();
            errors.extend(of_key.map(|why| FieldError::invalid(&at, key.as_str(), why)));
        }
    }
    errors.iter().map(ToString::to_string).collect()
}
