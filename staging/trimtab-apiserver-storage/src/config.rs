//! What can be set about a store that this process keeps, with the defaults.

use std::time::Duration;

/// How a memory or embedded store behaves. Change what you need of [`Config::default`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Revisions older than this are compacted by the store itself; `None` leaves that to callers. 5 minutes,
    /// as kube-apiserver has its etcd do.
    pub compaction_window: Option<Duration>,
    /// At most this many revisions are kept, however young, so that a burst of writes cannot fill the memory.
    /// Only heeded where `compaction_window` is set. 100,000.
    pub max_history: u64,
    /// A watcher that had caught up and then falls this many revisions behind is cut off. 50,000.
    pub max_watch_lag: u64,
    /// How often watchers whose range is quiet are told how far the store has come. 5 seconds.
    pub progress_interval: Duration,
    /// An embedded store's file that is longer than this, in bytes, and more than four times as long as what it holds, is
    /// shortened after a compaction, when no write waits. Writes that come meanwhile wait for it, reads and watches do
    /// not. 32 MiB.
    pub defragment_from: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            compaction_window: Some(Duration::from_secs(300)),
            max_history: 100_000,
            max_watch_lag: 50_000,
            progress_interval: Duration::from_secs(5),
            defragment_from: 32 << 20,
        }
    }
}
