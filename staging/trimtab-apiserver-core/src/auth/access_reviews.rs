//! Reviews of what somebody may do: of oneself, of others, of others in a namespace; and the list of one's rules.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};
use trimtab_apimachinery_meta::{ApiError, GroupKind};
use trimtab_apiserver_auth::{Attributes, UserInfo};

use super::{Authorizer, Rbac, body};
use crate::api::{ApiRequest, ApiResponse};
use crate::registry::hooks::VirtualResource;
use crate::registry::{Registry, meta};

pub(super) const GROUP: &str = "authorization.k8s.io";

/// Whom a review is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The requester.
    Oneself,
    /// The user in the spec.
    Anyone,
    /// The user in the spec, in the namespace of the request.
    AnyoneHere,
}

/// Answers whether a user may do something.
#[derive(Debug)]
pub(super) struct AccessReview {
    pub(super) about: About,
    pub(super) authorizer: Arc<dyn Authorizer>,
}

impl AccessReview {
    fn kind(&self) -> &'static str {
        match self.about {
            About::Oneself => "SelfSubjectAccessReview",
            About::Anyone => "SubjectAccessReview",
            About::AnyoneHere => "LocalSubjectAccessReview",
        }
    }

    fn check(&self, object: &Value) -> Result<(), ApiError> {
        let spec = &object["spec"];
        let path = |name: &str| FieldPath::new("spec").child(name);
        let (resource, other) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
        let mut errors = Vec::new();
        if let (Some(_), Some(other)) = (resource, other) {
            let why = "cannot be specified in combination with resourceAttributes";
            errors.push(FieldError::invalid(
                &path("nonResourceAttributes"),
                other.clone(),
                why,
            ));
        }
        if resource.is_none() && other.is_none() {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid(&path("resourceAttributes"), Value::Null, why));
        }
        if self.about != About::Oneself && spec.get("user").is_none() && spec.get("groups").is_none() {
            let why = "at least one of user or group must be specified";
            errors.push(FieldError::invalid(&path("user"), "", why));
        }
        if self.about == About::AnyoneHere {
            let named = resource
                .and_then(|r| r.get("namespace"))
                .and_then(Value::as_str)
                .unwrap_or_default();
            if resource.is_some() && named != meta::namespace(object) {
                let path = path("resourceAttributes").child("namespace");
                errors.push(FieldError::invalid(&path, named, "must match metadata.namespace"));
            }
            if let Some(other) = other {
                let why = "disallowed on this kind of request";
                errors.push(FieldError::invalid(
                    &path("nonResourceAttributes"),
                    other.clone(),
                    why,
                ));
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid(&GroupKind::new(GROUP, ""), "", &errors))
        }
    }
}

#[async_trait]
impl VirtualResource for AccessReview {
    async fn handle(&self, registry: &Registry, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let mut object = body::read(&request, GROUP, self.kind())?;
        if self.about == About::AnyoneHere && meta::namespace(&object).is_empty() {
            meta::set(&mut object, "namespace", request.info.namespace.as_str());
        }
        self.check(&object)?;
        let spec = object["spec"].clone();
        let user = match self.about {
            About::Oneself => request.user.clone(),
            About::Anyone | About::AnyoneHere => user(&spec),
        };
        let decision = self.authorizer.authorize(&user, &attributes(&spec));
        let mut status = json!({"allowed": decision.allowed});
        if !decision.reason.is_empty() {
            let field = if decision.allowed {
                "reason"
            } else {
                "evaluationError"
            };
            status[field] =
                json!(
                    decision
                        .reason
                        .trim_start_matches(if decision.allowed { "" } else { "RBAC: " })
                );
        }
        object["status"] = status;
        body::track(&request, &mut object, &spec, registry.now());
        Ok(body::created(object))
    }
}

fn user(spec: &Value) -> UserInfo {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let extra = spec["extra"].as_object().into_iter().flatten();
    UserInfo {
        name: text("user"),
        uid: text("uid"),
        groups: body::texts(&spec["groups"]),
        extra: extra
            .map(|(key, values)| (key.to_lowercase(), body::texts(values)))
            .collect(),
    }
}

fn attributes(spec: &Value) -> Attributes {
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let text = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
    if resource.is_object() {
        Attributes {
            verb: text(resource, "verb"),
            group: text(resource, "group"),
            version: text(resource, "version"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
            is_resource: true,
            path: String::new(),
        }
    } else {
        Attributes {
            verb: text(other, "verb"),
            path: text(other, "path"),
            ..Attributes::default()
        }
    }
}

/// Answers with all rules that apply to the requester in a namespace.
#[derive(Debug)]
pub(super) struct RulesReview {
    /// `None` when everybody may do everything.
    pub(super) rbac: Option<Arc<Rbac>>,
}

#[async_trait]
impl VirtualResource for RulesReview {
    async fn handle(&self, _: &Registry, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let object = body::read(&request, GROUP, "SelfSubjectRulesReview")?;
        let Some(namespace) = object["spec"]["namespace"].as_str() else {
            return Err(ApiError::bad_request("no namespace on request"));
        };
        let (mut resource_rules, mut path_rules, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        match &self.rbac {
            None => {
                resource_rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
                path_rules.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
            }
            Some(rbac) => {
                let (rules, unresolved) = rbac.policy().rules_for(&request.user, namespace);
                missing = unresolved;
                for rule in rules {
                    let mut value = serde_json::to_value(&rule).map_err(ApiError::internal)?;
                    if !rule.non_resource_urls.is_empty() {
                        path_rules
                            .push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
                    }
                    if !rule.resources.is_empty() {
                        if let Some(map) = value.as_object_mut() {
                            map.remove("nonResourceURLs");
                        }
                        resource_rules.push(value);
                    }
                }
            }
        }
        let mut status = json!({
            "resourceRules": resource_rules,
            "nonResourceRules": path_rules,
            "incomplete": !missing.is_empty(),
        });
        if !missing.is_empty() {
            status["evaluationError"] = json!(missing.join(", "));
        }
        Ok(body::created(json!({
            "kind": "SelfSubjectRulesReview",
            "apiVersion": object["apiVersion"],
            "metadata": {},
            "spec": {},
            "status": status,
        })))
    }
}
