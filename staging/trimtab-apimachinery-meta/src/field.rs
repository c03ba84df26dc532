//! Field paths and field errors: what validation says, worded as `k8s.io/apimachinery/.../field` words it.
//!
//! Validation collects [`FieldError`]s; [`crate::ApiError::invalid`] turns them into the 422 that clients see,
//! with one cause per error.

use std::fmt;

use serde_json::Value;

/// A path to a field, as `spec.containers[0].name` or `metadata.labels[a.b/c]`.
///
/// Paths are built from the root down and are cheap to extend: each step copies the text so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(String);

impl FieldPath {
    /// The empty path, which displays as `<nil>` as Kubernetes' does.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path of one step; `name` may itself hold dots.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The field `name` of this object; dots in `name` are further steps.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            return Self(name.to_owned());
        }
        self.and(&[".", name])
    }

    /// Element `index` of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        const DIGITS: &str = "0123456789";
        match DIGITS.get(index..=index) {
            Some(digit) => self.and(&["[", digit, "]"]),
            None => self.and(&["[", &index.to_string(), "]"]),
        }
    }

    /// The value at `key` of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.and(&["[", key, "]"])
    }

    /// Validation makes paths of every field that it looks at, though few are ever shown: this is made to be quick.
    fn and(&self, step: &[&str]) -> Self {
        let length = step.iter().fold(self.0.len(), |sum, part| sum + part.len());
        let mut path = String::with_capacity(length);
        path.push_str(&self.0);
        step.iter().for_each(|part| path.push_str(part));
        Self(path)
    }

    /// The path's text; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

impl From<&str> for FieldPath {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// What is wrong with a field. The [`reason`](Self::reason) is the cause's machine-readable reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FieldErrorKind {
    /// Something that the field refers to does not exist.
    NotFound,
    /// A required value is missing.
    Required,
    /// A value that must be unique is there twice.
    Duplicate,
    /// The value is not acceptable in form or content.
    Invalid,
    /// The value is not one of the accepted ones.
    NotSupported,
    /// The value is valid, but not allowed here.
    Forbidden,
    /// The value is longer than allowed.
    TooLong,
    /// The list or map has more entries than allowed.
    TooMany,
    /// Something went wrong inside the server.
    Internal,
    /// The value is of the wrong JSON type.
    TypeInvalid,
}

impl FieldErrorKind {
    /// The reason that a cause carries, as `FieldValueInvalid`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// Where.
    pub field: FieldPath,
    /// The offending value; printed by the kinds that print one.
    pub value: Value,
    /// What would be right, in words.
    pub detail: String,
    /// What is printed in the place of the value; nothing at all if this is empty.
    shown: Option<String>,
}

impl FieldError {
    fn new(kind: FieldErrorKind, field: &FieldPath, value: Value, detail: impl Into<String>) -> Self {
        Self {
            kind,
            field: field.clone(),
            value,
            detail: detail.into(),
            shown: None,
        }
    }

    /// The same error, which does not print its value: `field: Invalid value: detail`.
    #[must_use]
    pub fn without_value(mut self) -> Self {
        self.shown = Some(String::new());
        self
    }

    /// The same error, which prints this JSON as its value: fields in another order than the alphabet's, say.
    #[must_use]
    pub fn shown_as(mut self, json: String) -> Self {
        self.shown = Some(json);
        self
    }

