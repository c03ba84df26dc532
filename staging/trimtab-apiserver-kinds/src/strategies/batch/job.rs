//! Jobs: their own labels on the pods that they make, and a template that does not change under way.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::failure_policy::{pod_failure_policy, success_policy};
use super::job_status::validate_status;
use crate::strategies::apps::template::{default_template, spec, validate_template, warnings};
use crate::strategies::checks::{
    all_non_negative, default_to, domain_prefixed_path, immutable, int, is_empty, items_mut, label_selector,
    object, one_of, or_null, selects, text,
};
use crate::strategies::rules::{Rules, carry_over};

/// What is set on the pods of a job and selects them; the second of each pair is from before labels had prefixes.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
/// The most pods that an indexed job may run at a time, and the most indexes that may fail.
const MOST_INDEXED: i64 = 100_000;
/// The same of jobs with more completions than that.
const MOST_OF_MANY: i64 = 10_000;

pub(super) const JOB: Rules = Rules {
    generation: true,
    default,
    prepare_create: |_, job| {
        if job["spec"]["manualSelector"] != true {
            generate_selector(job);
        }
        default_labels(job);
    },
    validate: |job| validate(job, true),
    validate_update: Some(validate_update),
    validate_status,
    warnings,
    selectable: &["status.successful"],
    select: |job, field| (field == "status.successful").then(|| int(&job["status"]["succeeded"]).to_string()),
    ..Rules::ORDINARY
};

fn default(job: &mut Value) {
    let spec = object(job, "spec");
    default_job_spec(spec);
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        spec["completions"] = 1.into();
    }
    default_to(spec, "parallelism", 1);
    if spec["completions"].is_null()
        && let Some(spec) = spec.as_object_mut()
    {
        spec.remove("completions");
    }
    let tries = if spec["backoffLimitPerIndex"].is_null() {
        6
    } else {
        i32::MAX
    };
    default_to(spec, "backoffLimit", tries);
    default_to(spec, "completionMode", "NonIndexed");
    default_to(spec, "suspend", false);
    let replacement = if spec["podFailurePolicy"].is_null() {
        "TerminatingOrFailed"
    } else {
        "Failed"
    };
    default_to(spec, "podReplacementPolicy", replacement);
    default_to(spec, "manualSelector", false);
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
    default_labels(job);
}

/// The defaults of a job spec that the jobs of a CronJob have too.
pub(super) fn default_job_spec(spec: &mut Value) {
    default_template(object(spec, "template"));
    let rules = spec.get_mut("podFailurePolicy").and_then(|p| p.get_mut("rules"));
    for rule in rules.and_then(Value::as_array_mut).into_iter().flatten() {
        for pattern in items_mut(rule, "onPodConditions") {
            if text(&pattern["status"]).is_empty() {
                pattern["status"] = "True".into();
            }
        }
    }
}

/// A job without labels has those of its pods.
fn default_labels(job: &mut Value) {
    let labels = job["spec"]["template"]["metadata"]["labels"].clone();
    if labels.is_object() && is_empty(&job["metadata"]["labels"]) {
        job["metadata"]["labels"] = labels;
    }
}

/// Labels the pods with the job's name and UID, and selects them by the UID, which no other job has.
fn generate_selector(job: &mut Value) {
    let (name, uid) = (job["metadata"]["name"].clone(), job["metadata"]["uid"].clone());
    let spec = object(job, "spec");
    let labels = object(object(object(spec, "template"), "metadata"), "labels");
    for label in NAME_LABELS {
        default_to(labels, label, name.clone());
    }
    for label in UID_LABELS {
        default_to(labels, label, uid.clone());
    }
    let [uid_label, _] = UID_LABELS;
    default_to(object(object(spec, "selector"), "matchLabels"), uid_label, uid);
}

