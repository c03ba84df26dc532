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
