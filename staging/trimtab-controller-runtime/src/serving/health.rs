//! Health: named checks at `/healthz`, `/livez` and `/readyz`, whose answers read as kube-apiserver's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use parking_lot::RwLock;

use super::body::{Request, Response, text};
use super::error::ServeError;
use super::router::{Route, Router};

/// How long a check may take. Kubelet gives a probe a second, unless told otherwise.
const DEADLINE: Duration = Duration::from_secs(10);

/// The checks of one program. Clones are the same; checks can be added while they are served.
///
/// *Live* means that a restart would not help: `/livez` and `/healthz` say so. *Ready* means that requests may come:
/// `/readyz` says so. Each answers `ok` or 500; with `?verbose`, and in any failure, it lists its checks, though not why
/// they fail. `?exclude=NAME` leaves one out. `/readyz/NAME` asks one alone, and does say why. Without checks there is one
/// called `ping`, which passes.
#[derive(Clone, Debug, Default)]
pub struct Health {
    live: Checks,
    ready: Checks,
}

#[derive(Clone, Default)]
struct Checks(Arc<RwLock<BTreeMap<String, Check>>>);

type Outcome = Result<(), String>;
type Check = Arc<dyn Fn() -> BoxFuture<'static, Outcome> + Send + Sync>;

// === impl Health ===

impl Health {
    /// No checks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check that passes as long as the program need not be restarted. The error says what is wrong. A check that
    /// panics or takes longer than 10 seconds has failed.
    ///
    /// # Errors
    /// [`ServeError::CheckName`].
    pub fn live<F, Fut>(&self, name: impl Into<String>, check: F) -> Result<(), ServeError>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.live.add(name.into(), check)
    }

    /// Adds a check that passes when requests may come. As [`Health::live`] otherwise.
    ///
    /// # Errors
    /// [`ServeError::CheckName`].
    pub fn ready<F, Fut>(&self, name: impl Into<String>, check: F) -> Result<(), ServeError>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.ready.add(name.into(), check)
    }

    /// Adds the endpoints to a router.
    ///
    /// # Errors
    /// [`ServeError::PathTaken`].
    pub fn routes(&self, router: Router) -> Result<Router, ServeError> {
        let mut router = router;
        let endpoints = [
            ("healthz", &self.live),
            ("livez", &self.live),
            ("readyz", &self.ready),
        ];
        for (endpoint, checks) in endpoints {
            let checks = checks.clone();
            let route = Route::get(move |request| checks.clone().answer(endpoint, request));
            router = router
                .route(format!("/{endpoint}"), route.clone())?
                .route(format!("/{endpoint}/"), route)?;
        }
        Ok(router)
    }
}

// === impl Checks ===

impl Checks {
    fn add<F, Fut>(&self, name: String, check: F) -> Result<(), ServeError>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let mut checks = self.0.write();
        if name.is_empty() || checks.contains_key(&name) {
            return Err(ServeError::CheckName(name));
        }
        checks.insert(name, Arc::new(move || check().boxed()));
        Ok(())
    }

    async fn answer(self, endpoint: &'static str, request: Request) -> Response {
        let mut checks = self.0.read().clone();
        if checks.is_empty() {
            checks.insert("ping".to_owned(), Arc::new(|| async { Ok(()) }.boxed()));
        }
        let path = request.uri().path();
        let name = path.trim_matches('/').strip_prefix(endpoint).unwrap_or_default();
        match name.strip_prefix('/') {
            None => {
                all(
                    endpoint,
                    &checks,
                    Asked::of(request.uri().query().unwrap_or_default()),
                )
                .await
            }
            Some(name) => match checks.get(name) {
                Some(check) => one(check).await,
                None => text(404, "404 page not found\n"),
            },
        }
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.read().keys()).finish()
    }
}

/// What the query asks for.
struct Asked {
    verbose: bool,
    exclude: BTreeSet<String>,
}

impl Asked {
    fn of(query: &str) -> Self {
        let parameters = || form_urlencoded::parse(query.as_bytes());
        Self {
            verbose: parameters().any(|(key, _)| key == "verbose"),
            exclude: parameters()
                .filter(|(key, _)| key == "exclude")
                .map(|(_, name)| name.into_owned())
                .collect(),
        }
    }
}

async fn all(endpoint: &str, checks: &BTreeMap<String, Check>, asked: Asked) -> Response {
    let mut exclude = asked.exclude;
    let asked_for: Vec<(&String, Option<&Check>)> = checks
        .iter()
        .map(|(name, check)| (name, (!exclude.remove(name)).then_some(check)))
        .collect();
    let outcomes = join_all(asked_for.into_iter().map(|(name, check)| async move {
        match check {
            None => (name, None),
            Some(check) => (name, Some(run(check).await)),
        }
    }));
    let mut report = String::new();
    let mut failed = false;
    for (name, outcome) in outcomes.await {
        match outcome {
            None => report.push_str(&format!("[+]{name} excluded: ok\n")),
            Some(Ok(())) => report.push_str(&format!("[+]{name} ok\n")),
            Some(Err(why)) => {
                // Everybody may ask; who has the log, or asks for this check alone, learns more.
                report.push_str(&format!("[-]{name} failed: reason withheld\n"));
                tracing::warn!(endpoint, check = name, why, "a health check failed");
                failed = true;
            }
        }
    }
    if !exclude.is_empty() {
        let unknown: Vec<String> = exclude.iter().map(|name| format!("{name:?}")).collect();
        let unknown = unknown.join(",");
        report.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {unknown}\n"
        ));
    }
    match (failed, asked.verbose) {
        (true, _) => text(500, format!("{report}{endpoint} check failed\n")),
        (false, true) => text(200, format!("{report}{endpoint} check passed\n")),
        (false, false) => text(200, "ok"),
    }
}

async fn one(check: &Check) -> Response {
    match run(check).await {
        Ok(()) => text(200, "ok"),
        Err(why) => text(500, format!("internal server error: {why}\n")),
    }
}

async fn run(check: &Check) -> Outcome {
    let outcome = AssertUnwindSafe(async { check().await }).catch_unwind();
    match tokio::time::timeout(DEADLINE, outcome).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err("the check panicked".to_owned()),
        Err(_) => Err(format!("the check took longer than {DEADLINE:?}")),
    }
}
