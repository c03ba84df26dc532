//! When a job fails or succeeds early: by exit codes and conditions of its pods, by indexes that are done.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use crate::strategies::checks::{int, invalid_for, is_empty, items, non_negative, one_of, text};

/// The most rules of either policy.
const MOST_RULES: usize = 20;

/// What is wrong with the policy that says which failures of pods fail a job.
pub(super) fn pod_failure_policy(spec: &Value, at: &FieldPath) -> Vec<FieldError> {
    if spec["podFailurePolicy"].is_null() {
        return Vec::new();
    }
    let mut errors = Vec::new();
    let (rules, at) = (items(&spec["podFailurePolicy"]["rules"]), at.child("rules"));
    if rules.len() > MOST_RULES {
        errors.push(FieldError::too_many(&at, rules.len(), MOST_RULES));
    }
    for (i, rule) in rules.iter().enumerate() {
        errors.extend(failure_rule(spec, rule, &at.index(i)));
    }
    errors
}

/// One of a few words that is told as missing when it is empty; the words are sorted.
fn required_one_of(value: &Value, supported: &[&str], at: &FieldPath) -> Vec<FieldError> {
    if text(value).is_empty() {
        let quoted: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let why = format!("valid values: [{}]", quoted.join(" "));
        return vec![FieldError::required(at, why)];
    }
    one_of(value, supported, at)
}

fn failure_rule(spec: &Value, rule: &Value, at: &FieldPath) -> Vec<FieldError> {
    const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
    let action_at = at.child("action");
    let mut errors = required_one_of(&rule["action"], &ACTIONS, &action_at);
    if text(&rule["action"]) == "FailIndex" && spec["backoffLimitPerIndex"].is_null() {
        let why = "requires the backoffLimitPerIndex to be set";
        errors.push(FieldError::invalid(&action_at, "FailIndex", why));
    }
    let (codes, conditions) = (&rule["onExitCodes"], &rule["onPodConditions"]);
    if codes.is_object() {
        errors.extend(exit_codes(spec, codes, &at.child("onExitCodes")));
    }
    errors.extend(pod_conditions(items(conditions), &at.child("onPodConditions")));
    let why = match (codes.is_object(), !is_empty(conditions)) {
        (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return errors,
    };
    errors.push(FieldError::invalid(at, Value::Null, why).without_value());
    errors
}

fn exit_codes(spec: &Value, codes: &Value, at: &FieldPath) -> Vec<FieldError> {
    const MOST_VALUES: usize = 255;
    let mut errors = required_one_of(&codes["operator"], &["In", "NotIn"], &at.child("operator"));
    if let Some(name) = codes["containerName"].as_str() {
        let pod = &spec["template"]["spec"];
        let mut containers = items(&pod["containers"])
            .iter()
            .chain(items(&pod["initContainers"]));
        if !containers.any(|c| text(&c["name"]) == name) {
            let why = "must be one of the container or initContainer names in the pod template";
            errors.push(FieldError::invalid(&at.child("containerName"), name, why));
        }
    }
    let (values, at) = (items(&codes["values"]), at.child("values"));
    if values.is_empty() {
        let why = "at least one value is required";
        errors.push(FieldError::invalid(&at, codes["values"].clone(), why));
    } else if values.len() > MOST_VALUES {
        errors.push(FieldError::too_many(&at, values.len(), MOST_VALUES));
    }
    for (i, value) in values.iter().enumerate() {
        if text(&codes["operator"]) == "In" && int(value) == 0 {
            let why = "must not be 0 for the In operator";
            errors.push(FieldError::invalid(&at.index(i), value.clone(), why));
        }
        if values.iter().take(i).any(|earlier| earlier == value) {
            errors.push(FieldError::duplicate(&at.index(i), value.clone()));
        }
    }
    if !values.iter().map(int).is_sorted() {
        errors.push(FieldError::invalid(
            &at,
            codes["values"].clone(),
            "must be ordered",
        ));
    }
    errors
}

fn pod_conditions(patterns: &[Value], at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if patterns.len() > MOST_RULES {
        errors.push(FieldError::too_many(at, patterns.len(), MOST_RULES));
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let at = at.index(i);
        let type_ = Value::from(text(&pattern["type"]));
        errors.extend(invalid_for(
            names::qualified_name(text(&type_)),
            &type_,
            &at.child("type"),
        ));
        let statuses = ["False", "True", "Unknown"];
        errors.extend(required_one_of(
            &pattern["status"],
            &statuses,
            &at.child("status"),
        ));
    }
    errors
}

/// What is wrong with the policy that says when enough of a job has succeeded.
pub(super) fn success_policy(spec: &Value, at: &FieldPath) -> Vec<FieldError> {
    let policy = &spec["successPolicy"];
    if policy.is_null() {
        return Vec::new();
    }
    if text(&spec["completionMode"]) != "Indexed" {
        return vec![FieldError::invalid(
            at,
            policy.clone(),
            "requires indexed completion mode",
        )];
    }
    let mut errors = Vec::new();
    let (rules, at) = (items(&policy["rules"]), at.child("rules"));
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&at, why));
    }
    if rules.len() > MOST_RULES {
        errors.push(FieldError::too_many(&at, rules.len(), MOST_RULES));
    }
    for (i, rule) in rules.iter().enumerate() {
        errors.extend(success_rule(int(&spec["completions"]), rule, &at.index(i)));
    }
    errors
}

