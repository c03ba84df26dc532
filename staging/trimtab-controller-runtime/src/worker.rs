//! A controller at work: takes keys from its queue, gives each a turn, and waits until the turn's writes are seen.
//!
//! Each worker is a task that has one turn after the other (*Isolated*: a panic ends a turn, not its worker). A key whose
//! writes are not seen yet waits in a task of its own, so that a cache that is behind delays only the keys that need it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all, pending};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use trimtab_client_coordination::clock::Clock;
use trimtab_client_coordination::leader::Leadership;
use trimtab_client_coordination::sharding::{Gains, Held, Partitions, Shards};
use trimtab_client_workqueue::{Add, Shutdown, Work};

use crate::controller::{Operate, Settings};
use crate::error::Error;
use crate::failing::{View, WaitFor};
use crate::introspection::{ControllerState, Occasion, Outcome as Told, Timeline, TurnRecord};
use crate::manager::Lead;
use crate::metrics::{Figures, Outcome};
use crate::reconcile::{Next, Reconcile};
use crate::seldom::Seldom;
use crate::share::{Share, hash_of};
use crate::source::{Inlet, LOW, Running, Sources};
use crate::spans;
use crate::subject::{RequestKey, Subject};
use crate::turn::{Turn, Unseen, World};

/// How long after a turn a key has its next one because what was written is gone, or may be. Mostly somebody has deleted it and
/// the cache has told of that; where others delete at once what is made, the two are not to go as fast as they can.
const LOST: Duration = Duration::from_secs(1);

/// What a controller's tasks share.
pub(crate) struct Worker<Q: RequestKey> {
    pub(crate) hand: Box<dyn Hand<Q>>,
    /// Where turns are recorded, if anybody looks.
    pub(crate) timeline: Option<Timeline>,
    pub(crate) inlet: Inlet<Q>,
    /// Keys that were given a turn because what they had written was gone, with the version of that.
    pub(crate) lost: Seldom<Q, String>,
    pub(crate) sources: Sources<Q>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) settings: Settings,
    /// If replicas share the keys: those of this one.
    pub(crate) shards: Option<Shards>,
    pub(crate) grace: Duration,
    pub(crate) stage: Stage,
}

/// Whether a controller is at work, for people.
#[derive(Debug, Default)]
pub(crate) struct Stage(AtomicU8);

impl Stage {
    const WAITING: u8 = 0;
    const SYNCING: u8 = 1;
    const RUNNING: u8 = 2;
    const STOPPING: u8 = 3;
    const STOPPED: u8 = 4;

    fn set(&self, stage: u8) {
        self.0.store(stage, Ordering::Release);
    }
}

/// How a turn failed.
#[derive(Debug)]
pub(crate) enum Ended {
    Failed(Error),
    Panicked(String),
}

/// A term of work: what its tasks need to know of its end.
#[derive(Clone)]
struct Term {
    /// Cancelled also when the term is dropped.
    stop: CancellationToken,
    /// Where keys wait for their writes to be seen.
    settling: TaskTracker,
}

/// What differs between the subjects of controllers, behind a pointer, so that the rest of a worker is there once and not for
/// each.
pub(crate) trait Hand<Q: RequestKey>: Send + Sync {
    /// Under which leadership the turns are from now on.
    fn lead(&self, leadership: Option<Leadership>);

    /// What is to be seen of a key now.
    fn view(&self, key: &Q) -> View;

    /// Runs the reconciler and writes the status; ends at once if the key is to be another replica's.
    fn turn<'a>(
        &'a self,
        work: Work<Q>,
        attempt: u32,
        record: Option<TurnRecord>,
        held: Option<&'a Held>,
    ) -> BoxFuture<'a, Had<Q>>;

    /// Forgets what was applied for a key.
    fn forget(&self, key: &Q);
}

/// What a turn leaves.
pub(crate) struct Had<Q: RequestKey> {
    work: Work<Q>,
    /// None: it was cut off.
    result: Option<Result<Next, Ended>>,
    record: Option<TurnRecord>,
    unseen: Unseen,
    /// What was in view, where that matters.
    view: View,
}

/// The reconciler, and what its turns share.
pub(crate) struct Reconciling<S: Subject, R> {
    pub(crate) reconciler: R,
    pub(crate) world: Arc<World<S>>,
    pub(crate) deadline: Option<Duration>,
}

impl<S: Subject, R: Reconcile<S>> Hand<S::Key> for Reconciling<S, R> {
    fn lead(&self, leadership: Option<Leadership>) {
        *self.world.leadership.write() = leadership;
    }

    fn view(&self, key: &S::Key) -> View {
        self.world.look(key).view()
    }

