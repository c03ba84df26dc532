//! Events, in both groups that serve them: core, where little is asked of them, and events.k8s.io.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use crate::schema_ref::SchemaRef;
use crate::strategies::checks::{immutable, int, invalid_for, is_empty, text};
use crate::strategies::fill::{fill_object, fill_zeros};
use crate::strategy::{RequestContext, Strategy};

/// How long an event is kept after it was last written; kube-apiserver's `--event-ttl`.
const TTL_SECONDS: u64 = 3600;

/// The longest of the short texts, and of the message, in bytes.
const SHORT: usize = 128;
const LONG: usize = 1024;

/// The strategy of events.
#[derive(Clone, Debug)]
pub(in crate::strategies) struct Event {
    schema: SchemaRef,
    /// Whether the events are those of events.k8s.io.
    strict: bool,
}

/// A field by its name in errors, and its names in core and in events.k8s.io.
const FIELDS: [(&str, &str, &str); 15] = [
    ("involvedObject", "involvedObject", "regarding"),
    ("reason", "reason", "reason"),
    ("message", "message", "note"),
    ("source", "source", "deprecatedSource"),
    ("firstTimestamp", "firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "count", "deprecatedCount"),
    ("type", "type", "type"),
    ("eventTime", "eventTime", "eventTime"),
    ("action", "action", "action"),
    ("related", "related", "related"),
    ("reportingController", "reportingComponent", "reportingController"),
    ("reportingInstance", "reportingInstance", "reportingInstance"),
    ("series", "series", "series"),
    ("metadata", "metadata", "metadata"),
];

/// The fields by which events of core are selected, and those of events.k8s.io.
const SELECTABLE: [&str; 11] = [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
const SELECTABLE_STRICT: [&str; 10] = [
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

impl Event {
    /// The events of a group.
    pub(in crate::strategies) fn of(group: &str, schema: SchemaRef) -> Self {
        let strict = !group.is_empty();
        Self { schema, strict }
    }

    fn field<'e>(&self, event: &'e Value, name: &str) -> &'e Value {
        let names = FIELDS.iter().find(|(known, ..)| *known == name);
        match names {
            Some((_, _, strict)) if self.strict => &event[*strict],
            Some((_, core, _)) => &event[*core],
            None => &Value::Null,
        }
    }

    /// What is asked of all events.
    fn validate(&self, event: &Value) -> Vec<FieldError> {
        let field = |name: &str| text(self.field(event, name));
        let namespace = text(&event["metadata"]["namespace"]);
        let about = text(&self.field(event, "involvedObject")["namespace"]);
        let timed = !self.field(event, "eventTime").is_null();
        let agrees = match (timed, about.is_empty()) {
            (false, true) => matches!(namespace, "" | "default"),
            (false, false) => namespace == about,
            (true, true) => matches!(namespace, "default" | "kube-system"),
            (true, false) => true,
        };
        let mut errors = Vec::new();
        if !agrees {
            let at = FieldPath::new("involvedObject").child("namespace");
            errors.push(FieldError::invalid(&at, about, "does not match event.namespace"));
        }
        if timed {
            let controller = field("reportingController");
            let name = if self.strict {
                "reportingController"
            } else {
                "reportingComponent"
            };
            let at = FieldPath::new(name);
            if controller.is_empty() {
                errors.push(FieldError::required(&at, ""));
            }
            errors.extend(invalid_for(
                names::qualified_name(controller),
                &controller.into(),
                &at,
            ));
            for (name, longest) in [("reportingInstance", SHORT), ("action", SHORT), ("reason", SHORT)] {
                if field(name).is_empty() {
                    errors.push(FieldError::required(&FieldPath::new(name), ""));
                }
                errors.extend(too_long(name, field(name), longest));
            }
            errors.extend(too_long("message", field("message"), LONG));
        }
        let wrong = names::dns1123_subdomain(namespace);
        errors.extend(invalid_for(
            wrong,
            &namespace.into(),
            &FieldPath::new("namespace"),
        ));
        errors
    }

    fn series(&self, event: &Value) -> Vec<FieldError> {
        let series = self.field(event, "series");
        let mut errors = Vec::new();
        if series.is_object() && int(&series["count"]) < 2 {
            let why = "should be at least 2";
            errors.push(FieldError::invalid(&FieldPath::new("series.count"), "", why));
        }
        if series.is_object() && series["lastObservedTime"].is_null() {
            errors.push(FieldError::required(
                &FieldPath::new("series.lastObservedTime"),
                "",
            ));
        }
        errors
    }
}

fn too_long(name: &str, value: &str, longest: usize) -> Option<FieldError> {
    let why = format!("can have at most {longest} characters");
    (value.len() > longest).then(|| FieldError::invalid(&FieldPath::new(name), "", why))
}

impl Strategy for Event {
    fn default(&self, event: &mut Value) {
        fill_zeros(&self.schema, event);
    }

    fn prepare_create(&self, _: &RequestContext, event: &mut Value) {
        fill_object(&self.schema, event);
    }

    fn prepare_update(&self, _: &RequestContext, new: &mut Value, _: &Value) {
        fill_object(&self.schema, new);
    }

    fn validate_create(&self, _: &RequestContext, event: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(event);
        if !self.strict {
            return errors;
        }
        errors.extend(self.series(event));
        if self.field(event, "eventTime").is_null() {
            errors.push(FieldError::required(&FieldPath::new("eventTime"), ""));
        }
        let kind = text(self.field(event, "type"));
        if !matches!(kind, "Normal" | "Warning") {
            let why = format!("has invalid value: {kind}");
            errors.push(FieldError::invalid(&FieldPath::new("type"), "", why));
        }
        for name in ["firstTimestamp", "lastTimestamp", "count", "source"] {
            let value = self.field(event, name);
            if !is_empty(value) && *value != 0 {
                errors.push(FieldError::invalid(
                    &FieldPath::new(name),
                    "",
                    "needs to be unset",
                ));
            }
        }
        errors
    }

    fn validate_update(&self, _: &RequestContext, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        if !self.strict {
            return errors;
        }
        if new["series"] != old["series"] {
            errors.extend(self.series(new));
        }
        // As in Kubernetes, the reason is looked at twice.
        let fixed = [
            "involvedObject",
            "reason",
            "message",
            "source",
            "firstTimestamp",
            "lastTimestamp",
            "count",
            "reason",
            "type",
            "eventTime",
            "action",
            "related",
            "reportingController",
            "reportingInstance",
        ];
        for name in fixed {
            let (new, old) = (self.field(new, name), self.field(old, name));
            // Texts that are not there are empty in Go.
            let none = Value::from("");
            let new = if new.is_null() && old.is_string() {
                &none
            } else {
                new
            };
            errors.extend(immutable(new, old, &FieldPath::new(name)));
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        let name = if prefix { name.trim_end_matches('-') } else { name };
        if self.strict {
            names::dns1123_subdomain(name)
        } else {
            names::path_segment(name)
        }
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn selectable(&self, event: &Value, field: &str) -> Option<String> {
        if !self.selectable_fields().contains(&field) {
            return None;
        }
        let found = match field.split_once('.') {
            Some((_, part)) => &self.field(event, "involvedObject")[part],
            None if field == "source" && !is_empty(&event["source"]["component"]) => {
                &event["source"]["component"]
            }
            None if matches!(field, "source" | "reportingComponent") => {
                self.field(event, "reportingController")
            }
            None => self.field(event, field),
        };
        Some(text(found).to_owned())
    }

    fn selectable_fields(&self) -> &[&str] {
        if self.strict {
            &SELECTABLE_STRICT
        } else {
            &SELECTABLE
        }
    }

    fn ttl_seconds(&self, _: &Value) -> Option<u64> {
        Some(TTL_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::strategies::checks::tests::told;

    fn events(group: &str) -> Event {
        let mut all = crate::builtin::all().into_iter();
        let found = all.find(|r| r.group == group && r.kind == "Event").unwrap();
        Event::of(group, found.schema.clone())
    }

    fn context() -> RequestContext {
        RequestContext {
            now: "2024-01-01T00:00:00Z".to_owned(),
            namespace: "n".to_owned(),
            subresource: String::new(),
            user: String::new(),
            requester: Value::Null,
        }
    }

    #[test]
    fn more_is_asked_of_events_of_the_newer_group() {
        let cases: [(&str, Value, &[&str]); 4] = [
            ("", json!({"involvedObject": {"namespace": "n"}}), &[]),
            (
                "",
                json!({"involvedObject": {"namespace": "other"}}),
                &["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"],
            ),
            (
                "events.k8s.io",
                json!({"regarding": {"namespace": "n"}, "deprecatedCount": 1}),
                &[
                    "eventTime: Required value",
                    "type: Invalid value: \"\": has invalid value: ",
                    "count: Invalid value: \"\": needs to be unset",
                ],
            ),
            (
                "events.k8s.io",
                json!({"regarding": {"namespace": "n"}, "eventTime": "2024-01-01T00:00:00.000000Z", "type": "Normal",
                    "reportingController": "c", "reportingInstance": "i", "action": "a", "series": {"count": 1}}),
                &[
                    "reason: Required value",
                    "series.count: Invalid value: \"\": should be at least 2",
                    "series.lastObservedTime: Required value",
                ],
            ),
        ];
        for (group, mut event, expected) in cases {
            event["metadata"] = json!({"name": "e", "namespace": "n"});
            assert_eq!(
                told(&events(group).validate_create(&context(), &event)),
                expected,
                "{event}"
            );
        }
        let event = json!({"reportingComponent": "c", "involvedObject": {"name": "p"}});
        for (field, expected) in [("source", "c"), ("involvedObject.name", "p"), ("reason", "")] {
            assert_eq!(
                events("").selectable(&event, field).as_deref(),
                Some(expected),
                "{field}"
            );
        }
        assert_eq!(events("").selectable(&event, "message"), None);
    }
}
