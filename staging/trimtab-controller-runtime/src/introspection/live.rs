//! Everything that is shown of one process: its controllers, its informers, and facts that others tell.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use trimtab_client_cache::informer::InformerStatus;

use super::informers::InformerSnapshot;
use super::observed::{ControllerSnapshot, ControllerSummary, KeyView, Observed};
use super::snapshot::{KeyStatus, Listed};

/// What there is to be seen of a process. Clones show the same.
///
/// Nothing is copied before somebody looks, so that what is not looked at costs nothing. The functions that are given to
/// it are called without a lock being held.
#[derive(Clone)]
pub struct Introspection {
    inner: Arc<Inner>,
}

struct Inner {
    program: String,
    controllers: Mutex<Vec<Arc<Observed>>>,
    informers: Mutex<Vec<Source<InformerStatus>>>,
    facts: Mutex<Vec<(String, Source<Fact>)>>,
}

type Source<T> = Arc<dyn Fn() -> Vec<T> + Send + Sync>;

/// Something that is to be known beside controllers and informers, as who leads or which shards are held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fact {
    /// What it is about.
    pub label: String,
    /// How it is.
    pub value: String,
    /// Whether that is good.
    pub level: Level,
}

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Level {
    /// Neither good nor bad.
    #[default]
    Neutral,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Not as it should be.
    Bad,
}

/// Facts under one title.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FactGroup {
    /// The title.
    pub title: String,
    /// The facts, in the order in which they were told.
    pub facts: Vec<Fact>,
}

/// The controllers of a process, and its facts.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Overview {
    /// Facts that others tell.
    pub facts: Vec<FactGroup>,
    /// The controllers, in the order in which they were added.
    pub controllers: Vec<ControllerSummary>,
}

// === impl Introspection ===

impl Introspection {
    /// Nothing to be seen yet, of a program with this name.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            inner: Arc::new(Inner {
                program: program.into(),
                controllers: Mutex::default(),
                informers: Mutex::default(),
                facts: Mutex::default(),
            }),
        }
    }

    /// Shows a controller. It takes the place of one with the same name.
    pub fn controller(&self, controller: Observed) {
        let mut controllers = self.inner.controllers.lock();
        let controller = Arc::new(controller);
        match controllers
            .iter_mut()
            .find(|known| known.name() == controller.name())
        {
            Some(known) => *known = controller,
            None => controllers.push(controller),
        }
    }

    /// Shows informers: those that `statuses` tells of each time somebody looks, as
    /// [`InformerFactory::status`](trimtab_client_cache::informer::InformerFactory::status) does.
    pub fn informers(&self, statuses: impl Fn() -> Vec<InformerStatus> + Send + Sync + 'static) {
        self.inner.informers.lock().push(Arc::new(statuses));
    }

    /// Shows facts under a title: those that `facts` tells each time somebody looks. They take the place of those under
    /// the same title. A title without facts is not shown.
    pub fn facts(&self, title: impl Into<String>, facts: impl Fn() -> Vec<Fact> + Send + Sync + 'static) {
        let (title, facts): (String, Source<Fact>) = (title.into(), Arc::new(facts));
        let mut known = self.inner.facts.lock();
        match known.iter_mut().find(|(other, _)| *other == title) {
            Some((_, told)) => *told = facts,
            None => known.push((title, facts)),
        }
    }

    /// What the program is called.
    pub fn program(&self) -> &str {
        &self.inner.program
    }

    /// All controllers in short, and the facts.
    pub fn overview(&self) -> Overview {
        let facts = self.inner.facts.lock().clone();
        let group = |(title, facts): (String, Source<Fact>)| FactGroup {
            title,
            facts: facts(),
        };
        let controllers = self.inner.controllers.lock().clone();
        Overview {
            facts: facts
                .into_iter()
                .map(group)
                .filter(|group| !group.facts.is_empty())
                .collect(),
            controllers: controllers
                .iter()
                .map(|controller| controller.summary())
                .collect(),
        }
    }

    /// One controller with its keys, if there is one with this name.
    pub fn snapshot(&self, controller: &str) -> Option<ControllerSnapshot> {
        self.find(controller).map(|controller| controller.snapshot())
    }

    /// The keys of a controller whose text contains `search`: those that something happens to first, then the latest first.
    /// Keys are known while they wait, and as long as turns of them are kept.
    pub fn keys(&self, controller: &str, search: &str) -> Option<Listed<KeyStatus>> {
        self.find(controller).map(|controller| controller.keys(search))
    }

    /// One key of a controller: where it is, and its turns. A key of which nothing is known has no turns.
    pub fn key(&self, controller: &str, key: &str) -> Option<KeyView> {
        self.find(controller).map(|controller| controller.key(key))
    }

    /// The informers, ordered by kind.
    pub fn informer_snapshots(&self) -> Vec<InformerSnapshot> {
        let sources = self.inner.informers.lock().clone();
        let statuses = sources.iter().flat_map(|statuses| statuses());
        let mut snapshots: Vec<_> = statuses.map(|status| InformerSnapshot::from(&status)).collect();
        snapshots.sort_by(|a, b| (&a.kind, &a.selection).cmp(&(&b.kind, &b.selection)));
        snapshots
    }

    fn find(&self, name: &str) -> Option<Arc<Observed>> {
        let controllers = self.inner.controllers.lock();
        controllers
            .iter()
            .find(|controller| controller.name() == name)
            .cloned()
    }
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection")
            .field("program", &self.inner.program)
            .field("controllers", &*self.inner.controllers.lock())
            .finish_non_exhaustive()
    }
}

// === impl Fact ===

impl Fact {
    /// A fact that is neither good nor bad.
    pub fn new(label: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            value: value.into(),
            level: Level::Neutral,
        }
    }

    /// Says whether it is good.
    #[must_use]
    pub fn level(self, level: Level) -> Self {
        Self { level, ..self }
    }
}
