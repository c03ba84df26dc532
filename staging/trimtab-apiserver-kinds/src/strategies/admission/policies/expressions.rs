//! The expressions of policies: whether they compile, with what they may name.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};
use trimtab_apimachinery_schema::structural::{Composition, Declarations, Returns};

use super::super::validate_conditions;
use crate::strategies::apps::template::spec;
use crate::strategies::checks::{invalid_for, items, one_of, text};

/// The limit of an audit annotation's expression, in bytes.
const LONGEST_AUDIT: usize = 5 * 1024;
const MOST_AUDITS: usize = 20;
/// What cannot be the name of a variable, since CEL reserves it.
const RESERVED: &str = "true false null in as break const continue else for function if import let loop package namespace \
    return var void while";

/// Compiles the expressions of one policy.
pub(super) struct Compiler {
    composition: Composition,
}

impl Compiler {
    /// Whether the policy's expressions may name `params` and `variables`.
    pub(super) fn new(params: bool, variables: bool) -> Self {
        let names = Declarations::default().with_params(params);
        let names = if variables { names.with_variables() } else { names };
        Self {
            composition: Composition::new(names),
        }
    }

    /// Match conditions, which come before variables.
    pub(super) fn conditions(&self, conditions: &Value) -> Vec<FieldError> {
        validate_conditions(conditions, &spec().child("matchConditions"), |expression| {
            let names = Declarations::without_variables;
            let compiled = self.composition.compile_with(expression, Returns::Bool, names);
            compiled.fault().map(str::to_owned)
        })
    }

    pub(super) fn variables(&mut self, variables: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (i, variable) in items(variables).iter().enumerate() {
            let at = spec().child("variables").index(i);
            let (name, expression) = (text(&variable["name"]), text(&variable["expression"]));
            if name.trim().is_empty() {
                errors.push(FieldError::required(&at.child("name"), "name is not specified"));
            } else if !is_identifier(name) {
                let why = "must be a valid CEL identifier";
                errors.push(FieldError::invalid(&at.child("name"), name, why));
            }
            let at = at.child("expression");
            if expression.trim().is_empty() {
                errors.push(FieldError::required(&at, "expression is not specified"));
            } else if let Some(why) = self.composition.add_variable(name, expression) {
                errors.push(FieldError::invalid(&at, expression, why));
            }
        }
        errors
    }

    pub(super) fn validation(&self, validation: &Value, at: &FieldPath) -> Vec<FieldError> {
        const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
        let mut errors = Vec::new();
        let (expression, expression_at) = (text(&validation["expression"]), at.child("expression"));
        if expression.trim().is_empty() {
            errors.push(FieldError::required(
                &expression_at,
                "expression is not specified",
            ));
        } else {
            errors.extend(self.fault(expression, Returns::Bool, &expression_at));
        }
        let (message, message_at) = (
            text(&validation["messageExpression"]),
            at.child("messageExpression"),
        );
        if !message.is_empty() && message.trim().is_empty() {
            let why = "must be non-empty if specified";
            errors.push(FieldError::invalid(&message_at, message, why));
        } else if !message.is_empty() {
            let names = Declarations::without_authorizer;
            let compiled = self.composition.compile_with(message, Returns::Text, names);
            let fault = compiled
                .fault()
                .map(|why| FieldError::invalid(&message_at, message, why));
            errors.extend(fault);
        }
        let (message, at_message) = (text(&validation["message"]), at.child("message"));
        if !message.is_empty() && message.trim().is_empty() {
            let why = "must be non-empty if specified";
            errors.push(FieldError::invalid(&at_message, message, why));
        } else if message.trim().contains(['\n', '\r']) {
            let why = "must not contain line breaks";
            errors.push(FieldError::invalid(&at_message, message, why));
        }
        if !validation["reason"].is_null() {
            errors.extend(one_of(&validation["reason"], &REASONS, &at.child("reason")));
        }
        errors
    }

