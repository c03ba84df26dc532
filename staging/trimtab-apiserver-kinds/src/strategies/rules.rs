//! Strategies of kinds outside core as data: what differs from an ordinary kind, as flags and functions.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, names};

use super::fill::{fill_object, fill_zeros};
use crate::schema_ref::SchemaRef;
use crate::strategy::{RequestContext, Strategy};

/// A part of an object that is written at a path of its own.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The path segment.
    pub(super) name: &'static str,
    /// Takes from the old object all but that part.
    pub(super) prepare: fn(&RequestContext, &mut Value, &Value),
    /// What is wrong with an update of that part.
    pub(super) validate: fn(&Value, &Value) -> Vec<FieldError>,
}

/// What is special about a kind. [`Rules::ORDINARY`] is the kind with nothing special; others differ in a few fields.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// Whether `status` is written at its own path only.
    pub(super) status: bool,
    /// Whether who creates may say the status, as the machines do that register themselves.
    pub(super) creator_says_status: bool,
    /// Whether generations are counted.
    pub(super) generation: bool,
    /// Whether a PUT may create.
    pub(super) create_on_update: bool,
    /// Whether a PUT needs no resource version.
    pub(super) unconditional_update: bool,
    /// Whether it is written down who has made an object.
    pub(super) requester: bool,
    /// What is wrong with a name.
    pub(super) name: fn(&str) -> Vec<String>,
    /// Fills in what has been left out.
    pub(super) default: fn(&mut Value),
    /// Resets what a creator may not set, the status apart.
    pub(super) prepare_create: fn(&RequestContext, &mut Value),
    /// Resets what an update of the object may not change, the status apart.
    pub(super) prepare_update: fn(&mut Value, &Value),
    /// Resets what an update of the status may not change, all but metadata and status apart.
    pub(super) prepare_status: fn(&mut Value, &Value),
    /// What is wrong with a new object.
    pub(super) validate: fn(&Value) -> Vec<FieldError>,
    /// What is wrong with an update; `None` for what is wrong with a new object.
    pub(super) validate_update: Option<fn(&Value, &Value) -> Vec<FieldError>>,
    /// What is wrong with an update of the status.
    pub(super) validate_status: fn(&Value, &Value) -> Vec<FieldError>,
    /// Parts with rules of their own; they come before the status's.
    pub(super) parts: &'static [Part],
    /// What to warn of.
    pub(super) warnings: fn(&Value, Option<&Value>) -> Vec<String>,
    /// The fields that can be selected.
    pub(super) selectable: &'static [&'static str],
    /// The value of one of them.
    pub(super) select: fn(&Value, &str) -> Option<String>,
}

impl Rules {
    /// A kind with a status and nothing special.
    pub(super) const ORDINARY: Self = Self {
        status: true,
        creator_says_status: false,
        generation: false,
        create_on_update: false,
        unconditional_update: true,
        requester: false,
        name: names::dns1123_subdomain,
        default: |_| {},
        prepare_create: |_, _| {},
        prepare_update: |_, _| {},
        prepare_status: |_, _| {},
        validate: |_| Vec::new(),
        validate_update: None,
        validate_status: |_, _| Vec::new(),
        parts: &[],
        warnings: |_, _| Vec::new(),
        selectable: &[],
        select: |_, _| None,
    };

    /// A kind that is written as a whole.
    pub(super) const NO_STATUS: Self = Self {
        status: false,
        ..Self::ORDINARY
    };
}

/// Copies a field of an object, its absence too.
pub(super) fn carry_over(new: &mut Value, old: &Value, field: &str) {
    let Some(new) = new.as_object_mut() else {
        return;
    };
    match old.get(field) {
        Some(value) => drop(new.insert(field.to_owned(), value.clone())),
        None => drop(new.remove(field)),
    }
}

/// The strategy that rules and the structure of their kind make.
#[derive(Clone, Debug)]
pub(super) struct Ruled {
    pub(super) rules: Rules,
    pub(super) schema: SchemaRef,
}

impl Ruled {
    /// The part that a request writes, if it has rules of its own.
    fn part(&self, ctx: &RequestContext) -> Option<&'static Part> {
        self.rules.parts.iter().find(|part| part.name == ctx.subresource)
    }
}

impl Strategy for Ruled {
    fn default(&self, object: &mut Value) {
        (self.rules.default)(object);
        fill_zeros(&self.schema, object);
    }

    fn prepare_create(&self, ctx: &RequestContext, object: &mut Value) {
        if self.rules.status
            && !self.rules.creator_says_status
            && let Some(object) = object.as_object_mut()
        {
            object.remove("status");
        }
        (self.rules.prepare_create)(ctx, object);
        fill_object(&self.schema, object);
    }

    fn validate_create(&self, _: &RequestContext, object: &Value) -> Vec<FieldError> {
        (self.rules.validate)(object)
    }

    fn prepare_update(&self, ctx: &RequestContext, new: &mut Value, old: &Value) {
        if let Some(part) = self.part(ctx) {
            (part.prepare)(ctx, new, old);
        } else if ctx.subresource == "status" {
            let mut whole = old.clone();
            carry_over(&mut whole, new, "status");
            carry_over(&mut whole, new, "metadata");
            *new = whole;
            (self.rules.prepare_status)(new, old);
        } else {
            if self.rules.status {
                carry_over(new, old, "status");
            }
            (self.rules.prepare_update)(new, old);
        }
        fill_object(&self.schema, new);
    }

    fn validate_update(&self, ctx: &RequestContext, new: &Value, old: &Value) -> Vec<FieldError> {
        if let Some(part) = self.part(ctx) {
            return (part.validate)(new, old);
        }
        if ctx.subresource == "status" {
            return (self.rules.validate_status)(new, old);
        }
        match self.rules.validate_update {
            Some(validate) => validate(new, old),
            None => (self.rules.validate)(new),
        }
    }

    fn warnings(&self, ctx: &RequestContext, new: &Value, old: Option<&Value>) -> Vec<String> {
        if ctx.subresource == "status" {
            return Vec::new();
        }
        (self.rules.warnings)(new, old)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        (self.rules.name)(if prefix { name.trim_end_matches('-') } else { name })
    }

    fn wants_requester(&self) -> bool {
        self.rules.requester
    }

    fn has_generation(&self) -> bool {
        self.rules.generation
    }

    fn allow_create_on_update(&self) -> bool {
        self.rules.create_on_update
    }

    fn allow_unconditional_update(&self) -> bool {
        self.rules.unconditional_update
    }

    fn selectable(&self, object: &Value, field: &str) -> Option<String> {
        (self.rules.select)(object, field)
    }

    fn selectable_fields(&self) -> &[&str] {
        self.rules.selectable
    }
}