/// That generated labels and selectors are as they were generated.
fn generated_selector(job: &Value, prefixed: bool) -> Vec<FieldError> {
    let selector = &job["spec"]["selector"];
    if job["spec"]["manualSelector"] == true || selector.is_null() {
        return Vec::new();
    }
    let mut errors = Vec::new();
    let (uid, name) = (text(&job["metadata"]["uid"]), text(&job["metadata"]["name"]));
    if uid.is_empty() {
        let at = FieldPath::new("metadata").child("uid");
        errors.push(FieldError::required(&at, ""));
    }
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    let at = spec().child("template").child("metadata").child("labels");
    let ([uid_label, old_uid_label], [name_label, old_name_label]) = (UID_LABELS, NAME_LABELS);
    let mut expected = vec![(old_uid_label, uid), (old_name_label, name)];
    if prefixed {
        expected.extend([(uid_label, uid), (name_label, name)]);
    }
    let mut made = json!({});
    for (label, value) in expected {
        made[label] = value.into();
        match labels[label].as_str() {
            None => errors.push(FieldError::required(&at.key(label), format!("must be '{value}'"))),
            Some(other) if other != value => errors.push(FieldError::invalid(
                &at.key(label),
                labels.clone(),
                format!("must be '{value}'"),
            )),
            Some(_) => {}
        }
    }
    if selects(selector, &made) == Some(false) {
        let why = "`selector` not auto-generated";
        errors.push(FieldError::invalid(
            &spec().child("selector"),
            selector.clone(),
            why,
        ));
    }
    errors
}

fn validate(job: &Value, prefixed: bool) -> Vec<FieldError> {
    let of = &job["spec"];
    let mut errors = generated_selector(job, prefixed);
    errors.extend(validate_spec(of));
    let completions = int(&of["completions"]);
    if text(&of["completionMode"]) == "Indexed" && completions > 0 {
        let name = text(&job["metadata"]["name"]);
        let longest = format!("{name}-{}", completions - 1);
        if !names::dns1123_label(&longest).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {longest}");
            errors.push(FieldError::invalid(
                &FieldPath::new("metadata").child("name"),
                name,
                why,
            ));
        }
    }
    errors
}

/// What is wrong with the spec of a job, the selector included.
fn validate_spec(of: &Value) -> Vec<FieldError> {
    let mut errors = validate_job_spec(of, &spec());
    let selector = &of["selector"];
    let at = spec().child("selector");
    if selector.is_null() {
        errors.push(FieldError::required(&at, ""));
    } else {
        errors.extend(label_selector(selector, &at));
    }
    let labels = &of["template"]["metadata"]["labels"];
    if selects(selector, labels) == Some(false) {
        let at = spec().child("template").child("metadata").child("labels");
        let why = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(&at, or_null(labels), why));
    }
    errors
}

/// What is wrong with the spec of a job, or of the jobs of a CronJob.
pub(super) fn validate_job_spec(of: &Value, at: &FieldPath) -> Vec<FieldError> {
    const COUNTS: [&str; 7] = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    let mut errors = all_non_negative(of, &COUNTS, at);
    if !of["maxFailedIndexes"].is_null() && of["backoffLimitPerIndex"].is_null() {
        errors.push(FieldError::required(
            &at.child("backoffLimitPerIndex"),
            "when maxFailedIndexes is specified",
        ));
    }
    errors.extend(managed_by(&of["managedBy"], &at.child("managedBy")));
    match of["completionMode"].as_str() {
        None | Some("NonIndexed") => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if !of[field].is_null() {
                    let why = "requires indexed completion mode";
                    errors.push(FieldError::invalid(&at.child(field), of[field].clone(), why));
                }
            }
        }
        Some("Indexed") => errors.extend(indexed(of, at)),
        _ => errors.extend(one_of(
            &of["completionMode"],
            &["NonIndexed", "Indexed"],
            &at.child("completionMode"),
        )),
    }
    errors.extend(pod_failure_policy(of, &at.child("podFailurePolicy")));
    errors.extend(success_policy(of, &at.child("successPolicy")));
    let replacement = &of["podReplacementPolicy"];
    if !replacement.is_null() {
        let supported: &[&str] = if of["podFailurePolicy"].is_null() {
            &["Failed", "TerminatingOrFailed"]
        } else {
            &["Failed"]
        };
        errors.extend(one_of(replacement, supported, &at.child("podReplacementPolicy")));
    }
    errors.extend(validate_template(&of["template"], &at.child("template")));
    errors.extend(restart_policy(
        of,
        &at.child("template").child("spec").child("restartPolicy"),
    ));
    errors
}

