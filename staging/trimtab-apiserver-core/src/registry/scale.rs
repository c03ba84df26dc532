//! The `scale` subresource: the count of replicas, whatever the kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{ApiError, FieldError, FieldPath, GroupKind, LabelSelector};
use trimtab_apimachinery_schema::schema::Type;
use trimtab_apimachinery_schema::{Schema, apply};
use trimtab_apiserver_kinds::resource::{Resource, ScalePaths};

use super::decode::Decoder;
use super::options::WriteOptions;
use super::patch::Patch;
use super::update::Change;
use super::{Answer, Call, meta};

const API_VERSION: &str = "autoscaling/v1";

/// A scale that is written, as a change of the scaled object.
struct ScaleChange {
    wanted: Wanted,
    resource: Arc<Resource>,
    paths: ScalePaths,
    write: apply::Write,
}

enum Wanted {
    Replace(Value),
    Patch(Patch),
}

impl Change for ScaleChange {
    fn apply(&self, current: Option<&Value>, _: &mut Vec<String>) -> Result<Value, ApiError> {
        let Some(current) = current else {
            return Err(ApiError::not_found(&self.resource.group_resource(), ""));
        };
        if let Wanted::Patch(Patch::Apply(config)) = &self.wanted {
            return self.applied(current, config);
        }
        let before = scale_of(&self.resource, &self.paths, current, true)?;
        let scale = match &self.wanted {
            Wanted::Replace(scale) => scale.clone(),
            Wanted::Patch(patch) => patch.apply(&scale_schema(), &before)?,
        };
        let replicas = replicas_of(&scale)?;
        if replicas < 0 && !self.resource.custom {
            let at = FieldPath::new("spec").child("replicas");
            let error = FieldError::invalid(&at, replicas, "must be greater than or equal to 0");
            return Err(ApiError::invalid(
                &GroupKind::new("autoscaling", "Scale"),
                meta::name(&scale),
                &[error],
            ));
        }
        let mut new = current.clone();
        // Custom resources may not be updated without one, but their scales may: the object's own holds then.
        if !self.resource.custom || !meta::text(&scale, "resourceVersion").is_empty() {
            meta::copy(&mut new, &scale, "resourceVersion");
        }
        set_path(&mut new, &self.paths.spec_replicas, replicas.into());
        Ok(new)
    }

    fn tracks(&self) -> bool {
        matches!(self.wanted, Wanted::Patch(Patch::Apply(_)))
    }

    fn shown(&self, object: &Value) -> Result<Option<Value>, ApiError> {
        scale_of(&self.resource, &self.paths, object, true).map(Some)
    }

    fn take(&self, object: &mut Value, shown: &Value) -> Result<(), ApiError> {
        let before = scale_of(&self.resource, &self.paths, object, true)?;
        let replicas = replicas_of(shown).map_err(|error| ApiError::internal(error.message))?;
        if before["spec"]["replicas"] != shown["spec"]["replicas"] {
            set_path(object, &self.paths.spec_replicas, replicas.into());
        }
        Ok(())
    }
}

/// The count that a scale asks for.
fn replicas_of(scale: &Value) -> Result<i64, ApiError> {
    match &scale["spec"]["replicas"] {
        Value::Null => Ok(0),
        Value::Number(n) if n.is_i64() => Ok(n.as_i64().unwrap_or_default()),
        other => {
            let why = format!(
                "json: cannot unmarshal {} into Go struct field ScaleSpec.spec.replicas of type int32",
                if other.is_string() { "string" } else { "number" }
            );
            Err(ApiError::bad_request(format!(
                "Scale in version \"v1\" cannot be handled as a Scale: {why}"
            )))
        }
    }
}

impl ScaleChange {
    /// An apply of a scale is an apply of the scaled object with nothing but the count in it.
    fn applied(&self, current: &Value, config: &Value) -> Result<Value, ApiError> {
        let mut partial = json!({
            "apiVersion": self.resource.api_version(),
            "kind": self.resource.kind,
            "metadata": {"name": meta::name(current), "namespace": meta::namespace(current)},
        });
        if !config["spec"]["replicas"].is_null() {
            set_path(
                &mut partial,
                &self.paths.spec_replicas,
                config["spec"]["replicas"].clone(),
            );
        }
        Ok(apply::apply(
            &self.resource.schema,
            Some(current),
            &partial,
            &self.write,
        )?)
    }
}

