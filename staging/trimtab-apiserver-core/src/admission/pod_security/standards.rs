//! The Pod Security Standards: which checks a level consists of, as of which version.

use std::collections::BTreeSet;

use serde_json::Value;

use super::policy::{Level, Standard, Version};
use super::{baseline, restricted};

/// A pod, or the template of one.
#[derive(Clone, Copy, Debug)]
pub struct Template<'a> {
    /// Its metadata.
    pub metadata: &'a Value,
    /// Its spec.
    pub spec: &'a Value,
}

/// What is wrong with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// In a word or two.
    pub reason: String,
    /// Where, and what would do.
    pub detail: String,
}

/// Finds what is wrong.
pub(super) type Test = fn(&Template<'_>) -> Option<Violation>;

/// One requirement of a level.
pub(super) struct Check {
    /// Its name; checks of a level are made in the order of their names.
    pub(super) id: &'static str,
    /// How it is made, from which minor version of Kubernetes on, oldest first.
    pub(super) versions: &'static [(u32, Test)],
    /// The check of the lower level that it takes the place of.
    pub(super) replaces: &'static str,
}

/// What is wrong with a pod by a standard, in the order in which it is told. A version that is newer than all changes
/// means the last.
pub fn violations(standard: Standard, pod: &Template<'_>) -> Vec<Violation> {
    let minor = match standard.version {
        Version::Minor(minor) => minor,
        Version::Latest => u32::MAX,
    };
    let test_of = |check: &Check| {
        let versions = check.versions.iter().rev();
        versions
            .clone()
            .find(|(from, _)| *from <= minor)
            .map(|(_, test)| *test)
    };
    let restricted: &[Check] = match standard.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => &[],
        Level::Restricted => restricted::CHECKS,
    };
    let replaced = |id: &str| {
        restricted
            .iter()
            .any(|r| r.replaces == id && test_of(r).is_some())
    };
    baseline::CHECKS
        .iter()
        .filter(|check| !replaced(check.id))
        .chain(restricted)
        .filter_map(|check| test_of(check)?(pod))
        .collect()
}

/// Violations with all there is to say: `host namespaces (hostPID=true), privileged (container "c" must not …)`.
pub(super) fn details(violations: &[Violation]) -> String {
    let text = |v: &Violation| format!("{} ({})", v.reason, v.detail);
    violations.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Violations in short: `host namespaces, privileged`.
pub(super) fn reasons(violations: &[Violation]) -> String {
    let reasons: Vec<&str> = violations.iter().map(|v| v.reason.as_str()).collect();
    reasons.join(", ")
}

impl<'a> Template<'a> {
    /// All containers, those that run first before those that stay, and those that were added last.
    pub(super) fn containers(self) -> impl Iterator<Item = &'a Value> {
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |list| self.spec[list].as_array().into_iter().flatten())
    }

    /// The names of containers that are bad.
    pub(super) fn bad(self, mut is_bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers()
            .filter(|container| is_bad(container))
            .map(|container| container["name"].as_str().unwrap_or_default())
            .collect()
    }

    pub(super) fn is_windows(self) -> bool {
        self.spec["os"]["name"] == "windows"
    }

    /// Whether its users are not the node's: root in it is nobody outside.
    pub(super) fn has_own_users(self) -> bool {
        self.spec["hostUsers"] == false
    }

    /// Who does what is not allowed: the pod itself, some containers, or both.
    pub(super) fn setters(self, is_bad: impl Fn(&'a Value) -> bool) -> Vec<String> {
        let pod = is_bad(&self.spec["securityContext"]).then(|| "pod".to_owned());
        let bad = self.bad(|container| is_bad(&container["securityContext"]));
        let containers = (!bad.is_empty()).then(|| counted("container", &bad));
        pod.into_iter().chain(containers).collect()
    }
}

/// `container "a"`, or `containers "a", "b"`.
pub(super) fn counted<S: AsRef<str>>(noun: &str, names: &[S]) -> String {
    format!("{} {}", plural(noun, names.len()), quoted(names))
}

/// The noun, with an s unless there is one of them.
pub(super) fn plural(noun: &str, count: usize) -> String {
    format!("{noun}{}", if count == 1 { "" } else { "s" })
}

/// `"a", "b"`.
pub(super) fn quoted<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let quoted: Vec<String> = names
        .into_iter()
        .map(|name| format!("\"{}\"", name.as_ref()))
        .collect();
    quoted.join(", ")
}

/// A violation, unless nobody commits it.
pub(super) fn unless_none<T>(
    bad: &[T],
    reason: impl Into<String>,
    detail: impl FnOnce() -> String,
) -> Option<Violation> {
    (!bad.is_empty()).then(|| Violation {
        reason: reason.into(),
        detail: detail(),
    })
}

/// The texts at a place in security contexts, sorted: of the pod's and all containers', where they are not allowed.
pub(super) fn bad_texts<'a>(
    pod: &Template<'a>,
    at: impl Fn(&'a Value) -> &'a Value,
    is_allowed: impl Fn(&str) -> bool,
) -> BTreeSet<&'a str> {
    let contexts = pod.containers().map(|container| &container["securityContext"]);
    std::iter::once(&pod.spec["securityContext"])
        .chain(contexts)
        .map(at)
        .filter(|value| !value.is_null())
        .map(|value| value.as_str().unwrap_or_default())
        .filter(|text| !is_allowed(text))
        .collect()
}
