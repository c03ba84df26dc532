//! What happens to buckets, in the cluster and in the cloud, and what must hold meanwhile.

use fastrand::Rng;
use kube::Client;
use kube::core::ApiResource;
use serde_json::{Value, json};
use tokio::time::Instant;
use trimtab::prelude::*;
use trimtab::testing::{EnvError, TestEnv};

use super::cloud::{Cloud, Facts};
use super::{Bucket, BucketSpec, FINALIZER};
use crate::kit::acts::{Act, create, delete, outside, patch};
use crate::kit::history::Moment;
use crate::kit::scenario::Scenario;

/// Buckets, their users, and a cloud.
#[derive(Default)]
pub(crate) struct Buckets {
    pub(super) cloud: Cloud,
}

pub(super) fn bucket(name: &str, versioning: bool) -> Bucket {
    let spec = BucketSpec {
        region: "eu".to_owned(),
        versioning,
    };
    Bucket::new(name, spec)
}

/// A bucket of somebody who has nothing to do with this cluster.
pub(super) fn foreign() -> Facts {
    Facts {
        region: "eu".to_owned(),
        versioning: false,
        objects: 5,
        owner: "somebody".to_owned(),
    }
}

impl Buckets {
    /// Somebody changes a bucket, as soon as it is there.
    fn change(&self, name: &'static str, change: impl Fn(&mut Facts) + Send + Sync + 'static) -> Act {
        let cloud = self.cloud.clone();
        outside(&format!("change {name} in the cloud"), move || {
            cloud.change(name, &change)
        })
    }

    /// People wait until a bucket is there.
    fn until(&self, name: &'static str) -> Act {
        let cloud = self.cloud.clone();
        outside(&format!("wait for {name} in the cloud"), move || {
            cloud.get(name).is_some()
        })
    }

    /// Somebody makes a bucket, or deletes it with all that is in it.
    fn put(&self, name: &'static str, facts: Option<Facts>) -> Act {
        let cloud = self.cloud.clone();
        outside(&format!("make or delete {name} in the cloud"), move || {
            let possible = facts.is_some() || cloud.get(name).is_some();
            if possible {
                cloud.put(name, facts.clone());
            }
            possible
        })
    }

    /// How many buckets of this object there were in the cloud at a time.
    fn owned_by(&self, object: &Value, at: Instant) -> usize {
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        let mut names = std::collections::BTreeSet::new();
        for deed in self
            .cloud
            .deeds()
            .into_iter()
            .filter(|deed| deed.at <= at && deed.owner.ends_with(uid))
        {
            if deed.exists {
                names.insert(deed.name);
            } else {
                names.remove(&deed.name);
            }
        }
        names.len()
    }
}

impl Scenario for Buckets {
    async fn prepare(&self, env: &mut TestEnv) -> Result<(), EnvError> {
        env.install::<Bucket>().await
    }

    fn manager(&self, client: Client) -> Result<Manager> {
        super::manager(client, &self.cloud)
    }

    fn kinds(&self) -> Vec<ApiResource> {
        vec![ApiResource::erase::<Bucket>(&())]
    }

    fn script(&self) -> Vec<Act> {
        vec![
            self.put("default.taken", Some(foreign())),
            create(&bucket("photos", false)),
            create(&bucket("taken", true)),
            create(&bucket("logs", true)),
            patch::<Bucket>("photos", json!({"spec": {"versioning": true}})),
            self.put("default.photos", None),
            self.change("default.logs", |facts| facts.objects = 3),
            self.change("default.photos", |facts| facts.versioning = false),
            delete::<Bucket>("logs"),
            create(&bucket("brief", false)),
            self.change("default.logs", |facts| facts.objects = 0),
            delete::<Bucket>("brief"),
            self.put("default.taken", None),
            create(&bucket("logs", false)),
            create(&bucket("moved", false)),
            self.until("default.moved"),
            patch::<Bucket>("moved", json!({"spec": {"region": "us"}})),
            self.change("default.logs", |facts| facts.objects = 8),
            create(&bucket("brief", true)),
            self.put("default.brief", None),
            delete::<Bucket>("brief"),
        ]
    }

    /// *One*: an object has one bucket at most. *Held*: an object that has one has the finalizer. *Nothing left*: an object that
    /// is gone has none.
    fn always(&self, moment: &Moment<'_>) -> Result<(), String> {
        let (Some(object), is_there) = (match &moment.change.after {
            Some(after) => (Some(after), true),
            None => (moment.before, false),
        }) else {
            return Ok(());
        };
        let count = self.owned_by(object, moment.change.at);
        if count > 1 {
            return Err(format!("One: it has {count} buckets"));
        }
        if count > 0 && is_there && object["metadata"]["finalizers"] != json!([FINALIZER]) {
            return Err("Held: it has a bucket and could go without a word".to_owned());
        }
        if count > 0 && !is_there {
            return Err("Nothing left: its bucket is still in the cloud".to_owned());
        }
        Ok(())
    }

    fn trouble(&self, trouble: Option<Rng>) {
        self.cloud.trouble(trouble);
    }

    fn outside(&self) -> Value {
        let all = self.cloud.all();
        let owner = |facts: &Facts| facts.owner.split(' ').next().unwrap_or_default().to_owned();
        all.iter()
            .map(|(name, facts)| {
                let words = (&facts.region, facts.versioning, facts.objects, owner(facts));
                (name.clone(), json!(words))
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}
