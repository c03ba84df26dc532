//! The built-in resources: the table of names, with schemas and strategies put to them.

mod definitions;
mod table;
mod types;

pub use self::definitions::{is_recursive, is_unfolded, unfold};

use std::sync::Arc;

use trimtab_apimachinery_meta::{GroupResource, GroupVersionKind};

use crate::conversion;
use crate::resource::{Resource, ScalePaths, Scope, Subresource};
use crate::{columns, strategies};

/// Every built-in resource, in the order in which discovery lists groups. Cheap: schemas are made when first used.
pub fn all() -> Vec<Arc<Resource>> {
    let mut found = Vec::new();
    for (group, version, lines) in table::GROUPS {
        found.extend(
            lines
                .lines()
                .filter(|l| !l.trim().is_empty())
                .map(|line| Arc::new(resource(group, version, line))),
        );
    }
    found
}

fn words(text: &str) -> Vec<String> {
    if text == "-" {
        Vec::new()
    } else {
        text.split(',').map(str::to_owned).collect()
    }
}

fn resource(group: &str, version: &str, line: &str) -> Resource {
    let mut parts = line.split_whitespace();
    let mut next = || parts.next().unwrap_or("-");
    let (kind, plural, singular, scope) = (next(), next(), next(), next());
    let (verbs, short_names, categories, subresources) = (next(), next(), next(), next());
    let own = GroupVersionKind::gvk(group, version, kind);
    let schema = types::schema(group, version, kind);
    // Both APIs of events, and both versions of autoscalers, are views of one stored object.
    let storage_group = if plural == "events" { "" } else { group };
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: plural.to_owned(),
        singular: singular.to_owned(),
        short_names: words(short_names),
        categories: words(categories),
        scope: if scope == "ns" {
            Scope::Namespaced
        } else {
            Scope::Cluster
        },
        verbs: table::verbs(verbs),
        subresources: words(subresources).iter().map(|s| subresource(&own, s)).collect(),
        storage: GroupResource::new(storage_group, plural),
        columns: columns::columns(&own),
        strategy: strategies::strategy(&own, &schema),
        schema,
        custom: false,
        deprecation_warning: strategies::deprecation(&own),
        conversion: conversion::of(&own),
    }
}

/// Reads `name=verbs[=group/version/Kind]`.
fn subresource(own: &GroupVersionKind, text: &str) -> Subresource {
    let mut parts = text.splitn(3, '=');
    let (name, verbs) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let gvk = match parts
        .next()
        .map(|gvk| gvk.split('/').collect::<Vec<_>>())
        .as_deref()
    {
        Some([group, version, kind]) => GroupVersionKind::gvk(group, version, kind),
        _ => own.clone(),
    };
    let scale = (name == "scale").then(|| ScalePaths {
        spec_replicas: vec!["spec".to_owned(), "replicas".to_owned()],
        status_replicas: vec!["status".to_owned(), "replicas".to_owned()],
        selector: Some(vec!["spec".to_owned(), "selector".to_owned()]),
    });
    Subresource {
        name: name.to_owned(),
        gvk,
        verbs: table::verbs(verbs),
        scale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_has_a_name_verbs_and_a_schema() {
        let all = all();
        assert!(all.len() > 60, "{}", all.len());
        for resource in all {
            let name = format!("{}/{}", resource.api_version(), resource.plural);
            assert!(resource.kind.starts_with(|c: char| c.is_uppercase()), "{name}");
            assert!(!resource.verbs.is_empty() && resource.verbs.is_sorted(), "{name}");
            assert!(!resource.schema.name.is_empty(), "{name} has no schema");
        }
    }
}
