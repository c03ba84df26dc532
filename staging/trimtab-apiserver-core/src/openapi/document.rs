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
        add_paths(&mut paths, resource, Form::New, &object);
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
        add_paths(&mut paths, resource, Form::Old, &object);
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

/// Which format a document is in.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// Swagger 2.0.
    Old,
    /// OpenAPI 3.
    New,
}

impl Form {
    /// A parameter of this type, with what else there is to say of it.
    fn parameter(self, name: &str, place: &str, is_required: bool, mut type_: Value) -> Value {
        let mut parameter = json!({"name": name, "in": place});
        if is_required {
            parameter["required"] = true.into();
        }
        match self {
            Self::New => parameter["schema"] = type_,
            Self::Old => {
                if let (Some(all), Some(type_)) = (parameter.as_object_mut(), type_.as_object_mut()) {
                    all.append(type_);
                }
            }
        }
        parameter
    }

    /// What is answered when all is well.
    fn answer(self, schema: &Value) -> Value {
        match self {
            Self::New => json!({"description": "OK", "content": {"application/json": {"schema": schema}}}),
            Self::Old => json!({"description": "OK", "schema": schema}),
        }
    }
}

/// Adds the paths of a resource.
fn add_paths(paths: &mut Map<String, Value>, resource: &Resource, form: Form, object: &Value) {
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
            "responses": {"200": form.answer(object)},
        });
        if has_body {
            let query = |name| {
                form.parameter(
                    name,
                    "query",
                    false,
                    json!({"type": "string", "uniqueItems": true}),
                )
            };
            operation["parameters"] = ["dryRun", "fieldManager", "fieldValidation"]
                .map(query)
                .to_vec()
                .into();
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
        let in_path = |name: &str| form.parameter(name, "path", true, json!({"type": "string"}));
        let mut parameters = Vec::new();
        if named {
            parameters.push(in_path("name"));
        }
        if path.contains("{namespace}") {
            parameters.push(in_path("namespace"));
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

#[cfg(test)]
mod tests {
    use trimtab_apiserver_kinds::builtin;

    use super::*;
    use crate::registry::ResourceTable;

    #[test]
    fn each_format_has_parameters_and_answers_where_it_wants_them() {
        let table = ResourceTable::new(builtin::all());
        let path = "/api/v1/namespaces/{namespace}/configmaps/{name}";
        let [old, new] = [v2(&table.snapshot()), v3(&table.snapshot(), "", "v1")];
        let put = |document: &Value| document["paths"][path]["put"].clone();
        assert_eq!(
            put(&old)["parameters"][0],
            json!({"name": "dryRun", "in": "query", "type": "string", "uniqueItems": true})
        );
        assert_eq!(
            put(&new)["parameters"][0],
            json!({"name": "dryRun", "in": "query", "schema": {"type": "string", "uniqueItems": true}})
        );
        assert_eq!(
            old["paths"][path]["parameters"][0],
            json!({"name": "name", "in": "path", "required": true, "type": "string"})
        );
        let reference = &put(&old)["responses"]["200"]["schema"]["$ref"];
        assert_eq!(reference, "#/definitions/io.k8s.api.core.v1.ConfigMap");
        assert_eq!(put(&old)["responses"]["200"].get("content"), None);
        let reference = &put(&new)["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(reference, "#/components/schemas/io.k8s.api.core.v1.ConfigMap");
    }
}
