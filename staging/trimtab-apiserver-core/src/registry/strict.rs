//! Reads JSON (or any serde data) against a schema: what the schema does not know is dropped and reported, and so is
//! what is there twice, in the order of the document, as strict field validation words it. Values of built-in kinds
//! come out in the form in which Go's types write them.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use trimtab_apimachinery_schema::Schema;
use trimtab_apimachinery_schema::schema::{Additional, GoField, Type};

use trimtab_apiserver_kinds::builtin;

use super::go_types::{self, Misfit};

/// Whole floating-point numbers below this are exact as integers.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// So many problems are told, at most, and none of them twice: as many as Go's decoder tells of.
const MOST_PROBLEMS: usize = 100;

/// A value with what was wrong with its fields, each as `unknown field "spec.x"` or `duplicate field "spec.x"`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) value: Value,
    pub(crate) problems: Vec<String>,
    /// The first value of a built-in kind that is not of its field's type, as Go's decoder words it.
    pub(crate) misfit: Option<String>,
}

/// Reads with a schema; `custom` says that nulls are values and unknown fields are sorted, as custom resources have it.
pub(crate) fn read<'de, D: Deserializer<'de>>(
    schema: &Schema,
    custom: bool,
    deserializer: D,
) -> Result<Reading, D::Error> {
    let mut report = Report {
        path: String::new(),
        fields: Vec::new(),
        structs: Vec::new(),
        duplicate: Vec::new(),
        unknown: Vec::new(),
        misfit: None,
        custom,
        silent: 0,
    };
    let root = Node {
        schema: Some(schema),
        report: &mut report,
        embedded: false,
    };
    let value = root.deserialize(deserializer)?;
    let Report {
        duplicate,
        mut unknown,
        misfit,
        ..
    } = report;
    if custom {
        // Duplicates are found by the decoder, unknown fields by pruning after it.
        unknown.sort();
        unknown.dedup();
        unknown.truncate(MOST_PROBLEMS);
        let all = duplicate.into_iter().chain(unknown).map(|(_, text)| text);
        return Ok(Reading {
            value,
            problems: all.collect(),
            misfit: None,
        });
    }
    let mut all: Vec<(usize, String)> = duplicate;
    all.extend(unknown);
    all.sort_by_key(|(order, _)| *order);
    Ok(Reading {
        value,
        problems: all.into_iter().map(|(_, text)| text).collect(),
        misfit,
    })
}

/// Adds a problem that is not there.
fn push(problems: &mut Vec<(usize, String)>, order: usize, text: String) {
    if !problems.iter().any(|(_, known)| *known == text) {
        problems.push((order, text));
    }
}

struct Report {
    /// Where the reader is, as `spec.containers[0].image`.
    path: String,
    /// The same without indexes and keys of maps.
    fields: Vec<String>,
    /// The structs that the reader is in.
    structs: Vec<String>,
    misfit: Option<String>,
    /// Problems with their place in the document.
    duplicate: Vec<(usize, String)>,
    unknown: Vec<(usize, String)>,
    custom: bool,
    /// How many readers of their own the reader is in, which say nothing of fields.
    silent: usize,
}

impl Report {
    fn enter(&mut self, key: &str) -> usize {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        before
    }

    fn enter_index(&mut self, index: usize) -> usize {
        let before = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        before
    }

    fn leave(&mut self, before: usize) {
        self.path.truncate(before);
    }

    /// Writes down that a value does not fit, and goes on without it.
    fn misfits(&mut self, misfit: Misfit) -> Value {
        let text = match misfit {
            Misfit::Own(text) => text,
            Misfit::Type { found, wanted } => format!(
                "json: cannot unmarshal {found} into Go struct field {}.{} of type {wanted}",
                self.structs.last().map_or("", String::as_str),
                self.fields.join(".")
            ),
        };
        self.misfit.get_or_insert(text);
        Value::Null
    }

    fn found(&mut self, unknown: bool) {
        if self.silent > 0 {
            return;
        }
        let order = self.duplicate.len() + self.unknown.len();
        if unknown {
            // Sorting custom resources' unknown fields goes by path, so order is 0 for all of them.
            let text = format!("unknown field \"{}\"", self.path);
            if self.custom {
                self.unknown.push((0, text));
            } else if order < MOST_PROBLEMS {
                push(&mut self.unknown, order, text);
            }
        } else if self.duplicate.len() < MOST_PROBLEMS && (self.custom || order < MOST_PROBLEMS) {
            push(
                &mut self.duplicate,
                order,
                format!("duplicate field \"{}\"", self.path),
            );
        }
    }
}

