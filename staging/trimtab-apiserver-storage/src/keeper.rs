//! The task that looks after a store over time: it deletes what has expired, compacts what is old and has
//! quiet watches report progress. It belongs to the store and ends with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::contract::{Compare, Op, Result, Revision, Txn, TxnResponse};
use crate::shared::Shared;
use crate::state::Millis;

/// At most this many keys expire in one transaction.
const EXPIRE_AT_ONCE: usize = 500;

/// The part of a store that changes it.
#[async_trait::async_trait]
pub(crate) trait Committer: std::fmt::Debug + Send + Sync + 'static {
    /// Does a transaction; see [`crate::Store::txn`].
    async fn txn(&self, txn: Txn) -> Result<TxnResponse>;
    /// Compacts; see [`crate::Store::compact`].
    async fn compact(&self, revision: Revision) -> Result<()>;
    /// Writes out what is under way and accepts no more; see [`crate::Store::close`].
    async fn close(&self) -> Result<()>;
}

/// Wall-clock time that does not jump: what it was when the store was opened, plus the time since. Should the clock
/// have jumped while the store was closed, what expires does so earlier or later, and nothing else changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    opened: Instant,
    opened_at: Millis,
}

impl Clock {
    /// Starts when the wall clock says `now`.
    pub(crate) fn start(now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            opened: Instant::now(),
            opened_at: millis(since),
        }
    }

    pub(crate) fn now(&self) -> Millis {
        self.opened_at.saturating_add(millis(self.opened.elapsed()))
    }

    fn instant(&self, at: Millis) -> Instant {
        self.opened + Duration::from_millis(at.saturating_sub(self.opened_at))
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// The task's owner: it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Keeper(JoinHandle<()>);

impl Keeper {
    /// Starts the task; needs a tokio runtime.
    pub(crate) fn spawn(shared: Arc<Shared>, committer: Arc<dyn Committer>, clock: Clock) -> Self {
        Self(tokio::spawn(async move {
            let expiry = expire(&shared, &committer, clock);
            let compaction = compact(&shared, &committer);
            let progress = progress(&shared);
            tokio::join!(expiry, compaction, progress);
        }))
    }

    pub(crate) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn expire(shared: &Shared, committer: &Arc<dyn Committer>, clock: Clock) {
    loop {
        let changed = shared.expiry_changed.notified();
        let Some(next) = shared.read(|s| s.next_expiry()) else {
            changed.await;
            continue;
        };
        tokio::select! {
            biased;
            () = sleep_until(clock.instant(next)) => {}
            () = changed => continue,
        }
        let due = shared.read(|s| s.expired(clock.now(), EXPIRE_AT_ONCE));
        let mut txn = Txn::default();
        for kv in due {
            txn.compare
                .push(Compare::ModRevision(kv.key.clone(), kv.mod_revision));
            txn.success.push(Op::Delete { key: kv.key });
        }
        // A key that was set again meanwhile fails the whole transaction: the next turn sees its new time.
        if !txn.success.is_empty()
            && let Err(error) = committer.txn(txn).await
        {
            tracing::warn!(%error, "cannot delete expired keys");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn compact(shared: &Shared, committer: &Arc<dyn Committer>) {
    let Some(window) = shared.config.compaction_window else {
        return;
    };
    let step = (window / 5).max(Duration::from_millis(100));
    let mut seen: VecDeque<(Instant, Revision)> = VecDeque::new();
    loop {
        let (current, oldest) = shared.read(|s| (s.revision(), s.oldest()));
        let now = Instant::now();
        if seen.back().is_none_or(|(_, revision)| *revision < current) {
            seen.push_back((now, current));
        }
        let mut target = current.saturating_sub(shared.config.max_history);
        while let Some((_, revision)) = seen.front().filter(|(at, _)| now - *at >= window) {
            target = target.max(*revision);
            seen.pop_front();
        }
        if target > oldest {
            match committer.compact(target).await {
                Ok(()) => tracing::debug!(revision = target, "compacted"),
                Err(error) => tracing::warn!(%error, revision = target, "cannot compact"),
            }
        }
        tokio::time::sleep(step).await;
    }
}

async fn progress(shared: &Shared) {
    let mut reported = 0;
    loop {
        tokio::time::sleep(shared.config.progress_interval).await;
        let current = shared.read(|s| s.revision());
        if current > reported {
            reported = current;
            shared.progress();
        }
    }
}
