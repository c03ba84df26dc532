//! The controllers against a control plane in the process, on paused time: pods become ready by a kubelet of a few lines.

/// The cluster, its kubelet, and what is asked of it.
mod kit;

/// Rollouts as people see them.
mod deployments;

/// Nodes and their daemons.
mod daemon_sets;

/// Work that ends, and work that comes again.
mod jobs;

/// Where the pods of Services are.
mod services;

/// What sees to sizes, budgets, quotas and volumes.
mod others;

/// Pods that are somebody.
mod stateful_sets;

/// Sets of pods: counts, adoption, release, failures.
mod replica_sets;
