//! What was true when: every state that the server's objects have had, by resource version.
//!
//! It is filled by [`crate::recorder`] from a watch that nothing disturbs, and asked by the validators.

use std::collections::BTreeMap;
use std::fmt;

use trimtab::apimachinery::ObjectKey;

/// What identifies a state of an object: the object's UID and the version of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) uid: String,
    pub(crate) version: u64,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.uid.get(..8).unwrap_or(&self.uid), self.version)
    }
}

/// By key, the states that somebody knows.
pub(crate) type View = BTreeMap<ObjectKey, Mark>;

/// The part of an object that the traffic writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// The label that selections look at.
    pub(crate) tier: Option<String>,
    /// The data; `None` of who asked for metadata alone.
    pub(crate) value: Option<String>,
}

/// A state of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) uid: String,
    pub(crate) content: Content,
}

/// Which values of the label a selection matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    Any,
    Is(&'static str),
    IsNot(&'static str),
}

/// Which objects an informer is to see.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// All, if empty.
    pub(crate) namespaces: Vec<String>,
    pub(crate) tier: Tier,
    /// The name of objects that a field selector leaves out.
    pub(crate) not_named: Option<&'static str>,
}

impl Scope {
    /// Everything.
    pub(crate) fn all() -> Self {
        Self {
            namespaces: Vec::new(),
            tier: Tier::Any,
            not_named: None,
        }
    }

    pub(crate) fn matches(&self, key: &ObjectKey, state: &State) -> bool {
        let tier = state.content.tier.as_deref();
        let labels = match self.tier {
            Tier::Any => true,
            Tier::Is(wanted) => tier == Some(wanted),
            Tier::IsNot(unwanted) => tier != Some(unwanted),
        };
        labels
            && (self.namespaces.is_empty() || self.namespaces.contains(&key.namespace))
            && self.not_named != Some(key.name.as_str())
    }

    /// The parts of the scope that are watched by themselves.
    pub(crate) fn parts(&self) -> Vec<Self> {
        let of = |namespace: &String| Self {
            namespaces: vec![namespace.clone()],
            ..self.clone()
        };
        match self.namespaces.len() {
            0 => vec![self.clone()],
            _ => self.namespaces.iter().map(of).collect(),
        }
    }
}

/// All states of all objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// Of each key its changes, in their order; `None` is a deletion.
    changes: BTreeMap<ObjectKey, Vec<(u64, Option<State>)>>,
    /// Everything up to here is known.
    pub(crate) version: u64,
}

impl Model {
    /// Notes a change. Changes come in the order of their versions; of what was there before the first of them, in any.
    ///
    /// # Errors
    /// The change is older than one of the same object that is known.
    pub(crate) fn note(&mut self, key: ObjectKey, version: u64, state: Option<State>) -> Result<(), String> {
        let changes = self.changes.entry(key.clone()).or_default();
        if changes.last().is_some_and(|(last, _)| *last >= version) {
            return Err(format!("{key} at {version} comes after {:?}", changes.last()));
        }
        changes.push((version, state));
        self.version = self.version.max(version);
        Ok(())
    }

    /// What matched at this version.
    pub(crate) fn at(&self, version: u64, scope: &Scope) -> View {
        let mut view = View::new();
        for (key, changes) in &self.changes {
            let seen = changes.partition_point(|(at, _)| *at <= version);
            let last = seen.checked_sub(1).and_then(|last| changes.get(last));
            if let Some((at, Some(state))) = last
                && scope.matches(key, state)
            {
                let mark = Mark {
                    uid: state.uid.clone(),
                    version: *at,
                };
                view.insert(key.clone(), mark);
            }
        }
        view
    }

    /// What a change of this version made of the object: `Some(None)` is a deletion, `None` no such change.
    pub(crate) fn change(&self, key: &ObjectKey, version: u64) -> Option<Option<&State>> {
        let changes = self.changes.get(key)?;
        let at = changes.binary_search_by_key(&version, |(at, _)| *at).ok()?;
        Some(changes[at].1.as_ref())
    }

    /// The versions after this one at which something in the scope has changed.
    pub(crate) fn versions_after(&self, version: u64, scope: &Scope) -> Vec<u64> {
        let in_scope =
            |key: &&ObjectKey| scope.namespaces.is_empty() || scope.namespaces.contains(&key.namespace);
        let keys = self.changes.keys().filter(in_scope);
        let changes = keys.filter_map(|key| self.changes.get(key)).flatten();
        let mut versions: Vec<_> = changes.map(|(at, _)| *at).filter(|at| *at > version).collect();
        versions.sort_unstable();
        versions
    }

    /// How many objects, by name, there have ever been.
    pub(crate) fn names(&self) -> usize {
        self.changes.len()
    }

    /// The changes of an object up to a version, in words, the last `most` of them.
    pub(crate) fn tell(&self, key: &ObjectKey, version: u64, most: usize) -> Vec<String> {
        let none = Vec::new();
        let changes = self.changes.get(key).unwrap_or(&none);
        let until = changes.partition_point(|(at, _)| *at <= version);
        let told = &changes[until.saturating_sub(most)..until];
        let words = |(at, state): &(u64, Option<State>)| match state {
            Some(state) => format!("{at}: {} {:?}", state.uid, state.content),
            None => format!("{at}: deleted"),
        };
        told.iter().map(words).collect()
    }
}
