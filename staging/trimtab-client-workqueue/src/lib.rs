//! A deduplicating, fair, rate-limited work queue for control loops.
//!
//! Depend on the facade `trimtab-client` instead of this crate; its paths are the stable ones.
//!
//! The queue hands *keys* to workers, not objects: whoever takes a key looks up the latest state, so a burst of
//! triggers collapses into one turn. It knows nothing of Kubernetes; any `Clone + Eq + Hash` key goes.
//!
//! ```
//! # use std::time::Duration;
//! # use trimtab_client_workqueue::{Add, Exponential, WorkQueue};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let queue = WorkQueue::builder().backoff(Exponential::default()).build()?;
//! queue.add_with("a", Add::now().priority(10).because("the user asked"))?;
//! let work = queue.get().await.expect("the queue is open");
//! match work.key().len() {
//!     1 => work.done(),
//!     _ => work.retry(), // a guard that is dropped without a word is retried too
//! }
//! # Ok(()) }
//! ```
//!
//! # What always holds
//!
//! - **Deduplicated**: a key waits at most once. Adding a key that waits merges the two: the higher priority, the
//!   earlier time, the reasons of both.
//! - **Exclusive**: no key is in two workers' hands at once.
//! - **Re-added**: an add while the key is in a worker's hands leads to exactly one more turn.
//! - **Lossless**: a key that was accepted is handed out, or reported by [`WorkQueue::shut_down`]. A guard that is
//!   dropped, by a panic or a cancelled task, gives its key back, with backoff.
//! - **Fair**: each point of priority is worth a fixed time of waiting ([`Builder::ageing`]), and keys are handed out in
//!   the order of the time at which they became ready less what their priority is worth. So a priority is first in,
//!   first out, and a key of priority *p* is passed only by keys of priority *q* that came less than
//!   (*q* − *p*) × ageing after it: no stream of urgent keys can starve it.
//! - **Delay honoured**: a key is never handed out before its time.
//!
//! Backoff counts failures only: other triggers never change the count. A trigger may hand a key out before its backoff
//! is over, as a user's fix should; [`Add::keep_backoff`] asks for that not to happen.
//!
//! # What it costs
//!
//! The queue has no task of its own and does not poll. Waiting consumers hold one timer each, only while some key is
//! delayed. Memory is bounded by the keys that wait or are in hand: nothing is kept of a key that is done.
//!
//! Time is tokio's, so paused time drives it in tests.

mod add;
mod limiter;
mod metrics;
mod queue;
mod state;
mod work;

pub use add::{Add, Reason, Reasons};
pub use limiter::{
    Backoff, Bucket, Exponential, FastSlow, InvalidLimiter, Jittered, MaxOf, MaxWait, NoBackoff,
};
pub use metrics::{Histogram, Metrics};
pub use queue::{Builder, InvalidQueue, Refused, Shutdown, WorkQueue};
pub use state::{KeySnapshot, Leftover, Phase};
pub use work::Work;

#[cfg(test)]
mod tests;
