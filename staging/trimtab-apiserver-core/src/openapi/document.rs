//! Whole documents: paths with their operations, and the definitions that they refer to.

use serde_json::{Map, Value, json};
use trimtab_apiserver_kinds::resource::Resource;

use super::schema::Definitions;
use crate::registry::Resources;

/// The document of one group and version.
pub(super) fn v3(table: &Resources, group: &str, version: &str) -> Value {
    let mut definitions = Definitions::v3();
    let mut paths = Map::new();
    for resource in table.iter().filter(|r| r.group == group && r.version == version) {
        let object = define(&mut definitions, resource);
        add_paths(
            &mut paths,
            resource,
            &|r: &Value| json!({"application/json": {"schema": r}}),
            &object,
        );
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": crate::version::GIT_VERSION},
        "paths": paths,
        "components": {"schemas": definitions.found},
    })
}

/// The document of everything, in the old format. Operations carry what kubectl looks at.
pub(super) fn v2(table: &Resources) -> Value {
    let mut definitions = Definitions::v2();
    let mut paths = Map::new();
    for resource in table.iter() {
        let object = define(&mut definitions, resource);
        add_paths(&mut paths, resource, &|r: &Value| r.clone(), &object);
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": crate::version::GIT_VERSION},
        "paths": paths,
        "definitions": definitions.found,
    })
}

/// Defines the resource's kind and returns a reference to it.
fn define(definitions: &mut Definitions, resource: &Resource) -> Value {
    let name = definition_name(resource);
    let gvk = json!({"group": resource.group, "kind": resource.kind, "version": resource.version});
    let schema = &resource.schema;
    let reference = if schema.name == name {
        definitions.define(schema)
    } else {
        if !definitions.found.contains_key(&name) {
            let body = definitions.body(schema);
            definitions.found.insert(name.clone(), body);
        }
        definitions.reference(&name)
    };
    if let Some(definition) = definitions.found.get_mut(&name) {
        let kinds = definition
            .as_object_mut()
            .map(|d| d.entry("x-kubernetes-group-version-kind").or_insert(json!([])));
        if let Some(Value::Array(kinds)) = kinds
            && !kinds.contains(&gvk)
        {
            kinds.push(gvk);
        }
    }
    reference
}

/// `io.k8s.api.apps.v1.Deployment` for built-ins; for custom kinds the group reversed, as `com.example.v1.Widget`.
fn definition_name(resource: &Resource) -> String {
    if !resource.schema.name.is_empty() {
        return resource.schema.name.clone();
    }
    let mut parts: Vec<&str> = resource
        .group
        .split('.')
        .rev()
        .filter(|p| !p.is_empty())
        .collect();
    parts.extend([resource.version.as_str(), resource.kind.as_str()]);
    parts.join(".")
}

/// Adds the paths of a resource. `content` wraps a schema as the format wants it.
fn add_paths(
    paths: &mut Map<String, Value>,
    resource: &Resource,
    content: &dyn Fn(&Value) -> Value,
    object: &Value,
) {
    let root = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let scoped = if resource.namespaced() {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("{root}{scoped}/{}", resource.plural);
    let operation = |action: &str, method: &str| {
        let has_body = matches!(method, "post" | "put" | "patch");
        let mut operation = json!({
            "operationId": operation_id(resource, action),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind":
                {"group": resource.group, "version": resource.version, "kind": resource.kind},
            "responses": {"200": {"description": "OK", "content": content(object)}},
        });
        if has_body {
            operation["parameters"] = json!([
                query("dryRun", "string"),
                query("fieldManager", "string"),
                query("fieldValidation", "string"),
            ]);
        }
        operation
    };
    let verbs = |names: &[(&str, &str, &str)]| -> Map<String, Value> {
        let allowed = names
            .iter()
            .filter(|(verb, ..)| resource.verbs.iter().any(|v| v == verb));
        allowed
            .map(|(_, method, action)| ((*method).to_owned(), operation(action, method)))
            .collect()
    };
    let mut insert = |path: String, mut operations: Map<String, Value>, named: bool| {
        if operations.is_empty() {
            return;
        }
        let mut parameters = Vec::new();
        if named {
            parameters
                .push(json!({"name": "name", "in": "path", "required": true, "schema": {"type": "string"}}));
        }
        if path.contains("{namespace}") {
            parameters.push(
                json!({"name": "namespace", "in": "path", "required": true, "schema": {"type": "string"}}),
            );
        }
        operations.insert("parameters".into(), parameters.into());
        paths.insert(path, operations.into());
    };
    let of_collection = [
        ("list", "get", "list"),
        ("create", "post", "post"),
        ("deletecollection", "delete", "deletecollection"),
    ];
    insert(collection.clone(), verbs(&of_collection), false);
    let of_item = [
        ("get", "get", "get"),
        ("update", "put", "put"),
        ("patch", "patch", "patch"),
        ("delete", "delete", "delete"),
    ];
    insert(format!("{collection}/{{name}}"), verbs(&of_item), true);
    if resource.namespaced() {
        insert(
            format!("{root}/{}", resource.plural),
            verbs(&of_collection[..1]),
            false,
        );
    }
}

fn query(name: &str, type_: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": type_, "uniqueItems": true}})
}

/// As `createAppsV1NamespacedDeployment`.
fn operation_id(resource: &Resource, action: &str) -> String {
    let verb = match action {
        "post" => "create",
        "put" => "replace",
        "get" => "read",
        "deletecollection" => "deleteCollection",
        other => other,
    };
    let first = resource.group.split('.').next().unwrap_or_default();
    let group = if first.is_empty() { "core" } else { first };
    let scope = if resource.namespaced() { "Namespaced" } else { "" };
    format!(
        "{verb}{}{}{scope}{}",
        capital(group),
        capital(&resource.version),
        resource.kind
    )
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}
