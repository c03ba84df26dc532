//! The flags of `trimtab up` about simulated nodes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use trimtab_workloads::nodes::{Options, Stages};

/// Which nodes to simulate.
#[derive(Debug, Args)]
pub(crate) struct NodeOptions {
    /// How many nodes to simulate: pods are given to them and run there, as their annotations say; 0 for none. One is what it
    /// takes for everything that is made to come to life
    #[arg(long, default_value_t = 1, help_heading = "Simulated nodes")]
    nodes: usize,

    /// Have pods and nodes go through the stages of this file instead of what they do by themselves; as KWOK has them (kind: Stage)
    #[arg(long, value_name = "FILE", help_heading = "Simulated nodes")]
    node_stages: Option<PathBuf>,

    /// Serve the cluster's names below cluster.local there, by UDP and TCP, such as 127.0.0.1:5353; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", help_heading = "Simulated nodes")]
    pub(crate) dns: Option<SocketAddr>,
}

impl NodeOptions {
    /// What to simulate, if anything.
    ///
    /// # Errors
    /// Which flag is wrong, and why.
    pub(crate) fn simulation(&self) -> Result<Option<Options>, String> {
        if self.nodes == 0 {
            return Ok(None);
        }
        let mut options = Options::default();
        options.nodes = self.nodes;
        if let Some(file) = &self.node_stages {
            let told = |why: String| format!("--node-stages {}: {why}", file.display());
            let text = std::fs::read_to_string(file).map_err(|why| told(why.to_string()))?;
            options.stages = Stages::parse(&text).map_err(|why| told(why.to_string()))?;
        }
        Ok(Some(options))
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        match self.nodes {
            1 => "node-0, simulated, and a scheduler".to_owned(),
            nodes => format!("node-0 to node-{}, simulated, and a scheduler", nodes - 1),
        }
    }
}
