//! The table of what is served: built-in resources, and those that CustomResourceDefinitions bring and take away.
//!
//! Readers take a snapshot without waiting; writers replace it. Whoever derives something from the table (discovery,
//! OpenAPI) learns of changes from [`ResourceTable::changes`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use trimtab_apiserver_kinds::resource::Resource;

use super::codec::Converter;
use crate::changes::{Changed, Changes};

/// The served versions of a resource, each with its number in the order of all.
type Versions = Vec<(u64, Arc<Resource>)>;

/// The table at one moment.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// By group and plural.
    by_name: HashMap<String, HashMap<String, Versions>>,
    /// Who converts the objects of a group and plural between versions, where that takes others.
    converters: HashMap<(String, String), Arc<dyn Converter>>,
    order: BTreeMap<u64, Arc<Resource>>,
    next: u64,
}

impl Resources {
    /// The resource of that group, version and plural name.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let versions = self.by_name.get(group)?.get(plural)?;
        let found = versions.iter().find(|(_, resource)| resource.version == version);
        found.map(|(_, resource)| resource)
    }

    /// The resource of that group, version and kind.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.iter()
            .find(|r| r.kind == kind && r.group == group && r.version == version)
    }

    /// The first served version of that group and resource.
    pub fn any_version(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        let versions = self.by_name.get(group)?.get(plural)?;
        let first = versions.iter().min_by_key(|(number, _)| *number);
        first.map(|(_, resource)| resource)
    }

    /// Who converts the objects of a resource between its versions, if that takes others.
    pub(crate) fn converter(&self, resource: &Resource) -> Option<Arc<dyn Converter>> {
        if !resource.custom || self.converters.is_empty() {
            return None;
        }
        let id = (resource.group.clone(), resource.plural.clone());
        self.converters.get(&id).cloned()
    }

    /// All resources, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.order.values()
    }

    fn insert(&mut self, resource: Arc<Resource>) {
        let of_group = self.by_name.entry(resource.group.clone()).or_default();
        let versions = of_group.entry(resource.plural.clone()).or_default();
        let number = match versions.iter_mut().find(|(_, r)| r.version == resource.version) {
            Some((number, there)) => {
                there.clone_from(&resource);
                *number
            }
            None => {
                versions.push((self.next, resource.clone()));
                self.next += 1;
                self.next - 1
            }
        };
        self.order.insert(number, resource);
    }

    /// Removes the versions of a resource that are not to be kept.
    fn retain(&mut self, group: &str, plural: &str, kept: impl Fn(&Resource) -> bool) {
        let Some(of_group) = self.by_name.get_mut(group) else {
            return;
        };
        let Some(versions) = of_group.get_mut(plural) else {
            return;
        };
        versions.retain(|(number, resource)| {
            let kept = kept(resource);
            if !kept {
                self.order.remove(number);
            }
            kept
        });
        if versions.is_empty() {
            of_group.remove(plural);
        }
        if of_group.is_empty() {
            self.by_name.remove(group);
        }
    }
}

/// The table of served resources.
#[derive(Debug)]
pub struct ResourceTable {
    current: ArcSwap<Resources>,
    writing: Mutex<()>,
    changed: Changed,
}

impl ResourceTable {
    /// A table of these resources.
    pub fn new(resources: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let mut table = Resources::default();
        for resource in resources {
            table.insert(resource);
        }
        Self {
            current: ArcSwap::from_pointee(table),
            writing: Mutex::new(()),
            changed: Changed::default(),
        }
    }

    /// The table as it is now.
    pub fn snapshot(&self) -> Arc<Resources> {
        self.current.load_full()
    }

    /// The resource of that group, version and plural name, as it is now.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.current.load().get(group, version, plural).cloned()
    }

    /// Adds resources, or replaces them, all at once.
    pub fn add(&self, resources: impl IntoIterator<Item = Arc<Resource>>) {
        self.change(|table| resources.into_iter().for_each(|r| table.insert(r)));
    }

    /// Removes every version of a resource; watches of it end.
    pub fn remove(&self, group: &str, plural: &str) {
        self.change(|table| {
            table.retain(group, plural, |_| false);
            table.converters.remove(&(group.to_owned(), plural.to_owned()));
        });
    }

    /// Replaces every version of a resource by these, at once; `converter` converts between them if that takes others.
    pub(crate) fn replace(
        &self,
        group: &str,
        plural: &str,
        resources: impl IntoIterator<Item = Arc<Resource>>,
        converter: Option<Arc<dyn Converter>>,
    ) {
        self.change(|table| {
            let of = (group.to_owned(), plural.to_owned());
            match converter {
                Some(converter) => drop(table.converters.insert(of, converter)),
                None => drop(table.converters.remove(&of)),
            }
            let new: Vec<Arc<Resource>> = resources.into_iter().collect();
            table.retain(group, plural, |old| new.iter().any(|r| r.version == old.version));
            new.into_iter().for_each(|r| table.insert(r));
        });
    }

    fn change(&self, change: impl FnOnce(&mut Resources)) {
        let _one_at_a_time = self.writing.lock();
        let mut next = Resources::clone(&self.current.load());
        change(&mut next);
        self.current.store(Arc::new(next));
        self.changed.tell();
    }

    /// Tells of changes from now on: wait for one, then take a new snapshot.
    pub fn changes(&self) -> Changes {
        self.changed.changes()
    }
}
