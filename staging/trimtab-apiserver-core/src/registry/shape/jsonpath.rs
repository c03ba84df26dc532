//! The part of kubectl's JSONPath that printer columns use: fields, quoted fields, indexes, `*`, and filters that
//! compare a field with a text.

use serde_json::Value;

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// Elements whose field has this value.
    Filter(Vec<String>, Value),
}

/// The values at `path`, as `.status.conditions[?(@.type=="Ready")].status`. Nothing when there are none, or when the
/// path is not understood.
pub(super) fn find<'v>(path: &str, value: &'v Value) -> Vec<&'v Value> {
    let Some(steps) = parse(path) else {
        return Vec::new();
    };
    let mut found = vec![value];
    for step in &steps {
        found = found.into_iter().flat_map(|v| follow(step, v)).collect();
    }
    found
}

fn follow<'v>(step: &Step, value: &'v Value) -> Vec<&'v Value> {
    let items = |value: &'v Value| value.as_array().into_iter().flatten();
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => {
            let Some(list) = value.as_array() else {
                return Vec::new();
            };
            let length = i64::try_from(list.len()).unwrap_or_default();
            let index = if *index < 0 { index + length } else { *index };
            usize::try_from(index)
                .ok()
                .and_then(|i| list.get(i))
                .into_iter()
                .collect()
        }
        Step::All => match value {
            Value::Object(fields) => fields.values().collect(),
            other => items(other).collect(),
        },
        Step::Filter(fields, wanted) => {
            let at = |item: &'v Value| fields.iter().try_fold(item, |v, f| v.get(f));
            items(value).filter(|item| at(item) == Some(wanted)).collect()
        }
    }
}

fn parse(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path
        .trim()
        .trim_start_matches('{')
        .trim_end_matches('}')
        .trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let (inside, after) = after.split_at(close(after)?);
            steps.push(bracket(inside)?);
            rest = &after[1..];
        } else {
            let after = rest.strip_prefix('.').unwrap_or(rest);
            let (name, after) = field(after);
            rest = after;
            match name.as_str() {
                "" if rest.is_empty() || rest.starts_with('[') => {}
                "" => return None,
                "*" => steps.push(Step::All),
                _ => steps.push(Step::Field(name)),
            }
        }
    }
    Some(steps)
}

/// Where the bracket that has been opened closes.
fn close(text: &str) -> Option<usize> {
    let mut quote = None;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ']') => return Some(i),
            _ => {}
        }
    }
    None
}

/// A field's name up to the next `.` or `[`; a backslash takes the meaning off what follows.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '.' | '[' => return (name, &text[i..]),
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            c => name.push(c),
        }
    }
    (name, "")
}

fn bracket(inside: &str) -> Option<Step> {
    let inside = inside.trim();
    if inside == "*" {
        return Some(Step::All);
    }
    if let Some(name) = quoted(inside) {
        return Some(Step::Field(name));
    }
    if let Some(filter) = inside.strip_prefix("?(").and_then(|f| f.strip_suffix(')')) {
        let (left, right) = filter.split_once("==")?;
        let path = parse(left.trim().strip_prefix('@')?)?;
        let fields: Option<Vec<String>> = path
            .into_iter()
            .map(|step| match step {
                Step::Field(name) => Some(name),
                _ => None,
            })
            .collect();
        let right = right.trim();
        let value = quoted(right)
            .map(Value::String)
            .or_else(|| serde_json::from_str(right).ok())?;
        return Some(Step::Filter(fields?, value));
    }
    inside.parse().ok().map(Step::Index)
}

fn quoted(text: &str) -> Option<String> {
    let inner = ['\'', '"']
        .into_iter()
        .find_map(|q| text.strip_prefix(q)?.strip_suffix(q))?;
    Some(inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_values() {
        let object = json!({"spec": {"a.b": 1, "list": [1, 2, 3]}, "status": {"conditions": [
            {"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        let cases = [
            (".spec.list[1]", json!([2])),
            (".spec.list[-1]", json!([3])),
            ("{.spec.list[*]}", json!([1, 2, 3])),
            (".spec['a.b']", json!([1])),
            (".spec.a\\.b", json!([1])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='B')].status", json!([])),
            (".nosuch.x", json!([])),
            (".spec[", json!([])),
        ];
        for (path, expected) in cases {
            assert_eq!(json!(find(path, &object)), expected, "{path}");
        }
    }
}
