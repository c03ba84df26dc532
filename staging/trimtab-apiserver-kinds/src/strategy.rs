//! What is special about a kind: defaults, validation, immutability, what may be written where.

use std::fmt;

use serde_json::Value;
use trimtab_apimachinery_meta::FieldError;

/// What a strategy may know about the request that it serves.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The time of the request, RFC 3339 in whole seconds and UTC, as metadata writes it.
    pub now: String,
    /// The object's namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// The subresource written to; empty for the object itself.
    pub subresource: String,
    /// Who asks.
    pub user: String,
    /// What else is known of who asks (`uid`, `groups`, `extra`), if [`Strategy::wants_requester`]; else null.
    pub requester: Value,
}

/// How long and in which way an object may be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// At once, unless finalizers hold it.
    Immediate,
    /// After this many seconds, during which the object is shown as being deleted (pods).
    Graceful(i64),
}

/// What is special about a kind. Every method has the answer of an ordinary kind as its default, so a strategy
/// states only differences.
///
/// Objects are JSON objects that have passed the schema: unknown fields are pruned, types fit. The machinery around
/// a strategy does what holds for all kinds: metadata rules, names, generation, resource versions, finalizers.
pub trait Strategy: fmt::Debug + Send + Sync {
    /// Fills in what the user has left out. Must be idempotent; also run on what is read from storage.
    fn default(&self, object: &mut Value) {
        let _ = object;
    }

    /// Resets what a creator may not set (status, for most kinds), before validation. The object is defaulted.
    fn prepare_create(&self, ctx: &RequestContext, object: &mut Value) {
        let _ = (ctx, object);
    }

    /// What is wrong with a new object.
    fn validate_create(&self, ctx: &RequestContext, object: &Value) -> Vec<FieldError> {
        let _ = (ctx, object);
        Vec::new()
    }

    /// Resets in `new` what this kind of update may not change (status on the object, all else on `status`).
    fn prepare_update(&self, ctx: &RequestContext, new: &mut Value, old: &Value) {
        let _ = (ctx, new, old);
    }

    /// What is wrong with an update, immutable fields included. `ctx.subresource` says which part is written.
    fn validate_update(&self, ctx: &RequestContext, new: &Value, old: &Value) -> Vec<FieldError> {
        let _ = old;
        self.validate_create(ctx, new)
    }

    /// What the user should be warned of, though it is accepted.
    fn warnings(&self, ctx: &RequestContext, new: &Value, old: Option<&Value>) -> Vec<String> {
        let _ = (ctx, new, old);
        Vec::new()
    }

    /// What is wrong with the object's name; the default is the rule of most kinds, a DNS-1123 subdomain.
    /// `prefix` is true for `generateName`.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String>;

    /// Whether [`RequestContext::requester`] is wanted.
    fn wants_requester(&self) -> bool {
        false
    }

    /// Whether `metadata.generation` counts this kind's spec changes.
    fn has_generation(&self) -> bool {
        true
    }

    /// Whether two versions differ in what generation counts; the default compares all but metadata and status.
    fn spec_changed(&self, new: &Value, old: &Value) -> bool {
        let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
            return new != old;
        };
        let counts = |key: &str| !matches!(key, "metadata" | "status" | "apiVersion" | "kind");
        new.iter()
            .filter(|(k, _)| counts(k))
            .any(|(k, v)| old.get(k) != Some(v))
            || old.keys().any(|k| counts(k) && !new.contains_key(k))
    }

    /// Whether a PUT may create the object.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether a PUT without a resource version is accepted.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// How an object is deleted when the request asks for `grace_seconds` (`None`: asks for nothing).
    fn deletion(&self, object: &Value, grace_seconds: Option<i64>) -> Deletion {
        let _ = (object, grace_seconds);
        Deletion::Immediate
    }

    /// The values of the field selectors that this kind knows beyond `metadata.name` and `metadata.namespace`;
    /// `None` means that the field is not selectable.
    fn selectable(&self, object: &Value, field: &str) -> Option<String> {
        let _ = (object, field);
        None
    }

    /// The fields that can be selected beyond `metadata.name` and `metadata.namespace`.
    fn selectable_fields(&self) -> &[&str] {
        &[]
    }

    /// What [`Strategy::selectable`] reads of an object to tell the value of this field, as paths of two names each, so
    /// that the rest of the object need not be decoded for it; empty if that may be anything.
    fn selectable_from<'f>(&self, field: &'f str) -> Vec<[&'f str; 2]> {
        let _ = field;
        Vec::new()
    }

    /// The `apiVersion` that objects are stored with; `None` stores each with that of the version it is written in.
    fn stored_api_version(&self) -> Option<&str> {
        None
    }

    /// How many seconds an object lives after its last write; events have this.
    fn ttl_seconds(&self, object: &Value) -> Option<u64> {
        let _ = object;
        None
    }
}
