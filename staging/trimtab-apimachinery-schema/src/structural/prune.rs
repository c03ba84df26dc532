//! Removing what a schema does not know.

use serde_json::Value;

use super::embedded;
use crate::Schema;
use crate::schema::Additional;

/// Fields that each Kubernetes object has, whatever its schema says.
const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Removes the fields of a custom resource that its schema does not know and does not preserve, and returns their
/// paths, sorted, as `spec.list[0].foo`: what a strict decoding error names. `apiVersion`, `kind` and `metadata` are
/// kept, at the root as they are, in embedded objects with metadata's unknown fields removed. Idempotent.
pub fn prune(schema: &Schema, object: &mut Value) -> Vec<String> {
    let mut walk = Walk::default();
    walk.visit(schema, schema.preserve_unknown, true, object);
    walk.removed.sort();
    walk.removed
}

/// Like [`prune`], for a value that is no object of its own: a default, say.
pub(super) fn prune_value(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut walk = Walk::default();
    walk.visit(schema, schema.preserve_unknown, schema.embedded_resource, value);
    walk.removed.sort();
    walk.removed
}

#[derive(Default)]
struct Walk {
    path: String,
    removed: Vec<String>,
}

impl Walk {
    /// `preserving` says that unknown fields stay; it passes from lists to their elements and from nothing else.
    fn visit(&mut self, schema: &Schema, preserving: bool, embedded: bool, value: &mut Value) {
        let here = self.path.len();
        match value {
            Value::Object(fields) => fields.retain(|name, value| {
                let meta = META.contains(&name.as_str());
                if embedded && meta {
                    if here > 0 && name == "metadata" {
                        let mut removed = Vec::new();
                        embedded::prune_metadata(value, &mut removed);
                        let full = removed
                            .iter()
                            .map(|field| format!("{}.metadata.{field}", self.path));
                        self.removed.extend(full);
                    }
                    return true;
                }
                if !self.path.is_empty() {
                    self.path.push('.');
                }
                self.path.push_str(name);
                let kept = if let Some(child) = schema.properties.get(name) {
                    self.visit(child, child.preserve_unknown, child.embedded_resource, value);
                    true
                } else {
                    match &schema.additional {
                        Additional::Schema(child) => {
                            self.visit(child, child.preserve_unknown, child.embedded_resource, value);
                            true
                        }
                        Additional::Any => {
                            self.strip(value);
                            true
                        }
                        Additional::None if preserving => true,
                        Additional::None => {
                            if !meta || here > 0 {
                                self.removed.push(self.path.clone());
                            }
                            false
                        }
                    }
                };
                self.path.truncate(here);
                kept
            }),
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.push_str(&format!("[{index}]"));
                    match &schema.items {
                        Some(child) => {
                            let keep = preserving || child.preserve_unknown;
                            self.visit(child, keep, child.embedded_resource, item);
                        }
                        None if preserving => {}
                        None => self.strip(item),
                    }
                    self.path.truncate(here);
                }
            }
            _ => {}
        }
    }

    /// Below a place that is described by nothing, objects lose all their fields.
    fn strip(&mut self, value: &mut Value) {
        self.visit(&Schema::default(), false, false, value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_go_and_are_named() {
        let spec = json!({"type": "object", "properties": {
            "known": {"type": "string"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {}}}},
            "any": {"type": "object", "additionalProperties": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"typed": {"type": "object"}}},
            "freeList": {"type": "array", "x-kubernetes-preserve-unknown-fields": true,
                "items": {"type": "object"}},
            "embedded": {"type": "object", "x-kubernetes-embedded-resource": true,
                "properties": {"spec": {"type": "object"}}},
        }});
        let schema = Schema::from_openapi(&json!({"type": "object", "properties": {"spec": spec}}));
        let cases = [
            (
                json!({"known": "x", "gone": 1}),
                json!({"known": "x"}),
                vec!["spec.gone"],
            ),
            (
                json!({"list": [{"a": "1"}, {"b": {"c": 1}}]}),
                json!({"list": [{"a": "1"}, {}]}),
                vec!["spec.list[1].b"],
            ),
            (
                json!({"map": {"k": {"a": 1, "b": 2}}}),
                json!({"map": {"k": {"a": 1}}}),
                vec!["spec.map.k.b"],
            ),
            (
                json!({"any": {"k": {"a": 1}, "s": 1}}),
                json!({"any": {"k": {}, "s": 1}}),
                vec!["spec.any.k.a"],
            ),
            (
                json!({"free": {"x": {"y": 1}, "typed": {"z": 1}}}),
                json!({"free": {"x": {"y": 1}, "typed": {}}}),
                vec!["spec.free.typed.z"],
            ),
            (
                json!({"freeList": [{"a": 1}]}),
                json!({"freeList": [{"a": 1}]}),
                vec![],
            ),
            (
                json!({"embedded": {"kind": "A", "metadata": {"x": 1, "name": "n"}, "spec": {"q": 1}, "status": {}}}),
                json!({"embedded": {"kind": "A", "metadata": {"name": "n"}, "spec": {}}}),
                vec![
                    "spec.embedded.metadata.x",
                    "spec.embedded.spec.q",
                    "spec.embedded.status",
                ],
            ),
            (json!({"kind": "A"}), json!({}), vec!["spec.kind"]),
        ];
        for (before, after, removed) in cases {
            let wrap =
                |spec: &Value| json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"m": 1}, "spec": spec});
            let mut object = wrap(&before);
            assert_eq!(prune(&schema, &mut object), removed, "{before}");
            assert_eq!(object, wrap(&after));
            assert_eq!(prune(&schema, &mut object), Vec::<String>::new());
        }
    }
}
