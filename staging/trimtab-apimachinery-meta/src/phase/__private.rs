//! What the code made by `#[derive(Phase)]` calls. Nothing here is for people, and nothing here is stable.

use std::fmt;
use std::marker::PhantomData;

use serde_json::{Map, Value, json};

pub use std::borrow::Cow;

pub use {schemars, serde};

pub use super::{Machine, Phase, State, UnknownPhase};

/// Which values a schema takes.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// The declared phases.
    Declared,
    /// Any text.
    Any,
}

/// Whether a schema judges transitions.
#[derive(Clone, Copy, Debug)]
pub enum Transitions {
    /// By a rule.
    Enforced,
    /// No.
    Free,
}

/// The error that a text is no phase of that machine.
pub fn unknown<T: Phase>(text: &str) -> UnknownPhase {
    UnknownPhase {
        machine: T::MACHINE.name(),
        text: text.to_owned(),
        known: T::MACHINE.names(),
    }
}

/// Reads a phase from a string.
///
/// # Errors
/// What is read is no string, or no phase.
pub fn deserialize<'de, T: Phase, D: serde::Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_str(Texts(PhantomData))
}

struct Texts<T>(PhantomData<T>);

impl<T: Phase> serde::de::Visitor<'_> for Texts<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = T::MACHINE.names().join(", ");
        write!(f, "a {}, one of {names}", T::MACHINE.name())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).map_err(E::custom)
    }
}

/// The schema of a machine's phases.
pub fn schema(machine: &Machine, values: Values, transitions: Transitions) -> schemars::Schema {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "string".into());
    let description = description(machine);
    if !description.is_empty() {
        schema.insert("description".to_owned(), description.into());
    }
    if matches!(values, Values::Declared) {
        schema.insert("enum".to_owned(), machine.names().into());
    }
    if matches!(transitions, Transitions::Enforced) {
        let rule = json!({
            "rule": machine.cel(),
            "message": format!("not a step that {} may take", machine.name()),
            "messageExpression": "'cannot go from ' + oldSelf + ' to ' + self",
        });
        schema.insert("x-kubernetes-validations".to_owned(), Value::Array(vec![rule]));
    }
    schema.into()
}

/// What the type is, then what each phase is.
fn description(machine: &Machine) -> String {
    let tolerant = machine.after_unknown().is_some();
    let mut text = machine.doc().to_owned();
    if tolerant || machine.states().iter().any(|state| !state.doc.is_empty()) {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        let lines = machine.states().iter().map(|state| match state.doc {
            "" => format!("- {}", state.name),
            doc => format!("- {}: {}", state.name, doc.replace('\n', " ")),
        });
        text.push_str(&lines.collect::<Vec<_>>().join("\n"));
    }
    if tolerant {
        text.push_str("\n\nOther versions may know other phases.");
    }
    text
}
