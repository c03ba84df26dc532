//! What one handler still has to be told: at most one entry per object (*Bounded*), oldest first.
//!
//! The informer pushes deltas, the handler's task or stream takes them. While an entry waits, later deltas of its object
//! are merged into it: the entry keeps what the handler saw last, the deletion it has to hear of, and what is now.
//!
//! The initial list is not pushed but walked: a list of pointers, which all handlers share who begin at the same moment. So
//! is the list of a resync.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::watch;
use trimtab_apimachinery_meta::ObjectKey;

use crate::Delta;
use crate::cached::{Cached, Untyped};
use crate::store::Store;

/// All objects at one moment, ordered by key.
pub(crate) type Everything = Arc<[Cached<Untyped>]>;

pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    synced: watch::Sender<bool>,
}

struct Inner {
    /// The initial list and how much of it has been told. What waits in `pending` comes after it.
    initial: Option<Walk>,
    /// The list of a resync and how much of it has been told. What waits in `pending` comes before it.
    resync: Option<Walk>,
    /// The keys of `pending`, each once, in the order in which they are handed out.
    order: VecDeque<Arc<ObjectKey>>,
    pending: HashMap<Arc<ObjectKey>, Entry>,
    /// How many of `pending` are also in what is left of the initial list. They are told of when their turn comes here.
    overlap: usize,
    /// How many of `pending` were passed over in the initial list.
    initial_left: usize,
    /// Whether an object of the initial list is in the handler's hands.
    initial_in_hand: bool,
    /// Whether the initial list is known.
    listed: bool,
    closed: bool,
    waker: Option<Waker>,
}

struct Walk {
    objects: Everything,
    told: usize,
}

struct Entry {
    seen: Option<Cached<Untyped>>,
    gone: Option<Cached<Untyped>>,
    /// Whether the server told of that deletion.
    observed: bool,
    now: Option<Cached<Untyped>>,
    /// Whether the initial list has been passed over for it.
    initial: bool,
}

/// From how many places on what is empty gives them back.
const LARGE: usize = 64;