fn success_rule(completions: i64, rule: &Value, at: &FieldPath) -> Vec<FieldError> {
    const LONGEST: usize = 64 * 1024;
    let (count, indexes) = (&rule["succeededCount"], rule["succeededIndexes"].as_str());
    let mut errors = Vec::new();
    if count.is_null() && indexes.is_none() {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(at, why));
    }
    let mut total = 0;
    if let Some(indexes) = indexes {
        let at = at.child("succeededIndexes");
        if indexes.len() > LONGEST {
            errors.push(FieldError::too_long(&at, LONGEST));
        }
        match count_indexes(indexes, completions) {
            Ok(counted) => total = counted,
            Err(why) => {
                let why = format!("error parsing succeededIndexes: {why}");
                errors.push(FieldError::invalid(&at, indexes, why));
            }
        }
    }
    let at = at.child("succeededCount");
    errors.extend(non_negative(count, &at));
    let mut most = |most: i64, of: &str| {
        if int(count) > most {
            let why = format!("must be less than or equal to {most} ({of})");
            errors.push(FieldError::invalid(&at, count.clone(), why));
        }
    };
    most(completions, "the number of specified completions");
    if indexes.is_some() {
        most(
            total,
            "the number of indexes in the specified succeededIndexes field",
        );
    }
    errors
}

/// How many indexes a text like `1,3-5` names, of jobs with so many completions.
pub(super) fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let (mut last, mut total) = (None, 0);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let (first, end) = interval_of(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!(
                "non-increasing order, previous: {last}, current: {first}"
            ));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first and the last index of an interval.
pub(super) fn interval_of(interval: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
        Ok(index) if index >= completions => Err(format!("too large index: {text:?}")),
        Ok(index) => Ok(index),
    };
    let mut parts = interval.split('-');
    let (first, last) = (parts.next().unwrap_or_default(), parts.next());
    if parts.next().is_some() {
        return Err(format!(
            "the fragment {interval:?} violates the requirement that an index interval can have at most two parts \
             separated by '-'"
        ));
    }
    let first = index(first)?;
    let last = last.map_or(Ok(first), |last| match index(last)? {
        last if first >= last => Err(format!(
            "non-increasing order, previous: {first}, current: {last}"
        )),
        last => Ok(last),
    })?;
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;
    use serde_json::json;

    #[test]
    fn indexes_are_counted() {
        let cases = [
            ("", Ok(0)),
            ("0,2-4", Ok(4)),
            ("3,1", Err("non-increasing order, previous: 3, current: 1")),
            ("4-2", Err("non-increasing order, previous: 4, current: 2")),
            ("9", Err("too large index: \"9\"")),
            ("x", Err("cannot convert string to integer for index: \"x\"")),
        ];
        for (text, expected) in cases {
            assert_eq!(count_indexes(text, 5), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn rules_are_checked() {
        let spec = json!({"podFailurePolicy": {"rules": [
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [0, 3, 2, 2]}},
            {"onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}});
        let expected = [
            "p.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
            "p.rules[0].onExitCodes.values[3]: Duplicate value: 2",
            "p.rules[0].onExitCodes.values: Invalid value: [0,3,2,2]: must be ordered",
            "p.rules[1].action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
        ];
        assert_eq!(told(&pod_failure_policy(&spec, &FieldPath::new("p"))), expected);
        let spec = json!({"completionMode": "Indexed", "completions": 3,
            "successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 4}]}});
        let expected = [
            "p.rules[0].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of specified \
             completions)",
            "p.rules[0].succeededCount: Invalid value: 4: must be less than or equal to 2 (the number of indexes in the \
             specified succeededIndexes field)",
        ];
        assert_eq!(told(&success_policy(&spec, &FieldPath::new("p"))), expected);
    }
}
