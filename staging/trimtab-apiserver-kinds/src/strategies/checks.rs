//! Checks that many kinds share, with the words of Kubernetes: counts, percentages, selectors, immutable fields.

use serde_json::{Map, Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, LabelSelector, names};

/// What is said of a negative count.
const NEGATIVE: &str = "must be greater than or equal to 0";

/// A whole number; zero when there is none, as in Go.
pub(super) fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// A text; empty when there is none, as in Go.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The elements of a list; none when it is not there.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether there is nothing: null, or no entries, or no letters.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// The object at a field, made if it is not there.
pub(super) fn object<'o>(parent: &'o mut Value, field: &str) -> &'o mut Value {
    if !parent.is_object() {
        *parent = json!({});
    }
    let child = &mut parent[field];
    if child.is_null() {
        *child = Value::Object(Map::new());
    }
    child
}

/// The elements of a list in a field, to be changed; none when it is not there.
pub(super) fn items_mut<'o>(parent: &'o mut Value, field: &str) -> impl Iterator<Item = &'o mut Value> {
    parent
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// Sets a field that is null or not there.
pub(super) fn default_to(parent: &mut Value, field: &str, value: impl Into<Value>) {
    if parent.is_object() && parent[field].is_null() {
        parent[field] = value.into();
    }
}

/// Sets a text that is empty or not there.
pub(super) fn default_text(parent: &mut Value, field: &str, value: &str) {
    if parent.is_object() && text(&parent[field]).is_empty() && !parent[field].is_number() {
        parent[field] = value.into();
    }
}

/// A number that may not be negative; no number is fine.
pub(super) fn non_negative(value: &Value, at: &FieldPath) -> Vec<FieldError> {
    match value.as_i64() {
        Some(number) if number < 0 => vec![FieldError::invalid(at, number, NEGATIVE)],
        _ => Vec::new(),
    }
}

/// Several numbers of one object that may not be negative.
pub(super) fn all_non_negative(parent: &Value, fields: &[&str], at: &FieldPath) -> Vec<FieldError> {
    fields
        .iter()
        .flat_map(|field| non_negative(&parent[*field], &at.child(field)))
        .collect()
}

/// A field that may not change.
pub(super) fn immutable(new: &Value, old: &Value, at: &FieldPath) -> Vec<FieldError> {
    if new == old {
        Vec::new()
    } else {
        vec![FieldError::invalid(at, new.clone(), "field is immutable")]
    }
}

/// A label selector that may not change.
pub(super) fn immutable_selector(new: &Value, old: &Value, at: &FieldPath) -> Vec<FieldError> {
    let errors = immutable(new, old, at).into_iter();
    errors.map(|error| error.shown_as(selector_json(new))).collect()
}

/// A text that is one of a few.
pub(super) fn one_of(value: &Value, supported: &[&str], at: &FieldPath) -> Vec<FieldError> {
    if supported.contains(&text(value)) {
        Vec::new()
    } else {
        vec![FieldError::not_supported(at, text(value), supported)]
    }
}

/// What each of a check's messages is as an error about a value.
pub(super) fn invalid_for(messages: Vec<String>, value: &Value, at: &FieldPath) -> Vec<FieldError> {
    messages
        .into_iter()
        .map(|message| FieldError::invalid(at, value.clone(), message))
        .collect()
}

/// A domain, a slash and a path, as names of controllers are.
pub(super) fn domain_prefixed_path(name: &str, at: &FieldPath) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    let Some((domain, path)) = name
        .split_once('/')
        .filter(|(d, p)| !d.is_empty() && !p.is_empty())
    else {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return vec![FieldError::invalid(at, name, why)];
    };
    let mut errors = invalid_for(names::dns1123_subdomain(domain), &Value::from(domain), at);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-_.~!$&'()*+,;=:%".contains(c);
    if !path.chars().all(allowed) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.push(FieldError::invalid(at, path, why));
    }
    errors
}

/// Digits and a percent sign.
pub(super) fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(i64::MAX))
}

/// A number, or a text with a percentage, not negative.
pub(super) fn int_or_percent(value: &Value, at: &FieldPath) -> Vec<FieldError> {
    match value {
        Value::String(text) if percent(text).is_none() => {
            let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                       '93%', regex used for validation is '[0-9]+%')";
            vec![FieldError::invalid(at, text.as_str(), why)]
        }
        Value::String(_) => Vec::new(),
        number => non_negative(number, at),
    }
}

