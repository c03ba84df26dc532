//! One rule: which verbs on which resources or paths, and whether it covers a request or another rule.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Attributes;

/// What a role allows; every list is a choice, and `*` means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// The verbs.
    #[serde(deserialize_with = "list")]
    pub verbs: Vec<String>,
    /// The API groups; the empty string is core.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub api_groups: Vec<String>,
    /// Resources, as `pods`, `pods/log` or `*/scale`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub resources: Vec<String>,
    /// Names of objects; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub resource_names: Vec<String>,
    /// Paths, as `/metrics` or `/healthz/*`.
    #[serde(
        rename = "nonResourceURLs",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "list"
    )]
    pub non_resource_urls: Vec<String>,
}

/// Reads a list that may be null.
fn list<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default())
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|v| v == value)
}

fn has_or_all(list: &[String], value: &str) -> bool {
    list.iter().any(|v| v == "*" || v == value)
}

impl PolicyRule {
    /// Whether the rule allows the request.
    pub fn allows(&self, request: &Attributes) -> bool {
        if !has_or_all(&self.verbs, &request.verb) {
            return false;
        }
        if !request.is_resource {
            return self
                .non_resource_urls
                .iter()
                .any(|url| path_matches(url, &request.path));
        }
        has_or_all(&self.api_groups, &request.group)
            && self.names_resource(&request.resource, &request.subresource)
            && (self.resource_names.is_empty() || has(&self.resource_names, &request.name))
    }

    fn names_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources
            .iter()
            .any(|r| match (r.as_str(), r.split_once('/')) {
                ("*", _) => true,
                (_, Some(("*", sub))) => !subresource.is_empty() && sub == subresource,
                (_, Some((res, sub))) => res == resource && sub == subresource,
                (res, None) => subresource.is_empty() && res == resource,
            })
    }

    /// The rule taken apart into rules of one verb on one resource or path, which is how rules are compared.
    pub(crate) fn parts(&self) -> Vec<PolicyRule> {
        let mut parts = Vec::new();
        for verb in &self.verbs {
            for group in &self.api_groups {
                for resource in &self.resources {
                    let part = |names: Vec<String>| PolicyRule {
                        verbs: vec![verb.clone()],
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        resource_names: names,
                        non_resource_urls: Vec::new(),
                    };
                    if self.resource_names.is_empty() {
                        parts.push(part(Vec::new()));
                    }
                    parts.extend(self.resource_names.iter().map(|n| part(vec![n.clone()])));
                }
            }
            for url in &self.non_resource_urls {
                parts.push(PolicyRule {
                    verbs: vec![verb.clone()],
                    non_resource_urls: vec![url.clone()],
                    ..PolicyRule::default()
                });
            }
        }
        parts
    }

    /// Whether this rule grants everything that `part`, a rule of one verb on one thing, grants.
    pub(crate) fn covers(&self, part: &PolicyRule) -> bool {
        let all = |held: &[String], wanted: &[String]| wanted.iter().all(|w| has_or_all(held, w));
        all(&self.verbs, &part.verbs)
            && all(&self.api_groups, &part.api_groups)
            && part.resources.iter().all(|r| self.grants_resource(r))
            && part.non_resource_urls.iter().all(|url| {
                self.non_resource_urls
                    .iter()
                    .any(|held| held == url || path_matches(held, url))
            })
            && (self.resource_names.is_empty()
                || (!part.resource_names.is_empty()
                    && part.resource_names.iter().all(|n| has(&self.resource_names, n))))
    }

    fn grants_resource(&self, wanted: &str) -> bool {
        has_or_all(&self.resources, wanted)
            || wanted
                .split_once('/')
                .is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")))
    }
}

fn path_matches(pattern: &str, path: &str) -> bool {
    pattern == "*"
        || pattern == path
        || pattern
            .strip_suffix('*')
            .is_some_and(|prefix| path.starts_with(prefix))
}

