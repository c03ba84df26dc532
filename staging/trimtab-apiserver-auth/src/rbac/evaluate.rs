//! The policy: every role and binding that there is, and the questions that can be asked of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::rule::PolicyRule;
use crate::{Attributes, Decision, UserInfo};

/// Where a binding points.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

/// Whom a binding is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Binding {
    role_ref: RoleRef,
    subjects: Option<Vec<Subject>>,
}

/// Namespace (empty for cluster-wide objects) and name.
type Key = (String, String);

/// All roles and bindings of a cluster. Cluster roles and cluster role bindings have the empty namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    roles: BTreeMap<Key, Vec<PolicyRule>>,
    bindings: BTreeMap<Key, Binding>,
}

/// One rule that applies to a user, and why.
struct Applied<'a> {
    rule: &'a PolicyRule,
    binding: &'a Key,
    role: &'a RoleRef,
    subject: &'a Subject,
}

impl Policy {
    /// Takes in an object of kind Role, ClusterRole, RoleBinding or ClusterRoleBinding, new or changed.
    /// Parts that cannot be read grant nothing.
    pub fn apply(&mut self, kind: &str, object: &Value) {
        let key = key_of(object);
        match kind {
            "Role" | "ClusterRole" => {
                let rules = object
                    .get("rules")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten();
                let rules = rules.filter_map(|r| PolicyRule::deserialize(r).ok()).collect();
                self.roles.insert(key, rules);
            }
            "RoleBinding" | "ClusterRoleBinding" => {
                self.bindings
                    .insert(key, Binding::deserialize(object).unwrap_or_default());
            }
            _ => {}
        }
    }

    /// Forgets an object of kind Role, ClusterRole, RoleBinding or ClusterRoleBinding.
    pub fn delete(&mut self, kind: &str, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        match kind {
            "Role" | "ClusterRole" => drop(self.roles.remove(&key)),
            "RoleBinding" | "ClusterRoleBinding" => drop(self.bindings.remove(&key)),
            _ => {}
        }
    }

    /// Whether a binding allows the request, and which; when not, the reason says which roles could not be found.
    pub fn authorize(&self, user: &UserInfo, request: &Attributes) -> Decision {
        let mut allowed_by = None;
        let missing = self.visit(user, &request.namespace, |applied| {
            if applied.rule.allows(request) {
                allowed_by = Some(applied.reason());
            }
            allowed_by.is_none()
        });
        match allowed_by {
            Some(reason) => Decision::allow(reason),
            None if missing.is_empty() => Decision::deny(""),
            None => Decision::deny(format!("RBAC: {}", missing_text(&missing))),
        }
    }

    /// All rules that apply to the user in a namespace (empty: cluster-wide ones only), and the roles that bindings name
    /// in vain.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        let mut rules = Vec::new();
        let missing = self.visit(user, namespace, |applied| {
            rules.push(applied.rule.clone());
            true
        });
        (rules, missing)
    }

    /// The rules of the role that a binding in `namespace` points to; `None` when there is no such role.
    pub fn role_rules(&self, kind: &str, namespace: &str, name: &str) -> Option<&[PolicyRule]> {
        let namespace = if kind == "ClusterRole" { "" } else { namespace };
        self.roles
            .get(&(namespace.to_owned(), name.to_owned()))
            .map(Vec::as_slice)
    }

    /// Shows every rule that applies to `visitor` until it returns false; returns the roles that do not exist.
    fn visit<'a>(
        &'a self,
        user: &UserInfo,
        namespace: &str,
        mut visitor: impl FnMut(Applied<'a>) -> bool,
    ) -> Vec<String> {
        let mut missing = Vec::new();
        let scopes = if namespace.is_empty() {
            vec![""]
        } else {
            vec!["", namespace]
        };
        for scope in scopes {
            let from = (scope.to_owned(), String::new());
            for (key, binding) in self.bindings.range(from..).take_while(|(key, _)| key.0 == scope) {
                let subjects = binding.subjects.iter().flatten();
                let Some(subject) = subjects.into_iter().find(|s| s.is(user, scope)) else {
                    continue;
                };
                let role = &binding.role_ref;
                let Some(rules) = self.role_rules(&role.kind, scope, &role.name) else {
                    missing.push(format!(
                        "{}.rbac.authorization.k8s.io {:?} not found",
                        role.kind.to_lowercase(),
                        role.name
                    ));
                    continue;
                };
                for rule in rules {
                    if !visitor(Applied {
                        rule,
                        binding: key,
                        role,
                        subject,
                    }) {
                        return missing;
                    }
                }
            }
        }
        missing
    }
}