/// A percentage of at most 100.
pub(super) fn at_most_100_percent(value: &Value, at: &FieldPath) -> Vec<FieldError> {
    match value.as_str().and_then(percent) {
        Some(more) if more > 100 => {
            vec![FieldError::invalid(
                at,
                value.clone(),
                "must not be greater than 100%",
            )]
        }
        _ => Vec::new(),
    }
}

/// The number of a number, or of a percentage; zero of anything else.
pub(super) fn int_or_percent_value(value: &Value) -> i64 {
    match value {
        Value::String(text) => percent(text).or_else(|| text.parse().ok()).unwrap_or_default(),
        other => int(other),
    }
}

/// The keys and values of labels.
pub(super) fn labels(labels: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        let key = Value::from(key.as_str());
        errors.extend(invalid_for(names::qualified_name(text(&key)), &key, at));
        errors.extend(invalid_for(names::label_value(text(value)), value, at));
    }
    errors
}

/// The parts of a label selector.
pub(super) fn label_selector(selector: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = labels(&selector["matchLabels"], &at.child("matchLabels"));
    for (i, expression) in items(&selector["matchExpressions"]).iter().enumerate() {
        let at = at.child("matchExpressions").index(i);
        errors.extend(requirement(expression, false, &at));
        errors.extend(label_values(expression, &at));
    }
    errors
}

/// The operator of a requirement on labels, how many values that takes, and the label. `bounds` says whether labels can be
/// compared as numbers here.
pub(super) fn requirement(expression: &Value, bounds: bool, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let values = items(&expression["values"]);
    match text(&expression["operator"]) {
        "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
            &at.child("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
            &at.child("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        "Gt" | "Lt" if bounds && values.len() != 1 => errors.push(FieldError::required(
            &at.child("values"),
            "must be specified single value when `operator` is 'Lt' or 'Gt'",
        )),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        "Gt" | "Lt" if bounds => {}
        other => errors.push(FieldError::invalid(
            &at.child("operator"),
            other,
            "not a valid selector operator",
        )),
    }
    let key = text(&expression["key"]);
    errors.extend(invalid_for(
        names::qualified_name(key),
        &key.into(),
        &at.child("key"),
    ));
    errors
}

/// The values of a requirement on labels.
pub(super) fn label_values(expression: &Value, at: &FieldPath) -> Vec<FieldError> {
    let values = items(&expression["values"]).iter().enumerate();
    values
        .flat_map(|(i, value)| {
            let at = at.child("values").index(i);
            invalid_for(names::label_value(text(value)), value, &at)
        })
        .collect()
}

/// Whether a label selector says nothing at all.
pub(super) fn selects_everything(selector: &Value) -> bool {
    is_empty(&selector["matchLabels"]) && is_empty(&selector["matchExpressions"])
}

/// Whether labels match a selector; one that is not there matches nothing. `None` when it makes no sense.
pub(super) fn selects(selector: &Value, labels: &Value) -> Option<bool> {
    if !label_selector(selector, &FieldPath::root()).is_empty() {
        return None;
    }
    let selector = LabelSelector::from_object(selector).ok()?;
    Some(selector.is_some_and(|s| s.matches(labels)))
}

/// A label selector as Go's JSON of it: labels, then expressions.
pub(super) fn selector_json(selector: &Value) -> String {
    let parts = ["matchLabels", "matchExpressions"];
    let known = parts.iter().filter(|part| !selector[**part].is_null());
    let parts: Vec<String> = known
        .map(|part| format!("\"{part}\":{}", selector[*part]))
        .collect();
    format!("{{{}}}", parts.join(","))
}

/// A value without entries as Go's JSON of it: null.
pub(super) fn or_null(value: &Value) -> Value {
    if is_empty(value) {
        Value::Null
    } else {
        value.clone()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The errors as they are told, one a line.
    pub(in super::super) fn told(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn counts_and_percentages() {
        let at = FieldPath::new("f");
        let cases: [(Value, &[&str]); 6] = [
            (json!(3), &[]),
            (json!("25%"), &[]),
            (
                json!(-1),
                &["f: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                json!("101%"),
                &["f: Invalid value: \"101%\": must not be greater than 100%"],
            ),
            (
                json!("ten"),
                &[
                    "f: Invalid value: \"ten\": a valid percent string must be a numeric string followed by an ending '%' \
                    (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                ],
            ),
            (Value::Null, &[]),
        ];
        for (value, expected) in cases {
            let mut errors = int_or_percent(&value, &at);
            errors.extend(at_most_100_percent(&value, &at));
            assert_eq!(told(&errors), expected, "{value}");
        }
    }
}
