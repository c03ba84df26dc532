//! What every controller is given to run with.

use std::time::Duration;

use kube::Client;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use trimtab_client_cache::informer::{InformerFactory, Selection};
use trimtab_client_workqueue::{InvalidLimiter, InvalidQueue};

/// The surroundings of one controller.
pub(crate) struct Context {
    pub(crate) client: Client,
    /// Shared by all controllers.
    pub(crate) informers: InformerFactory,
    pub(crate) options: crate::Options,
    /// When the controller must begin to stop.
    pub(crate) stop: CancellationToken,
    /// Told when the controller has seen all that there was when it started.
    pub(crate) synced: oneshot::Sender<()>,
}

/// What is kept of objects by all who only read them, so that they share one cache.
pub(crate) fn without_bookkeeping() -> Selection {
    Selection::all().without_bookkeeping()
}

/// A controller's own settings do not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidController {
    #[error(transparent)]
    Queue(#[from] InvalidQueue),
    #[error(transparent)]
    Manager(#[from] trimtab_controller_runtime::Error),
    #[error(transparent)]
    Backoff(#[from] InvalidLimiter),
}

/// Waits before trying something again that no queue cares for: longer each time, up to half a minute.
#[derive(Debug, Default)]
pub(crate) struct Patience(u32);

impl Patience {
    pub(crate) async fn wait(&mut self) {
        let seconds = 2_u64.saturating_pow(self.0).min(30);
        self.0 = self.0.saturating_add(1);
        tokio::time::sleep(Duration::from_millis(500 * seconds)).await;
    }
}
