//! `AdmissionReview` of admission.k8s.io: what a webhook is told of a request, and what it answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use trimtab_apimachinery_meta::errors::Cause;
use trimtab_apimachinery_meta::{ApiError, StatusReason};

const GROUP: &str = "admission.k8s.io";

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

/// The review that is sent: `request` with an identifier and its objects.
pub(super) fn review(
    version: Version,
    mut request: Value,
    uid: &str,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Value {
    request["uid"] = uid.into();
    request["object"] = object.cloned().unwrap_or_default();
    request["oldObject"] = old.cloned().unwrap_or_default();
    json!({
        "kind": "AdmissionReview",
        "apiVersion": format!("{GROUP}/{}", version.as_str()),
        "request": request,
    })
}

/// What a webhook says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Response {
    pub(super) allowed: bool,
    /// A JSON patch; empty for none.
    pub(super) patch: Vec<u8>,
    /// What the patch is said to be.
    pub(super) patch_type: String,
    /// A `Status`, or null.
    pub(super) result: Value,
    pub(super) warnings: Vec<String>,
    /// For the audit log.
    pub(super) annotations: Vec<(String, String)>,
}

/// Whether a webhook may change the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Mutating,
    Validating,
}

/// Reads the answer to a review with this identifier.
///
/// # Errors
///
/// A text that says, in kube-apiserver's words, what is wrong with it.
pub(super) fn read(answer: &Value, version: Version, uid: &str, role: Role) -> Result<Response, String> {
    let Some(answer) = answer.as_object() else {
        return Err(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct",
            json_kind(answer)
        ));
    };
    let response = match answer.get("response") {
        None | Some(Value::Null) => return Err("webhook response was absent".to_owned()),
        Some(Value::Object(response)) => Fields(response),
        Some(other) => return Err(misfit(other, "AdmissionReview.response", "AdmissionResponse")),
    };
    let mut patch_type = response.text("patchType", "v1.PatchType")?;
    let patch = STANDARD
        .decode(response.text("patch", "[]uint8")?.unwrap_or_default())
        .map_err(|error| format!("illegal base64 data in response.patch: {error}"))?;
    if version == Version::V1 {
        let got = response.text("uid", "types.UID")?.unwrap_or_default();
        if got != uid {
            return Err(format!("expected response.uid={uid:?}, got {got:?}"));
        }
        let said = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (said("apiVersion"), said("kind"));
        if (api_version, kind) != ("admission.k8s.io/v1", "AdmissionReview") {
            let group_version = if api_version.contains('/') {
                api_version.to_owned()
            } else {
                format!("/{api_version}")
            };
            return Err(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group_version}, Kind={kind}"
            ));
        }
        let fault = match (role, patch.is_empty(), &patch_type) {
            (Role::Validating, false, _) => Some("validating webhook may not return response.patch"),
            (Role::Validating, true, Some(_)) => Some("validating webhook may not return response.patchType"),
            (Role::Mutating, false, None) => {
                Some("webhook returned response.patch but not response.patchType")
            }
            (Role::Mutating, true, Some(_)) => {
                Some("webhook returned response.patchType but not response.patch")
            }
            (Role::Mutating, false, Some(empty)) if empty.is_empty() => {
                Some("webhook returned invalid response.patchType of \"\"")
            }
            _ => None,
        };
        if let Some(fault) = fault {
            return Err(fault.to_owned());
        }
    } else if !patch.is_empty() {
        // The older version was never strict about what a patch is said to be.
        patch_type = Some("JSONPatch".to_owned());
    }
    Ok(Response {
        allowed: response.flag("allowed")?,
        patch: if role == Role::Mutating { patch } else { Vec::new() },
        patch_type: patch_type.unwrap_or_default(),
        result: response.object("status")?,
        warnings: response.texts("warnings")?,
        annotations: response.named_texts("auditAnnotations")?,
    })
}

/// The fields of a response, each of which must have its type.
struct Fields<'v>(&'v Map<String, Value>);

impl<'v> Fields<'v> {
    fn get(&self, field: &str) -> Option<&'v Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn text(&self, field: &str, type_: &str) -> Result<Option<String>, String> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(misfit(
                other,
                &format!("AdmissionResponse.response.{field}"),
                type_,
            )),
        }
    }

    fn flag(&self, field: &str) -> Result<bool, String> {
        match self.get(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(misfit(
                other,
                &format!("AdmissionResponse.response.{field}"),
                "bool",
            )),
        }
    }

    fn object(&self, field: &str) -> Result<Value, String> {
        match self.get(field) {
            None => Ok(Value::Null),
            Some(object @ Value::Object(_)) => Ok(object.clone()),
            Some(other) => Err(misfit(
                other,
                &format!("AdmissionResponse.response.{field}"),
                "v1.Status",
            )),
        }
    }

    fn named_texts(&self, field: &str) -> Result<Vec<(String, String)>, String> {
        let at = format!("AdmissionResponse.response.{field}");
        let map = match self.get(field) {
            None => return Ok(Vec::new()),
            Some(Value::Object(map)) => map,
            Some(other) => return Err(misfit(other, &at, "map[string]string")),
        };
        map.iter()
            .map(|(name, value)| match value {
                Value::String(text) => Ok((name.clone(), text.clone())),
                other => Err(misfit(other, &at, "string")),
            })
            .collect()
    }

    fn texts(&self, field: &str) -> Result<Vec<String>, String> {
        let at = format!("AdmissionResponse.response.{field}");
        let list = match self.get(field) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(misfit(other, &at, "[]string")),
        };
        list.iter()
            .map(|item| match item {
                Value::String(text) => Ok(text.clone()),
                other => Err(misfit(other, &at, "string")),
            })
            .collect()
    }
}

fn misfit(value: &Value, at: &str, type_: &str) -> String {
    format!(
        "json: cannot unmarshal {} into Go struct field {at} of type {type_}",
        json_kind(value)
    )
}

fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The refusal that a webhook answers with: its own status, under its name.
pub(super) fn denied(hook: &str, result: &Value) -> ApiError {
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let code = result["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    let (message, reason) = (text(result, "message"), text(result, "reason"));
    let denied = format!("admission webhook {hook:?} denied the request");
    let message = match (message.as_str(), reason.as_str()) {
        ("", "") => format!("{denied} without explanation"),
        ("", why) | (why, _) => format!("{denied}: {why}"),
    };
    // Whatever it says, a refusal is no success.
    let code = code.filter(|code| (400..=999).contains(code)).unwrap_or(400);
    let mut error = ApiError::new(code, StatusReason::from(reason.as_str()), message);
    let details = &result["details"];
    error.name = text(details, "name");
    error.group = text(details, "group");
    error.kind = text(details, "kind");
    error.uid = text(details, "uid");
    let causes = details["causes"].as_array().into_iter().flatten();
    error.causes = causes
        .map(|cause| Cause {
            reason: text(cause, "reason"),
            message: text(cause, "message"),
            field: text(cause, "field"),
        })
        .collect();
    let after = details["retryAfterSeconds"]
        .as_u64()
        .filter(|seconds| *seconds > 0);
    error.retry_after = after.map(std::time::Duration::from_secs);
    error
}
