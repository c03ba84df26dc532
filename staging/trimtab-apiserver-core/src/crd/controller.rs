//! Watches definitions, decides on their names, and keeps the resource table.
//!
//! **Invariant:** a definition that is established is in the table (checked by
//! `what_is_established_is_served`), also when the server has just started.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::RwLock;
use serde_json::Value;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{EventKind, KeyValue, RangeRequest, WatchRequest, WatchStream};

use super::names::{self, Taken};
use super::view::{is_true, set_condition, text};
use super::{FINALIZER, cleanup, conversion, is_definitions, requests, resource};
use crate::registry::{Registry, keys, meta, storage};
use crate::webhook::Clients;

/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// The resources (group and plural name) whose definitions are being deleted: nothing of them is created any more.
pub(crate) type Terminating = Arc<RwLock<HashSet<(String, String)>>>;

/// What is known of one definition.
#[derive(Debug)]
struct Known {
    definition: Value,
    /// The spec and names that the table was made from; null when it is not in the table.
    served: Value,
}

struct Controller {
    registry: Arc<Registry>,
    terminating: Terminating,
    /// By whom webhooks that convert are called.
    clients: Arc<Clients>,
    builtin: Vec<Arc<Resource>>,
    definitions: Arc<Resource>,
    known: BTreeMap<String, Known>,
    /// Definitions that something is being cleaned up after.
    cleaning: HashSet<String>,
    cleanups: JoinSet<String>,
    /// Definitions whose status could not be written.
    failed: HashSet<String>,
}

/// Starts the controller. What is established is served when this returns; the task ends when `stop` is cancelled.
///
/// # Errors
///
/// A text that says why definitions cannot be read.
pub(crate) async fn start(
    registry: &Arc<Registry>,
    terminating: Terminating,
    clients: Arc<Clients>,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, String> {
    let table = registry.resources().snapshot();
    let builtin: Vec<Arc<Resource>> = table.iter().filter(|r| !r.custom).cloned().collect();
    let Some(definitions) = builtin.iter().find(|r| is_definitions(r)).cloned() else {
        return Err("custom resource definitions are not served".to_owned());
    };
    let mut controller = Controller {
        registry: registry.clone(),
        terminating,
        clients,
        builtin,
        definitions,
        known: BTreeMap::new(),
        cleaning: HashSet::new(),
        cleanups: JoinSet::new(),
        failed: HashSet::new(),
    };
    let changes = controller.load().await?;
    Ok(tokio::spawn(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = controller.run(changes) => {}
        }
    }))
}

impl Controller {
    /// Reads all definitions anew, and brings the table in line with them; answers the changes since.
    async fn load(&mut self) -> Result<WatchStream, String> {
        let prefix = keys::resource_prefix(&self.definitions);
        let store = self.registry.store().clone();
        let failed = |e| format!("custom resource definitions: {e}");
        let range = store
            .range(RangeRequest::prefix(prefix.clone()))
            .await
            .map_err(failed)?;
        let changes = store
            .watch(WatchRequest::prefix(prefix).from(range.revision + 1))
            .await;
        let mut gone: Vec<String> = self.known.keys().cloned().collect();
        let mut names = Vec::new();
        for kv in range.kvs {
            if let Some(name) = self.read(kv) {
                gone.retain(|g| *g != name);
                names.push(name);
            }
        }
        for name in gone {
            self.forget(&name).await;
        }
        for name in names {
            self.sync(&name).await;
        }
        changes.map_err(failed)
    }

    async fn run(&mut self, mut changes: WatchStream) {
        loop {
            tokio::select! {
                biased;
                next = changes.next() => match next {
                    Some(Ok(batch)) => {
                        for event in batch.events {
                            self.changed(event.kind, event.kv).await;
                        }
                    }
                    _ => changes = self.reload().await,
                },
                Some(done) = self.cleanups.join_next() => match done {
                    Ok(name) => drop(self.cleaning.remove(&name)),
                    Err(error) => tracing::error!(%error, "a cleanup has ended"),
                },
                () = tokio::time::sleep(PAUSE), if !self.failed.is_empty() => {
                    for name in std::mem::take(&mut self.failed) {
                        self.sync(&name).await;
                    }
                }
            }
        }
    }

