//! Policies and bindings, stored in few words.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::admission::kit::{Answer, CONFIGURATIONS, Server};
use crate::api::{ApiRequest, BodyFormat, RequestInfo};
use crate::audit::Annotations;

/// Values in the place of others.
pub(super) fn changed(mut value: Value, change: &Value) -> Value {
    for (field, change) in change.as_object().into_iter().flatten() {
        value[field] = change.clone();
    }
    value
}

/// Asks to store an object of admissionregistration.k8s.io.
pub(super) async fn store(server: &Server, plural: &str, name: &str, spec: &Value) -> Answer {
    let object = json!({"metadata": {"name": name}, "spec": spec});
    server
        .ask("create", &format!("{CONFIGURATIONS}/{plural}"), object)
        .await
}

/// Stores one in the name of somebody who may read all params.
pub(super) async fn stored(server: &Server, plural: &str, name: &str, spec: Value) {
    let object = json!({"metadata": {"name": name}, "spec": spec});
    let path = format!("{CONFIGURATIONS}/{plural}");
    let (code, answer, _) = server.ask_as_master("create", &path, object).await;
    assert_eq!(code, 201, "{plural} {name}: {answer}");
}

/// What a policy is about that is about ConfigMaps.
pub(super) fn config_maps() -> Value {
    json!({"resourceRules": [
        {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]},
    ]})
}

/// A ValidatingAdmissionPolicy about ConfigMaps, as far as `change` does not say otherwise.
pub(super) async fn validating(server: &Server, name: &str, change: Value) {
    let spec = json!({"matchConstraints": config_maps(), "validations": [{"expression": "true"}]});
    stored(
        server,
        "validatingadmissionpolicies",
        name,
        changed(spec, &change),
    )
    .await;
}

/// A MutatingAdmissionPolicy about ConfigMaps that patches them so, as far as `change` does not say otherwise.
pub(super) async fn mutating(server: &Server, name: &str, expressions: &[&str], change: Value) {
    let mutations: Vec<Value> = expressions
        .iter()
        .map(|expression| {
            let (type_, field) = if expression.starts_with('[') {
                ("JSONPatch", "jsonPatch")
            } else {
                ("ApplyConfiguration", "applyConfiguration")
            };
            json!({"patchType": type_, field: {"expression": expression}})
        })
        .collect();
    let spec =
        json!({"matchConstraints": config_maps(), "mutations": mutations, "reinvocationPolicy": "Never"});
    stored(server, "mutatingadmissionpolicies", name, changed(spec, &change)).await;
}

/// Binds the policy of that kind (`mutating` or `validating`) by a binding of the same name.
pub(super) async fn bind(server: &Server, kind: &str, policy: &str, change: Value) {
    bind_as(server, kind, policy, policy, change).await;
}

pub(super) async fn bind_as(server: &Server, kind: &str, name: &str, policy: &str, change: Value) {
    let mut spec = json!({"policyName": policy});
    if kind == "validating" {
        spec["validationActions"] = json!(["Deny"]);
    }
    let plural = format!("{kind}admissionpolicybindings");
    stored(server, &plural, name, changed(spec, &change)).await;
}

/// A ValidatingAdmissionPolicy with a binding.
pub(super) async fn bound(server: &Server, name: &str, change: Value) {
    validating(server, name, change).await;
    bind(server, "validating", name, json!({})).await;
}

/// Creates a ConfigMap in `default`; answers the code and the message, or nothing.
pub(super) async fn make(server: &Server, name: &str) -> (u16, String) {
    let (code, answer, _) = server.make(name).await;
    let message = if code < 300 {
        ""
    } else {
        answer["message"].as_str().unwrap_or_default()
    };
    (code, message.to_owned())
}

/// Creates a ConfigMap in `default` and answers what was noted of that.
pub(super) async fn noted(server: &Server, name: &str) -> BTreeMap<String, String> {
    let audit = Annotations::default();
    let request = ApiRequest {
        info: RequestInfo {
            verb: "create".to_owned(),
            version: "v1".to_owned(),
            namespace: "default".to_owned(),
            resource: "configmaps".to_owned(),
            ..RequestInfo::default()
        },
        user: server.user.clone(),
        body_format: BodyFormat::Json,
        body: json!({"metadata": {"name": name}, "data": {"k": "v"}})
            .to_string()
            .into(),
        ..ApiRequest::default()
    };
    let answer = audit.clone().scope(server.registry.handle(request)).await;
    answer.expect("is admitted");
    audit.all()
}