    fn turn<'a>(
        &'a self,
        work: Work<S::Key>,
        attempt: u32,
        record: Option<TurnRecord>,
        held: Option<&'a Held>,
    ) -> BoxFuture<'a, Had<S::Key>> {
        let had = async move {
            let mut turn = Turn::new(self.world.clone(), work, attempt, record);
            let reconcile = self.reconcile(&mut turn);
            let result = match held {
                None => Some(reconcile.await),
                Some(held) => held.run(reconcile).await,
            };
            let record = turn.take_record().filter(|_| result.is_some());
            let (work, unseen, seen) = turn.end(matches!(result, Some(Ok(_))));
            let view = match result {
                Some(Err(_) | Ok(Next::Again)) => seen.view(),
                _ => View::new(),
            };
            Had {
                work,
                result,
                record,
                unseen,
                view,
            }
        };
        had.boxed()
    }

    fn forget(&self, key: &S::Key) {
        self.world.forget(key);
    }
}

impl<S: Subject, R: Reconcile<S>> Reconciling<S, R> {
    /// Runs the reconciler and writes the status, whatever became of the turn; only a panic leaves it half done.
    async fn reconcile(&self, turn: &mut Turn<S>) -> Result<Next, Ended> {
        turn.readable().map_err(Ended::Failed)?;
        let reconciled = AssertUnwindSafe(async {
            let reconcile = self.reconciler.reconcile(turn);
            match self.deadline {
                None => reconcile.await,
                Some(deadline) => timeout(deadline, reconcile)
                    .await
                    .unwrap_or(Err(Error::TimedOut(deadline))),
            }
        })
        .catch_unwind()
        .instrument(spans::reconcile())
        .await;
        let result = reconciled.map_err(|panic| Ended::Panicked(words_of(&*panic)))?;
        let told = match S::flush(turn) {
            Some(telling) => telling.await,
            None => Ok(()),
        };
        if let (Err(failure), Err(error)) = (&result, &told) {
            tracing::warn!(%error, "the status was not written");
            // What waits for a change has to have told of itself first: it is tried again.
            if failure.is_terminal() {
                return told.map(|()| Next::Done).map_err(Ended::Failed);
            }
        }
        result.and_then(|next| told.map(|()| next)).map_err(Ended::Failed)
    }
}

impl<Q: RequestKey> Operate for Arc<Worker<Q>> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn sources(&self) -> Vec<Arc<dyn Running>> {
        self.sources.running()
    }

    fn work(&self, lead: Lead) -> BoxFuture<'_, usize> {
        self.term(lead).boxed()
    }

    fn state(&self) -> ControllerState {
        match self.stage.0.load(Ordering::Acquire) {
            Stage::WAITING => ControllerState::Waiting {
                waits_for: "its turn to lead".to_owned(),
            },
            Stage::SYNCING => {
                let sources = self.sources.running();
                let missing = sources.iter().filter(|source| !source.is_synced());
                let missing: Vec<_> = missing.map(|source| source.what()).collect();
                ControllerState::Waiting {
                    waits_for: format!("the caches of {}", missing.join(", ")),
                }
            }
            Stage::RUNNING => ControllerState::Running,
            Stage::STOPPING => ControllerState::Stopping,
            _ => ControllerState::Stopped,
        }
    }

    fn close(&self) {
        self.stage.set(Stage::STOPPED);
        self.sources.end();
        // What nobody has begun is found again from the state, at the next start.
        drop(self.inlet.queue.shut_down(Shutdown::Now));
    }
}

impl<Q: RequestKey> Worker<Q> {
    async fn term(self: &Arc<Self>, lead: Lead) -> usize {
        let stop = lead.stop().child_token();
        let _ends_what_settles = stop.clone().drop_guard();
        self.hand.lead(lead.leadership().cloned());
        let _waits_when_over = Waits(&self.stage);
        self.stage.set(Stage::SYNCING);
        let sources = self.sources.running();
        let synced = join_all(sources.iter().map(|source| source.synced()));
        if stop.run_until_cancelled(synced).await.is_none() {
            return 0;
        }
        drop(sources);
        let (controller, count) = (&self.settings.name, self.settings.workers);
        tracing::info!(controller, workers = count, "controller started");
        let term = Term {
            stop,
            settling: TaskTracker::new(),
        };
        let mut workers = JoinSet::new();
        let worker = || self.clone().worker(term.clone()).boxed();
        for _ in 0..count {
            workers.spawn(worker());
        }
        self.stage.set(Stage::RUNNING);
        let mut resync = self.next_resync();
        let mut gains = self.shards.as_ref().map(Shards::gains);
        loop {
            tokio::select! {
                biased;
                () = term.stop.cancelled() => break,
                Some(ended) = workers.join_next() => match ended {
                    // The queue is closed.
                    Ok(()) if workers.is_empty() => break,
                    Ok(()) => {}
                    Err(error) => {
                        tracing::error!(controller, %error, "a worker failed; starting another one");
                        workers.spawn(worker());
                    }
                },
                () = sleep_until(resync) => {
                    let share = self.shards.as_ref().map_or(Share::All, |shards| Share::Of(shards.owned()));
                    self.all_again("resync", share);
                    resync = self.next_resync();
                }
                gained = next_of(&mut gains) => self.all_again("gained", Share::Of(gained)),
            }
        }

        self.stage.set(Stage::STOPPING);
        let deadline = Instant::now() + self.grace;
        let ended = async { while workers.join_next().await.is_some() {} };
        let in_time = timeout_at(deadline, ended).await.is_ok();
        let cut_off = if in_time { 0 } else { self.figures.active() };
        workers.shutdown().await;
        // These wait for nothing any more.
        term.settling.close();
        term.settling.wait().await;
        tracing::info!(controller, cut_off, "controller stopped");
        cut_off
    }

