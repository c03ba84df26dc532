//! Tables: what `kubectl get` prints.

use jiff::Timestamp;
use serde_json::{Value, json};
use trimtab_apiserver_kinds::resource::Column;

use super::{Include, META, Shaper, jsonpath, partial};
use crate::registry::meta;

/// A table of these objects.
pub(super) fn table(shaper: &Shaper<'_>, metadata: Value, objects: &[Value], columns: bool) -> Value {
    let resource = shaper.resource;
    let definitions: Vec<Value> = resource
        .columns
        .iter()
        .map(|c| {
            json!({"name": c.name, "type": c.type_, "format": c.format, "description": c.description,
                "priority": c.priority})
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let part = match shaper.include {
                Include::None => Value::Null,
                Include::Metadata => partial(object),
                Include::Object => object.clone(),
            };
            json!({"cells": cells(shaper, object), "object": part})
        })
        .collect();
    // Kinds without a printer of their own have a null here, where others have an empty list.
    let unprinted = rows.is_empty() && resource.columns.get(1).is_some_and(|c| c.name == "Created At");
    json!({
        "kind": "Table",
        "apiVersion": META,
        "metadata": metadata,
        "columnDefinitions": if columns { Value::Array(definitions) } else { Value::Null },
        "rows": if unprinted { Value::Null } else { Value::Array(rows) },
    })
}

fn cells(shaper: &Shaper<'_>, object: &Value) -> Vec<Value> {
    let resource = shaper.resource;
    let computed = resource.strategy.cells(object, shaper.now);
    if !computed.is_empty() {
        return computed;
    }
    resource
        .columns
        .iter()
        .map(|column| cell(column, object, shaper.now))
        .collect()
}

/// A cell that its column's JSONPath computes.
fn cell(column: &Column, object: &Value, now: i64) -> Value {
    let Some(path) = &column.json_path else {
        return match column.name.as_str() {
            "Name" => meta::name(object).into(),
            "Age" => age(meta::text(object, "creationTimestamp"), now).into(),
            "Created At" => meta::text(object, "creationTimestamp").into(),
            _ => Value::Null,
        };
    };
    let found = jsonpath::find(path, object);
    let Some(first) = found.first() else {
        return Value::Null;
    };
    let text = || match first {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match column.type_.as_str() {
        "date" => match first {
            Value::String(text) => age(text, now).into(),
            _ => Value::Null,
        },
        "integer" => first
            .as_i64()
            .or_else(|| first.as_f64().map(|f| f as i64))
            .map_or(Value::Null, Value::from),
        "number" => first.as_f64().map_or(Value::Null, Value::from),
        "boolean" => first.as_bool().map_or(Value::Null, Value::from),
        _ if found.len() > 1 => {
            let all: Vec<String> = found
                .iter()
                .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                .collect();
            all.join(",").into()
        }
        _ => text().into(),
    }
}

/// How long ago a time was, as kubectl writes it.
fn age(time: &str, now: i64) -> String {
    match time.parse::<Timestamp>() {
        Ok(then) => human_duration(now - then.as_second()),
        Err(_) if time.is_empty() => "<unknown>".to_owned(),
        Err(_) => "<invalid>".to_owned(),
    }
}

/// A duration in its one or two largest units: `5s`, `3m20s`, `7d4h`.
pub(crate) fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_their_largest_units() {
        let cases = [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (3_600, "60m"),
            (10_801, "3h"),
            (100_000, "27h"),
            (200_000, "2d7h"),
            (8 * 86_400, "8d"),
            (800 * 86_400, "2y70d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }
}
