//! The old document in protobuf, the only form in which client-go asks for it.
//!
//! Field numbers are those of `openapiv2/OpenAPIv2.proto` of `github.com/google/gnostic-models`. Written is what
//! clients look at: definitions, and paths with the parameters and kinds of their operations.

use serde_json::{Map, Value};

/// The media type, as it is answered.
pub(crate) const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A message being written.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    /// A text, unless there is none.
    fn text(&mut self, field: u64, value: &Value) {
        if let Some(text) = value.as_str().filter(|t| !t.is_empty()) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn flag(&mut self, field: u64, value: &Value) {
        if value == &Value::Bool(true) {
            self.varint(field << 3);
            self.varint(1);
        }
    }

    fn count(&mut self, field: u64, value: &Value) {
        if let Some(count) = value.as_u64() {
            self.varint(field << 3);
            self.varint(count);
        }
    }

    fn double(&mut self, field: u64, value: &Value) {
        if let Some(number) = value.as_f64() {
            self.varint(field << 3 | 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// A value of any form, as YAML, of which JSON is a part.
    fn any(&mut self, field: u64, value: &Value) {
        let mut any = Self::default();
        any.bytes(2, value.to_string().as_bytes());
        self.message(field, &any);
    }

    /// A list of names with their values.
    fn named(&mut self, field: u64, all: &Map<String, Value>, make: fn(&Value) -> Self) {
        for (name, value) in all {
            let mut named = Self::default();
            named.bytes(1, name.as_bytes());
            named.message(2, &make(value));
            self.message(field, &named);
        }
    }

    /// What begins with `x-`.
    fn extensions(&mut self, field: u64, of: &Value) {
        let all = of.as_object().into_iter().flatten();
        for (name, value) in all.filter(|(name, _)| name.starts_with("x-")) {
            let mut named = Self::default();
            named.bytes(1, name.as_bytes());
            named.any(2, value);
            self.message(field, &named);
        }
    }
}

/// Encodes the document.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    let mut info = Message::default();
    info.text(1, &document["info"]["title"]);
    info.text(2, &document["info"]["version"]);
    out.message(2, &info);
    let mut paths = Message::default();
    if let Some(all) = document["paths"].as_object() {
        paths.named(2, all, path_item);
    }
    out.message(8, &paths);
    let mut definitions = Message::default();
    if let Some(all) = document["definitions"].as_object() {
        definitions.named(1, all, schema);
    }
    out.message(9, &definitions);
    out.0
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (field, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if !item[method].is_null() {
            out.message(field, &operation(&item[method]));
        }
    }
    out
}

fn operation(of: &Value) -> Message {
    let mut out = Message::default();
    out.text(5, &of["operationId"]);
    let parameters = of["parameters"].as_array().into_iter().flatten();
    for parameter in parameters.filter(|parameter| parameter["in"] == "query") {
        let mut query = Message::default();
        query.text(2, &parameter["in"]);
        query.text(4, &parameter["name"]);
        query.text(6, &parameter["type"]);
        // ParametersItem { Parameter { NonBodyParameter { QueryParameterSubSchema }}}
        let mut inner = query;
        for field in [3, 2, 1] {
            let mut outer = Message::default();
            outer.message(field, &inner);
            inner = outer;
        }
        out.message(8, &inner);
    }
    out.message(9, &Message::default());
    out.extensions(13, of);
    out
}

fn schema(of: &Value) -> Message {
    let mut out = Message::default();
    for (field, name) in [
        (1, "$ref"),
        (2, "format"),
        (3, "title"),
        (4, "description"),
        (13, "pattern"),
    ] {
        out.text(field, &of[name]);
    }
    if let Some(default) = of.get("default") {
        out.any(5, default);
    }
    for (field, name) in [(6, "multipleOf"), (7, "maximum"), (9, "minimum")] {
        out.double(field, &of[name]);
    }
    for (field, name) in [
        (8, "exclusiveMaximum"),
        (10, "exclusiveMinimum"),
        (16, "uniqueItems"),
    ] {
        out.flag(field, &of[name]);
    }
    for (field, name) in [
        (11, "maxLength"),
        (12, "minLength"),
        (14, "maxItems"),
        (15, "minItems"),
        (17, "maxProperties"),
        (18, "minProperties"),
    ] {
        out.count(field, &of[name]);
    }
    let list = |name: &str| of[name].as_array().into_iter().flatten();
    list("required").for_each(|name| out.text(19, name));
    list("enum").for_each(|value| out.any(20, value));
    let mut additional = Message::default();
    match &of["additionalProperties"] {
        Value::Null => {}
        Value::Bool(any) => {
            additional.flag(2, &Value::Bool(*any));
            out.message(21, &additional);
        }
        values => {
            additional.message(1, &schema(values));
            out.message(21, &additional);
        }
    }
    if of["type"].is_string() {
        let mut type_ = Message::default();
        type_.text(1, &of["type"]);
        out.message(22, &type_);
    }
    if !of["items"].is_null() {
        let mut items = Message::default();
        items.message(1, &schema(&of["items"]));
        out.message(23, &items);
    }
    list("allOf").for_each(|s| out.message(24, &schema(s)));
    if let Some(all) = of["properties"].as_object() {
        let mut properties = Message::default();
        properties.named(1, all, schema);
        out.message(25, &properties);
    }
    out.extensions(31, of);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_have_the_fields_of_their_numbers() {
        let bytes = schema(&json!({"type": "object", "minLength": 300, "uniqueItems": true,
            "properties": {"a": {"$ref": "#/b"}}, "x-y": 1}));
        let expected = [
            &[0x80, 0x01, 0x01][..],
            &[0x60, 0xac, 0x02],
            &[0xb2, 0x01, 0x08, 0x0a, 0x06],
            b"object",
            &[
                0xca, 0x01, 0x0c, 0x0a, 0x0a, 0x0a, 0x01, b'a', 0x12, 0x05, 0x0a, 0x03,
            ],
            b"#/b",
            &[0xfa, 0x01, 0x0a, 0x0a, 0x03],
            b"x-y",
            &[0x12, 0x03, 0x12, 0x01, b'1'],
        ]
        .concat();
        assert_eq!(bytes.0, expected);
    }
}
