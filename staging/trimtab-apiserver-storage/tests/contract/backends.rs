//! The backends under test, opened fresh.

use std::sync::Arc;

use tempfile::TempDir;
use trimtab_apiserver_storage::{Config, EmbeddedStore, MemoryStore, Store};

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Memory,
    Embedded,
}

pub(crate) const ALL: [Backend; 2] = [Backend::Memory, Backend::Embedded];

/// An open store with what it needs to stay.
pub(crate) struct Subject {
    pub(crate) store: Arc<dyn Store>,
    dir: Option<TempDir>,
    config: Config,
}

impl Backend {
    pub(crate) fn open(self, config: Config) -> Subject {
        let (store, dir): (Arc<dyn Store>, _) = match self {
            Self::Memory => (Arc::new(MemoryStore::new(config.clone())), None),
            Self::Embedded => {
                let dir = tempfile::tempdir().expect("a temporary directory");
                (
                    Arc::new(EmbeddedStore::open(dir.path(), config.clone()).expect("opens")),
                    Some(dir),
                )
            }
        };
        Subject { store, dir, config }
    }
}

impl Subject {
    /// Closes the store and opens it again, where that means anything.
    pub(crate) fn reopen(&mut self) {
        if let Some(dir) = &self.dir {
            self.store = Arc::new(MemoryStore::new(self.config.clone()));
            self.store = Arc::new(EmbeddedStore::open(dir.path(), self.config.clone()).expect("opens again"));
        }
    }
}
