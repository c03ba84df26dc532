//! The one place where definitions meet structural schemas: checking them, and making them ready for use.

use std::sync::{Arc, OnceLock};

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath};
use trimtab_apimachinery_schema::Schema;
use trimtab_apimachinery_schema::schema::{Additional, Type};
use trimtab_apimachinery_schema::structural::{self, Validator};

/// What is wrong with a schema as the schema of a version.
pub(super) fn check(schema: &Value, at: &FieldPath) -> Vec<FieldError> {
    structural::check_definition(schema, at.clone())
}

/// A version's schema, ready for use.
#[derive(Debug)]
pub(super) struct Compiled {
    /// As the definition has it.
    own: Arc<Schema>,
    /// With what every object has: what requests are read by, and what is published.
    pub(super) serving: Arc<Schema>,
    validator: Validator,
    /// Validates the status alone.
    status: Option<Validator>,
}

impl Compiled {
    /// Reads `openAPIV3Schema`.
    pub(super) fn new(schema: &Value) -> Arc<Self> {
        let own = Arc::new(Schema::from_openapi(schema));
        let status = own.properties.get("status").cloned();
        Arc::new(Self {
            serving: Arc::new(with_metadata(&own, true)),
            validator: Validator::new(own.clone()),
            status: status.map(Validator::new),
            own,
        })
    }

    /// Drops what the schema does not know.
    pub(super) fn prune(&self, object: &mut Value) {
        structural::prune(&self.own, object);
    }

    /// Fills in what the schema has defaults for.
    pub(super) fn default(&self, object: &mut Value) {
        structural::default(&self.own, object);
    }

    pub(super) fn check_values(
        &self,
        new: &Value,
        old: Option<&Value>,
        at: &FieldPath,
        errors: &mut Vec<FieldError>,
    ) {
        self.validator.check_values(new, old, at, errors);
    }

    pub(super) fn check_status(
        &self,
        new: &Value,
        old: Option<&Value>,
        at: &FieldPath,
        errors: &mut Vec<FieldError>,
    ) {
        if let Some(status) = &self.status {
            status.check_values(new, old, at, errors);
        }
    }

    pub(super) fn check_rules(
        &self,
        new: &Value,
        old: Option<&Value>,
        at: &FieldPath,
        errors: &mut Vec<FieldError>,
    ) {
        self.validator.check_rules(new, old, at, errors);
    }
}

/// The schema with `apiVersion`, `kind` and `metadata` wherever an object of its own begins.
fn with_metadata(schema: &Schema, is_object: bool) -> Schema {
    let mut out = schema.clone();
    let below = |s: &Arc<Schema>| Arc::new(with_metadata(s, s.embedded_resource));
    for property in out.properties.values_mut() {
        *property = below(property);
    }
    out.items = out.items.as_ref().map(below);
    if let Additional::Schema(values) = &out.additional {
        out.additional = Additional::Schema(below(values));
    }
    if is_object {
        out.properties.extend(type_and_metadata().iter().cloned());
        out.type_.get_or_insert(Type::Object);
    }
    out
}

/// `apiVersion`, `kind` and `metadata` as built-in kinds have them, with their descriptions.
fn type_and_metadata() -> &'static [(String, Arc<Schema>)] {
    static FIELDS: OnceLock<Vec<(String, Arc<Schema>)>> = OnceLock::new();
    FIELDS.get_or_init(|| {
        let all = trimtab_apiserver_kinds::builtin::all();
        let plain = all.iter().find(|r| r.group.is_empty() && r.plural == "configmaps");
        ["apiVersion", "kind", "metadata"]
            .into_iter()
            .filter_map(|name| {
                let schema = plain?.schema.properties.get(name)?;
                let mut schema = Schema::clone(schema);
                if name == "metadata" {
                    "Standard object's metadata. More info: \
                     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
                        .clone_into(&mut schema.description);
                }
                Some((name.to_owned(), Arc::new(schema)))
            })
            .collect()
    })
}
