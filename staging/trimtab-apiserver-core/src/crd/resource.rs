//! From a definition to the resources that are served: one for each served version.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::{GroupResource, GroupVersionKind};
use trimtab_apiserver_kinds::resource::{ALL_VERBS, Column, Resource, ScalePaths, Scope, Subresource};

use super::schema::Compiled;
use super::strategy::{Custom, Selectable};
use super::view::{flag, items, storage_version, text, texts, versions};
use crate::discovery::priority;

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some \
    resources may allow a client to request the generation of an appropriate name automatically. Name is primarily \
    intended for creation idempotence and configuration definition. Cannot be updated. More info: \
    https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const AGE: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is \
    not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It \
    is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The resources of a definition whose names are accepted.
pub(super) fn served(definition: &Value) -> Vec<Arc<Resource>> {
    let schemas = schemas(definition);
    versions(&definition["spec"])
        .iter()
        .filter(|v| flag(v, "served"))
        .filter_map(|version| of_version(definition, version, &schemas).map(Arc::new))
        .collect()
}

/// The resource as it is stored, whether it is served or not; `None` when no version is the storage version.
pub(super) fn stored(definition: &Value) -> Option<Arc<Resource>> {
    let version = versions(&definition["spec"])
        .iter()
        .find(|v| flag(v, "storage"))?;
    of_version(definition, version, &schemas(definition)).map(Arc::new)
}

fn api_version(definition: &Value, version: &str) -> String {
    format!("{}/{version}", text(&definition["spec"], "group"))
}

/// The schemas of all versions, by `apiVersion`.
pub(super) fn schemas(definition: &Value) -> Arc<BTreeMap<String, Arc<Compiled>>> {
    let of = |version: &Value| {
        let name = api_version(definition, text(version, "name"));
        (name, Compiled::new(&version["schema"]["openAPIV3Schema"]))
    };
    Arc::new(versions(&definition["spec"]).iter().map(of).collect())
}

fn of_version(
    definition: &Value,
    version: &Value,
    schemas: &Arc<BTreeMap<String, Arc<Compiled>>>,
) -> Option<Resource> {
    let spec = &definition["spec"];
    let names = &definition["status"]["acceptedNames"];
    let of_name = |field: &str| text(names, field).to_owned();
    let (group, version_name) = (text(spec, "group").to_owned(), text(version, "name").to_owned());
    let gvk = GroupVersionKind::gvk(&group, &version_name, text(names, "kind"));
    let subresources = subresources(version, &gvk);
    let compiled = schemas.get(&api_version(definition, &version_name))?.clone();
    let stored = api_version(definition, storage_version(spec)?);
    let selectable = items(version, "selectableFields")
        .map(|s| {
            let path = path(text(s, "jsonPath"));
            Selectable {
                name: path.join("."),
                path,
            }
        })
        .collect();
    let strategy = Custom {
        compiled: compiled.clone(),
        all: schemas.clone(),
        stored,
        status: subresources.iter().any(|s| s.name == "status"),
        scale: subresources.iter().find_map(|s| s.scale.clone()),
        selectable,
    };
    Some(Resource {
        storage: GroupResource::new(&group, text(names, "plural")),
        kind: of_name("kind"),
        list_kind: of_name("listKind"),
        plural: of_name("plural"),
        singular: of_name("singular"),
        short_names: texts(names, "shortNames"),
        categories: texts(names, "categories"),
        scope: if text(spec, "scope") == "Cluster" {
            Scope::Cluster
        } else {
            Scope::Namespaced
        },
        verbs: ALL_VERBS.map(str::to_owned).to_vec(),
        subresources,
        columns: columns(version),
        schema: compiled.serving.clone().into(),
        strategy: Arc::new(strategy),
        custom: true,
        deprecation_warning: deprecation(spec, version, &gvk),
        conversion: None,
        group,
        version: version_name,
    })
}

