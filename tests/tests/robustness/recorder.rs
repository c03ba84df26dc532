//! The witness: watches the server without anything in between, and so knows what was true when.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt as _};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use trimtab::apimachinery::{ObjectKey, resource_version};

use crate::history::lock;
use crate::model::{Content, Mark, Model, State};

/// The label that selections look at.
pub(crate) const TIER: &str = "tier";
/// The key of the data that changes.
pub(crate) const VALUE: &str = "v";

/// How long the witness may take to hear of something.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one of its watches lasts.
const WATCH_SECONDS: u32 = 290;

/// Watches while it lives.
pub(crate) struct Recorder {
    model: Arc<Mutex<Model>>,
    /// The version up to which everything is known; or why nothing more will be.
    progress: watch::Receiver<Result<u64, String>>,
    _task: AbortOnDropHandle<()>,
}

impl Recorder {
    /// Begins with what there is.
    pub(crate) async fn start(client: Client) -> Result<Self, String> {
        let maps: Api<ConfigMap> = Api::all(client);
        let listed = maps
            .list(&ListParams::default())
            .await
            .map_err(|e| e.to_string())?;
        let mut model = Model::default();
        for map in &listed.items {
            let (key, mark) = named(map)?;
            model.note(key, mark.version, Some(state(map)))?;
        }
        let version = number(listed.metadata.resource_version.as_deref().unwrap_or_default())?;
        model.version = version;
        let model = Arc::new(Mutex::new(model));
        let (tell, progress) = watch::channel(Ok(version));
        let watched = model.clone();
        let task = tokio::spawn(async move {
            let mut version = version;
            loop {
                match follow(&maps, &watched, &tell, version).await {
                    Ok(reached) => version = reached,
                    Err(why) => return drop(tell.send_replace(Err(why))),
                }
            }
        });
        Ok(Self {
            model,
            progress,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Waits until everything up to this version is known.
    pub(crate) async fn reached(&self, version: u64) -> Result<(), String> {
        let mut progress = self.progress.clone();
        let reached = progress
            .wait_for(|progress| progress.as_ref().is_ok_and(|at| *at >= version) || progress.is_err());
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(Ok(progress)) => progress.clone().map(drop),
            Ok(Err(_)) => Err("the witness has ended".to_owned()),
            Err(_) => Err(format!("the witness has not heard of {version} in {PATIENCE:?}")),
        }
    }

    /// The version up to which everything is known.
    pub(crate) fn version(&self) -> u64 {
        self.progress.borrow().clone().unwrap_or_default()
    }

    /// What is known.
    pub(crate) fn model(&self) -> Model {
        lock(&self.model).clone()
    }
}

async fn follow(
    maps: &Api<ConfigMap>,
    model: &Mutex<Model>,
    tell: &watch::Sender<Result<u64, String>>,
    mut version: u64,
) -> Result<u64, String> {
    let params = WatchParams::default().timeout(WATCH_SECONDS);
    let events = maps.watch(&params, &version.to_string()).await;
    let mut events = std::pin::pin!(events.map_err(|e| e.to_string())?);
    // A watch that breaks is resumed.
    while let Ok(Some(event)) = events.try_next().await {
        let (map, gone) = match &event {
            WatchEvent::Added(map) | WatchEvent::Modified(map) => (map, false),
            WatchEvent::Deleted(map) => (map, true),
            WatchEvent::Bookmark(bookmark) => {
                version = version.max(number(&bookmark.metadata.resource_version)?);
                tell.send_modify(|at| *at = Ok(version));
                continue;
            }
            WatchEvent::Error(status) => return Err(format!("the witness cannot go on: {}", status.message)),
        };
        let (key, mark) = named(map)?;
        lock(model).note(key, mark.version, (!gone).then(|| state(map)))?;
        version = mark.version;
        tell.send_modify(|at| *at = Ok(version));
    }
    Ok(version)
}

/// The key and the mark of an object as the server returned it.
pub(crate) fn named(map: &ConfigMap) -> Result<(ObjectKey, Mark), String> {
    let key = ObjectKey::namespaced(map.namespace().unwrap_or_default(), map.name_any());
    let version = number(map.metadata.resource_version.as_deref().unwrap_or_default())?;
    let uid = map.metadata.uid.clone().unwrap_or_default();
    Ok((key, Mark { uid, version }))
}

fn state(map: &ConfigMap) -> State {
    let data = map.data.as_ref().and_then(|data| data.get(VALUE));
    State {
        uid: map.metadata.uid.clone().unwrap_or_default(),
        content: Content {
            tier: map.labels().get(TIER).cloned(),
            value: data.cloned(),
        },
    }
}

pub(crate) fn number(version: &str) -> Result<u64, String> {
    resource_version::parse(version).map_err(|e| e.to_string())
}
