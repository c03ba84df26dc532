//! The value validations of OpenAPI, in the order in which kube-openapi does them.

use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value};
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};

use super::correlate::Old;
use super::outcome::{Fault, Outcome};
use super::{formats, numbers, regexes};
use crate::Schema;
use crate::schema::{Additional, Checks, Type};

/// What a schema's value validations need beside the schema: its compiled patterns.
#[derive(Debug, Default)]
pub(super) struct Values {
    patterns: HashMap<String, Result<Regex, String>>,
    /// Whether int-or-string values may be anything and all formats count, as kube-apiserver has it for defaults.
    lenient: bool,
}

impl Values {
    pub(super) fn new(schema: &Schema) -> Self {
        let mut values = Self::default();
        values.collect(schema);
        values
    }

    /// Validates a default by its schema.
    pub(super) fn for_default(schema: &Schema) -> Self {
        Self {
            lenient: true,
            ..Self::new(schema)
        }
    }

    /// Compiles the patterns of a schema and of all schemas in it.
    fn collect(&mut self, schema: &Schema) {
        schema.properties.values().for_each(|s| self.collect(s));
        if let Additional::Schema(s) = &schema.additional {
            self.collect(s);
        }
        if let Some(s) = &schema.items {
            self.collect(s);
        }
        let Some(checks) = &schema.checks else { return };
        let nested = checks.all_of.iter().chain(&checks.any_of).chain(&checks.one_of);
        nested.chain(&checks.not).for_each(|s| self.collect(s));
        if let Some(pattern) = &checks.pattern
            && !self.patterns.contains_key(pattern)
        {
            self.patterns.insert(pattern.clone(), regexes::compile(pattern));
        }
    }

    /// Appends what is wrong with `new`; `path` is where it is.
    pub(super) fn check(
        &self,
        schema: &Schema,
        new: &Value,
        old: Option<&Value>,
        path: &FieldPath,
        errors: &mut Vec<FieldError>,
    ) {
        let old = old.map(|value| Old { value, schema });
        let outcome = self.value(schema, new, old, "");
        errors.extend(outcome.faults.into_iter().map(|fault| fault.into_error(path)));
    }

    /// A value that has a place of its own; it is not refused when it replaces itself.
    fn value(&self, schema: &Schema, new: &Value, old: Option<Old<'_>>, name: &str) -> Outcome {
        let mut outcome = self.against(schema, new, old, name);
        if !outcome.is_valid() && old.is_some_and(|old| old.unchanged(new)) {
            outcome.faults.clear();
        }
        outcome
    }

    /// A value against one schema, which may be one of several alternatives.
    fn against(&self, schema: &Schema, new: &Value, old: Option<Old<'_>>, name: &str) -> Outcome {
        let mut all = Outcome::default();
        let format = schema.format.as_str();
        let format = if self.lenient || formats::known(schema.type_, schema.int_or_string, format) {
            format
        } else {
            ""
        };
        if new.is_null() {
            all.merge(self.json_type(schema, format, new, name));
            all.merge(enumeration(schema, new, name));
            return all;
        }
        let typed = schema.type_.is_some() || (schema.int_or_string && !self.lenient);
        if typed || !format.is_empty() {
            all.merge(self.json_type(schema, format, new, name));
            all.checks += 1;
        }
        let checks = schema.checks.as_deref();
        if let Some(checks) = checks {
            all.merge(self.alternatives(checks, new, name));
        }
        all.checks += if checks.is_some() { 1 } else { 2 };
        match new {
            Value::String(text) => {
                if let Some(checks) = checks {
                    all.merge(self.text(checks, text, name));
                }
                all.checks += 1;
                if let Some(named) = formats::named(format) {
                    if !named.accepts(text) {
                        let fault = Fault::wrong_type(name, format, text);
                        all.add(fault);
                    }
                    all.checks += 1;
                }
            }
            Value::Number(_) => {
                all.merge(numbers::check(schema, format, checks, new, name));
                all.checks += 1;
            }
            Value::Array(items) => {
                all.merge(self.list(schema, items, old, name));
                all.checks += 1;
            }
            _ => {}
        }
        all.merge(enumeration(schema, new, name));
        all.checks += 1;
        if let Value::Object(fields) = new {
            all.merge(self.object(schema, new, fields, old, name));
            all.checks += 1;
        }
        all.checks += 1;
        all
    }

