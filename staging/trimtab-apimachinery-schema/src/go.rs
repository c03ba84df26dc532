//! Values as Go prints them: some of kube-apiserver's error texts contain its own language's rendering of JSON values.

use serde_json::Value;

/// What Go's `%v` prints: `map[a:1 b:[x y]]`.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let mut parts: Vec<_> = fields.iter().map(|(k, v)| format!("{k}:{}", plain(v))).collect();
            parts.sort();
            format!("map[{}]", parts.join(" "))
        }
        scalar => scalar.to_string(),
    }
}

/// What Go's `%v` prints for a float64: exponents from 1e+06 up and below 1e-04, no trailing `.0`.
pub(crate) fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(e) if !(-4..6).contains(&e) && number != 0.0 => {
            let sign = if e < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", e.abs())
        }
        _ => number.to_string(),
    }
}

/// What Go's `%#v` prints: `map[string]interface {}{"a":1}`.
pub(crate) fn syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => {
            format!(
                "[]interface {{}}{{{}}}",
                items.iter().map(syntax).collect::<Vec<_>>().join(", ")
            )
        }
        Value::Object(fields) => {
            let mut parts: Vec<_> = fields
                .iter()
                .map(|(k, v)| format!("{k:?}:{}", syntax(v)))
                .collect();
            parts.sort();
            format!("map[string]interface {{}}{{{}}}", parts.join(", "))
        }
        scalar => scalar.to_string(),
    }
}

/// What Go's `%T` prints: `map[string]interface {}`.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// How Go's JSON decoder names the kind of a value.
pub(crate) fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Reads JSON; the error is Go's text for it, as far as the position of the fault tells.
pub(crate) fn read_json(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_eof() {
            return "unexpected end of JSON input".to_owned();
        }
        let line = bytes
            .split(|b| *b == b'\n')
            .nth(error.line().saturating_sub(1))
            .unwrap_or_default();
        let found = String::from_utf8_lossy(line)
            .chars()
            .nth(error.column().saturating_sub(1));
        match found {
            Some(c) => format!("invalid character {c:?} looking for beginning of value"),
            None => "invalid character in JSON input".to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_print_as_go_prints_them() {
        let value = json!({"b": [1, "x"], "a": null});
        assert_eq!(plain(&value), "map[a:<nil> b:[1 x]]");
        assert_eq!(
            syntax(&value),
            r#"map[string]interface {}{"a":interface {}(nil), "b":[]interface {}{1, "x"}}"#
        );
        assert_eq!(type_name(&json!(1.5)), "float64");
        let floats = [
            (1.0, "1"),
            (0.1, "0.1"),
            (123456.5, "123456.5"),
            (5e9, "5e+09"),
            (0.00001, "1e-05"),
        ];
        for (number, text) in floats {
            assert_eq!(float(number), text);
        }
    }

    #[test]
    fn json_errors_read_as_go_says_them() {
        assert_eq!(read_json(b"[{").unwrap_err(), "unexpected end of JSON input");
        assert_eq!(
            read_json(b"{\"a\": x}").unwrap_err(),
            "invalid character 'x' looking for beginning of value"
        );
    }
}
