//! JSON values as the Go types behind Kubernetes' kinds read them: what fits, in which form it comes out again, and
//! the texts of what does not fit.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use trimtab_apimachinery_meta::quantity::{InvalidQuantity, Quantity};
use trimtab_apimachinery_schema::Schema;
use trimtab_apimachinery_schema::schema::{Additional, Type};

/// Why a value does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// It is of another JSON type than `wanted`, a Go type; `found` is how Go names what is there.
    Type { found: String, wanted: String },
    /// The type's own reader says this.
    Own(String),
}

/// Reads a scalar, or null, of a built-in kind, in its canonical form.
pub(crate) fn scalar(schema: &Schema, value: Value) -> Result<Value, Misfit> {
    if value.is_null() || schema.preserve_unknown {
        return Ok(value);
    }
    let name = last(&schema.name);
    if name == "Quantity" {
        return quantity(&value);
    }
    if schema.int_or_string || name == "IntOrString" {
        let fits = value.is_string() || value.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
        return if fits { Ok(value) } else { misfit(&value, "int32") };
    }
    match (schema.type_, &value) {
        (Some(Type::String), Value::String(text)) => match (name, schema.format.as_str()) {
            ("MicroTime", _) => micro_time(text),
            ("Time", _) | (_, "date-time") => time(text),
            (_, "byte") => bytes(text).map(|()| value),
            _ => Ok(value),
        },
        (Some(Type::Boolean), Value::Bool(_)) | (Some(Type::Number), Value::Number(_)) | (None, _) => {
            Ok(value)
        }
        (Some(Type::Integer), Value::Number(_)) => integer(schema, value),
        _ => misfit(&value, &go_type(schema)),
    }
}

/// Whether a schema is of a scalar with a reader of its own, which may say nothing of JSON types.
pub(crate) fn is_scalar(schema: &Schema) -> bool {
    schema.int_or_string
        || (schema.properties.is_empty() && matches!(last(&schema.name), "Quantity" | "IntOrString"))
}

/// What a list or an object is told where its schema has something else.
pub(crate) fn misplaced(schema: &Schema, value: &Value) -> Result<Value, Misfit> {
    match last(&schema.name) {
        "Quantity" => Err(Misfit::Own(InvalidQuantity.to_string())),
        "IntOrString" => misfit(value, "int32"),
        _ => misfit(value, &go_type(schema)),
    }
}

/// What a value does not fit when the schema says something else.
pub(crate) fn misfit<T>(value: &Value, wanted: &str) -> Result<T, Misfit> {
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number)
            if number.is_f64() || number.as_i64().is_some_and(|n| i32::try_from(n).is_err()) =>
        {
            format!("number {number}")
        }
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    // Only a number that is no integer of that size is shown itself.
    let found = if wanted.starts_with("int") {
        found
    } else {
        found.split(' ').next().unwrap_or_default().to_owned()
    };
    Err(Misfit::Type {
        found,
        wanted: wanted.to_owned(),
    })
}

fn integer(schema: &Schema, value: Value) -> Result<Value, Misfit> {
    let wanted = go_type(schema);
    let fits = match value.as_i64() {
        Some(n) => wanted == "int64" || i32::try_from(n).is_ok(),
        None => false,
    };
    if fits { Ok(value) } else { misfit(&value, &wanted) }
}

fn quantity(value: &Value) -> Result<Value, Misfit> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => return misfit(other, "resource.Quantity"),
    };
    let quantity: Quantity = text.trim().parse().map_err(|e| Misfit::Own(format!("{e}")))?;
    Ok(quantity.to_string().into())
}

fn time(text: &str) -> Result<Value, Misfit> {
    let time = parse_time(text, "2006-01-02T15:04:05Z07:00")?;
    Ok(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into())
}

fn micro_time(text: &str) -> Result<Value, Misfit> {
    const FORM: &str = "2006-01-02T15:04:05.000000Z07:00";
    let time = parse_time(text, FORM)?;
    let seconds = text.get("2006-01-02T15:04:05".len()..).unwrap_or_default();
    if !seconds.starts_with('.') {
        return Err(Misfit::Own(format!(
            "parsing time {text:?} as {FORM:?}: cannot parse {seconds:?} as \".000000\""
        )));
    }
    Ok(time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string().into())
}

fn parse_time(text: &str, form: &str) -> Result<Timestamp, Misfit> {
    text.parse().map_err(|_| {
        Misfit::Own(format!(
            "parsing time {text:?} as {form:?}: cannot parse {text:?} as \"2006\""
        ))
    })
}

