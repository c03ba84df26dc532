//! A Kubernetes control plane inside the test process.
//!
//! ```no_run
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use kube::api::{Api, DeleteParams};
//! use trimtab_testing::TestEnv;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let env = TestEnv::start().await?;
//! let maps: Api<ConfigMap> = Api::default_namespaced(env.client());
//! // … create a ConfigMap and things that it owns, run a controller with `env.run` …
//! maps.delete("owner", &DeleteParams::default()).await?;
//! env.eventually_gone(&maps, "owned").await?; // garbage collection is real
//! env.shutdown().await?;
//! # Ok(()) }
//! ```

//! On paused time and with a seed (`TestEnv::builder().seed(1)`, `#[tokio::test(start_paused = true)]`) hours pass in a moment, and
//! the same seed gives the same history, change by change.
//!
//! With the feature `nodes`, `TestEnv::builder().workload_controllers().nodes(3)` is a cluster in which Deployments become ready, Jobs
//! complete and CronJobs run when it is their time.
//!
//! For tests in other languages, `trimtab testenv -- pytest` runs a command with `KUBECONFIG` set to a control plane of its own, passes
//! signals on to it, and exits with its status; `-f` applies manifests first, `--workload-controllers` and `--nodes 3` make a
//! cluster of it, `--as alice=view` gives it less than everything.
//!
//! With the feature `perturb` there is `perturb`, which runs a controller through the faults that break controllers.

#[doc(inline)]
pub use trimtab_testing_env::{
    Builder, Change, EnvError, GaveUp, History, RequestEntry, State, TestEnv, World, differences, lacks,
    name_of, normalised,
};

/// Controllers through the faults that break controllers: start at [`Perturb`](perturb::Perturb).
#[cfg(feature = "perturb")]
pub mod perturb {
    #[doc(inline)]
    pub use trimtab_testing_perturb::{Failure, Object, Perturb, Report, Scenario};
}
