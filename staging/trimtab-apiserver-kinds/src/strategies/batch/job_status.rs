//! What may be said of a job's state: what has ended stays ended, and says when it did.
//!
//! Most rules look only at what an update changes, so that a controller can go on from a state that breaks one.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use super::failure_policy::{count_indexes, interval_of};
use crate::strategies::checks::{all_non_negative, int, items, text};

/// Whether a condition of a job is true.
pub(super) fn is(job: &Value, type_: &str) -> bool {
    has(job, type_, "True")
}

fn has(job: &Value, type_: &str, status: &str) -> bool {
    items(&job["status"]["conditions"])
        .iter()
        .any(|c| text(&c["type"]) == type_ && text(&c["status"]) == status)
}

fn is_finished(job: &Value) -> bool {
    is(job, "Complete") || is(job, "Failed")
}

/// What is wrong with an update of a job's status.
pub(super) fn validate_status(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("status");
    let counts = ["active", "succeeded", "failed", "ready", "terminating"];
    let mut errors = all_non_negative(&new["status"], &counts, &at);
    errors.extend(uncounted(&new["status"]["uncountedTerminatedPods"], &at));
    let change = Change { new, old };
    errors.extend(change.completion());
    errors.extend(change.conditions());
    errors.extend(change.finished());
    errors.extend(change.indexes());
    errors.extend(change.contradictions());
    errors.extend(change.undone());
    errors
}

/// Pods that have ended and are not counted yet, each once.
fn uncounted(pods: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for list in ["succeeded", "failed"] {
        for (i, uid) in items(&pods[list]).iter().map(text).enumerate() {
            let at = at.child("uncountedTerminatedPods").child(list).index(i);
            if uid.is_empty() {
                errors.push(FieldError::invalid(&at, uid, "must not be empty"));
            } else if seen.contains(&uid) {
                errors.push(FieldError::duplicate(&at, uid));
            } else {
                seen.push(uid);
            }
        }
    }
    errors
}

/// An update of a job's status.
#[derive(Clone, Copy)]
struct Change<'o> {
    new: &'o Value,
    old: &'o Value,
}

