//! The schemas of built-in types: from the JSON schemas that `k8s-openapi` carries, and the facts of `merge.txt`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use parking_lot::Mutex;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};
use trimtab_apimachinery_schema::Schema;
use trimtab_apimachinery_schema::schema::{Additional, GoField, ListType, Type};

use crate::protobuf::{GoFact, go_fields};

/// Where a schema's definitions are, and what references to them begin with.
const DEFS: &str = "$defs";
const REFERENCE: &str = "#/$defs/";

/// The one recursive type; it is not followed, but unfolded where it is met.
const RECURSIVE: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// The recursive type once unfolded: what it refers to itself by is not.
static UNFOLDED: LazyLock<Schema> = LazyLock::new(|| {
    let root = SchemaGenerator::default().into_root_schema_for::<JSONSchemaProps>();
    let root = root.as_value();
    let none = Value::Object(Map::new());
    let mut maker = Maker {
        definitions: root.get(DEFS).unwrap_or(&none),
        made: MADE.lock(),
    };
    let mut schema = maker.node(RECURSIVE, root);
    RECURSIVE.clone_into(&mut schema.name);
    schema
});

/// A schema, or what it stands for if it is the recursive type, alone or as one of what a field may hold.
pub fn unfold(schema: &Schema) -> &Schema {
    if is_unfolded(schema) { &UNFOLDED } else { schema }
}

/// Whether [`unfold`] unfolds it.
pub fn is_unfolded(schema: &Schema) -> bool {
    let kind = schema
        .name
        .strip_prefix(RECURSIVE)
        .filter(|_| schema.preserve_unknown);
    kind.is_some_and(|kind| matches!(kind, "" | "OrArray" | "OrBool" | "OrStringArray"))
}

/// Whether a schema is the recursive type alone.
pub fn is_recursive(schema: &Schema) -> bool {
    schema.preserve_unknown && schema.name == RECURSIVE
}

/// Schemas of named types, made so far; kinds share them.
static MADE: LazyLock<Mutex<HashMap<String, Arc<Schema>>>> = LazyLock::new(Mutex::default);

/// How fields merge, by type and field.
static MERGE: LazyLock<Merge> = LazyLock::new(|| Merge::parse(include_str!("merge.txt")));

/// The schema of a type.
pub(super) fn schema_of<T: JsonSchema>() -> Arc<Schema> {
    let root = SchemaGenerator::default().into_root_schema_for::<T>();
    let root = root.as_value();
    let none = Value::Object(Default::default());
    let name = T::schema_name().into_owned();
    let mut maker = Maker {
        definitions: root.get(DEFS).unwrap_or(&none),
        made: MADE.lock(),
    };
    if let Some(made) = maker.made.get(&name) {
        return made.clone();
    }
    maker.named(&name, root)
}

struct Maker<'a> {
    definitions: &'a Value,
    made: parking_lot::MutexGuard<'static, HashMap<String, Arc<Schema>>>,
}

impl Maker<'_> {
    /// The schema of a named type, whose definition is `node`.
    fn named(&mut self, name: &str, node: &Value) -> Arc<Schema> {
        if let Some(made) = self.made.get(name) {
            return made.clone();
        }
        let mut schema = if name == RECURSIVE {
            Schema::any()
        } else {
            self.node(name, node)
        };
        name.clone_into(&mut schema.name);
        schema.map_atomic |= MERGE.whole.contains(name);
        let schema = Arc::new(schema);
        self.made.insert(name.to_owned(), schema.clone());
        schema
    }

    /// The schema of a value where it is used.
    fn usage(&mut self, node: &Value) -> Arc<Schema> {
        // The recursive type is the root of its own definitions.
        if node["$ref"] == "#" {
            return self.named(RECURSIVE, &Value::Null);
        }
        let Some(name) = node["$ref"].as_str().and_then(|r| r.strip_prefix(REFERENCE)) else {
            return Arc::new(self.node("", node));
        };
        let definition = self.definitions.get(name).cloned().unwrap_or_default();
        let named = self.named(name, &definition);
        match node["description"].as_str() {
            Some(description) if description != named.description => Arc::new(Schema {
                description: description.to_owned(),
                ..Schema::clone(&named)
            }),
            _ => named,
        }
    }

    /// A node of the type `owner` (empty for what has no name).
    fn node(&mut self, owner: &str, node: &Value) -> Schema {
        let text = |name: &str| node[name].as_str().unwrap_or_default().to_owned();
        let mut schema = Schema {
            description: text("description"),
            format: text("format"),
            type_: Type::named(&text("type")),
            int_or_string: node["x-kubernetes-int-or-string"] == true,
            preserve_unknown: node["x-kubernetes-preserve-unknown-fields"] == true,
            default: node.get("default").cloned(),
            ..Schema::default()
        };
        if let Some(required) = node["required"].as_array() {
            schema.required = required
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
        }
        let facts = go_fields(owner);
        let is_empty_struct = facts.as_ref().is_some_and(HashMap::is_empty);
        let facts = facts.unwrap_or_default();
        for (field, usage) in node["properties"].as_object().into_iter().flatten() {
            let mut usage = self.usage(usage);
            if let Some(fact) = facts.get(field.as_str()) {
                tell(&mut usage, fact);
            }
            if let Some(rule) = MERGE.fields.get(&(owner, field.as_str())) {
                rule.apply(Arc::make_mut(&mut usage));
            }
            schema.properties.insert(field.clone(), usage);
        }
        match node.get("additionalProperties") {
            Some(Value::Bool(true)) => schema.additional = Additional::Any,
            Some(values @ Value::Object(_)) => schema.additional = Additional::Schema(self.usage(values)),
            _ => {}
        }
        if let Some(items) = node.get("items") {
            schema.items = Some(self.usage(items));
        }
        let shapeless = schema.properties.is_empty() && matches!(schema.additional, Additional::None);
        let open = schema.type_.is_none() && !schema.int_or_string;
        // A struct that is known to have no fields takes none.
        let shapeless = shapeless && (owner.is_empty() || !is_empty_struct);
        if open || (schema.type_ == Some(Type::Object) && shapeless) {
            schema.preserve_unknown = true;
        }
        schema
    }
}

