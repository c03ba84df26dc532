//! The structural schema as a tree: what an object of a kind looks like, for built-in and custom kinds alike.
//!
//! Built-in kinds derive it from their OpenAPI definitions, custom resources from `openAPIV3Schema`. Subtrees are
//! shared, so a server holds one `ObjectMeta` for all kinds. Recursive definitions (there is one, JSONSchemaProps)
//! are cut by `preserve_unknown`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// The JSON type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// An object with named fields, or a map when only `additional` is given.
    Object,
    /// A list.
    Array,
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
}

impl Type {
    /// The type that a schema calls so.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    /// What a schema calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// What an object may hold beyond its named properties.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    /// Nothing: other fields are unknown.
    #[default]
    None,
    /// Anything.
    Any,
    /// Values of this schema: the object is a map.
    Schema(Arc<Schema>),
}

/// How server-side apply sees a list (`x-kubernetes-list-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ListType {
    /// One value, owned as a whole.
    #[default]
    Atomic,
    /// Unique scalars, each owned by itself.
    Set,
    /// Objects identified by [`Schema::list_map_keys`], merged one by one.
    Map,
}

/// One CEL rule (`x-kubernetes-validations`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// The expression; `self` is the value.
    pub rule: String,
    /// What to say when it fails.
    pub message: String,
    /// An expression that computes what to say.
    pub message_expression: String,
    /// The cause's reason, as `FieldValueInvalid`; empty for the default.
    pub reason: String,
    /// The field that is blamed, as a relative JSON path; empty for the value itself.
    pub field_path: String,
    /// Whether `oldSelf` is optional.
    pub optional_old_self: bool,
}

/// What the Go type behind a built-in kind says of a field beyond its JSON type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoField {
    /// It is written even if it is zero or, for lists and maps, null.
    pub kept: bool,
    /// It is a pointer: its absence is null, and a zero is a value.
    pub pointer: bool,
    /// It is not written if it is zero: it is no pointer, so a zero is an absence.
    pub omit_zero: bool,
    /// What Go calls its type, as `v1.Protocol`; empty where that is what the JSON type is called.
    pub type_name: &'static str,
    /// The structs within the outer one that it is a field of, joined by dots, though JSON has it in the outer one.
    pub within: Option<Arc<str>>,
}

/// The structure of one JSON value. The default accepts and keeps nothing but the value itself.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// The definition's name, as `io.k8s.api.apps.v1.DeploymentSpec`; empty where it has none.
    pub name: String,
    /// For people; what `kubectl explain` prints.
    pub description: String,
    /// The JSON type; `None` accepts any.
    pub type_: Option<Type>,
    /// The format, as `int32`, `date-time`, `byte`; empty for none.
    pub format: String,
    /// Named fields.
    pub properties: BTreeMap<String, Arc<Schema>>,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// Other fields.
    pub additional: Additional,
    /// The elements of a list.
    pub items: Option<Arc<Schema>>,
    /// Null is a value, not an absence.
    pub nullable: bool,
    /// What an absent field becomes.
    pub default: Option<Value>,
    /// A whole number or text (`x-kubernetes-int-or-string`).
    pub int_or_string: bool,
    /// Unknown fields are kept (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// The value is a Kubernetes object with apiVersion, kind and metadata (`x-kubernetes-embedded-resource`).
    pub embedded_resource: bool,
    /// How apply sees the list.
    pub list_type: ListType,
    /// Whether the list type was stated, rather than implied.
    pub list_type_stated: bool,
    /// The keys that identify an element of a map list.
    pub list_map_keys: Vec<String>,
    /// The object is owned as a whole (`x-kubernetes-map-type: atomic`).
    pub map_atomic: bool,
    /// Strategic merge patch merges this list or map rather than replacing it (`x-kubernetes-patch-strategy: merge`).
    pub patch_merge: bool,
    /// Strategic merge patch keeps only the patch's fields (`retainKeys`).
    pub patch_retain_keys: bool,
    /// The key by which strategic merge patch merges the elements; empty for scalars.
    pub patch_merge_key: String,
    /// The values that are allowed.
    pub enum_values: Vec<Value>,
    /// Value validations, `None` for most nodes of most schemas.
    pub checks: Option<Box<Checks>>,
    /// CEL rules.
    pub rules: Vec<Rule>,
    /// For a field of a built-in kind, what its Go type says of it.
    pub go: GoField,
}

/// Value validations of a schema node, as OpenAPI names them.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// A number's lower bound.
    pub minimum: Option<serde_json::Number>,
    /// Whether the bound itself is excluded.
    pub exclusive_minimum: bool,
    /// A number's upper bound.
    pub maximum: Option<serde_json::Number>,
    /// Whether the bound itself is excluded.
    pub exclusive_maximum: bool,
    /// A number is a multiple of this.
    pub multiple_of: Option<serde_json::Number>,
    /// Text length, in characters.
    pub min_length: Option<u64>,
    /// Text length, in characters.
    pub max_length: Option<u64>,
    /// A regular expression that must match somewhere in the text.
    pub pattern: Option<String>,
    /// List length.
    pub min_items: Option<u64>,
    /// List length.
    pub max_items: Option<u64>,
    /// List elements are all different.
    pub unique_items: bool,
    /// Number of fields.
    pub min_properties: Option<u64>,
    /// Number of fields.
    pub max_properties: Option<u64>,
    /// All of these hold.
    pub all_of: Vec<Arc<Schema>>,
    /// At least one of these holds.
    pub any_of: Vec<Arc<Schema>>,
    /// Exactly one of these holds.
    pub one_of: Vec<Arc<Schema>>,
    /// This does not hold.
    pub not: Option<Arc<Schema>>,
}

impl Schema {
    /// A schema that accepts and keeps anything.
    pub fn any() -> Self {
        Self {
            preserve_unknown: true,
            ..Self::default()
        }
    }

    /// What Go writes of a field of this schema that has never been set.
    pub fn go_zero(&self) -> Value {
        match self.type_ {
            _ if self.go.pointer => Value::Null,
            _ if self.name.ends_with(".Quantity") => "0".into(),
            _ if self.int_or_string => 0.into(),
            Some(Type::Integer | Type::Number) => 0.into(),
            Some(Type::Boolean) => false.into(),
            Some(Type::String) if !matches!(self.format.as_str(), "date-time" | "byte") => "".into(),
            _ => Value::Null,
        }
    }

    /// The schema of the field `name`: of a property, or of a map's values.
    pub fn field(&self, name: &str) -> Option<&Arc<Schema>> {
        self.properties.get(name).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        })
    }
}