    /// `field: Not found: value`.
    pub fn not_found(field: &FieldPath, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorKind::NotFound, field, value.into(), "")
    }

    /// `field: Required value: detail`.
    pub fn required(field: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(
            FieldErrorKind::Required,
            field,
            Value::String(String::new()),
            detail,
        )
    }

    /// `field: Duplicate value: value`.
    pub fn duplicate(field: &FieldPath, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorKind::Duplicate, field, value.into(), "")
    }

    /// `field: Invalid value: value: detail`.
    pub fn invalid(field: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Invalid, field, value.into(), detail)
    }

    /// `field: Unsupported value: value: supported values: "a", "b"`.
    pub fn not_supported<S: AsRef<str>>(field: &FieldPath, value: impl Into<Value>, supported: &[S]) -> Self {
        let mut detail = String::new();
        if !supported.is_empty() {
            let quoted: Vec<String> = supported.iter().map(|s| format!("{:?}", s.as_ref())).collect();
            detail = format!("supported values: {}", quoted.join(", "));
        }
        Self::new(FieldErrorKind::NotSupported, field, value.into(), detail)
    }

    /// `field: Forbidden: detail`.
    pub fn forbidden(field: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(
            FieldErrorKind::Forbidden,
            field,
            Value::String(String::new()),
            detail,
        )
    }

    /// `field: Too long: may not be more than max bytes`.
    pub fn too_long(field: &FieldPath, max: usize) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self::new(
            FieldErrorKind::TooLong,
            field,
            Value::Null,
            format!("may not be more than {max} {unit}"),
        )
    }

    /// `field: Too many: actual: must have at most max items`.
    pub fn too_many(field: &FieldPath, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(
            FieldErrorKind::TooMany,
            field,
            actual.into(),
            format!("must have at most {max} {unit}"),
        )
    }

    /// `field: Internal error: detail`.
    pub fn internal(field: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Internal, field, Value::Null, detail)
    }

    /// `field: Invalid value: value: detail`, with the reason that says that the JSON type is wrong.
    pub fn type_invalid(field: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::TypeInvalid, field, value.into(), detail)
    }

    /// The message without the field: what a cause carries.
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        let prints_value = !matches!(
            self.kind,
            FieldErrorKind::Required
                | FieldErrorKind::Forbidden
                | FieldErrorKind::TooLong
                | FieldErrorKind::Internal
        );
        if prints_value && self.shown.as_deref() != Some("") {
            text.push_str(": ");
            match (&self.shown, &self.value) {
                (Some(shown), _) => text.push_str(shown),
                (None, Value::Null) => text.push_str("null"),
                (None, Value::String(s)) => text.push_str(&quote(s)),
                (None, other) => text.push_str(&other.to_string()),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

/// Quotes as Go's `%q` does for what is printable; other characters are escaped.
fn quote(text: &str) -> String {
    format!("{text:?}")
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for FieldError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_elements_by_number_and_by_key() {
        let list = FieldPath::new("spec").child("list");
        let cases = [
            (list.index(0), "spec.list[0]"),
            (list.index(9), "spec.list[9]"),
            (list.index(10), "spec.list[10]"),
            (list.index(1234).child("a.b"), "spec.list[1234].a.b"),
            (list.key("x/y"), "spec.list[x/y]"),
            (FieldPath::root().child("spec"), "spec"),
            (FieldPath::root().index(3), "[3]"),
        ];
        for (path, text) in cases {
            assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn errors_read_as_kubernetes_writes_them() {
        let at = FieldPath::new("spec").child("containers").index(0).child("name");
        let cases = [
            (
                FieldError::required(&at, ""),
                "spec.containers[0].name: Required value",
            ),
            (
                FieldError::invalid(&at, "A", "must be lower case"),
                "spec.containers[0].name: Invalid value: \"A\": must be lower case",
            ),
            (
                FieldError::invalid(&at, "A", "must be lower case").without_value(),
                "spec.containers[0].name: Invalid value: must be lower case",
            ),
            (
                FieldError::not_supported(&at, "x", &["a", "b"]),
                "spec.containers[0].name: Unsupported value: \"x\": supported values: \"a\", \"b\"",
            ),
            (
                FieldError::forbidden(&at, "no"),
                "spec.containers[0].name: Forbidden: no",
            ),
            (
                FieldError::duplicate(&at, 3),
                "spec.containers[0].name: Duplicate value: 3",
            ),
            (
                FieldError::too_long(&at, 63),
                "spec.containers[0].name: Too long: may not be more than 63 bytes",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }
}
