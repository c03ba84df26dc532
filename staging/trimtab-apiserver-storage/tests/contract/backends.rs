//! The backends under test, opened fresh.

use std::sync::Arc;

use tempfile::TempDir;
use trimtab_apiserver_storage::{Config, EmbeddedStore, EtcdConfig, EtcdStore, MemoryStore, Store};

use crate::etcd::{self, Etcd, Settings};

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Memory,
    Embedded,
    /// On a real etcd of this version.
    Etcd(&'static str),
}

/// The backends within this process.
pub(crate) const OWN: [Backend; 2] = [Backend::Memory, Backend::Embedded];

/// All backends that this machine can run.
pub(crate) fn all() -> Vec<Backend> {
    let etcd = etcd::versions().into_iter().map(Backend::Etcd);
    OWN.into_iter().chain(etcd).collect()
}

/// An open store with what it needs to stay.
pub(crate) struct Subject {
    pub(crate) store: Arc<dyn Store>,
    below: Below,
    config: Config,
}

enum Below {
    Nothing,
    Dir(TempDir),
    Etcd(Box<Etcd>),
}

impl Backend {
    pub(crate) async fn open(self, config: Config) -> Subject {
        let below = match self {
            Self::Memory => Below::Nothing,
            Self::Embedded => Below::Dir(tempfile::tempdir().expect("a temporary directory")),
            Self::Etcd(version) => Below::Etcd(Box::new(Etcd::start(version, 1, Settings::default()))),
        };
        let store = open(&below, &config).await;
        Subject { store, below, config }
    }

    /// Whether progress that is asked for is reported at once: the etcd of 3.4 that is packaged is older than that.
    pub(crate) fn reports_progress(self) -> bool {
        self != Self::Etcd("3.4")
    }
}

async fn open(below: &Below, config: &Config) -> Arc<dyn Store> {
    match below {
        Below::Nothing => Arc::new(MemoryStore::new(config.clone())),
        Below::Dir(dir) => Arc::new(EmbeddedStore::open(dir.path(), config.clone()).expect("opens")),
        Below::Etcd(etcd) => Arc::new(connect(etcd, config).await),
    }
}

/// A store in a running etcd.
pub(crate) async fn connect(etcd: &Etcd, config: &Config) -> EtcdStore {
    let mut settings = EtcdConfig::new(etcd.urls());
    settings.compaction_interval = config.compaction_window;
    settings.progress_interval = config.progress_interval;
    EtcdStore::connect(settings).await.expect("connects")
}

impl Subject {
    /// Closes the store and opens it again, where that means anything: etcd itself is killed meanwhile.
    pub(crate) async fn reopen(&mut self) {
        match &mut self.below {
            Below::Nothing => return,
            Below::Dir(_) => self.store = Arc::new(MemoryStore::new(self.config.clone())),
            Below::Etcd(etcd) => {
                etcd.kill(0);
                etcd.restart(0);
            }
        }
        self.store = open(&self.below, &self.config).await;
    }
}
