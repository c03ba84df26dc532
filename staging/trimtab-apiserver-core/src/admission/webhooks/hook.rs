//! Webhooks as their configurations describe them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use trimtab_apimachinery_meta::LabelSelector;
use trimtab_apimachinery_schema::structural::Condition;

use crate::admission::dynamic::{Kinds, Rule, selector, texts, wants_equivalents};
use crate::registry::meta;
use crate::webhook::Target;

/// What a webhook gets that does not say how long it may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One webhook.
#[derive(Debug)]
pub(super) struct Hook {
    /// Tells it from all others: the configuration's name, its own, and how many before it have the same.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) rules: Vec<Rule>,
    /// Whether it wants to be asked about a resource in another version than its rules name, too.
    pub(super) equivalents: bool,
    pub(super) namespaces: Result<LabelSelector, String>,
    pub(super) objects: Result<LabelSelector, String>,
    pub(super) conditions: Vec<Condition>,
    /// Whether the request goes on when it cannot be asked.
    pub(super) may_fail: bool,
    pub(super) timeout: Duration,
    /// `None`, `NoneOnDryRun`, `Some`, `Unknown`; empty when nothing is said.
    pub(super) side_effects: String,
    /// Whether it wants to be asked again when others have changed the object after it.
    pub(super) again: bool,
    /// Versions of `AdmissionReview` that it understands, the best first.
    pub(super) review_versions: Vec<String>,
    pub(super) target: Result<Target, String>,
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

impl Hook {
    fn read(hook: &Value, id: String) -> Self {
        let conditions = hook["matchConditions"].as_array().into_iter().flatten();
        Self {
            id,
            name: text(hook, "name").to_owned(),
            rules: Rule::read_all(&hook["rules"]),
            equivalents: wants_equivalents(hook),
            namespaces: selector(hook, "namespaceSelector"),
            objects: selector(hook, "objectSelector"),
            conditions: conditions
                .map(|condition| Condition::new(text(condition, "expression").trim()))
                .collect(),
            may_fail: text(hook, "failurePolicy") == "Ignore",
            timeout: hook["timeoutSeconds"]
                .as_u64()
                .map_or(TIMEOUT, Duration::from_secs),
            side_effects: text(hook, "sideEffects").to_owned(),
            again: text(hook, "reinvocationPolicy") == "IfNeeded",
            review_versions: texts(hook, "admissionReviewVersions"),
            target: Target::read(&hook["clientConfig"]),
        }
    }

    /// The webhooks of a configuration, in its order.
    pub(super) fn all(configuration: &Value) -> Vec<Arc<Self>> {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut hooks = Vec::new();
        for hook in configuration["webhooks"].as_array().into_iter().flatten() {
            let count = seen.entry(text(hook, "name")).or_default();
            let id = format!("{}/{}/{count}", meta::name(configuration), text(hook, "name"));
            *count += 1;
            hooks.push(Arc::new(Self::read(hook, id)));
        }
        hooks
    }
}

/// The webhooks of MutatingWebhookConfigurations.
#[derive(Debug)]
pub(super) struct Mutating;

/// The webhooks of ValidatingWebhookConfigurations.
#[derive(Debug)]
pub(super) struct Validating;

impl Kinds for Mutating {
    const PLURALS: &'static [&'static str] = &["mutatingwebhookconfigurations"];
    type One = Vec<Arc<Hook>>;
    type All = Vec<Arc<Hook>>;

    fn read(_: usize, configuration: &Value) -> Self::One {
        Hook::all(configuration)
    }

    fn all(of: &[BTreeMap<Bytes, Self::One>]) -> Self::All {
        in_order(of)
    }
}

impl Kinds for Validating {
    const PLURALS: &'static [&'static str] = &["validatingwebhookconfigurations"];
    type One = Vec<Arc<Hook>>;
    type All = Vec<Arc<Hook>>;

    fn read(_: usize, configuration: &Value) -> Self::One {
        Hook::all(configuration)
    }

    fn all(of: &[BTreeMap<Bytes, Self::One>]) -> Self::All {
        in_order(of)
    }
}

/// All webhooks, in the order of their configurations' names.
fn in_order(of: &[BTreeMap<Bytes, Vec<Arc<Hook>>>]) -> Vec<Arc<Hook>> {
    let configurations = of.iter().flat_map(BTreeMap::values);
    configurations.flatten().cloned().collect()
}