    /// Has all keys of a share looked at, when nothing more urgent waits.
    fn all_again(&self, reason: &'static str, share: Share) {
        let sources = self.sources.running();
        let add = Add::now().priority(LOW).because(reason);
        sources.iter().for_each(|source| source.again(&add, &share));
    }

    fn next_resync(&self) -> Instant {
        let factor = 0.9 + 0.2 * fastrand::f64();
        let now = Instant::now();
        // A period too long for the clock means never; a century comes close.
        let never = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        now + self.settings.resync.min(never).mul_f64(factor)
    }

    /// Has one turn after the other until the stop.
    async fn worker(self: Arc<Self>, term: Term) {
        let mut stopped = pin!(term.stop.cancelled());
        while !term.stop.is_cancelled() {
            let work = tokio::select! {
                biased;
                work = self.inlet.queue.get() => work,
                () = &mut stopped => return,
            };
            let Some(work) = work else { return };
            let span = spans::turn(&self.settings.name, &work);
            self.turn(work, &term).instrument(span).await;
        }
    }

    /// One turn, with all that follows from how it ends.
    async fn turn(self: &Arc<Self>, work: Work<Q>, term: &Term) {
        let begun = work.since();
        let failing = &self.inlet.failing;
        let held = match &self.shards {
            None => None,
            Some(shards) => match shards.hold(hash_of(work.key())) {
                Some(held) => Some(held),
                None => return self.leave_to_others(work),
            },
        };
        let view = || self.hand.view(work.key());
        if !work.is_marked()
            && let Some(wait) = failing.wait_for(work.key(), begun, view)
        {
            spans::postponed();
            if let WaitFor::Backoff(rest) = wait {
                self.again(&work, rest, None);
            }
            return work.done();
        }
        let attempt = failing.attempt(work.key());
        spans::attempt(attempt);
        let record = self.timeline.as_ref().map(|timeline| {
            let occasion = Occasion::of(&work, Clock::System.now()).attempt(attempt);
            timeline.begin(work.key(), occasion)
        });
        let timer = self.figures.begin(begun);
        let had = self.hand.turn(work, attempt, record, held.as_ref()).await;
        let Had {
            work,
            result,
            mut record,
            mut unseen,
            view,
        } = had;
        let Some(result) = result else {
            let key = work.key();
            tracing::warn!(%key, "the turn was cut off: its key is to be another replica's");
            return self.leave_to_others(work);
        };
        timer.end(Outcome::of(&result));
        if let Some(record) = &mut record {
            record.reconciled();
        }
        let mut ended = Turned {
            work,
            begun,
            attempt,
            result,
            record,
            held,
            lost: None,
            unsure: false,
        };
        if unseen.is_seen() {
            ended.lost = unseen.lost();
            return self.conclude(ended, view);
        }
        let (worker, stop) = (self.clone(), term.stop.clone());
        let settle = async move {
            // *Own writes seen*: the key is in hand until then. A controller that stops does not wait.
            let span = spans::settle();
            let all = unseen.seen(worker.settings.patience).instrument(span.clone());
            let waited = stop.run_until_cancelled(all).await;
            ended.unsure = !matches!(waited, Some(Ok(())));
            span.record("seen", !ended.unsure);
            drop(span);
            if let Some(Err(error)) = waited {
                let patience = worker.settings.patience;
                tracing::warn!(%error, ?patience, "the caches do not show the last writes; going on without them");
                worker.figures.impatient();
                if let Some(record) = &mut ended.record {
                    record.unseen();
                }
            }
            ended.lost = unseen.lost();
            worker.conclude(ended, view);
        };
        term.settling.spawn(settle.boxed().in_current_span());
    }

