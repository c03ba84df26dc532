//! Objects as they are in the store, answered without being made values of.
//!
//! A stored object differs from the one that is served in `kind` and `apiVersion`, which the path says, and in
//! `metadata.resourceVersion`, which the store knows. If nothing else has to be done to it, the answer is its bytes
//! with those put in.

mod render;
mod scan;

use std::borrow::Cow;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{KeyValue, Revision};

pub(crate) use self::render::Renderer;
use self::scan::Layout;

/// An object as it is stored.
#[derive(Debug)]
pub(crate) struct Item {
    /// Its key.
    pub(crate) key: Bytes,
    /// Its encoding; the store's own memory, not a copy.
    pub(crate) value: Bytes,
    /// The revision that last changed it.
    pub(crate) revision: Revision,
    /// Where its parts are; `None` if it has to be decoded.
    layout: Option<Layout>,
    /// The version of a custom resource for which it has been found out whether decoding changes it, and whether it does.
    known: Mutex<(Weak<Resource>, bool)>,
}

impl Item {
    /// An object that was read from the store.
    pub(crate) fn new(kv: KeyValue) -> Self {
        Self {
            layout: scan::scan(&kv.value),
            key: kv.key,
            value: kv.value,
            revision: kv.mod_revision,
            known: Mutex::default(),
        }
    }

    /// As it came from the store; when it was made is not known any more.
    pub(crate) fn to_key_value(&self) -> KeyValue {
        KeyValue {
            key: self.key.clone(),
            value: self.value.clone(),
            create_revision: self.revision,
            mod_revision: self.revision,
        }
    }

    /// Whether decoding it as of this version of a custom resource changes it, if that has been found out.
    pub(crate) fn changes_in(&self, resource: &Arc<Resource>) -> Option<bool> {
        let known = self.known.lock();
        // As long as there is the reference, nothing else is at that address.
        std::ptr::eq(known.0.as_ptr(), Arc::as_ptr(resource)).then_some(known.1)
    }

    /// Notes what [`Item::changes_in`] answers.
    pub(crate) fn note_changes_in(&self, resource: &Arc<Resource>, changes: bool) {
        *self.known.lock() = (Arc::downgrade(resource), changes);
    }

    /// Whether its bytes can be used; otherwise it has to be decoded.
    pub(crate) fn is_usual(&self) -> bool {
        self.layout.is_some()
    }

    /// Its labels; `None` if it has to be decoded to know them.
    pub(crate) fn labels(&self) -> Option<Labels<'_>> {
        let layout = self.layout.as_ref()?;
        Some(Labels(layout.labels.of(&self.value)))
    }

    /// An object that has of this one nothing but what is at these paths; `None` if it has to be decoded as a whole.
    pub(crate) fn parts(&self, paths: &[[String; 2]]) -> Option<Value> {
        self.layout?;
        scan::parts(&self.value, paths)
    }

    /// `metadata.name`; `None` if it has to be decoded to know.
    pub(crate) fn name(&self) -> Option<&str> {
        let layout = self.layout.as_ref()?;
        std::str::from_utf8(layout.name.of(&self.value)).ok()
    }

    /// `metadata.namespace`; `None` if it has to be decoded to know.
    pub(crate) fn namespace(&self) -> Option<&str> {
        let layout = self.layout.as_ref()?;
        std::str::from_utf8(layout.namespace.of(&self.value)).ok()
    }
}

/// The labels of an object, as JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Labels<'i>(&'i [u8]);

impl<'i> Labels<'i> {
    /// The value of a label, if it is there.
    pub(crate) fn get(&self, key: &str) -> Option<Cow<'i, str>> {
        scan::label(self.0, key)
    }
}
