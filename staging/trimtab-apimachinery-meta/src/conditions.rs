//! Conditions: independent observations of an object, set by the rules that all of Kubernetes keeps.
//!
//! A condition's `lastTransitionTime` tells when its *status* last changed. Reason, message and observed generation
//! change in place.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The condition holds.
pub const TRUE: &str = "True";
/// The condition does not hold.
pub const FALSE: &str = "False";
/// It is not known whether the condition holds.
pub const UNKNOWN: &str = "Unknown";

/// A condition as of `now`. `status` is [`TRUE`], [`FALSE`] or [`UNKNOWN`]; `reason` is one CamelCase word for
/// machines, `message` is for people. Set `observed_generation` on the result where it is known.
pub fn new(type_: &str, status: &str, reason: &str, message: impl Into<String>, now: Timestamp) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.into(),
        last_transition_time: Time(now),
        observed_generation: None,
    }
}

/// Sets the condition of `new`'s type and says whether anything changed.
///
/// An absent condition is appended. A present one keeps its transition time unless its status changes; then it takes
/// `new`'s.
pub fn set(conditions: &mut Vec<Condition>, new: Condition) -> bool {
    let Some(old) = conditions.iter_mut().find(|c| c.type_ == new.type_) else {
        conditions.push(new);
        return true;
    };
    let last_transition_time = if old.status == new.status {
        old.last_transition_time.clone()
    } else {
        new.last_transition_time.clone()
    };
    let new = Condition {
        last_transition_time,
        ..new
    };
    let changed = *old != new;
    *old = new;
    changed
}

/// Removes the condition of that type and says whether it was there.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|c| c.type_ != type_);
    conditions.len() != before
}

/// The condition of that type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition is there with exactly this status.
pub fn has_status(conditions: &[Condition], type_: &str, status: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == status)
}

/// Whether the condition is there and holds.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    has_status(conditions, type_, TRUE)
}

/// Whether the condition is there and does not hold.
pub fn is_false(conditions: &[Condition], type_: &str) -> bool {
    has_status(conditions, type_, FALSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn only_a_new_status_moves_the_transition_time() {
        let mut list = Vec::new();
        assert!(
            set(&mut list, new("Ready", FALSE, "Starting", "", at(1))),
            "absent: appended"
        );
        assert!(
            !set(&mut list, new("Ready", FALSE, "Starting", "", at(2))),
            "the same: no change"
        );
        assert_eq!(list[0].last_transition_time, Time(at(1)));

        assert!(
            set(&mut list, new("Ready", FALSE, "Waiting", "for a disk", at(3))),
            "reason and message"
        );
        assert_eq!(
            (list[0].reason.as_str(), list[0].last_transition_time.0),
            ("Waiting", at(1))
        );

        let observed = Condition {
            observed_generation: Some(2),
            ..list[0].clone()
        };
        assert!(set(&mut list, observed), "observed generation");
        assert_eq!(list[0].last_transition_time.0, at(1));

        assert!(set(&mut list, new("Ready", TRUE, "Done", "", at(4))), "status");
        assert_eq!(list[0].last_transition_time.0, at(4));
        assert_eq!(
            list[0].observed_generation, None,
            "all fields are those of the new condition"
        );
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn conditions_are_found_by_type() {
        let mut list = vec![new("A", TRUE, "R", "", at(1)), new("B", UNKNOWN, "R", "", at(1))];
        assert!(is_true(&list, "A") && !is_false(&list, "A"));
        assert!(!is_true(&list, "B") && !is_false(&list, "B") && has_status(&list, "B", UNKNOWN));
        assert!(!is_true(&list, "C") && find(&list, "C").is_none());
        assert!(remove(&mut list, "A") && !remove(&mut list, "A"));
    }
}
