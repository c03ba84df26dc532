//! The protobuf form of the built-in kinds: between the bytes that clients send and the JSON values used here.
//!
//! A table, `fields.txt`, says for each message which field has which number, name and type. It is made from the Go
//! types by `hack/update-protobuf`, and read here as:
//!
//! ```text
//! kind <apiVersion, or * for any> <kind> <message>
//! message <name>
//! <number> <name in JSON> <type> <flags>
//! ```
//!
//! A type is a scalar, one of a few special types, or a message; `[]` before it says that it repeats, `{}` that it is
//! the value of a map by string. Flags are `?` for what may be absent (a pointer in Go), `~` for a message whose fields
//! are those of the outer object in JSON, `+` for what JSON writes even if it is zero, and `0` for a message that JSON
//! does not write if it is zero. Behind `=` is what Go calls the type, where it has a name of its own: JSON is read as
//! Go's types are, and refused in their words, so `go_fields.rs` tells the schemas.
//!
//! **Invariant:** a decoded value is what Go's JSON encoder would have written of the same object, so the rest of
//! the server cannot tell how a client wrote it.

mod decode;
mod encode;
mod go_fields;
mod special;
mod table;
mod wire;

#[cfg(test)]
mod tests;

pub use self::decode::decode;
pub use self::encode::{ListEncoder, encode, encode_watch_event};
pub(crate) use self::go_fields::{GoFact, go_fields};

/// What the bytes of every object begin with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// Messages within messages that are read or written; deeper ones are refused.
const MAX_DEPTH: usize = 100;

/// Messages in one object that are read; an object of more is refused. No object that fits into a request has so many
/// with something in each.
const MAX_MESSAGES: usize = 250_000;

/// Why bytes are no object, or an object has no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There are no bytes.
    #[error("empty data")]
    Empty,
    /// The bytes do not begin with [`MAGIC`].
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// There is nothing after [`MAGIC`].
    #[error("empty body")]
    NoBody,
    /// The bytes end in the middle of something.
    #[error("unexpected EOF")]
    Truncated,
    /// A number has more than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// A group ends that has not begun.
    #[error("proto: unexpected end of group")]
    EndOfGroup,
    /// A field's number is not one.
    #[error("proto: illegal tag {0} (wire type {1})")]
    IllegalTag(u64, u64),
    /// A field is not written as its type is.
    #[error("proto: wrong wireType = {wire_type} for field {field}")]
    WrongWireType {
        /// How it is written.
        wire_type: u64,
        /// The field's name in JSON.
        field: String,
    },
    /// Messages lie too deep within messages.
    #[error("proto: messages are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// There are too many messages.
    #[error("proto: there are more than {MAX_MESSAGES} messages")]
    TooMany,
    /// A value within range on the wire that JSON has no form for.
    #[error("proto: the value of field {field} cannot be written as JSON: {why}")]
    Value {
        /// The field's name in JSON.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// The envelope says what the object is, but the object itself cannot be read.
    #[error("{why}")]
    Object {
        /// What the object is.
        api_version: String,
        /// What the object is.
        kind: String,
        /// What is wrong with it.
        why: Box<Error>,
    },
    /// The object's kind is not one of those that have a protobuf form.
    #[error("{api_version}, Kind={kind} cannot be encoded to a protobuf message")]
    UnknownKind {
        /// What the object says.
        api_version: String,
        /// What the object says.
        kind: String,
    },
    /// A JSON value is not of its field's type.
    #[error("the value of field {field} is no {expected}")]
    Type {
        /// The field's name in JSON.
        field: String,
        /// The word of the type.
        expected: &'static str,
    },
}
