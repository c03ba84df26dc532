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

/// Shortest digits, with an exponent for what is large or small: as Go's `%g`.
fn decimal(value: f64) -> String {
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    match exponent.parse::<i32>() {
        // Go has at least two digits in an exponent, and always its sign.
        Ok(n) if !(-4..21).contains(&n) => {
            format!("{digits}e{}{:02}", if n < 0 { '-' } else { '+' }, n.abs())
        }
        _ => value.to_string(),
    }
}

/// The order of keys: numbers within them by their value, letters after everything else.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(x, y)| x != y) else {
        return a.len().cmp(&b.len());
    };
    let (Some(&x), Some(&y)) = (a.get(at), b.get(at)) else {
        return Ordering::Equal;
    };
    let in_number = at
        .checked_sub(1)
        .and_then(|i| a.get(i))
        .is_some_and(char::is_ascii_digit);
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        // Within a number, a letter means that the number ends: the shorter one is first.
        (true, false) if in_number => return Ordering::Less,
        (false, true) if in_number => return Ordering::Greater,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // A zero that follows other digits is a digit like others; one that leads is not.
    let follows = (x == '0' || y == '0')
        && a.get(..at)
            .unwrap_or_default()
            .iter()
            .rev()
            .take_while(|c| c.is_ascii_digit())
            .any(|c| *c != '0');
    let number = |chars: &[char]| {
        let digits = chars
            .get(at..)
            .unwrap_or_default()
            .iter()
            .map_while(|c| c.to_digit(10));
        digits.fold((i64::from(follows), 0), |(value, length), digit| {
            (
                value.saturating_mul(10).saturating_add(i64::from(digit)),
                length + 1,
            )
        })
    };
    number(&a).cmp(&number(&b)).then(x.cmp(&y))
}
