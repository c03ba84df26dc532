//! Old OpenAPI documents of other servers, merged into this server's as kube-aggregator does it: of each the paths of one group
//! and version, with the definitions that they need. What has the same name and is something else gets another one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

const DEFINITIONS: &str = "#/definitions/";

/// Merges the paths of `from` that begin with `below`.
pub(super) fn merge(into: &mut Value, from: &Value, below: &str) {
    let Some(paths) = from["paths"].as_object() else {
        return;
    };
    let wanted: Map<String, Value> = paths
        .iter()
        .filter(|(path, _)| path.starts_with(below) || **path == below.trim_end_matches('/'))
        .map(|(path, item)| (path.clone(), item.clone()))
        .collect();
    let mut wanted = Value::Object(wanted);
    let mut needed: BTreeSet<String> = BTreeSet::new();
    need(&wanted, &from["definitions"], &mut needed);
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    for name in &needed {
        let found = &from["definitions"][name];
        if is_same(&into["definitions"][name], found) {
            continue;
        }
        let free = (2..).map(|n| format!("{name}_v{n}")).find(|other| {
            let there = &into["definitions"][other];
            there.is_null() || is_same(there, found)
        });
        if let Some(free) = free.filter(|_| !into["definitions"][name].is_null()) {
            renamed.insert(name.clone(), free);
        }
    }
    rename(&mut wanted, &renamed);
    for name in needed {
        let mut definition = from["definitions"][&name].clone();
        rename(&mut definition, &renamed);
        let name = renamed.get(&name).cloned().unwrap_or(name);
        if into["definitions"][&name].is_null() {
            into["definitions"][&name] = definition;
        }
    }
    if let Value::Object(wanted) = wanted {
        for (path, item) in wanted {
            // Who was there first keeps what it has.
            if into["paths"][&path].is_null() {
                into["paths"][&path] = item;
            }
        }
    }
}

/// Whether two definitions are the same, whatever kinds they say they are.
fn is_same(one: &Value, other: &Value) -> bool {
    const KINDS: &str = "x-kubernetes-group-version-kind";
    let bare = |value: &Value| {
        let mut bare = value.clone();
        bare.as_object_mut().map(|object| object.remove(KINDS));
        bare
    };
    one == other || bare(one) == bare(other)
}

/// The names of all definitions that are referred to, and that those refer to.
fn need(value: &Value, definitions: &Value, needed: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value.as_str().and_then(|text| text.strip_prefix(DEFINITIONS)) {
                    Some(name) if key == "$ref" => {
                        if needed.insert(name.to_owned()) {
                            need(&definitions[name], definitions, needed);
                        }
                    }
                    _ => need(value, definitions, needed),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| need(item, definitions, needed)),
        _ => {}
    }
}

fn rename(value: &mut Value, renamed: &BTreeMap<String, String>) {
    match value {
        _ if renamed.is_empty() => {}
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                let name = value.as_str().and_then(|text| text.strip_prefix(DEFINITIONS));
                match name.and_then(|name| renamed.get(name)) {
                    Some(other) if key == "$ref" => *value = format!("{DEFINITIONS}{other}").into(),
                    _ => rename(value, renamed),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, renamed)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reference(name: &str) -> Value {
        json!({"$ref": format!("{DEFINITIONS}{name}")})
    }

    #[test]
    fn what_is_needed_comes_and_what_is_something_else_gets_another_name() {
        let mut into = json!({
            "paths": {"/apis/a/v1/x": {"get": reference("Shared")}},
            "definitions": {"Shared": {"type": "object"}, "Same": {"type": "string", "x-kubernetes-group-version-kind": []}},
        });
        let from = json!({
            "paths": {
                "/apis/b/v1/": {"get": reference("Top")},
                "/apis/b/v1/y": {"get": [reference("Shared")]},
                "/apis/b/v2/z": {"get": reference("Unneeded")},
            },
            "definitions": {
                "Top": {"properties": {"same": reference("Same"), "self": reference("Top"), "$ref": {"type": "string"}}},
                "Same": {"type": "string"},
                "Shared": {"type": "object", "properties": {"top": reference("Top")}},
                "Unneeded": {},
            },
        });
        merge(&mut into, &from, "/apis/b/v1/");
        let wanted = json!({
            "paths": {
                "/apis/a/v1/x": {"get": reference("Shared")},
                "/apis/b/v1/": {"get": reference("Top")},
                "/apis/b/v1/y": {"get": [reference("Shared_v2")]},
            },
            "definitions": {
                "Shared": {"type": "object"},
                "Same": {"type": "string", "x-kubernetes-group-version-kind": []},
                "Top": {"properties": {"same": reference("Same"), "self": reference("Top"), "$ref": {"type": "string"}}},
                "Shared_v2": {"type": "object", "properties": {"top": reference("Top")}},
            },
        });
        assert_eq!(into, wanted);
        let once = into.clone();
        merge(&mut into, &from, "/apis/b/v1/");
        assert_eq!(into, once, "twice is once");
    }
}
