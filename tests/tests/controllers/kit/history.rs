//! What was at each moment: every change of some kinds, in the order in which the server made them.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use kube::Client;
use kube::api::{Api, DynamicObject, WatchEvent, WatchParams};
use kube::core::ApiResource;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use trimtab::prelude::ObjectKey;

/// Which object: its kind and its key.
pub(crate) type Id = (String, ObjectKey);

/// Every change since it began to be recorded. Recording ends with it.
pub(crate) struct History {
    changes: Arc<Mutex<Vec<Change>>>,
    _recorders: JoinSet<()>,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    version: u64,
    pub(crate) at: Instant,
    pub(crate) id: Id,
    /// The object afterwards; none if it is gone.
    pub(crate) after: Option<Value>,
}

/// What was right after a change.
pub(crate) struct Moment<'a> {
    pub(crate) change: &'a Change,
    /// The object before the change; none if it was not there.
    pub(crate) before: Option<&'a Value>,
    objects: &'a BTreeMap<Id, Value>,
}

impl History {
    /// Begins to record.
    pub(crate) fn record(client: &Client, kinds: &[ApiResource]) -> Self {
        let changes = Arc::<Mutex<Vec<Change>>>::default();
        let mut recorders = JoinSet::new();
        for kind in kinds {
            recorders.spawn(record(client.clone(), kind.clone(), changes.clone()));
        }
        Self {
            changes,
            _recorders: recorders,
        }
    }

    /// How many changes there have been.
    pub(crate) fn len(&self) -> usize {
        self.changes.lock().len()
    }

    /// Goes through all moments and says where something did not hold.
    pub(crate) fn check(&self, always: impl Fn(&Moment<'_>) -> Result<(), String>) -> Result<(), String> {
        let mut changes = self.changes.lock().clone();
        changes.sort_by_key(|change| change.version);
        let mut objects = BTreeMap::<Id, Value>::new();
        for change in &changes {
            let before = match &change.after {
                Some(after) => objects.insert(change.id.clone(), after.clone()),
                None => objects.remove(&change.id),
            };
            let moment = Moment {
                change,
                before: before.as_ref(),
                objects: &objects,
            };
            always(&moment).map_err(|why| {
                let (kind, key) = &change.id;
                let is = change
                    .after
                    .as_ref()
                    .map_or("gone".to_owned(), ToString::to_string);
                format!(
                    "{why}\nwhen {kind} {key} became, at version {}: {is}",
                    change.version
                )
            })?;
        }
        Ok(())
    }
}

impl Moment<'_> {
    /// The changed object, if it is of this kind and there.
    pub(crate) fn changed(&self, kind: &str) -> Option<&Value> {
        self.change.after.as_ref().filter(|_| self.change.id.0 == kind)
    }

    /// An object.
    pub(crate) fn get(&self, kind: &str, key: &ObjectKey) -> Option<&Value> {
        self.objects.get(&(kind.to_owned(), key.clone()))
    }

    /// *One*: an object is the controller of one child of a kind at most. *Held*: when a child is made, its controller has the
    /// finalizer, so that it does not go without a word.
    pub(crate) fn one_and_held(
        &self,
        owners: &str,
        children: &[&str],
        finalizer: &str,
    ) -> Result<(), String> {
        let child = children.iter().find_map(|kind| self.changed(kind));
        let Some(owner) = child.and_then(controller).filter(|owner| owner["kind"] == owners) else {
            return Ok(());
        };
        for kind in children {
            let count = self.controlled(kind, &owner["uid"]);
            if count > 1 {
                return Err(format!("One: there are {count} of {kind}"));
            }
        }
        let key = ObjectKey::namespaced("default", owner["name"].as_str().unwrap_or_default());
        let owner = self
            .get(owners, &key)
            .filter(|object| object["metadata"]["uid"] == owner["uid"]);
        let is_held = |owner: &Value| owner["metadata"]["finalizers"] == json!([finalizer]);
        if self.before.is_none() && !owner.is_none_or(is_held) {
            return Err("Held: the child was made before the finalizer was there".to_owned());
        }
        Ok(())
    }

    fn controlled(&self, kind: &str, uid: &Value) -> usize {
        let objects = self.objects.iter().filter(|((of, _), _)| of == kind);
        objects
            .filter(|(_, object)| controller(object).is_some_and(|owner| owner["uid"] == *uid))
            .count()
    }
}

/// The reference to an object's controller.
fn controller(object: &Value) -> Option<&Value> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)
}

async fn record(client: Client, kind: ApiResource, changes: Arc<Mutex<Vec<Change>>>) {
    let api = Api::<DynamicObject>::all_with(client, &kind);
    let mut version = "0".to_owned();
    loop {
        let watch = api.watch(&WatchParams::default(), &version).await;
        let mut events = watch.expect("a client without faults can watch").boxed();
        while let Some(event) = events.next().await {
            let (object, gone) = match event.expect("a stream without faults") {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                WatchEvent::Bookmark(bookmark) => {
                    version = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(error) => panic!("{}: changes are missing: {error}", kind.kind),
            };
            version = object
                .metadata
                .resource_version
                .clone()
                .expect("objects have versions");
            let key = ObjectKey {
                namespace: object.metadata.namespace.clone().unwrap_or_default(),
                name: object.metadata.name.clone().unwrap_or_default(),
            };
            let object = serde_json::to_value(object).expect("objects can be written as JSON");
            changes.lock().push(Change {
                version: version.parse().expect("the server's versions are numbers"),
                at: Instant::now(),
                id: (kind.kind.clone(), key),
                after: (!gone).then_some(object),
            });
        }
    }
}
