//! Simulated nodes by the thousand, so that what is made in a cluster without machines comes to life.
//!
//! Depend on the facade `trimtab-workloads` instead of this crate; its paths are the stable ones.
//!
//! - `kubelet` registers nodes, keeps them alive with leases, and takes pods through their lives: what they do is said by
//!   annotations; or by `stage`s of a file, as people know them from KWOK.
//! - `dns` serves the names of Services and of the pods behind them.
//! - `scheduler` gives pods to nodes as kube-scheduler's default profile does, and says why where it cannot.
//!
//! What holds, by name:
//!
//! - *Level-triggered*: what a pod becomes follows from the pod and the time; a restart of the simulation loses fractions of
//!   seconds, nothing else.
//! - *Unique*: no two pods that live have the same address, and none gets the one that was freed last.
//! - *Driven*: all time is tokio's, so paused time drives probes, backoffs, leases and timestamps.
//! - *Same answers*: a pod gets a node that kube-scheduler's default profile could have given it, or its words why not.
//! - *Bounded*: a node costs its name, its addresses in use and its place in the watch's cache; a pod that has settled
//!   costs its place in the cache.

mod dns;
mod kubelet;
mod notes;
mod options;
mod pool;
mod requests;
mod scheduler;
mod set;
mod stage;

use trimtab_client_coordination::clock;

pub use clock::Clock;
pub use dns::{ClusterDns, DnsError, TTL};
pub use options::{Capacity, Options};
pub use set::{NodesError, SimulatedNodes, simulate};
pub use stage::{StageError, Stages};

#[cfg(test)]
mod tests;
