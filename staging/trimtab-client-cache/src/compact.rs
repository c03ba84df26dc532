//! The compact form of objects: a binary tree in which words are numbers and equal sub-trees are one.
//!
//! A JSON document becomes a sequence of tagged values, in the order of the document. What Kubernetes objects are made of
//! takes little: names of fields and frequent strings are numbers of a table ([`words`]), timestamps, UIDs and digests
//! are binary, and a sub-tree that was seen before, in any object, is a pointer to one copy ([`share`]). Nothing is lost:
//! the order of fields, repeated fields and empty values come back as they were, and numbers as `serde_json` reads them.
//!
//! Reading needs no unpacking: [`read`] is a serde deserializer over the bytes, and finds one field by skipping the
//! others. It is quicker than parsing the JSON was.

pub(crate) mod encode;
pub(crate) mod read;
pub(crate) mod share;
pub(crate) mod words;

#[cfg(test)]
mod tests;

/// One document.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) bytes: Box<[u8]>,
    /// What the [`tag::SHARED`]s in `bytes` stand for, in their order.
    pub(crate) shared: Box<[share::Shared]>,
}

/// The first byte of each value. Strings stand for names of fields, too.
pub(crate) mod tag {
    pub(crate) const NULL: u8 = 0x00;
    pub(crate) const FALSE: u8 = 0x01;
    pub(crate) const TRUE: u8 = 0x02;
    /// Ends the object or array.
    pub(crate) const END: u8 = 0x03;
    /// Names and values in turn, up to [`END`].
    pub(crate) const OBJECT: u8 = 0x04;
    /// Values, up to [`END`].
    pub(crate) const ARRAY: u8 = 0x05;
    /// The document's next shared sub-tree.
    pub(crate) const SHARED: u8 = 0x06;
    /// A varint.
    pub(crate) const UNSIGNED: u8 = 0x07;
    /// The varint of the number's complement.
    pub(crate) const NEGATIVE: u8 = 0x08;
    /// Eight bytes, little-endian.
    pub(crate) const FLOAT: u8 = 0x09;
    /// A varint of the length, then the bytes.
    pub(crate) const STRING: u8 = 0x0a;
    /// `2026-01-02T03:04:05Z`: a varint of the seconds since 1970.
    pub(crate) const TIME: u8 = 0x0b;
    /// `01234567-89ab-cdef-0123-456789abcdef`: sixteen bytes.
    pub(crate) const UUID: u8 = 0x0c;
    /// A string that ends in hexadecimal digits: the rest of it, then the length and bytes of what they say.
    pub(crate) const DIGEST: u8 = 0x0d;
    /// A number from 0 to 15.
    pub(crate) const SMALL: u8 = 0x10;
    /// A string of 0 to 63 bytes.
    pub(crate) const SHORT: u8 = 0x20;
    /// A word whose number is 128 or more, in five bits of this byte and all of the next.
    pub(crate) const RARE_WORD: u8 = 0x60;
    /// A word whose number is 0 to 127.
    pub(crate) const WORD: u8 = 0x80;
}
