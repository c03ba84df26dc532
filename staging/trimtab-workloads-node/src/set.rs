//! The simulation as a whole: started with one call, waited for, and stopped with a deadline.

use std::sync::Arc;

use kube::Client;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trimtab_client_cache::index::IndexError;
use trimtab_client_cache::informer::InformerFactory;
use trimtab_client_workqueue::{InvalidLimiter, InvalidQueue, Shutdown};

use crate::Options;
use crate::clock::Clock;
use crate::kubelet::{self, fleet, runner};
use crate::scheduler;

/// Why nodes are not simulated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodesError {
    /// There are no addresses for so many nodes.
    #[error("{0} nodes are more than the {most} that can be simulated", most = fleet::MOST)]
    TooMany(usize),
    /// A part does not work as it is set. This is a defect of the part.
    #[error("{0}")]
    Invalid(String),
    /// A part ended, which none does by itself. This is a defect of the part.
    #[error("simulated nodes ended: {0}")]
    Ended(String),
}

/// A part's own settings do not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Invalid {
    #[error(transparent)]
    Queue(#[from] InvalidQueue),
    #[error(transparent)]
    Backoff(#[from] InvalidLimiter),
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// What the parts have in common.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) informers: InformerFactory,
    pub(crate) options: Arc<Options>,
    pub(crate) clock: Clock,
}

/// Running nodes. Dropping it stops them at once, and the cluster sees them die; [`SimulatedNodes::shut_down`] lets them
/// finish what they had begun.
#[derive(Debug)]
#[must_use = "dropping it stops the nodes"]
pub struct SimulatedNodes {
    kubelets: runner::Kubelets,
    scheduler: Option<scheduler::Running>,
    options: Arc<Options>,
}

/// Simulates nodes until `stop` is cancelled.
///
/// # Errors
/// See [`NodesError`].
pub async fn simulate(
    cluster: impl Into<InformerFactory>,
    options: Options,
    stop: CancellationToken,
) -> Result<(), NodesError> {
    SimulatedNodes::start(cluster, options)?.run(stop).await
}

// === impl SimulatedNodes ===

impl SimulatedNodes {
    /// Starts to simulate nodes on a cluster: that of a client, or of an [`InformerFactory`], whose watches and caches are
    /// shared then with whoever has them.
    ///
    /// # Errors
    /// [`NodesError::TooMany`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(cluster: impl Into<InformerFactory>, options: Options) -> Result<Self, NodesError> {
        if options.nodes > fleet::MOST {
            return Err(NodesError::TooMany(options.nodes));
        }
        let clock = Clock::driven(options.clock.now());
        let options = Arc::new(options);
        let informers = cluster.into();
        let context = Context {
            client: informers.client().clone(),
            informers: informers.watching(options.watching.clone()),
            options: options.clone(),
            clock,
        };
        let invalid = |invalid: Invalid| NodesError::Invalid(invalid.to_string());
        let kubelets = kubelet::start(&context).map_err(invalid)?;
        let wanted = !options.scheduler_names.is_empty();
        let scheduler = wanted.then(|| scheduler::start(&context).map_err(invalid));
        Ok(Self {
            kubelets,
            scheduler: scheduler.transpose()?,
            options,
        })
    }

    /// Waits until all nodes are registered and ready. Cancelling loses nothing.
    pub async fn ready(&mut self) {
        let registered = &mut self.kubelets.registered;
        if !registered.is_terminated() {
            let _registered_or_ended = registered.await;
        }
    }

    /// Waits until a part ends, which none does by itself, and says why.
    pub async fn ended(&mut self) -> NodesError {
        let scheduling = async {
            match &mut self.scheduler {
                Some(scheduler) => ended(&mut scheduler.tasks).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            why = ended(&mut self.kubelets.tasks) => why,
            why = scheduling => why,
        }
    }

    /// Goes on until `stop` is cancelled, and lets them finish then what they had begun.
    ///
    /// # Errors
    /// [`NodesError::Ended`].
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), NodesError> {
        match stop.run_until_cancelled(self.ended()).await {
            Some(error) => Err(error),
            None => {
                self.shut_down().await;
                Ok(())
            }
        }
    }

    /// Stops everything and waits until what had begun is finished, for as long as the options say. The nodes stay in the
    /// cluster, and are taken up by the next start.
    pub async fn shut_down(self) {
        let deadline = Instant::now() + self.options.drain;
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        // The scheduler first: who is given a node still finds it alive.
        if let Some(scheduler) = self.scheduler {
            let scheduler::Running {
                mut tasks,
                queue,
                seats,
                events,
                tracker,
                stop,
            } = scheduler;
            drop(seats);
            queue.shut_down(Shutdown::DrainWithin(left(deadline))).await;
            drop(stop);
            tracker.close();
            let _in_time = tokio::time::timeout_at(deadline, tracker.wait()).await;
            tasks.abort_all();
            while tasks.join_next().await.is_some() {}
            events.shut_down(left(deadline)).await;
        }
        let runner::Kubelets {
            mut tasks,
            queue,
            of_node_turns,
            pods,
            nodes,
            events,
            ..
        } = self.kubelets;
        pods.leave().await;
        nodes.leave().await;
        of_node_turns
            .shut_down(Shutdown::DrainWithin(left(deadline)))
            .await;
        queue.shut_down(Shutdown::DrainWithin(left(deadline))).await;
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        events.shut_down(left(deadline)).await;
    }
}

/// Waits until a task ends that should not.
async fn ended(tasks: &mut tokio::task::JoinSet<()>) -> NodesError {
    loop {
        match tasks.join_next().await {
            // The task that waited for the registration.
            Some(Ok(())) => {}
            Some(Err(panic)) => return NodesError::Ended(panic.to_string()),
            None => return NodesError::Ended("nothing is left that runs".to_owned()),
        }
    }
}
