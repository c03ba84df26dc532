//! Merging by schema alone: what an admission policy wants an object to have, without anybody owning it.

use serde_json::Value;

use super::merge::merge;
use super::shape::{Shape, atomic_list, items, shape};
use super::typed::{describe, validate};
use crate::schema::Schema;

/// The object with what `config` says put into it as an apply would: maps and lists that have keys are merged, anything else
/// is replaced. Nobody comes to own anything by it.
///
/// # Errors
///
/// A text in kube-apiserver's words when the configuration does not fit the schema, or would replace a list or map as a
/// whole, which would drop what it does not mention.
pub fn overlay(schema: &Schema, object: &Value, config: &Value) -> Result<Value, String> {
    let misfits = validate(schema, config);
    if !misfits.is_empty() {
        let why = describe(&misfits);
        return Err(format!("failed to convert patch object to typed object: {why}"));
    }
    let mut atomics = Vec::new();
    find_atomics(schema, config, "", &mut atomics);
    if !atomics.is_empty() {
        let atomics = atomics.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {atomics}"
        ));
    }
    let merged = merge(schema, Some(object), Some(config));
    let merged = merged.map_err(|why| format!("failed to merge patch: {why}"))?;
    Ok(merged.unwrap_or_else(|| object.clone()))
}

/// The lists and maps of a value that are owned as a whole. Those in the values of maps without named fields do not count.
fn find_atomics(schema: &Schema, value: &Value, path: &str, atomics: &mut Vec<String>) {
    match (shape(schema, Some(value)), value) {
        (Shape::Map(schema), Value::Object(fields)) => {
            if schema.map_atomic {
                atomics.push(path.to_owned());
            }
            for (name, value) in fields {
                if let Some(property) = schema.properties.get(name) {
                    find_atomics(property, value, &format!("{path}.{name}"), atomics);
                }
            }
        }
        (Shape::List(schema), Value::Array(list)) => {
            if atomic_list(schema) {
                atomics.push(path.to_owned());
            }
            for (index, item) in list.iter().enumerate() {
                find_atomics(items(schema), item, &format!("{path}[{index}]"), atomics);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_keys_is_merged_and_what_is_whole_is_refused() {
        let schema = Schema::from_openapi(&json!({"type": "object", "properties": {
            "metadata": {"type": "object", "properties": {
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            }},
            "spec": {"type": "object", "properties": {
                "replicas": {"type": "integer"},
                "args": {"type": "array", "items": {"type": "string"}},
                "selector": {"type": "object", "x-kubernetes-map-type": "atomic",
                    "properties": {"app": {"type": "string"}}},
                "containers": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {"name": {"type": "string"}, "image": {"type": "string"}}}},
            }},
        }}));
        let object = json!({
            "metadata": {"labels": {"a": "1"}},
            "spec": {"replicas": 1, "args": ["x"], "containers": [{"name": "c", "image": "i"}, {"name": "d"}]},
        });
        let merged = overlay(
            &schema,
            &object,
            &json!({
                "metadata": {"labels": {"b": "2"}},
                "spec": {"replicas": 2, "containers": [{"name": "d", "image": "j"}, {"name": "e"}]},
            }),
        );
        let expected = json!({
            "metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {"replicas": 2, "args": ["x"],
                "containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "j"}, {"name": "e"}]},
        });
        assert_eq!(merged, Ok(expected));
        for (config, why) in [
            (
                json!({"spec": {"args": ["y"], "selector": {"app": "a"}}}),
                "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.args, .spec.selector",
            ),
            (
                json!({"spec": {"replica": 1}}),
                "failed to convert patch object to typed object: .spec.replica: field not declared in schema",
            ),
            (
                json!({"spec": {"containers": [{"image": "i"}]}}),
                "failed to convert patch object to typed object: .spec.containers: element 0: associative list with keys has \
                 an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)",
            ),
        ] {
            assert_eq!(
                overlay(&schema, &object, &config),
                Err(why.to_owned()),
                "{config}"
            );
        }
        assert_eq!(overlay(&schema, &object, &json!({})), Ok(object.clone()));
    }
}
