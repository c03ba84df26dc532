//! What holds for all schemas and values.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use trimtab_apimachinery_meta::field::FieldPath;

use super::texts;
use crate::Schema;
use crate::structural::{Validator, check_definition, default, prune};

/// Structural schemas; names are few, so that values meet them.
fn schemas() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": "string", "default": "d", "minLength": 1})),
        Just(json!({"type": "integer", "default": 3, "maximum": 5})),
        Just(json!({"type": "boolean", "nullable": true})),
        Just(json!({"type": "number", "nullable": true, "default": 1})),
        Just(json!({"x-kubernetes-int-or-string": true})),
        Just(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
    ];
    scalar.prop_recursive(3, 16, 3, |inner| {
        let fields = prop::collection::btree_map("[a-c]", inner.clone(), 1..4);
        prop_oneof![
            inner
                .clone()
                .prop_map(|items| json!({"type": "array", "items": items})),
            inner.prop_map(|values| json!({"type": "object", "additionalProperties": values})),
            fields
                .clone()
                .prop_map(|fields| json!({"type": "object", "properties": fields})),
            fields.prop_map(|fields| json!({"type": "object", "properties": fields, "default": {}})),
        ]
    })
}

fn values() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..9i64).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn wrap(schema: &Value) -> Value {
    json!({"type": "object", "properties": {"spec": schema}})
}

proptest! {
    #[test]
    fn pruning_and_defaulting_settle(schema in schemas(), value in values()) {
        let schema = Schema::from_openapi(&wrap(&schema));
        let mut object = json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}, "spec": value});
        prune(&schema, &mut object);
        default(&schema, &mut object);
        let mut again = object.clone();
        prop_assert_eq!(prune(&schema, &mut again), Vec::<String>::new());
        default(&schema, &mut again);
        prop_assert_eq!(again, object);
    }

    #[test]
    fn an_empty_object_of_an_accepted_schema_is_valid_with_its_defaults(schema in schemas()) {
        let root = wrap(&schema);
        prop_assume!(check_definition(&root, FieldPath::root()).is_empty());
        let schema = Arc::new(Schema::from_openapi(&root));
        let mut object = json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}});
        default(&schema, &mut object);
        prop_assert_eq!(texts(&Validator::new(schema).validate(&object, None, &FieldPath::root())), Vec::<String>::new());
    }

    #[test]
    fn an_update_that_changes_nothing_is_valid(schema in schemas(), value in values()) {
        let schema = Arc::new(Schema::from_openapi(&wrap(&schema)));
        let mut object = json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}, "spec": value});
        prune(&schema, &mut object);
        let validator = Validator::new(Arc::clone(&schema));
        let created = validator.validate(&object, None, &FieldPath::root());
        let updated = validator.validate(&object, Some(&object), &FieldPath::root());
        // What is preserved without being described cannot be found again, and so not be seen to be unchanged.
        let described = !format!("{schema:?}").contains("preserve_unknown: true");
        prop_assert!(updated.is_empty() || !described, "{:?}", texts(&updated));
        prop_assert!(updated.len() <= created.len());
    }
}
