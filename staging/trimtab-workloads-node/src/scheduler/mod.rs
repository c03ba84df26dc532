//! The scheduler: which node a pod gets, as kube-scheduler's default profile decides it.
//!
//! [`schedule::schedule`] and [`preempt::preempt`] decide, from a [`snapshot::Snapshot`] that is changed with each change;
//! `runner` feeds them and carries out what they decide.
//!
//! Decided as there: requests of containers, init containers, sidecars and overhead; node names, selectors and affinity; taints;
//! host ports; affinity to other pods and against it; topology spread, also that of Services' and owners' pods where nothing else is
//! said; claims that are bound, or wait for the first to use them; scheduling gates; priorities, with preemption that spares what
//! budgets protect where it can. Of more than a hundred nodes not all are looked at.
//!
//! Not there: images that nodes have already, limits of volumes per node, dynamic resources, pod groups.

mod filter;
mod handlers;
mod preempt;
mod refusal;
mod runner;
mod schedule;
mod score;
mod snapshot;
mod state;
mod terms;
mod volumes;
mod wants;

pub(crate) use runner::{Running, start};
