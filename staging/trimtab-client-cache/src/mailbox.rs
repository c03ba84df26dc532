//! What one handler still has to be told: at most one entry per object (*Bounded*), oldest first.
//!
//! The informer pushes deltas, the handler's task or stream takes them. While an entry waits, later deltas of its object
//! are merged into it: the entry keeps what the handler saw last, the deletion it has to hear of, and what is now.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use kube::Resource;
use parking_lot::Mutex;
use tokio::sync::watch;
use trimtab_apimachinery_meta::ObjectKey;

use crate::Delta;

pub(crate) struct Mailbox<K> {
    inner: Mutex<Inner<K>>,
    synced: watch::Sender<bool>,
}

struct Inner<K> {
    /// The keys of `pending`, each once, in the order in which they are handed out.
    order: VecDeque<Arc<ObjectKey>>,
    pending: HashMap<Arc<ObjectKey>, Entry<K>>,
    /// How many objects of the initial list wait or are in the handler's hands.
    initial_left: usize,
    /// Whether one of them is in its hands.
    initial_in_hand: bool,
    /// Whether the initial list has been pushed as a whole.
    listed: bool,
    closed: bool,
    waker: Option<Waker>,
}

struct Entry<K> {
    seen: Option<Arc<K>>,
    gone: Option<(Arc<K>, bool)>,
    now: Option<Arc<K>>,
    initial: bool,
}

impl<K: Resource> Mailbox<K> {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                order: VecDeque::new(),
                pending: HashMap::new(),
                initial_left: 0,
                initial_in_hand: false,
                listed: false,
                closed: false,
                waker: None,
            }),
            synced: watch::Sender::new(false),
        }
    }

    pub(crate) fn push<'a>(&self, deltas: impl IntoIterator<Item = &'a Delta<K>>)
    where
        K: 'a,
    {
        let mut inner = self.inner.lock();
        if inner.closed {
            return;
        }
        for delta in deltas {
            inner.merge(delta.clone());
        }
        inner.wake();
    }

    /// The initial list has been pushed: once it is handled, the handler is synced.
    pub(crate) fn listed(&self) {
        let mut inner = self.inner.lock();
        inner.listed = true;
        self.announce(&inner);
    }

    /// Lets the handler finish what is waiting, then end.
    pub(crate) fn finish(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.wake();
    }

    /// Drops what is waiting and ends the handler.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.order.clear();
        inner.pending.clear();
        inner.closed = true;
        inner.wake();
    }

    /// How many objects wait to be told of.
    pub(crate) fn backlog(&self) -> usize {
        self.inner.lock().order.len()
    }

    pub(crate) fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Takes the next delta. Asking for it says that the one before has been handled.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Delta<K>>> {
        let mut inner = self.inner.lock();
        if std::mem::take(&mut inner.initial_in_hand) {
            inner.initial_left -= 1;
            self.announce(&inner);
        }
        match inner.take() {
            Some(delta) => Poll::Ready(Some(delta)),
            None if inner.closed => Poll::Ready(None),
            None => {
                inner.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn announce(&self, inner: &Inner<K>) {
        if inner.listed && inner.initial_left == 0 {
            self.synced
                .send_if_modified(|synced| !std::mem::replace(synced, true));
        }
    }
}

impl<K: Resource> Inner<K> {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn merge(&mut self, delta: Delta<K>) {
        let key = Arc::new(delta.key());
        let entry = match self.pending.get_mut(&key) {
            Some(entry) => entry,
            None => {
                self.order.push_back(key.clone());
                self.pending.entry(key).or_insert(Entry {
                    seen: match &delta {
                        Delta::Added { .. } => None,
                        Delta::Updated { old, .. } => Some(old.clone()),
                        Delta::Deleted { last, .. } => Some(last.clone()),
                    },
                    gone: None,
                    now: None,
                    initial: false,
                })
            }
        };
        match delta {
            Delta::Added { object, initial } => {
                if initial && !entry.initial {
                    entry.initial = true;
                    self.initial_left += 1;
                }
                entry.now = Some(object);
            }
            Delta::Updated { new, .. } => entry.now = Some(new),
            Delta::Deleted { last, observed } => {
                entry.now = None;
                // The deletion of what the handler knows outranks those of objects which it never saw.
                if entry.gone.is_none() || entry.seen.is_none() {
                    entry.gone = Some((last, observed));
                }
            }
        }
    }

    fn take(&mut self) -> Option<Delta<K>> {
        let key = self.order.pop_front()?;
        let mut entry = self.pending.remove(&key)?;
        // With the first delta the handler has been told of the object of the initial list; one that has taken its name
        // since is not of that list.
        self.initial_in_hand = std::mem::take(&mut entry.initial);
        if let Some((last, observed)) = entry.gone.take() {
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
}
