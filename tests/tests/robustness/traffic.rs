//! The traffic: writers that do not know of each other and write to the same few objects.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::history::Log;
use crate::recorder::{TIER, VALUE, named};
use crate::world::{Pace, World};

/// How many names there are in each namespace.
const NAMES: usize = 8;
/// Holds deleted objects back for a while.
const FINALIZER: &str = "example.com/robustness";
/// The values of the label, and its absence.
const TIERS: [Option<&str>; 3] = [Some("a"), Some("b"), None];

/// One of the writers.
pub(crate) struct Writer {
    maps: Vec<Api<ConfigMap>>,
    log: Log,
    pace: Pace,
    rng: fastrand::Rng,
}

/// The name that some informers leave out.
pub(crate) const LEFT_OUT: &str = "n1";

impl Writer {
    pub(crate) fn new(world: &World, log: Log, rng: fastrand::Rng) -> Self {
        let in_namespace = |namespace: &String| Api::namespaced(world.client.clone(), namespace);
        Self {
            maps: world.namespaces.iter().map(in_namespace).collect(),
            log,
            pace: world.pace,
            rng,
        }
    }

    /// Writes so many times, with pauses.
    ///
    /// # Errors
    /// A request failed that should not have: anything but a conflict between writers.
    pub(crate) async fn write(mut self, steps: u64) -> Result<(), String> {
        for _ in 0..steps {
            self.log.step();
            match self.step().await {
                Ok(()) => {}
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
                Err(error) => return Err(format!("a writer was refused: {error}")),
            }
            sleep(pause(&mut self.rng, self.pace)).await;
        }
        Ok(())
    }

    async fn step(&mut self) -> kube::Result<()> {
        let name = format!("n{}", self.rng.usize(..NAMES));
        let maps = self.rng.choice(&self.maps).expect("there are namespaces").clone();
        let tier = *self.rng.choice(&TIERS).expect("there are tiers");
        let value = self.rng.u32(..).to_string();
        let (post, delete) = (PostParams::default(), DeleteParams::default());
        let written = match self.rng.u8(..100) {
            0..25 => {
                maps.create(&post, &map(&name, tier, &value, self.rng.u8(..10) == 0))
                    .await?
            }
            25..32 => {
                // Fails if somebody has written in between.
                let mut changed = maps.get(&name).await?;
                let data = changed.data.get_or_insert_default();
                data.insert(VALUE.to_owned(), value);
                maps.replace(&name, &post, &changed).await?
            }
            32..38 => {
                // Succeeds whatever there is.
                let mut changed = map(&name, tier, &value, false);
                changed.metadata.resource_version = None;
                maps.replace(&name, &post, &changed).await?
            }
            38..58 => {
                self.patch(&maps, &name, json!({"metadata": {"labels": {TIER: tier}}}))
                    .await?
            }
            58..70 => self.patch(&maps, &name, json!({"data": {VALUE: value}})).await?,
            70..74 => {
                self.patch(&maps, &name, json!({"metadata": {"finalizers": null}}))
                    .await?
            }
            74..76 => self.patch(&maps, &name, json!({})).await?,
            76..90 => return maps.delete(&name, &delete).await.map(drop),
            90..99 => {
                maps.delete(&name, &delete).await?;
                maps.create(&post, &map(&name, tier, &value, false)).await?
            }
            _ => {
                let some = ListParams::default().labels(&format!("{TIER}=a"));
                return maps.delete_collection(&delete, &some).await.map(drop);
            }
        };
        self.acknowledge(&written);
        Ok(())
    }

    async fn patch(&self, maps: &Api<ConfigMap>, name: &str, patch: Value) -> kube::Result<ConfigMap> {
        maps.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
    }

    fn acknowledge(&self, written: &ConfigMap) {
        if let Ok((key, mark)) = named(written) {
            self.log.acknowledge(key, mark);
        }
    }
}

/// Creates, in each namespace, an object with each value of the label that selections know; of all that is written these
/// are the last.
pub(crate) async fn finish(world: &World, log: &Log) -> Result<Vec<ConfigMap>, String> {
    let mut last = Vec::new();
    for namespace in &world.namespaces {
        let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), namespace);
        for tier in ["a", "b"] {
            let map = map(&format!("last-{tier}"), Some(tier), "last", false);
            let created = maps
                .create(&PostParams::default(), &map)
                .await
                .map_err(|e| e.to_string())?;
            let (key, mark) = named(&created)?;
            log.acknowledge(key, mark);
            last.push(created);
        }
    }
    Ok(last)
}

/// How long to wait until the next step: mostly not at all, sometimes for long.
pub(crate) fn pause(rng: &mut fastrand::Rng, pace: Pace) -> Duration {
    match rng.u32(..1000) {
        0..600 => Duration::ZERO,
        600..997 => pace.short.mul_f64(rng.f64()),
        _ => pace.long.mul_f64(rng.f64()),
    }
}

fn map(name: &str, tier: Option<&str>, value: &str, held: bool) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map.metadata.labels = tier.map(|tier| [(TIER.to_owned(), tier.to_owned())].into());
    map.metadata.finalizers = held.then(|| vec![FINALIZER.to_owned()]);
    map.data = Some([(VALUE.to_owned(), value.to_owned())].into());
    map
}
