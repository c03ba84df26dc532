//! The table of fields: read once, when it is first used.

use std::collections::HashMap;
use std::sync::LazyLock;

/// All messages and kinds.
pub(super) static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(include_str!("fields.txt")));

/// Which message a kind is, and which fields a message has.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// By apiVersion and kind; the apiVersion `*` stands for any.
    kinds: HashMap<(&'static str, &'static str), MessageId>,
    /// By name, as `core.v1.PodSpec`.
    names: HashMap<&'static str, MessageId>,
    /// The fields of each message, in the order of their numbers.
    messages: Vec<Vec<Field>>,
}

/// Where a message is in the table.
pub(super) type MessageId = usize;

/// One field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) number: u64,
    /// In JSON.
    pub(super) name: &'static str,
    pub(super) type_: Type,
    pub(super) shape: Shape,
    /// A pointer in Go: written if and only if it is set.
    pub(super) optional: bool,
    /// Its fields are the outer object's, in JSON.
    pub(super) inline: bool,
    /// JSON has it even if it is zero.
    pub(super) kept: bool,
    /// JSON lacks it if it is zero, though it is a message.
    pub(super) omit_zero: bool,
    /// What Go calls its type, if that is not what the type is called here.
    pub(super) go_type: &'static str,
}

/// How often a field can be there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    One,
    List,
    Map,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Type {
    String,
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
    /// A timestamp message: an RFC 3339 string of whole seconds, or null for the zero time.
    Time,
    /// The same with microseconds.
    MicroTime,
    /// A message of a string.
    Quantity,
    /// A message of a choice, a number and a string.
    IntOrString,
    /// A message of JSON text.
    Raw,
    /// A message of strings.
    Strings,
    /// A message of one schema or several; the schema's message.
    SchemaOrArray(MessageId),
    /// A message of a boolean and a schema.
    SchemaOrBool(MessageId),
    /// A message of a schema or of strings.
    SchemaOrStrings(MessageId),
    Message(MessageId),
}

impl Type {
    /// Whether Go's JSON writes it whatever it is, unless told to omit zero messages.
    pub(super) fn is_struct(self) -> bool {
        !matches!(
            self,
            Self::String
                | Self::Bytes
                | Self::Bool
                | Self::Int32
                | Self::Int64
                | Self::Double
                | Self::Strings
        )
    }
}

/// The message that the special types of schemas hold.
const SCHEMA: &str = "apiextensions.v1.JSONSchemaProps";

impl Table {
    /// The message of a kind.
    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Option<MessageId> {
        // The keys are static, the question is not: it is looked for under a shorter life.
        let kinds: &HashMap<(&str, &str), MessageId> = &self.kinds;
        kinds
            .get(&(api_version, kind))
            .or_else(|| kinds.get(&("*", kind)))
            .copied()
    }

    /// The message of that name.
    pub(super) fn named(&self, name: &str) -> Option<MessageId> {
        self.names.get(name).copied()
    }

    /// The fields of a message.
    pub(super) fn fields(&self, id: MessageId) -> &[Field] {
        self.messages.get(id).map_or(&[], Vec::as_slice)
    }

    #[cfg(test)]
    pub(super) fn kinds(&self) -> usize {
        self.kinds.len()
    }

    /// How many fields there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.messages.iter().map(Vec::len).sum()
    }

    /// Reads the table. Lines that mean nothing are left out; a test sees to it that there are none.
    fn parse(text: &'static str) -> Self {
        let mut ids: HashMap<&'static str, MessageId> = HashMap::new();
        let mut messages: Vec<Vec<Field>> = Vec::new();
        for name in text.lines().filter_map(|l| l.strip_prefix("message ")) {
            ids.insert(name, messages.len());
            messages.push(Vec::new());
        }
        let mut kinds = HashMap::new();
        let mut current = None;
        for line in text.lines() {
            let words: Vec<&'static str> = line.split(' ').collect();
            match words.as_slice() {
                ["kind", api_version, kind, message] => {
                    if let Some(id) = ids.get(message) {
                        kinds.insert((*api_version, *kind), *id);
                    }
                }
                ["message", name] => current = ids.get(name).copied(),
                [number, name, type_, flags @ ..] => {
                    let flags = flags.first().copied().unwrap_or_default();
                    if let Some(field) = field(&ids, number, name, type_, flags)
                        && let Some(message) = current.and_then(|id| messages.get_mut(id))
                    {
                        message.push(field);
                    }
                }
                _ => {}
            }
        }
        Self {
            kinds,
            names: ids,
            messages,
        }
    }
}

fn field(
    ids: &HashMap<&'static str, MessageId>,
    number: &str,
    name: &'static str,
    type_: &str,
    flags: &'static str,
) -> Option<Field> {
    let (flags, go_type) = flags.split_once('=').unwrap_or((flags, ""));
    let (shape, type_) = if let Some(of) = type_.strip_prefix("[]") {
        (Shape::List, of)
    } else if let Some(of) = type_.strip_prefix("{}") {
        (Shape::Map, of)
    } else {
        (Shape::One, type_)
    };
    let schema = || ids.get(SCHEMA).copied();
    let type_ = match type_ {
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "bool" => Type::Bool,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "double" => Type::Double,
        "time" => Type::Time,
        "microtime" => Type::MicroTime,
        "quantity" => Type::Quantity,
        "intorstring" => Type::IntOrString,
        "raw" => Type::Raw,
        "strings" => Type::Strings,
        "schemaorarray" => Type::SchemaOrArray(schema()?),
        "schemaorbool" => Type::SchemaOrBool(schema()?),
        "schemaorstrings" => Type::SchemaOrStrings(schema()?),
        message => Type::Message(*ids.get(message)?),
    };
    Some(Field {
        number: number.parse().ok()?,
        name,
        type_,
        shape,
        optional: flags.contains('?'),
        inline: flags.contains('~'),
        kept: flags.contains('+'),
        omit_zero: flags.contains('0'),
        go_type,
    })
}
