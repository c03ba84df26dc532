//! Waiting for the state of an object, by watching it.

use std::fmt::Debug;
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How long one watch lasts; then another begins.
const WATCH_SECONDS: u32 = 290;

/// What can be waited for.
pub trait Watched: Resource + Clone + DeserializeOwned + Serialize + Debug + Send + 'static {}

impl<K: Resource + Clone + DeserializeOwned + Serialize + Debug + Send + 'static> Watched for K {}

/// It did not become so in time, or did not stay so.
#[derive(Debug, thiserror::Error)]
#[error("{name}: not as awaited after {patience:?}; last seen: {last}")]
pub struct GaveUp {
    /// The object's name.
    pub name: String,
    /// How long was waited.
    pub patience: Duration,
    /// The object as it was last, in YAML, or why it could not be seen.
    pub last: String,
}

/// The object, once it is there and as awaited.
pub(crate) async fn object<K: Watched>(
    api: &Api<K>,
    name: &str,
    is: impl Fn(&K) -> bool,
    patience: Duration,
) -> Result<K, GaveUp> {
    let found = until(api, name, patience, |seen| {
        seen.filter(|object| is(object)).cloned()
    });
    found.await
}

/// Returns once the object is not there.
pub(crate) async fn gone<K: Watched>(api: &Api<K>, name: &str, patience: Duration) -> Result<(), GaveUp> {
    until(api, name, patience, |seen| seen.is_none().then_some(())).await
}

/// Watches that the object stays as `is` says for so long.
pub(crate) async fn stays<K: Watched>(
    api: &Api<K>,
    name: &str,
    is: impl Fn(&K) -> bool,
    lasting: Duration,
) -> Result<(), GaveUp> {
    let otherwise = |seen: Option<&K>| match seen {
        Some(object) if is(object) => None,
        seen => Some(seen.map_or("nothing".to_owned(), |object| yaml(object))),
    };
    match until(api, name, lasting, otherwise).await {
        Err(_) => Ok(()), // all the time
        Ok(last) => Err(GaveUp {
            name: name.to_owned(),
            patience: lasting,
            last,
        }),
    }
}

/// The object as JSON, without what only machines read.
pub(crate) fn value(object: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    value
}

fn yaml(object: &impl Serialize) -> String {
    let text = serde_saphyr::to_string(&value(object)).unwrap_or_else(|error| error.to_string());
    format!("\n{text}")
}

async fn until<K: Watched, T>(
    api: &Api<K>,
    name: &str,
    patience: Duration,
    check: impl Fn(Option<&K>) -> Option<T>,
) -> Result<T, GaveUp> {
    let mut last = "nothing".to_owned();
    let watching = async {
        loop {
            match watch(api, name, &check, &mut last).await {
                Ok(Some(found)) => return found,
                Ok(None) => {}
                Err(error) => {
                    last = error.to_string();
                    tokio::time::sleep(Duration::from_millis(100)).await; // the server may not serve the kind yet
                }
            }
        }
    };
    let found = tokio::time::timeout(patience, watching).await;
    found.map_err(|_| GaveUp {
        name: name.to_owned(),
        patience,
        last,
    })
}

/// Lists and watches once; `None` when the watch ended before.
async fn watch<K: Watched, T>(
    api: &Api<K>,
    name: &str,
    check: &impl Fn(Option<&K>) -> Option<T>,
    last: &mut String,
) -> Result<Option<T>, kube::Error> {
    let field = format!("metadata.name={name}");
    let listed = api.list(&ListParams::default().fields(&field)).await?;
    let now = listed.items.iter().find(|object| object.name_any() == name);
    *last = now.map_or("nothing".to_owned(), |object| yaml(object));
    if let Some(found) = check(now) {
        return Ok(Some(found));
    }
    let version = listed.metadata.resource_version.unwrap_or_default();
    let events = api
        .watch(
            &WatchParams::default().fields(&field).timeout(WATCH_SECONDS),
            &version,
        )
        .await?;
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.try_next().await? {
        let seen = match &event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => Some(object),
            WatchEvent::Deleted(_) => None,
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(_) => return Ok(None),
        };
        *last = seen.map_or("nothing".to_owned(), |object| yaml(object));
        if let Some(found) = check(seen) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
