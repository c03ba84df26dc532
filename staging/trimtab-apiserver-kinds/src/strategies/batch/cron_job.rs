//! CronJobs.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use super::job::{default_job_spec, validate_job_spec};
use super::schedule;
use crate::strategies::apps::template::{name_warning, spec};
use crate::strategies::checks::{
    all_non_negative, default_text, default_to, non_negative, object, one_of, text,
};
use crate::strategies::core::pod_spec::pod_spec_warnings;
use crate::strategies::rules::Rules;

/// How long names of CronJobs may be: jobs append a time to them, and have the length of a label.
const LONGEST_NAME: usize = 52;

pub(super) const CRON_JOB: Rules = Rules {
    generation: true,
    default: |job| {
        let spec = object(job, "spec");
        default_job_spec(object(object(spec, "jobTemplate"), "spec"));
        default_text(spec, "concurrencyPolicy", "Allow");
        default_to(spec, "suspend", false);
        default_to(spec, "successfulJobsHistoryLimit", 3);
        default_to(spec, "failedJobsHistoryLimit", 1);
    },
    validate: |job| {
        let mut errors = validate(job, None);
        let name = text(&job["metadata"]["name"]);
        if name.len() > LONGEST_NAME {
            let why = "must be no more than 52 characters";
            errors.push(FieldError::invalid(
                &FieldPath::new("metadata").child("name"),
                name,
                why,
            ));
        }
        errors
    },
    validate_update: Some(|new, old| validate(new, Some(old))),
    warnings: |job, old| {
        let warning = "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                       https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details";
        let generation = |job: &Value| job["metadata"]["generation"].clone();
        let mut warnings: Vec<String> = Vec::new();
        if old.is_none() {
            warnings.extend(name_warning(job));
        }
        if old.is_none_or(|old| generation(old) != generation(job)) {
            let at = ["jobTemplate", "spec", "template", "spec"]
                .iter()
                .fold(spec(), |at, field| at.child(field));
            let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
            warnings.extend(pod_spec_warnings(pod, &at));
        }
        if old.is_some() && text(&job["spec"]["schedule"]).contains("TZ") {
            warnings.push(warning.to_owned());
        }
        warnings
    },
    ..Rules::ORDINARY
};

fn validate(job: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let of = &job["spec"];
    let mut errors = schedule(of, old);
    errors.extend(non_negative(
        &of["startingDeadlineSeconds"],
        &spec().child("startingDeadlineSeconds"),
    ));
    if old.is_none_or(|old| old["spec"]["timeZone"] != of["timeZone"]) {
        errors.extend(time_zone(&of["timeZone"]));
    }
    let policies = ["Allow", "Forbid", "Replace"];
    errors.extend(one_of(
        &of["concurrencyPolicy"],
        &policies,
        &spec().child("concurrencyPolicy"),
    ));
    let (template, at) = (
        &of["jobTemplate"]["spec"],
        spec().child("jobTemplate").child("spec"),
    );
    errors.extend(validate_job_spec(template, &at));
    if !template["selector"].is_null() {
        let why = "`selector` will be auto-generated";
        let selector = template["selector"].clone();
        errors.push(FieldError::invalid(&at.child("selector"), selector, why));
    }
    if template["manualSelector"] == true {
        let at = at.child("manualSelector");
        errors.push(FieldError::not_supported(&at, true, &["nil", "false"]));
    }
    let limits = ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    errors.extend(all_non_negative(of, &limits, &spec()));
    errors
}

fn schedule(of: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let (text_, at) = (text(&of["schedule"]), spec().child("schedule"));
    if text_.is_empty() {
        return vec![FieldError::required(&at, "")];
    }
    let mut errors = Vec::new();
    if let Err(why) = schedule::check(text_) {
        errors.push(FieldError::invalid(&at, text_, why));
    }
    let had_zone = old.is_some_and(|old| text(&old["spec"]["schedule"]).contains("TZ"));
    let why = match (text_.contains("TZ"), had_zone) {
        (true, false) => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        (true, true) if !of["timeZone"].is_null() => {
            "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        }
        _ => return errors,
    };
    errors.push(FieldError::invalid(&at, text_, why));
    errors
}

fn time_zone(zone: &Value) -> Vec<FieldError> {
    /// How long a part of a zone's name may be.
    const LONGEST_PART: usize = 14;
    let (Some(zone), at) = (zone.as_str(), spec().child("timeZone")) else {
        return Vec::new();
    };
    let invalid = |why: String| FieldError::invalid(&at, zone, why);
    if zone.is_empty() {
        return vec![invalid("timeZone must be nil or non-empty string".to_owned())];
    }
    let unknown = || invalid(format!("unknown time zone {zone}"));
    let is_part = |part: &str| {
        !matches!(part, "." | ".." | "")
            && !part.starts_with('-')
            && part.len() <= LONGEST_PART
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-_+".contains(&b))
    };
    if !zone.split('/').all(is_part) {
        return vec![unknown()];
    }
    let mut errors = Vec::new();
    if zone.eq_ignore_ascii_case("local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(invalid(why.to_owned()));
    }
    if zone != "Local" && !schedule::is_time_zone(zone) {
        errors.push(unknown());
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;
    use serde_json::json;

    #[test]
    fn errors_are_told_in_the_words_of_kubernetes() {
        let cases: [(Value, &[&str]); 5] = [
            (json!({"timeZone": "Europe/Berlin"}), &[]),
            (json!({"schedule": null}), &["spec.schedule: Required value"]),
            (
                json!({"timeZone": "Nowhere"}),
                &["spec.timeZone: Invalid value: \"Nowhere\": unknown time zone Nowhere"],
            ),
            (
                json!({"schedule": "TZ=UTC * * * * *"}),
                &[
                    "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone \
                   field instead",
                ],
            ),
            (
                json!({"concurrencyPolicy": "No", "failedJobsHistoryLimit": -1}),
                &[
                    "spec.concurrencyPolicy: Unsupported value: \"No\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
                    "spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
        ];
        for (change, expected) in cases {
            let mut object = json!({"metadata": {"name": "c"}, "spec": {"schedule": "@daily", "jobTemplate": {"spec":
                {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}});
            for (field, value) in change.as_object().into_iter().flatten() {
                object["spec"][field] = value.clone();
            }
            (CRON_JOB.default)(&mut object);
            assert_eq!(told(&(CRON_JOB.validate)(&object)), expected, "{change}");
        }
    }
}
