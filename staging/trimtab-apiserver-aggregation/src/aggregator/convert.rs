//! OpenAPI documents of servers that have the old format only, in the new one: what clients look at, as kube-aggregator converts it.

use serde_json::{Map, Value, json};

const OLD: &str = "#/definitions/";
const NEW: &str = "#/components/schemas/";

/// The paths of an old document that are `below` one, in the new format.
pub(super) fn to_v3(old: &Value, below: &str) -> Value {
    let mut schemas = old["definitions"].clone();
    refer(&mut schemas);
    let paths = old["paths"].as_object().into_iter().flatten();
    let paths: Map<String, Value> = paths
        .filter(|(path, _)| path.starts_with(below))
        .map(|(path, item)| (path.clone(), convert_path(item, old)))
        .collect();
    json!({
        "openapi": "3.0.0",
        "info": old["info"],
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn convert_path(item: &Value, document: &Value) -> Value {
    let mut converted = Map::new();
    for (key, value) in item.as_object().into_iter().flatten() {
        let value = match key.as_str() {
            "parameters" => parameters(value),
            "get" | "put" | "post" | "delete" | "options" | "head" | "patch" => operation(value, document),
            _ => value.clone(),
        };
        converted.insert(key.clone(), value);
    }
    Value::Object(converted)
}

fn operation(old: &Value, document: &Value) -> Value {
    let types = |name: &str| -> Vec<String> {
        let own = old[name].as_array().or_else(|| document[name].as_array());
        let all = own.into_iter().flatten().filter_map(Value::as_str);
        all.map(str::to_owned).collect()
    };
    let content = |types: Vec<String>, schema: &Value| {
        let mut schema = schema.clone();
        refer(&mut schema);
        let of_types = types.into_iter().map(|media| (media, json!({"schema": schema})));
        Value::Object(of_types.collect())
    };
    let mut new = old.clone();
    let Some(fields) = new.as_object_mut() else {
        return new;
    };
    for gone in ["consumes", "produces", "schemes"] {
        fields.remove(gone);
    }
    let all = old["parameters"].as_array().into_iter().flatten();
    if let Some(body) = all.clone().find(|parameter| parameter["in"] == "body") {
        let mut media = types("consumes");
        if media.is_empty() || media == ["*/*"] {
            media = vec!["application/json".to_owned()];
        }
        let mut request = json!({"content": content(media, &body["schema"])});
        if body["required"] == true {
            request["required"] = true.into();
        }
        fields.insert("requestBody".to_owned(), request);
    }
    if old["parameters"].is_array() {
        fields.insert("parameters".to_owned(), parameters(&old["parameters"]));
    }
    for response in fields
        .get_mut("responses")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
    {
        let response = response.1;
        let schema = response
            .as_object_mut()
            .and_then(|response| response.remove("schema"));
        if let Some(schema) = schema {
            response["content"] = content(types("produces"), &schema);
        }
    }
    new
}

/// Parameters but for the body, each with a schema of its own.
fn parameters(old: &Value) -> Value {
    const KEPT: [&str; 6] = ["name", "in", "description", "required", "allowEmptyValue", "$ref"];
    let all = old.as_array().into_iter().flatten();
    let converted = all
        .filter(|parameter| parameter["in"] != "body")
        .map(|parameter| {
            let (mut new, mut schema) = (Map::new(), Map::new());
            for (key, value) in parameter.as_object().into_iter().flatten() {
                let part = if KEPT.contains(&key.as_str()) {
                    &mut new
                } else {
                    &mut schema
                };
                part.insert(key.clone(), value.clone());
            }
            if !schema.is_empty() {
                new.insert("schema".to_owned(), schema.into());
            }
            Value::Object(new)
        });
    converted.collect()
}

/// Has references lead to where schemas are now.
fn refer(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                let name = value.as_str().and_then(|text| text.strip_prefix(OLD));
                match name.map(|name| format!("{NEW}{name}")) {
                    Some(new) if key == "$ref" => *value = new.into(),
                    _ => refer(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(refer),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_responses_and_parameters_find_their_places() {
        let old = json!({
            "swagger": "2.0",
            "info": {"title": "t"},
            "produces": ["application/json"],
            "paths": {
                "/apis/other/v1/": {},
                "/apis/g/v1/things": {
                    "parameters": [{"name": "pretty", "in": "query", "type": "string", "uniqueItems": true}],
                    "post": {
                        "operationId": "createThing",
                        "consumes": ["*/*"],
                        "parameters": [{"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/T"}}],
                        "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/T"}},
                            "401": {"description": "Unauthorized"}},
                        "x-kubernetes-action": "post",
                    },
                },
            },
            "definitions": {"T": {"properties": {"t": {"$ref": "#/definitions/T"}, "$ref": {"type": "string"}}}},
        });
        let schema = json!({"application/json": {"schema": {"$ref": "#/components/schemas/T"}}});
        let wanted = json!({
            "openapi": "3.0.0",
            "info": {"title": "t"},
            "paths": {"/apis/g/v1/things": {
                "parameters": [{"name": "pretty", "in": "query", "schema": {"type": "string", "uniqueItems": true}}],
                "post": {
                    "operationId": "createThing",
                    "parameters": [],
                    "requestBody": {"content": schema, "required": true},
                    "responses": {"200": {"description": "OK", "content": schema}, "401": {"description": "Unauthorized"}},
                    "x-kubernetes-action": "post",
                },
            }},
            "components": {"schemas": {"T": {"properties": {"t": {"$ref": "#/components/schemas/T"}, "$ref": {"type": "string"}}}}},
        });
        assert_eq!(to_v3(&old, "/apis/g/v1/"), wanted);
    }
}
