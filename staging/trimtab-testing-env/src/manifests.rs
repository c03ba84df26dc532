//! Manifests: YAML or JSON, of several documents, applied one after the other.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::env::EnvError;

/// Who applies: the name of the field manager.
pub(crate) const MANAGER: &str = "trimtab-testing";

/// The objects in the text; those of a `List` one by one.
pub(crate) fn parse(text: &str) -> Result<Vec<Value>, EnvError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| EnvError::Manifest(error.to_string()))?;
    let mut objects = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        match document.get("items") {
            Some(Value::Array(items)) => objects.extend(items.iter().cloned()),
            _ => objects.push(document),
        }
    }
    Ok(objects)
}

/// Applies one object by force, in the namespace `default` unless it names another.
pub(crate) async fn apply(client: &Client, object: Value) -> Result<DynamicObject, EnvError> {
    let invalid = |why: &str| EnvError::Manifest(format!("{why}: {object}"));
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion")
        .split_once('/')
        .unwrap_or(("", text("apiVersion")));
    let gvk = GroupVersionKind::gvk(group, version, text("kind"));
    let typed: DynamicObject =
        serde_json::from_value(object.clone()).map_err(|error| invalid(&error.to_string()))?;
    let name = typed
        .metadata
        .name
        .clone()
        .ok_or_else(|| invalid("an object without a name"))?;
    let (resource, capabilities) = pinned_kind(client, &gvk).await?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = typed.namespace().unwrap_or_else(|| "default".to_owned());
            Api::namespaced_with(client.clone(), &namespace, &resource)
        }
    };
    let params = PatchParams::apply(MANAGER).force();
    Ok(api.patch(&name, &params, &Patch::Apply(&object)).await?)
}

/// The object as a definition, if it is one.
pub(crate) fn definition(object: &Value) -> Option<CustomResourceDefinition> {
    of_kind(object, "CustomResourceDefinition")
}

fn of_kind<K: DeserializeOwned>(object: &Value, kind: &str) -> Option<K> {
    (object["kind"] == kind).then(|| serde_json::from_value(object.clone()).ok())?
}
