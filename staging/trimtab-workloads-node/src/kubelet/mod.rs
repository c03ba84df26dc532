//! Kubelets by the thousand: nodes that are registered and kept alive, and pods that go through their lives on them.
//!
//! Annotations of a pod say how it lives; `NAME.trimtab.dev/FIELD` is about one of its containers.
//!
//! | annotation | meaning | unless given |
//! |---|---|---|
//! | `trimtab.dev/start-after` | from its coming to the node to the start of its first container | nothing |
//! | `trimtab.dev/ready-after` | from a container's start to its being ready; never before the probes' initial delays | nothing |
//! | `trimtab.dev/ready` | `false`: its containers are not ready, as long as this says so | `true` |
//! | `trimtab.dev/run-for` | after how long its containers exit | never; init containers at once, a Job's after 1 s |
//! | `trimtab.dev/exit-code` | with what they exit | 0; 1 where `failures` is given |
//! | `trimtab.dev/failures` | how often they exit with that, before they do as without it | always |
//! | `trimtab.dev/exit-message` | what they say at last | nothing |
//! | `trimtab.dev/pull-error` | why their images cannot be had, as long as this says so | they can |
//! | `trimtab.dev/stop-after` | how long they take to stop; beyond the grace period they are killed | nothing |
//!
//! And of a node: `trimtab.dev/silent` lets it play dead, `trimtab.dev/unready` makes it not ready, with its value as the
//! message.

mod behaviour;
mod conditions;
mod container;
pub(crate) mod fleet;
mod heartbeat;
mod lifecycle;
pub(crate) mod node;
pub(crate) mod runner;
mod staging;

pub(crate) use runner::start;

/// Whose fields they are that kubelets write.
const KUBELET: &str = "kubelet";
/// What new nodes are tainted with.
const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The annotation of nodes that play dead.
const SILENT: &str = "trimtab.dev/silent";
/// The annotation of nodes that are not ready, and why.
const UNREADY: &str = "trimtab.dev/unready";
