//! PATCH in its four forms. A patch is applied to the stored object, again if that changes meanwhile.

use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::{ApiError, FieldError, FieldPath, GroupKind, StatusReason};
use trimtab_apimachinery_schema::apply::{self, Write};
use trimtab_apimachinery_schema::patch::PatchError;
use trimtab_apimachinery_schema::{Schema, patch};
use trimtab_apiserver_kinds::resource::Resource;

use super::decode::{self, Decoder};
use super::options::{FieldValidation, WriteOptions};
use super::resources::Resources;
use super::update::Change;
use super::{Answer, Call, yaml};
use crate::api::{self, BodyFormat};

/// A patch. That its body makes no sense shows when it is applied: that there is no such object comes first.
#[derive(Clone, Debug)]
pub(super) enum Patch {
    Json(bytes::Bytes),
    Merge(Result<Value, PatchError>),
    Strategic(Result<Value, PatchError>),
    Apply(Value),
}

impl Patch {
    /// Applies the patch to a JSON value; not for [`Patch::Apply`], which is no function of the value alone.
    pub(super) fn apply(&self, schema: &Schema, current: &Value) -> Result<Value, ApiError> {
        let mut object = current.clone();
        match self {
            Self::Json(operations) => patch::json(&mut object, operations)?,
            Self::Merge(changes) => patch::merge(&mut object, changes.as_ref().map_err(Clone::clone)?),
            Self::Strategic(changes) => {
                object = patch::strategic(schema, current, changes.as_ref().map_err(Clone::clone)?)?;
            }
            Self::Apply(_) => {}
        }
        Ok(object)
    }
}

/// A patch of an object of the resource's own kind.
struct PatchObject {
    patch: Patch,
    resource: Arc<Resource>,
    resources: Arc<Resources>,
    validation: FieldValidation,
    write: Write,
}

impl Change for PatchObject {
    fn apply(&self, current: Option<&Value>, warnings: &mut Vec<String>) -> Result<Value, ApiError> {
        let schema = &self.resource.schema;
        let decoder = Decoder {
            resource: &self.resource,
            resources: &self.resources,
            validation: self.validation,
        };
        if let Patch::Apply(config) = &self.patch {
            let applied = apply::apply(schema, current, config, &self.write)?;
            // Nothing in it is unknown any more, but it may be written in other forms than the usual ones.
            return decoder
                .object(&applied, &mut Vec::new())
                .map_err(ApiError::bad_request);
        }
        let patched = self.patch.apply(schema, current.unwrap_or(&Value::Null))?;
        decoder.object(&patched, warnings).map_err(|why| {
            let error = FieldError::invalid(&FieldPath::new("patch"), go_order(&patched), why);
            ApiError::invalid(&GroupKind::default(), "", &[error])
        })
    }

    /// Applying does for every kind; what changes something that is there does for none.
    fn creates(&self, _by_kind: bool) -> bool {
        matches!(self.patch, Patch::Apply(_))
    }

    fn tracks(&self) -> bool {
        matches!(self.patch, Patch::Apply(_))
    }
}

impl Call<'_> {
    /// PATCH of an object or of its subresource.
    pub(super) async fn patch(&mut self) -> Result<Answer, ApiError> {
        let options = WriteOptions::read(&self.request, "PatchOptions")?;
        let change = PatchObject {
            patch: self.read_patch()?,
            resource: self.resource.clone(),
            resources: self.registry.resources.snapshot(),
            validation: options.field_validation,
            write: self.write(&options),
        };
        let (code, written) = self.change(&change, &options).await?;
        Ok(Answer::written(code, written))
    }

    /// Reads the body as the patch that its media type says it is.
    pub(super) fn read_patch(&self) -> Result<Patch, ApiError> {
        let body = &self.request.body;
        match self.request.body_format {
            BodyFormat::JsonPatch => Ok(Patch::Json(body.clone())),
            BodyFormat::MergePatch => Ok(Patch::Merge(patch::read_merge(body))),
            BodyFormat::StrategicMergePatch if self.resource.custom => Err(ApiError::new(
                415,
                StatusReason::UnsupportedMediaType,
                api::NO_SUCH_PATCH,
            )),
            BodyFormat::StrategicMergePatch => Ok(Patch::Strategic(patch::read_strategic(body))),
            BodyFormat::ApplyPatch => {
                let text = String::from_utf8_lossy(body);
                let refused = |why: &str| ApiError::bad_request(format!("error decoding YAML: {why}"));
                let config = yaml::to_value(&text)
                    .map_err(|why| refused(&format!("error converting YAML to JSON: {why}")))?;
                if !config.is_object() && !config.is_null() {
                    let into = "Go value of type map[string]interface {}";
                    return Err(refused(&format!(
                        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into {into}",
                        decode::json_kind(&config)
                    )));
                }
                Ok(Patch::Apply(config))
            }
            BodyFormat::Json | BodyFormat::Yaml => Err(ApiError::new(
                415,
                StatusReason::UnsupportedMediaType,
                "415: Unsupported Media Type",
            )),
        }
    }
}

/// The fields of `metadata` in the order in which Kubernetes writes them.
const METADATA_ORDER: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

/// An object as text, as errors about patches quote it: the metadata in its usual order.
fn go_order(object: &Value) -> String {
    let Some(fields) = object.as_object() else {
        return object.to_string();
    };
    let field = |key: &str, value: &Value| format!("{}:{value}", Value::from(key));
    let parts: Vec<String> = fields
        .iter()
        .map(|(key, value)| match (key.as_str(), value.as_object()) {
            ("metadata", Some(metadata)) => {
                let known = METADATA_ORDER
                    .iter()
                    .filter_map(|k| metadata.get(*k).map(|v| field(k, v)));
                let others = metadata
                    .iter()
                    .filter(|(k, _)| !METADATA_ORDER.contains(&k.as_str()));
                let all: Vec<String> = known.chain(others.map(|(k, v)| field(k, v))).collect();
                format!("\"metadata\":{{{}}}", all.join(","))
            }
            _ => field(key, value),
        })
        .collect();
    format!("{{{}}}", parts.join(","))
}
