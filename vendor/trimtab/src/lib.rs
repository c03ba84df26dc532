//! The machinery of Kubernetes' level-triggered control loops.
//!
//! A controller is one function from the latest state to what is wished for; everything else is here: caches that have
//! seen one's own writes, a queue in which nothing starves, server-side apply without needless requests, finalizers,
//! conditions, events, retries.
//!
//! ```no_run
//! use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
//! use kube::ResourceExt;
//! use trimtab::prelude::*;
//!
//! /// Puts a welcome into every namespace.
//! struct Welcome;
//!
//! impl Reconcile<Namespace> for Welcome {
//!     async fn reconcile(&self, turn: &mut Turn<Namespace>) -> Result<Next> {
//!         let Some(namespace) = turn.latest() else { return Ok(Next::Done) };
//!         if turn.is_deleting() {
//!             return Ok(Next::Done);
//!         }
//!         let mut welcome = ConfigMap::default();
//!         welcome.metadata.name = Some("welcome".to_owned());
//!         welcome.metadata.namespace = Some(namespace.name_any());
//!         turn.apply(welcome).await?; // repaired when somebody changes or deletes it
//!         Ok(Next::Done)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! let client = trimtab::controller::process::connect(None).await?;
//! let manager = Manager::new(client).name("welcome-controller");
//! manager.controller(Welcome).owns::<ConfigMap>().start()?;
//! manager.run(trimtab::controller::process::stop_on_signals()?).await?;
//! # Ok(()) }
//! ```
//!
//! # Features
//!
//! Each facade is a feature and a module: `apimachinery`, `client` and `controller` are on by default; `apiserver`,
//! `workloads` and `testing` bring the server half; `perturb` is for tests alone.

/// Keys, selectors, quantities, conditions, errors, schemas, patches.
#[cfg(feature = "apimachinery")]
pub mod apimachinery {
    #[doc(inline)]
    pub use trimtab_apimachinery::{
        ApiError, FieldError, FieldErrorKind, FieldPath, FieldSelector, GroupKind, GroupResource,
        GroupVersion, GroupVersionKind, GroupVersionResource, LabelSelector, ObjectKey, Quantity,
        StatusReason,
    };
    #[doc(inline)]
    pub use trimtab_apimachinery::{
        apply, conditions, errors, field, finalizers, names, owner, patch, phase, quantity, resource_version,
        schema, selector, structural,
    };

    #[doc(inline)]
    pub use trimtab_apimachinery::__trimtab::Phase;
    #[doc(no_inline)]
    pub use trimtab_apimachinery::phase::Phase;
}

/// Informers, stores, work queue, leader election, sharding, events.
#[cfg(feature = "client")]
pub mod client {
    #[doc(inline)]
    pub use trimtab_client::{cache, events, leader, retry, sharding, workqueue, write};
}

/// Managers, controllers, reconcilers.
#[cfg(feature = "controller")]
pub mod controller {
    #[doc(inline)]
    pub use trimtab_controller::{
        Cluster, Controller, ControllerBuilder, Endpoints, Error, Keyed, Lead, Manager, Next, Part,
        Reconcile, Reconciled, RequestKey, Result, Subject, Turn, introspection, predicate, process, rbac,
        serving, source, status, webhook,
    };
}

/// An embeddable API server.
#[cfg(feature = "apiserver")]
pub mod apiserver {
    #[doc(inline)]
    pub use trimtab_apiserver::{
        ApiServer, ApiService, StartError, auth, backup, cli, kinds, options, storage,
    };
}

/// The controllers that belong beside an API server.
#[cfg(feature = "workloads")]
pub mod workloads {
    #[doc(inline)]
    pub use trimtab_workloads::{ControllerSet, Options, SetError, known, run};
}

/// A control plane inside the test process.
#[cfg(feature = "testing")]
pub mod testing {
    #[doc(inline)]
    pub use trimtab_testing::{
        Builder, Change, EnvError, GaveUp, History, RequestEntry, State, TestEnv, World, differences, lacks,
        name_of, normalised,
    };

    #[cfg(feature = "perturb")]
    #[doc(inline)]
    pub use trimtab_testing::perturb;
}

/// What a controller's source begins with: `use trimtab::prelude::*;`
///
/// `Phase` is a trait and its derive:
///
/// ```
/// use trimtab::prelude::*;
///
/// #[derive(Phase)]
/// enum Door {
///     #[phase(initial, to(Open))]
///     Closed,
///     #[phase(to(Closed))]
///     Open,
/// }
/// assert!(Door::legal(None, &Door::Open).is_err());
/// ```
#[cfg(feature = "controller")]
pub mod prelude {
    #[doc(no_inline)]
    pub use trimtab_apimachinery::__trimtab::Phase;
    #[doc(no_inline)]
    pub use trimtab_apimachinery::ObjectKey;
    #[doc(no_inline)]
    pub use trimtab_apimachinery::phase::Phase;
    #[doc(no_inline)]
    pub use trimtab_client::events::Note;
    #[doc(no_inline)]
    pub use trimtab_controller::predicate::Predicate;
    #[doc(no_inline)]
    pub use trimtab_controller::source::{Source, Watch};
    #[doc(no_inline)]
    pub use trimtab_controller::status::{ConditionStatus, Conditions};
    #[doc(no_inline)]
    pub use trimtab_controller::{Error, Keyed, Manager, Next, Reconcile, Result, Turn};
}
