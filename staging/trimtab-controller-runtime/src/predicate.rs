//! Predicates: which changes of a watched kind trigger anything.
//!
//! A predicate that drops a change drops a look at the key, not the change: the caches have it, and the next turn sees it.

use std::fmt;
use std::sync::Arc;

use trimtab_client_cache::{Cached, Delta};

type Matters<T> = dyn Fn(&Delta<T>) -> bool + Send + Sync;

/// Says which changes of `T`s matter. Made of [`Predicate::new`] or one of those below, and combined with [`Predicate::and`],
/// [`Predicate::or`] and [`Predicate::not`].
///
/// Those below ask about updates only: that an object has appeared or is gone always matters to them, as in
/// controller-runtime.
pub struct Predicate<T>(Arc<Matters<T>>);

impl<T: 'static> Predicate<T> {
    /// What matters is what the function says. It must be quick, and must not depend on what it was asked before.
    pub fn new(matters: impl Fn(&Delta<T>) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(matters))
    }

    /// Of updates, those that the function says of what was and what is.
    pub fn updates(matters: impl Fn(&Cached<T>, &Cached<T>) -> bool + Send + Sync + 'static) -> Self {
        Self::new(move |delta| match delta {
            Delta::Updated { old, new } => matters(old, new),
            _ => true,
        })
    }

    /// The spec has changed, as far as its generation tells. Kinds without generations, such as ConfigMaps, never change
    /// for this.
    pub fn generation() -> Self {
        Self::updates(|old, new| old.generation() != new.generation())
    }

    /// Anything has changed: nothing but a repetition, as of a resync, is dropped.
    pub fn resource_version() -> Self {
        Self::updates(|old, new| old.resource_version() != new.resource_version())
    }

    /// The labels have changed.
    pub fn labels() -> Self {
        Self::part(["metadata", "labels"])
    }

    /// The annotations have changed.
    pub fn annotations() -> Self {
        Self::part(["metadata", "annotations"])
    }

    /// What is at this path of names of fields has changed, for example `["status", "phase"]`.
    pub fn part<const N: usize>(path: [&'static str; N]) -> Self {
        Self::updates(move |old, new| !old.has_same(new, path))
    }

    /// More than the status has changed: the spec, by its generation, or the metadata that people and finalizers change. Any
    /// change of a kind without generations.
    pub fn beyond_status() -> Self {
        const WATCHED: [&str; 5] = [
            "labels",
            "annotations",
            "finalizers",
            "ownerReferences",
            "deletionTimestamp",
        ];
        Self::updates(|old, new| {
            old.generation() != new.generation()
                || new.generation().is_none()
                || WATCHED
                    .iter()
                    .any(|field| !old.has_same(new, ["metadata", field]))
        })
    }

    /// Both say so.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::new(move |delta| self.matters(delta) && other.matters(delta))
    }

    /// One of both says so.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::new(move |delta| self.matters(delta) || other.matters(delta))
    }

    /// It does not say so.
    #[must_use]
    #[allow(clippy::should_implement_trait)] // it reads as the others do
    pub fn not(self) -> Self {
        Self::new(move |delta| !self.matters(delta))
    }

    /// All of them say so; that is so of none.
    pub fn all(predicates: impl IntoIterator<Item = Self>) -> Self {
        let predicates: Vec<_> = predicates.into_iter().collect();
        Self::new(move |delta| predicates.iter().all(|predicate| predicate.matters(delta)))
    }

    /// One of them says so; of none, none does.
    pub fn any(predicates: impl IntoIterator<Item = Self>) -> Self {
        let predicates: Vec<_> = predicates.into_iter().collect();
        Self::new(move |delta| predicates.iter().any(|predicate| predicate.matters(delta)))
    }

    /// Whether the change matters.
    pub fn matters(&self, delta: &Delta<T>) -> bool {
        (self.0)(delta)
    }
}

impl<T> Clone for Predicate<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Predicate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Predicate").finish_non_exhaustive()
    }
}
