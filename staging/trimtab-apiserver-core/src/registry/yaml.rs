//! Bodies in YAML: their first document as a value, and their faults in one line, as kube-apiserver's reader words them.

use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Error};

/// What a body says.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) value: Value,
    /// Which key is there more than once, if one is; the last one counts.
    pub(crate) repeated: Option<String>,
}

/// What is wrong, by how our parser begins to say it, and in kube-apiserver's words.
const WORDS: [(&str, &str); 9] = [
    ("unclosed bracket '['", "did not find expected ',' or ']'"),
    ("unclosed bracket '{'", "did not find expected ',' or '}'"),
    ("unclosed quote", "found unexpected end of stream"),
    ("misplaced bracket", "did not find expected node content"),
    ("tabs disallowed", "found character that cannot start any token"),
    (
        "unexpected character: `\\u{",
        "control characters are not allowed",
    ),
    (
        "unexpected character",
        "found character that cannot start any token",
    ),
    (
        "unsupported YAML major version",
        "found incompatible YAML document",
    ),
    ("invalid !!binary", "!!binary value contains invalid base64 data"),
];

/// Reads the first document of a text.
///
/// # Errors
///
/// A line that says what is wrong, and where.
pub(crate) fn read(text: &str) -> Result<Document, String> {
    let first = text
        .strip_prefix("---\n")
        .unwrap_or(text)
        .split("\n---")
        .next()
        .unwrap_or_default();
    let error = match serde_saphyr::from_str::<Value>(first) {
        Ok(value) => {
            return Ok(Document {
                value,
                repeated: None,
            });
        }
        Err(error) => error,
    };
    let Error::DuplicateMappingKey { key, location } = error.without_snippet() else {
        return Err(explain(&error));
    };
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    let key = key.as_deref().unwrap_or_default();
    let repeated = format!("line {}: key {key:?} already set in map", location.line());
    let value = serde_saphyr::from_str_with_options(first, options).map_err(|error| explain(&error))?;
    Ok(Document {
        value,
        repeated: Some(repeated),
    })
}

/// Reads the first document of a text, whose repeated keys are nobody's concern.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn to_value(text: &str) -> Result<Value, String> {
    read(text).map(|document| document.value)
}

fn explain(error: &Error) -> String {
    let error = error.without_snippet();
    let line = error.location().map_or(0, |location| location.line());
    let said = error.to_string();
    // What says where and what in several lines says the same in its first.
    let said = said.lines().next().unwrap_or_default();
    let said = said.strip_prefix("error: ").unwrap_or(said);
    let said = said
        .strip_prefix(&format!("line {line} column "))
        .map_or(said, |rest| rest.split_once(": ").map_or(rest, |(_, what)| what));
    let said = said.split(" at line ").next().unwrap_or(said);
    let said = match said
        .strip_prefix("while ")
        .and_then(|context| context.split_once(", "))
    {
        Some((_, what)) => what,
        None => said,
    };
    let words = WORDS.iter().find(|(ours, _)| said.starts_with(ours));
    let what = words.map_or(said, |(_, theirs)| theirs);
    // What is missed is missed in the line before, and the end of brackets in the line after. The first is not named.
    let is_missing = what.starts_with("did not find expected");
    let place = match line {
        _ if said.starts_with("unclosed bracket") => format!("line {line}: "),
        2.. if is_missing => format!("line {}: ", line - 1),
        2.. => format!("line {line}: "),
        _ => String::new(),
    };
    format!("yaml: {place}{what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_in_one_line() {
        for (text, expected) in [
            ("a: b: c", "yaml: mapping values are not allowed in this context"),
            (
                "a: b\nc: d: e",
                "yaml: line 2: mapping values are not allowed in this context",
            ),
            (
                "a: 1\nb:\n  c: [d\n",
                "yaml: line 3: did not find expected ',' or ']'",
            ),
            ("a: {b", "yaml: line 1: did not find expected ',' or '}'"),
            ("\"a", "yaml: found unexpected end of stream"),
            ("a: b\n- c", "yaml: line 1: did not find expected key"),
            ("a: @x", "yaml: found character that cannot start any token"),
            ("a: ]", "yaml: did not find expected node content"),
            ("%", "yaml: could not find expected directive name"),
            ("a: b\0", "yaml: control characters are not allowed"),
            (
                "a:\n\t- b",
                "yaml: line 2: found character that cannot start any token",
            ),
            ("!<x", "yaml: did not find the expected '>'"),
            ("%YAML 3.0\n---\na: b", "yaml: found incompatible YAML document"),
        ] {
            let fault = read(text).map(|document| document.value);
            assert_eq!(fault, Err(expected.to_owned()), "{text:?}");
        }
        for text in ["a: *nope", "a: &x [*x]", "? [a]\n: b", "- a\nb: c"] {
            let fault = to_value(text).expect_err(text);
            assert!(
                fault.starts_with("yaml: ") && !fault.contains(['\n', '\r']),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn of_repeated_keys_the_last_counts() {
        let read = read("---\na:\n  b: 1\n  b: 2\n---\nc: 1").expect("is YAML");
        assert_eq!(read.value, serde_json::json!({"a": {"b": 2}}));
        assert_eq!(
            read.repeated.as_deref(),
            Some("line 3: key \"b\" already set in map")
        );
    }
}