fn bytes(text: &str) -> Result<(), Misfit> {
    match STANDARD.decode(text) {
        Ok(_) => Ok(()),
        Err(_) => {
            let alphabet = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/');
            let end = text.find('=').unwrap_or(text.len());
            let at = text
                .bytes()
                .position(|c| !alphabet(c))
                .filter(|at| *at < end)
                .unwrap_or(end / 4 * 4);
            Err(Misfit::Own(format!("illegal base64 data at input byte {at}")))
        }
    }
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}

/// The Go type that a schema describes, as errors name it.
pub(crate) fn go_type(schema: &Schema) -> String {
    if !schema.go.type_name.is_empty() {
        return schema.go.type_name.to_owned();
    }
    match schema.type_ {
        Some(Type::String) if schema.format == "byte" => "[]uint8".to_owned(),
        Some(Type::String) => "string".to_owned(),
        Some(Type::Integer) if schema.format == "int64" => "int64".to_owned(),
        Some(Type::Integer) => "int32".to_owned(),
        Some(Type::Number) => "float64".to_owned(),
        Some(Type::Boolean) => "bool".to_owned(),
        Some(Type::Array) => {
            format!(
                "[]{}",
                schema
                    .items
                    .as_ref()
                    .map_or_else(|| "interface {}".to_owned(), |i| go_type(i))
            )
        }
        Some(Type::Object) => match &schema.additional {
            Additional::Schema(values) if schema.properties.is_empty() => {
                format!("map[string]{}", go_type(values))
            }
            _ => struct_type(schema),
        },
        None if !schema.name.is_empty() => struct_type(schema),
        None => "interface {}".to_owned(),
    }
}

/// A struct as errors name it: its package and its name.
fn struct_type(schema: &Schema) -> String {
    let mut parts = schema.name.rsplit('.');
    let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{package}.{name}")
}

/// The name of the struct that a schema describes; `None` for maps and what has no name.
pub(crate) fn struct_name(schema: &Schema) -> Option<&str> {
    (!schema.properties.is_empty() && !schema.name.is_empty()).then(|| last(&schema.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_come_out_as_go_writes_them() {
        let schema = |name: &str, type_, format: &str| Schema {
            name: name.to_owned(),
            type_: Some(type_),
            format: format.to_owned(),
            ..Schema::default()
        };
        let text = || schema("", Type::String, "");
        let int = || schema("", Type::Integer, "int32");
        let quantity = || schema("io.k8s.apimachinery.pkg.api.resource.Quantity", Type::String, "");
        let time = || {
            schema(
                "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
                Type::String,
                "date-time",
            )
        };
        let micro = || {
            schema(
                "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
                Type::String,
                "date-time",
            )
        };
        let bytes = || schema("", Type::String, "byte");
        let own = |text: &str| Err(Misfit::Own(text.to_owned()));
        let wrong = |found: &str, wanted: &str| {
            Err(Misfit::Type {
                found: found.to_owned(),
                wanted: wanted.to_owned(),
            })
        };
        let cases = [
            (text(), json!("a"), Ok(json!("a"))),
            (text(), json!(1), wrong("number", "string")),
            (int(), json!("three"), wrong("string", "int32")),
            (int(), json!(1.5), wrong("number 1.5", "int32")),
            (
                int(),
                json!(99_999_999_999_i64),
                wrong("number 99999999999", "int32"),
            ),
            (quantity(), json!("0.5"), Ok(json!("500m"))),
            (quantity(), json!(2), Ok(json!("2"))),
            (
                time(),
                json!("2020-01-01T01:00:00+01:00"),
                Ok(json!("2020-01-01T00:00:00Z")),
            ),
            (
                micro(),
                json!("2020-01-01T00:00:01.5Z"),
                Ok(json!("2020-01-01T00:00:01.500000Z")),
            ),
            (
                micro(),
                json!("2020-01-01T00:00:01Z"),
                own(
                    "parsing time \"2020-01-01T00:00:01Z\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \
                     \"Z\" as \".000000\"",
                ),
            ),
            (bytes(), json!("AAEC"), Ok(json!("AAEC"))),
            (
                bytes(),
                json!("not base64!"),
                own("illegal base64 data at input byte 3"),
            ),
            (int(), Value::Null, Ok(Value::Null)),
        ];
        for (schema, value, expected) in cases {
            assert_eq!(scalar(&schema, value.clone()), expected, "{value}");
        }
    }
}