impl<'o> Change<'o> {
    fn status(self, field: &str) -> &'o Value {
        &self.new["status"][field]
    }

    /// Whether a field of the status changes.
    fn changes(self, field: &str) -> bool {
        self.new["status"][field] != self.old["status"][field]
    }

    /// Whether any of these conditions becomes or ceases to be true.
    fn turns(self, types: &[&str]) -> bool {
        types
            .iter()
            .any(|type_| is(self.new, type_) != is(self.old, type_))
    }

    fn finishes(self) -> bool {
        is_finished(self.new) != is_finished(self.old)
    }

    fn invalid(self, field: &str, why: &str) -> FieldError {
        let value = match field {
            "conditions" => Value::Null,
            field => self.status(field).clone(),
        };
        FieldError::invalid(&FieldPath::new("status").child(field), value, why)
    }

    fn required(field: &str, why: &str) -> FieldError {
        FieldError::required(&FieldPath::new("status").child(field), why)
    }

    /// The time of completion: of complete jobs, and not before the start.
    fn completion(self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let (started, completed) = (self.status("startTime"), self.status("completionTime"));
        let complete = is(self.new, "Complete");
        if self.turns(&["Complete", "Failed"]) && complete && is(self.new, "Failed") {
            let why = "cannot set Complete=True and Failed=true conditions";
            errors.push(self.invalid("conditions", why));
        }
        if self.turns(&["Complete", "FailureTarget"]) && complete && is(self.new, "FailureTarget") {
            let why = "cannot set Complete=True and FailureTarget=true conditions";
            errors.push(self.invalid("conditions", why));
        }
        if self.turns(&["Complete"]) || self.changes("completionTime") {
            if !completed.is_null() && !complete {
                let why = "cannot set completionTime when there is no Complete=True condition";
                errors.push(self.invalid("completionTime", why));
            }
            if completed.is_null() && complete {
                let why = "completionTime is required for Complete jobs";
                errors.push(Self::required("completionTime", why));
            }
        }
        // Times are in one form, so their order is that of their texts.
        let both = started.is_string() && completed.is_string();
        if (self.changes("startTime") || self.changes("completionTime"))
            && both
            && text(completed) < text(started)
        {
            let why = "must be equal to or after `startTime`";
            errors.push(self.invalid("completionTime", why));
        }
        errors
    }

    /// A job ends in two steps, of which the first lets its pods end.
    fn conditions(self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let failed = is(self.new, "Failed") && !is(self.new, "FailureTarget");
        if (self.turns(&["Failed"]) || self.changes("failedIndexes")) && failed {
            let why = "cannot set Failed=True condition without the FailureTarget=true condition";
            errors.push(self.invalid("conditions", why));
        }
        let complete = is(self.new, "Complete") && !is(self.new, "SuccessCriteriaMet");
        if self.turns(&["Complete", "SuccessCriteriaMet"]) && complete {
            let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
            errors.push(self.invalid("conditions", why));
        }
        errors
    }

    /// A job that has ended has no pods left.
    fn finished(self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if !is_finished(self.new) {
            return errors;
        }
        if (self.finishes() || self.changes("active")) && int(self.status("active")) > 0 {
            errors.push(self.invalid("active", "active>0 is invalid for finished job"));
        }
        let spec = &self.new["spec"];
        let never_ran = spec["suspend"] == true && spec["completions"] == 0;
        if (self.finishes() || self.changes("startTime")) && !never_ran && self.status("startTime").is_null()
        {
            errors.push(Self::required(
                "startTime",
                "startTime is required for finished job",
            ));
        }
        let uncounted = self.status("uncountedTerminatedPods");
        let left = items(&uncounted["succeeded"]).len() + items(&uncounted["failed"]).len();
        if (self.finishes() || self.changes("uncountedTerminatedPods")) && left > 0 {
            errors.push(self.invalid("uncountedTerminatedPods", "must be empty for finished job"));
        }
        errors
    }

    fn indexes(self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let spec = &self.new["spec"];
        let (completed, failed) = (
            text(self.status("completedIndexes")),
            self.status("failedIndexes"),
        );
        let (completed_changed, failed_changed) =
            (self.changes("completedIndexes"), self.changes("failedIndexes"));
        let per_index = !spec["backoffLimitPerIndex"].is_null();
        if let Some(completions) = spec["completions"].as_i64() {
            if completed_changed && let Err(why) = count_indexes(completed, completions) {
                let why = format!("error parsing completedIndexes: {why}");
                errors.push(self.invalid("completedIndexes", &why));
            }
            if failed_changed
                && per_index
                && failed.is_string()
                && let Err(why) = count_indexes(text(failed), completions)
            {
                errors.push(self.invalid("failedIndexes", &format!("error parsing failedIndexes: {why}")));
            }
        }
        if completed_changed && !completed.is_empty() && text(&spec["completionMode"]) != "Indexed" {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            errors.push(self.invalid("completedIndexes", why));
        }
        if failed_changed && !per_index && failed.is_string() {
            let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            errors.push(self.invalid("failedIndexes", why));
        }
        if (completed_changed || failed_changed)
            && let Some(index) = overlap(completed, text(failed), int(&spec["completions"]))
        {
            let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
            errors.push(self.invalid("failedIndexes", &why));
        }
        errors
    }

    fn contradictions(self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let terminating = int(self.status("terminating")) > 0;
        if (self.finishes() || self.changes("terminating")) && terminating && is_finished(self.new) {
            errors.push(self.invalid("terminating", "terminating>0 is invalid for finished job"));
        }
        let more_ready = int(self.status("ready")) > int(self.status("active"));
        if (self.changes("ready") || self.changes("active")) && more_ready {
            errors.push(self.invalid("ready", "cannot set more ready pods than active"));
        }
        let met = is(self.new, "SuccessCriteriaMet");
        if met && is(self.new, "Failed") {
            let why = "cannot set SuccessCriteriaMet=True and Failed=true conditions";
            errors.push(self.invalid("conditions", why));
        }
        if met && is(self.new, "FailureTarget") {
            let why = "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions";
            errors.push(self.invalid("conditions", why));
        }
        if !self.new["spec"]["successPolicy"].is_null() && !met && is(self.new, "Complete") {
            let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
            errors.push(self.invalid("conditions", why));
        }
        errors
    }

    /// What has been said and may not be taken back.
    fn undone(self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let was = |type_| is(self.old, type_);
        for type_ in ["Failed", "Complete", "FailureTarget"] {
            if was(type_) && !is(self.new, type_) {
                let why = format!("cannot disable the terminal {type_}=True condition");
                errors.push(self.invalid("conditions", &why));
            }
        }
        let decreased = |field: &str| int(self.status(field)) < int(&self.old["status"][field]);
        if decreased("failed") {
            errors.push(self.invalid("failed", "cannot decrease the failed counter"));
        }
        let spec = &self.new["spec"];
        // Indexed jobs with as many completions as pods at a time may be scaled down.
        let elastic =
            text(&spec["completionMode"]) == "Indexed" && spec["completions"] == spec["parallelism"];
        if decreased("succeeded") && !elastic {
            errors.push(self.invalid("succeeded", "cannot decrease the succeeded counter"));
        }
        let (completed, was_completed) = (
            self.status("completionTime"),
            &self.old["status"]["completionTime"],
        );
        if completed.is_string() && was_completed.is_string() && completed != was_completed {
            errors.push(self.invalid("completionTime", "field is immutable"));
        }
        let resumes = was("Suspended") && has(self.new, "Suspended", "False");
        let had_start = !self.old["status"]["startTime"].is_null();
        if self.changes("startTime") && !resumes && had_start && spec["suspend"] != true {
            let why = "field is immutable for unsuspended job once set";
            errors.push(self.invalid("startTime", why));
        }
        let met = is(self.new, "SuccessCriteriaMet");
        if was("SuccessCriteriaMet") && !met {
            let why = "cannot disable the SuccessCriteriaMet=True condition";
            errors.push(self.invalid("conditions", why));
        }
        if was("Complete") && !was("SuccessCriteriaMet") && met {
            let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
            errors.push(self.invalid("conditions", why));
        }
        errors
    }
}

