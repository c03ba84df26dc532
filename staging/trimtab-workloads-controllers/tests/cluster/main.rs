//! The controllers against a control plane in the process, on paused time: pods become ready by a kubelet of a few lines.

/// The cluster, its kubelet, and what is asked of it.
mod kit;

/// Rollouts as people see them.
mod deployments;

/// Sets of pods: counts, adoption, release, failures.
mod replica_sets;
