//! Where requests meet authentication and authorization: the two questions, and what answers them in a server.

mod access_reviews;
mod authenticate;
mod body;
mod bootstrap;
mod escalation;
mod front_proxy;
mod identity_reviews;
mod policy;
mod token_request;

use std::sync::Arc;

use access_reviews::{About, AccessReview, RulesReview};
use async_trait::async_trait;
use authenticate::Known;
use identity_reviews::{SelfReview, TokenReview};
use token_request::TokenRequest;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_auth::service_account::Issuer;
use trimtab_apiserver_auth::tokens::StaticTokens;
use trimtab_apiserver_auth::{Attributes, Decision, UserInfo};

pub use escalation::Escalation;
pub use front_proxy::{FrontProxy, Trusted};
pub use policy::Rbac;

use crate::admission::{Reader, StoreReader};
use crate::registry::Registry;

/// What a request says about who sends it.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The user that a verified client certificate names.
    pub certificate: Option<UserInfo>,
    /// The bearer token.
    pub token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// The credentials are there, and wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credentials are not valid")]
pub struct NotAuthenticated;

/// Says who sends a request.
#[async_trait]
pub trait Authenticator: std::fmt::Debug + Send + Sync + 'static {
    /// The user; `None` when the credentials are of no kind that this authenticator knows.
    ///
    /// # Errors
    ///
    /// [`NotAuthenticated`] when they are, and wrong.
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<UserInfo>, NotAuthenticated>;
}

/// Says whether a user may do something.
pub trait Authorizer: std::fmt::Debug + Send + Sync + 'static {
    /// Yes, or not that we know.
    fn authorize(&self, user: &UserInfo, request: &Attributes) -> Decision;
}

/// Says whether a user may do something, by asking somebody else.
#[async_trait]
pub trait Decider: std::fmt::Debug + Send + Sync + 'static {
    /// Yes, or not that they know.
    ///
    /// # Errors
    ///
    /// When they do not answer: the request is refused with that.
    async fn decide(&self, user: &UserInfo, request: &Attributes) -> Result<Decision, ApiError>;
}

/// How it is decided what a user may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By roles and bindings.
    #[default]
    Rbac,
    /// Everyone may do everything.
    AlwaysAllow,
}

/// What the server's authentication and authorization are made from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) tokens: StaticTokens,
    pub(crate) issuer: Issuer,
    pub(crate) mode: Mode,
    /// Whether bootstrap tokens are believed.
    pub(crate) bootstrap_tokens: bool,
}

/// Authentication and authorization at work, with the tasks that keep them up to date.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    /// Issues service account tokens; knows the keys to publish.
    pub(crate) issuer: Arc<Issuer>,
    /// To be put at the end of admission.
    pub(crate) escalation: Escalation,
    /// They end when the server's token is cancelled.
    pub(crate) tasks: Vec<JoinHandle<()>>,
}

/// Starts both for a registry, whose reviews and token requests are answered from now on. Bootstrap roles are written
/// and policies are complete when this returns.
///
/// # Errors
///
/// A text that says what could not be read or written.
pub(crate) async fn start(
    registry: &Arc<Registry>,
    parts: Parts,
    stop: CancellationToken,
) -> Result<Running, String> {
    let store = registry.store().clone();
    let failed = |error| format!("roles and bindings: {error}");
    bootstrap::ensure(&*store, registry.ambient())
        .await
        .map_err(failed)?;
    let rbac = Rbac::load(store.clone()).await.map_err(failed)?;
    let reader: Arc<dyn Reader> = Arc::new(StoreReader::new(store, registry.resources().clone()));
    let issuer = Arc::new(parts.issuer);
    let known = Arc::new(Known {
        tokens: parts.tokens,
        issuer: issuer.clone(),
        reader: reader.clone(),
        bootstrap_tokens: parts.bootstrap_tokens,
        ambient: registry.ambient().clone(),
    });
    let (authorizer, by_roles): (Arc<dyn Authorizer>, _) = match parts.mode {
        Mode::AlwaysAllow => (Arc::new(AllowAll), None),
        Mode::Rbac => (Arc::new(rbac.clone()), Some(rbac.clone())),
    };
    for (resource, about) in [
        ("selfsubjectaccessreviews", About::Oneself),
        ("subjectaccessreviews", About::Anyone),
        ("localsubjectaccessreviews", About::AnyoneHere),
    ] {
        let review = AccessReview {
            about,
            authorizer: authorizer.clone(),
        };
        registry.add_virtual(access_reviews::GROUP, "v1", resource, "", Arc::new(review));
    }
    let rules = Arc::new(RulesReview { rbac: by_roles });
    registry.add_virtual(access_reviews::GROUP, "v1", "selfsubjectrulesreviews", "", rules);
    let identity =
        |resource, review| registry.add_virtual(identity_reviews::GROUP, "v1", resource, "", review);
    identity("selfsubjectreviews", Arc::new(SelfReview));
    identity("tokenreviews", Arc::new(TokenReview { known: known.clone() }));
    let tokens = Arc::new(TokenRequest {
        issuer: issuer.clone(),
        reader,
    });
    registry.add_virtual("", "v1", "serviceaccounts", "token", tokens);
    let follower = rbac.clone();
    let follow = tokio::spawn(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = follower.follow() => {}
        }
    });
    Ok(Running {
        authenticator: known,
        escalation: Escalation {
            rbac,
            authorizer: authorizer.clone(),
        },
        authorizer,
        issuer,
        tasks: vec![follow],
    })
}

/// Allows everything.
#[derive(Debug)]
struct AllowAll;

impl Authorizer for AllowAll {
    fn authorize(&self, _: &UserInfo, _: &Attributes) -> Decision {
        Decision::allow("")
    }
}
