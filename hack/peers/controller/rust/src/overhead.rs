//! What a reconcile costs that does nothing: every key is triggered again and again, with all objects in the cache.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use serde_json::json;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::report::{Heap, PAUSE, Usage};
use crate::{Result, within};

/// Counts reconciles that have found their object.
#[derive(Default)]
pub struct Count {
    reconciled: AtomicU64,
    wanted: AtomicU64,
    reached: Notify,
}

impl Count {
    pub fn one(&self) {
        if self.reconciled.fetch_add(1, SeqCst) + 1 == self.wanted.load(SeqCst) {
            self.reached.notify_one();
        }
    }

    async fn until(&self, wanted: u64) {
        self.wanted.store(wanted, SeqCst);
        while self.reconciled.load(SeqCst) < wanted {
            self.reached.notified().await;
        }
    }
}

/// Waits for the reconciles of the initial list, then triggers so many rounds of all keys, each when the last one is through.
pub async fn measure(
    count: &Count,
    keys: u64,
    rounds: u64,
    heap: Option<Heap>,
    trigger: impl Fn() -> Result<()>,
) -> Result<()> {
    within("the reconciles of the initial list", count.until(keys)).await?;
    sleep(PAUSE).await;
    let reconciled = count.reconciled.load(SeqCst);
    if reconciled != keys {
        return Err(format!("{reconciled} reconciles at the start instead of {keys}").into());
    }
    let (before, begun) = (Usage::now(heap)?, Instant::now());
    for round in 1..=rounds {
        trigger()?;
        within("a round of reconciles", count.until(keys * (round + 1))).await?;
    }
    let (wall, after) = (begun.elapsed(), Usage::now(heap)?);
    let per = |total: f64| total / (keys * rounds) as f64;
    let mut line = json!({
        "cpu_us": per((after.cpu - before.cpu).as_secs_f64() * 1e6),
        "wall_us": per(wall.as_secs_f64() * 1e6),
    });
    if let (Some(before), Some(after)) = (before.asked, after.asked) {
        line["allocations"] = per((after.0 - before.0) as f64).into();
        line["bytes"] = per((after.1 - before.1) as f64).into();
    }
    println!("{line}");
    Ok(())
}