impl Call<'_> {
    fn scale_paths(&self) -> Result<ScalePaths, ApiError> {
        let scale = self.resource.subresource("scale").and_then(|s| s.scale.clone());
        scale.ok_or_else(ApiError::unknown_resource)
    }

    /// GET, PUT and PATCH of a scale.
    pub(super) async fn scale(&mut self) -> Result<Answer, ApiError> {
        let paths = self.scale_paths()?;
        let resource = self.resource.clone();
        if self.request.info.verb == "get" {
            let name = self.name();
            let stored = self.stored(name).await?;
            let stored = stored.ok_or_else(|| self.not_found(name))?;
            return Ok(Answer::Plain(
                200,
                scale_of(&resource, &paths, &stored.object, false)?,
            ));
        }
        let update = self.request.info.verb == "update";
        let options = WriteOptions::read(
            &self.request,
            if update { "UpdateOptions" } else { "PatchOptions" },
        )?;
        let wanted = if update {
            let mut scale = self.decode_scale(&options)?;
            self.check_name(&mut scale)?;
            self.place(&mut scale)?;
            Wanted::Replace(scale)
        } else {
            Wanted::Patch(self.read_patch()?)
        };
        let write = self.write(&options);
        let change = ScaleChange {
            wanted,
            resource: resource.clone(),
            paths: paths.clone(),
            write,
        };
        let (code, written) = self.change(&change, &options).await?;
        let object = written.value(&self.codec)?;
        Ok(Answer::Plain(code, scale_of(&resource, &paths, &object, true)?))
    }

    fn decode_scale(&mut self, options: &WriteOptions) -> Result<Value, ApiError> {
        let resources = self.registry.resources.snapshot();
        let resource = Resource {
            group: "autoscaling".to_owned(),
            version: "v1".to_owned(),
            kind: "Scale".to_owned(),
            schema: scale_schema().into(),
            custom: false,
            ..Resource::clone(&self.resource)
        };
        let decoder = Decoder {
            resource: &resource,
            resources: &resources,
            validation: options.field_validation,
        };
        decoder.body(self.request.body_format, &self.request.body, &mut self.warnings)
    }
}

/// The scale of an object. Built-in kinds always have a count; custom resources only if `lenient`.
fn scale_of(
    resource: &Resource,
    paths: &ScalePaths,
    object: &Value,
    lenient: bool,
) -> Result<Value, ApiError> {
    let replicas = get_path(object, &paths.spec_replicas).and_then(Value::as_i64);
    if replicas.is_none() && resource.custom && !lenient {
        let path = paths.spec_replicas.join(".");
        return Err(ApiError::internal(format_args!(
            "the spec replicas field \".{path}\" does not exist"
        )));
    }
    let observed = get_path(object, &paths.status_replicas)
        .and_then(Value::as_i64)
        .unwrap_or_default();
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !object["metadata"][field].is_null() {
            metadata[field] = object["metadata"][field].clone();
        }
    }
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": API_VERSION,
        "metadata": metadata,
        "spec": {},
        "status": {"replicas": observed},
    });
    if let Some(replicas) = replicas.filter(|r| *r != 0) {
        scale["spec"]["replicas"] = replicas.into();
    }
    let selector = paths.selector.as_ref().and_then(|path| get_path(object, path));
    let selector = match selector {
        Some(Value::String(text)) => text.clone(),
        Some(object) => LabelSelector::from_object(object)
            .ok()
            .flatten()
            .unwrap_or_default()
            .to_string(),
        None => String::new(),
    };
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    Ok(scale)
}

fn get_path<'v>(object: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, field| value.get(field))
}

/// Sets what is at a path, making objects on the way.
fn set_path(object: &mut Value, path: &[String], new: Value) {
    let mut at = object;
    for field in path {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[field.as_str()];
    }
    *at = new;
}

/// The structure of `Scale` of autoscaling/v1.
fn scale_schema() -> Schema {
    let object = |fields: Vec<(&str, Schema)>| Schema {
        type_: Some(Type::Object),
        properties: fields
            .into_iter()
            .map(|(k, v)| (k.to_owned(), Arc::new(v)))
            .collect::<BTreeMap<_, _>>(),
        ..Schema::default()
    };
    let scalar = |type_| Schema {
        type_: Some(type_),
        ..Schema::default()
    };
    object(vec![
        ("apiVersion", scalar(Type::String)),
        ("kind", scalar(Type::String)),
        ("metadata", Schema::any()),
        ("spec", object(vec![("replicas", scalar(Type::Integer))])),
        (
            "status",
            object(vec![
                ("replicas", scalar(Type::Integer)),
                ("selector", scalar(Type::String)),
            ]),
        ),
    ])
}
