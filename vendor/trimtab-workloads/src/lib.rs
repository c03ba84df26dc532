//! The built-in controllers: workloads from Deployments to CronJobs, endpoints of Services, garbage collection, namespaces, nodes,
//! disruption budgets and quotas.
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
pub use trimtab_workloads_controllers::{Clock, ControllerSet, Options, SetError, known, run};

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
    pub use trimtab_workloads_node::{
        Capacity, NodesError, Options, SimulatedNodes, StageError, Stages, simulate,
    };
}

/// The cluster's DNS: the names of Services and of the pods behind them.
///
/// ```no_run
/// # async fn start(client: kube::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use trimtab_workloads::dns::ClusterDns;
///
/// let dns = ClusterDns::start(client, "cluster.local", "127.0.0.1:5353".parse()?).await?;
/// println!("dig @{} -p {}", dns.address().ip(), dns.address().port());
/// # Ok(())
/// # }
/// ```
pub mod dns {
    #[doc(inline)]
    pub use trimtab_workloads_node::{ClusterDns, DnsError, TTL};
}
