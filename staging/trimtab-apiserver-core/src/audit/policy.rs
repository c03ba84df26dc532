//! The audit policy: for which requests how much is written down, and at which stages. The first rule that matches says.

use std::path::Path;

use serde::Deserialize;
use trimtab_apiserver_auth::{Attributes, UserInfo};

/// How much of a request is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who asked for what, and what came of it.
    Metadata,
    /// What was sent, too.
    Request,
    /// And what was answered.
    RequestResponse,
}

/// When something is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    /// As soon as it is known who asks.
    RequestReceived,
    /// When an answer that lasts has begun.
    ResponseStarted,
    /// When nothing more is sent.
    ResponseComplete,
    /// When answering failed in a way that must not be.
    Panic,
}

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("--audit-policy-file {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no policy.
    #[error("--audit-policy-file {path}: not a Policy of audit.k8s.io/v1: {why}")]
    Malformed {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// It makes no sense.
    #[error("--audit-policy-file {path}: {why}")]
    Invalid {
        /// The file.
        path: String,
        /// Which field, and why.
        why: String,
    },
}

/// A policy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde::de::IgnoredAny,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    paths: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What a policy says of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) level: Level,
    omit_stages: Vec<Stage>,
    pub(crate) omit_managed_fields: bool,
}

impl Verdict {
    pub(crate) fn omits(&self, stage: Stage) -> bool {
        self.omit_stages.contains(&stage)
    }
}

impl Policy {
    /// Reads a policy, YAML or JSON.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], one line that names the file and the field.
    pub fn from_file(file: &Path) -> Result<Self, PolicyError> {
        let path = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => Self::read(&text, path),
            Err(source) => Err(PolicyError::File { path, source }),
        }
    }

    /// Reads a policy that is said to be from `path`.
    ///
    /// # Errors
    ///
    /// [`PolicyError`].
    pub(crate) fn read(text: &str, path: String) -> Result<Self, PolicyError> {
        let mut policy: Self = match serde_saphyr::from_str(text) {
            Ok(policy) => policy,
            Err(error) => {
                // What comes after the first line is a picture of the place.
                let why = error.to_string().lines().next().unwrap_or_default().to_owned();
                return Err(PolicyError::Malformed { path, why });
            }
        };
        if (policy.api_version.as_str(), policy.kind.as_str()) != ("audit.k8s.io/v1", "Policy") {
            let why = format!("it is a {:?} of {:?}", policy.kind, policy.api_version);
            return Err(PolicyError::Malformed { path, why });
        }
        if let Some(why) = policy.fault() {
            return Err(PolicyError::Invalid { path, why });
        }
        for rule in &mut policy.rules {
            rule.omit_stages.extend(&policy.omit_stages);
        }
        Ok(policy)
    }

    fn fault(&self) -> Option<String> {
        if self.rules.is_empty() {
            return Some("it has no rules".to_owned());
        }
        self.rules
            .iter()
            .enumerate()
            .find_map(|(i, rule)| rule.fault().map(|why| format!("rules[{i}]{why}")))
    }

    /// What is written down of a request.
    pub(crate) fn judge(&self, user: &UserInfo, request: &Attributes) -> Verdict {
        match self.rules.iter().find(|rule| rule.matches(user, request)) {
            Some(rule) => Verdict {
                level: rule.level,
                omit_stages: rule.omit_stages.clone(),
                omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
            },
            None => Verdict::default(),
        }
    }
}

impl Rule {
    fn fault(&self) -> Option<String> {
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if of_resources && !self.paths.is_empty() {
            return Some(
                ".nonResourceURLs: a rule is of resources or of other paths, not of both".to_owned(),
            );
        }
        let wrong = self.paths.iter().enumerate().find_map(|(i, path)| {
            let star = path.trim_end_matches('*').contains('*');
            let rooted = path == "*" || path.starts_with('/');
            (star || !rooted).then(|| {
                format!(
                    ".nonResourceURLs[{i}]: {path:?} is neither \"*\" nor a path that may end with a star"
                )
            })
        });
        let nameless = self.resources.iter().enumerate().find_map(|(i, resources)| {
            let names = !resources.resource_names.is_empty() && resources.resources.is_empty();
            names.then(|| format!(".resources[{i}].resourceNames: they are names of no resources"))
        });
        wrong.or(nameless)
    }

    fn matches(&self, user: &UserInfo, request: &Attributes) -> bool {
        let has = |list: &[String], text: &str| list.is_empty() || list.iter().any(|one| one == text);
        if !has(&self.users, &user.name) || !has(&self.verbs, &request.verb) {
            return false;
        }
        if !self.user_groups.is_empty() && !self.user_groups.iter().any(|group| user.is_in(group)) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return request.is_resource
                && has(&self.namespaces, &request.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|these| these.has(request)));
        }
        if !self.paths.is_empty() {
            let matches = |path: &String| {
                let below = path
                    .strip_suffix('*')
                    .is_some_and(|p| request.path.starts_with(p));
                *path == request.path || below
            };
            return !request.is_resource && self.paths.iter().any(matches);
        }
        true
    }
}