fn restart_policy(of: &Value, at: &FieldPath) -> Option<FieldError> {
    match text(&of["template"]["spec"]["restartPolicy"]) {
        "" | "Always" => Some(FieldError::required(at, "valid values: \"OnFailure\", \"Never\"")),
        "Never" => None,
        "OnFailure" if of["podFailurePolicy"].is_null() => None,
        "OnFailure" => Some(FieldError::invalid(
            at,
            "OnFailure",
            "only \"Never\" is supported when podFailurePolicy is specified",
        )),
        other => Some(FieldError::not_supported(at, other, &["OnFailure", "Never"])),
    }
}

/// The name of another controller: a domain, a slash, a path.
fn managed_by(value: &Value, at: &FieldPath) -> Vec<FieldError> {
    const LONGEST: usize = 63;
    let Some(name) = value.as_str() else {
        return Vec::new();
    };
    let mut errors = domain_prefixed_path(name, at);
    if name.len() > LONGEST {
        errors.push(FieldError::too_long(at, LONGEST));
    }
    errors
}

/// What holds for jobs whose completions have numbers.
fn indexed(of: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let value = |field: &str| of[field].as_i64();
    let too_much = |field: &str, why: &str| FieldError::invalid(&at.child(field), of[field].clone(), why);
    let (parallelism, failed) = (value("parallelism"), value("maxFailedIndexes"));
    let completions = value("completions");
    if completions.is_none() {
        let why = "when completion mode is Indexed";
        errors.push(FieldError::required(&at.child("completions"), why));
    }
    if parallelism > Some(MOST_INDEXED) {
        let why = format!("must be less than or equal to {MOST_INDEXED} when completion mode is Indexed");
        errors.push(too_much("parallelism", &why));
    }
    if completions.is_some() && failed > completions {
        errors.push(too_much(
            "maxFailedIndexes",
            "must be less than or equal to completions",
        ));
    }
    if failed > Some(MOST_INDEXED) {
        let why = format!("must be less than or equal to {MOST_INDEXED}");
        errors.push(too_much("maxFailedIndexes", &why));
    }
    if completions <= Some(MOST_INDEXED) || value("backoffLimitPerIndex").is_none() {
        return errors;
    }
    if failed.is_none() {
        let why = format!("must be specified when completions is above {MOST_INDEXED}");
        errors.push(FieldError::required(&at.child("maxFailedIndexes"), why));
    }
    let why = format!(
        "must be less than or equal to {MOST_OF_MANY} when completions are above {MOST_INDEXED} and used with backoff \
         limit per index"
    );
    for (field, count) in [("parallelism", parallelism), ("maxFailedIndexes", failed)] {
        if count > Some(MOST_OF_MANY) {
            errors.push(too_much(field, &why));
        }
    }
    errors
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (of, was) = (&new["spec"], &old["spec"]);
    let labels = &was["template"]["metadata"]["labels"];
    let ([uid_label, _], [name_label, _]) = (UID_LABELS, NAME_LABELS);
    let prefixed = !labels[uid_label].is_null() && !labels[name_label].is_null();
    let mut errors = validate(new, prefixed);
    // Kubernetes looks at the spec twice, and tells what is wrong with it twice.
    errors.extend(validate_spec(of));
    errors.extend(completions_update(of, was));
    errors.extend(immutable(
        &of["selector"],
        &was["selector"],
        &spec().child("selector"),
    ));
    errors.extend(template_update(new, old));
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        errors.extend(immutable(&of[field], &was[field], &spec().child(field)));
    }
    errors
}

/// The count may change for indexed jobs only, together with the parallelism.
fn completions_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (count, at) = (&new["completions"], spec().child("completions"));
    if text(&new["completionMode"]) != "Indexed" {
        return immutable(count, &old["completions"], &at);
    }
    if *count == old["completions"] || count.is_null() || *count == new["parallelism"] {
        return Vec::new();
    }
    let why = "can only be modified in tandem with spec.parallelism";
    vec![FieldError::invalid(&at, count.clone(), why)]
}

