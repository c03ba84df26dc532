//! How long a user's changes wait behind the initial list, and whether all of that gets through.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::{sleep, sleep_until};

use crate::load::{NAMESPACES, namespace_of, number_of};
use crate::{Result, load, within};

/// What a reconcile waits for.
pub const WORK: Duration = Duration::from_millis(1);
/// The changes: one at each of these times after the first reconcile. The first one is the change that is asked for.
const EVERY: Duration = Duration::from_millis(100);
const CHANGES: usize = 10;
/// The annotation that they set.
const CHANGED: &str = "bench/changed";
/// How often it is looked whether something has happened.
const LOOK: Duration = Duration::from_millis(10);

/// What reconciles have seen.
pub struct Seen {
    /// Tells this run's changes from those of others.
    run: String,
    first: OnceLock<Instant>,
    reconciled: Vec<AtomicBool>,
    left: AtomicUsize,
    last: OnceLock<Instant>,
    /// When a reconcile began that saw the change of an object.
    changes: Mutex<HashMap<usize, Instant>>,
}

impl Seen {
    pub fn new(keys: usize) -> Result<Self> {
        Ok(Self {
            run: SystemTime::now()
                .duration_since(UNIX_EPOCH)?
                .as_nanos()
                .to_string(),
            first: OnceLock::new(),
            reconciled: (0..keys).map(|_| AtomicBool::new(false)).collect(),
            left: AtomicUsize::new(keys),
            last: OnceLock::new(),
            changes: Mutex::default(),
        })
    }

    /// A reconcile begins.
    pub fn begins(&self, object: &ConfigMap) {
        let now = Instant::now();
        self.first.get_or_init(|| now);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let Some(number) = number_of(name).filter(|number| *number < self.reconciled.len()) else {
            return;
        };
        if !self.reconciled[number].swap(true, SeqCst) && self.left.fetch_sub(1, SeqCst) == 1 {
            self.last.get_or_init(|| now);
        }
        if object.annotations().get(CHANGED) == Some(&self.run) {
            self.changes.lock().entry(number).or_insert(now);
        }
    }
}

/// Changes objects that are the last of the list while that is being reconciled, and waits until all is done.
pub async fn measure(client: Client, seen: &Seen) -> Result<()> {
    let first = within("the first reconcile", at(&seen.first)).await?;
    let keys = seen.reconciled.len();
    let mut changes = Vec::new();
    for change in 0..CHANGES.min(keys.div_ceil(NAMESPACES)) {
        sleep_until((first + EVERY * (change as u32 + 1)).into()).await;
        let number = keys - 1 - change * NAMESPACES;
        let api = Api::<ConfigMap>::namespaced(client.clone(), &namespace_of(number));
        let patch = Patch::Merge(json!({"metadata": {"annotations": {CHANGED: seen.run}}}));
        api.patch(&load::key_name(number), &PatchParams::default(), &patch)
            .await?;
        changes.push((number, Instant::now()));
    }
    let last = within("the reconciles of the initial list", at(&seen.last)).await?;
    let all_seen = async {
        while seen.changes.lock().len() < changes.len() {
            sleep(LOOK).await;
        }
    };
    within("the reconciles of the changes", all_seen).await?;
    let begun = seen.changes.lock();
    let wait = |(number, answered): &(usize, Instant)| begun[number].saturating_duration_since(*answered);
    let mut waits: Vec<f64> = changes
        .iter()
        .map(|change| wait(change).as_secs_f64() * 1e3)
        .collect();
    let of_first = waits[0];
    waits.sort_by(f64::total_cmp);
    let line = json!({
        "first_ms": of_first,
        "p50_ms": waits[(waits.len() - 1) / 2],
        "max_ms": waits[waits.len() - 1],
        "list_s": (last - first).as_secs_f64(),
    });
    println!("{line}");
    Ok(())
}

async fn at(time: &OnceLock<Instant>) -> Instant {
    loop {
        if let Some(time) = time.get() {
            return *time;
        }
        sleep(LOOK).await;
    }
}
