//! What a Job's policies make of failures and successes.

use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy,
};

use super::indexes::Indexes;
use super::seen::Seen;

/// What becomes of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts.
    Count,
    /// It does not.
    Ignore,
    /// It is the end of its index.
    FailIndex,
    /// It is the end of the Job, in these words.
    FailJob(String),
}

/// What the policy says of a pod that has failed. The first rule that fits decides.
pub(super) fn judge(policy: Option<&PodFailurePolicy>, pod: &Seen) -> Verdict {
    for (at, rule) in policy
        .into_iter()
        .flat_map(|policy| policy.rules.iter().enumerate())
    {
        let Some(why) = fits(rule, pod) else { continue };
        match &*rule.action {
            "Ignore" => return Verdict::Ignore,
            "FailIndex" => return Verdict::FailIndex,
            "Count" => return Verdict::Count,
            "FailJob" => return Verdict::FailJob(format!("{why} matching FailJob rule at index {at}")),
            _ => {}
        }
    }
    Verdict::Count
}

/// Why a rule fits, if it does.
fn fits(rule: &PodFailurePolicyRule, pod: &Seen) -> Option<String> {
    let (namespace, name) = (&pod.namespace, &pod.facts.name);
    if let Some(codes) = &rule.on_exit_codes {
        let (container, code) = pod
            .exits
            .iter()
            .find(|(container, code)| has_code(codes, container, *code))?;
        return Some(format!(
            "Container {container} for pod {namespace}/{name} failed with exit code {code}"
        ));
    }
    let patterns = rule.on_pod_conditions.as_ref()?;
    let (type_, _) = pod.conditions.iter().find(|(type_, status)| {
        patterns.iter().any(|pattern| {
            *pattern.type_ == **type_ && pattern.status.as_deref().unwrap_or("True") == &**status
        })
    })?;
    Some(format!("Pod {namespace}/{name} has condition {type_}"))
}

fn has_code(codes: &PodFailurePolicyOnExitCodesRequirement, container: &str, code: i32) -> bool {
    let named = codes
        .container_name
        .as_deref()
        .is_none_or(|name| name == container);
    let listed = codes.values.contains(&code);
    named && code != 0 && listed == (codes.operator == "In")
}

/// Why a Job has succeeded by its policy, if it has.
pub(super) fn success(
    policy: Option<&SuccessPolicy>,
    completions: i32,
    succeeded: &Indexes,
) -> Option<String> {
    let rules = &policy.filter(|_| succeeded.count() > 0)?.rules;
    let met = rules.iter().position(|rule| match &rule.succeeded_indexes {
        Some(indexes) => {
            let wanted = Indexes::parse(indexes, completions);
            let have = wanted.in_common(succeeded);
            wanted.count() > 0
                && (have == wanted.count() || rule.succeeded_count.is_some_and(|count| have >= count))
        }
        None => rule
            .succeeded_count
            .is_some_and(|count| succeeded.count() >= count),
    })?;
    Some(format!("Matched rules at index {met}"))
}
