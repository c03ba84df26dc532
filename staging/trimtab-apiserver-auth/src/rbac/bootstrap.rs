//! The roles and bindings that every cluster starts with; the data is in `bootstrap.txt`, which says how to read it.
//!
//! The user-facing roles `admin`, `edit` and `view` are unions: they are written with all their parts' rules in place,
//! so that they mean something before any controller runs.

use serde_json::{Map, Value, json};

use super::rule::PolicyRule;

const DATA: &str = include_str!("bootstrap.txt");
const GROUP: &str = "rbac.authorization.k8s.io";

/// A role of the data.
#[derive(Debug, Default)]
struct Role<'a> {
    name: &'a str,
    namespace: &'a str,
    union: bool,
    part_of: Vec<&'a str>,
    rules: Vec<PolicyRule>,
}

/// Every bootstrap object, in full, with its kind: cluster roles, cluster role bindings, roles, role bindings.
pub fn bootstrap_objects() -> Vec<Value> {
    let mut roles: Vec<Role<'_>> = Vec::new();
    let mut bindings = Vec::new();
    for line in DATA.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some(kind @ ("role" | "union")) => roles.push(role(kind == "union", words)),
            Some("bind") => bindings.push(binding(words)),
            Some(verbs) => {
                if let Some(role) = roles.last_mut() {
                    role.rules.push(rule(verbs, words));
                }
            }
            None => {}
        }
    }
    let mut objects: Vec<Value> = roles.iter().map(|role| role_object(role, &roles)).collect();
    objects.extend(bindings);
    objects
}

fn role<'a>(union: bool, words: impl Iterator<Item = &'a str>) -> Role<'a> {
    let mut role = Role {
        union,
        ..Role::default()
    };
    for word in words {
        match word.split_once('=') {
            Some(("in", namespace)) => role.namespace = namespace,
            Some(("part-of", other)) => role.part_of.push(other),
            _ => role.name = word,
        }
    }
    role
}

fn rule<'a>(verbs: &str, mut words: impl Iterator<Item = &'a str>) -> PolicyRule {
    let list = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
    let verbs = list(match verbs {
        "READ" => "get,list,watch",
        "CHANGE" => "create,delete,deletecollection,patch,update",
        "ALL" => "create,delete,deletecollection,get,list,patch,update,watch",
        verbs => verbs,
    });
    let groups = words.next().unwrap_or_default();
    let what = list(words.next().unwrap_or_default());
    if groups == "-" {
        return PolicyRule {
            verbs,
            non_resource_urls: what,
            ..PolicyRule::default()
        };
    }
    let unnamed = |group: String| if group == "core" { String::new() } else { group };
    PolicyRule {
        verbs,
        api_groups: list(groups).into_iter().map(unnamed).collect(),
        resources: what,
        resource_names: words.next().map(list).unwrap_or_default(),
        ..PolicyRule::default()
    }
}

fn aggregation_label(role: &str) -> String {
    format!("{GROUP}/aggregate-to-{role}")
}

fn metadata(name: &str, namespace: &str, part_of: &[&str]) -> Value {
    let mut labels = Map::new();
    labels.insert("kubernetes.io/bootstrapping".to_owned(), json!("rbac-defaults"));
    labels.extend(
        part_of
            .iter()
            .map(|role| (aggregation_label(role), json!("true"))),
    );
    let mut metadata = json!({
        "name": name,
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        "labels": labels,
    });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

fn role_object(role: &Role<'_>, all: &[Role<'_>]) -> Value {
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": if role.namespace.is_empty() { "ClusterRole" } else { "Role" },
        "metadata": metadata(role.name, role.namespace, &role.part_of),
        "rules": all_rules(role, all),
    });
    if role.union {
        let selector = json!({"matchLabels": {aggregation_label(role.name): "true"}});
        object["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
    }
    object
}

