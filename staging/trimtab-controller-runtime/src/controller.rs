//! A running controller: takes keys from its queue, gives each a turn, and waits until the turn's writes are seen.
//!
//! Each turn is a task of its own (*Isolated*). It holds one of the controller's permits while it reconciles and gives
//! it back before it waits for caches, so that a cache that is behind delays only the keys that need it.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::informer::{InformerFactory, Selection};
use trimtab_client_coordination::events::Recorder;
use trimtab_client_workqueue::{Add, Shutdown, Work, WorkQueue};

use crate::error::Error;
use crate::failing::{Failing, View, WaitFor};
use crate::metrics::{Figures, Outcome};
use crate::reconcile::{Next, Reconcile, Reconciled};
use crate::source::{self, Inlet, LOW, Source, Watches};
use crate::turn::{Stores, Turn, World};

/// What a controller was told by its builder.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) workers: usize,
    pub(crate) patience: Duration,
    pub(crate) resync: Duration,
}

/// A controller that waits for its manager to run.
pub(crate) struct Described<K, R> {
    pub(crate) settings: Settings,
    pub(crate) inlet: Inlet,
    pub(crate) reconciler: R,
    pub(crate) main: Source,
    pub(crate) sources: Vec<Source>,
    pub(crate) kind: PhantomData<fn() -> K>,
}

/// What a manager gives to its controllers.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) manager: String,
    pub(crate) selection: Selection,
    pub(crate) factory: InformerFactory,
    pub(crate) recorder: Recorder,
    /// Says that no turn is to be begun any more.
    pub(crate) stop: CancellationToken,
    /// How long turns that are under way then may take.
    pub(crate) grace: Duration,
}

/// A controller whose sources have been started.
pub(crate) struct Begun {
    pub(crate) name: String,
    pub(crate) watches: Watches,
    /// Waits for the sources, works until the stop, and says how many turns it cut off then.
    pub(crate) run: BoxFuture<'static, usize>,
}

/// A controller of any kind.
pub(crate) trait Begin: Send {
    fn begin(self: Box<Self>, context: &Context, figures: Arc<Figures>) -> Begun;
}

impl<K: Reconciled, R: Reconcile<K>> Begin for Described<K, R> {
    fn begin(self: Box<Self>, context: &Context, figures: Arc<Figures>) -> Begun {
        let mut stores = Stores::default();
        let sources = std::iter::once(self.main).chain(self.sources);
        let watches: Watches = sources
            .map(|start| start(&context.factory, &context.selection, &mut stores))
            .collect();
        // The source above keeps this informer running: it is the same one.
        let selection = source::selection::<K>(&context.selection);
        let store = context.factory.informer::<K>(selection).store();
        let running = Running {
            inner: Arc::new(Inner {
                reconciler: self.reconciler,
                world: Arc::new(World {
                    client: context.client.clone(),
                    manager: context.manager.clone(),
                    store,
                    stores,
                    recorder: context.recorder.clone(),
                    applied: Default::default(),
                }),
                queue: self.inlet.queue.clone(),
                failing: self.inlet.failing,
                figures,
                patience: self.settings.patience,
                stop: context.stop.clone(),
            }),
            settings: self.settings,
            queue: self.inlet.queue,
            watches: watches.clone(),
            grace: context.grace,
        };
        Begun {
            name: running.settings.name.clone(),
            watches,
            run: running.run().boxed(),
        }
    }
}

struct Running<K: Reconciled, R> {
    settings: Settings,
    queue: WorkQueue<ObjectKey>,
    watches: Watches,
    grace: Duration,
    inner: Arc<Inner<K, R>>,
}

/// What the turns' tasks share.
struct Inner<K: Reconciled, R> {
    reconciler: R,
    world: Arc<World<K>>,
    queue: WorkQueue<ObjectKey>,
    failing: Arc<Failing>,
    figures: Arc<Figures>,
    patience: Duration,
    stop: CancellationToken,
}

impl<K: Reconciled, R: Reconcile<K>> Running<K, R> {
    async fn run(self) -> usize {
        let stop = self.inner.stop.clone();
        let synced = async {
            for watch in self.watches.iter() {
                watch.synced().await;
            }
        };
        if stop.run_until_cancelled(synced).await.is_some() {
            tracing::info!(controller = %self.settings.name, workers = self.settings.workers, "controller started");
        }
        let mut turns = JoinSet::new();
        self.work(&stop, &mut turns).await;

        let deadline = Instant::now() + self.grace;
        // What nobody has begun is found again from the state, at the next start.
        let _not_begun = self.queue.shut_down(Shutdown::Now).await;
        let ended = async { while turns.join_next().await.is_some() {} };
        let in_time = timeout_at(deadline, ended).await.is_ok();
        let cut_off = if in_time { 0 } else { turns.len() };
        turns.shutdown().await;
        tracing::info!(controller = %self.settings.name, cut_off, "controller stopped");
        cut_off
    }