    async fn reload(&mut self) -> WatchStream {
        loop {
            match self.load().await {
                Ok(changes) => return changes,
                Err(error) => tracing::warn!(%error, "cannot read definitions; trying again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn changed(&mut self, kind: EventKind, kv: KeyValue) {
        match kind {
            EventKind::Delete => {
                let key = String::from_utf8_lossy(&kv.key);
                let name = key.rsplit('/').next().unwrap_or_default().to_owned();
                self.forget(&name).await;
            }
            EventKind::Put => {
                if let Some(name) = self.read(kv) {
                    self.sync(&name).await;
                }
            }
        }
    }

    /// Takes note of a stored definition; answers its name.
    fn read(&mut self, kv: KeyValue) -> Option<String> {
        let definition = match storage::stored(&self.definitions, kv) {
            Ok(stored) => stored.object,
            Err(error) => {
                tracing::error!(%error, "a stored definition cannot be read");
                return None;
            }
        };
        let name = meta::name(&definition).to_owned();
        match self.known.get_mut(&name) {
            Some(known) => known.definition = definition,
            None => {
                let served = Value::Null;
                self.known.insert(name.clone(), Known { definition, served });
            }
        }
        Some(name)
    }

    /// The definition is gone, and its names are free.
    async fn forget(&mut self, name: &str) {
        let Some(known) = self.known.remove(name) else {
            return;
        };
        let (group, plural) = id(&known.definition);
        if !known.served.is_null() {
            self.registry.resources().remove(&group, &plural);
        }
        self.terminating.write().remove(&(group.clone(), plural));
        self.sync_refused(&group).await;
    }

    /// Looks again at the definitions of a group that have not been given all their names.
    async fn sync_refused(&mut self, group: &str) {
        let refused =
            |known: &Known| id(&known.definition).0 == group && !is_true(&known.definition, "NamesAccepted");
        let names: Vec<String> = self
            .known
            .iter()
            .filter(|(_, known)| refused(known))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            // Those that are looked at here give up no names, so this goes no deeper.
            self.sync_one(&name).await;
        }
    }

    /// Brings names, table and status of a definition in line with what it asks for.
    async fn sync(&mut self, name: &str) {
        if self.sync_one(name).await
            && let Some(known) = self.known.get(name)
        {
            let group = id(&known.definition).0;
            self.sync_refused(&group).await;
        }
    }

    /// As [`Self::sync`], for one alone; answers whether its names have changed.
    async fn sync_one(&mut self, name: &str) -> bool {
        let Some(known) = self.known.get(name) else {
            return false;
        };
        let (group, plural) = id(&known.definition);
        let mut definition = known.definition.clone();
        let now = self.registry.timestamp();
        let renamed = names::decide(&mut definition, &self.taken(name, &group), &now);
        let deleting = meta::is_deleting(&definition);
        let mut write = renamed;
        if is_true(&definition, "NamesAccepted") || is_true(&definition, "Established") {
            self.serve(name, &definition);
            if !is_true(&definition, "Established") && !deleting {
                let message = "the initial names have been accepted";
                set_condition(
                    &mut definition,
                    "Established",
                    "True",
                    "InitialNamesAccepted",
                    message,
                    &now,
                );
                write = true;
            }
        }
        if deleting {
            self.terminating.write().insert((group, plural));
            self.clean_up(name, &definition);
            return false;
        }
        self.terminating.write().remove(&(group, plural));
        if write {
            self.write(name, definition).await;
        }
        renamed
    }

    /// The names that others in the group go by.
    fn taken(&self, name: &str, group: &str) -> Taken {
        let mut taken = Taken::default();
        for builtin in self.builtin.iter().filter(|r| r.group == group) {
            taken.add_builtin(builtin);
        }
        let others = self.known.iter().filter(|(other, _)| *other != name);
        for (_, known) in others.filter(|(_, known)| id(&known.definition).0 == group) {
            taken.add(&known.definition);
        }
        taken
    }

    /// Puts the definition's resources into the table, if they are not there as they are now.
    fn serve(&mut self, name: &str, definition: &Value) {
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        let of = serde_json::json!([definition["spec"], definition["status"]["acceptedNames"]]);
        if known.served != of {
            let (group, plural) = id(definition);
            let resources = resource::served(definition);
            let converter = conversion::of(definition, &self.clients);
            self.registry
                .resources()
                .replace(&group, &plural, resources, converter);
            known.served = of;
        }
    }

    fn clean_up(&mut self, name: &str, definition: &Value) {
        let waits = meta::finalizers(definition).contains(&FINALIZER);
        if waits && self.cleaning.insert(name.to_owned()) {
            let (registry, name) = (self.registry.clone(), name.to_owned());
            self.cleanups.spawn(async move {
                cleanup::run(registry, name.clone()).await;
                name
            });
        }
    }

    async fn write(&mut self, name: &str, definition: Value) {
        match requests::update_status(&self.registry, &definition).await {
            Ok(stored) => {
                if let Some(known) = self.known.get_mut(name) {
                    known.definition = stored;
                }
            }
            // It has changed or gone, and we shall hear of that.
            Err(error) if error.is_conflict() || error.is_not_found() => {}
            Err(error) => {
                tracing::warn!(definition = name, %error, "cannot write the status of a definition; trying again");
                self.failed.insert(name.to_owned());
            }
        }
    }
}

/// The group and the plural name that a definition is about.
fn id(definition: &Value) -> (String, String) {
    let spec = &definition["spec"];
    (
        text(spec, "group").to_owned(),
        text(&spec["names"], "plural").to_owned(),
    )
}
