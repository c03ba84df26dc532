//! What all objects have in common, read where it lies.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kube::core::ObjectMeta;
use serde::de::DeserializeOwned;
use trimtab_apimachinery_meta::ObjectKey;

use super::{Undecodable, Undecodables};
use crate::compact::Document;
use crate::compact::read::Reader;
use crate::compact::words::Words;

/// A look at one state of an object, of whatever type: at what all have, and at parts of it. Made by
/// [`Cached::any`](super::Cached::any).
#[derive(Clone, Copy)]
pub struct AnyObject<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) document: &'a Document,
    pub(super) common: &'a Common,
}

/// What the objects of one cache have in common, whatever their type.
pub(super) struct Common {
    /// For people.
    pub(super) kind: String,
    pub(super) words: Arc<Words>,
    pub(super) undecodable: Undecodables,
}

impl fmt::Debug for AnyObject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = &self.common.kind;
        write!(f, "{kind} {} at {}", self.key, self.resource_version())
    }
}

impl<'a> AnyObject<'a> {
    /// The object's namespace and name, empty where it has none.
    pub fn key(self) -> &'a ObjectKey {
        self.key
    }

    /// The object's UID; empty if it has none.
    pub fn uid(self) -> Cow<'a, str> {
        self.metadata("uid").and_then(Reader::text).unwrap_or_default()
    }

    /// The resource version of this state; empty if it has none.
    pub fn resource_version(self) -> Cow<'a, str> {
        self.metadata("resourceVersion")
            .and_then(Reader::text)
            .unwrap_or_default()
    }

    /// The generation, for objects that have one.
    pub fn generation(self) -> Option<i64> {
        self.metadata("generation")
            .and_then(Reader::number)?
            .try_into()
            .ok()
    }

    /// The value of a label.
    pub fn label(self, name: &str) -> Option<Cow<'a, str>> {
        self.find(["metadata", "labels", name])?.text()
    }

    /// The value of an annotation.
    pub fn annotation(self, name: &str) -> Option<Cow<'a, str>> {
        self.find(["metadata", "annotations", name])?.text()
    }

    /// Whether the object is being deleted, and waits for its finalizers.
    pub fn is_deleting(self) -> bool {
        self.metadata("deletionTimestamp").is_some_and(|at| !at.is_null())
    }

    /// The UIDs of the object's owners.
    pub fn owner_uids(self) -> Vec<Cow<'a, str>> {
        let mut uids = Vec::new();
        if let Some(owners) = self.metadata("ownerReferences") {
            let each = |owner: Reader<'_>| Some(owner.find(["uid"]).ok()??.text()?.into_owned());
            let read = owners.elements(|owner| uids.extend(each(owner).map(Cow::Owned)));
            debug_assert!(read.is_ok(), "{read:?}");
        }
        uids
    }

    /// The string at a path of names of fields and places in arrays, such as `["spec", "nodeName"]`. Nothing is decoded
    /// for it. `None` if there is no string.
    pub fn text<'p>(self, path: impl IntoIterator<Item = &'p str>) -> Option<Cow<'a, str>> {
        self.find(path)?.text()
    }

    /// Reads a part of the object, at a path as of [`AnyObject::text`], without decoding the rest. `None` if there is
    /// nothing.
    ///
    /// # Errors
    /// [`Undecodable`]: what is there is no `T`.
    pub fn read<'p, T: DeserializeOwned>(
        self,
        path: impl IntoIterator<Item = &'p str>,
    ) -> Result<Option<T>, Undecodable> {
        match self.find(path) {
            Some(mut part) if !part.is_null() => match T::deserialize(&mut part) {
                Ok(part) => Ok(Some(part)),
                Err(why) => Err(self.undecodable(&why)),
            },
            _ => Ok(None),
        }
    }

    /// The object's metadata, without decoding the rest.
    ///
    /// # Errors
    /// [`Undecodable`]: it is not what metadata looks like.
    pub fn meta(self) -> Result<ObjectMeta, Undecodable> {
        self.read(["metadata"]).map(Option::unwrap_or_default)
    }

    /// Whether this and another state have the same at a path as of [`AnyObject::text`]. Nothing is decoded for it.
    pub fn has_same<'p>(self, other: Self, path: impl IntoIterator<Item = &'p str> + Clone) -> bool {
        let part = |object: Self| object.find(path.clone()).map(|mut part| part.json().ok());
        part(self) == part(other)
    }

    /// The object as JSON, as the server sent it: with the same fields in the same order.
    pub fn to_json(self) -> String {
        let json = self.reader().json();
        debug_assert!(json.is_ok(), "{json:?}");
        json.unwrap_or_default()
    }

    pub(super) fn reader(self) -> Reader<'a> {
        Reader::new(self.document, &self.common.words)
    }

    pub(super) fn undecodable(self, why: &serde_json::Error) -> Undecodable {
        let undecodable = Undecodable {
            kind: self.common.kind.clone(),
            key: self.key.clone(),
            uid: self.uid().into_owned(),
            resource_version: self.resource_version().into_owned(),
            why: why.to_string(),
        };
        self.common.undecodable.0.fetch_add(1, Ordering::Relaxed);
        undecodable
    }

    /// What is wrong, which people are told of as well.
    pub(super) fn reported(self, why: &serde_json::Error) -> Undecodable {
        let undecodable = self.undecodable(why);
        tracing::warn!(kind = %undecodable.kind, key = %undecodable.key, resource_version = %undecodable.resource_version,
            error = %why, "an object cannot be decoded, until it changes");
        undecodable
    }

    fn find<'p>(self, path: impl IntoIterator<Item = &'p str>) -> Option<Reader<'a>> {
        self.reader().find(path).ok().flatten()
    }

    fn metadata(self, field: &str) -> Option<Reader<'a>> {
        self.find(["metadata", field])
    }
}
