//! Which objects an informer watches, and what it keeps of them.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::cached::Form;
use crate::projection::{Projection, Transform};

/// The annotation in which `kubectl apply` without `--server-side` keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Which objects of a kind to watch, and what to keep of them. The default is all of all of them, in the compact form.
///
/// Who asks a factory for equal selections shares one watch and one cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    namespaces: BTreeSet<String>,
    pub(crate) labels: String,
    pub(crate) fields: String,
    pub(crate) shard: String,
    pub(crate) projection: Projection,
}

impl Selection {
    /// All objects of the kind.
    pub fn all() -> Self {
        Self::default()
    }

    /// The objects of one namespace.
    pub fn in_namespace(namespace: impl Into<String>) -> Self {
        Self::in_namespaces([namespace])
    }

    /// The objects of these namespaces; of all, if there are none here. Each namespace is watched by itself, so that no
    /// rights are needed in others, and the informer is synced when all of them are listed.
    pub fn in_namespaces<N: Into<String>>(namespaces: impl IntoIterator<Item = N>) -> Self {
        Self {
            namespaces: namespaces.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Of these, the objects whose labels match this selector, as `kubectl get -l` takes it.
    #[must_use]
    pub fn labels(self, selector: impl Into<String>) -> Self {
        Self {
            labels: selector.into(),
            ..self
        }
    }

    /// Of these, the objects whose fields match this selector, as `kubectl get --field-selector` takes it.
    #[must_use]
    pub fn fields(self, selector: impl Into<String>) -> Self {
        Self {
            fields: selector.into(),
            ..self
        }
    }

    /// Of these, the objects of one shard, as the server's `shardSelector` takes it (KEP-5866), for example
    /// `shardRange(object.metadata.uid, '0x0000000000000000', '0x8000000000000000')`. A server that does not say that it
    /// has sharded its list is not believed to have: the informer then says so as its trouble and does not sync, since it
    /// would do the work of all shards.
    #[must_use]
    pub fn shard(self, selector: impl Into<String>) -> Self {
        Self {
            shard: selector.into(),
            ..self
        }
    }

    /// All objects of the kind, of which the same is kept.
    #[must_use]
    pub fn without_filters(self) -> Self {
        Self {
            projection: self.projection,
            ..Self::default()
        }
    }

    /// Keeps the objects in this form.
    #[must_use]
    pub fn form(mut self, form: Form) -> Self {
        self.projection.form = form;
        self
    }

    /// Leaves out what is at this path of names of fields in each object, for example `["spec", "template"]`. Elements of
    /// arrays cannot be named. What identifies an object, its namespace, name, UID and resource version, is always kept.
    #[must_use]
    pub fn without<N: Into<String>>(mut self, path: impl IntoIterator<Item = N>) -> Self {
        let dropped = &mut self.projection.dropped;
        dropped.push(path.into_iter().map(Into::into).collect());
        dropped.sort_unstable();
        dropped.dedup();
        self
    }

    /// Leaves out what tools write about their work: managed fields, and the annotation of `kubectl apply` with all that
    /// was applied. Never write back a whole object that lacks them.
    #[must_use]
    pub fn without_bookkeeping(self) -> Self {
        self.without(["metadata", "managedFields"])
            .without(["metadata", "annotations", LAST_APPLIED])
    }

    /// Changes each object before it is stored. What identifies an object stays whatever the change does; an object on
    /// which it panics is skipped and reported.
    ///
    /// The name says which transforms are the same, for those who share informers: it must differ where they do. This reads
    /// every object one more time; [`Selection::without`] costs nothing.
    #[must_use]
    pub fn transform(
        mut self,
        name: impl Into<String>,
        change: impl Fn(&mut Value) + Send + Sync + 'static,
    ) -> Self {
        self.projection.transform = Some(Transform::new(name.into(), change));
        self
    }

    /// Whether who watches this has all metadata of `other`: of the same objects at least all that is kept there, as the
    /// server sent it, also of those that are not of their type, which the typed form skips.
    pub(crate) fn has_metadata_of(&self, other: &Self) -> bool {
        let of_same_objects = (&self.namespaces, &self.labels, &self.fields, &self.shard)
            == (&other.namespaces, &other.labels, &other.fields, &other.shard);
        let is_left_out = |path: &Vec<String>| {
            let of_metadata = path.first().is_none_or(|field| field == "metadata");
            let mut dropped = other.projection.dropped.iter();
            !of_metadata || dropped.any(|dropped| path.starts_with(dropped))
        };
        of_same_objects
            && self.projection.form != Form::Typed
            && self.projection.transform == other.projection.transform
            && self.projection.dropped.iter().all(is_left_out)
    }

    /// The namespaces that are watched, in order; none for all.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.iter().map(String::as_str)
    }
}

/// Says it for people: which objects, and what is kept of them where that is not everything.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespaces: Vec<&str> = self.namespaces().collect();
        match namespaces[..] {
            [] => f.write_str("all")?,
            [namespace] => write!(f, "namespace {namespace}")?,
            _ => write!(f, "namespaces {}", namespaces.join(", "))?,
        }
        let selectors = [
            ("labels", &self.labels),
            ("fields", &self.fields),
            ("shard", &self.shard),
        ];
        for (what, selector) in selectors.into_iter().filter(|(_, selector)| !selector.is_empty()) {
            write!(f, "; {what} {selector}")?;
        }
        self.projection.fmt(f)
    }
}
