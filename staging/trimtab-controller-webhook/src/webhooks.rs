//! All webhooks of a program: as routes for a server, and as manifests for the API server.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use prometheus_client::registry::Registry;
use trimtab_controller_runtime::serving::{Request, Route, Router, json, text};

use crate::admission::{Reviewed, review};
use crate::authentication::{self, Authenticator};
use crate::conversion::{self, Conversion, Converts};
use crate::envelope::Answer;
use crate::error::WebhookError;
use crate::hook::Hook;
use crate::manifests::Manifests;
use crate::metrics::Metrics;
use crate::target::Target;

/// How large an admission review may be: two objects of 3 MB, and what is said about them. controller-runtime's figure.
const ADMISSION_LIMIT: usize = 7 * 1024 * 1024;
/// How large a conversion review may be. The API server puts a whole page of a list in one, up to 10,000 objects.
const CONVERSION_LIMIT: usize = 128 * 1024 * 1024;
/// How large a token review may be: Kubernetes' own limit of a request.
const TOKEN_LIMIT: usize = 3 * 1024 * 1024;
/// Where conversions are answered; controller-runtime's.
pub(crate) const CONVERT: &str = "/convert";

/// The webhooks of a program. Clones are the same.
#[derive(Clone)]
#[must_use = "webhooks are served by a `WebhookServer` or the routes of `router`"]
pub struct Webhooks {
    name: String,
    hooks: Vec<Hook>,
    conversions: Vec<Arc<dyn Converts>>,
    conversion_limit: usize,
    /// By their paths.
    authenticators: Vec<(String, authentication::Erased)>,
    metrics: Metrics,
}