    /// Begins turns until the stop.
    async fn work(&self, stop: &CancellationToken, turns: &mut JoinSet<()>) {
        let permits = Arc::new(Semaphore::new(self.settings.workers));
        let mut resync = self.next_resync();
        loop {
            let next = async {
                let permit = permits.clone().acquire_owned().await.ok()?;
                Some((permit, self.queue.get().await?))
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(_ended) = turns.join_next() => {}
                () = sleep_until(resync) => {
                    self.resync();
                    resync = self.next_resync();
                }
                next = next => match next {
                    Some((permit, work)) => {
                        let span = tracing::info_span!("turn", controller = %self.settings.name, key = %work.key());
                        turns.spawn(self.inner.clone().turn(work, permit).instrument(span));
                    }
                    None => return,
                },
            }
        }
    }

    fn next_resync(&self) -> Instant {
        let factor = 0.9 + 0.2 * fastrand::f64();
        let now = Instant::now();
        // A period too long for the clock means never; a century comes close.
        let never = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        now + self.settings.resync.min(never).mul_f64(factor)
    }

    /// Gives every key a turn when nothing more urgent waits. Backoffs stay.
    fn resync(&self) {
        for object in self.inner.world.store.list() {
            let add = Add::now().priority(LOW).because("resync");
            let _shut_down = self.queue.add_with(object.key().clone(), add);
        }
    }
}

impl<K: Reconciled, R: Reconcile<K>> Inner<K, R> {
    /// One turn, with all that follows from how it ends.
    async fn turn(self: Arc<Self>, work: Work<ObjectKey>, permit: OwnedSemaphorePermit) {
        let (key, begun) = (work.key().clone(), Instant::now());
        let view = || self.world.view(self.world.store.get(&key).as_ref());
        if let Some(wait) = self.failing.wait_for(&key, begun, view) {
            if let WaitFor::Backoff(rest) = wait {
                self.again(&work, rest, None);
            }
            return work.done();
        }
        let attempt = self.failing.attempt(&key);
        let mut turn = Turn::new(self.world.clone(), key.clone(), work.reasons().clone(), attempt);
        let timer = self.figures.begin();
        let result = self.reconcile(&mut turn).await;
        timer.end(Outcome::of(&result));
        drop(permit);

        let view = self.settle(turn).await;
        let fail = |reason: String| {
            let delay = self.failing.failed(&key, begun, Instant::now(), view.clone());
            self.again(&work, delay, Some(reason));
        };
        match result {
            Ok(next) => {
                self.failing.succeeded(&key);
                return match next {
                    Next::Done => work.done(),
                    Next::After(delay) => work.requeue_after(delay),
                };
            }
            Err(Ended::Panicked(words)) => {
                tracing::error!(panic = words, attempt, "the reconciler panicked; trying again");
                fail("panic".to_owned());
            }
            Err(Ended::Failed(error)) if error.is_conflict() => {
                tracing::debug!(%error, "the object has changed; trying again");
                fail("conflict".to_owned());
            }
            Err(Ended::Failed(error)) if error.is_terminal() => {
                tracing::error!(%error, "the reconciler failed; waiting for a change");
                self.failing.gave_up(&key, view);
            }
            Err(Ended::Failed(error)) => {
                tracing::warn!(%error, attempt, "the reconciler failed; trying again");
                fail(format!("error: {error}"));
            }
        }
        work.done();
    }

    /// Runs the reconciler and writes the status, whatever became of the turn; only a panic leaves it half done.
    async fn reconcile(&self, turn: &mut Turn<K>) -> Result<Next, Ended> {
        turn.readable().map_err(Ended::Failed)?;
        let reconciled = AssertUnwindSafe(async { self.reconciler.reconcile(turn).await })
            .catch_unwind()
            .await;
        let result = reconciled.map_err(|panic| Ended::Panicked(words_of(&*panic)))?;
        let told = turn.flush().await;
        if let (Err(_), Err(error)) = (&result, &told) {
            tracing::warn!(%error, "the status was not written");
        }
        result.and_then(|next| told.map(|()| next)).map_err(Ended::Failed)
    }

    /// Has a key in hand come back, for a new reason or for those that it has. A queue that is shut down takes nothing
    /// more, as it should.
    fn again(&self, work: &Work<ObjectKey>, delay: Duration, reason: Option<String>) {
        let add = || Add::after(delay).priority(work.priority());
        let adds = match reason {
            Some(reason) => vec![add().because(reason)],
            None => work
                .reasons()
                .iter()
                .map(|reason| add().because(reason.to_owned()))
                .collect(),
        };
        for add in if adds.is_empty() { vec![add()] } else { adds } {
            let _shut_down = self.queue.add_with(work.key().clone(), add);
        }
    }

    /// *Own writes seen*: waits until the caches show what the turn has written. A controller that stops does not wait.
    /// Returns what the turn had in view.
    async fn settle(&self, turn: Turn<K>) -> View {
        let (unseen, view) = turn.end();
        let seen = unseen.seen(self.patience);
        if let Some(Err(error)) = self.stop.run_until_cancelled(seen).await {
            let patience = self.patience;
            tracing::warn!(%error, ?patience, "the caches do not show the last writes; going on without them");
            self.figures.impatient();
        }
        view
    }
}

/// How a turn failed.
#[derive(Debug)]
pub(crate) enum Ended {
    Failed(Error),
    Panicked(String),
}

/// What a panic said.
fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
