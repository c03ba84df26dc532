//! Conditions: independent observations of an object, set by the rules that all of Kubernetes keeps.
//!
//! - *One of a type*: a list has at most one condition of each type.
//! - *Order kept*: a condition stays where it is in the list while it is changed, and a new one comes last, so that
//!   the same observations give the same list, and no write.
//! - *Transition*: `lastTransitionTime` tells when the *status* last changed. Reason, message and observed generation
//!   change in place.
//! - *Foreign untouched*: [`merge`] changes conditions of one's own types only.
//!
//! A list that was read with two conditions of one type keeps them; the first one counts.
//!
//! [`Summary`] makes one condition of several, and [`validate`] says what an API server would refuse.

mod summary;
mod validate;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub use summary::Summary;
pub use validate::{MESSAGE_MAX, REASON_MAX, validate};

/// The condition holds.
pub const TRUE: &str = "True";
/// The condition does not hold.
pub const FALSE: &str = "False";
/// It is not known whether the condition holds.
pub const UNKNOWN: &str = "Unknown";

/// Conditions that cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConditionError {
    /// A condition to be merged is of a type that was not claimed. Claim it, unless it is another writer's.
    #[error("condition {type_:?} is not among one's own: {}", .own.join(", "))]
    Foreign {
        /// The condition's type.
        type_: String,
        /// The types that were claimed.
        own: Vec<String>,
    },
}

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
/// `new`'s. Everything else is `new`'s, the observed generation included, as in Go's `SetStatusCondition`.
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

/// Sets several conditions and says whether anything changed. Of two with the same type the later one counts, and the
/// earlier one leaves no trace.
pub fn set_all(conditions: &mut Vec<Condition>, new: impl IntoIterator<Item = Condition>) -> bool {
    let mut latest: Vec<Condition> = Vec::new();
    for condition in new {
        match latest.iter_mut().find(|c| c.type_ == condition.type_) {
            Some(earlier) => *earlier = condition,
            None => latest.push(condition),
        }
    }
    let mut changed = false;
    for condition in latest {
        changed |= set(conditions, condition);
    }
    changed
}

/// Makes the conditions of one's `own` types what is `wished`, and says whether anything changed: those that are wished are
/// set as by [`set_all`], the others of these types removed. Conditions of other types are other writers' and stay as they
/// are, where they are.
///
/// So a status can be computed from a state that was read, and merged into the one that is there by the time that it
/// is written.
///
/// # Errors
/// [`ConditionError::Foreign`] if a wished condition is of another type; the list is then as it was.
pub fn merge(
    conditions: &mut Vec<Condition>,
    own: &[&str],
    wished: impl IntoIterator<Item = Condition>,
) -> Result<bool, ConditionError> {
    let wished: Vec<Condition> = wished.into_iter().collect();
    if let Some(foreign) = wished.iter().find(|c| !own.contains(&c.type_.as_str())) {
        return Err(ConditionError::Foreign {
            type_: foreign.type_.clone(),
            own: own.iter().map(|&type_| type_.to_owned()).collect(),
        });
    }
    let before = conditions.len();
    conditions.retain(|c| !own.contains(&c.type_.as_str()) || find(&wished, &c.type_).is_some());
    let removed = conditions.len() != before;
    Ok(set_all(conditions, wished) || removed)
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
pub fn is_present_and_equal(conditions: &[Condition], type_: &str, status: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == status)
}

/// Whether the condition is there and holds.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    is_present_and_equal(conditions, type_, TRUE)
}

/// Whether the condition is there and does not hold.
pub fn is_false(conditions: &[Condition], type_: &str) -> bool {
    is_present_and_equal(conditions, type_, FALSE)
}

/// Whether the condition is about the spec that the object has now; `generation` is the object's. A reader who has just
/// changed the spec has to ask: until the controller has looked, the old conditions stand.
///
/// A condition without observed generation counts as current, as for `kubectl wait`, since its writer never says. One
/// that observed a *later* generation does not: it comes from another life of the object, as after a restore.
pub fn is_current(condition: &Condition, generation: Option<i64>) -> bool {
    match (condition.observed_generation, generation) {
        (Some(observed), Some(generation)) => observed == generation,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
