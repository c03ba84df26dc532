//! What is wrong with one version of a definition: its schema, subresources, columns and selectable fields.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use super::schema;
use super::validate::{Shared, any_status, internal};
use super::view::{flag, items, text};

/// How many fields of a version may be selected by.
const SELECTABLE_MAX: usize = 8;
/// The types that a printer column may have.
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
/// The formats that a printer column may have.
const COLUMN_FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
/// What may be said at the root of a schema whose status is validated apart.
const AT_ROOT: [&str; 22] = [
    "Description",
    "Type",
    "Format",
    "Title",
    "Maximum",
    "ExclusiveMaximum",
    "Minimum",
    "ExclusiveMinimum",
    "MaxLength",
    "MinLength",
    "Pattern",
    "MaxItems",
    "MinItems",
    "UniqueItems",
    "MultipleOf",
    "Required",
    "Items",
    "Properties",
    "ExternalDocs",
    "Example",
    "XPreserveUnknownFields",
    "XValidations",
];

/// What is wrong with a version's own part; `old` is the same version before an update.
pub(super) fn own(version: &Value, old: Option<&Value>, shared: Shared, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = deprecation(version, at);
    let subresources = &version["subresources"];
    if !shared.schema {
        let status = !subresources["status"].is_null();
        errors.extend(validation(&version["schema"], old, status, &at.child("schema")));
    }
    if !shared.subresources {
        errors.extend(of_subresources(subresources, &at.child("subresources")));
    }
    if !shared.columns {
        errors.extend(of_columns(version, at));
    }
    if !shared.selectable {
        errors.extend(of_selectable(version, at));
    }
    errors
}

/// What is wrong with what all versions share; `first` is one of them.
pub(super) fn shared(
    spec: &Value,
    first: &Value,
    old: Option<&Value>,
    shared: Shared,
    at: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if shared.schema {
        let status = any_status(spec);
        errors.extend(validation(&first["schema"], old, status, &at.child("validation")));
    }
    if shared.subresources {
        errors.extend(of_subresources(&first["subresources"], &at.child("subresources")));
    }
    if shared.columns {
        errors.extend(of_columns(first, at));
    }
    if shared.selectable {
        errors.extend(of_selectable(first, at));
    }
    errors
}

fn deprecation(version: &Value, at: &FieldPath) -> Vec<FieldError> {
    let Some(warning) = version["deprecationWarning"].as_str() else {
        return Vec::new();
    };
    let at = at.child("deprecationWarning");
    let invalid = |why: String| FieldError::invalid(&at, warning, why);
    if !flag(version, "deprecated") {
        return vec![invalid("can only be set for deprecated versions".to_owned())];
    }
    let mut errors = Vec::new();
    if warning.len() > 256 {
        errors.push(invalid("must be <= 256 characters long".to_owned()));
    }
    if warning.is_empty() {
        errors.push(invalid("must not be an empty string".to_owned()));
    }
    // The only space that counts as printable is the plain one.
    let odd = |c: char| c.is_control() || (c.is_whitespace() && c != ' ');
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| odd(*c)) {
        let why = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {i}"
        );
        errors.push(invalid(why));
    }
    errors
}

fn validation(of: &Value, old: Option<&Value>, status: bool, at: &FieldPath) -> Vec<FieldError> {
    let Some(schema) = of.get("openAPIV3Schema").filter(|s| !s.is_null()) else {
        return Vec::new();
    };
    let at = at.child("openAPIV3Schema");
    let mut errors = Vec::new();
    if status {
        errors.extend(root_with_status(schema, &at));
    }
    // What has been accepted once stays accepted while nobody changes it.
    let unchanged = old.is_some_and(|old| old["schema"]["openAPIV3Schema"] == *schema);
    if !unchanged {
        errors.extend(schema::check(schema, &at));
    }
    errors
}

/// The status is validated by `properties.status` alone, so nothing outside of `properties` may be about it.
fn root_with_status(schema: &Value, at: &FieldPath) -> Option<FieldError> {
    for (key, value) in schema.as_object().into_iter().flatten() {
        let nothing = match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if nothing {
            continue;
        }
        if key == "type" {
            if value != "object" {
                let why = "only \"object\" is allowed as the type at the root of the schema if the status \
                    subresource is enabled";
                return Some(FieldError::invalid(&at.child("type"), value.clone(), why));
            }
        } else if !AT_ROOT.contains(&internal_name(key).as_str()) {
            let why = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                AT_ROOT.join(" ")
            );
            return Some(FieldError::invalid(at, internal(schema), why));
        }
    }
    None
}

