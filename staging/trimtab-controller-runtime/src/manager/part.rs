//! What runs beside the controllers: servers, and anything else that shares the manager's life.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use trimtab_client_coordination::leader::Leadership;

use crate::error::{Error, Result};
use crate::rbac::Rule;

/// Something that a manager runs beside its controllers: see [`Manager::part`](super::Manager::part). It is given a token, ends
/// when that is cancelled, and fails the manager if it ends before.
#[must_use = "a part does nothing before it is handed to a manager"]
pub struct Part {
    pub(crate) name: String,
    pub(crate) stage: Stage,
    pub(crate) run: Run,
    pub(super) brings: Brings,
}

/// What a part gives the manager besides its work.
#[derive(Default)]
pub(super) struct Brings {
    pub(super) checks: Vec<(String, Check)>,
    pub(super) figures: Vec<Registry>,
    pub(super) rules: Vec<Rule>,
}

/// Says whether the part is ready, and if not, why.
type Check = Arc<dyn Fn() -> BoxFuture<'static, std::result::Result<(), String>> + Send + Sync>;

/// When a part starts and stops. Stages start in this order, and stop against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Before the caches; until everything else has stopped.
    Server,
    /// When the controllers start.
    Beside,
    /// While this replica leads.
    Leading,
}

/// How it runs: once, or once for each time that the replica leads.
type Run = Box<dyn FnMut(Lead) -> BoxFuture<'static, Result<()>> + Send>;

/// One time of leading, or of running without having been elected.
#[derive(Clone, Debug)]
pub struct Lead {
    stop: CancellationToken,
    leadership: Option<Leadership>,
}

impl Lead {
    pub(crate) fn alone(stop: CancellationToken) -> Self {
        Self {
            stop,
            leadership: None,
        }
    }

    pub(crate) fn elected(leadership: Leadership) -> Self {
        Self {
            stop: leadership.stop().clone(),
            leadership: Some(leadership),
        }
    }

    /// The same, that also ends with another token.
    pub(crate) fn until(&self, stop: CancellationToken) -> Self {
        Self {
            stop,
            leadership: self.leadership.clone(),
        }
    }

    /// Is cancelled when the work is to end.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// The leadership with its fencing token; none if the manager holds no elections.
    pub fn leadership(&self) -> Option<&Leadership> {
        self.leadership.as_ref()
    }
}

impl Part {
    /// A server: it starts before everything else and stops after it, so that it can answer meanwhile.
    pub fn server<F, E>(
        name: impl Into<String>,
        run: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        Self::once(name.into(), Stage::Server, run)
    }

    /// Anything that runs on every replica, from the start of the controllers to their end.
    pub fn beside<F, E>(
        name: impl Into<String>,
        run: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        Self::once(name.into(), Stage::Beside, run)
    }

    /// Anything that runs on the replica that leads, each time that it does. Without leader election, that is once. When the
    /// leadership is lost for good, it is cut off wherever it is.
    pub fn leading<F, E>(name: impl Into<String>, mut run: impl FnMut(Lead) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        Self {
            name: name.into(),
            stage: Stage::Leading,
            run: Box::new(move |lead| {
                let running = run(lead);
                async move { running.await.map_err(Error::other) }.boxed()
            }),
            brings: Brings::default(),
        }
    }

    /// Makes the manager ready only while this check passes, too. The error says what is wrong. A check that panics or takes
    /// longer than 10 seconds has failed.
    pub fn ready<F, Fut>(mut self, name: impl Into<String>, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::result::Result<(), String>> + Send + 'static,
    {
        let check = Arc::new(move || check().boxed());
        self.brings.checks.push((name.into(), check));
        self
    }

    /// Adds figures to the manager's. Their names must be the part's own.
    pub fn metrics(mut self, figures: Registry) -> Self {
        self.brings.figures.push(figures);
        self
    }

    /// Says that the part needs something to be allowed, which then is among the manager's rules.
    pub fn needs(mut self, rule: Rule) -> Self {
        self.brings.rules.push(rule);
        self
    }

    fn once<F, E>(
        name: String,
        stage: Stage,
        run: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let mut run = Some(run);
        Self {
            name,
            stage,
            run: Box::new(move |lead| {
                // A stage before the leading one begins once.
                let running = run.take().map(|run| run(lead.stop));
                async move {
                    match running {
                        Some(running) => running.await.map_err(Error::other),
                        None => Ok(()),
                    }
                }
                .boxed()
            }),
            brings: Brings::default(),
        }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("name", &self.name)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}
