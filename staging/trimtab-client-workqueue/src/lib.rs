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
//! - **Fair**: the highest priority goes first, and within a priority it is first in, first out. A ready key that has
//!   waited longer than the [ageing](Builder::ageing) is overdue; while keys of lower priorities are overdue, one turn in
//!   [`AGED_TURN`](WorkQueue::AGED_TURN) goes to the one of them that waits longest. So an overdue key gets its turn after
//!   at most `AGED_TURN` × (*n* + 1) more turns, where *n* keys were ready when it came, however many urgent keys
//!   arrive; and the overdue never take more than that share from the urgent. With [flows](Builder::fair_by), no flow has
//!   two turns in a priority while another one waits for its first, and within a flow it is first in, first out.
//! - **Delay honoured**: a key is never handed out before its time.
//!
//! A key that is raised while it is ready goes to the end of its new priority, as in controller-runtime's queue. It is
//! lowered only by an add that [says so](Add::lower), and not any more when it is overdue.
//!
//! # Backoff
//!
//! Backoff counts failures only. A trigger that arrives while a key waits for its backoff, or while the turn runs that
//! fails, is merged into the turn after the backoff: it makes it neither longer nor shorter, unless it
//! [asks for its end](Add::end_backoff), as a user's fix may. The count is forgotten when a turn ends well.
//!
//! # What it costs
//!
//! The queue has no task of its own and does not poll. One of the waiting consumers holds a timer, and only while some
//! key is delayed. A key is kept once, with 32 bytes beside it and 6 to 11 more in the index; a delayed key has 16 to 32
//! bytes more. Nothing is kept of a key that is done, and memory is given back as keys go. Adding a key that is ready
//! already takes some ten nanoseconds and does not ask for the time. Choosing the next key takes time in proportion to
//! the number of priorities in use, so let these be few.
//!
//! Time is tokio's, so paused time drives it in tests.
//!
//! # Beside other queues
//!
//! | | this queue | client-go | controller-runtime | kube-rs |
//! |---|---|---|---|---|
//! | order of ready keys | priority, then first in first out | first in, first out | priority, then first in first out | none |
//! | low priorities under a stream of urgent keys | their share of turns | no priorities | may starve | no priorities |
//! | flows | take turns | no | no | no |
//! | a key's turn is finished | by the guard, also in a panic | if `Done` is called | if `Done` is called | by the stream |
//! | backoff counts | failures | every rate-limited add | every rate-limited add | the caller's matter |
//! | delayed keys at shutdown | reported | lost | lost | lost |
//! | adds after shutdown | refused with an error | dropped in silence | dropped in silence | an error |
//! | rate limiter that cannot work | refused when it is built | accepted | accepted | accepted |
//!
//! `hack/bench-workqueue` measures all four in one run.

mod add;
mod delays;
mod entry;
mod index;
mod keyed;
mod limiter;
mod metrics;
mod queue;
mod ready;
mod slab;
mod state;
mod work;

pub use add::{Add, Reason, Reasons};
pub use entry::Phase;
pub use keyed::KeyedBackoff;
pub use limiter::{
    Backoff, Bucket, Exponential, FastSlow, InvalidLimiter, Jittered, MaxOf, MaxWait, NoBackoff,
};
pub use metrics::{Histogram, Metrics};
pub use queue::{Builder, InvalidQueue, Refused, Shutdown, WorkQueue};
pub use state::{KeySnapshot, Leftover};
pub use work::Work;

#[cfg(test)]
mod tests;
