//! What users do: the same in each run.

use std::any::TypeId;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ClusterResourceScope;
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use trimtab_testing_env::World;

/// How often an edit is begun again when somebody else was quicker.
const EDITS: usize = 20;

/// What users do, one step after the other, and what they wait for. Objects are of the namespace `default` unless they, or
/// keys as `other/name`, say otherwise.
///
/// Requests of users never go wrong. Where the steps end must not depend on when they are done.
#[derive(Debug, Default)]
pub struct Scenario {
    pub(crate) steps: Vec<Step>,
}

pub(crate) struct Step {
    pub(crate) text: String,
    pub(crate) action: Action,
}

type Act = Arc<dyn Fn(Client) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;
type Check = Arc<dyn Fn(&World) -> bool + Send + Sync>;

pub(crate) enum Action {
    Act(Act),
    Until(Check),
    Wait(Duration),
}

/// What a scenario can be about.
pub trait Object:
    Resource<DynamicType = (), Scope: 'static>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope: 'static>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

impl Scenario {
    /// Creates an object.
    #[must_use]
    pub fn create<K: Object>(self, object: K) -> Self {
        let key = format!("{}/{}", namespace_of(&object), object.name_any());
        self.act(
            &format!("create {} {}", K::kind(&()), object.name_any()),
            move |client| {
                let (object, (api, _)) = (object.clone(), of::<K>(client, &key));
                async move {
                    let object = serde_json::from_value(typed(&object)).map_err(|error| error.to_string())?;
                    let made = api.create(&PostParams::default(), &object).await;
                    made.map(drop).map_err(|error| error.to_string())
                }
            },
        )
    }

    /// Changes an object as it is then.
    #[must_use]
    pub fn edit<K: Object>(self, key: &str, change: impl Fn(&mut K) + Send + Sync + 'static) -> Self {
        let (key, change) = (key.to_owned(), Arc::new(change));
        self.act(&format!("edit {} {key}", K::kind(&())), move |client| {
            let (change, (api, name)) = (change.clone(), of::<K>(client, &key));
            async move {
                for _ in 0..EDITS {
                    let found = api.get(&name).await.map_err(|error| error.to_string())?;
                    let value = serde_json::to_value(found).unwrap_or_default();
                    let mut object: K = serde_json::from_value(value).map_err(|error| error.to_string())?;
                    change(&mut object);
                    let object = serde_json::from_value(typed(&object)).map_err(|error| error.to_string())?;
                    match api.replace(&name, &PostParams::default(), &object).await {
                        Err(kube::Error::Api(status)) if status.code == 409 => {}
                        done => return done.map(drop).map_err(|error| error.to_string()),
                    }
                }
                Err("others were quicker all the time".to_owned())
            }
        })
    }

    /// Patches an object by a merge patch; with `/status` at the key's end its status.
    #[must_use]
    pub fn patch<K: Object>(self, key: &str, patch: Value) -> Self {
        let key = key.to_owned();
        self.act(&format!("patch {} {key}: {patch}", K::kind(&())), move |client| {
            let (key, of_status) = match key.strip_suffix("/status") {
                Some(key) => (key, true),
                None => (key.as_str(), false),
            };
            let (patch, (api, name)) = (patch.clone(), of::<K>(client, key));
            async move {
                let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
                let done = if of_status {
                    api.patch_status(&name, &params, &patch).await
                } else {
                    api.patch(&name, &params, &patch).await
                };
                done.map(drop).map_err(|error| error.to_string())
            }
        })
    }

    /// Deletes an object, in the background; it need not be there.
    #[must_use]
    pub fn delete<K: Object>(self, key: &str) -> Self {
        let key = key.to_owned();
        self.act(&format!("delete {} {key}", K::kind(&())), move |client| {
            let (api, name) = of::<K>(client, &key);
            async move {
                match api.delete(&name, &DeleteParams::background()).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                    done => done.map(drop).map_err(|error| error.to_string()),
                }
            }
        })
    }

    /// Does anything else, with a client whose requests do not go wrong.
    #[must_use]
    pub fn act<F>(mut self, text: &str, act: impl Fn(Client) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.steps.push(Step {
            text: text.to_owned(),
            action: Action::Act(Arc::new(move |client| Box::pin(act(client)))),
        });
        self
    }

    /// Waits until what there is is so; it is looked at after each change.
    #[must_use]
    pub fn until(mut self, text: &str, is: impl Fn(&World) -> bool + Send + Sync + 'static) -> Self {
        self.steps.push(Step {
            text: format!("wait until {text}"),
            action: Action::Until(Arc::new(is)),
        });
        self
    }

    /// Waits for so long, of the test's time.
    #[must_use]
    pub fn wait(mut self, pause: Duration) -> Self {
        self.steps.push(Step {
            text: format!("wait {pause:?}"),
            action: Action::Wait(pause),
        });
        self
    }
}

impl Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn namespace_of<K: Object>(object: &K) -> String {
    object.namespace().unwrap_or_else(|| "default".to_owned())
}

/// The API of a type, where this key is, and the name in it.
fn of<K: Object>(client: Client, key: &str) -> (Api<DynamicObject>, String) {
    let (namespace, name) = key.split_once('/').unwrap_or(("default", key));
    let resource = ApiResource::erase::<K>(&());
    let api = if TypeId::of::<K::Scope>() == TypeId::of::<ClusterResourceScope>() {
        Api::all_with(client, &resource)
    } else {
        Api::namespaced_with(client, namespace, &resource)
    };
    (api, name.to_owned())
}

/// The object with its type, which k8s-openapi's own write and derived ones do too.
fn typed<K: Object>(object: &K) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    value["apiVersion"] = K::api_version(&()).into();
    value["kind"] = K::kind(&()).into();
    value
}
