//! Indexes: names by which objects of a store are found without looking at all of them.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use trimtab_apimachinery_meta::ObjectKey;

use crate::Object;
use crate::cached::{Cached, Untyped};

/// The built-in index by namespace.
pub const NAMESPACE: &str = "namespace";
/// The built-in index by the UIDs of an object's owners.
pub const OWNER_UID: &str = "owner-uid";
/// The index of [`Index::orphans`].
pub const ORPHANS: &str = "orphans";

type Values = Arc<dyn Fn(&Cached<Untyped>) -> Vec<String> + Send + Sync>;

/// A named function from an object to the values that it is found by: none, one or several.
///
/// The function must be pure and must not panic.
pub struct Index<K> {
    name: String,
    values: Values,
    /// Whether values are too dear to be asked for twice, because objects are decoded for them.
    dear: bool,
    of: PhantomData<fn() -> K>,
}

/// Why an index cannot be added or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Another index has this name. An index cannot be replaced: readers may rely on it.
    #[error("index {0:?} exists already")]
    Exists(String),
    /// No index has this name.
    #[error("index {0:?} does not exist")]
    Unknown(String),
}

impl<K: Object> Index<K> {
    /// Names an index function of whole objects. Each new state of an object is decoded once for it; an object that cannot
    /// be decoded has no values. Where a field or the metadata is enough, [`Index::by_field`] and [`Index::by`] cost less.
    pub fn new(name: impl Into<String>, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> Self {
        let values = move |object: &Cached<K>| match object.decode() {
            Ok(object) => values(&object),
            Err(_) => Vec::new(),
        };
        Self {
            dear: true,
            ..Self::by(name, values)
        }
    }
}

impl<K> Index<K> {
    /// Names an index function of what is at hand of cached objects without decoding them.
    pub fn by(
        name: impl Into<String>,
        values: impl Fn(&Cached<K>) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        let values = move |object: &Cached<Untyped>| values(&object.clone().cast());
        Index::of(name.into(), values).cast()
    }

    /// An index by a string in the objects, at a path as of [`Cached::text`], for example `["spec", "nodeName"]`.
    pub fn by_field<P: Into<String>>(name: impl Into<String>, path: impl IntoIterator<Item = P>) -> Self {
        Index::of_field(name.into(), path.into_iter().map(Into::into).collect()).cast()
    }

    /// The index of what no controller has, by namespace: where those who adopt by labels look. Under the name [`ORPHANS`].
    pub fn orphans() -> Self {
        let values = |object: &Cached<Untyped>| {
            let orphan = object.belonging().controller.is_none();
            orphan
                .then(|| object.namespace().to_owned())
                .into_iter()
                .collect()
        };
        Index::of(ORPHANS.to_owned(), values).cast()
    }

    pub(crate) fn cast<T>(self) -> Index<T> {
        let Self {
            name, values, dear, ..
        } = self;
        Index {
            name,
            values,
            dear,
            of: PhantomData,
        }
    }

    /// The index's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Index<Untyped> {
    fn of(name: String, values: impl Fn(&Cached<Untyped>) -> Vec<String> + Send + Sync + 'static) -> Self {
        Self {
            name,
            values: Arc::new(values),
            dear: false,
            of: PhantomData,
        }
    }

    fn of_field(name: String, path: Vec<String>) -> Self {
        Self::of(name, move |object| {
            let text = object.text(path.iter().map(String::as_str));
            text.map(std::borrow::Cow::into_owned).into_iter().collect()
        })
    }

    pub(crate) fn by_owner() -> Self {
        Self::of(OWNER_UID.to_owned(), |object| {
            object
                .owner_uids()
                .into_iter()
                .map(std::borrow::Cow::into_owned)
                .collect()
        })
    }
}

impl<K> Clone for Index<K> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            values: self.values.clone(),
            dear: self.dear,
            of: PhantomData,
        }
    }
}

impl<K> fmt::Debug for Index<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// An index with what it holds: by value, the keys of the objects that have it. No value's set is empty.
#[derive(Clone)]
pub(crate) struct Filled {
    index: Index<Untyped>,
    keys: HashMap<Arc<str>, BTreeSet<Arc<ObjectKey>>>,
    /// The values of each object, of a dear index.
    told: HashMap<Arc<ObjectKey>, Box<[Arc<str>]>>,
}

impl Filled {
    pub(crate) fn new(index: Index<Untyped>) -> Self {
        Self {
            index,
            keys: HashMap::new(),
            told: HashMap::new(),
        }
    }

    pub(crate) fn keys(&self, value: &str) -> impl Iterator<Item = &Arc<ObjectKey>> {
        self.keys.get(value).into_iter().flatten()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(|value| &**value)
    }

    /// Takes note that the object under `key` was `old` and is `new`.
    pub(crate) fn change(
        &mut self,
        key: &Arc<ObjectKey>,
        old: Option<&Cached<Untyped>>,
        new: Option<&Cached<Untyped>>,
    ) {
        let after: Vec<Arc<str>> = self.ask(new);
        let before = if self.index.dear {
            self.told.remove(key).unwrap_or_default().into_vec()
        } else {
            self.ask(old)
        };
        if before != after {
            for value in &before {
                if let Some(keys) = self.keys.get_mut(value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.keys.remove(value);
                    }
                }
            }
            for value in &after {
                self.keys.entry(value.clone()).or_default().insert(key.clone());
            }
        }
        if self.index.dear && !after.is_empty() {
            self.told.insert(key.clone(), after.into());
        }
    }

    fn ask(&self, object: Option<&Cached<Untyped>>) -> Vec<Arc<str>> {
        let values = object.map(&*self.index.values).unwrap_or_default();
        let known = |value: String| match self.keys.get_key_value(&*value) {
            Some((known, _)) => known.clone(),
            None => Arc::from(value),
        };
        values.into_iter().map(known).collect()
    }
}
