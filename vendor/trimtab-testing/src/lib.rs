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

//! With the feature `perturb` there is [`perturb`], which runs a controller through the faults that break controllers.

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
