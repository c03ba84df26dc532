//! The discovery documents themselves, as values.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Map, Value, json};
use trimtab_apiserver_kinds::resource::{Resource, Subresource};

use crate::extensions::Picture;
use crate::registry::Resources;

/// A group with its versions, the preferred one first.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) versions: Vec<String>,
}

/// The group of APIServices, which comes before all others: nobody registers it, and it is to be found whatever they do.
const REGISTRATION: &str = "apiregistration.k8s.io";

/// All groups: in the order that the picture has, and then those that it does not know.
pub(super) fn groups(table: &Resources, picture: Option<&Picture>) -> Vec<Group> {
    let mut own = own_groups(table);
    let Some(picture) = picture.filter(|picture| !picture.groups().is_empty()) else {
        return own;
    };
    let mut groups: Vec<Group> = Vec::new();
    if let Some(at) = own.iter().position(|group| group.name == REGISTRATION) {
        groups.push(own.remove(at));
    }
    for named in picture.groups() {
        let at = own.iter().position(|group| group.name == named.name);
        let mut of_table = at.map(|at| own.remove(at).versions).unwrap_or_default();
        let mut versions: Vec<String> = Vec::new();
        for version in &named.versions {
            let there = of_table.iter().position(|name| *name == version.name);
            there.map(|at| of_table.remove(at));
            if there.is_some() || version.elsewhere.is_some() {
                versions.push(version.name.clone());
            }
        }
        versions.append(&mut of_table);
        if !versions.is_empty() {
            groups.push(Group {
                name: named.name.clone(),
                versions,
            });
        }
    }
    groups.append(&mut own);
    groups
}

/// The groups of the table in the order in which their first resource came.
fn own_groups(table: &Resources) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for resource in table.iter() {
        let group = match groups.iter_mut().find(|g| g.name == resource.group) {
            Some(group) => group,
            None => {
                groups.push(Group {
                    name: resource.group.clone(),
                    versions: Vec::new(),
                });
                let Some(last) = groups.last_mut() else { continue };
                last
            }
        };
        if !group.versions.contains(&resource.version) {
            group.versions.push(resource.version.clone());
        }
    }
    for group in &mut groups {
        group.versions.sort_by_key(|v| std::cmp::Reverse(priority(v)));
    }
    groups
}

