//! What an API server makes of a phase's schema.

use std::sync::Arc;

use proptest::prelude::*;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};
use trimtab_apimachinery_meta::FieldPath;
use trimtab_apimachinery_meta::phase::Phase;
use trimtab_apimachinery_schema::{Schema, structural};

use crate::{Backup, Gate, Roll};

/// A status as its authors write it.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is of interest")]
struct Status<P> {
    phase: Option<P>,
}

/// The schema of a status with that phase, by the transforms of `#[derive(CustomResource)]`.
fn schema<P: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let generator: SchemaGenerator = settings
        .with_transform(schemars::transform::AddNullable::default())
        .with_transform(kube_core::schema::StructuralSchemaRewriter)
        .with_transform(kube_core::schema::OptionalEnum)
        .into_generator();
    generator.into_root_schema_for::<Status<P>>().to_value()
}

/// What the server says to a status with that phase; `old` is the phase before.
struct Server(structural::Validator);

impl Server {
    fn of<P: JsonSchema>() -> Self {
        let stated = json!({"type": "object", "properties": {"status": schema::<P>()}});
        assert_eq!(
            structural::check_definition(&stated, FieldPath::new("schema")),
            [],
            "{stated}"
        );
        Self(structural::Validator::new(Arc::new(Schema::from_openapi(
            &stated,
        ))))
    }

    fn says(&self, old: Option<&str>, new: &str) -> Vec<String> {
        let object = |phase: &str| json!({"status": {"phase": phase}});
        let old = old.map(object);
        let errors = self.0.validate(&object(new), old.as_ref(), &FieldPath::root());
        errors.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn a_closed_phase_lists_its_values() {
    let phase = &schema::<Gate>()["properties"]["phase"];
    assert_eq!(phase["enum"], json!(["it's shut", "a \"\\\" ajar", "Open", null]));
    assert_eq!(
        (&phase["type"], &phase["nullable"]),
        (&json!("string"), &json!(true))
    );
    assert_eq!(
        phase["description"],
        json!("A closed set of phases with names that need care, which goes in circles.")
    );
    let server = Server::of::<Gate>();
    assert_eq!(
        server.says(None, "Open"),
        Vec::<String>::new(),
        "a rule of transitions is silent on creation"
    );
    let locked = server.says(None, "Locked");
    let refusal = "status.phase: Unsupported value: \"Locked\": supported values: \"it's shut\", ";
    assert!(
        locked.iter().any(|error| error.starts_with(refusal)),
        "{locked:?}"
    );
}

#[test]
fn a_tolerant_phase_describes_its_values_and_takes_others() {
    let phase = &schema::<Backup>()["properties"]["phase"];
    assert_eq!(
        (&phase["enum"], &phase["x-kubernetes-validations"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        phase["description"],
        json!(
            "Where a backup is.\n\n- Pending: It waits for its turn.\n- Running\n- Succeeded\n- Failed\n\n\
             Other versions may know other phases."
        )
    );
    let server = Server::of::<Backup>();
    for (old, new) in [
        (None, "Paused"),
        (Some("Failed"), "Pending"),
        (Some("Paused"), "Paused"),
    ] {
        assert_eq!(server.says(old, new), Vec::<String>::new(), "{old:?} {new}");
    }
}

#[test]
fn enforced_steps_are_refused_in_words() {
    assert_eq!(
        Server::of::<Roll>().says(Some("Done"), "Back"),
        ["status.phase: Invalid value: \"Back\": cannot go from Done to Back"]
    );
    assert_eq!(
        Roll::MACHINE.cel(),
        "self == oldSelf || !(self in ['Forward', 'Back', 'Done']) || !(oldSelf in ['Forward', 'Back', 'Done']) || \
         oldSelf == 'Forward' && self in ['Back'] || oldSelf == 'Back' && self in ['Done']"
    );
}

/// *Enforced*: the server takes a step if and only if the program does, and where one of the phases is not declared.
fn check<P: Phase + JsonSchema>(server: &Server, from: &str, to: &str) {
    let known = |text: &str| P::MACHINE.state(text).is_some();
    let judged = known(from) && known(to);
    let legal = !judged || P::MACHINE.check(Some(from), to).is_ok();
    assert_eq!(
        server.says(Some(from), to).is_empty(),
        legal,
        "{from:?} to {to:?}"
    );
}

#[test]
fn all_declared_steps_are_judged_alike() {
    fn all<P: Phase + JsonSchema>() {
        let server = Server::of::<P>();
        for from in P::ALL {
            for to in P::ALL {
                check::<P>(&server, from.as_str(), to.as_str());
            }
        }
    }
    all::<Gate>();
    all::<Roll>();
    all::<Open>();
}

/// Enforced, and open to others.
#[derive(trimtab_apimachinery_derive::Phase)]
#[phase(crate = "trimtab_apimachinery_meta", enforce)]
enum Open {
    #[phase(initial, to(B))]
    A,
    #[phase(terminal)]
    B,
    #[phase(unknown)]
    Other(String),
}

proptest! {
    #[test]
    fn undeclared_steps_are_not_the_servers_business(from in "A|B|[a-z' ]{0,4}", to in "A|B|[a-z' ]{0,4}") {
        check::<Open>(&Server::of::<Open>(), &from, &to);
    }
}
