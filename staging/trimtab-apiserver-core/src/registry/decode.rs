//! From a request's body to an object of the right kind: syntax, type meta, unknown and repeated fields, JSON types.

use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::resource::Resource;

use super::options::FieldValidation;
use super::resources::Resources;
use super::strict::{self, Reading};
use super::{json_syntax, meta, storage, yaml};
use crate::api::BodyFormat;

/// The name that kube-apiserver's decoder gives itself in errors.
const SCHEME: &str = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30";

/// Kinds that Kubernetes once had in other groups and still knows how to name.
const ONCE_KNOWN: [&str; 5] = [
    "extensions/v1beta1",
    "apps/v1beta1",
    "apps/v1beta2",
    "policy/v1beta1",
    "batch/v1beta1",
];

/// How deep an object may be. What reads it from the store, with the names of its fields as deep again below its metadata,
/// takes 127 levels.
const MOST_LEVELS: usize = 100;

/// Whether an object has no more levels than that, but for its managed fields, which are made of the others.
fn is_shallow(object: &Value) -> bool {
    let below = MOST_LEVELS - 1;
    object
        .as_object()
        .into_iter()
        .flatten()
        .all(|(name, field)| match field {
            Value::Object(metadata) if name == "metadata" => metadata
                .iter()
                .all(|(name, field)| name == "managedFields" || has_at_most(field, below - 1)),
            field => has_at_most(field, below),
        })
}

/// Whether a value has no more levels than that.
fn has_at_most(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| has_at_most(item, levels - 1)),
        Value::Object(fields) => levels > 0 && fields.values().all(|field| has_at_most(field, levels - 1)),
        _ => true,
    }
}

/// What a body is read as.
pub(crate) struct Decoder<'a> {
    /// The kind wanted; for some subresources it is not the resource's own.
    pub(crate) resource: &'a Resource,
    /// The table, to tell a wrong kind from one that does not exist.
    pub(crate) resources: &'a Resources,
    pub(crate) validation: FieldValidation,
}