impl Mailbox {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                initial: None,
                resync: None,
                order: VecDeque::new(),
                pending: HashMap::new(),
                overlap: 0,
                initial_left: 0,
                initial_in_hand: false,
                listed: false,
                closed: false,
                waker: None,
            }),
            synced: watch::Sender::new(false),
        }
    }

    /// Tells of the initial list, before anything else is pushed. Once it is handled, the handler is synced.
    pub(crate) fn begin(&self, objects: Everything) {
        let mut inner = self.inner.lock();
        if inner.closed || inner.listed {
            return;
        }
        inner.listed = true;
        inner.initial = Walk::of(objects);
        self.announce(&inner);
        inner.wake();
    }

    pub(crate) fn push(&self, deltas: &[Delta<Untyped>]) {
        let mut inner = self.inner.lock();
        if inner.closed {
            return;
        }
        for delta in deltas {
            inner.merge(delta.clone());
        }
        inner.wake();
    }

    /// Tells of all objects again, of each in the state that the handler knows; unless that is under way already.
    pub(crate) fn resync(&self, objects: Everything) {
        let mut inner = self.inner.lock();
        if inner.closed || inner.resync.is_some() || inner.initial.is_some() || !inner.listed {
            return;
        }
        inner.resync = Walk::of(objects);
        inner.wake();
    }

    /// Lets the handler finish what is waiting, then end.
    pub(crate) fn finish(&self) {
        let mut inner = self.inner.lock();
        inner.resync = None;
        inner.closed = true;
        inner.wake();
    }

    /// Drops what is waiting and ends the handler.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.initial = None;
        inner.resync = None;
        inner.order = VecDeque::new();
        inner.pending = HashMap::new();
        inner.overlap = 0;
        // Who left does not become synced any more.
        inner.listed = false;
        inner.closed = true;
        inner.wake();
    }

    /// How many objects wait to be told of.
    pub(crate) fn backlog(&self) -> usize {
        let inner = self.inner.lock();
        let initial = inner.initial.as_ref().map_or(0, Walk::left);
        initial + inner.order.len() - inner.overlap
    }

    pub(crate) fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Takes the next delta. Asking for it says that the one before has been handled. `store` is what the deltas are of.
    pub(crate) fn poll_next(
        &self,
        store: &Store<Untyped>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Delta<Untyped>>> {
        let mut inner = self.inner.lock();
        if std::mem::take(&mut inner.initial_in_hand) {
            self.announce(&inner);
        }
        if let Some(delta) = inner.take() {
            return Poll::Ready(Some(delta));
        }
        self.announce(&inner);
        while let Some(object) = inner.again() {
            // The lock order has the store before this.
            drop(inner);
            let now = store.get(object.key());
            inner = self.inner.lock();
            // Of what has changed since, the handler is told anyway, or has been.
            if now.is_some_and(|now| now.is(&object))
                && !inner.pending.contains_key(object.key())
                && !inner.closed
            {
                return Poll::Ready(Some(Delta::Updated {
                    old: object.clone(),
                    new: object,
                }));
            }
            if let Some(delta) = inner.take() {
                return Poll::Ready(Some(delta));
            }
        }
        if inner.closed {
            return Poll::Ready(None);
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn announce(&self, inner: &Inner) {
        if inner.listed && inner.initial.is_none() && inner.initial_left == 0 && !inner.initial_in_hand {
            self.synced
                .send_if_modified(|synced| !std::mem::replace(synced, true));
        }
    }
}

impl Walk {
    fn of(objects: Everything) -> Option<Self> {
        (!objects.is_empty()).then_some(Self { objects, told: 0 })
    }

    fn left(&self) -> usize {
        self.objects.len() - self.told
    }

    /// Whether an object of this name is still to be told of.
    fn has(&self, key: &ObjectKey) -> bool {
        let left = &self.objects[self.told..];
        left.binary_search_by(|object| object.key().cmp(key)).is_ok()
    }

    /// The next object, and whether it is the last.
    fn step(&mut self) -> Option<(Cached<Untyped>, bool)> {
        let object = self.objects.get(self.told)?.clone();
        self.told += 1;
        Some((object, self.left() == 0))
    }
}

impl Inner {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn merge(&mut self, delta: Delta<Untyped>) {
        let key = delta.object().shared_key();
        let entry = match self.pending.get_mut(key) {
            Some(entry) => entry,
            None => {
                self.order.push_back(key.clone());
                self.overlap += usize::from(self.initial.as_ref().is_some_and(|walk| walk.has(key)));
                self.pending.entry(key.clone()).or_insert(Entry {
                    seen: match &delta {
                        Delta::Added { .. } => None,
                        Delta::Updated { old, .. } => Some(old.clone()),
                        Delta::Deleted { last, .. } => Some(last.clone()),
                    },
                    gone: None,
                    observed: false,
                    now: None,
                    initial: false,
                })
            }
        };
        match delta {
            Delta::Added { object, .. } => entry.now = Some(object),
            Delta::Updated { new, .. } => entry.now = Some(new),
            Delta::Deleted { last, observed } => {
                entry.now = None;
                // The deletion of what the handler knows outranks those of objects which it never saw.
                if entry.gone.is_none() || entry.seen.is_none() {
                    (entry.gone, entry.observed) = (Some(last), observed);
                }
            }
        }
    }

    fn take(&mut self) -> Option<Delta<Untyped>> {
        while let Some(walk) = &mut self.initial {
            let step = walk.step();
            if step.as_ref().is_none_or(|(_, last)| *last) {
                self.initial = None;
            }
            let Some((object, _)) = step else { break };
            let Some(entry) = self.pending.get_mut(object.key()) else {
                self.initial_in_hand = true;
                return Some(Delta::Added {
                    object,
                    initial: true,
                });
            };
            // It has changed since: the handler need not hear of what was, but it never saw it either.
            entry.seen = None;
            entry.initial = true;
            self.overlap -= 1;
            self.initial_left += 1;
        }
        let key = self.order.pop_front()?;
        let mut entry = self.pending.remove(&key)?;
        if self.order.is_empty() && self.order.capacity() > LARGE {
            self.order = VecDeque::new();
            self.pending = HashMap::new();
        }
        // With the first delta the handler has been told of the object of the initial list; one that has taken its name
        // since is not of that list.
        if std::mem::take(&mut entry.initial) {
            self.initial_left -= 1;
            self.initial_in_hand = true;
        }
        if let Some(last) = entry.gone.take() {
            let observed = entry.observed;
            if entry.now.is_some() {
                entry.seen = None;
                self.order.push_front(key.clone());
                self.pending.insert(key, entry);
            }
            return Some(Delta::Deleted { last, observed });
        }
        let new = entry.now?;
        Some(match entry.seen {
            Some(old) => Delta::Updated { old, new },
            None => Delta::Added {
                object: new,
                initial: self.initial_in_hand,
            },
        })
    }

    /// The next object of the resync.
    fn again(&mut self) -> Option<Cached<Untyped>> {
        let (object, last) = self.resync.as_mut()?.step()?;
        if last {
            self.resync = None;
        }
        Some(object)
    }
}