/// The template may change while the job is suspended: where its pods run, and what they need.
fn template_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (template, mut was) = (new["spec"]["template"].clone(), old["spec"]["template"].clone());
    let suspended = old["spec"]["suspend"] == true;
    let status = &old["status"];
    let has_stopped = super::job_status::is(old, "Suspended") || status["startTime"].is_null();
    let mutable = suspended && has_stopped && int(&status["active"]) == 0;
    if !mutable {
        return immutable(&template, &was, &spec().child("template"));
    }
    let (pod, old_pod) = (&template["spec"], object(&mut was, "spec"));
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        carry_over(old_pod, pod, field);
    }
    let affinity = &pod["affinity"];
    if affinity.is_null() && old_pod["affinity"].is_object() {
        carry_over(&mut old_pod["affinity"], affinity, "nodeAffinity");
        if is_empty(&old_pod["affinity"]) {
            carry_over(old_pod, &Value::Null, "affinity");
        }
    } else if affinity.is_object() {
        carry_over(object(old_pod, "affinity"), affinity, "nodeAffinity");
    }
    for list in ["containers", "initContainers"] {
        let containers = pod[list].as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(old) = old_pod.get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        if containers.len() == old.len() {
            for (old, new) in old.iter_mut().zip(containers) {
                if old["name"] == new["name"] {
                    carry_over(old, new, "resources");
                }
            }
        }
    }
    immutable(pod, old_pod, &spec().child("template.spec"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;
    use crate::strategy::RequestContext;

    fn job(spec: Value) -> Value {
        let mut object = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
        for (field, value) in spec.as_object().into_iter().flatten() {
            object["spec"][field] = value.clone();
        }
        default(&mut object);
        let context = RequestContext {
            now: String::new(),
            namespace: String::new(),
            subresource: String::new(),
            user: String::new(),
            requester: Value::Null,
        };
        (JOB.prepare_create)(&context, &mut object);
        object
    }

    #[test]
    fn selectors_are_generated() {
        let object = job(json!({}));
        let labels = json!({"batch.kubernetes.io/controller-uid": "u", "batch.kubernetes.io/job-name": "j",
            "controller-uid": "u", "job-name": "j"});
        assert_eq!(object["spec"]["template"]["metadata"]["labels"], labels);
        assert_eq!(object["metadata"]["labels"], labels);
        let selector = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}});
        assert_eq!(object["spec"]["selector"], selector);
        assert_eq!(told(&validate(&object, true)), Vec::<String>::new());
    }

    #[test]
    fn errors_are_told_in_the_words_of_kubernetes() {
        let cases: [(Value, &[&str]); 4] = [
            (
                json!({"parallelism": -1, "backoffLimit": -1}),
                &[
                    "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
                    "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
            (
                json!({"completionMode": "Nope"}),
                &[
                    "spec.completionMode: Unsupported value: \"Nope\": supported values: \"NonIndexed\", \"Indexed\"",
                ],
            ),
            (
                json!({"completionMode": "Indexed", "parallelism": 1}),
                &["spec.completions: Required value: when completion mode is Indexed"],
            ),
            (
                json!({"selector": {"matchLabels": {"a": "b"}}}),
                &[
                    "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"batch.kubernetes.io/controller-uid\":\
                     \"u\"}}: `selector` not auto-generated",
                    "spec.template.metadata.labels: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\
                     \"batch.kubernetes.io/job-name\":\"j\",\"controller-uid\":\"u\",\"job-name\":\"j\"}: `selector` does \
                     not match template `labels`",
                ],
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(told(&validate(&job(spec.clone()), true)), expected, "{spec}");
        }
    }

    #[test]
    fn what_has_started_does_not_change() {
        let old = job(json!({}));
        let mut new = old.clone();
        new["spec"]["parallelism"] = 5.into();
        assert!(validate_update(&new, &old).is_empty());
        new["spec"]["completions"] = 3.into();
        let expected = ["spec.completions: Invalid value: 3: field is immutable"];
        assert_eq!(told(&validate_update(&new, &old)), expected);

        let mut suspended = job(json!({"suspend": true}));
        let mut new = suspended.clone();
        new["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
        assert!(validate_update(&new, &suspended).is_empty());
        suspended["status"] = json!({"startTime": "2001-09-09T01:46:40Z"});
        assert_eq!(validate_update(&new, &suspended).len(), 1);
    }
}
