//! What is known of a value before there is one: types of expressions, read off the schema.

use std::sync::Arc;

use super::value;
use crate::Schema;
use crate::schema::{Additional, Type};

/// The type of an expression, as far as it is known.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Anything.
    Dyn,
    /// A type without parts, by its name in CEL.
    Simple(&'static str),
    /// A list of those.
    List(Box<Kind>),
    /// A map from strings to those.
    Map(Box<Kind>),
    /// Named fields, and whether those of every Kubernetes object are among them.
    Fields(Arc<Schema>, bool),
    /// The metadata of an object: names only.
    Metadata,
    /// Fields that stem from no schema: written as they are called.
    Record(Arc<[(&'static str, Kind)]>),
    /// The variables of a policy. Of those of one name the last counts.
    Variables(Arc<[(String, Kind)]>),
    /// What is made as `Name{…}`, by its name.
    Struct(Arc<str>),
}

impl Kind {
    /// The type of a schema's values; `None` when rules cannot see them.
    pub(super) fn of(schema: &Arc<Schema>, object: bool) -> Option<Self> {
        if schema.int_or_string {
            return Some(Self::Dyn);
        }
        let of = |schema: &Arc<Schema>| Self::of(schema, schema.embedded_resource).map(Box::new);
        Some(match schema.type_? {
            Type::Array => Self::List(of(schema.items.as_ref()?)?),
            Type::Object => match &schema.additional {
                Additional::Schema(values) => Self::Map(of(values)?),
                _ => Self::Fields(Arc::clone(schema), object),
            },
            Type::String => Self::Simple(match schema.format.as_str() {
                "byte" => "bytes",
                "duration" => "google.protobuf.Duration",
                "date" | "date-time" => "google.protobuf.Timestamp",
                _ => "string",
            }),
            Type::Boolean => Self::Simple("bool"),
            Type::Integer => Self::Simple("int"),
            Type::Number => Self::Simple("double"),
        })
    }

    /// The type of a field, as rules write its name; `None` when there is no such field.
    pub(super) fn field(&self, name: &str) -> Option<Self> {
        match self {
            Self::Dyn => Some(Self::Dyn),
            Self::Map(values) => Some((**values).clone()),
            Self::Metadata => matches!(name, "name" | "generateName").then_some(Self::Simple("string")),
            Self::Fields(_, true) if matches!(name, "apiVersion" | "kind") => Some(Self::Simple("string")),
            Self::Fields(_, true) if name == "metadata" => Some(Self::Metadata),
            Self::Fields(schema, _) => {
                let named = |(property, _): &(&String, _)| value::escape(property).as_deref() == Some(name);
                let (_, property) = schema.properties.iter().find(named)?;
                Self::of(property, property.embedded_resource)
            }
            Self::Record(fields) => {
                let (_, kind) = fields.iter().find(|(field, _)| *field == name)?;
                Some(kind.clone())
            }
            Self::Variables(variables) => {
                let (_, kind) = variables.iter().rev().find(|(variable, _)| variable == name)?;
                Some(kind.clone())
            }
            Self::Struct(_) => Some(Self::Dyn),
            Self::Simple(_) | Self::List(_) => None,
        }
    }

    /// The type of what may be of this type or of that.
    pub(super) fn or(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Simple(name), Self::Simple(same)) if name == *same => Self::Simple(name),
            (Self::Struct(name), Self::Struct(same)) if name == *same => Self::Struct(name),
            (Self::Struct(name), Self::Simple("null")) => Self::Struct(name),
            (Self::Simple("null"), Self::Struct(name)) => Self::Struct(name.clone()),
            (Self::List(element), Self::List(same)) => Self::List(Box::new(element.or(same))),
            _ => Self::Dyn,
        }
    }

    /// Whether it is known that nothing is of both types. Null is of those types that may be null.
    pub(super) fn differs(&self, other: &Self) -> bool {
        let null = |kind: &Self| kind.simple() == Some("null");
        let may_be_null = |kind: &Self| {
            kind.is_nullable()
                || kind
                    .simple()
                    .is_some_and(|name| name.starts_with("google.protobuf."))
        };
        if (null(self) && may_be_null(other)) || (null(other) && may_be_null(self)) {
            return false;
        }
        match (self, other) {
            (Self::Simple(name), Self::Simple(same)) => name != same,
            (Self::Struct(name), Self::Struct(same)) => name != same,
            (Self::Simple(_), Self::Struct(_) | Self::List(_))
            | (Self::Struct(_) | Self::List(_), Self::Simple(_)) => true,
            _ => false,
        }
    }

    /// The type, if it has no parts; otherwise any.
    pub(super) fn atom(self) -> Self {
        match self {
            Self::Simple(_) | Self::Struct(_) => self,
            _ => Self::Dyn,
        }
    }

    /// Whether fields can be selected at all.
    pub(super) fn has_fields(&self) -> bool {
        !matches!(self, Self::Simple(_) | Self::List(_))
    }

    /// The type of what `[…]` finds.
    pub(super) fn element(&self) -> Self {
        match self {
            Self::List(element) | Self::Map(element) => (**element).clone(),
            _ => Self::Dyn,
        }
    }

    /// The type of a comprehension's variable.
    pub(super) fn iterated(&self) -> Self {
        match self {
            Self::List(element) => (**element).clone(),
            Self::Map(_) => Self::Simple("string"),
            _ => Self::Dyn,
        }
    }

    /// Whether values can be compared with null.
    pub(super) fn is_nullable(&self) -> bool {
        matches!(
            self,
            Self::Dyn
                | Self::Fields(..)
                | Self::Metadata
                | Self::Record(_)
                | Self::Variables(_)
                | Self::Struct(_)
        )
    }

    /// Whether a method can be called on it, as far as methods are of one type only.
    pub(super) fn receives(&self, method: &str) -> bool {
        match method {
            "startsWith" | "endsWith" | "contains" | "matches" | "lowerAscii" | "upperAscii" | "trim"
            | "replace" | "split" | "substring" | "charAt" | "find" | "findAll" | "format" => {
                matches!(self, Self::Dyn | Self::Simple("string"))
            }
            "sum" => match self {
                Self::List(element) => !matches!(**element, Self::Simple("string" | "bool" | "bytes")),
                other => matches!(other, Self::Dyn),
            },
            "isSorted" | "min" | "max" => match self {
                Self::List(element) => matches!(**element, Self::Dyn | Self::Simple(_)),
                other => matches!(other, Self::Dyn),
            },
            "join" | "reverse" | "slice" | "distinct" | "sort" | "flatten" => {
                matches!(self, Self::Dyn | Self::List(_))
            }
            "indexOf" | "lastIndexOf" => matches!(self, Self::Dyn | Self::List(_) | Self::Simple("string")),
            "size" => matches!(
                self,
                Self::Dyn | Self::List(_) | Self::Map(_) | Self::Simple("string" | "bytes")
            ),
            "getFullYear" | "getMonth" | "getDate" | "getDayOfMonth" | "getDayOfWeek" | "getDayOfYear" => {
                matches!(self, Self::Dyn | Self::Simple("google.protobuf.Timestamp"))
            }
            _ => true,
        }
    }

    /// The name of a type without parts; others are not told apart.
    pub(super) fn simple(&self) -> Option<&'static str> {
        match self {
            Self::Simple(name) => Some(name),
            _ => None,
        }
    }

    /// The type in the words of compile errors.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Dyn => "dyn".to_owned(),
            Self::Simple(name) => (*name).to_owned(),
            Self::List(element) => format!("list({})", element.describe()),
            Self::Map(values) => format!("map(string, {})", values.describe()),
            Self::Fields(..) | Self::Metadata | Self::Record(_) => "object".to_owned(),
            Self::Variables(_) => "kubernetes.variables".to_owned(),
            Self::Struct(name) => name.to_string(),
        }
    }
}
