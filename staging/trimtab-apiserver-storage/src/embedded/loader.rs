//! Builds the index from the rows on disk, in the order of their revisions, with doubt.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::format::Row;
use crate::contract::{Event, EventKind, KeyValue, Revision};
use crate::state::{Change, Commit, Garbage, Millis, State};

/// Takes rows in the order of their revisions.
#[derive(Debug)]
pub(super) struct Loader {
    /// The revision that the store began with.
    start: Revision,
    /// The oldest one that can be read.
    oldest: Revision,
    /// The keys as they were just before `oldest`.
    base: HashMap<Bytes, (KeyValue, Option<Millis>)>,
    garbage: Vec<Garbage>,
    /// Built when the first row at or above `oldest` comes.
    state: Option<State>,
    /// The changes of the revision that is being read.
    changes: Vec<Change>,
}

impl Loader {
    /// For a store that began at revision `start` and was compacted to `oldest`.
    pub(super) fn new(start: Revision, oldest: Revision) -> Self {
        Self {
            start,
            oldest: oldest.max(start),
            base: HashMap::new(),
            garbage: Vec::new(),
            state: None,
            changes: Vec::new(),
        }
    }

    /// Takes the next row.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for people.
    pub(super) fn row(&mut self, row: Row) -> Result<(), String> {
        if row.revision < self.oldest || row.revision <= self.start {
            return self.base_row(row);
        }
        if self
            .changes
            .first()
            .is_some_and(|c| c.event.kv.mod_revision != row.revision)
        {
            self.commit()?;
        }
        let prev = self.state().get(&row.key);
        if row.create_revision < row.revision && prev.is_none() {
            return Err(format!(
                "a key that is changed at revision {} is missing before it",
                row.revision
            ));
        }
        let kv = KeyValue {
            key: row.key,
            value: row.value,
            create_revision: row.create_revision,
            mod_revision: row.revision,
        };
        self.changes.push(Change {
            event: Event {
                kind: row.kind,
                kv,
                prev,
            },
            expires: row.expires,
        });
        Ok(())
    }

    fn base_row(&mut self, row: Row) -> Result<(), String> {
        let Row {
            revision,
            key,
            kind,
            create_revision,
            expires,
            value,
        } = row;
        let kv = KeyValue {
            key: key.clone(),
            value,
            create_revision,
            mod_revision: revision,
        };
        let old = match kind {
            EventKind::Put => self.base.insert(key.clone(), (kv, expires)),
            EventKind::Delete => self.base.remove(&key),
        };
        // In the order in which it may be removed: a deletion goes after what it has deleted.
        self.garbage.extend(old.map(|(kv, _)| Garbage {
            revision: kv.mod_revision,
            key: key.clone(),
        }));
        if kind == EventKind::Delete {
            self.garbage.push(Garbage { revision, key });
        }
        Ok(())
    }

    fn state(&mut self) -> &mut State {
        let (start, oldest, base) = (self.start, self.oldest, &mut self.base);
        self.state.get_or_insert_with(|| {
            let mut state = State::starting_at(start, oldest);
            for (_, (kv, expires)) in base.drain() {
                state.load(kv, expires);
            }
            state
        })
    }

    fn commit(&mut self) -> Result<(), String> {
        let changes = std::mem::take(&mut self.changes);
        let Some(revision) = changes.first().map(|c| c.event.kv.mod_revision) else {
            return Ok(());
        };
        let state = self.state();
        if revision != state.revision() + 1 {
            return Err(format!("revision {} is missing", state.revision() + 1));
        }
        state.apply(Arc::new(Commit { revision, changes }));
        Ok(())
    }

    /// The state, and the rows that nobody needs, in the order in which they may be removed.
    ///
    /// # Errors
    ///
    /// What is missing, for people.
    pub(super) fn finish(mut self) -> Result<(State, Vec<Garbage>), String> {
        self.commit()?;
        let oldest = self.oldest;
        let state = self.state();
        if state.revision() < oldest {
            return Err(format!("revision {oldest} is missing"));
        }
        state.settle();
        Ok((std::mem::take(state), self.garbage))
    }
}
