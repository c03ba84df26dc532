//! What people do to a cluster, with the patience that people have: what the server does not take yet, they try again.

use std::any::TypeId;
use std::time::Duration;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, NamespaceResourceScope, Status};
use kube::{Client, Resource};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use trimtab::prelude::ObjectKey;

/// How long people try.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How long they wait before they try again.
const PAUSE: Duration = Duration::from_millis(500);

/// Something that people do.
pub(crate) struct Act {
    words: String,
    deed: Deed,
}

enum Deed {
    Create(Place, Value),
    Patch(Place, Value),
    Delete(Place),
    Outside(Box<dyn Fn() -> bool + Send + Sync>),
}

/// One object.
struct Place {
    kind: ApiResource,
    namespaced: bool,
    key: ObjectKey,
}

/// Creates an object, as soon as there is none of its name; in the namespace `default` if it does not say.
pub(crate) fn create<K: Resource<DynamicType = (), Scope: 'static> + Serialize>(object: &K) -> Act {
    let meta = object.meta();
    let name = meta.name.clone().unwrap_or_default();
    let key = match &meta.namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    };
    let place = Place::of::<K>(&key);
    let object = serde_json::to_value(object).expect("objects can be written as JSON");
    Act {
        words: format!("create {}", place.words()),
        deed: Deed::Create(place, object),
    }
}

/// Changes an object by a merge patch, as soon as it is there. The key is a name, after a namespace and a slash if that is
/// not `default`.
pub(crate) fn patch<K: Resource<DynamicType = (), Scope: 'static>>(key: &str, patch: Value) -> Act {
    let place = Place::of::<K>(key);
    Act {
        words: format!("patch {} with {patch}", place.words()),
        deed: Deed::Patch(place, patch),
    }
}

/// Deletes an object, as soon as it is there; what it owned is collected.
pub(crate) fn delete<K: Resource<DynamicType = (), Scope: 'static>>(key: &str) -> Act {
    let place = Place::of::<K>(key);
    Act {
        words: format!("delete {}", place.words()),
        deed: Deed::Delete(place),
    }
}

/// Does something that is not done to the cluster, as soon as it can be done.
pub(crate) fn outside(words: &str, deed: impl Fn() -> bool + Send + Sync + 'static) -> Act {
    Act {
        words: words.to_owned(),
        deed: Deed::Outside(Box::new(deed)),
    }
}

impl Act {
    /// Does it, as soon as it can be done.
    ///
    /// # Panics
    /// When the server refuses for good, or the patience ends.
    pub(crate) async fn perform(&self, client: &Client) {
        let begun = Instant::now();
        while let Err(why) = self.attempt(client).await {
            assert!(
                begun.elapsed() < PATIENCE,
                "{}: not done after {PATIENCE:?}: {why}",
                self.words
            );
            sleep(PAUSE).await;
        }
    }

    /// Why it cannot be done yet.
    async fn attempt(&self, client: &Client) -> Result<(), String> {
        let done = match &self.deed {
            Deed::Create(place, object) => {
                let object = serde_json::from_value(object.clone()).expect("an object");
                place
                    .api(client)
                    .create(&PostParams::default(), &object)
                    .await
                    .map(drop)
            }
            Deed::Patch(place, patch) => {
                let params = PatchParams {
                    field_manager: Some("somebody".to_owned()),
                    ..PatchParams::default()
                };
                let patch = Patch::Merge(patch);
                place
                    .api(client)
                    .patch(&place.key.name, &params, &patch)
                    .await
                    .map(drop)
            }
            Deed::Delete(place) => {
                let params = DeleteParams::background();
                place.api(client).delete(&place.key.name, &params).await.map(drop)
            }
            Deed::Outside(deed) if deed() => Ok(()),
            Deed::Outside(_) => return Err("it cannot be done".to_owned()),
        };
        match done {
            Ok(()) => Ok(()),
            Err(kube::Error::Api(status)) if is_over_soon(&status) => Err(status.message.clone()),
            Err(error) => panic!("{}: {error}", self.words),
        }
    }
}

/// Whether what is in the way goes away by itself: an object that is not there yet, or still.
fn is_over_soon(status: &Status) -> bool {
    let terminating = status.code == 403 && status.message.contains("because it is being terminated");
    terminating || matches!(status.code, 404 | 409)
}

impl Place {
    fn of<K: Resource<DynamicType = (), Scope: 'static>>(key: &str) -> Self {
        let namespaced = TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>();
        let (namespace, name) = key.split_once('/').unwrap_or(("default", key));
        Self {
            kind: ApiResource::erase::<K>(&()),
            namespaced,
            key: if namespaced {
                ObjectKey::namespaced(namespace, name)
            } else {
                ObjectKey::cluster(name)
            },
        }
    }

    fn api(&self, client: &Client) -> Api<DynamicObject> {
        if self.namespaced {
            Api::namespaced_with(client.clone(), &self.key.namespace, &self.kind)
        } else {
            Api::all_with(client.clone(), &self.kind)
        }
    }

    fn words(&self) -> String {
        format!("{} {}", self.kind.kind, self.key)
    }
}