struct Node<'a, 'r> {
    /// What is known of the value; `None` when anything goes.
    schema: Option<&'a Schema>,
    report: &'r mut Report,
    /// The value is an object with kind and metadata of its own.
    embedded: bool,
}

/// What the schema says of a field.
enum Field<'a> {
    Known(Option<&'a Schema>),
    Unknown,
}

fn field<'a>(schema: Option<&'a Schema>, key: &str, embedded: bool) -> Field<'a> {
    let Some(schema) = schema else {
        return Field::Known(None);
    };
    if let Some(property) = schema.properties.get(key) {
        return Field::Known(Some(property));
    }
    match &schema.additional {
        Additional::Schema(schema) => return Field::Known(Some(schema)),
        Additional::Any => return Field::Known(None),
        Additional::None => {}
    }
    let own = embedded || schema.embedded_resource;
    let open = schema.preserve_unknown || schema.type_ != Some(Type::Object);
    if open || (own && matches!(key, "apiVersion" | "kind" | "metadata")) {
        return Field::Known(None);
    }
    Field::Unknown
}

impl Node<'_, '_> {
    fn scalar(self, value: Value) -> Value {
        match self.schema {
            Some(schema) if !self.report.custom && !self.report.structs.is_empty() => {
                let schema = if builtin::is_recursive(schema) {
                    builtin::unfold(schema)
                } else {
                    schema
                };
                go_types::scalar(schema, value).unwrap_or_else(|misfit| self.report.misfits(misfit))
            }
            _ => value,
        }
    }

    /// Whether a list or an object of a built-in kind is where its schema has something else.
    fn is_misplaced(&self, is: Type) -> bool {
        let known = |s: &&Schema| !self.report.custom && (!s.preserve_unknown || builtin::is_recursive(s));
        let schema = self.schema.filter(known).map(builtin::unfold);
        let misplaced = |s: &Schema| s.type_.is_some_and(|wanted| wanted != is) || go_types::is_scalar(s);
        schema.is_some_and(misplaced) && !self.report.structs.is_empty()
    }

    fn misplaced(self, found: &Value) -> Value {
        let misfit = self
            .schema
            .map(|schema| go_types::misplaced(builtin::unfold(schema), found));
        match misfit.unwrap_or(Ok(Value::Null)) {
            Ok(value) => value,
            Err(misfit) => self.report.misfits(misfit),
        }
    }
}

/// Whether a value of a built-in kind says no more than its absence: null, an empty list, an empty map, and zeros where
/// Go's type has no absence.
fn says_nothing(value: &Value, schema: Option<&Schema>) -> bool {
    let Some(schema) = schema.filter(|s| !s.preserve_unknown || (value.is_null() && s.go.pointer)) else {
        return false;
    };
    match value {
        Value::Null => !schema.nullable,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty() && matches!(schema.additional, Additional::Schema(_)),
        Value::String(text) => schema.go.omit_zero && text.is_empty(),
        Value::Bool(truth) => schema.go.omit_zero && !truth,
        Value::Number(number) => schema.go.omit_zero && number.as_f64() == Some(0.0),
    }
}

