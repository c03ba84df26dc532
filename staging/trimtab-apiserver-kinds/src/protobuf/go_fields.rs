//! What the Go types say of the fields of an object in JSON, for the schemas of built-in kinds.

use std::collections::HashMap;

use trimtab_apimachinery_schema::schema::GoField;

use super::table::{Field, MessageId, Shape, TABLE, Type};

/// What a Go type says of one of its fields.
#[derive(Clone, Debug)]
pub(crate) struct GoFact {
    pub(crate) field: GoField,
    /// It is a struct that is there even when it is empty.
    pub(crate) is_struct: bool,
}

/// The fields of a type that OpenAPI calls `name`, as `io.k8s.api.core.v1.PodSpec`; `None` if it is no message.
pub(crate) fn go_fields(name: &str) -> Option<HashMap<&'static str, GoFact>> {
    let (start, _) = name.rmatch_indices('.').nth(2)?;
    let message = TABLE.named(&name[start + 1..])?;
    let mut facts = HashMap::new();
    collect(message, "", &mut facts);
    Some(facts)
}

fn collect(message: MessageId, within: &str, facts: &mut HashMap<&'static str, GoFact>) {
    for field in TABLE.fields(message) {
        match field.type_ {
            Type::Message(inner) if field.inline => {
                let mut letters = field.name.chars();
                let first = letters.next().map(|c| c.to_ascii_uppercase());
                let name: String = first.into_iter().chain(letters).collect();
                let within = if within.is_empty() {
                    name
                } else {
                    format!("{within}.{name}")
                };
                collect(inner, &within, facts);
            }
            _ => drop(facts.insert(field.name, fact(field, within))),
        }
    }
}

fn fact(field: &Field, within: &str) -> GoFact {
    let one = field.shape == Shape::One && !field.optional;
    let is_message = matches!(field.type_, Type::Message(_));
    // Go leaves out no struct, unless it is told to.
    let always = field.kept || (one && field.type_.is_struct() && !field.omit_zero);
    GoFact {
        field: GoField {
            kept: always && !(one && is_message),
            pointer: field.optional,
            omit_zero: one && !field.type_.is_struct() && !field.kept,
            type_name: field.go_type,
            within: (!within.is_empty()).then(|| within.into()),
        },
        is_struct: one && is_message && always,
    }
}
