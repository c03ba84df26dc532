//! Webhooks as their configurations describe them, and the configurations as the store has them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use trimtab_apimachinery_meta::{ApiError, LabelSelector};
use trimtab_apimachinery_schema::structural::Condition;
use trimtab_apiserver_storage::{KeyValue, RangeRequest, Revision, Store};

use crate::registry::{keys, meta, storage};
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

/// Operations on resources, each list with `*` for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) operations: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) versions: Vec<String>,
    pub(super) resources: Vec<String>,
    /// `Namespaced`, `Cluster` or `*`.
    pub(super) scope: String,
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    let list = value[field].as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Rule {
    fn read(rule: &Value) -> Self {
        Self {
            operations: texts(rule, "operations"),
            groups: texts(rule, "apiGroups"),
            versions: texts(rule, "apiVersions"),
            resources: texts(rule, "resources"),
            scope: rule["scope"].as_str().unwrap_or("*").to_owned(),
        }
    }
}

impl Hook {
    fn read(hook: &Value, id: String) -> Self {
        let selector = |field: &str| {
            let read = LabelSelector::from_object(&hook[field]);
            read.map(Option::unwrap_or_default)
                .map_err(|error| error.to_string())
        };
        let list = |field: &str| hook[field].as_array().cloned().unwrap_or_default();
        let conditions = list("matchConditions");
        Self {
            id,
            name: text(hook, "name").to_owned(),
            rules: list("rules").iter().map(Rule::read).collect(),
            equivalents: hook["matchPolicy"].as_str().unwrap_or("Equivalent") == "Equivalent",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            conditions: conditions
                .iter()
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

/// The configurations of one kind: read from the store for every request, looked at only when they have changed.
#[derive(Debug)]
pub(super) struct Configurations {
    store: Arc<dyn Store>,
    prefix: String,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// By key, the revision that last changed the configuration, and its webhooks.
    by_key: BTreeMap<Bytes, (Revision, Vec<Arc<Hook>>)>,
    /// All webhooks, in the order of their configurations' names.
    all: Arc<Vec<Arc<Hook>>>,
}

impl Configurations {
    pub(super) fn new(store: Arc<dyn Store>, plural: &str) -> Self {
        Self {
            store,
            prefix: format!("{}{plural}/", keys::ROOT),
            seen: Mutex::default(),
        }
    }

    /// All webhooks as of now.
    pub(super) async fn current(&self) -> Result<Arc<Vec<Arc<Hook>>>, ApiError> {
        let range = self.store.range(RangeRequest::prefix(self.prefix.clone())).await;
        let kvs = range.map_err(|e| storage::error(&e))?.kvs;
        let mut seen = self.seen.lock();
        if !seen.is(&kvs) {
            seen.take(kvs);
        }
        Ok(seen.all.clone())
    }
}

impl Seen {
    fn is(&self, kvs: &[KeyValue]) -> bool {
        let same = |(kv, (key, (revision, _))): (&KeyValue, (&Bytes, &(Revision, _)))| {
            kv.key == *key && kv.mod_revision == *revision
        };
        kvs.len() == self.by_key.len() && kvs.iter().zip(&self.by_key).all(same)
    }

    fn take(&mut self, kvs: Vec<KeyValue>) {
        let mut before = std::mem::take(&mut self.by_key);
        for kv in kvs {
            let known = before.remove(&kv.key);
            let hooks = match known {
                Some((revision, hooks)) if revision == kv.mod_revision => hooks,
                _ => read(&kv.value),
            };
            self.by_key.insert(kv.key, (kv.mod_revision, hooks));
        }
        let all = self.by_key.values().flat_map(|(_, hooks)| hooks.iter().cloned());
        self.all = Arc::new(all.collect());
    }
}

fn read(stored: &[u8]) -> Vec<Arc<Hook>> {
    match serde_json::from_slice(stored) {
        Ok(configuration) => Hook::all(&configuration),
        Err(error) => {
            tracing::error!(%error, "a stored webhook configuration cannot be read");
            Vec::new()
        }
    }
}
