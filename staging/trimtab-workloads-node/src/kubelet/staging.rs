//! Has pods and nodes go through the stages of a file instead of what they do by themselves.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::api::{Api, DeleteParams, Patch, Preconditions};
use parking_lot::Mutex;
use serde_json::{Value, json};
use trimtab_client_cache::Object;
use trimtab_client_cache::cached::Cached;

use super::KUBELET;
use super::fleet::{Fleet, Seat};
use crate::clock::{Clock, seconds};
use crate::notes::Notes;
use crate::pool::Outcome;
use crate::requests::{RequestError, change, patch_part, patiently};
use crate::stage::{Act, Pick, Stages, Step, World, pick};

/// Plays stages.
pub(super) struct Player {
    stages: Stages,
    fleet: Arc<Fleet>,
    notes: Arc<Notes>,
    clock: Clock,
    random: Mutex<fastrand::Rng>,
    records: Mutex<HashMap<String, Record>>,
}

/// What is remembered of an object that goes through stages.
#[derive(Debug, Default)]
struct Record {
    pick: Option<Pick>,
    /// The version that was written last: older ones are not looked at.
    written: u64,
}

impl Player {
    pub(super) fn new(stages: Stages, fleet: Arc<Fleet>, notes: Arc<Notes>, clock: Clock, seed: u64) -> Self {
        Self {
            stages,
            fleet,
            notes,
            clock,
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            records: Mutex::default(),
        }
    }

    /// Whether objects of this kind go through stages.
    pub(super) fn plays(&self, kind: &str) -> bool {
        self.stages.are_for(kind)
    }

    /// Takes an object, which is on a node or is one, as far as it goes by now.
    pub(super) async fn turn<K>(&self, api: &Api<K>, cached: &Cached<K>, node: &str, seat: Seat) -> Outcome
    where
        K: Object + Resource<DynamicType = ()> + Clone + Debug,
    {
        let uid = cached.uid().into_owned();
        let mut record = self.records.lock().remove(&uid).unwrap_or_default();
        let version: u64 = cached.resource_version().parse().unwrap_or_default();
        if version < record.written {
            self.records.lock().insert(uid, record);
            return Outcome::Done;
        }
        let kind = K::kind(&());
        let Ok(object) = serde_json::from_str::<Value>(&cached.to_json()) else {
            return Outcome::Done;
        };
        let place = Place {
            player: self,
            node,
            seat,
            object: &object,
        };
        let now = self.clock.now();
        let step = pick(
            &self.stages,
            &kind,
            &object,
            record.pick.take(),
            now,
            &mut self.random.lock(),
            &place,
        );
        let acts = match step {
            Ok(Step::Nothing) => return Outcome::Done,
            Ok(Step::Wait(chosen)) => {
                let wait = self.clock.until(chosen.due);
                record.pick = Some(chosen);
                self.records.lock().insert(uid, record);
                return Outcome::After(wait);
            }
            Ok(Step::Do(acts)) => acts,
            Err(why) => {
                tracing::warn!(key = %cached.key(), why, "a stage cannot be played");
                let note = trimtab_client_coordination::events::Note::warning("InvalidStage", "Stage", why);
                self.notes.take(reference(&kind, cached), note);
                return Outcome::Done;
            }
        };
        let played = self.play(api, cached, &kind, &uid, acts).await;
        match played {
            Ok(written) => {
                record.written = written;
                // Nothing more is written of what is deleted.
                if written > 0 {
                    self.records.lock().insert(uid, record);
                }
                Outcome::Done
            }
            Err(error) if error.code() == 404 => Outcome::Done,
            Err(error) => {
                tracing::warn!(key = %cached.key(), %error, "trying again");
                Outcome::Retry
            }
        }
    }

    /// The version that was written last; 0 if the object is deleted, or none was written.
    async fn play<K>(
        &self,
        api: &Api<K>,
        cached: &Cached<K>,
        kind: &str,
        uid: &str,
        acts: Vec<Act>,
    ) -> Result<u64, RequestError>
    where
        K: Object + Resource<DynamicType = ()> + Clone + Debug,
    {
        let mut written = 0;
        for act in acts {
            let (part, strategic, mut body) = match act {
                Act::Note(note) => {
                    self.notes.take(reference(kind, cached), note);
                    continue;
                }
                Act::Delete => {
                    let params = DeleteParams {
                        grace_period_seconds: Some(0),
                        preconditions: Some(Preconditions {
                            uid: Some(uid.to_owned()),
                            resource_version: None,
                        }),
                        ..DeleteParams::default()
                    };
                    patiently(api.delete(cached.name(), &params)).await?;
                    return Ok(0);
                }
                Act::Patch {
                    subresource,
                    strategic,
                    change,
                } => (subresource, strategic, change),
            };
            if !body["metadata"].is_object() {
                body["metadata"] = json!({});
            }
            body["metadata"]["uid"] = uid.into();
            let body = if strategic {
                Patch::Strategic(body)
            } else {
                Patch::Merge(body)
            };
            let object = match part.as_str() {
                "" => change(api, cached.name(), KUBELET, body).await?,
                part => patch_part(api, part, cached.name(), KUBELET, body).await?,
            };
            let version = object.meta().resource_version.as_deref().unwrap_or_default();
            written = version.parse().unwrap_or_default();
        }
        Ok(written)
    }

    pub(super) fn forget(&self, uid: &str) {
        self.records.lock().remove(uid);
    }
}

fn reference<K: Object>(kind: &str, cached: &Cached<K>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(cached.name().to_owned()),
        namespace: Some(cached.namespace().to_owned()).filter(|name| !name.is_empty()),
        uid: Some(cached.uid().into_owned()),
        ..ObjectReference::default()
    }
}

/// What templates may ask.
struct Place<'a> {
    player: &'a Player,
    node: &'a str,
    seat: Seat,
    object: &'a Value,
}

impl World for Place<'_> {
    fn now(&self) -> String {
        seconds(self.player.clock.now()).0.to_string()
    }

    fn node_address(&self, node: &str) -> String {
        let other = (!node.is_empty())
            .then(|| self.player.fleet.alive(node))
            .flatten();
        other.unwrap_or(self.seat).address.to_string()
    }

    fn pod_address(&self) -> String {
        if self.object["spec"]["hostNetwork"] == true {
            return self.seat.address.to_string();
        }
        let uid = self.object["metadata"]["uid"].as_str().unwrap_or_default();
        let has = self.object["status"]["podIP"].as_str();
        let has = has.and_then(|address| address.parse().ok());
        let address = self.player.fleet.address(self.node, uid, has);
        address.map(|address| address.to_string()).unwrap_or_default()
    }

    fn node_name(&self) -> String {
        self.node.to_owned()
    }
}