impl Resources {
    fn has(&self, request: &Attributes) -> bool {
        if self.group != request.group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let names = &self.resource_names;
        (names.is_empty() || names.contains(&request.name))
            && self.resources.iter().any(|this| match this.split_once('/') {
                None => this == "*" || (*this == request.resource && request.subresource.is_empty()),
                Some(("*", below)) => !request.subresource.is_empty() && below == request.subresource,
                Some((of, "*")) => of == request.resource,
                Some((of, below)) => of == request.resource && below == request.subresource,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &str) -> Result<Policy, String> {
        let text = format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n{rules}"
        );
        Policy::read(&text, "p".to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_rule_that_matches_says_what_is_written_down() {
        let policy = policy(
            r#"
- {level: None, users: ["system:kube-proxy"], verbs: [watch], resources: [{group: "", resources: [endpoints, services]}]}
- {level: None, userGroups: ["system:authenticated"], nonResourceURLs: ["/api*", "/version"]}
- {level: Request, resources: [{resources: [configmaps], resourceNames: [one]}], namespaces: [kube-system]}
- {level: Metadata, resources: [{resources: [secrets, "pods/*", "*/scale"]}], omitStages: [ResponseStarted], omitManagedFields: true}
- {level: RequestResponse, namespaces: [""], resources: [{group: "*", resources: ["*"]}]}
- {level: Request, resources: [{group: apps}]}
"#,
        )
        .expect("a policy");
        let user = |name: &str| UserInfo {
            name: name.to_owned(),
            groups: vec!["system:authenticated".to_owned()],
            ..UserInfo::default()
        };
        // Verb, group, resource and subresource, namespace and name; or a path.
        for (name, what, level) in [
            ("system:kube-proxy", "watch  services a -", Level::None),
            ("jane", "watch  services  -", Level::RequestResponse),
            ("jane", "/apis/apps", Level::None),
            ("jane", "/version", Level::None),
            ("jane", "/versions", Level::None),
            ("jane", "get  configmaps kube-system one", Level::Request),
            ("jane", "get  configmaps kube-system two", Level::None),
            ("jane", "get  secrets a b", Level::Metadata),
            ("jane", "get  secrets/x a b", Level::None),
            ("jane", "get  pods a b", Level::Metadata),
            ("jane", "get  pods/log a b", Level::Metadata),
            ("jane", "get apps deployments/scale a b", Level::Request),
            ("jane", "get  replicationcontrollers/scale a b", Level::Metadata),
            ("jane", "get apps deployments a b", Level::Request),
            ("jane", "get apps things  b", Level::RequestResponse),
        ] {
            let parts: Vec<&str> = what.split(' ').collect();
            let request = match parts[..] {
                [verb, group, resource, namespace, name] => {
                    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                    Attributes {
                        verb: verb.to_owned(),
                        group: group.to_owned(),
                        resource: resource.to_owned(),
                        subresource: subresource.to_owned(),
                        namespace: namespace.to_owned(),
                        name: name.to_owned(),
                        is_resource: true,
                        ..Attributes::default()
                    }
                }
                _ => Attributes {
                    verb: "get".to_owned(),
                    path: what.to_owned(),
                    ..Attributes::default()
                },
            };
            let verdict = policy.judge(&user(name), &request);
            assert_eq!(verdict.level, level, "{name} {what}");
            if level == Level::Metadata {
                let omitted =
                    [Stage::RequestReceived, Stage::ResponseStarted].map(|stage| verdict.omits(stage));
                assert_eq!((omitted, verdict.omit_managed_fields), ([true, true], true));
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_place() {
        for (rules, wanted) in [
            ("  []", "--audit-policy-file p: it has no rules"),
            (
                "- {level: None, resources: [{}], nonResourceURLs: [\"*\"]}",
                "--audit-policy-file p: rules[0].nonResourceURLs: a rule is of resources or of other paths, not of both",
            ),
            (
                "- {level: None, nonResourceURLs: [\"/a*b\"]}",
                "--audit-policy-file p: rules[0].nonResourceURLs[0]: \"/a*b\" is neither \"*\" nor a path that may end with a star",
            ),
            (
                "- {level: None, resources: [{resourceNames: [a]}]}",
                "--audit-policy-file p: rules[0].resources[0].resourceNames: they are names of no resources",
            ),
        ] {
            assert_eq!(policy(rules).expect_err("makes no sense"), wanted);
        }
        for rules in [
            "- {level: All}",
            "- {}",
            "- {level: None, user: [a]}",
            "- {level: None, omitStages: [Never]}",
        ] {
            let why = policy(rules).expect_err("is none");
            assert!(
                why.starts_with("--audit-policy-file p: not a Policy of audit.k8s.io/v1: "),
                "{why}"
            );
        }
    }
}