/// A role's rules, with those of its parts.
fn all_rules(role: &Role<'_>, all: &[Role<'_>]) -> Vec<PolicyRule> {
    let mut rules = role.rules.clone();
    for part in all
        .iter()
        .filter(|part| role.union && part.part_of.contains(&role.name))
    {
        rules.extend(all_rules(part, all));
    }
    rules
}

fn binding<'a>(words: impl Iterator<Item = &'a str>) -> Value {
    let (mut namespace, mut names, mut subjects) = ("", Vec::new(), Vec::new());
    for word in words {
        if let Some(value) = word.strip_prefix("in=") {
            namespace = value;
        } else if let Some(name) = word.strip_prefix("user:") {
            subjects.push(json!({"kind": "User", "apiGroup": GROUP, "name": name}));
        } else if let Some(name) = word.strip_prefix("group:") {
            subjects.push(json!({"kind": "Group", "apiGroup": GROUP, "name": name}));
        } else if let Some((namespace, name)) = word.strip_prefix("account:").and_then(|w| w.split_once('/'))
        {
            subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
        } else {
            names.push(word);
        }
    }
    let prefix = if namespace.is_empty() { "Cluster" } else { "" };
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": format!("{prefix}RoleBinding"),
        "metadata": metadata(names.first().unwrap_or(&""), namespace, &[]),
        "roleRef": {"apiGroup": GROUP, "kind": format!("{prefix}Role"), "name": names.get(1)},
    });
    if !subjects.is_empty() {
        object["subjects"] = Value::from(subjects);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rbac::Policy;
    use crate::{Attributes, UserInfo};

    fn policy() -> Policy {
        let mut policy = Policy::default();
        for object in bootstrap_objects() {
            policy.apply(object["kind"].as_str().unwrap(), &object);
        }
        policy
    }

    #[test]
    fn everyone_may_discover_and_only_masters_may_do_all() {
        let policy = policy();
        let alice = UserInfo {
            name: "alice".into(),
            ..UserInfo::default()
        }
        .authenticated();
        let nobody = UserInfo::anonymous();
        let get = |path: &str| Attributes {
            verb: "get".into(),
            path: path.into(),
            ..Attributes::default()
        };
        let cases = [
            (&alice, "/apis/apps/v1", true),
            (&alice, "/metrics", false),
            (&nobody, "/version", true),
            (&nobody, "/api", false),
        ];
        for (user, path, allowed) in cases {
            assert_eq!(
                policy.authorize(user, &get(path)).allowed,
                allowed,
                "{} {path}",
                user.name
            );
        }
    }

    #[test]
    fn the_data_is_well_formed() {
        let objects = bootstrap_objects();
        let policy = policy();
        for object in &objects {
            let metadata = &object["metadata"];
            assert!(
                metadata["name"].as_str().is_some_and(|n| !n.is_empty()),
                "{object}"
            );
            let namespace = metadata["namespace"].as_str().unwrap_or_default();
            if let Some(role) = object.get("roleRef") {
                let (kind, name) = (role["kind"].as_str().unwrap(), role["name"].as_str().unwrap());
                assert!(
                    policy.role_rules(kind, namespace, name).is_some(),
                    "{name} does not exist"
                );
            } else {
                for rule in object["rules"].as_array().unwrap() {
                    let full = |list: &str| rule[list].as_array().is_some_and(|l| l.iter().all(|w| w != ""));
                    assert!(
                        full("verbs") && (full("resources") || full("nonResourceURLs")),
                        "{object}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_union_has_its_parts_rules() {
        let policy = policy();
        let rules = |name: &str| policy.role_rules("ClusterRole", "", name).unwrap().to_vec();
        for (whole, part) in [
            ("view", "system:aggregate-to-view"),
            ("edit", "view"),
            ("admin", "edit"),
        ] {
            assert!(
                rules(part).iter().all(|rule| rules(whole).contains(rule)),
                "{whole} lacks some of {part}"
            );
        }
    }
}
