//! The objects of a store in the order of their keys: by namespace, then by name.
//!
//! Two levels, so that to find an object does not mean to compare its namespace, too, with that of each key on the way: of
//! keys that are scattered over memory each look is dear.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use trimtab_apimachinery_meta::ObjectKey;

use crate::cached::{Cached, Untyped};

#[derive(Clone)]
pub(super) struct Objects {
    /// None is empty.
    namespaces: BTreeMap<Box<str>, BTreeMap<Name, Cached<Untyped>>>,
    count: usize,
}

/// A key among those of one namespace, ordered by its name.
#[derive(Clone)]
struct Name(Arc<ObjectKey>);

impl Objects {
    pub(super) fn new() -> Self {
        Self {
            namespaces: BTreeMap::new(),
            count: 0,
        }
    }

    /// All of these, which are in order: built at once, they take no more than they need.
    pub(super) fn of_ordered(objects: impl IntoIterator<Item = (Arc<ObjectKey>, Cached<Untyped>)>) -> Self {
        let mut all = Self::new();
        let mut objects = objects.into_iter().peekable();
        while let Some((first, _)) = objects.peek() {
            let namespace: Box<str> = first.namespace.as_str().into();
            let here = std::iter::from_fn(|| objects.next_if(|(key, _)| *key.namespace == *namespace));
            let here: BTreeMap<_, _> = here.map(|(key, object)| (Name(key), object)).collect();
            all.count += here.len();
            let before = all.namespaces.insert(namespace, here);
            debug_assert!(before.is_none(), "in order");
        }
        all
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Cached<Untyped>> {
        self.namespaces.get(&*key.namespace)?.get(&*key.name)
    }

    /// The object with the copy of the key that is kept here.
    pub(super) fn get_with_key(&self, key: &ObjectKey) -> Option<(&Arc<ObjectKey>, &Cached<Untyped>)> {
        let (Name(key), object) = self.namespaces.get(&*key.namespace)?.get_key_value(&*key.name)?;
        Some((key, object))
    }

    /// Puts an object in the place of the one of the same key, if there is one, whose copy of the key stays.
    pub(super) fn insert(
        &mut self,
        key: &Arc<ObjectKey>,
        object: Cached<Untyped>,
    ) -> Option<Cached<Untyped>> {
        let name = Name(key.clone());
        let before = match self.namespaces.get_mut(&*key.namespace) {
            Some(here) => here.insert(name, object),
            None => {
                let here = BTreeMap::from([(name, object)]);
                self.namespaces.insert(key.namespace.as_str().into(), here);
                None
            }
        };
        self.count += usize::from(before.is_none());
        before
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<Cached<Untyped>> {
        let here = self.namespaces.get_mut(&*key.namespace)?;
        let object = here.remove(&*key.name)?;
        if here.is_empty() {
            self.namespaces.remove(&*key.namespace);
        }
        self.count -= 1;
        Some(object)
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.keys().map(|namespace| &**namespace)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<ObjectKey>, &Cached<Untyped>)> {
        let all = self.namespaces.values().flatten();
        all.map(|(Name(key), object)| (key, object))
    }

    pub(super) fn in_namespace(
        &self,
        namespace: &str,
    ) -> impl Iterator<Item = (&Arc<ObjectKey>, &Cached<Untyped>)> + use<'_> {
        let here = self.namespaces.get(namespace).into_iter().flatten();
        here.map(|(Name(key), object)| (key, object))
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name.cmp(&other.0.name)
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Name {}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::cached::{Codec, Form, Untyped};

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is put in and taken out, and whether all is built at once or one after the other.
        #[test]
        fn objects_are_as_in_one_ordered_map(
            changes in prop::collection::vec(("[ab]{0,2}", "[a-c]{1,2}", any::<bool>()), 0..60),
        ) {
            let mut codec = Codec::<ConfigMap>::new(&(), Form::default());
            let (mut objects, mut model) = (Objects::new(), BTreeMap::new());
            for (at, (namespace, name, is_there)) in changes.into_iter().enumerate() {
                let key = Arc::new(ObjectKey { namespace, name });
                let state = |object: Option<&Cached<Untyped>>| object.map(|object| object.resource_version().into_owned());
                let before = if is_there {
                    let meta = json!({"namespace": key.namespace, "name": key.name, "resourceVersion": at.to_string()});
                    let object = codec.encode_json(json!({"metadata": meta}).to_string().as_bytes()).unwrap().cast();
                    (objects.insert(&key, object.clone()), model.insert(key.clone(), object))
                } else {
                    (objects.remove(&key), model.remove(&key))
                };
                prop_assert_eq!(state(before.0.as_ref()), state(before.1.as_ref()));
                prop_assert_eq!(state(objects.get(&key)), state(model.get(&key)));
                let kept = objects.get_with_key(&key).map(|(kept, _)| kept);
                let expected = model.get_key_value(&key).map(|(kept, _)| kept);
                prop_assert!(kept.zip(expected).is_none_or(|(kept, expected)| Arc::ptr_eq(kept, expected)));
                let at_once = Objects::of_ordered(model.clone());
                for objects in [&objects, &at_once] {
                    prop_assert_eq!(objects.len(), model.len());
                    prop_assert!(objects.iter().map(|(key, _)| key).eq(model.keys()));
                    let mut namespaces: Vec<&str> = model.keys().map(|key| &*key.namespace).collect();
                    namespaces.dedup();
                    prop_assert!(objects.namespaces().eq(namespaces.iter().copied()));
                    let by_namespace = namespaces.iter().flat_map(|namespace| objects.in_namespace(namespace));
                    prop_assert!(by_namespace.map(|(key, _)| key).eq(model.keys()));
                }
            }
        }
    }
}