    /// The names of the accepted types.
    fn type_names(&self, schema: &Schema) -> Vec<&'static str> {
        if schema.int_or_string && !self.lenient {
            vec!["integer", "string"]
        } else {
            schema.type_.map(Type::name).into_iter().collect()
        }
    }

    fn json_type(&self, schema: &Schema, format: &str, new: &Value, name: &str) -> Outcome {
        let names = self.type_names(schema);
        let accepts = |name: &str| names.contains(&name);
        let mut all = Outcome::default();
        let (found, found_format) = match new {
            Value::Null => {
                if names.is_empty() || schema.nullable {
                    all.checks = 1;
                } else {
                    all.add(Fault::wrong_type(name, &names.join(","), "null"));
                }
                return all;
            }
            Value::Bool(_) => ("boolean", ""),
            Value::String(_) => ("string", ""),
            Value::Array(_) => ("array", ""),
            Value::Object(_) => ("object", ""),
            Value::Number(n) if n.is_f64() => ("number", "float64"),
            Value::Number(_) => ("integer", "int64"),
        };
        let whole = new.as_f64().is_some_and(|n| new.is_f64() && n.fract() == 0.0);
        let convertible = (whole && accepts("integer")) || (found == "integer" && accepts("number"));
        let texty = matches!(found, "string" | "array");
        if !texty && !format.is_empty() && !accepts(found) && found_format != format && !convertible {
            all.add(Fault::wrong_type(name, format, found_format));
        } else if texty && !format.is_empty() && !accepts("number") && !accepts("integer") {
            // The format judges it.
            all.checks = 1;
        } else if !accepts(found) && !convertible {
            // A format without a type leaves the type open.
            all.add(Fault::wrong_type(name, &names.join(","), found));
        } else {
            all.checks = 1;
        }
        all
    }

    /// `anyOf`, `oneOf`, `allOf`, `not`: about the new value alone.
    fn alternatives(&self, checks: &Checks, new: &Value, name: &str) -> Outcome {
        let mut all = Outcome::default();
        if !checks.any_of.is_empty() {
            let mut best: Option<Outcome> = None;
            for schema in &checks.any_of {
                let outcome = self.against(schema, new, None, name);
                let valid = outcome.is_valid();
                if valid || best.as_ref().is_none_or(|b| outcome.checks > b.checks) {
                    best = Some(outcome);
                }
                if valid {
                    break;
                }
            }
            if best.as_ref().is_some_and(|b| !b.is_valid()) {
                all.add(Fault::general(format!(
                    "{name:?} must validate at least one schema (anyOf)"
                )));
            }
            all.merge(best.unwrap_or_default());
        }
        if !checks.one_of.is_empty() {
            let mut first: Option<Outcome> = None;
            let mut best: Option<Outcome> = None;
            let mut valid = 0;
            for schema in &checks.one_of {
                let outcome = self.against(schema, new, None, name);
                if outcome.is_valid() {
                    valid += 1;
                    first.get_or_insert(outcome);
                } else if best.as_ref().is_none_or(|b| outcome.checks > b.checks) {
                    best = Some(outcome);
                }
            }
            if valid == 1 {
                all.merge(first.unwrap_or_default());
            } else {
                let found = match valid {
                    0 => "Found none valid".to_owned(),
                    n => format!("Found {n} valid alternatives"),
                };
                all.add(Fault::general(format!(
                    "{name:?} must validate one and only one schema (oneOf). {found}"
                )));
                if valid == 0 {
                    all.merge(best.unwrap_or_default());
                }
            }
        }
        if !checks.all_of.is_empty() {
            let mut valid = 0;
            for schema in &checks.all_of {
                let outcome = self.against(schema, new, None, name);
                valid += usize::from(outcome.is_valid());
                all.merge(outcome);
            }
            if valid != checks.all_of.len() {
                let none = if valid == 0 { ". None validated" } else { "" };
                all.add(Fault::general(format!(
                    "{name:?} must validate all the schemas (allOf){none}"
                )));
            }
        }
        if let Some(schema) = &checks.not
            && self.against(schema, new, None, name).is_valid()
        {
            all.add(Fault::general(format!(
                "{name:?} must not validate the schema (not)"
            )));
        }
        all.checks += 1;
        all
    }

    /// Only the first fault of a text is reported.
    fn text(&self, checks: &Checks, text: &str, name: &str) -> Outcome {
        let mut all = Outcome::default();
        let length = text.chars().count() as u64;
        if let Some(most) = checks.max_length.filter(|most| length > *most) {
            all.add(Fault::too_long(name, most));
        } else if let Some(least) = checks.min_length.filter(|least| length < *least) {
            all.add(Fault::invalid(
                name,
                text,
                &format!("should be at least {least} chars long"),
            ));
        } else if let Some(pattern) = &checks.pattern {
            match self.patterns.get(pattern) {
                Some(Ok(regex)) if regex.is_match(text) => {}
                Some(Err(error)) => all.add(Fault::invalid(
                    name,
                    text,
                    &format!("should match '{pattern}, but pattern is invalid: {error}'"),
                )),
                _ => all.add(Fault::invalid(name, text, &format!("should match '{pattern}'"))),
            }
        }
        all
    }

    fn list(&self, schema: &Schema, items: &[Value], old: Option<Old<'_>>, name: &str) -> Outcome {
        let mut all = Outcome::default();
        if let Some(element) = &schema.items {
            for (index, item) in items.iter().enumerate() {
                let old = old.and_then(|old| old.element(item));
                all.merge(self.value(element, item, old, &format!("{name}[{index}]")));
            }
        }
        if let Some(checks) = &schema.checks {
            let count = items.len() as u64;
            if let Some(least) = checks.min_items.filter(|least| count < *least) {
                all.add(Fault::invalid(
                    name,
                    count,
                    &format!("should have at least {least} items"),
                ));
            }
            if let Some(most) = checks.max_items.filter(|most| count > *most) {
                all.add(Fault::too_many(name, "items", items.len(), most));
            }
            if checks.unique_items
                && items
                    .iter()
                    .enumerate()
                    .any(|(i, v)| items.iter().take(i).any(|u| u == v))
            {
                all.add(Fault::invalid(name, "", "shouldn't contain duplicates"));
            }
        }
        all.checks += 1;
        all
    }

    fn object(
        &self,
        schema: &Schema,
        new: &Value,
        fields: &Map<String, Value>,
        old: Option<Old<'_>>,
        name: &str,
    ) -> Outcome {
        let mut all = Outcome::default();
        if let Some(checks) = &schema.checks {
            let count = fields.len() as u64;
            if let Some(least) = checks.min_properties.filter(|least| count < *least) {
                all.add(Fault::invalid(
                    name,
                    count,
                    &format!("should have at least {least} properties"),
                ));
            }
            if let Some(most) = checks.max_properties.filter(|most| count > *most) {
                all.add(Fault::too_many(name, "properties", fields.len(), most));
            }
        }
        // The type of an object is judged anew each time.
        let old_of = |field: &str| {
            let judged = name.is_empty() && matches!(field, "apiVersion" | "kind");
            old.filter(|_| !judged).and_then(|old| old.field(new, field))
        };
        if let Additional::Schema(values) = &schema.additional {
            for (key, value) in fields
                .iter()
                .filter(|(key, _)| !schema.properties.contains_key(*key))
            {
                all.merge(self.value(values, value, old_of(key), &format!("{name}.{key}")));
            }
        }
        for (key, property) in &schema.properties {
            if let Some(value) = fields.get(key) {
                let name = if name.is_empty() {
                    key.clone()
                } else {
                    format!("{name}.{key}")
                };
                all.merge(self.value(property, value, old_of(key), &name));
            }
        }
        for key in schema.required.iter().filter(|key| !fields.contains_key(*key)) {
            all.add(Fault::required(format!("{name}.{key}")));
        }
        all
    }
}

fn enumeration(schema: &Schema, new: &Value, name: &str) -> Outcome {
    let mut all = Outcome::default();
    // Numbers are compared as the allowed one's type, so 1.5 passes for 1.
    let equal = |allowed: &Value| match (allowed.as_f64(), new.as_f64()) {
        (Some(a), Some(b)) => a == if allowed.is_f64() { b } else { b.trunc() },
        _ => !allowed.is_null() && allowed == new,
    };
    if !schema.enum_values.is_empty() && !schema.enum_values.iter().any(equal) {
        all.add(Fault::not_in_enum(name, new, &schema.enum_values));
    }
    all
}

/// Whether numbers are whole by type, or may have a fraction.
pub(super) fn is_integer(schema: &Schema) -> bool {
    schema.type_ == Some(Type::Integer) && !schema.int_or_string
}
