//! Kinds that are served in two forms and stored in one: what is written in one is read in the other.
//!
//! Events are stored as core/v1 has them; events.k8s.io/v1 has other names for the same fields. Autoscalers are stored as
//! autoscaling/v2 has them; v1 has annotations for most of it.

use serde_json::{Map, Value};
use trimtab_apimachinery_meta::GroupVersionKind;

use crate::strategies::autoscaling::v1;

/// Between the form that is served and the form that is stored. A list of managed fields stays as it is: each entry says
/// itself in which version its fields are named.
#[derive(Clone, Copy, Debug)]
pub struct Conversion {
    /// The stored form of a served object, `apiVersion` included.
    pub to_stored: fn(&Value) -> Value,
    /// The served form of a stored object; the caller sets `apiVersion`.
    pub from_stored: fn(Value) -> Value,
}

/// Fields of events: their names in core/v1 and in events.k8s.io/v1.
const EVENT: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Texts of events that are always there in core/v1.
const EMPTY: [&str; 2] = ["reportingController", "reportingInstance"];

/// The conversion of a built-in kind; `None` for those that are stored as they are served.
pub(crate) fn of(gvk: &GroupVersionKind) -> Option<Conversion> {
    if gvk.group == "autoscaling" && gvk.version == "v1" && gvk.kind == "HorizontalPodAutoscaler" {
        return Some(Conversion {
            to_stored: v1::to_v2,
            from_stored: v1::from_v2,
        });
    }
    (gvk.group == "events.k8s.io").then_some(Conversion {
        to_stored: |event| {
            let mut stored = renamed(event.clone(), |name| {
                EVENT
                    .iter()
                    .find(|(_, served)| *served == name)
                    .map(|(stored, _)| *stored)
            });
            stored["apiVersion"] = Value::from("v1");
            stored
        },
        from_stored: |event| {
            let mut served = renamed(event, |name| {
                EVENT
                    .iter()
                    .find(|(stored, _)| *stored == name)
                    .map(|(_, served)| *served)
            });
            if let Some(fields) = served.as_object_mut() {
                // Core writes these even when they are empty, events.k8s.io does not.
                fields.retain(|name, value| !(EMPTY.contains(&name.as_str()) && value == ""));
            }
            served
        },
    })
}

/// An object with some of its fields under other names.
fn renamed(object: Value, other: impl Fn(&str) -> Option<&'static str>) -> Value {
    let Value::Object(fields) = object else {
        return object;
    };
    let renamed = fields.into_iter().map(|(name, value)| match other(&name) {
        Some(other) => (other.to_owned(), value),
        None => (name, value),
    });
    Value::Object(renamed.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_the_same_in_both_groups() {
        let served = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"},
            "regarding": {"kind": "Pod", "name": "p"}, "note": "text", "reason": "Why", "type": "Normal",
            "deprecatedCount": 2, "deprecatedSource": {"component": "c"}, "reportingController": "r",
            "series": {"count": 3}});
        let conversion =
            of(&GroupVersionKind::gvk("events.k8s.io", "v1", "Event")).expect("events are converted");
        let stored = (conversion.to_stored)(&served);
        assert_eq!(
            stored,
            json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"},
                "involvedObject": {"kind": "Pod", "name": "p"}, "message": "text", "reason": "Why", "type": "Normal",
                "count": 2, "source": {"component": "c"}, "reportingComponent": "r", "series": {"count": 3}})
        );
        let mut back = (conversion.from_stored)(stored);
        back["apiVersion"] = json!("events.k8s.io/v1");
        assert_eq!(back, served);
    }
}
