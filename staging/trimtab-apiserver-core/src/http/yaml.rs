//! YAML answers, in the layout that Kubernetes clients are used to: members sorted, lists at the level of their key,
//! text plain where it can be, long lines folded. [`scalar`](super::yaml_scalar) decides how a text is written.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::yaml_scalar::{self, Place};

/// Spaces that an inner level is further in.
const STEP: usize = 2;

/// Writes a value as YAML.
pub(crate) fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(&mut out, map, 0),
        Value::Array(list) if !list.is_empty() => sequence(&mut out, list, 0),
        other => {
            leaf(&mut out, other, 0);
            out.push('\n');
        }
    }
    out
}

/// Members, each at `indent`; the first where the text is now.
fn mapping(out: &mut String, map: &Map<String, Value>, indent: usize) {
    let mut members: Vec<_> = map.iter().collect();
    members.sort_by(|(a, _), (b, _)| natural(a, b));
    for (i, (key, value)) in members.into_iter().enumerate() {
        if i > 0 {
            pad(out, indent);
        }
        yaml_scalar::write(out, key, Place::Key);
        out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                pad(out, indent + STEP);
                mapping(out, map, indent + STEP);
            }
            Value::Array(list) if !list.is_empty() => {
                out.push('\n');
                pad(out, indent);
                sequence(out, list, indent);
            }
            other => {
                out.push(' ');
                leaf(out, other, indent + STEP);
                out.push('\n');
            }
        }
    }
}

/// Items, each at `indent`; the first where the text is now.
fn sequence(out: &mut String, list: &[Value], indent: usize) {
    for (i, value) in list.iter().enumerate() {
        if i > 0 {
            pad(out, indent);
        }
        out.push_str("- ");
        match value {
            Value::Object(map) if !map.is_empty() => mapping(out, map, indent + STEP),
            Value::Array(list) if !list.is_empty() => sequence(out, list, indent + STEP),
            other => {
                leaf(out, other, indent + STEP);
                out.push('\n');
            }
        }
    }
}

/// What has nothing in it; further lines of it are at `indent`.
fn leaf(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(set) => out.push_str(if *set { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => out.push_str(&decimal(float)),
            _ => out.push_str(&number.to_string()),
        },
        Value::String(text) => yaml_scalar::write(out, text, Place::Value { indent }),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// Shortest digits, with an exponent for what is large or small, as Go writes them; whole numbers have none.
fn decimal(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return value.to_string();
    }
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    match exponent.parse::<i32>() {
        // Go has at least two digits in an exponent, and always its sign.
        Ok(n) if !(-4..6).contains(&n) => {
            format!("{digits}e{}{:02}", if n < 0 { '-' } else { '+' }, n.abs())
        }
        _ => value.to_string(),
    }
}

/// The order of keys: numbers within them by their value, letters after everything else.
fn natural(mut a: &str, mut b: &str) -> Ordering {
    loop {
        match (part(&mut a), part(&mut b)) {
            (None, None) => return Ordering::Equal,
            (x, y) if x == y => {}
            (x, y) => return x.cmp(&y),
        }
    }
}

/// Takes a number or a character off a key, as what it is compared by: whether it is a letter, the character (`0` for
/// every number), the number's digits with the longer ones greater, and how long it is with its leading zeros.
fn part<'a>(key: &mut &'a str) -> Option<(bool, char, usize, &'a str, usize)> {
    let first = key.chars().next()?;
    let after_digits = key.trim_start_matches(|c: char| c.is_ascii_digit());
    let length = if first.is_ascii_digit() {
        key.len() - after_digits.len()
    } else {
        first.len_utf8()
    };
    let (taken, rest) = key.split_at_checked(length)?;
    *key = rest;
    if !first.is_ascii_digit() {
        return Some((first.is_alphabetic(), first, 0, "", 0));
    }
    let digits = taken.trim_start_matches('0');
    Some((false, '0', digits.len(), digits, length))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_as_clients_know_them() {
        let long = "word ".repeat(20);
        let folded = format!("k: '{}\n  word word word word '\n", "word ".repeat(16).trim_end());
        let cases = [
            (
                json!({"b": {}, "a10": [], "a9": null}),
                "a9: null\na10: []\nb: {}\n",
            ),
            (json!({"f:a": {".": {}}}), "f:a:\n  .: {}\n"),
            (
                json!({"l": [1, [true, 2.5], {"x": "1", "y": ["a"]}]}),
                "l:\n- 1\n- - true\n  - 2.5\n- x: \"1\"\n  \"y\":\n  - a\n",
            ),
            (json!([1e21, 1e-7, 100.0]), "- 1e+21\n- 1e-07\n- 100\n"),
            (json!({"k": long}), folded.as_str()),
        ];
        for (value, text) in cases {
            assert_eq!(to_yaml(&value), text);
        }
    }

    #[test]
    fn text_reads_back_as_the_same_text() {
        let cases = [
            ("", "\"\""),
            ("a b", "a b"),
            ("a: b", "'a: b'"),
            ("a:b", "a:b"),
            ("a #b", "'a #b'"),
            ("- a", "'- a'"),
            ("-a", "-a"),
            ("it's", "it's"),
            ("'a", "'''a'"),
            (" a", "' a'"),
            ("yes", "\"yes\""),
            ("null", "\"null\""),
            ("0x1f", "\"0x1f\""),
            ("1_000", "\"1_000\""),
            ("1.2.3", "1.2.3"),
            ("12:30:45", "\"12:30:45\""),
            ("2020-01-01T00:00:00Z", "\"2020-01-01T00:00:00Z\""),
            ("100m", "100m"),
            ("a\nb", "|-\n  a\n  b"),
            ("a\n\n", "|+\n  a\n"),
            (" a\nb\n", "|2\n   a\n  b"),
            ("a \nb", "\"a \\nb\""),
            ("a\tb", "\"a\\tb\""),
            ("\u{1f600}\u{1}", "\"\\U0001F600\\x01\""),
            ("{a}", "'{a}'"),
        ];
        for (text, written) in cases {
            assert_eq!(to_yaml(&json!({ "k": text })), format!("k: {written}\n"));
            for value in [json!({ "k": [text, { "x": text }] }), json!({ text: 1 })] {
                let read: Value = serde_saphyr::from_str(&to_yaml(&value)).unwrap();
                assert_eq!(read, value, "{text:?}");
            }
        }
    }
}
