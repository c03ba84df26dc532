//! Schemas as OpenAPI writes them: named ones once, as definitions, and references to them everywhere else.

use serde_json::{Map, Value, json};
use trimtab_apimachinery_schema::Schema;
use trimtab_apimachinery_schema::schema::{Additional, Checks, ListType, Rule};

/// Collects the definitions that schemas refer to.
#[derive(Debug)]
pub(super) struct Definitions {
    /// Where definitions live, as `#/components/schemas/`.
    prefix: &'static str,
    /// Whether a reference may have siblings only inside `allOf`, as in OpenAPI 3.0.
    wraps: bool,
    /// The definitions, by name.
    pub(super) found: Map<String, Value>,
}

impl Definitions {
    pub(super) fn v3() -> Self {
        Self {
            prefix: "#/components/schemas/",
            wraps: true,
            found: Map::new(),
        }
    }

    pub(super) fn v2() -> Self {
        Self {
            prefix: "#/definitions/",
            wraps: false,
            found: Map::new(),
        }
    }

    /// A reference to the definition of that name.
    pub(super) fn reference(&self, name: &str) -> Value {
        json!({"$ref": format!("{}{name}", self.prefix)})
    }

    /// The schema where it is used: a reference when it has a name, else itself.
    pub(super) fn usage(&mut self, schema: &Schema) -> Value {
        if schema.name.is_empty() {
            return self.body(schema);
        }
        let reference = self.define(schema);
        if !self.wraps {
            return reference;
        }
        let mut usage = json!({ "allOf": [reference] });
        if !schema.description.is_empty() {
            usage["description"] = schema.description.clone().into();
        }
        if let Some(default) = &schema.default {
            usage["default"] = default.clone();
        }
        usage
    }

    /// Defines a named schema and returns a reference to it.
    pub(super) fn define(&mut self, schema: &Schema) -> Value {
        if !self.found.contains_key(&schema.name) {
            // Taken first, so that a definition may refer to itself.
            self.found.insert(schema.name.clone(), Value::Null);
            let body = self.body(schema);
            self.found.insert(schema.name.clone(), body);
        }
        self.reference(&schema.name)
    }

    /// The schema itself.
    pub(super) fn body(&mut self, schema: &Schema) -> Value {
        let mut out = Map::new();
        if !schema.description.is_empty() {
            out.insert("description".into(), schema.description.clone().into());
        }
        // What OpenAPI 2 has no words for is left open there: clients would refuse it otherwise.
        let any = !self.wraps && schema.nullable;
        let open = !self.wraps && (schema.nullable || schema.preserve_unknown);
        if let Some(type_) = schema.type_.filter(|_| !any) {
            out.insert("type".into(), type_.name().into());
        }
        if !schema.format.is_empty() {
            out.insert("format".into(), schema.format.clone().into());
        }
        if let Some(default) = &schema.default {
            out.insert("default".into(), default.clone());
        }
        if schema.nullable && self.wraps {
            out.insert("nullable".into(), true.into());
        }
        if !schema.enum_values.is_empty() {
            out.insert("enum".into(), schema.enum_values.clone().into());
        }
        if !schema.required.is_empty() {
            out.insert("required".into(), schema.required.clone().into());
        }
        if !schema.properties.is_empty() && !open {
            let properties: Map<String, Value> = schema
                .properties
                .iter()
                .map(|(name, s)| (name.clone(), self.usage(s)))
                .collect();
            out.insert("properties".into(), properties.into());
        }
        match &schema.additional {
            _ if any => {}
            Additional::Schema(values) => drop(out.insert("additionalProperties".into(), self.usage(values))),
            Additional::Any => drop(out.insert("additionalProperties".into(), true.into())),
            Additional::None => {}
        }
        if let Some(items) = schema.items.as_ref().filter(|_| !open) {
            out.insert("items".into(), self.usage(items));
        }
        if let Some(checks) = &schema.checks {
            self.checks(checks, &mut out);
        }
        extensions(schema, &mut out);
        Value::Object(out)
    }

