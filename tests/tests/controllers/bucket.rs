//! Buckets of a cloud: each Bucket object is kept as a bucket outside the cluster, and says what the cloud says of it.
//!
//! What it shows: a system outside the cluster that is the truth; a stream of its events, and a timer that finds what no
//! event told; a finalizer, so that nothing is left behind; a deadline for calls that are never answered.
#![allow(unreachable_pub)] // of what the derives make

mod cloud;
mod listing;
mod scenario;
mod tests;

use std::time::Duration;

use futures::StreamExt;
use futures::future::ready;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Client, CustomResource, KubeSchema, ResourceExt};
use serde::{Deserialize, Serialize};
use trimtab::controller::source::Trigger;
use trimtab::prelude::*;

use cloud::{Cloud, CloudError};
use listing::Listing;
pub(crate) use scenario::Buckets as Scenario;

const NAME: &str = "bucket-controller";
/// Held while there is a bucket in the cloud, which no garbage collector knows.
const FINALIZER: &str = "storage.example.com/bucket";
/// How often all buckets are asked for.
const LISTED_EVERY: Duration = Duration::from_secs(30);
/// How long a turn may wait for the cloud.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a bucket should be
#[derive(CustomResource, Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "storage.example.com",
    version = "v1",
    kind = "Bucket",
    namespaced,
    status = "BucketStatus",
    derive = "PartialEq",
    doc = "A bucket in the cloud",
    printcolumn(name = "Objects", type_ = "integer", json_path = ".status.objects")
)]
#[serde(rename_all = "camelCase")]
pub struct BucketSpec {
    /// Where it is.
    pub region: String,
    /// Whether what is overwritten is kept.
    #[serde(default)]
    pub versioning: bool,
}

/// What the cloud said last
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketStatus {
    /// Where it is to be found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether what is overwritten is kept.
    #[serde(default)]
    pub versioning: bool,
    /// How many objects are in it.
    #[serde(default)]
    pub objects: u32,
    /// `Ready`: it is as it should be.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl Conditions for BucketStatus {
    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }
}

/// A manager with the controller, for all namespaces and this cloud.
pub(crate) fn manager(client: Client, cloud: &Cloud) -> Result<Manager> {
    let manager = Manager::new(client).name(NAME);
    let listing = Listing::new(cloud.clone());
    let events = cloud.events().filter_map(|name| {
        let key = listing::key(&name);
        ready(key.map(|key| Trigger::new(key, "told by the cloud")))
    });
    let asked = listing.clone();
    manager
        .controller(Buckets {
            cloud: cloud.clone(),
            listing,
        })
        .source(Source::stream("bucket events", events))
        .source(Source::every("bucket listing", LISTED_EVERY, move || {
            asked.clone().changed()
        }))
        .deadline(DEADLINE)
        .workers(2)
        .start()?;
    Ok(manager)
}

/// The reconciler.
struct Buckets {
    cloud: Cloud,
    listing: Listing,
}

impl Reconcile<Bucket> for Buckets {
    async fn reconcile(&self, turn: &mut Turn<Bucket>) -> Result<Next> {
        let Some(bucket) = turn.latest() else {
            self.listing.forget(turn.key());
            return Ok(Next::Done);
        };
        // A bucket is somebody's by its tag: the same name may be another object's by now.
        let owner = format!("{} {}", turn.key(), bucket.uid().unwrap_or_default());
        if turn.is_deleting() {
            return self.let_go(turn, &owner).await;
        }
        turn.hold(FINALIZER).await?;

        let (name, spec) = (listing::name(turn.key()), &bucket.spec);
        let mut facts = match self.listing.look(turn.key()).await? {
            Some(facts) => facts,
            None => self.cloud.create(&name, &spec.region, &owner).await?,
        };
        if facts.owner != owner {
            let why = "Somebody else has a bucket of this name.";
            turn.condition("Ready", false, "NameTaken", why);
            return Ok(Next::Done); // the listing sees when that changes
        }
        let is_elsewhere = facts.region != spec.region;
        if !is_elsewhere && facts.versioning != spec.versioning {
            facts = self.cloud.set_versioning(&name, spec.versioning).await?;
        }
        self.listing.note(turn.key(), Some(facts.clone()));
        turn.status(|status| {
            status.url = Some(format!("https://{name}.{}.cloud.example", facts.region));
            status.versioning = facts.versioning;
            status.objects = facts.objects;
        });
        if is_elsewhere {
            let why = format!("It is in {} and cannot be moved.", facts.region);
            turn.condition("Ready", false, "WrongRegion", &why);
            return Err(Error::terminal(why)); // trying again moves nothing
        }
        turn.condition("Ready", true, "InTheCloud", "The bucket is as it should be.");
        Ok(Next::Done)
    }
}

impl Buckets {
    /// Deletes the bucket, if it is this object's, and lets the object go.
    async fn let_go(&self, turn: &mut Turn<Bucket>, owner: &str) -> Result<Next> {
        let facts = self.listing.look(turn.key()).await?;
        if facts.is_some_and(|facts| facts.owner == owner) {
            match self.cloud.delete(&listing::name(turn.key())).await {
                Err(error @ CloudError::NotEmpty(_)) => {
                    turn.condition("Ready", false, "NotEmpty", error.to_string());
                    return Ok(Next::Done); // somebody has to empty it, and the cloud will tell
                }
                deleted => deleted?,
            }
        }
        turn.release(FINALIZER).await
    }
}

impl From<CloudError> for Error {
    fn from(error: CloudError) -> Self {
        Self::other(error)
    }
}
