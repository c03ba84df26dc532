//! How many nodes to simulate, what they are like, and how pods get to them.

use std::time::Duration;

use trimtab_client_cache::reflector;

use crate::clock::Clock;
use crate::stage::Stages;

/// How many nodes to simulate, and what they are like.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// How many nodes there are; `node-0` is the first. Default 1.
    pub nodes: usize,
    /// What each of them has.
    pub capacity: Capacity,
    /// The zones that nodes are in, one after the other, for `topology.kubernetes.io/zone`. Default `zone-a` to `zone-c`; none
    /// for nodes without.
    pub zones: Vec<String>,
    /// The names that pods ask the scheduler by, in `spec.schedulerName`. Default `default-scheduler`; none for no scheduler.
    pub scheduler_names: Vec<String>,
    /// What pods and nodes go through instead of what they usually do. Default nothing.
    pub stages: Stages,
    /// Where all chance comes from: which of equal nodes a pod gets, and jitter. Default 0.
    pub seed: u64,
    /// How often a node says that it lives. Its lease lasts four times as long, and whoever judges has to know: see
    /// `node_monitor_grace` of the controllers. Default 10 s, the kubelet's figure.
    pub heartbeat: Duration,
    /// What time it is when they start; from then on it goes with tokio's. Default the machine's clock.
    pub clock: Clock,
    /// How they list and watch. Default as every client does.
    pub watching: reflector::Config,
    /// How long what has begun may take when everything is stopped. Default 5 s.
    pub drain: Duration,
}

/// What a node has, as quantities. All of it may be given to pods.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capacity {
    /// Processors. Default 32, as KWOK's.
    pub cpu: String,
    /// Memory. Default 256Gi, as KWOK's.
    pub memory: String,
    /// Disk for pods. Default 1Ti.
    pub ephemeral_storage: String,
    /// Pods. Default 110, as the kubelet's.
    pub pods: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 1,
            capacity: Capacity::default(),
            zones: ["zone-a", "zone-b", "zone-c"].map(str::to_owned).to_vec(),
            scheduler_names: vec!["default-scheduler".to_owned()],
            stages: Stages::default(),
            seed: 0,
            heartbeat: Duration::from_secs(10),
            clock: Clock::System,
            watching: reflector::Config::default(),
            drain: Duration::from_secs(5),
        }
    }
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            cpu: "32".to_owned(),
            memory: "256Gi".to_owned(),
            ephemeral_storage: "1Ti".to_owned(),
            pods: 110,
        }
    }
}
