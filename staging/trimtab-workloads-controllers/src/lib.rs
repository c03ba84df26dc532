//! The controllers that belong beside an API server, as kube-controller-manager's do: without them owners would not
//! take their dependents along, no namespace would ever go, and nobody would make the pods of a Deployment.
//!
//! Depend on the facade `trimtab-workloads` instead of this crate; its paths are the stable ones.
//!
//! - `garbage-collector-controller` deletes what has lost all of its owners, in the background or in the foreground, or
//!   releases it where the owner's deletion asks for that.
//! - `namespace-controller` empties namespaces that are being deleted, tells in their status how far that came, and lets
//!   them go.
//! - `serviceaccount-controller` and `root-ca-certificate-publisher-controller` give every namespace its default service
//!   account and the certificates of the server.
//! - `persistentvolumeclaim-protection-controller` and `persistentvolume-protection-controller` keep what is deleted and still
//!   used until it no longer is.
//! - those of ReplicaSets, ReplicationControllers, Deployments, StatefulSets, DaemonSets, Jobs and CronJobs make and end pods, as
//!   decisions without I/O that turns of the framework carry out; `workload` has what they share.
//! - `endpointslice-controller` and `endpoints-controller` say where the pods of Services are, and for which zones, and
//!   `endpointslice-mirroring-controller` says in slices what people write into Endpoints themselves.
//! - `ephemeral-volume-controller` makes the claims that pods declare in place.
//! - `node-lifecycle-controller`, `taint-eviction-controller`, `pod-garbage-collector-controller` and `disruption-controller` see
//!   to what happens to nodes, to pods when it does, and how much of it may happen at once.
//! - `resourcequota-controller` counts what is used, and `clusterrole-aggregation-controller` adds up roles.
//!
//! What holds, by name:
//!
//! - *Asked*: nothing is collected before the server itself has said that its owners do not exist, or wait for it to go;
//!   that a server cannot be asked, or does not know a kind, says nothing.
//! - *Conditional*: a deletion or a change is of the very object that it was decided for, and of the owners that were
//!   looked at.
//! - *Lossless*: what fails is tried again, until it succeeds or there is no need.
//! - *Bounded*: memory is in proportion to the objects and their references, of which metadata alone is kept.
//!
//! What does not: a dependent that no watch has told of when its owner is released is not released with it, but
//! collected later, as by kube-controller-manager.

mod autoscaler;
mod context;
mod cron_job;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoints;
mod ephemeral;
mod garbage_collector;
mod job;
mod live;
mod namespace;
mod node_lifecycle;
mod options;
mod pod_collector;
mod pool;
mod protection;
mod quota;
mod replica_set;
mod resources;
mod role_aggregation;
mod set;
mod standing;
mod stateful_set;
mod volumes;
mod workload;

pub use options::Options;
pub use set::{ControllerSet, SetError, known, run};
pub use volumes::install_storage_class;
pub use workload::clock::{Clock, Driving};

#[cfg(test)]
mod tests;
