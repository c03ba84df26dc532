//! `metadata.managedFields`: who owns which fields, when they last changed them, and the wire form of that.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::path::Element;
use super::set::FieldSet;

/// The most entries that updates (unlike applies) may have; kube-apiserver's `DefaultMaxUpdateManagers`.
const MAX_UPDATE_ENTRIES: usize = 10;
/// Who owns what the oldest update entries owned, once there are too many.
const ANCIENT: &str = "ancient-changes";

/// Whether an entry stems from an apply or from any other write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// Who an entry is of. An applier is the same one at all API versions, so its id has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ManagerId {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
}

impl ManagerId {
    pub(super) fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        let manager = if manager.is_empty() { "unknown" } else { manager };
        let api_version = if operation == Operation::Apply {
            ""
        } else {
            api_version
        };
        Self {
            manager: manager.to_owned(),
            operation,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }

    /// As conflict messages name it: `"mgr" with subresource "status" using apps/v1`.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text += &format!(" with subresource {:?}", self.subresource);
        }
        if self.operation == Operation::Update {
            text += &format!(" using {}", self.api_version);
        }
        text
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) set: FieldSet,
    pub(super) api_version: String,
    /// RFC 3339; `None` when unknown.
    pub(super) time: Option<String>,
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Managed(pub(super) BTreeMap<ManagerId, Owned>);

impl Managed {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads `metadata.managedFields`.
    pub(super) fn decode(entries: Option<&Value>) -> Result<Self, String> {
        let mut managed = Self::default();
        let entries = match entries {
            None | Some(Value::Null) => return Ok(managed),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err("managedFields must be a list".to_owned()),
        };
        for (index, entry) in entries.iter().enumerate() {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err("operation must be `Apply` or `Update`".to_owned()),
            };
            if text("apiVersion").is_empty() {
                return Err("apiVersion must not be empty".to_owned());
            }
            match text("fieldsType") {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
                other => {
                    return Err(format!(
                        "invalid fieldsType {other:?} in managed fields entry {index}"
                    ));
                }
            }
            let set = FieldSet::decode(entry.get("fieldsV1").unwrap_or(&Value::Null))
                .map_err(|e| format!("error decoding set: {e}"))?;
            let mut id = ManagerId::new(
                text("manager"),
                operation,
                text("apiVersion"),
                text("subresource"),
            );
            text("manager").clone_into(&mut id.manager);
            let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
            managed.0.insert(
                id,
                Owned {
                    set,
                    api_version: text("apiVersion").to_owned(),
                    time,
                },
            );
        }
        Ok(managed)
    }

    /// The value of `metadata.managedFields`, in the server's order; `None` when there are no entries.
    pub(super) fn encode(&self) -> Option<Value> {
        if self.is_empty() {
            return None;
        }
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by_key(|(id, owned)| {
            (
                id.operation,
                seconds(owned.time.as_deref()),
                &id.manager,
                &owned.api_version,
                &id.subresource,
            )
        });
        Some(Value::Array(
            entries
                .into_iter()
                .map(|(id, owned)| encode_entry(id, owned))
                .collect(),
        ))
    }

    /// Takes fields from an entry; an entry without fields is gone.
    pub(super) fn take(&mut self, id: &ManagerId, fields: &FieldSet) {
        if let Some(owned) = self.0.get_mut(id) {
            owned.set.subtract(fields);
        }
        self.drop_empty();
    }

    pub(super) fn drop_empty(&mut self) {
        self.0.retain(|_, owned| !owned.set.is_empty());
    }

    /// Takes from an entry what nobody owns: identity and what the server itself writes.
    pub(super) fn strip(&mut self, id: &ManagerId) {
        let mut stripped = FieldSet::new();
        for name in ["apiVersion", "kind", "metadata"] {
            stripped.insert(&[Element::Field(name.to_owned())]);
        }
        for name in [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        ] {
            stripped.insert(&[
                Element::Field("metadata".to_owned()),
                Element::Field(name.to_owned()),
            ]);
        }
        self.take(id, &stripped);
    }

    /// Merges the oldest update entries of each version until there are few enough.
    pub(super) fn cap(&mut self) {
        let mut updates: Vec<ManagerId> = self
            .0
            .keys()
            .filter(|id| id.operation == Operation::Update)
            .cloned()
            .collect();
        let mut count = updates.len();
        updates.sort_by_key(|id| (self.0.get(id).map(|o| seconds(o.time.as_deref())), id.clone()));
        let mut first_of_version: BTreeMap<String, ManagerId> = BTreeMap::new();
        for id in updates {
            if count <= MAX_UPDATE_ENTRIES {
                return;
            }
            let bucket = ManagerId::new(ANCIENT, Operation::Update, &id.api_version, "");
            let Some(first) = first_of_version.get(&id.api_version).cloned() else {
                first_of_version.insert(id.api_version.clone(), id);
                continue;
            };
            if !self.0.contains_key(&bucket)
                && let Some(owned) = self.0.remove(&first)
            {
                self.0.insert(bucket.clone(), owned);
            }
            if id == bucket {
                continue;
            }
            if let Some(merged) = self.0.remove(&id)
                && let Some(target) = self.0.get_mut(&bucket)
            {
                target.set.add(merged.set);
                target.time = merged.time;
                count -= 1;
            }
        }
    }
}

fn encode_entry(id: &ManagerId, owned: &Owned) -> Value {
    let mut entry = Map::new();
    let mut put = |key: &str, value: Value| {
        if value != "" {
            entry.insert(key.to_owned(), value);
        }
    };
    put("manager", json!(id.manager));
    put(
        "operation",
        json!(if id.operation == Operation::Apply {
            "Apply"
        } else {
            "Update"
        }),
    );
    put("apiVersion", json!(owned.api_version));
    if let Some(time) = &owned.time {
        put("time", json!(time));
    }
    put("fieldsType", json!("FieldsV1"));
    put("fieldsV1", owned.set.encode());
    put("subresource", json!(id.subresource));
    Value::Object(entry)
}

fn seconds(time: Option<&str>) -> i64 {
    time.and_then(|t| t.parse::<jiff::Timestamp>().ok())
        .map_or(0, |t| t.as_second())
}
