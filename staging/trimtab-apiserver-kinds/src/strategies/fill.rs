//! What Go writes though nobody has set it: structs that are no pointers, and fields that are never left out.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use trimtab_apimachinery_schema::Schema;
use trimtab_apimachinery_schema::schema::Additional;

use crate::schema_ref::SchemaRef;

/// Fills in empty structs and zero values, below `metadata` only where it is not the object's own. An empty object has
/// them too, so that who writes an object does not own them.
pub(super) fn fill_zeros(schema: &SchemaRef, object: &mut Value) {
    fill_below(schema.filling(), object, Empty::Stays);
}

/// The same of an object as it is stored: the store knows no empty lists and maps.
pub(super) fn fill_object(schema: &SchemaRef, object: &mut Value) {
    fill_below(schema.filling(), object, Empty::BecomesNull);
}

/// What becomes of an empty list that is always written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    /// It stays, and who wrote it owns it.
    Stays,
    /// It is null, as in the store.
    BecomesNull,
}

/// What there is to fill in of a type. It is worked out once for a schema, most of whose fields need nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filling {
    /// The fields that need something, themselves or below.
    fields: Vec<Field>,
    /// Of the elements of a list.
    items: Option<Arc<Filling>>,
    /// Of the values of a map.
    values: Option<Arc<Filling>>,
}

#[derive(Clone, Debug)]
struct Field {
    name: String,
    below: Option<Arc<Filling>>,
    absent: Absent,
}

/// What becomes of a field that is not there.
#[derive(Clone, Debug)]
enum Absent {
    /// Nothing.
    Stays,
    /// An empty struct.
    Struct,
    /// This zero.
    Zero(Value),
    /// Null, as what an empty list or map becomes.
    List,
}

impl Filling {
    /// What there is to fill in of an object of this schema.
    pub(crate) fn of(schema: &Schema) -> Self {
        Self::with(schema, &mut HashMap::new())
    }

    /// `known` holds what has been worked out already, by the address of the schema: many types have parts in common.
    fn with(schema: &Schema, known: &mut HashMap<*const Schema, Option<Arc<Self>>>) -> Self {
        let mut below = |schema: &Arc<Schema>| {
            let address = Arc::as_ptr(schema);
            if let Some(filling) = known.get(&address) {
                return filling.clone();
            }
            let filling = Self::with(schema, known);
            let filling = (!filling.is_empty()).then(|| Arc::new(filling));
            known.insert(address, filling.clone());
            filling
        };
        let mut fields = Vec::new();
        for (name, field) in &schema.properties {
            let absent = if is_struct(field) {
                Absent::Struct
            } else if field.go.kept && is_list(field) {
                Absent::List
            } else if field.go.kept {
                Absent::Zero(field.go_zero())
            } else {
                Absent::Stays
            };
            let below = below(field);
            if below.is_some() || !matches!(absent, Absent::Stays) {
                let name = name.clone();
                fields.push(Field { name, below, absent });
            }
        }
        let values = match &schema.additional {
            Additional::Schema(values) => below(values),
            Additional::None | Additional::Any => None,
        };
        let items = schema.items.as_ref().and_then(below);
        Self {
            fields,
            items,
            values,
        }
    }

    fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.items.is_none() && self.values.is_none()
    }
}

fn fill_below(filling: &Filling, object: &mut Value, empty: Empty) {
    let metadata = object.as_object_mut().and_then(|o| o.remove("metadata"));
    fill(filling, object, empty);
    if let Some(object) = object.as_object_mut() {
        match metadata {
            Some(metadata) => drop(object.insert("metadata".to_owned(), metadata)),
            None => drop(object.remove("metadata")),
        }
    }
}

fn fill(filling: &Filling, value: &mut Value, empty: Empty) {
    match value {
        Value::Array(items) => {
            if let Some(filling) = &filling.items {
                items.iter_mut().for_each(|item| fill(filling, item, empty));
            }
        }
        Value::Object(fields) => {
            if let Some(filling) = &filling.values {
                fields.values_mut().for_each(|value| fill(filling, value, empty));
            }
            for Field { name, below, absent } in &filling.fields {
                match (fields.get_mut(name), absent) {
                    (Some(value), Absent::List) if empty == Empty::BecomesNull && is_hollow(value) => {
                        *value = Value::Null;
                    }
                    (Some(value), _) => {
                        if let Some(below) = below {
                            fill(below, value, empty);
                        }
                    }
                    (None, Absent::Struct) => {
                        let mut value = Value::Object(Map::new());
                        if let Some(below) = below {
                            fill(below, &mut value, empty);
                        }
                        fields.insert(name.clone(), value);
                    }
                    (None, Absent::Zero(zero)) => {
                        fields.insert(name.clone(), zero.clone());
                    }
                    (None, Absent::List) => {
                        fields.insert(name.clone(), Value::Null);
                    }
                    (None, Absent::Stays) => {}
                }
            }
        }
        _ => {}
    }
}

/// Whether a field is a list or a map, which may be null in Go.
fn is_list(field: &Schema) -> bool {
    field.items.is_some() || matches!(field.additional, Additional::Schema(_))
}

/// Whether there is nothing in a list or a map.
fn is_hollow(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

/// Whether a field is a struct that is there even when it is empty.
fn is_struct(field: &Schema) -> bool {
    field
        .default
        .as_ref()
        .and_then(Value::as_object)
        .is_some_and(Map::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn empty_lists_that_are_always_written_are_null() {
        let cases = [
            (
                "CSINode",
                json!({"spec": {"drivers": []}}),
                json!({"spec": {"drivers": null}}),
            ),
            (
                "ReplicaSet",
                json!({"spec": {"selector": {}, "template": {"spec": {"containers": []}}}}),
                json!({"spec": {"selector": {}, "template": {"metadata": {}, "spec": {"containers": null}}},
                    "status": {"replicas": 0}}),
            ),
        ];
        for (kind, mut object, expected) in cases {
            let all = crate::builtin::all();
            let resource = all.iter().find(|resource| resource.kind == kind);
            fill_object(&resource.unwrap().schema, &mut object);
            assert_eq!(object, expected, "{kind}");
        }
    }

    #[test]
    fn what_go_never_leaves_out_is_there() {
        let cases = [
            (
                "ReplicaSet",
                json!({"spec": {"selector": null, "template": {"metadata": {}, "spec": {"containers": null}}}, "status": {"replicas": 0}}),
            ),
            ("Ingress", json!({"spec": {}, "status": {"loadBalancer": {}}})),
            ("NetworkPolicy", json!({"spec": {"podSelector": {}}})),
            ("Lease", json!({"spec": {}})),
            ("CSINode", json!({"spec": {"drivers": null}})),
            ("PriorityClass", json!({"value": 0})),
        ];
        for resource in crate::builtin::all() {
            let Some((_, expected)) = cases.iter().find(|(kind, _)| *kind == resource.kind) else {
                continue;
            };
            let mut object = json!({});
            fill_object(&resource.schema, &mut object);
            assert_eq!(&object, expected, "{}", resource.kind);
        }
    }
}
