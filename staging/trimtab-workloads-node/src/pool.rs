//! Workers that take keys from a queue until it ends. A panic costs one turn, not the worker.

use std::fmt::Debug;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinSet;
use trimtab_client_workqueue::WorkQueue;

/// How a turn ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Well.
    Done,
    /// Well, and the key is to come back after this long.
    After(Duration),
    /// The key is to come back after its backoff.
    Retry,
}

/// Starts `count` workers that call `process` with each key until the queue is shut down.
pub(crate) fn workers<K, F, T>(
    tasks: &mut JoinSet<()>,
    what: &'static str,
    queue: &WorkQueue<K>,
    count: usize,
    process: F,
) where
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    F: Fn(K) -> T + Clone + Send + 'static,
    T: Future<Output = Outcome> + Send,
{
    for _ in 0..count {
        let (queue, process) = (queue.clone(), process.clone());
        tasks.spawn(async move {
            while let Some(work) = queue.get().await {
                let turn = AssertUnwindSafe(process(work.key().clone())).catch_unwind();
                match turn.await {
                    Ok(Outcome::Done) => work.done(),
                    Ok(Outcome::After(delay)) => work.requeue_after(delay),
                    Ok(Outcome::Retry) => work.retry(),
                    Err(_) => {
                        tracing::error!(what, key = ?work.key(), "a turn panicked and will be tried again");
                        work.retry();
                    }
                }
            }
        });
    }
}
