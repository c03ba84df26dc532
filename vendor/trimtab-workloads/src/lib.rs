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