impl Webhooks {
    /// No webhooks yet. The name is that of the configurations in the cluster; it must be the program's own there.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            hooks: Vec::new(),
            conversions: Vec::new(),
            conversion_limit: CONVERSION_LIMIT,
            authenticators: Vec::new(),
            metrics: Metrics::default(),
        }
    }

    /// Adds an admission webhook.
    pub fn hook(mut self, hook: Hook) -> Self {
        self.hooks.push(hook);
        self
    }

    /// Adds the conversion of a kind.
    pub fn conversion<H: Reviewed>(mut self, conversion: Conversion<H>) -> Self {
        self.conversions.push(Arc::new(conversion));
        self
    }

    /// Answers token reviews at this path, which begins with a slash. API servers are told of it by their own configuration, so
    /// no manifest mentions it.
    pub fn authenticator(mut self, path: impl Into<String>, authenticator: impl Authenticator) -> Self {
        let erased = authentication::erase(authenticator);
        self.authenticators.push((path.into(), erased));
        self
    }

    /// How many bytes a question about conversions may have. The default is 128 MiB: the API server puts all objects of
    /// a page into one.
    pub fn conversion_limit(self, bytes: usize) -> Self {
        Self {
            conversion_limit: bytes,
            ..self
        }
    }

    /// The name of the configurations.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The routes that answer the API server: one for each webhook and authenticator, and `/convert` if there are conversions.
    ///
    /// # Errors
    /// [`WebhookError::PathTaken`], [`WebhookError::ConversionTaken`], [`WebhookError::Spoke`], [`WebhookError::Serve`]
    /// for a path without slash.
    pub fn router(&self) -> Result<Router, WebhookError> {
        self.check()?;
        let mut router = Router::new();
        for hook in &self.hooks {
            let (handler, mutates) = (hook.handler.clone(), hook.mutates);
            let answer = move |body: Bytes| {
                let handler = handler.clone();
                async move { review(&handler, mutates, &body).await }
            };
            let route = answering(&hook.path, &self.metrics, Metrics::panicked, answer);
            router = router.route(hook.path.clone(), route.body_limit(ADMISSION_LIMIT))?;
        }
        for (path, authenticator) in &self.authenticators {
            let authenticator = authenticator.clone();
            let answer = move |body: Bytes| {
                let authenticator = authenticator.clone();
                async move { authentication::review(&authenticator, &body).await }
            };
            let route = answering(path, &self.metrics, Metrics::panicked, answer);
            router = router.route(path.clone(), route.body_limit(TOKEN_LIMIT))?;
        }
        if self.conversions.is_empty() {
            return Ok(router);
        }
        let by_kind = self.conversions.iter().map(|one| (one.kind(), one.clone()));
        let by_kind: Arc<HashMap<_, _>> = Arc::new(by_kind.collect());
        let answer = move |body: Bytes| {
            let by_kind = by_kind.clone();
            async move { conversion::review(&by_kind, &body).await }
        };
        let route = answering(CONVERT, &self.metrics, Metrics::conversion_panicked, answer);
        Ok(router.route(CONVERT, route.body_limit(self.conversion_limit))?)
    }

    /// What tells the API server of the webhooks, without certificates ([`Manifests::with_ca_bundle`]).
    ///
    /// # Errors
    /// As [`Webhooks::router`], and [`WebhookError::Undeclarable`].
    pub fn manifests(&self, target: &Target) -> Result<Manifests, WebhookError> {
        self.check()?;
        Manifests::new(self, target)
    }

    /// Adds the figures to a registry, under `controller_runtime_webhook_…`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// The figures alone, in the OpenMetrics text format.
    pub fn metrics_text(&self) -> String {
        self.metrics.text()
    }

    pub(crate) fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// The names of the definitions whose kinds are converted.
    pub(crate) fn definitions(&self) -> Vec<String> {
        self.conversions.iter().map(|one| one.definition()).collect()
    }

    fn check(&self) -> Result<(), WebhookError> {
        let (mut paths, mut names, mut kinds) = (BTreeSet::from([CONVERT]), BTreeSet::new(), BTreeSet::new());
        for hook in &self.hooks {
            if !paths.insert(&hook.path) {
                return Err(WebhookError::PathTaken(hook.path.clone()));
            }
            if !names.insert(&hook.name) {
                return Err(WebhookError::NameTaken(hook.name.clone()));
            }
        }
        for (path, _) in &self.authenticators {
            if !paths.insert(path) {
                return Err(WebhookError::PathTaken(path.clone()));
            }
        }
        for conversion in &self.conversions {
            conversion.check()?;
            if !kinds.insert(conversion.kind()) {
                return Err(WebhookError::ConversionTaken(conversion.kind().to_string()));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks")
            .field("name", &self.name)
            .field("hooks", &self.hooks)
            .field("conversions", &self.definitions())
            .finish_non_exhaustive()
    }
}

/// A route that answers reviews, and counts.
fn answering<F, Fut>(path: &str, metrics: &Metrics, panicked: fn(&Metrics), answer: F) -> Route
where
    F: Fn(Bytes) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answer, String>> + Send + 'static,
{
    metrics.expect(path);
    let (path, metrics, answer) = (path.to_owned(), metrics.clone(), Arc::new(answer));
    Route::post(move |request| {
        let (path, metrics, answer) = (path.clone(), metrics.clone(), answer.clone());
        async move {
            let underway = metrics.begin(&path);
            let answered = match is_json(&request) {
                Ok(()) => answer(request.into_body()).await.map_err(|why| (400, why)),
                Err(why) => Err((415, why)),
            };
            let response = match answered {
                Ok(answer) => {
                    if answer.panicked {
                        panicked(&metrics);
                    }
                    json(200, answer.body)
                }
                Err((code, why)) => {
                    tracing::warn!(path, code, why, "a question was not understood");
                    text(code, format!("{why}\n"))
                }
            };
            underway.end(response.status().as_u16());
            response
        }
    })
}

/// Refuses everything but JSON.
fn is_json(request: &Request) -> Result<(), String> {
    let given = request.headers().get(CONTENT_TYPE);
    let given = given.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(format!("the content type is {given:?}, and not application/json"))
    }
}
