//! The workers of a controller: tasks that take keys from a queue until it ends. A panic costs one turn, not the worker.

use std::fmt::Debug;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio::time::Instant;
use trimtab_client_workqueue::{Shutdown, WorkQueue};

/// How a turn ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Well.
    Done,
    /// The key is to come back after its backoff.
    Retry,
    /// The key is to come back after this, and had no failure.
    After(Duration),
}

/// A queue and its workers. Dropping it stops them wherever they are.
#[derive(Debug)]
pub(crate) struct Pool<K> {
    queue: WorkQueue<K>,
    workers: JoinSet<()>,
}

impl<K: Clone + Debug + Eq + Hash + Send + Sync + 'static> Pool<K> {
    /// Starts `count` workers that call `process` with each key.
    pub(crate) fn start<F, T>(controller: &'static str, queue: WorkQueue<K>, count: usize, process: F) -> Self
    where
        F: Fn(K) -> T + Clone + Send + 'static,
        T: Future<Output = Outcome> + Send,
    {
        let mut workers = JoinSet::new();
        for _ in 0..count {
            let (queue, process) = (queue.clone(), process.clone());
            workers.spawn(async move {
                while let Some(work) = queue.get().await {
                    let turn = AssertUnwindSafe(process(work.key().clone())).catch_unwind();
                    match turn.await {
                        Ok(Outcome::Done) => work.done(),
                        Ok(Outcome::Retry) => work.retry(),
                        Ok(Outcome::After(delay)) => {
                            let _refused_when_stopping = queue.add_after(work.key().clone(), delay);
                            work.done();
                        }
                        Err(_) => {
                            tracing::error!(controller, key = ?work.key(), "a turn panicked and will be tried again");
                            work.retry();
                        }
                    }
                }
            });
        }
        Self { queue, workers }
    }

    /// Takes no more keys, finishes what is ready before the deadline, and stops. What was waiting is found again by the
    /// next start.
    pub(crate) async fn shut_down(mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        self.queue.shut_down(Shutdown::DrainWithin(left)).await;
        // The queue is closed, so workers end with their turn; one that hangs is stopped with the set.
        let ended = async { while self.workers.join_next().await.is_some() {} };
        let _in_time = tokio::time::timeout_at(deadline, ended).await;
    }
}
