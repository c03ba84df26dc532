//! Nobody grants what they do not hold: the check on writes of roles and bindings.

use super::evaluate::Policy;
use super::rule::PolicyRule;
use crate::UserInfo;

impl Policy {
    /// Whether `user` may grant `rules` in `namespace` (empty: cluster-wide). `None` when they hold them all; else
    /// the refusal in kube-apiserver's words, naming what they lack.
    pub fn escalation(&self, user: &UserInfo, namespace: &str, rules: &[PolicyRule]) -> Option<String> {
        let (held, unresolved) = self.rules_for(user, namespace);
        let parts = rules.iter().flat_map(PolicyRule::parts);
        let missing: Vec<PolicyRule> = parts
            .filter(|part| !held.iter().any(|rule| rule.covers(part)))
            .collect();
        if missing.is_empty() {
            return None;
        }
        let groups: Vec<String> = user.groups.iter().map(|g| format!("{g:?}")).collect();
        let mut text = format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:",
            user.name,
            groups.join(" ")
        );
        for rule in compact(missing) {
            text.push('\n');
            text.push_str(&rule.to_string());
        }
        if !unresolved.is_empty() {
            text.push_str(&format!("; resolution errors: [{}]", unresolved.join(", ")));
        }
        Some(text)
    }
}

/// Joins the verbs of rules that are otherwise the same, as kube-apiserver does before it prints them.
fn compact(rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut joined: Vec<PolicyRule> = Vec::new();
    for rule in rules {
        let same = |other: &&mut PolicyRule| {
            other.api_groups == rule.api_groups
                && other.resources == rule.resources
                && other.resource_names == rule.resource_names
                && other.non_resource_urls == rule.non_resource_urls
        };
        match joined.iter_mut().find(same) {
            Some(other) => other.verbs.extend(rule.verbs),
            None => joined.push(rule),
        }
    }
    joined.sort_by_key(ToString::to_string);
    joined
}

#[cfg(test)]
mod tests {
    use crate::rbac::PolicyRule;
    use crate::rbac::evaluate::tests::{sample, user};

    #[test]
    fn only_what_is_held_can_be_granted() {
        let policy = sample();
        let alice = user("alice", &["system:authenticated"]);
        let rule = |verbs: &[&str], resource: &str| PolicyRule {
            verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
            api_groups: vec![String::new()],
            resources: vec![resource.to_owned()],
            ..PolicyRule::default()
        };
        assert_eq!(policy.escalation(&alice, "x", &[rule(&["get"], "pods")]), None);
        assert!(
            policy
                .escalation(&alice, "y", &[rule(&["get"], "pods")])
                .is_some()
        );
        assert_eq!(
            policy
                .escalation(&alice, "x", &[rule(&["get", "list"], "secrets")])
                .as_deref(),
            Some(
                "user \"alice\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not \
                 currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}"
            )
        );
    }
}