    fn checks(&mut self, checks: &Checks, out: &mut Map<String, Value>) {
        let numbers = [
            ("minimum", &checks.minimum),
            ("maximum", &checks.maximum),
            ("multipleOf", &checks.multiple_of),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                out.insert(name.into(), number.clone().into());
            }
        }
        let counts = [
            ("minLength", checks.min_length),
            ("maxLength", checks.max_length),
            ("minItems", checks.min_items),
            ("maxItems", checks.max_items),
            ("minProperties", checks.min_properties),
            ("maxProperties", checks.max_properties),
        ];
        for (name, count) in counts {
            if let Some(count) = count {
                out.insert(name.into(), count.into());
            }
        }
        let flags = [
            ("exclusiveMinimum", checks.exclusive_minimum),
            ("exclusiveMaximum", checks.exclusive_maximum),
            ("uniqueItems", checks.unique_items),
        ];
        for (name, _) in flags.into_iter().filter(|(_, set)| *set) {
            out.insert(name.into(), true.into());
        }
        if let Some(pattern) = &checks.pattern {
            out.insert("pattern".into(), pattern.clone().into());
        }
        // OpenAPI 2 knows none of these but allOf, and clients choke on them.
        if self.wraps {
            for (name, list) in [
                ("allOf", &checks.all_of),
                ("anyOf", &checks.any_of),
                ("oneOf", &checks.one_of),
            ] {
                if !list.is_empty() {
                    let list: Vec<Value> = list.iter().map(|s| self.usage(s)).collect();
                    out.insert(name.into(), list.into());
                }
            }
            if let Some(not) = &checks.not {
                let not = self.usage(not);
                out.insert("not".into(), not);
            }
        }
    }
}

fn extensions(schema: &Schema, out: &mut Map<String, Value>) {
    let flags = [
        ("x-kubernetes-int-or-string", schema.int_or_string),
        ("x-kubernetes-preserve-unknown-fields", schema.preserve_unknown),
        ("x-kubernetes-embedded-resource", schema.embedded_resource),
    ];
    for (name, _) in flags.into_iter().filter(|(_, set)| *set) {
        out.insert(name.into(), true.into());
    }
    let list_type = match schema.list_type {
        ListType::Map => Some("map"),
        ListType::Set => Some("set"),
        ListType::Atomic => schema.list_type_stated.then_some("atomic"),
    };
    if let Some(list_type) = list_type {
        out.insert("x-kubernetes-list-type".into(), list_type.into());
    }
    if !schema.list_map_keys.is_empty() {
        out.insert(
            "x-kubernetes-list-map-keys".into(),
            schema.list_map_keys.clone().into(),
        );
    }
    if schema.map_atomic {
        out.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    if !schema.rules.is_empty() {
        let rules: Vec<Value> = schema.rules.iter().map(rule).collect();
        out.insert("x-kubernetes-validations".into(), rules.into());
    }
    let strategy = match (schema.patch_merge, schema.patch_retain_keys) {
        (true, true) => Some("merge,retainKeys"),
        (true, false) => Some("merge"),
        (false, true) => Some("retainKeys"),
        (false, false) => None,
    };
    if let Some(strategy) = strategy {
        out.insert("x-kubernetes-patch-strategy".into(), strategy.into());
    }
    if !schema.patch_merge_key.is_empty() {
        out.insert(
            "x-kubernetes-patch-merge-key".into(),
            schema.patch_merge_key.clone().into(),
        );
    }
}

/// A CEL rule as a definition has it.
fn rule(rule: &Rule) -> Value {
    let mut out = json!({ "rule": rule.rule });
    for (name, text) in [
        ("message", &rule.message),
        ("messageExpression", &rule.message_expression),
        ("reason", &rule.reason),
        ("fieldPath", &rule.field_path),
    ] {
        if !text.is_empty() {
            out[name] = text.as_str().into();
        }
    }
    if rule.optional_old_self {
        out["optionalOldSelf"] = true.into();
    }
    out
}