/// What Go has where a list or a map of a built-in kind has null: the zero of its elements.
fn or_zero(value: Value, schema: Option<&Schema>, custom: bool) -> Value {
    match schema {
        Some(schema) if value.is_null() && !custom && builtin::is_recursive(schema) => {
            Value::Object(Map::new())
        }
        Some(schema) if value.is_null() && !custom && !schema.preserve_unknown => match schema.type_ {
            Some(Type::Object) if !schema.properties.is_empty() => Value::Object(Map::new()),
            Some(Type::String) if schema.format == "byte" => "".into(),
            _ => schema.go_zero(),
        },
        _ => value,
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(self.scalar(Value::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(self.scalar(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(self.scalar(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        // Where numbers have no types, whole ones are integers once they have been written and read again.
        if self.report.custom && v.fract() == 0.0 && v.abs() < WHOLE {
            return Ok(self.scalar((v as i64).into()));
        }
        Ok(self.scalar(Number::from_f64(v).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(self.scalar(v.into()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(self.scalar(v.into()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        if self.is_misplaced(Type::Array) {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(self.misplaced(&Value::Array(Vec::new())));
        }
        let items = match self.schema {
            // One schema or several: each is one.
            Some(schema) if schema.preserve_unknown && !self.report.custom => {
                builtin::is_unfolded(schema).then(|| builtin::unfold(schema))
            }
            schema => schema.and_then(|s| s.items.as_deref()),
        };
        let mut out = Vec::new();
        loop {
            let before = self.report.enter_index(out.len());
            let item = seq.next_element_seed(Node {
                schema: items,
                report: self.report,
                embedded: false,
            })?;
            self.report.leave(before);
            match item {
                Some(item) => out.push(or_zero(item, items, self.report.custom)),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        if self.is_misplaced(Type::Object) {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(self.misplaced(&Value::Object(Map::new())));
        }
        let (embedded, report) = (self.embedded, self.report);
        let custom = report.custom;
        let schema = self.schema.map(|s| if custom { s } else { builtin::unfold(s) });
        let own_reader = self
            .schema
            .is_some_and(|s| !custom && !builtin::is_recursive(s) && builtin::is_unfolded(s));
        report.silent += usize::from(own_reader);
        let name = schema.and_then(go_types::struct_name);
        report.structs.extend(name.map(str::to_owned));
        let is_struct = schema.is_some_and(|s| !s.properties.is_empty());
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let before = report.enter(&key);
            let found = field(schema, &key, embedded);
            if is_struct {
                report.fields.push(match &found {
                    Field::Known(Some(Schema {
                        go:
                            GoField {
                                within: Some(within), ..
                            },
                        ..
                    })) => {
                        format!("{within}.{key}")
                    }
                    _ => key.clone(),
                });
            }
            match found {
                Field::Unknown => {
                    report.found(true);
                    map.next_value::<IgnoredAny>()?;
                }
                Field::Known(known) => {
                    if out.contains_key(&key) {
                        report.found(false);
                    }
                    let embedded = known.is_some_and(|s| s.embedded_resource);
                    let value = map.next_value_seed(Node {
                        schema: known,
                        report: &mut *report,
                        embedded,
                    })?;
                    let value = if is_struct {
                        value
                    } else {
                        or_zero(value, known, custom)
                    };
                    // An empty list of managed fields is an order to forget them.
                    let kept = custom
                        || !is_struct
                        || key == "managedFields"
                        || (!value.is_null() && known.is_some_and(|s| s.go.kept));
                    if !kept && says_nothing(&value, known) {
                        out.remove(&key);
                    } else {
                        out.insert(key, value);
                    }
                }
            }
            if is_struct {
                report.fields.pop();
            }
            report.leave(before);
        }
        if name.is_some() {
            report.structs.pop();
        }
        report.silent -= usize::from(own_reader);
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn schema() -> Schema {
        let object = |properties: &[(&str, Schema)]| Schema {
            type_: Some(Type::Object),
            properties: properties
                .iter()
                .map(|(k, v)| ((*k).to_owned(), Arc::new(v.clone())))
                .collect(),
            ..Schema::default()
        };
        let text = Schema {
            type_: Some(Type::String),
            ..Schema::default()
        };
        let map = Schema {
            type_: Some(Type::Object),
            additional: Additional::Schema(Arc::new(text.clone())),
            ..Schema::default()
        };
        let list = Schema {
            type_: Some(Type::Array),
            items: Some(Arc::new(object(&[("name", text.clone())]))),
            ..Schema::default()
        };
        object(&[("a", text), ("m", map), ("l", list), ("any", Schema::any())])
    }

    #[test]
    fn problems_are_reported_in_the_order_of_the_document() {
        let text = r#"{"z":1,"m":{"k":"1","k":"2"},"l":[{"name":"x"},{"nom":1}],"any":{"x":{"y":1}},"a":null,"b":2}"#;
        let mut de = serde_json::Deserializer::from_str(text);
        let reading = read(&schema(), false, &mut de).unwrap_or_default();
        assert_eq!(
            reading.value,
            json!({"m": {"k": "2"}, "l": [{"name": "x"}, {}], "any": {"x": {"y": 1}}})
        );
        let problems = [
            "unknown field \"z\"",
            "duplicate field \"m.k\"",
            "unknown field \"l[1].nom\"",
            "unknown field \"b\"",
        ];
        assert_eq!(reading.problems, problems);
    }

    #[test]
    fn what_does_not_fit_is_named_as_go_names_it() {
        let mut schema = schema();
        schema.name = "io.k8s.api.core.v1.Thing".to_owned();
        let cases = [
            (
                r#"{"m":{"k":1}}"#,
                "number into Go struct field Thing.m of type string",
            ),
            (
                r#"{"m":["x"]}"#,
                "array into Go struct field Thing.m of type map[string]string",
            ),
            (
                r#"{"l":[{"name":true}]}"#,
                "bool into Go struct field Thing.l.name of type string",
            ),
            (
                r#"{"a":{"x":1}}"#,
                "object into Go struct field Thing.a of type string",
            ),
        ];
        for (text, expected) in cases {
            let reading =
                read(&schema, false, &mut serde_json::Deserializer::from_str(text)).unwrap_or_default();
            assert_eq!(
                reading.misfit,
                Some(format!("json: cannot unmarshal {expected}")),
                "{text}"
            );
        }
    }

    /// What comes of a body of a built-in kind: the object, or why it does not fit.
    fn built_in(kind: &str, text: &str) -> Result<Value, String> {
        let resource = trimtab_apiserver_kinds::builtin::all()
            .into_iter()
            .find(|resource| resource.kind == kind)
            .expect("a built-in kind");
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let reading = read(&resource.schema, false, &mut deserializer).expect("it is JSON");
        reading.misfit.map_or(Ok(reading.value), Err)
    }

    #[test]
    fn built_in_kinds_are_read_as_gos_types_read_them() {
        let refused = |why: &str| Err(format!("json: cannot unmarshal {why}"));
        let cases = [
            // Null is the zero of an element, and an absence elsewhere.
            ("ConfigMap", r#"{"data":{"a":null},"immutable":null}"#, Ok(json!({"data": {"a": ""}}))),
            ("Pod", r#"{"spec":{"containers":[null]}}"#, Ok(json!({"spec": {"containers": [{}]}}))),
            ("ResourceQuota", r#"{"spec":{"hard":{"pods":null}}}"#, Ok(json!({"spec": {"hard": {"pods": "0"}}}))),
            // A zero is an absence, unless there is a pointer to it or it is always written.
            (
                "Deployment",
                r#"{"spec":{"paused":false,"minReadySeconds":0,"replicas":0}}"#,
                Ok(json!({"spec": {"replicas": 0}})),
            ),
            ("PriorityClass", r#"{"value":0,"description":""}"#, Ok(json!({"value": 0}))),
            ("CSINode", r#"{"spec":{"drivers":[]}}"#, Ok(json!({"spec": {"drivers": []}}))),
            // The recursive type is read as deep as it goes.
            (
                "CustomResourceDefinition",
                r#"{"spec":{"versions":[{"schema":{"openAPIV3Schema":{"properties":{"a":{"items":{"type":5}}}}}}]}}"#,
                refused(
                    "number into Go struct field JSONSchemaProps.spec.versions.schema.openAPIV3Schema.properties.items.type \
                     of type string",
                ),
            ),
            (
                "CustomResourceDefinition",
                r#"{"spec":{"versions":[{"subresources":{"status":{"a":1}},"schema":{"openAPIV3Schema":
                    {"properties":{"a":{"b":1,"required":[],"nullable":false,"default":{"c":null}}}}}}]}}"#,
                Ok(json!({"spec": {"versions": [{"subresources": {"status": {}}, "schema": {"openAPIV3Schema":
                    {"properties": {"a": {"default": {"c": null}}}}}}]}})),
            ),
            // Types have Go's names, and fields are where Go has them.
            (
                "Secret",
                r#"{"type":5}"#,
                refused("number into Go struct field Secret.type of type v1.SecretType"),
            ),
            (
                "Service",
                r#"{"spec":{"ipFamilies":"x"}}"#,
                refused("string into Go struct field ServiceSpec.spec.ipFamilies of type []v1.IPFamily"),
            ),
            (
                "Service",
                r#"{"spec":{"ipFamilies":[1]}}"#,
                refused("number into Go struct field ServiceSpec.spec.ipFamilies of type v1.IPFamily"),
            ),
            (
                "PersistentVolume",
                r#"{"spec":{"nfs":{"path":1}}}"#,
                refused(
                    "number into Go struct field NFSVolumeSource.spec.PersistentVolumeSource.nfs.path of type string",
                ),
            ),
            (
                "Service",
                r#"{"spec":{"ports":[{"targetPort":{}}]}}"#,
                refused("object into Go struct field ServicePort.spec.ports.targetPort of type int32"),
            ),
            (
                "Node",
                r#"{"status":{"capacity":{"cpu":{}}}}"#,
                Err("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned()),
            ),
        ];
        for (kind, text, expected) in cases {
            assert_eq!(built_in(kind, text), expected, "{kind} {text}");
        }
    }

    #[test]
    fn custom_resources_report_duplicates_first_and_keep_nulls() {
        let text = r#"{"z":1,"b":1,"a":"1","a":null}"#;
        let reading =
            read(&schema(), true, &mut serde_json::Deserializer::from_str(text)).unwrap_or_default();
        assert_eq!(reading.value, json!({"a": null}));
        assert_eq!(
            reading.problems,
            [
                "duplicate field \"a\"",
                "unknown field \"b\"",
                "unknown field \"z\""
            ]
        );
    }
}
