//! Namespaces.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use crate::schema_ref::SchemaRef;
use crate::strategies::checks::{invalid_for, items, object, text};
use crate::strategies::fill::{fill_object, fill_zeros};
use crate::strategies::rules::carry_over;
use crate::strategy::{RequestContext, Strategy};

/// What holds a namespace until its content is gone.
const KUBERNETES: &str = "kubernetes";

/// The label that says what a namespace is called.
const NAME: &str = "kubernetes.io/metadata.name";

/// The strategy of namespaces.
#[derive(Clone, Debug)]
pub(super) struct Namespace {
    pub(super) schema: SchemaRef,
}

fn label_with_name(namespace: &mut Value) {
    let name = namespace["metadata"]["name"].clone();
    if !text(&name).is_empty() {
        object(object(namespace, "metadata"), "labels")[NAME] = name;
    }
}

fn finalizers(namespace: &Value, indexed: bool) -> Vec<FieldError> {
    let at = FieldPath::new("spec").child("finalizers");
    let mut errors = Vec::new();
    for (i, finalizer) in items(&namespace["spec"]["finalizers"]).iter().enumerate() {
        let at = if indexed { at.index(i) } else { at.clone() };
        let name = text(finalizer);
        errors.extend(invalid_for(names::qualified_name(name), finalizer, &at));
        if !name.contains('/') && !matches!(name, KUBERNETES | "orphan" | "foregroundDeletion") {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&at, name, why));
        }
    }
    errors
}

fn phase(namespace: &Value) -> Option<FieldError> {
    let phase = text(&namespace["status"]["phase"]);
    let (wanted, empty) = if namespace["metadata"]["deletionTimestamp"].is_null() {
        ("Active", "empty")
    } else {
        ("Terminating", "not empty")
    };
    let why = format!("may only be '{wanted}' if `deletionTimestamp` is {empty}");
    (phase != wanted).then(|| FieldError::invalid(&FieldPath::new("status").child("Phase"), phase, why))
}

impl Strategy for Namespace {
    fn default(&self, namespace: &mut Value) {
        label_with_name(namespace);
        let status = object(namespace, "status");
        if text(&status["phase"]).is_empty() {
            status["phase"] = "Active".into();
        }
        fill_zeros(&self.schema, namespace);
    }

    fn prepare_create(&self, _: &RequestContext, namespace: &mut Value) {
        // The name may have been generated since the defaults were set.
        label_with_name(namespace);
        namespace["status"] = json!({"phase": "Active"});
        let finalizers = &mut object(namespace, "spec")["finalizers"];
        match finalizers {
            Value::Array(list) if list.iter().any(|f| f == KUBERNETES) => {}
            Value::Array(list) => list.push(KUBERNETES.into()),
            none => *none = json!([KUBERNETES]),
        }
        fill_object(&self.schema, namespace);
    }

    fn validate_create(&self, _: &RequestContext, namespace: &Value) -> Vec<FieldError> {
        finalizers(namespace, false)
    }

    fn prepare_update(&self, ctx: &RequestContext, new: &mut Value, old: &Value) {
        match ctx.subresource.as_str() {
            "status" => carry_over(new, old, "spec"),
            "finalize" => carry_over(new, old, "status"),
            _ => {
                carry_over(object(new, "spec"), &old["spec"], "finalizers");
                carry_over(new, old, "status");
            }
        }
        fill_object(&self.schema, new);
    }

    fn validate_update(&self, ctx: &RequestContext, new: &Value, _: &Value) -> Vec<FieldError> {
        match ctx.subresource.as_str() {
            "status" => phase(new).into_iter().collect(),
            "finalize" => finalizers(new, true),
            _ => finalizers(new, false),
        }
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns1123_label(if prefix { name.trim_end_matches('-') } else { name })
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn selectable(&self, namespace: &Value, field: &str) -> Option<String> {
        (field == "status.phase").then(|| text(&namespace["status"]["phase"]).to_owned())
    }

    fn selectable_fields(&self) -> &[&str] {
        &["status.phase"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    fn namespaces() -> Namespace {
        let mut all = crate::builtin::all().into_iter();
        let found = all.find(|r| r.group.is_empty() && r.kind == "Namespace").unwrap();
        Namespace {
            schema: found.schema.clone(),
        }
    }

    fn context(subresource: &str) -> RequestContext {
        RequestContext {
            now: "2024-01-01T00:00:00Z".to_owned(),
            namespace: String::new(),
            subresource: subresource.to_owned(),
            user: String::new(),
            requester: Value::Null,
        }
    }

    #[test]
    fn each_part_is_written_at_its_own_path() {
        let strategy = namespaces();
        let mut old = json!({"metadata": {"name": "n"}});
        strategy.default(&mut old);
        strategy.prepare_create(&context(""), &mut old);
        assert_eq!(
            old,
            json!({"metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
        );
        let cases: [(&str, Value, &[&str]); 3] = [
            ("", old.clone(), &[]),
            (
                "status",
                json!({"metadata": old["metadata"], "spec": old["spec"], "status": {"phase": "Terminating"}}),
                &[
                    "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
                ],
            ),
            (
                "finalize",
                json!({"metadata": old["metadata"], "spec": {"finalizers": ["mine"]}, "status": old["status"]}),
                &[
                    "spec.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it \
                     fully qualified",
                ],
            ),
        ];
        for (subresource, expected, errors) in cases {
            let mut new = old.clone();
            new["spec"]["finalizers"] = json!(["mine"]);
            new["status"]["phase"] = "Terminating".into();
            let ctx = context(subresource);
            strategy.prepare_update(&ctx, &mut new, &old);
            assert_eq!(new, expected, "{subresource}");
            assert_eq!(
                told(&strategy.validate_update(&ctx, &new, &old)),
                errors,
                "{subresource}"
            );
        }
    }
}