impl Decoder<'_> {
    /// Reads a body. Warnings about fields are added to `warnings`.
    ///
    /// The object has its kind, passes the schema's types, is pruned, and is not defaulted yet.
    pub(crate) fn body(
        &self,
        format: BodyFormat,
        body: &[u8],
        warnings: &mut Vec<String>,
    ) -> Result<Value, ApiError> {
        let text = String::from_utf8_lossy(body);
        let written;
        let mut repeated = None;
        let text: &str = if format == BodyFormat::Yaml {
            let read = yaml::read(&text).map_err(|e| self.unrecognized(&e, body))?;
            repeated = read.repeated;
            written = read.value.to_string();
            &written
        } else {
            &text
        };
        let resource = self.resource;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let reading = strict::read(&resource.schema, resource.custom, &mut deserializer)
            .and_then(|reading| deserializer.end().map(|()| reading))
            .map_err(|_| {
                self.unrecognized(
                    &format!(
                        "couldn't get version/kind; json parse error: {}",
                        json_syntax::fault(text)
                    ),
                    body,
                )
            })?;
        let Reading {
            value,
            mut problems,
            misfit,
        } = reading;
        let mut object = match value {
            Value::Object(map) => Value::Object(map),
            Value::Null => Value::Object(serde_json::Map::new()),
            other => {
                let into = "Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; \
                    Kind string \"json:\\\"kind,omitempty\\\"\" }";
                let why = format!(
                    "couldn't get version/kind; json parse error: json: cannot unmarshal {} into {into}",
                    json_kind(&other)
                );
                return Err(self.unrecognized(&why, body));
            }
        };
        self.check_kind(&object, text)?;
        if let Some(repeated) = repeated {
            problems.insert(
                0,
                match self.validation {
                    FieldValidation::Strict => format!("yaml: unmarshal errors:\n  {repeated}"),
                    _ => repeated,
                },
            );
        }
        self.finish(&mut object, problems, misfit, warnings)
            .map_err(|e| self.cannot(&object, &e))?;
        Ok(object)
    }

    /// Drops what the schema does not know from an object made here (by a patch), and checks its types.
    pub(crate) fn object(&self, object: &Value, warnings: &mut Vec<String>) -> Result<Value, String> {
        let reading =
            strict::read(&self.resource.schema, self.resource.custom, object).map_err(|e| e.to_string())?;
        let Reading {
            value: mut object,
            problems,
            misfit,
        } = reading;
        self.finish(&mut object, problems, misfit, warnings)?;
        Ok(object)
    }

    fn finish(
        &self,
        object: &mut Value,
        problems: Vec<String>,
        misfit: Option<String>,
        warnings: &mut Vec<String>,
    ) -> Result<(), String> {
        if let Some(misfit) = misfit {
            return Err(misfit);
        }
        if !problems.is_empty() {
            match self.validation {
                FieldValidation::Strict => {
                    return Err(format!("strict decoding error: {}", problems.join(", ")));
                }
                FieldValidation::Warn => warnings.extend(problems),
                FieldValidation::Ignore => {}
            }
        }
        if !is_shallow(object) {
            return Err("json: exceeded max depth".to_owned());
        }
        storage::stamp(self.resource, object);
        if self.resource.custom {
            self.custom_metadata(object)?;
        }
        meta::normalize(object);
        Ok(())
    }

    /// The metadata of a custom resource has types, though the rest has only a schema.
    fn custom_metadata(&self, object: &mut Value) -> Result<(), String> {
        let metadata = match object.get("metadata") {
            None | Some(Value::Null) => return Ok(()),
            Some(metadata) if metadata.is_object() => metadata,
            Some(other) => {
                let kind = json_kind(other);
                return Err(format!(
                    "json: cannot unmarshal {kind} into Go value of type v1.ObjectMeta"
                ));
            }
        };
        let Some(schema) = self.resource.schema.properties.get("metadata") else {
            return Ok(());
        };
        let reading = strict::read(schema, false, metadata).map_err(|e| e.to_string())?;
        if let Some(misfit) = reading.misfit {
            return Err(misfit);
        }
        object["metadata"] = reading.value;
        Ok(())
    }

    /// Checks what the body says it is; saying nothing is enough for built-in kinds.
    fn check_kind(&self, object: &Value, text: &str) -> Result<(), ApiError> {
        let resource = self.resource;
        let said = |field: &str| object[field].as_str().unwrap_or_default();
        let (kind, api_version) = (said("kind"), said("apiVersion"));
        let expected = resource.api_version();
        if resource.custom {
            for (field, name, value) in [("kind", "Kind", kind), ("apiVersion", "apiVersion", api_version)] {
                if value.is_empty() && object[field].is_null() {
                    return Err(self.unrecognized_custom(name, text));
                }
            }
            if api_version != expected {
                return Err(ApiError::bad_request(format!(
                    "the API version in the data ({api_version}) does not match the expected API version ({expected})"
                )));
            }
            if kind != resource.kind {
                return Err(ApiError::bad_request(format!(
                    "{kind} in version {:?} cannot be handled as a {}: no kind {kind:?} is registered for version \
                     {api_version:?} in scheme {SCHEME:?}",
                    version_of(api_version),
                    resource.kind
                )));
            }
            return Ok(());
        }
        let kind = if kind.is_empty() {
            resource.kind.as_str()
        } else {
            kind
        };
        let api_version = if api_version.is_empty() {
            expected.as_str()
        } else {
            api_version
        };
        if kind == resource.kind && api_version == expected {
            return Ok(());
        }
        let version = version_of(api_version);
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let known =
            self.resources.by_kind(group, version, kind).is_some() || ONCE_KNOWN.contains(&api_version);
        if known && kind == resource.kind {
            return Err(ApiError::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API version ({expected})"
            )));
        }
        let why = if known {
            let internal = if resource.group.is_empty() {
                "core"
            } else {
                first_segment(&resource.group)
            };
            format!(
                "converting ({version}.{kind}) to ({internal}.{}): unknown conversion",
                resource.kind
            )
        } else {
            format!("no kind {kind:?} is registered for version {api_version:?} in scheme {SCHEME:?}")
        };
        Err(ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: {why}",
            resource.kind
        )))
    }

    fn cannot(&self, object: &Value, why: &str) -> ApiError {
        let said = object["apiVersion"].as_str().unwrap_or_default();
        let version = if said.is_empty() {
            self.resource.version.as_str()
        } else {
            version_of(said)
        };
        let kind = &self.resource.kind;
        ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        ))
    }

    fn unrecognized(&self, why: &str, body: &[u8]) -> ApiError {
        let kind = &self.resource.kind;
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({})",
            summary(body)
        ))
    }

    fn unrecognized_custom(&self, missing: &str, text: &str) -> ApiError {
        let body = text.trim();
        let why = format!("Object '{missing}' is missing in '{body}'");
        self.unrecognized(&why, text.as_bytes())
    }
}

fn version_of(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or_default()
}

fn first_segment(group: &str) -> &str {
    group.split('.').next().unwrap_or_default()
}

pub(super) fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The beginning of a body, for an error: as text if it looks like JSON, else in hexadecimal.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let (shown, more) = if body.len() > SHOWN {
        (&body[..SHOWN], " ...")
    } else {
        (body, "")
    };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => shown
            .iter()
            .map(|b| format!("{b:02x}"))
            .chain([more.to_owned()])
            .collect(),
    }
}