    /// Lets a key go that is not this replica's, or not any more. Whoever is given it looks at it.
    fn leave_to_others(&self, work: Work<Q>) {
        spans::left();
        self.inlet.failing.forget(work.key());
        self.hand.forget(work.key());
        work.done();
    }

    /// Says what comes next for the key.
    fn conclude(&self, turned: Turned<Q>, view: View) {
        let Turned {
            work,
            begun,
            attempt,
            result,
            record,
            held: _until_the_key_is_done,
            lost,
            unsure,
        } = turned;
        let failing = &self.inlet.failing;
        if self.is_lost_anew(work.key(), lost) || unsure {
            let add = Add::after(LOST).priority(work.priority()).marked();
            let add = add.because("what was written is not to be seen");
            let _shut_down = self.inlet.queue.add_with(work.key().clone(), add);
        }
        let tell = |outcome| {
            spans::ended(&outcome);
            if let Some(record) = record {
                record.end(outcome);
            }
        };
        let asked_for = match &result {
            Err(Ended::Failed(error)) => error.retry_after().unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let fail = |reason: String| {
            let delay = failing.failed(work.key(), begun, Instant::now(), view.clone(), asked_for);
            self.again(&work, delay, Some(reason));
            delay
        };
        match result {
            Ok(Next::Done) => {
                failing.forget(work.key());
                tell(Told::Success);
            }
            Ok(Next::After(delay)) => {
                failing.forget(work.key());
                tell(Told::RequeueAfter { delay });
                return work.requeue_after(delay);
            }
            Ok(Next::Again) => tell(Told::RequeueAfter {
                delay: fail("again".to_owned()),
            }),
            Err(Ended::Panicked(message)) => {
                tracing::error!(panic = message, attempt, "the reconciler panicked; trying again");
                let delay = fail("panic".to_owned());
                tell(Told::Panic { message, delay });
            }
            Err(Ended::Failed(error)) if error.is_conflict() => {
                tracing::debug!(%error, "the object has changed; trying again");
                let delay = fail("conflict".to_owned());
                tell(Told::Conflict { delay });
            }
            Err(Ended::Failed(error)) if error.is_terminal() => {
                if error.is_of_ending_namespace() {
                    // It comes with every namespace that is deleted, and needs nobody's attention.
                    tracing::debug!(%error, "the namespace is going; waiting for a change");
                } else {
                    tracing::error!(%error, "the reconciler failed; waiting for a change");
                }
                failing.gave_up(work.key(), view);
                let message = error.to_string();
                tell(Told::Terminal { message });
            }
            Err(Ended::Failed(error)) => {
                tracing::warn!(%error, attempt, "the reconciler failed; trying again");
                let message = error.to_string();
                let delay = fail(format!("error: {message}"));
                tell(match error {
                    Error::TimedOut(limit) => Told::TimedOut { limit, delay },
                    _ => Told::Error { message, delay },
                });
            }
        }
        work.done();
    }

    /// Whether it is news that what was written at this version is gone. It is none that the same write is still not to be
    /// seen: then the cache cannot show the object, perhaps because it cannot be decoded.
    fn is_lost_anew(&self, key: &Q, version: Option<String>) -> bool {
        match version {
            Some(version) => {
                let before = self.lost.with(|lost| lost.insert(key.clone(), version.clone()));
                before.is_none_or(|before| before != version)
            }
            None => {
                self.lost.if_any(|lost| lost.remove(key));
                false
            }
        }
    }

    /// Has a key in hand come back, for a new reason or for those that it has. A queue that is shut down takes nothing
    /// more, as it should.
    fn again(&self, work: &Work<Q>, delay: Duration, reason: Option<String>) {
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
            let _shut_down = self.inlet.queue.add_with(work.key().clone(), add);
        }
    }
}

/// A turn that has ended, whose key is still in hand.
struct Turned<Q: RequestKey> {
    work: Work<Q>,
    begun: Instant,
    attempt: u32,
    result: Result<Next, Ended>,
    record: Option<TurnRecord>,
    /// Keeps other replicas from the key.
    held: Option<Held>,
    /// The version of what was written and is gone.
    lost: Option<String>,
    /// Nobody has waited until what was written was seen, or not for long enough: it may be gone before that.
    unsure: bool,
}

/// What a replica gains next, if it shares keys with others.
async fn next_of(gains: &mut Option<Gains>) -> Partitions {
    if let Some(gaining) = gains {
        if let Some(gained) = gaining.next().await {
            return gained;
        }
        // It has left its group.
        *gains = None;
    }
    pending().await
}

/// A term that is over, dropped or not, is followed by a wait for the next.
struct Waits<'a>(&'a Stage);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(Stage::WAITING);
    }
}

/// What a panic said.
fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
