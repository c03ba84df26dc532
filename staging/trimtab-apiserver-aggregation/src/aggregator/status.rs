//! The condition `Available` of APIServices, and how it is written.

use bytes::Bytes;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_core::api::{ApiRequest, ApiResponse};
use trimtab_apiserver_core::extensions::Within;
use trimtab_apiserver_core::registry::Registry;

use super::service::{GROUP, PLURAL, available};

/// What a check has found: the status, reason and message of the condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn yes(reason: &'static str, message: &str) -> Self {
        Self {
            status: "True",
            reason,
            message: message.to_owned(),
        }
    }

    pub(super) fn no(reason: &'static str, message: String) -> Self {
        Self {
            status: "False",
            reason,
            message,
        }
    }

    pub(super) fn unknown(reason: &'static str, message: String) -> Self {
        Self {
            status: "Unknown",
            reason,
            message,
        }
    }

    /// Whether it is worth looking again soon, as something may change that nobody tells us of.
    pub(super) fn may_pass(&self) -> bool {
        self.reason == "FailedDiscoveryCheck"
    }

    /// The condition, after the one that there is.
    fn condition(&self, before: Option<&Value>, now: &str) -> Value {
        let since = before
            .filter(|before| before["status"] == self.status)
            .map(|before| before["lastTransitionTime"].clone());
        json!({
            "type": "Available",
            "status": self.status,
            "lastTransitionTime": since.unwrap_or_else(|| now.into()),
            "reason": self.reason,
            "message": self.message,
        })
    }
}

/// Writes the condition of an APIService, unless it is there already.
///
/// # Errors
///
/// When it cannot be read or written, or somebody else has written it meanwhile.
pub(super) async fn write_condition(within: &Within, name: &str, finding: &Finding) -> Result<(), ApiError> {
    let registry = &within.registry;
    let mut object = ask(registry, "get", "GET", name, "", None).await?;
    let before = available(&object).cloned();
    let condition = finding.condition(before.as_ref(), &registry.timestamp());
    if before.as_ref() == Some(&condition) {
        return Ok(());
    }
    let others = object["status"]["conditions"].as_array().into_iter().flatten();
    let mut all: Vec<Value> = others.filter(|c| c["type"] != "Available").cloned().collect();
    all.push(condition);
    object["status"]["conditions"] = all.into();
    let written = ask(registry, "update", "PUT", name, "status", Some(&object)).await;
    written?;
    let was_there = before.is_none_or(|before| before["status"] == "True");
    if was_there && finding.status != "True" {
        within.served.lost(name, finding.reason);
    }
    Ok(())
}

/// Sends a request about an APIService.
pub(super) async fn ask(
    registry: &Registry,
    verb: &str,
    method: &str,
    name: &str,
    subresource: &str,
    body: Option<&Value>,
) -> Result<Value, ApiError> {
    let mut request = ApiRequest::own(verb, method, "kube-apiserver");
    request.info.group = GROUP.to_owned();
    request.info.version = "v1".to_owned();
    request.info.resource = PLURAL.to_owned();
    request.info.name = name.to_owned();
    request.info.subresource = subresource.to_owned();
    request.body = body.map_or_else(Bytes::new, |body| body.to_string().into());
    match registry.handle(request).await?.decoded()? {
        ApiResponse::Value { value, .. } => Ok(value),
        _ => Ok(Value::Null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_its_status_is_the_same() {
        let finding = Finding::no("ServiceNotFound", "gone".to_owned());
        let first = finding.condition(None, "1");
        assert_eq!(first["lastTransitionTime"], "1");
        let other = Finding::no("EndpointsNotFound", "none".to_owned());
        let second = other.condition(Some(&first), "2");
        assert_eq!(
            (&second["lastTransitionTime"], &second["reason"]),
            (&json!("1"), &json!("EndpointsNotFound"))
        );
        let third = Finding::unknown("ServiceAccessError", "?".to_owned()).condition(Some(&second), "3");
        assert_eq!(third["lastTransitionTime"], "3");
    }
}
