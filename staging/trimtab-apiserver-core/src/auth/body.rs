//! What the reviews and the token request have in common: reading a body, and answering with it filled in.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use trimtab_apimachinery_meta::{ApiError, StatusReason};

use crate::api::{ApiRequest, ApiResponse, BodyFormat};
use crate::registry::{meta, yaml};

/// A request's body as an object of this kind, without what is empty in its spec.
pub(super) fn read(request: &ApiRequest, group: &str, kind: &str) -> Result<Value, ApiError> {
    if request.info.verb != "create" {
        let message = "the server does not allow this method on the requested resource";
        return Err(ApiError::new(405, StatusReason::MethodNotAllowed, message));
    }
    let text = String::from_utf8_lossy(&request.body);
    let parsed = match request.body_format {
        BodyFormat::Yaml => yaml::to_value(&text),
        _ => serde_json::from_str::<Value>(&text).map_err(|e| e.to_string()),
    };
    let unreadable = |why: &str| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why}"
        ))
    };
    let mut object = parsed.map_err(|why| unreadable(&why))?;
    let version = format!("{group}/{}", request.info.version_of(group));
    let given = |field: &str| {
        object
            .get(field)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    for (field, wanted) in [("kind", kind), ("apiVersion", version.as_str())] {
        if let Some(other) = given(field).filter(|given| *given != wanted) {
            return Err(unreadable(&format!("{field} is {other}, not {wanted}")));
        }
    }
    if !object.is_object()
        || object
            .get("spec")
            .is_some_and(|spec| !spec.is_object() && !spec.is_null())
    {
        return Err(unreadable("it is no object"));
    }
    object["kind"] = json!(kind);
    object["apiVersion"] = json!(version);
    let mut spec = object.get("spec").cloned().unwrap_or_default();
    prune(&mut spec);
    object["spec"] = if spec.is_null() { json!({}) } else { spec };
    meta::metadata_mut(&mut object);
    Ok(object)
}

impl crate::api::RequestInfo {
    /// The version of a request's body: the path's, except for subresources of other groups, which are v1.
    fn version_of(&self, group: &str) -> &str {
        if self.group == group { &self.version } else { "v1" }
    }
}

/// Drops what Kubernetes does not write: empty strings, lists and objects, nulls.
fn prune(value: &mut Value) {
    if let Value::Object(map) = value {
        map.values_mut().for_each(prune);
        map.retain(|_, v| match v {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        });
    }
}

/// Writes down that the requester has set the spec.
pub(super) fn track(request: &ApiRequest, object: &mut Value, spec: &Value, now: Timestamp) {
    let Some(fields) = spec.as_object().filter(|spec| !spec.is_empty()) else {
        return;
    };
    let agent = request.user_agent.split('/').next().unwrap_or_default();
    let manager = request
        .param("fieldManager")
        .filter(|m| !m.is_empty())
        .unwrap_or(agent);
    let manager = if manager.is_empty() { "unknown" } else { manager };
    let mut entry = json!({
        "manager": manager,
        "operation": "Update",
        "apiVersion": object["apiVersion"],
        "time": time(now),
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": owned(fields)},
    });
    if !request.info.subresource.is_empty() {
        entry["subresource"] = json!(request.info.subresource);
    }
    meta::set(object, "managedFields", json!([entry]));
}

fn owned(fields: &Map<String, Value>) -> Value {
    let entry = |(name, value): (&String, &Value)| {
        let mut below = match value {
            Value::Object(map) => owned(map),
            _ => json!({}),
        };
        // What is null unless somebody sets it is owned as a whole, too.
        if value.is_object() && name != "boundObjectRef" {
            below["."] = json!({});
        }
        (format!("f:{name}"), below)
    };
    Value::Object(fields.iter().map(entry).collect())
}

/// A time as objects have it.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// 201, with this object.
pub(super) fn created(value: Value) -> ApiResponse {
    ApiResponse::Value {
        code: 201,
        value,
        warnings: Vec::new(),
    }
}

/// The texts of a list in an object.
pub(super) fn texts(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}
