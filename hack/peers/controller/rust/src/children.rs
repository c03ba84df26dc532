//! What it takes until all Sites are as they should be.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use tokio::time::sleep;

use crate::load::number_of;
use crate::report::{PAUSE, Usage, mib};
use crate::{Result, within};

/// After so long without a reconcile nothing is left to be done.
const QUIET: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);

/// Which Sites have been reconciled without an error.
pub struct Settled {
    reconciled: Vec<AtomicBool>,
    left: AtomicUsize,
    count: AtomicUsize,
    last: Mutex<Instant>,
}

impl Settled {
    pub fn new(sites: usize) -> Self {
        Self {
            reconciled: (0..sites).map(|_| AtomicBool::new(false)).collect(),
            left: AtomicUsize::new(sites),
            count: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
        }
    }

    /// A reconcile has ended, well or not.
    pub fn ended(&self, name: &str, well: bool) {
        self.count.fetch_add(1, SeqCst);
        *self.last.lock() = Instant::now();
        let number = number_of(name).filter(|number| well && *number < self.reconciled.len());
        if number.is_some_and(|number| !self.reconciled[number].swap(true, SeqCst)) {
            self.left.fetch_sub(1, SeqCst);
        }
    }
}

/// Waits until every Site was reconciled and nothing happens any more, and says what that has cost since `begun`.
pub async fn measure(settled: &Settled, begun: Instant) -> Result<()> {
    let quiet = async {
        while settled.left.load(SeqCst) > 0 || settled.last.lock().elapsed() < QUIET {
            sleep(LOOK).await;
        }
    };
    within("the reconciles", quiet).await?;
    let cpu = Usage::now(None)?.cpu;
    let wall = *settled.last.lock() - begun;
    sleep(PAUSE).await;
    let line = json!({
        "wall_s": wall.as_secs_f64(),
        "cpu_s": cpu.as_secs_f64(),
        "reconciles": settled.count.load(SeqCst),
        "steady_rss_mib": mib("VmRSS:")?,
    });
    println!("{line}");
    Ok(())
}
