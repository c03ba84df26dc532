//! The strategy of CustomResourceDefinition: what is filled in, which part a request may write, what is refused.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, names};
use trimtab_apiserver_kinds::strategy::{RequestContext, Strategy};

use super::validate;
use super::view::{flag, items, object_mut, storage_version, text, texts, versions};

/// Formats of texts that validation knows, without dashes; others are accepted with a warning.
/// From `k8s.io/apiextensions-apiserver/pkg/apiserver/validation/formats.go`, 1.36.
const TEXT_FORMATS: [&str; 26] = [
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8slongname",
    "k8sshortname",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
];

/// What is special about definitions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Definitions;

impl Strategy for Definitions {
    fn default(&self, object: &mut Value) {
        let spec = object_mut(object, "spec");
        let mut of_spec = Value::Object(std::mem::take(spec));
        default_spec(&mut of_spec);
        let stored = storage_version(&of_spec).map(str::to_owned);
        object["spec"] = of_spec;
        default_status(object, stored);
    }

    fn prepare_create(&self, _: &RequestContext, object: &mut Value) {
        object["status"] = json!({});
        let stored = storage_version(&object["spec"]).map(str::to_owned);
        default_status(object, stored);
    }

    fn prepare_update(&self, ctx: &RequestContext, new: &mut Value, old: &Value) {
        if ctx.subresource == "status" {
            new["spec"] = old["spec"].clone();
            return;
        }
        new["status"] = old["status"].clone();
        if let Some(version) = storage_version(&new["spec"]).map(str::to_owned) {
            let mut stored = texts(&new["status"], "storedVersions");
            if !stored.contains(&version) {
                stored.push(version);
            }
            new["status"]["storedVersions"] = json!(stored);
        }
    }

    fn validate_create(&self, _: &RequestContext, object: &Value) -> Vec<FieldError> {
        validate::definition(object, None)
    }

    fn validate_update(&self, ctx: &RequestContext, new: &Value, old: &Value) -> Vec<FieldError> {
        if ctx.subresource == "status" {
            validate::status(new)
        } else {
            validate::definition(new, Some(old))
        }
    }

    fn warnings(&self, ctx: &RequestContext, new: &Value, old: Option<&Value>) -> Vec<String> {
        if ctx.subresource == "status" {
            return Vec::new();
        }
        let before = old.map(unknown_formats).unwrap_or_default();
        let mut new = unknown_formats(new);
        new.retain(|format| !before.contains(format));
        new.into_iter()
            .map(|format| format!("unrecognized format {format:?}"))
            .collect()
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns1123_subdomain(if prefix { name.trim_end_matches('-') } else { name })
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

/// Names follow from the kind, and nothing is converted unless something else is said.
fn default_spec(spec: &mut Value) {
    let names = object_mut(spec, "names");
    for field in ["plural", "kind"] {
        names.entry(field).or_insert_with(|| "".into());
    }
    let names = &mut spec["names"];
    let kind = text(names, "kind").to_owned();
    if text(names, "singular").is_empty() && !kind.is_empty() {
        names["singular"] = kind.to_lowercase().into();
    }
    if text(names, "listKind").is_empty() && !kind.is_empty() {
        names["listKind"] = format!("{kind}List").into();
    }
    for field in ["group", "scope"] {
        if spec[field].is_null() {
            spec[field] = "".into();
        }
    }
    if spec["conversion"].is_null() {
        spec["conversion"] = json!({"strategy": "None"});
    }
    let service = spec.pointer_mut("/conversion/webhook/clientConfig/service");
    if let Some(Value::Object(service)) = service {
        service.entry("port").or_insert_with(|| 443.into());
    }
    let all = spec["versions"].as_array_mut().into_iter().flatten();
    for version in all.filter_map(Value::as_object_mut) {
        for field in ["served", "storage"] {
            version.entry(field).or_insert(Value::Bool(false));
        }
    }
    // `false` is what the absence of this field of old says too.
    if !flag(spec, "preserveUnknownFields")
        && let Some(fields) = spec.as_object_mut()
    {
        fields.remove("preserveUnknownFields");
    }
}

/// A status is there from the beginning, with all that is always there.
fn default_status(object: &mut Value, stored: Option<String>) {
    let status = object_mut(object, "status");
    status.entry("conditions").or_insert(Value::Null);
    let names = status.entry("acceptedNames").or_insert_with(|| json!({}));
    for field in ["plural", "kind"] {
        if names[field].is_null() {
            names[field] = "".into();
        }
    }
    let versions = status.entry("storedVersions").or_insert(Value::Null);
    if versions.as_array().is_none_or(Vec::is_empty) {
        *versions = stored.map_or(Value::Null, |version| json!([version]));
    }
}

/// Formats in the schemas that nobody knows; a schema that several versions share counts once.
fn unknown_formats(definition: &Value) -> Vec<String> {
    let mut schemas: Vec<&Value> = versions(&definition["spec"])
        .iter()
        .map(|v| &v["schema"]["openAPIV3Schema"])
        .collect();
    if schemas.windows(2).all(|pair| pair[0] == pair[1]) {
        schemas.truncate(1);
    }
    let mut found = Vec::new();
    for schema in schemas {
        collect_formats(schema, &mut found);
    }
    found
}

fn collect_formats(schema: &Value, found: &mut Vec<String>) {
    let format = text(schema, "format");
    let known = match text(schema, "type") {
        _ if format.is_empty() => true,
        "" | "string" => TEXT_FORMATS.contains(&format.replace('-', "").as_str()),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    };
    if !known {
        found.push(format.to_owned());
    }
    for field in ["items", "not", "additionalProperties"] {
        if schema[field].is_object() {
            collect_formats(&schema[field], found);
        }
    }
    for field in ["allOf", "anyOf", "oneOf"] {
        items(schema, field).for_each(|s| collect_formats(s, found));
    }
    for (_, property) in schema["properties"].as_object().into_iter().flatten() {
        collect_formats(property, found);
    }
}
