//! Leader election: of all replicas one does the work.
//!
//! Candidates share a Lease (`coordination.k8s.io/v1`), as those of client-go and controller-runtime do, and can be mixed
//! with them. An [`Elector`] campaigns for it, has the work done while it holds it, and campaigns again when it has lost it:
//! the process need not end.
//!
//! ```no_run
//! # async fn work(_: &tokio_util::sync::CancellationToken) {}
//! # async fn example(client: kube::Client, stop: tokio_util::sync::CancellationToken) -> Result<(), Box<dyn std::error::Error>> {
//! use trimtab_client_coordination::leader::{ElectionConfig, Elector};
//!
//! let mut elector = Elector::new(client, ElectionConfig::new("website-controller"))?;
//! let status = elector.status(); // for metrics and health
//! elector
//!     .run(stop, |leadership| async move { work(leadership.stop()).await })
//!     .await;
//! # Ok(()) }
//! ```
//!
//! # What always holds
//!
//! - **Single**: no two candidates' work overlaps, whatever is delayed, lost or paused, and whatever the clocks of others
//!   show. Time is only measured, by each process for itself, and rates of clocks may differ by one in a hundred.
//! - **Live**: if the holder dies, somebody leads within the lease duration, 2.2 retry periods and the time of five requests;
//!   after a release, within 2.2 retry periods and three requests.
//! - **Released after work**: a Lease is released when the work has ended, not before.
//! - **Fenced**: each leadership's [fencing token](Leadership::fencing_token) is greater than all before it.
//!
//! Work is what the future does that was given to [`Elector::run`]. It is told to end when the Lease was not renewed for the
//! renew deadline, and dropped where it is when others could take the Lease. Three things are out of reach: tasks that the
//! work has spawned and that outlive it, threads that it blocks, and requests that it has sent. Against the last, and against
//! a computer whose clock stands still while it is suspended, a fencing token helps: let what is written to refuse a token
//! lower than one that it has seen.
//!
//! Do not delete the Lease while candidates run. Those who know it keep to what they have seen last; one that has just
//! started cannot know that there was a holder, and fencing tokens begin anew with it.
//!
//! # Beside client-go
//!
//! | | here | client-go |
//! |---|---|---|
//! | a leader that cannot renew | has its work end, and campaigns again | calls back; the process is to exit |
//! | work that does not end in time | is dropped | goes on |
//! | release at the stop | always, when the work has ended | if asked to, without waiting for the work |
//! | two candidates by one name | one leads | both lead |
//! | when somebody else's lease runs out | is tried at once | at the next retry |

mod config;
mod elector;
mod leadership;
mod status;

pub use crate::lease::{InvalidTiming, Timing};
pub use config::{ElectionConfig, InvalidElection};
pub use elector::Elector;
pub use leadership::Leadership;
pub use status::{Status, StatusHandle, Unhealthy};

#[cfg(test)]
mod tests;