/// The first index that is in both texts; intervals that make no sense are passed over.
fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let intervals = |text: &str| -> Vec<(i64, i64)> {
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts
            .filter_map(|part| interval_of(part, completions).ok())
            .collect()
    };
    let failed = intervals(failed);
    intervals(completed).into_iter().find_map(|(first, last)| {
        let met = failed.iter().find(|(a, b)| first <= *b && *a <= last);
        met.map(|(a, _)| first.max(*a))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;
    use serde_json::json;

    #[test]
    fn a_job_ends_once_and_properly() {
        let true_ = |type_: &str| json!({"type": type_, "status": "True"});
        let running = json!({"active": 1, "startTime": "2001-09-09T01:46:40Z"});
        let done = json!({"startTime": "2001-09-09T01:46:40Z", "completionTime": "2001-09-09T01:46:50Z",
            "conditions": [true_("SuccessCriteriaMet"), true_("Complete")]});
        let cases: [(&Value, Value, &[&str]); 5] = [
            (&running, done.clone(), &[]),
            (&done, done.clone(), &[]),
            (
                &done,
                running.clone(),
                &[
                    "status.conditions: Invalid value: null: cannot disable the terminal Complete=True condition",
                    "status.conditions: Invalid value: null: cannot disable the SuccessCriteriaMet=True condition",
                ],
            ),
            (
                &running,
                json!({"active": 1, "ready": 2, "startTime": "2001-09-09T01:46:40Z",
                    "conditions": [true_("FailureTarget"), true_("Failed")]}),
                &[
                    "status.active: Invalid value: 1: active>0 is invalid for finished job",
                    "status.ready: Invalid value: 2: cannot set more ready pods than active",
                ],
            ),
            (
                &running,
                json!({"conditions": [true_("SuccessCriteriaMet"), true_("Complete")]}),
                &[
                    "status.completionTime: Required value: completionTime is required for Complete jobs",
                    "status.startTime: Required value: startTime is required for finished job",
                    "status.startTime: Invalid value: null: field is immutable for unsuspended job once set",
                ],
            ),
        ];
        for (i, (old, new, expected)) in cases.into_iter().enumerate() {
            let errors = validate_status(&json!({"status": new}), &json!({"status": old}));
            assert_eq!(told(&errors), expected, "case {i}");
        }
        assert_eq!(overlap("0,3-5", "1,5", 9), Some(5));
        assert_eq!(overlap("0,3-5", "1,6-7", 9), None);
    }
}
