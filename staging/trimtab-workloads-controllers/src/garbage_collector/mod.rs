//! The garbage collector: what has lost all of its owners is deleted, as its owner's deletion asked for.
//!
//! Watches feed a [`graph`] with metadata: those of the other controllers, and its own of what nobody else watches. The
//! graph says what to look at; workers look at it. They decide by what the server says at that moment, and write under
//! the condition that it has not changed since: the graph may be behind, but that costs another turn, never an object.

mod collector;
mod decide;
mod graph;
mod monitors;
mod slim;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use trimtab_client_cache::informer::InformerFactory;
use trimtab_client_coordination::events::EventWriter;
use trimtab_client_workqueue::WorkQueue;

use crate::context::{Context, InvalidController, Patience};
use crate::pool::Pool;
use crate::resources::Resources;
use collector::Collector;
use monitors::Monitors;

/// The controller's name.
pub(crate) const NAME: &str = "garbage-collector-controller";

/// How many objects are worked on at a time. kube-controller-manager's figure.
const WORKERS: usize = 20;
/// When discovery is asked without a reason. kube-controller-manager's figure; as long as everything is as it was, twice as long each
/// time, since what changes what is served is watched …
const RESCAN: Duration = Duration::from_secs(30);
/// … but no longer than this.
const SELDOM: Duration = Duration::from_secs(3600);
/// When discovery is asked after something changed what is served: a server takes a moment to follow.
const FOLLOW_UPS: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_secs(1),
    Duration::from_secs(5),
];
/// How long the first lists are waited for. Then work begins with what is known. kube-controller-manager's figure.
const FIRST_SYNC: Duration = Duration::from_secs(30);

/// How long events may take that are not written yet when everything else has stopped.
const LAST_EVENTS: Duration = Duration::from_millis(500);

/// Collects until told to stop.
pub(crate) async fn run(context: Context) -> Result<(), InvalidController> {
    let Context {
        client,
        informers,
        options,
        stop,
        synced,
    } = context;
    let queue = WorkQueue::builder().build()?;
    let (recorder, events) = EventWriter::start(client.clone(), NAME, instance());
    let collector = Arc::new(Collector::new(client, queue.clone(), recorder));
    let watching = watch_until_synced(&collector, informers);
    if let Some((mut monitors, mut rescans)) = stop.run_until_cancelled(watching).await {
        let _nobody_waits = synced.send(());
        let worker = collector.clone();
        let pool = Pool::start(NAME, queue, WORKERS, move |task| {
            let worker = worker.clone();
            async move { worker.process(task).await }
        });
        let following = async {
            loop {
                rescans.next().await;
                let is_sure = rescan(&collector, &mut monitors).await == Some(true);
                rescans.told(is_sure);
            }
        };
        stop.run_until_cancelled(following).await;
        drop(monitors);
        pool.shut_down(Instant::now() + options.drain).await;
    }
    events.shut_down(LAST_EVENTS).await;
    Ok(())
}

/// What tells this process's events from those of others: the host's name, which a pod has in its environment.
fn instance() -> String {
    let host = std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
    host.map_or_else(|| NAME.to_owned(), |host| format!("{NAME}-{host}"))
}

async fn watch_until_synced(collector: &Arc<Collector>, informers: InformerFactory) -> (Monitors, Rescans) {
    let serving_changed = Arc::new(Notify::new());
    let mut monitors = Monitors::new(collector.clone(), informers, serving_changed.clone());
    let mut patience = Patience::default();
    while rescan(collector, &mut monitors).await.is_none() {
        patience.wait().await;
    }
    if !monitors.synced_within(FIRST_SYNC).await {
        tracing::warn!("not all resources could be listed yet, collecting what is known");
    }
    (
        monitors,
        Rescans {
            serving_changed,
            follow_ups: Vec::new(),
            pause: RESCAN,
        },
    )
}

/// Watches what the server serves now. False: some of it did not answer. None: it did not say.
async fn rescan(collector: &Collector, monitors: &mut Monitors) -> Option<bool> {
    match Resources::discover(&collector.client).await {
        Ok(resources) => {
            let is_all = resources.is_all();
            monitors.follow(Arc::new(resources)).await;
            Some(is_all)
        }
        Err(error) => {
            tracing::warn!(%error, "watching what was served before");
            None
        }
    }
}

/// When to ask for what is served.
#[derive(Debug)]
struct Rescans {
    serving_changed: Arc<Notify>,
    /// What is left of [`FOLLOW_UPS`], the next one last.
    follow_ups: Vec<Duration>,
    /// The wait after those.
    pause: Duration,
}

impl Rescans {
    /// Waits until it is time.
    async fn next(&mut self) {
        let wait = self.follow_ups.pop().unwrap_or(self.pause);
        let changed = tokio::time::timeout(wait, self.serving_changed.notified()).await;
        if changed.is_ok() {
            self.follow_ups = FOLLOW_UPS.into_iter().rev().collect();
            if let Some(first) = self.follow_ups.pop() {
                tokio::time::sleep(first).await;
            }
        }
    }

    /// What came of asking: whether all that is served has answered.
    fn told(&mut self, is_sure: bool) {
        self.pause = match is_sure && self.follow_ups.is_empty() {
            true => (self.pause * 2).min(SELDOM),
            false => RESCAN,
        };
    }
}

#[cfg(test)]
mod tests;
