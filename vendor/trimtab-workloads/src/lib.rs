//! The built-in controllers: garbage collection, namespace deletion, default service accounts, protection of volumes.
//!
//! They run beside any API server, as kube-controller-manager's do:
//!
//! ```no_run
//! # async fn start(client: kube::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use trimtab_workloads::{ControllerSet, Options};
//!
//! let mut controllers = ControllerSet::start(client, Options::default())?;
//! controllers.synced().await;
//! controllers.shut_down().await?;
//! # Ok(())
//! # }
//! ```

#[doc(inline)]
pub use trimtab_workloads_controllers::{ControllerSet, Options, SetError, known, run};

/// Simulated nodes: a cluster without machines, whose pods run nevertheless.
///
/// ```no_run
/// # async fn start(client: kube::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use trimtab_workloads::nodes::{Options, SimulatedNodes};
///
/// let mut options = Options::default();
/// options.nodes = 3;
/// let mut nodes = SimulatedNodes::start(client, options)?;
/// nodes.ready().await;
/// nodes.shut_down().await;
/// # Ok(())
/// # }
/// ```
pub mod nodes {
    #[doc(inline)]
    pub use trimtab_workloads_node::{Capacity, NodesError, Options, SimulatedNodes, simulate};
}