/// The name of a schema's field in the server's own types: `x-kubernetes-validations` is `XValidations`.
fn internal_name(key: &str) -> String {
    let key = key.trim_start_matches('$');
    let (extension, rest) = match key.strip_prefix("x-kubernetes-") {
        Some(rest) => ("X", rest),
        None => ("", key),
    };
    let words = rest.split('-').map(|word| {
        let mut chars = word.chars();
        chars
            .next()
            .map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
    });
    extension
        .chars()
        .chain(words.collect::<String>().chars())
        .collect()
}

fn of_subresources(of: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let scale = &of["scale"];
    if scale.is_null() {
        return errors;
    }
    let paths = [
        (
            "specReplicasPath",
            &[".spec."][..],
            "should be a json path under .spec",
        ),
        (
            "statusReplicasPath",
            &[".status."][..],
            "should be a json path under .status",
        ),
        (
            "labelSelectorPath",
            &[".spec.", ".status."][..],
            "should be a json path under either .spec or .status",
        ),
    ];
    for (field, below, why) in paths {
        let (path, at) = (text(scale, field), at.child("scale").child(field));
        match simple_path(path, &at) {
            _ if path.is_empty() && field == "labelSelectorPath" => {}
            _ if path.is_empty() => errors.push(FieldError::required(&at, "")),
            Some(error) => errors.push(error),
            None if below.iter().any(|prefix| path.starts_with(prefix)) => {}
            None => errors.push(FieldError::invalid(&at, path, why)),
        }
    }
    errors
}

fn simple_path(path: &str, at: &FieldPath) -> Option<FieldError> {
    (!path.starts_with('.'))
        .then(|| FieldError::invalid(at, path, "must be a simple json path starting with ."))
}

fn of_columns(version: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, column) in items(version, "additionalPrinterColumns").enumerate() {
        let at = at.child("additionalPrinterColumns").index(i);
        if text(column, "name").is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        }
        let (type_, format, path) = (
            text(column, "type"),
            text(column, "format"),
            text(column, "jsonPath"),
        );
        let types = format!("must be one of {}", COLUMN_TYPES.join(","));
        if type_.is_empty() {
            errors.push(FieldError::required(&at.child("type"), types));
        } else if !COLUMN_TYPES.contains(&type_) {
            errors.push(FieldError::invalid(&at.child("type"), type_, types));
        }
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let formats = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.push(FieldError::invalid(&at.child("format"), format, formats));
        }
        if path.is_empty() {
            errors.push(FieldError::required(&at.child("JSONPath"), ""));
        } else {
            errors.extend(simple_path(path, &at.child("JSONPath")));
        }
    }
    errors
}

fn of_selectable(version: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut known: Vec<&str> = Vec::new();
    let schema = &version["schema"]["openAPIV3Schema"];
    if schema.is_null() && items(version, "selectableFields").next().is_some() {
        let why = "may only be set when validations.schema is included";
        return vec![FieldError::invalid(&at.child("selectableFields"), "", why)];
    }
    for (i, selectable) in items(version, "selectableFields").enumerate() {
        let at = at.child("selectableFields").index(i).child("jsonPath");
        let path = text(selectable, "jsonPath");
        if path.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        if !path.starts_with(['.', '[']) {
            let why = format!("is an invalid path: expected [ or . but got: {path}");
            errors.push(FieldError::invalid(&at, path, why));
            continue;
        }
        let Some(found) = field_schema(schema, path) else {
            let why = "is an invalid path: does not refer to a valid field";
            errors.push(FieldError::invalid(&at, path, why));
            continue;
        };
        if path.starts_with(".metadata.") {
            errors.push(FieldError::invalid(
                &at,
                path,
                "must not point to fields in metadata",
            ));
        }
        if !["string", "boolean", "integer"].contains(&text(found, "type")) {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                formats are allowed.";
            errors.push(FieldError::invalid(&at, path, why));
        }
        if known.contains(&path) {
            errors.push(FieldError::duplicate(&at, path));
        } else {
            known.push(path);
        }
    }
    if known.len() > SELECTABLE_MAX {
        errors.push(FieldError::too_many(
            &at.child("selectableFields"),
            known.len(),
            SELECTABLE_MAX,
        ));
    }
    errors
}

/// The schema of the field that a path of names leads to.
fn field_schema<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.strip_prefix('.')?
        .split('.')
        .try_fold(schema, |schema, name| schema["properties"].get(name))
}
