//! What validating one value found, before it becomes field errors.

use serde_json::Value;
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};

use crate::go;

/// The faults of a value, and how many checks it was put to: of several alternatives that all fail, the one that
/// came furthest is reported.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) faults: Vec<Fault>,
    pub(super) checks: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// Where, relative to the validated value; empty for what has no place of its own.
    name: String,
    /// The fault in words, which also tells whether two faults are the same.
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Required,
    Enum { value: Value, allowed: Vec<Value> },
    TooLong { most: u64 },
    TooMany { actual: usize, most: u64 },
    Type { value: Value },
    Invalid { value: Value },
}

impl Outcome {
    pub(super) fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.checks += other.checks;
        other.faults.into_iter().for_each(|fault| self.add(fault));
    }

    pub(super) fn add(&mut self, fault: Fault) {
        if !self.faults.iter().any(|known| known.text == fault.text) {
            self.faults.push(fault);
        }
    }
}

impl Fault {
    pub(super) fn required(name: String) -> Self {
        Self {
            text: format!("{name} in body is required"),
            name,
            kind: Kind::Required,
        }
    }

    pub(super) fn wrong_type(name: &str, expected: &str, found: &str) -> Self {
        Self {
            name: name.to_owned(),
            text: format!("{name} in body must be of type {expected}: {found:?}"),
            kind: Kind::Type { value: found.into() },
        }
    }

    pub(super) fn not_in_enum(name: &str, value: &Value, allowed: &[Value]) -> Self {
        let listed: Vec<_> = allowed.iter().map(go::plain).collect();
        Self {
            name: name.to_owned(),
            text: format!("{name} in body should be one of [{}]", listed.join(" ")),
            kind: Kind::Enum {
                value: value.clone(),
                allowed: allowed.to_vec(),
            },
        }
    }

    pub(super) fn too_long(name: &str, most: u64) -> Self {
        Self {
            name: name.to_owned(),
            text: format!("{name} in body should be at most {most} chars long"),
            kind: Kind::TooLong { most },
        }
    }

    /// `what` is `items` or `properties`.
    pub(super) fn too_many(name: &str, what: &str, actual: usize, most: u64) -> Self {
        Self {
            name: name.to_owned(),
            text: format!("{name} in body should have at most {most} {what}"),
            kind: Kind::TooMany { actual, most },
        }
    }

    /// `name in body text`, of that value.
    pub(super) fn invalid(name: &str, value: impl Into<Value>, text: &str) -> Self {
        Self::stated(name, value, format!("{name} in body {text}"))
    }

    /// `text`, of that value.
    pub(super) fn stated(name: &str, value: impl Into<Value>, text: String) -> Self {
        Self {
            name: name.to_owned(),
            text,
            kind: Kind::Invalid { value: value.into() },
        }
    }

    /// A fault that is reported for the validated value as a whole, wherever it is.
    pub(super) fn general(text: String) -> Self {
        Self {
            name: String::new(),
            text,
            kind: Kind::Invalid { value: "".into() },
        }
    }

    pub(super) fn into_error(self, path: &FieldPath) -> FieldError {
        let name = self.name.strip_prefix('.').unwrap_or(&self.name);
        let path = if name.is_empty() {
            path.clone()
        } else {
            path.child(name)
        };
        match self.kind {
            Kind::Required => FieldError::required(&path, ""),
            Kind::Enum { value, allowed } => {
                let allowed: Vec<_> = allowed
                    .iter()
                    .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                    .collect();
                FieldError::not_supported(&path, printed(value), &allowed)
            }
            Kind::TooLong { most } => {
                FieldError::too_long(&path, usize::try_from(most).unwrap_or(usize::MAX))
            }
            Kind::TooMany { actual, most } => {
                FieldError::too_many(&path, actual, usize::try_from(most).unwrap_or(usize::MAX))
            }
            Kind::Type { value } => FieldError::type_invalid(&path, value, self.text),
            Kind::Invalid { value } => FieldError::invalid(&path, printed(value), self.text),
        }
    }
}

/// A value as errors print it: Go prints whole floats without a fraction.
pub(super) fn printed(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(printed).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, printed(value)))
            .collect(),
        #[allow(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        Value::Number(number) => match number.as_f64() {
            Some(n) if number.is_f64() && n.fract() == 0.0 && n.abs() < 9e15 => Value::from(n as i64),
            _ => Value::Number(number),
        },
        other => other,
    }
}