    pub(super) fn audit_annotations(&self, policy: &Value, audits: &[Value]) -> Vec<FieldError> {
        let at = spec().child("auditAnnotations");
        let mut errors = Vec::new();
        if audits.len() > MOST_AUDITS {
            let why = format!("must not have more than {MOST_AUDITS} auditAnnotations");
            errors.push(FieldError::invalid(&at, audits.to_vec(), why));
        }
        let name = text(&policy["metadata"]["name"]);
        for (i, audit) in audits.iter().enumerate() {
            let at = at.index(i);
            let (key, value) = (text(&audit["key"]), text(&audit["valueExpression"]));
            let key_at = at.child("key");
            if name.is_empty() {
                let why = "requires metadata.name be non-empty";
                errors.push(FieldError::invalid(&key_at, key, why));
            } else {
                let key = format!("{name}/{key}");
                errors.extend(invalid_for(names::qualified_name(&key), &key.into(), &key_at));
            }
            let (value_at, trimmed) = (at.child("valueExpression"), value.trim());
            if trimmed.is_empty() {
                let why = "valueExpression is not specified";
                errors.push(FieldError::required(&value_at, why));
            } else if trimmed.len() > LONGEST_AUDIT {
                let why = format!("must not exceed {LONGEST_AUDIT} bytes in length");
                errors.push(FieldError::required(&value_at, why));
            } else if let Some(why) = self.composition.compile(trimmed, Returns::TextOrNull).fault() {
                errors.push(FieldError::invalid(&value_at, value, why));
            }
            let before = audits.iter().take(i);
            if before.clone().any(|earlier| earlier["key"] == audit["key"]) {
                errors.push(FieldError::duplicate(&key_at, audit["key"].clone()));
            }
        }
        errors
    }

    pub(super) fn mutation(&self, mutation: &Value, at: &FieldPath) -> Vec<FieldError> {
        const PATCH_TYPES: [&str; 2] = ["ApplyConfiguration", "JSONPatch"];
        const FIELDS: [(&str, &str, Returns); 2] = [
            ("ApplyConfiguration", "applyConfiguration", Returns::Object),
            ("JSONPatch", "jsonPatch", Returns::Patches),
        ];
        let type_ = text(&mutation["patchType"]);
        if type_.is_empty() {
            return vec![FieldError::required(&at.child("patchType"), "")];
        }
        if !PATCH_TYPES.contains(&type_) {
            return one_of(&mutation["patchType"], &PATCH_TYPES, &at.child("patchType"));
        }
        let mut errors = Vec::new();
        let (own, others): (Vec<_>, Vec<_>) = FIELDS.into_iter().partition(|(name, ..)| *name == type_);
        for (_, field, returns) in own {
            let at = at.child(field);
            if mutation[field].is_null() {
                let why = format!("must be specified when patchType is {type_}");
                errors.push(FieldError::required(&at, why));
                continue;
            }
            let (expression, at) = (
                text(&mutation[field]["expression"]).trim(),
                at.child("expression"),
            );
            if expression.is_empty() {
                errors.push(FieldError::required(&at, ""));
                continue;
            }
            let names = Declarations::with_patches;
            let compiled = self.composition.compile_with(expression, returns, names);
            let fault = compiled
                .fault()
                .map(|why| FieldError::invalid(&at, expression, why));
            errors.extend(fault);
        }
        for (_, field, _) in others {
            if !mutation[field].is_null() {
                let why = format!("must not be specified when patchType is {type_}");
                errors.push(FieldError::invalid(&at.child(field), format!("{{{field}}}"), why));
            }
        }
        errors
    }

    fn fault(&self, expression: &str, returns: Returns, at: &FieldPath) -> Option<FieldError> {
        let compiled = self.composition.compile(expression, returns);
        compiled
            .fault()
            .map(|why| FieldError::invalid(at, expression, why))
    }
}

fn is_identifier(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter)
        && name.chars().all(|c| letter(c) || c.is_ascii_digit())
        && !RESERVED.split_whitespace().any(|reserved| reserved == name)
}