/// Tells a field's schema, and those of its elements, what the Go type says of the field.
fn tell(usage: &mut Arc<Schema>, GoFact { field, is_struct }: &GoFact) {
    if *is_struct && usage.default.is_none() {
        Arc::make_mut(usage).default = Some(Value::Object(Map::new()));
    }
    if *field == GoField::default() {
        return;
    }
    let usage = Arc::make_mut(usage);
    usage.go = field.clone();
    let of_elements = field.type_name.split_once(']').map(|(_, name)| name);
    if let Some(type_name) = of_elements {
        let elements = match &mut usage.additional {
            Additional::Schema(values) => Some(values),
            _ => usage.items.as_mut(),
        };
        if let Some(elements) = elements {
            Arc::make_mut(elements).go.type_name = type_name;
        }
    }
}

/// How one field merges.
#[derive(Debug, Default, PartialEq)]
struct Rule {
    list_type: Option<ListType>,
    keys: Vec<String>,
    whole: bool,
    granular: bool,
    patch_merge: bool,
    patch_retain_keys: bool,
    patch_key: String,
    default: Option<Value>,
}

impl Rule {
    fn parse(words: &str) -> Self {
        let mut rule = Self::default();
        for word in words.split_whitespace() {
            match word.split_once('=') {
                None if word == "atomic" => rule.list_type = Some(ListType::Atomic),
                None if word == "set" => rule.list_type = Some(ListType::Set),
                None => {
                    rule.whole |= word == "struct";
                    rule.granular |= word == "granular";
                }
                Some(("map", keys)) => {
                    rule.list_type = Some(ListType::Map);
                    rule.keys = keys.split(',').map(str::to_owned).collect();
                }
                Some(("default", json)) => rule.default = serde_json::from_str(json).ok(),
                Some((_, patch)) => {
                    let (strategies, key) = patch.split_once(':').unwrap_or((patch, ""));
                    rule.patch_merge = strategies.split(',').any(|s| s == "merge");
                    rule.patch_retain_keys = strategies.split(',').any(|s| s == "retainKeys");
                    key.clone_into(&mut rule.patch_key);
                }
            }
        }
        rule
    }

    fn apply(&self, schema: &mut Schema) {
        if let Some(list_type) = self.list_type {
            schema.list_type = list_type;
            schema.list_type_stated = true;
        }
        schema.list_map_keys.clone_from(&self.keys);
        schema.map_atomic = (schema.map_atomic || self.whole) && !self.granular;
        schema.patch_merge = self.patch_merge;
        schema.patch_retain_keys = self.patch_retain_keys;
        schema.patch_merge_key.clone_from(&self.patch_key);
        if self.default.is_some() {
            schema.default.clone_from(&self.default);
        }
    }
}

/// The facts of `merge.txt`.
#[derive(Debug, Default)]
struct Merge {
    fields: HashMap<(&'static str, &'static str), Rule>,
    /// Types that are owned as a whole.
    whole: BTreeSet<&'static str>,
}

impl Merge {
    fn parse(text: &'static str) -> Self {
        let mut merge = Self::default();
        let mut owner = "";
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            if let Some(field) = line.strip_prefix("  ") {
                let (name, words) = field.split_once(' ').unwrap_or((field, ""));
                merge.fields.insert((owner, name), Rule::parse(words));
            } else {
                let (name, word) = line.split_once(' ').unwrap_or((line, ""));
                owner = name;
                if word == "struct" {
                    merge.whole.insert(name);
                }
            }
        }
        merge
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;

    use super::*;

    #[test]
    fn a_deployment_knows_how_its_parts_merge() {
        let deployment = schema_of::<Deployment>();
        let spec = deployment.field("spec").unwrap();
        assert_eq!(spec.name, "io.k8s.api.apps.v1.DeploymentSpec");
        assert!(spec.field("selector").unwrap().map_atomic);
        let pod = spec.field("template").and_then(|t| t.field("spec")).unwrap();
        let containers = pod.field("containers").unwrap();
        assert_eq!(
            (containers.list_type, containers.list_map_keys.as_slice()),
            (ListType::Map, &["name".to_owned()][..])
        );
        assert_eq!(containers.patch_merge_key, "name");
        let ports = containers.items.as_ref().and_then(|c| c.field("ports")).unwrap();
        assert_eq!(ports.list_map_keys, ["containerPort", "protocol"]);
        assert_eq!(
            ports
                .items
                .as_ref()
                .and_then(|p| p.field("protocol"))
                .unwrap()
                .default,
            Some("TCP".into())
        );
        assert!(pod.field("volumes").unwrap().patch_retain_keys);
        assert_eq!(
            spec.field("strategy").unwrap().default,
            Some(serde_json::json!({}))
        );
        assert_eq!(
            deployment
                .field("metadata")
                .and_then(|m| m.field("finalizers"))
                .unwrap()
                .list_type,
            ListType::Set
        );
        assert!(Arc::ptr_eq(&schema_of::<Deployment>(), &deployment), "made once");
    }
}
