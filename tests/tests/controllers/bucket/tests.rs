//! What users expect of buckets, and what the cloud's other customers do.

use std::time::Duration;

use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use trimtab::testing::{EnvError, TestEnv};

use super::cloud::{Cloud, Facts};
use super::scenario::{bucket, foreign};
use super::{Bucket, BucketStatus, DEADLINE, LISTED_EVERY};
use crate::kit::condition;

/// Long enough for what is told, and too short for what has to be found.
const SOON: Duration = Duration::from_secs(2);

/// A cluster with the controller, and a cloud.
struct World {
    env: TestEnv,
    cloud: Cloud,
    buckets: Api<Bucket>,
}

impl World {
    async fn start() -> Result<Self, EnvError> {
        let mut env = TestEnv::start().await?;
        env.install::<Bucket>().await?;
        let cloud = Cloud::default();
        let own = cloud.clone();
        env.run(|client, stop| async move { super::manager(client, &own)?.run(stop).await });
        Ok(Self {
            buckets: Api::default_namespaced(env.client()),
            env,
            cloud,
        })
    }

    /// A world with one bucket.
    async fn with_bucket(name: &str, versioning: bool) -> Result<Self, EnvError> {
        let world = Self::start().await?;
        world
            .buckets
            .create(&PostParams::default(), &bucket(name, versioning))
            .await?;
        world.until(name, ("True", "InTheCloud"), |_| true).await?;
        Ok(world)
    }

    /// Waits until the bucket says so.
    async fn until(
        &self,
        name: &str,
        ready: (&str, &str),
        is: impl Fn(&BucketStatus) -> bool,
    ) -> Result<BucketStatus, EnvError> {
        let told = |bucket: &Bucket| {
            let status = bucket.status.as_ref();
            status.is_some_and(|status| condition(&status.conditions, "Ready") == Some(ready) && is(status))
        };
        let bucket = self.env.eventually(&self.buckets, name, told).await?;
        Ok(bucket.status.unwrap_or_default())
    }

    async fn change(&self, name: &str, spec: Value) -> Result<(), EnvError> {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.buckets.patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    fn facts(&self, name: &str) -> Facts {
        self.cloud.get(name).expect("a bucket in the cloud")
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_is_in_the_cloud_and_says_what_the_cloud_says() -> Result<(), EnvError> {
    let world = World::with_bucket("photos", true).await?;
    let facts = world.facts("default.photos");
    assert_eq!((&*facts.region, facts.versioning), ("eu", true));
    let status = world.until("photos", ("True", "InTheCloud"), |_| true).await?;
    assert_eq!(
        status.url.as_deref(),
        Some("https://default.photos.eu.cloud.example")
    );
    assert!(status.versioning);

    world.change("photos", json!({"versioning": false})).await?;
    world
        .until("photos", ("True", "InTheCloud"), |status| !status.versioning)
        .await?;
    assert!(!world.facts("default.photos").versioning);
    world.cloud.change("default.photos", |facts| facts.objects = 7);
    world
        .until("photos", ("True", "InTheCloud"), |status| status.objects == 7)
        .await?;
    world.env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn what_happens_in_the_cloud_is_repaired_at_once_when_it_is_told() -> Result<(), EnvError> {
    let world = World::with_bucket("photos", true).await?;
    world
        .cloud
        .change("default.photos", |facts| facts.versioning = false);
    sleep(SOON).await;
    assert!(world.facts("default.photos").versioning);
    world.cloud.put("default.photos", None);
    sleep(SOON).await;
    assert!(world.facts("default.photos").versioning, "it is made again");
    world.env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn what_is_not_told_is_found_by_the_listing() -> Result<(), EnvError> {
    let world = World::with_bucket("photos", true).await?;
    sleep(SOON).await; // what was told of the making has been looked at
    world.cloud.mute(true);
    // Before the listing has ever seen it as it was.
    world.cloud.put("default.photos", None);
    sleep(SOON).await;
    assert!(
        world.cloud.get("default.photos").is_none(),
        "nobody has heard of it"
    );
    sleep(LISTED_EVERY).await;
    assert!(world.facts("default.photos").versioning);

    world.cloud.change("default.photos", |facts| facts.objects = 3);
    sleep(LISTED_EVERY + SOON).await;
    world
        .until("photos", ("True", "InTheCloud"), |status| status.objects == 3)
        .await?;
    let deeds = world.cloud.deeds().len();
    sleep(LISTED_EVERY * 10).await;
    assert_eq!(
        world.cloud.deeds().len(),
        deeds,
        "nothing is done when nothing has changed"
    );
    world.env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn a_deleted_bucket_is_deleted_in_the_cloud_once_it_is_empty() -> Result<(), EnvError> {
    let world = World::with_bucket("photos", false).await?;
    world.cloud.change("default.photos", |facts| facts.objects = 2);
    world.buckets.delete("photos", &DeleteParams::default()).await?;
    world.until("photos", ("False", "NotEmpty"), |_| true).await?;
    assert_eq!(world.facts("default.photos").objects, 2);
    world.cloud.change("default.photos", |facts| facts.objects = 0);
    world.env.eventually_gone(&world.buckets, "photos").await?;
    assert_eq!(world.cloud.get("default.photos"), None);
    world.env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_bucket_is_left_alone() -> Result<(), EnvError> {
    let world = World::start().await?;
    for name in ["default.taken", "default.given-up"] {
        world.cloud.put(name, Some(foreign()));
    }
    for name in ["taken", "given-up"] {
        world
            .buckets
            .create(&PostParams::default(), &bucket(name, true))
            .await?;
        world.until(name, ("False", "NameTaken"), |_| true).await?;
    }
    world.buckets.delete("given-up", &DeleteParams::default()).await?;
    world.env.eventually_gone(&world.buckets, "given-up").await?;
    for name in ["default.taken", "default.given-up"] {
        assert_eq!(world.facts(name), foreign());
    }
    world.cloud.put("default.taken", None);
    world.until("taken", ("True", "InTheCloud"), |_| true).await?;
    world.env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_cannot_be_as_it_should_says_so_and_is_not_tried_again() -> Result<(), EnvError> {
    let world = World::with_bucket("photos", false).await?;
    world.change("photos", json!({"region": "us"})).await?;
    let status = world.until("photos", ("False", "WrongRegion"), |_| true).await?;
    assert_eq!(
        status.url.as_deref(),
        Some("https://default.photos.eu.cloud.example")
    );
    world.change("photos", json!({"region": "eu"})).await?;
    world.until("photos", ("True", "InTheCloud"), |_| true).await?;
    world.env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_answered_holds_up_its_bucket_for_a_while_and_no_other() -> Result<(), EnvError>
{
    let world = World::start().await?;
    sleep(SOON).await; // the first listing has been answered
    world.cloud.get_stuck(1);
    let begun = Instant::now();
    world
        .buckets
        .create(&PostParams::default(), &bucket("stuck", false))
        .await?;
    sleep(SOON).await;
    world
        .buckets
        .create(&PostParams::default(), &bucket("other", false))
        .await?;
    world.until("other", ("True", "InTheCloud"), |_| true).await?;
    assert!(begun.elapsed() < DEADLINE, "it did not wait for the other one");
    assert_eq!(world.cloud.get("default.stuck"), None);
    world.until("stuck", ("True", "InTheCloud"), |_| true).await?;
    assert!(begun.elapsed() >= DEADLINE);
    let held = world.buckets.get("stuck").await?;
    assert_eq!(held.finalizers(), [super::FINALIZER]);
    world.env.shutdown().await
}