/// How versions rank: stable before beta before alpha, later before earlier, anything else last and by name.
pub fn priority(version: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let other = (0, 0, 0, std::cmp::Reverse(version.to_owned()));
    let Some(rest) = version.strip_prefix('v') else {
        return other;
    };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let Ok(major) = major.parse::<u64>() else {
        return other;
    };
    let none = std::cmp::Reverse(String::new());
    for (rank, word) in [(2, "beta"), (1, "alpha")] {
        if let Some(Ok(minor)) = rest.strip_prefix(word).map(str::parse::<u64>) {
            return (rank, major, minor, none);
        }
    }
    if rest.is_empty() {
        (3, major, 0, none)
    } else {
        other
    }
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// One entry of `/apis`.
pub(super) fn group(group: &Group) -> Value {
    let version = |v: &String| json!({"groupVersion": group_version(&group.name, v), "version": v});
    let versions: Vec<Value> = group.versions.iter().map(version).collect();
    json!({"name": group.name, "versions": versions, "preferredVersion": versions.first()})
}

/// The document of one version; `None` when nothing of it is served.
pub(super) fn resources(table: &Resources, group: &str, version: &str) -> Option<Value> {
    let mut of_version: Vec<_> = table
        .iter()
        .filter(|r| r.group == group && r.version == version)
        .collect();
    of_version.sort_by(|a, b| a.plural.cmp(&b.plural));
    if of_version.is_empty() {
        return None;
    }
    let mut entries = Vec::new();
    for resource in of_version {
        if !resource.verbs.is_empty() {
            entries.push(entry(resource));
        }
        for subresource in &resource.subresources {
            entries.push(sub_entry(resource, subresource));
        }
    }
    let mut document = json!({"kind": "APIResourceList", "groupVersion": group_version(group, version), "resources": entries});
    if !group.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    Some(document)
}

fn entry(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced(),
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    add_lists(&mut entry, resource);
    if resource.verbs.iter().any(|v| v == "list") {
        entry["storageVersionHash"] = storage_hash(resource).into();
    }
    entry
}

fn add_lists(entry: &mut Value, resource: &Resource) {
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
}

fn sub_entry(resource: &Resource, subresource: &Subresource) -> Value {
    let mut entry = json!({
        "name": format!("{}/{}", resource.plural, subresource.name),
        "singularName": "",
        "namespaced": resource.namespaced(),
        "kind": subresource.gvk.kind,
        "verbs": subresource.verbs,
    });
    if (&subresource.gvk.group, &subresource.gvk.version) != (&resource.group, &resource.version) {
        entry["group"] = subresource.gvk.group.clone().into();
        entry["version"] = subresource.gvk.version.clone().into();
        if subresource.gvk.group.is_empty()
            && let Some(entry) = entry.as_object_mut()
        {
            entry.remove("group");
        }
    }
    entry
}

/// The items of an aggregated document: the core group, or all others.
pub(super) fn aggregated(table: &Resources, picture: Option<&Picture>, core: bool) -> Vec<Value> {
    groups(table, picture)
        .iter()
        .filter(|g| g.name.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|v| aggregated_version(table, picture, &group.name, v))
                .collect();
            let metadata = if core {
                json!({})
            } else {
                json!({"name": group.name})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect()
}

fn aggregated_version(table: &Resources, picture: Option<&Picture>, group: &str, version: &str) -> Value {
    let Some(elsewhere) = picture.and_then(|picture| picture.elsewhere(group, version)) else {
        let resources = aggregated_resources(table, group, version);
        return json!({"version": version, "resources": resources, "freshness": "Current"});
    };
    let mut entry = json!({"version": version});
    if !elsewhere.resources.is_empty() {
        entry["resources"] = elsewhere.resources.clone().into();
    }
    entry["freshness"] = if elsewhere.is_current { "Current" } else { "Stale" }.into();
    entry
}

fn aggregated_resources(table: &Resources, group: &str, version: &str) -> Vec<Value> {
    let mut found: Vec<_> = table
        .iter()
        .filter(|r| r.group == group && r.version == version)
        .collect();
    found.sort_by(|a, b| a.plural.cmp(&b.plural));
    found.into_iter().map(|r| aggregated_resource(r)).collect()
}

fn aggregated_resource(resource: &Resource) -> Value {
    // Built-in kinds leave group and version out where they are those of the document.
    let kind = |group: &str, version: &str, kind: &str| {
        let own = !resource.custom && group == resource.group && version == resource.version;
        if own {
            json!({"group": "", "version": "", "kind": kind})
        } else {
            json!({"group": group, "version": version, "kind": kind})
        }
    };
    let scope = if resource.namespaced() {
        "Namespaced"
    } else {
        "Cluster"
    };
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": kind(&resource.group, &resource.version, &resource.kind),
        "scope": scope,
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    add_lists(&mut entry, resource);
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|s| {
            let mut sub = Map::new();
            sub.insert("subresource".to_owned(), s.name.clone().into());
            sub.insert(
                "responseKind".to_owned(),
                kind(&s.gvk.group, &s.gvk.version, &s.gvk.kind),
            );
            sub.insert("verbs".to_owned(), json!(s.verbs));
            Value::Object(sub)
        })
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = Value::Array(subresources);
    }
    entry
}

/// Changes when the version that objects are stored in does.
fn storage_hash(resource: &Resource) -> String {
    use base64::Engine as _;
    let name = format!("{}/{}/{}", resource.group, resource.version, resource.kind);
    base64::engine::general_purpose::STANDARD.encode(hash_u64(name.as_bytes()).to_be_bytes())
}

/// A hash of bytes as text, the same for the same bytes within one version of the program.
pub(crate) fn hash(bytes: &[u8]) -> String {
    format!("{:016X}{:016X}", hash_u64(bytes), bytes.len())
}

fn hash_u64(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
