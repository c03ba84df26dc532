//! The strategy of a custom resource: what its definition says is filled in, refused, and kept apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};
use trimtab_apimachinery_schema::go;
use trimtab_apiserver_kinds::resource::ScalePaths;
use trimtab_apiserver_kinds::strategy::{RequestContext, Strategy};

use super::schema::Compiled;
use crate::registry::meta;

/// The largest count of replicas.
const REPLICAS_MAX: i64 = i32::MAX as i64;
/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["foregroundDeletion", "kubernetes", "orphan"];

/// A field that objects can be selected by: how selectors call it, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Selectable {
    pub(super) name: String,
    pub(super) path: Vec<String>,
}

/// What is special about one version of a custom resource.
#[derive(Debug)]
pub(super) struct Custom {
    pub(super) compiled: Arc<Compiled>,
    /// The schemas of all versions in which objects may be stored, by `apiVersion`.
    pub(super) all: Arc<BTreeMap<String, Arc<Compiled>>>,
    /// The `apiVersion` that objects are stored with.
    pub(super) stored: String,
    /// Whether the status is written at its own path, and nowhere else.
    pub(super) status: bool,
    pub(super) scale: Option<ScalePaths>,
    pub(super) selectable: Vec<Selectable>,
}

impl Strategy for Custom {
    fn default(&self, object: &mut Value) {
        // What has been stored in another version lacks what that version fills in, and no more.
        let said = object["apiVersion"].as_str().unwrap_or_default();
        self.all.get(said).unwrap_or(&self.compiled).default(object);
        self.compiled.prune(object);
    }

    fn stored_api_version(&self) -> Option<&str> {
        Some(&self.stored)
    }

    fn prepare_create(&self, _: &RequestContext, object: &mut Value) {
        if self.status
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
    }

    fn prepare_update(&self, ctx: &RequestContext, new: &mut Value, old: &Value) {
        if ctx.subresource == "status" {
            let status = new.get("status").cloned();
            let managed = new["metadata"]["managedFields"].clone();
            *new = old.clone();
            meta::set(new, "managedFields", managed);
            put(new, "status", status);
        } else if self.status {
            put(new, "status", old.get("status").cloned());
        }
    }

    fn validate_create(&self, _: &RequestContext, object: &Value) -> Vec<FieldError> {
        let root = FieldPath::root();
        let mut errors = Vec::new();
        self.compiled.check_values(object, None, &root, &mut errors);
        errors.extend(self.scale_spec(object));
        errors.extend(self.scale_status(object));
        self.compiled.check_rules(object, None, &root, &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &RequestContext, new: &Value, old: &Value) -> Vec<FieldError> {
        let root = FieldPath::root();
        let mut errors = Vec::new();
        if ctx.subresource == "status" {
            if let Some(status) = new.get("status") {
                let at = FieldPath::new("status");
                self.compiled
                    .check_status(status, old.get("status"), &at, &mut errors);
            }
        } else {
            self.compiled.check_values(new, Some(old), &root, &mut errors);
            errors.extend(self.scale_spec(new));
        }
        errors.extend(self.scale_status(new));
        self.compiled.check_rules(new, Some(old), &root, &mut errors);
        errors
    }

    fn warnings(&self, ctx: &RequestContext, new: &Value, old: Option<&Value>) -> Vec<String> {
        if ctx.subresource == "status" {
            return Vec::new();
        }
        let before = old.map(meta::finalizers).unwrap_or_default();
        let mut added: Vec<&str> = meta::finalizers(new)
            .into_iter()
            .filter(|f| !before.contains(f))
            .collect();
        added.sort_unstable();
        added.dedup();
        added.into_iter().flat_map(finalizer_warnings).collect()
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns1123_subdomain(if prefix { name.trim_end_matches('-') } else { name })
    }

    fn spec_changed(&self, new: &Value, old: &Value) -> bool {
        let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
            return new != old;
        };
        let counts = |key: &str| key != "metadata" && !(self.status && key == "status");
        let differs = |(key, value): (&String, &Value)| counts(key) && old.get(key) != Some(value);
        new.iter().any(differs) || old.keys().any(|key| counts(key) && !new.contains_key(key))
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn selectable(&self, object: &Value, field: &str) -> Option<String> {
        let selectable = self.selectable.iter().find(|s| s.name == field)?;
        let value = selectable
            .path
            .iter()
            .try_fold(object, |value, name| value.get(name));
        Some(match value {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        })
    }
}

impl Custom {
    fn scale_spec(&self, object: &Value) -> Option<FieldError> {
        count(object, &self.scale.as_ref()?.spec_replicas)
    }

    fn scale_status(&self, object: &Value) -> Vec<FieldError> {
        let Some(scale) = &self.scale else {
            return Vec::new();
        };
        let mut errors: Vec<FieldError> = count(object, &scale.status_replicas).into_iter().collect();
        if let Some(path) = &scale.selector {
            match at(object, path) {
                Err(why) => errors.push(FieldError::invalid(&dotted(path), "", why)),
                Ok(Some(other)) if !other.is_string() => {
                    let why = misplaced(path, other, "string");
                    errors.push(FieldError::invalid(&dotted(path), "", why));
                }
                Ok(_) => {}
            }
        }
        errors
    }
}

fn put(object: &mut Value, field: &str, value: Option<Value>) {
    if let Some(fields) = object.as_object_mut() {
        match value {
            Some(value) => drop(fields.insert(field.to_owned(), value)),
            None => drop(fields.remove(field)),
        }
    }
}

/// The path as a definition writes it, with a dot in front.
fn dotted(path: &[String]) -> FieldPath {
    FieldPath::new(format!(".{}", path.join(".")))
}

fn misplaced(path: &[String], value: &Value, wanted: &str) -> String {
    let found = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    format!(
        ".{} accessor error: {found} is of the type {}, expected {wanted}",
        path.join("."),
        go::type_name(value)
    )
}

/// What is at a path; an error when something on the way is no object.
fn at<'v>(object: &'v Value, path: &[String]) -> Result<Option<&'v Value>, String> {
    let mut value = object;
    for (i, name) in path.iter().enumerate() {
        value = match value {
            Value::Object(fields) => match fields.get(name) {
                Some(next) => next,
                None => return Ok(None),
            },
            other => return Err(misplaced(&path[..i], other, "map[string]interface{}")),
        };
    }
    Ok(Some(value))
}

/// What is wrong with a count of replicas.
fn count(object: &Value, path: &[String]) -> Option<FieldError> {
    let invalid = |value: i64, why: String| Some(FieldError::invalid(&dotted(path), value, why));
    let found = match at(object, path) {
        Err(why) => return invalid(0, why),
        Ok(None) => return None,
        Ok(Some(found)) => found,
    };
    match found.as_i64() {
        None => invalid(0, misplaced(path, found, "int64")),
        Some(n) if n < 0 => invalid(n, "should be a non-negative integer".to_owned()),
        Some(n) if n > REPLICAS_MAX => invalid(n, format!("should be less than or equal to {REPLICAS_MAX}")),
        Some(_) => None,
    }
}

/// What a finalizer's name should be, and is not.
fn finalizer_warnings(name: &str) -> Vec<String> {
    let about = |why: &str| format!("metadata.finalizers: {name:?}: {why}");
    let mut warnings: Vec<String> = names::qualified_name(name).iter().map(|why| about(why)).collect();
    if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        let path = if name.contains('.') {
            " including a path (/)"
        } else {
            ""
        };
        warnings.push(about(&format!(
            "prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
        )));
    }
    warnings
}
