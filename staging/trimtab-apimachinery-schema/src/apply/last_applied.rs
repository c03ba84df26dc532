//! The annotation in which `kubectl apply` without `--server-side` keeps what it applied last.

use serde_json::Value;

use super::set::FieldSet;
use super::{Write, compare, typed};
use crate::schema::Schema;

pub(super) const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The fields that the last client-side apply wrote and that are still as it wrote them.
pub(super) fn fields(schema: &Schema, live: &Value, write: &Write) -> Option<FieldSet> {
    let text = live
        .get("metadata")?
        .get("annotations")?
        .get(ANNOTATION)?
        .as_str()?;
    let applied: Value = serde_json::from_str(text).ok()?;
    if applied.get("apiVersion")?.as_str()? != write.api_version
        || !typed::validate(schema, &applied).is_empty()
    {
        return None;
    }
    let found = compare::compare(schema, &applied, live).ok()?;
    Some(
        typed::field_set(schema, &applied)
            .difference(&found.changed())
            .difference(&found.removed),
    )
}

/// Keeps the annotation of client-side apply in step when kubectl applies server-side.
pub(super) fn update(object: &mut Value, config: &Value, write: &Write) {
    if write.manager != "kubectl" {
        return;
    }
    let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    if annotations
        .get(ANNOTATION)
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        return;
    }
    let mut config = config.clone();
    if let Some(own) = config
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        own.remove(ANNOTATION);
    }
    annotations.insert(ANNOTATION.to_owned(), Value::from(format!("{config}\n")));
}