impl Subject {
    fn is(&self, user: &UserInfo, binding_namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => self.name == user.name,
            "Group" => user.is_in(&self.name),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() {
                    binding_namespace
                } else {
                    &self.namespace
                };
                !namespace.is_empty() && user.service_account() == Some((namespace, &self.name))
            }
            _ => false,
        }
    }
}

impl Applied<'_> {
    fn reason(&self) -> String {
        let (namespace, name) = self.binding;
        let binding = if namespace.is_empty() {
            format!("ClusterRoleBinding {name:?}")
        } else {
            format!("RoleBinding {:?}", format!("{name}/{namespace}"))
        };
        let subject = match self.subject.kind.as_str() {
            "ServiceAccount" => format!("{}/{}", self.subject.name, self.subject.namespace),
            _ => self.subject.name.clone(),
        };
        format!(
            "RBAC: allowed by {binding} of {} {:?} to {} {subject:?}",
            self.role.kind, self.role.name, self.subject.kind
        )
    }
}

fn missing_text(missing: &[String]) -> String {
    match missing {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn key_of(object: &Value) -> Key {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A cluster with a role and a binding of each kind.
    pub(crate) fn sample() -> Policy {
        let mut policy = Policy::default();
        let rules = json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]);
        policy.apply(
            "Role",
            &json!({"metadata": {"namespace": "x", "name": "r"}, "rules": rules}),
        );
        policy.apply(
            "ClusterRole",
            &json!({"metadata": {"name": "all"}, "rules": [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}),
        );
        let bind = |ns: Option<&str>, name: &str, kind: &str, role: &str, subject: Value| json!({"metadata": {"namespace": ns, "name": name}, "roleRef": {"kind": kind, "name": role}, "subjects": [subject]});
        policy.apply(
            "RoleBinding",
            &bind(
                Some("x"),
                "b",
                "Role",
                "r",
                json!({"kind": "User", "name": "alice"}),
            ),
        );
        policy.apply(
            "RoleBinding",
            &bind(
                Some("y"),
                "b",
                "ClusterRole",
                "all",
                json!({"kind": "ServiceAccount", "name": "robot", "namespace": "y"}),
            ),
        );
        policy.apply(
            "ClusterRoleBinding",
            &bind(
                None,
                "ops",
                "ClusterRole",
                "all",
                json!({"kind": "Group", "name": "ops"}),
            ),
        );
        policy.apply(
            "ClusterRoleBinding",
            &bind(
                None,
                "lost",
                "ClusterRole",
                "none",
                json!({"kind": "User", "name": "bob"}),
            ),
        );
        policy
    }

    pub(crate) fn user(name: &str, groups: &[&str]) -> UserInfo {
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        UserInfo {
            name: name.into(),
            groups,
            ..UserInfo::default()
        }
    }

    #[test]
    fn only_what_a_binding_grants_is_allowed() {
        let policy = sample();
        let alice = user("alice", &[]);
        let robot = user("system:serviceaccount:y:robot", &[]);
        let ops = user("carol", &["ops"]);
        let bob = user("bob", &[]);
        let cases = [
            (
                &alice,
                "get",
                "x",
                true,
                r#"RBAC: allowed by RoleBinding "b/x" of Role "r" to User "alice""#,
            ),
            (&alice, "delete", "x", false, ""),
            (&alice, "get", "y", false, ""),
            (&alice, "get", "", false, ""),
            (
                &robot,
                "delete",
                "y",
                true,
                r#"RBAC: allowed by RoleBinding "b/y" of ClusterRole "all" to ServiceAccount "robot/y""#,
            ),
            (&robot, "get", "x", false, ""),
            (
                &ops,
                "delete",
                "",
                true,
                r#"RBAC: allowed by ClusterRoleBinding "ops" of ClusterRole "all" to Group "ops""#,
            ),
            (
                &bob,
                "get",
                "x",
                false,
                r#"RBAC: clusterrole.rbac.authorization.k8s.io "none" not found"#,
            ),
        ];
        for (user, verb, namespace, allowed, reason) in cases {
            let request = Attributes {
                verb: verb.into(),
                resource: "pods".into(),
                namespace: namespace.into(),
                is_resource: true,
                ..Attributes::default()
            };
            let decision = policy.authorize(user, &request);
            assert_eq!(
                (decision.allowed, decision.reason.as_str()),
                (allowed, reason),
                "{user:?} {verb} {namespace}"
            );
        }
    }

    #[test]
    fn what_is_deleted_grants_nothing() {
        let mut policy = sample();
        policy.delete("RoleBinding", "x", "b");
        let request = Attributes {
            verb: "get".into(),
            resource: "pods".into(),
            namespace: "x".into(),
            is_resource: true,
            ..Attributes::default()
        };
        assert!(!policy.authorize(&user("alice", &[]), &request).allowed);
    }
}
