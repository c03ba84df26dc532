//! The objects of the fake API server, with their whole history: what was true at any version can be asked.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{LabelSelector, ObjectKey};

pub(super) type Objects = BTreeMap<ObjectKey, Value>;

#[derive(Default)]
pub(super) struct World {
    pub(super) version: u64,
    /// Events up to this version can no longer be had.
    pub(super) compacted: u64,
    history: Vec<Change>,
    uids: u64,
}

/// One write. A deletion has a version of its own, which its last state carries.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    old: Option<Value>,
    new: Option<Value>,
}

impl World {
    /// Empty, at version 1: 0 is no version.
    pub(super) fn new() -> Self {
        Self {
            version: 1,
            ..Self::default()
        }
    }

    /// Creates or changes the object; the same arguments make the same object, but for its metadata.
    pub(super) fn put(&mut self, name: &str, fields: Value) -> Value {
        let key = ObjectKey::namespaced("default", name);
        let old = self.objects().remove(&key);
        self.version += 1;
        let mut object = fields;
        let meta = &mut object["metadata"];
        meta["name"] = json!(key.name);
        meta["namespace"] = json!(key.namespace);
        meta["resourceVersion"] = json!(self.version.to_string());
        meta["uid"] = old
            .as_ref()
            .map(|old| old["metadata"]["uid"].clone())
            .unwrap_or_else(|| {
                self.uids += 1;
                json!(format!("uid-{}", self.uids))
            });
        self.history.push(Change {
            version: self.version,
            old,
            new: Some(object.clone()),
        });
        object
    }

    pub(super) fn delete(&mut self, name: &str) -> Option<Value> {
        let old = self.objects().remove(&ObjectKey::namespaced("default", name))?;
        self.version += 1;
        self.history.push(Change {
            version: self.version,
            old: Some(old.clone()),
            new: None,
        });
        Some(old)
    }

    /// Goes back to an earlier version, as a restored backup does.
    pub(super) fn restore(&mut self, version: u64) {
        self.history.retain(|change| change.version <= version);
        self.version = version;
        self.compacted = self.compacted.min(version);
    }

    pub(super) fn objects(&self) -> Objects {
        self.objects_at(self.version, &LabelSelector::default())
    }

    /// All that matched at this version.
    pub(super) fn objects_at(&self, version: u64, selector: &LabelSelector) -> Objects {
        let mut objects = Objects::new();
        for change in self.history.iter().filter(|change| change.version <= version) {
            let Some(any) = change.new.as_ref().or(change.old.as_ref()) else {
                continue;
            };
            match &change.new {
                Some(new) => objects.insert(key(any), new.clone()),
                None => objects.remove(&key(any)),
            };
        }
        objects.retain(|_, object| matches(selector, object));
        objects
    }

    /// What a watch tells of everything after a version: event types and objects.
    pub(super) fn since(&self, version: u64, selector: &LabelSelector) -> Vec<(&'static str, Value)> {
        let after = self.history.iter().filter(|change| change.version > version);
        after.filter_map(|change| change.event(selector)).collect()
    }
}

impl Change {
    /// As kube-apiserver's cacher: an object that no longer matches is told as deleted, in its old state with the new
    /// version.
    fn event(&self, selector: &LabelSelector) -> Option<(&'static str, Value)> {
        let matching = |object: &Option<Value>| object.clone().filter(|object| matches(selector, object));
        match (matching(&self.old), matching(&self.new)) {
            (None, None) => None,
            (None, Some(new)) => Some(("ADDED", new)),
            (Some(_), Some(new)) => Some(("MODIFIED", new)),
            (Some(mut old), None) => {
                old["metadata"]["resourceVersion"] = json!(self.version.to_string());
                Some(("DELETED", old))
            }
        }
    }
}

fn key(object: &Value) -> ObjectKey {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    ObjectKey {
        namespace: text("namespace"),
        name: text("name"),
    }
}

fn matches(selector: &LabelSelector, object: &Value) -> bool {
    selector.matches(&object["metadata"]["labels"])
}