/// The fields of a simple path, as `.spec.replicas`.
fn path(text: &str) -> Vec<String> {
    text.trim_start_matches('.')
        .split('.')
        .map(str::to_owned)
        .collect()
}

fn subresources(version: &Value, gvk: &GroupVersionKind) -> Vec<Subresource> {
    let of = &version["subresources"];
    let verbs = || ["get", "patch", "update"].map(str::to_owned).to_vec();
    let mut found = Vec::new();
    if !of["status"].is_null() {
        found.push(Subresource {
            name: "status".to_owned(),
            gvk: gvk.clone(),
            verbs: verbs(),
            scale: None,
        });
    }
    let scale = &of["scale"];
    if !scale.is_null() {
        let paths = ScalePaths {
            spec_replicas: path(text(scale, "specReplicasPath")),
            status_replicas: path(text(scale, "statusReplicasPath")),
            selector: Some(text(scale, "labelSelectorPath"))
                .filter(|p| !p.is_empty())
                .map(path),
        };
        found.push(Subresource {
            name: "scale".to_owned(),
            gvk: GroupVersionKind::gvk("autoscaling", "v1", "Scale"),
            verbs: verbs(),
            scale: Some(paths),
        });
    }
    found
}

fn columns(version: &Value) -> Vec<Column> {
    let column = |name: &str, type_: &str, format: &str, description: &str, path: Option<&str>| Column {
        name: name.to_owned(),
        type_: type_.to_owned(),
        format: format.to_owned(),
        description: description.to_owned(),
        priority: 0,
        json_path: path.map(str::to_owned),
    };
    let mut columns = vec![column("Name", "string", "name", NAME, None)];
    for of in items(version, "additionalPrinterColumns") {
        let path = text(of, "jsonPath");
        let description = match text(of, "description") {
            "" => format!("Custom resource definition column (in JSONPath format): {path}"),
            description => description.to_owned(),
        };
        let priority = of["priority"].as_i64().and_then(|p| i32::try_from(p).ok());
        columns.push(Column {
            priority: priority.unwrap_or_default(),
            ..column(
                text(of, "name"),
                text(of, "type"),
                text(of, "format"),
                &description,
                Some(path),
            )
        });
    }
    if columns.len() == 1 {
        columns.push(column(
            "Age",
            "date",
            "",
            AGE,
            Some(".metadata.creationTimestamp"),
        ));
    }
    columns
}

/// What requests for a deprecated version are told: what to use instead, if anything newer is served.
fn deprecation(spec: &Value, version: &Value, gvk: &GroupVersionKind) -> Option<String> {
    if !flag(version, "deprecated") {
        return None;
    }
    if let Some(own) = version["deprecationWarning"].as_str() {
        return Some(own.to_owned());
    }
    let own = priority(&gvk.version);
    let newer = versions(spec)
        .iter()
        .filter(|v| flag(v, "served") && !flag(v, "deprecated"))
        .map(|v| text(v, "name"))
        .filter(|name| priority(name) > own)
        .max_by_key(|name| priority(name));
    let (group, kind) = (&gvk.group, &gvk.kind);
    let instead = newer
        .map(|v| format!("; use {group}/{v} {kind}"))
        .unwrap_or_default();
    Some(format!("{group}/{} {kind} is deprecated{instead}", gvk.version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_deprecated_version_names_the_newest_one_to_use() {
        let version =
            |name: &str, deprecated: bool| json!({"name": name, "served": true, "deprecated": deprecated});
        let spec = json!({"versions": [
            version("v1alpha1", true), version("v1beta1", false), version("v1", false), version("v2", true)]});
        let cases = [
            (0, Some("e.io/v1alpha1 W is deprecated; use e.io/v1 W")),
            (1, None),
            (3, Some("e.io/v2 W is deprecated")),
        ];
        for (i, expected) in cases {
            let version = &spec["versions"][i];
            let gvk = GroupVersionKind::gvk("e.io", text(version, "name"), "W");
            assert_eq!(deprecation(&spec, version, &gvk).as_deref(), expected);
        }
    }
}