/// Compact, as kube-apiserver prints rules that may not be granted: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("ResourceNames", &self.resource_names),
            ("NonResourceURLs", &self.non_resource_urls),
            ("Verbs", &self.verbs),
        ];
        let shown: Vec<String> = lists
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| {
                let quoted: Vec<String> = list.iter().map(|v| format!("{v:?}")).collect();
                format!("{name}:[{}]", quoted.join(" "))
            })
            .collect();
        write!(f, "{{{}}}", shown.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> PolicyRule {
        let list = |text: &str| -> Vec<String> {
            if text == "-" {
                Vec::new()
            } else {
                text.split(',').map(str::to_owned).collect()
            }
        };
        PolicyRule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            non_resource_urls: Vec::new(),
        }
    }

    #[test]
    fn a_rule_allows_what_it_names() {
        let request = |verb: &str, resource: &str, sub: &str, name: &str| Attributes {
            verb: verb.into(),
            resource: resource.into(),
            subresource: sub.into(),
            name: name.into(),
            is_resource: true,
            ..Attributes::default()
        };
        let cases = [
            (
                rule("get", "", "pods", "-"),
                request("get", "pods", "", "a"),
                true,
            ),
            (
                rule("get", "", "pods", "-"),
                request("list", "pods", "", ""),
                false,
            ),
            (
                rule("get", "", "pods", "-"),
                request("get", "pods", "log", "a"),
                false,
            ),
            (
                rule("get", "", "pods/log", "-"),
                request("get", "pods", "log", "a"),
                true,
            ),
            (
                rule("get", "", "*/scale", "-"),
                request("get", "deployments", "scale", "a"),
                true,
            ),
            (
                rule("get", "", "*/scale", "-"),
                request("get", "deployments", "", "a"),
                false,
            ),
            (rule("*", "*", "*", "-"), request("get", "pods", "log", "a"), true),
            (
                rule("get", "apps", "pods", "-"),
                request("get", "pods", "", "a"),
                false,
            ),
            (
                rule("get", "", "pods", "a"),
                request("get", "pods", "", "a"),
                true,
            ),
            (
                rule("get", "", "pods", "a"),
                request("get", "pods", "", "b"),
                false,
            ),
            (
                rule("list", "", "pods", "a"),
                request("list", "pods", "", ""),
                false,
            ),
        ];
        for (rule, request, expected) in cases {
            assert_eq!(rule.allows(&request), expected, "{rule} {request:?}");
        }
    }

    #[test]
    fn a_rule_allows_paths_by_prefix() {
        let rule = PolicyRule {
            verbs: vec!["get".into()],
            non_resource_urls: vec!["/healthz".into(), "/apis/*".into()],
            ..PolicyRule::default()
        };
        for (path, expected) in [
            ("/healthz", true),
            ("/healthz/etcd", false),
            ("/apis/apps", true),
            ("/", false),
        ] {
            let request = Attributes {
                verb: "get".into(),
                path: path.into(),
                ..Attributes::default()
            };
            assert_eq!(rule.allows(&request), expected, "{path}");
        }
    }

    #[test]
    fn rules_cover_what_they_grant_and_no_more() {
        let cases = [
            (
                rule("*", "*", "*", "-"),
                rule("get", "apps", "deployments/scale", "x"),
                true,
            ),
            (
                rule("get,list", "", "pods", "-"),
                rule("get", "", "pods", "-"),
                true,
            ),
            (
                rule("get", "", "pods", "-"),
                rule("get,list", "", "pods", "-"),
                false,
            ),
            (rule("get", "", "pods", "a"), rule("get", "", "pods", "-"), false),
            (rule("get", "", "pods", "a,b"), rule("get", "", "pods", "b"), true),
            (
                rule("get", "", "*/log", "-"),
                rule("get", "", "pods/log", "-"),
                true,
            ),
        ];
        for (held, wanted, expected) in cases {
            let covered = wanted.parts().iter().all(|part| held.covers(part));
            assert_eq!(covered, expected, "{held} covers {wanted}");
        }
    }
}
