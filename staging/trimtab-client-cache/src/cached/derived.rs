//! What is made of a state and kept with it, and whose an object is.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use trimtab_apimachinery_meta::LabelSelector;

use super::Cached;

/// A list of values, of which no two have the same type.
#[derive(Default)]
pub(super) struct Derived(OnceLock<Box<(Arc<dyn Any + Send + Sync>, Derived)>>);

/// Whose an object is, and what it is labelled with: what selectors and owners are compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Belonging {
    /// The UID of its controller, if it has one.
    pub controller: Option<Box<str>>,
    /// Whether it is being deleted.
    pub deleting: bool,
    labels: Box<[(Box<str>, Box<str>)]>,
}

impl<K> Cached<K> {
    /// What `make` makes of this state: made when it is asked for first, and kept as long as the state is. For looks at many
    /// objects that are taken again and again, where few of them have changed; it should be small. One value is kept of each
    /// type, so `make` must be pure.
    pub fn derived<T: Any + Send + Sync>(&self, make: impl FnOnce(&Self) -> T) -> Arc<T> {
        let mut at = &self.0.derived;
        while let Some(link) = at.0.get() {
            if let Ok(found) = link.0.clone().downcast::<T>() {
                return found;
            }
            at = &link.1;
        }
        let made = Arc::new(make(self));
        // Who was faster keeps the place; the value is put behind it then.
        let mut link = Box::new((made.clone() as Arc<dyn Any + Send + Sync>, Derived::default()));
        while let Err(refused) = at.0.set(link) {
            link = refused;
            match at.0.get() {
                Some(before) => at = &before.1,
                None => break,
            }
        }
        made
    }

    /// Whose the object is, and its labels; kept as by [`Cached::derived`].
    pub fn belonging(&self) -> Arc<Belonging> {
        self.derived(|object| {
            #[derive(Deserialize)]
            struct Owner {
                uid: Box<str>,
                controller: Option<bool>,
            }
            let owners: Vec<Owner> = object
                .read(["metadata", "ownerReferences"])
                .ok()
                .flatten()
                .unwrap_or_default();
            let controller = owners.into_iter().find(|owner| owner.controller == Some(true));
            let labels: Option<BTreeMap<Box<str>, Box<str>>> =
                object.read(["metadata", "labels"]).ok().flatten();
            Belonging {
                controller: controller.map(|owner| owner.uid),
                deleting: object.is_deleting(),
                labels: labels.into_iter().flatten().collect(),
            }
        })
    }
}

// === impl Belonging ===

impl Belonging {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(key, _)| **key == *name);
        found.map(|(_, value)| &**value)
    }

    /// The labels, ordered by name.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether the labels match.
    pub fn is_selected_by(&self, selector: &LabelSelector) -> bool {
        selector.matches_with(|name| self.label(name))
    }
}
