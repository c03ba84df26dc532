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
//! key is delayed. A key is kept once, with 32 bytes beside it and 10 to 15 more in the index; a delayed key has 16 to
//! 32 bytes more. Nothing is kept of a key that is done, and memory is given back as keys go. Adding a key that is ready
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
//! `hack/bench-workqueue` measures all four in one run, each in a process of its own: ours, then the others' figures as
//! multiples of it, medians of five runs on two shared cores with client-go 0.37, controller-runtime 0.25 and kube-runtime 5.
//! The Go queues are shown with their metrics, which this queue always keeps, and without.
//!
//! | workload | this queue | client-go | controller-runtime | kube-rs |
//! |---|---|---|---|---|
//! | 1,000,000 distinct keys from one thread to another, keys/s | 2.3 M | 0.4 (bare: 1.3) | 0.1 (0.3) | 0.6 |
//! | the same with strings of 26 bytes | 2.1 M | 0.3 (0.8) | 0.1 (0.2) | 0.4 |
//! | 5,000,000 adds of 1,000 keys by 4 threads, 2 workers, adds/s | 40 M | 0.6 (0.4) | 0.1 (0.1) | 0.2 |
//! | 200,000 delays up to 1 s, lateness p50 / p99 | 0.6 / 1.5 ms | 1.1 / 12 | 155 / 162 | 3.5 / 25 |
//! | the same, processor time | 0.23 s | 2.5 | 4.0 | 1.2 |
//! | backoff outside a queue, failures/s; forgets/s | 10 M; 13 M | 0.5; 0.7 | | |
//! | its bytes for each key, the key included | 28 | 1.3 | | |
//! | bytes for each ready key beside the key | 44 | 0.9 (bare) | 1.8 (bare) | 2.7 |
//! | bytes for each delayed key beside the key | 61 | 1.4 (bare) | 1.7 (bare) | 2.0 |
//! | a user's change while 20,000 listed keys wait for 10 workers | 1.1 ms | 1,900 | 0.01 | 1,700 |
//!
//! A million distinct keys at once is where a bare client-go queue is the faster one: see `designs/0005-work-queue.md`.

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
