//! The state with its watchers: where commits become visible, to readers and watchers alike, at one moment.

use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::task::AtomicWaker;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::config::Config;
use crate::contract::{Error, RangeRequest, RangeResponse, Result, Revision, WatchBatch, WatchRequest};
use crate::state::{Commit, State, in_range};

/// At most this many changes go into one batch, give or take the last revision's.
const BATCH_EVENTS: usize = 1000;

/// A state that many read, one writes and some watch.
///
/// Lock order: `state`, then `watchers`, then a watcher's `slot`.
#[derive(Debug)]
pub(crate) struct Shared {
    state: RwLock<State>,
    watchers: Mutex<Vec<Arc<Watcher>>>,
    /// Told when an earlier expiry has come up.
    pub(crate) expiry_changed: Notify,
    pub(crate) config: Config,
}

/// What the publisher and one watch share.
#[derive(Debug)]
struct Watcher {
    start: Bytes,
    end: Bound<Bytes>,
    from: Revision,
    slot: Mutex<Slot>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Slot {
    /// The first revision with something for this watch that it has not had.
    pending: Option<Revision>,
    /// It should say how far it is, even if there is nothing to deliver.
    progress: bool,
    closed: bool,
}

impl Shared {
    pub(crate) fn new(state: State, config: Config) -> Arc<Self> {
        Arc::new(Self {
            state: RwLock::new(state),
            watchers: Mutex::new(Vec::new()),
            expiry_changed: Notify::new(),
            config,
        })
    }

    /// Reads the state, which must be short work.
    pub(crate) fn read<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        f(&self.state.read())
    }

    /// Changes the state in ways that watchers do not see.
    pub(crate) fn write<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.write())
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        self.state.read().range(request)
    }

    /// Makes commits visible.
    pub(crate) fn publish(&self, commits: impl IntoIterator<Item = Arc<Commit>>) {
        self.update(|_| ((), commits));
    }

    /// Decides on commits while nobody else can change the state, and makes them visible.
    pub(crate) fn update<T, I>(&self, f: impl FnOnce(&State) -> (T, I)) -> T
    where
        I: IntoIterator<Item = Arc<Commit>>,
    {
        let mut state = self.state.write();
        let expiry = state.next_expiry();
        let (answer, commits) = f(&state);
        let watchers = self.watchers.lock();
        let mut awake: Vec<Arc<Watcher>> = Vec::new();
        for commit in commits {
            for watcher in watchers.iter().filter(|w| w.wants(&commit)) {
                let mut slot = watcher.slot.lock();
                if slot.pending.is_none() {
                    slot.pending = Some(commit.revision);
                    awake.push(watcher.clone());
                }
            }
            state.apply(commit);
        }
        drop(watchers);
        let sooner = match (state.next_expiry(), expiry) {
            (Some(now), Some(before)) => now < before,
            (now, _) => now.is_some(),
        };
        drop(state);
        if sooner {
            self.expiry_changed.notify_one();
        }
        awake.iter().for_each(|w| w.waker.wake());
        answer
    }

    /// Has each watch that is behind the current revision say so.
    pub(crate) fn progress(&self) {
        self.poke(|slot| slot.progress = true);
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        self.poke(|slot| slot.closed = true);
    }

    fn poke(&self, f: impl Fn(&mut Slot)) {
        let watchers = self.watchers.lock().clone();
        for watcher in watchers {
            f(&mut watcher.slot.lock());
            watcher.waker.wake();
        }
    }

    pub(crate) fn watch(self: &Arc<Self>, request: WatchRequest) -> Result<Watch> {
        let state = self.state.read();
        let current = state.revision();
        let from = request.from.unwrap_or(current + 1);
        if from < state.oldest() {
            return Err(Error::Compacted {
                oldest: state.oldest(),
            });
        }
        let pending = (from <= current).then_some(from);
        let slot = Mutex::new(Slot {
            pending,
            ..Slot::default()
        });
        let WatchRequest { start, end, .. } = request;
        let watcher = Arc::new(Watcher {
            start,
            end,
            from,
            slot,
            waker: AtomicWaker::new(),
        });
        self.watchers.lock().push(watcher.clone());
        drop(state);
        let delivered = from.saturating_sub(1).min(current);
        Ok(Watch {
            shared: self.clone(),
            watcher,
            delivered,
            caught_up: pending.is_none(),
            ended: false,
        })
    }
}

impl Watcher {
    fn wants(&self, commit: &Commit) -> bool {
        commit.revision >= self.from
            && commit
                .changes
                .iter()
                .any(|c| in_range(&c.event.kv.key, &self.start, &self.end))
    }
}

/// A running watch. It holds no events of its own: it reads them from the state's history when it is polled.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    watcher: Arc<Watcher>,
    /// Everything up to here has been delivered.
    delivered: Revision,
    /// Whether there was a moment when nothing was left to deliver; before that no lag is counted.
    caught_up: bool,
    ended: bool,
}

impl Watch {
    fn next_batch(&mut self) -> Option<Result<WatchBatch>> {
        {
            let slot = self.watcher.slot.lock();
            if slot.pending.is_none() && !slot.progress && !slot.closed {
                return None;
            }
        }
        let state = self.shared.state.read();
        let mut slot = self.watcher.slot.lock();
        let Some(first) = slot.pending else {
            if slot.closed {
                return Some(Err(Error::Closed));
            }
            slot.progress = false;
            if self.delivered >= state.revision() || self.watcher.from > state.revision() {
                return None;
            }
            self.delivered = state.revision();
            return Some(Ok(WatchBatch {
                events: Vec::new(),
                revision: self.delivered,
            }));
        };
        let lag = state.revision() - first;
        if first < state.oldest() || (self.caught_up && lag >= self.shared.config.max_watch_lag) {
            return Some(Err(Error::Lagged { last: first - 1 }));
        }
        let mut events = Vec::new();
        let mut revision = state.revision();
        slot.pending = None;
        for commit in state.commits_from(first) {
            if events.len() >= BATCH_EVENTS {
                slot.pending = Some(commit.revision);
                revision = commit.revision - 1;
                break;
            }
            let wanted = commit
                .changes
                .iter()
                .filter(|c| in_range(&c.event.kv.key, &self.watcher.start, &self.watcher.end));
            events.extend(wanted.map(|c| c.event.clone()));
        }
        self.caught_up |= slot.pending.is_none();
        self.delivered = revision;
        Some(Ok(WatchBatch { events, revision }))
    }
}

impl Stream for Watch {
    type Item = Result<WatchBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.watcher.waker.register(cx.waker());
        match self.next_batch() {
            None => Poll::Pending,
            Some(batch) => {
                self.ended = batch.is_err();
                Poll::Ready(Some(batch))
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared
            .watchers
            .lock()
            .retain(|w| !Arc::ptr_eq(w, &self.watcher));
    }
}
