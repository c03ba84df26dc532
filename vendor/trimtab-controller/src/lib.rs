//! A framework for Kubernetes controllers.
//!
//! One implements [`Reconcile`] for a type and hands it to a [`Manager`]. The manager watches what the controller
//! reconciles and owns, and gives each key a [`Turn`]: the latest state from caches that have seen the key's own last
//! writes, server-side apply that makes no request where nothing would change, finalizers, and a status that is written
//! once, also when a step failed.
//!
//! ```ignore
//! impl Reconcile<Website> for Websites {
//!     async fn reconcile(&self, turn: &mut Turn<Website>) -> Result<Next> {
//!         let Some(site) = turn.latest() else { return Ok(Next::Done) };
//!         turn.apply(page(&site)).await?;
//!         Ok(Next::Done)
//!     }
//! }
//!
//! let manager = Manager::new(client).name("website-controller");
//! manager.controller(Websites).owns::<ConfigMap>().start()?;
//! manager.run(stop).await?;
//! ```

#[doc(inline)]
pub use trimtab_controller_runtime::{
    Cluster, Controller, ControllerBuilder, Endpoints, Lead, Manager, Part,
};
#[doc(inline)]
pub use trimtab_controller_runtime::{
    Error, Keyed, Next, Reconcile, Reconciled, RequestKey, Result, Subject, Turn, Written,
};

/// What triggers turns: watches, streams, timers.
#[doc(inline)]
pub use trimtab_controller_runtime::source;

/// Which changes trigger anything.
#[doc(inline)]
pub use trimtab_controller_runtime::predicate;

/// What controllers need to be allowed.
#[doc(inline)]
pub use trimtab_controller_runtime::rbac;

/// What controllers do and have done: timelines of keys, snapshots, and a page that shows them live.
#[doc(inline)]
pub use trimtab_controller_runtime::introspection;

/// What processes that run controllers share: connecting, logging, stopping.
#[doc(inline)]
pub use trimtab_controller_runtime::process;

/// One listener for a program's own endpoints: health, metrics, pages, webhooks.
#[doc(inline)]
pub use trimtab_controller_runtime::serving;

/// What a status and its conditions are.
pub mod status {
    #[doc(inline)]
    pub use trimtab_controller_runtime::{ConditionStatus, Conditions};
}

/// Admission and conversion webhooks, the server that answers them, and the certificates that it needs.
///
/// ```ignore
/// let webhooks = Webhooks::new("websites")
///     .hook(Hook::defaulting::<Website>(Websites))
///     .hook(Hook::validating::<Website>(Websites))
///     .conversion(Conversion::<v1::Website>::hub().spoke::<v1beta1::Website>());
/// let certificates = Provisioner::in_secret(client.clone(), secret, &target).injecting(client, &webhooks);
/// manager.part(WebhookServer::bind(WebhookServer::ADDRESS, &webhooks, certificates).await?)?;
/// ```
pub mod webhook {
    #[doc(inline)]
    pub use trimtab_controller_webhook::{
        Admitted, Defaulter, DeletionValidator, Handler, Operation, Refusal, Request, Reviewed, Validator,
    };
    #[doc(inline)]
    pub use trimtab_controller_webhook::{Authenticator, Bearer};
    #[doc(inline)]
    pub use trimtab_controller_webhook::{Clock, Identity, Lifetimes, ProvisionError, Provisioner};
    #[doc(inline)]
    pub use trimtab_controller_webhook::{
        Conversion, ConversionError, Lost, Spoke, hub_round_trip, keep_in_annotation,
        restore_from_annotation, spoke_round_trip,
    };
    #[doc(inline)]
    pub use trimtab_controller_webhook::{
        Conversions, FailurePolicy, Hook, Manifests, Target, WebhookError, WebhookServer, Webhooks, rule,
    };
}
