//! What is recorded of a run: what informers held, what their handlers were told, what happened on the wire.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::watch;
use trimtab::apimachinery::ObjectKey;

use crate::model::{Content, Mark, Model, Scope, View};

/// The number of an informer in a report.
pub(crate) type InformerId = usize;
/// The number of a handler in a report.
pub(crate) type HandlerId = usize;

/// Everything about a run that the validators look at.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    pub(crate) informers: Vec<InformerMeta>,
    pub(crate) entries: Vec<Entry>,
    /// What the server had, as one saw it whom nothing disturbed.
    pub(crate) model: Model,
    /// What writers were answered.
    pub(crate) acknowledged: Vec<(ObjectKey, Mark)>,
}

impl Report {
    /// How often each thing happened on the wire.
    pub(crate) fn on_the_wire(&self) -> BTreeMap<Wire, usize> {
        let mut counts = BTreeMap::new();
        for entry in &self.entries {
            if let What::Wire { wire, .. } = entry.what {
                *counts.entry(wire).or_default() += 1;
            }
        }
        counts
    }

    /// What happened, in numbers.
    pub(crate) fn summary(&self) -> String {
        let count = |is: fn(&What) -> bool| self.entries.iter().filter(|entry| is(&entry.what)).count();
        format!(
            "{} writes, {} informers, {} handlers told {} deltas and {} again, looked at {} times; on the wire {:?}",
            self.acknowledged.len(),
            self.informers.len(),
            count(|what| matches!(what, What::Joined { .. })),
            count(|what| matches!(what, What::Told(told) if told.kind != Kind::Resync)),
            count(|what| matches!(what, What::Told(told) if told.kind == Kind::Resync)),
            count(|what| matches!(what, What::Seen(_))),
            self.on_the_wire(),
        )
    }
}

/// What an informer is to see, and what it is called in reports.
#[derive(Clone, Debug)]
pub(crate) struct InformerMeta {
    pub(crate) name: String,
    pub(crate) scope: Scope,
    pub(crate) metadata_only: bool,
}

/// Something that happened to an informer.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// How many steps had been done.
    pub(crate) step: u64,
    pub(crate) informer: InformerId,
    pub(crate) what: What,
}

impl Entry {
    /// What happened, without what differs each time: UIDs, times, and the ends of the names of namespaces.
    pub(crate) fn outline(&self) -> String {
        let what = match &self.what {
            What::FirstList(view) => format!("first list of {}", view.len()),
            What::Joined { handler, listed } => {
                format!("{handler} joins, {:?}", listed.as_ref().map(View::len))
            }
            What::Told(told) => {
                let Told {
                    handler,
                    taking,
                    synced,
                    key,
                    mark,
                    ..
                } = told;
                format!(
                    "{handler} is told of {} at {}, {taking} {synced}",
                    key.name, mark.version
                )
            }
            What::Left(handler) => format!("{handler} leaves"),
            What::Seen(Seen {
                version, handlers, ..
            }) => format!("at {version}, {handlers:?}"),
            What::Wire { wire, .. } => format!("{wire:?}"),
            What::End { server, stored } => format!("{} and {} in the end", server.len(), stored.len()),
        };
        format!("step {}, informer {}: {what}", self.step, self.informer)
    }
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// The store has its first list, with these objects.
    FirstList(View),
    /// A handler joins. If the store has its first list already, the handler's is what the store has now.
    Joined {
        handler: HandlerId,
        listed: Option<View>,
    },
    /// A handler is told.
    Told(Told),
    /// A handler has left.
    Left(HandlerId),
    /// Somebody looks.
    Seen(Seen),
    /// A request was made, or something went wrong on the wire.
    Wire { wire: Wire, detail: String },
    /// All that was to come has come, and every handler has taken what there was for it.
    End {
        /// What the server has.
        server: BTreeMap<ObjectKey, Value>,
        /// What the store has.
        stored: BTreeMap<ObjectKey, Value>,
    },
}

/// What happened on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wire {
    /// A request was made.
    Asked,
    /// A connection was refused.
    Refused,
    /// A request was not answered.
    Mute,
    /// A request was refused.
    Answered,
    /// A later page of a list was refused, as of a list that is not known any more.
    PageExpired,
    /// An answer or a line came late.
    Delayed,
    /// A list of the past was given once more.
    OldList,
    /// A stream was cut.
    Cut,
    /// A body ended early, as if it were complete.
    Ended,
    /// A body stayed open without a word.
    Stalled,
    /// A stream told of an error, and ended.
    ErrorEvent,
    /// Lines of the past came once more.
    Again,
    /// What happened during a streamed list became part of it.
    Grown,
    /// The server ended a stream.
    EndedByServer,
}

impl Wire {
    /// All that can happen.
    pub(crate) const ALL: [Self; 14] = [
        Self::Asked,
        Self::Refused,
        Self::Mute,
        Self::Answered,
        Self::PageExpired,
        Self::Delayed,
        Self::OldList,
        Self::Cut,
        Self::Ended,
        Self::Stalled,
        Self::ErrorEvent,
        Self::Again,
        Self::Grown,
        Self::EndedByServer,
    ];
}

/// A delta, when its handler gets it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) handler: HandlerId,
    /// Deltas of one taking were taken in one go: nothing can have happened in between.
    pub(crate) taking: u64,
    /// Whether the handler counted as synced, with everything told before handled.
    pub(crate) synced: bool,
    pub(crate) key: ObjectKey,
    /// The newest state.
    pub(crate) mark: Mark,
    pub(crate) content: Content,
    pub(crate) kind: Kind,
    /// What the store has of the object at this moment.
    pub(crate) stored: Option<Mark>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Added {
        initial: bool,
    },
    Updated {
        old: Mark,
    },
    /// The same state again, as asked for.
    Resync,
    Deleted {
        observed: bool,
    },
}

/// What an informer looks like at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The store's version; 0 before the first list.
    pub(crate) version: u64,
    pub(crate) synced: bool,
    pub(crate) view: View,
    /// The same objects, found by an index.
    pub(crate) indexed: View,
    pub(crate) handlers: Vec<HandlerSeen>,
}

#[derive(Clone, Debug)]
pub(crate) struct HandlerSeen {
    pub(crate) handler: HandlerId,
    pub(crate) backlog: usize,
    pub(crate) synced: bool,
}

/// Where a run is recorded. Clones record the same run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    step: AtomicU64,
    takings: AtomicU64,
    entries: Mutex<Vec<Entry>>,
    acknowledged: Mutex<Vec<(ObjectKey, Mark)>>,
    changed: watch::Sender<()>,
}

impl Log {
    /// Begins the next step.
    pub(crate) fn step(&self) -> u64 {
        self.0.step.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Begins another taking.
    pub(crate) fn taking(&self) -> u64 {
        self.0.takings.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn note(&self, informer: InformerId, what: What) {
        let step = self.0.step.load(Ordering::Relaxed);
        lock(&self.0.entries).push(Entry { step, informer, what });
        self.0.changed.send_replace(());
    }

    /// A write was answered with this state.
    pub(crate) fn acknowledge(&self, key: ObjectKey, mark: Mark) {
        lock(&self.0.acknowledged).push((key, mark));
    }

    /// Says when something has been noted.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Takes what has been recorded.
    pub(crate) fn finish(&self) -> (Vec<Entry>, Vec<(ObjectKey, Mark)>) {
        let entries = std::mem::take(&mut *lock(&self.0.entries));
        (entries, std::mem::take(&mut *lock(&self.0.acknowledged)))
    }
}

/// Locks, also after a panic: what is recorded is only ever added to.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
