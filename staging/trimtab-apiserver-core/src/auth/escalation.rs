//! Nobody grants more than they hold: admission of roles and bindings.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_auth::Attributes as Asked;
use trimtab_apiserver_auth::rbac::PolicyRule;
use trimtab_apiserver_auth::user::MASTERS_GROUP;

use super::{Authorizer, Rbac};
use crate::registry::hooks::{Admission, Attributes, Operation};
use crate::registry::meta;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses roles and bindings that would give more than their writer has, unless the writer is allowed to `escalate`
/// or `bind`.
#[derive(Clone, Debug)]
pub struct Escalation {
    pub(super) rbac: Arc<Rbac>,
    pub(super) authorizer: Arc<dyn Authorizer>,
}

impl Escalation {
    fn may(&self, attributes: &Attributes, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let asked = Asked {
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            version: "*".to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            is_resource: true,
            ..Asked::default()
        };
        self.authorizer.authorize(&attributes.user, &asked).allowed
    }

    fn confirm(&self, attributes: &Attributes, object: &Value, rules: &[PolicyRule]) -> Result<(), ApiError> {
        match self
            .rbac
            .policy()
            .escalation(&attributes.user, &attributes.namespace, rules)
        {
            None => Ok(()),
            Some(why) => Err(forbidden(attributes, object, &why)),
        }
    }

    fn role(&self, attributes: &Attributes, object: &Value, old: Option<&Value>) -> Result<(), ApiError> {
        let plural = attributes.resource.plural.as_str();
        if self.may(
            attributes,
            "escalate",
            plural,
            &attributes.namespace,
            meta::name(object),
        ) {
            return Ok(());
        }
        self.confirm(attributes, object, &rules(object))?;
        let aggregates = |object: &Value| object.get("aggregationRule").is_some_and(|rule| !rule.is_null());
        if aggregates(object) || old.is_some_and(aggregates) {
            let all = || vec!["*".to_owned()];
            let everything = [
                PolicyRule {
                    verbs: all(),
                    api_groups: all(),
                    resources: all(),
                    ..PolicyRule::default()
                },
                PolicyRule {
                    verbs: all(),
                    non_resource_urls: all(),
                    ..PolicyRule::default()
                },
            ];
            if self.confirm(attributes, object, &everything).is_err() {
                let why = "must have cluster-admin privileges to use the aggregationRule";
                return Err(forbidden(attributes, object, why));
            }
        }
        Ok(())
    }

    fn binding(&self, attributes: &Attributes, object: &Value) -> Result<(), ApiError> {
        let text = |field: &str| object["roleRef"][field].as_str().unwrap_or_default();
        let (kind, name) = (text("kind"), text("name"));
        let plural = match kind {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            // Validation has its own words for this.
            _ => return Ok(()),
        };
        if self.may(attributes, "bind", plural, &attributes.namespace, name) {
            return Ok(());
        }
        let policy = self.rbac.policy();
        let Some(rules) = policy.role_rules(kind, &attributes.namespace, name) else {
            return Err(ApiError::not_found(&attributes.resource.group_resource(), name));
        };
        self.confirm(attributes, object, rules)
    }
}

#[async_trait]
impl Admission for Escalation {
    async fn validate(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        let Some(object) = object.filter(|_| writes && attributes.resource.group == GROUP) else {
            return Ok(());
        };
        if attributes.user.is_in(MASTERS_GROUP) || old.is_some_and(|old| same_grant(object, old)) {
            return Ok(());
        }
        match attributes.resource.plural.as_str() {
            "roles" | "clusterroles" => self.role(attributes, object, old),
            "rolebindings" | "clusterrolebindings" => self.binding(attributes, object),
            _ => Ok(()),
        }
    }
}

/// Whether only owners and finalizers differ, which the garbage collector may change in any role.
fn same_grant(new: &Value, old: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        let metadata = meta::metadata_mut(&mut object);
        for field in [
            "ownerReferences",
            "finalizers",
            "managedFields",
            "resourceVersion",
        ] {
            metadata.remove(field);
        }
        object
    };
    bare(new) == bare(old)
}

fn rules(role: &Value) -> Vec<PolicyRule> {
    let rules = role.get("rules").and_then(Value::as_array).into_iter().flatten();
    rules
        .filter_map(|rule| PolicyRule::deserialize(rule).ok())
        .collect()
}

fn forbidden(attributes: &Attributes, object: &Value, why: &str) -> ApiError {
    ApiError::forbidden(&attributes.resource.group_resource(), meta::name(object), why)
}
