//! From JSON to the compact form, in one pass.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::share::{Pool, Shared};
use super::words::{Dictionary, Use, Words};
use super::{Document, tag};

/// The least length of an encoding that is worth a pointer.
const LEAST_SHARED: usize = 32;
/// The least number of hexadecimal digits that are worth being packed.
const LEAST_DIGITS: usize = 16;

/// Encodes documents that have words and sub-trees in common.
pub(crate) struct Encoder {
    dictionary: Dictionary,
    pool: Pool,
    /// The same in every process: who makes hashes collide has objects of his own written out, and nothing else.
    hasher: foldhash::fast::FixedState,
    drops: Drops,
    bytes: Vec<u8>,
    shared: Vec<Shared>,
}

/// What is left out of each document: a tree of names of fields, whose leaves are dropped.
#[derive(Debug, Default)]
pub(crate) struct Drops(Vec<(String, Drops)>);

/// What a document is, where the text does not say: `apiVersion` and `kind`.
#[derive(Debug)]
pub(crate) struct TypeMeta {
    pub(crate) api_version: String,
    pub(crate) kind: String,
}

impl Drops {
    /// Adds a path of names, from the outermost on.
    pub(crate) fn add<'a>(&mut self, path: impl IntoIterator<Item = &'a str>) {
        let mut here = self;
        for name in path {
            let at = here
                .0
                .iter()
                .position(|(other, _)| other == name)
                .unwrap_or_else(|| {
                    here.0.push((name.to_owned(), Self::default()));
                    here.0.len() - 1
                });
            here = &mut here.0[at].1;
        }
        here.0.clear();
    }

    fn below(&self, name: &str) -> Option<&Self> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, below)| below)
    }
}

impl Encoder {
    pub(crate) fn new(drops: Drops) -> Self {
        Self {
            dictionary: Dictionary::new(),
            pool: Pool::new(),
            hasher: foldhash::fast::FixedState::default(),
            drops,
            bytes: Vec::new(),
            shared: Vec::new(),
        }
    }

    /// The words of the documents.
    pub(crate) fn words(&self) -> &Arc<Words> {
        self.dictionary.words()
    }

    /// Encodes a JSON text. `says_not` is what the text does not say about itself.
    ///
    /// # Errors
    /// The text is not JSON, or nests deeper than `serde_json` reads (128).
    pub(crate) fn encode(
        &mut self,
        text: &[u8],
        says_not: Option<&TypeMeta>,
    ) -> Result<Document, serde_json::Error> {
        // All at once, which is quicker than string by string.
        let text = std::str::from_utf8(text).map_err(Error::custom)?;
        self.bytes.clear();
        self.shared.clear();
        self.dictionary.begin();
        let drops = std::mem::take(&mut self.drops);
        let mut json = serde_json::Deserializer::from_str(text);
        let root = Value {
            encoder: self,
            drops: Some(&drops),
            root: says_not,
        };
        let encoded = root.deserialize(&mut json).and_then(|_| json.end());
        self.drops = drops;
        encoded?;
        Ok(Document {
            bytes: self.bytes.as_slice().into(),
            shared: self.shared.drain(..).collect(),
        })
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }

    fn varint(&mut self, number: u64) {
        push_varint(&mut self.bytes, number);
    }

    fn unsigned(&mut self, number: u64) -> u64 {
        match number {
            0..16 => self.bytes.push(tag::SMALL + number as u8),
            _ => {
                self.bytes.push(tag::UNSIGNED);
                self.varint(number);
            }
        }
        mix(number, u64::from(tag::UNSIGNED))
    }

    fn word(&mut self, number: u16) {
        match number.checked_sub(128) {
            None => self.bytes.push(tag::WORD + number as u8),
            Some(rare) => self
                .bytes
                .extend([tag::RARE_WORD + (rare >> 8) as u8, rare as u8]),
        }
    }

    fn string(&mut self, string: &str, used: Use) -> u64 {
        if let Some((number, hash)) = self.dictionary.expected(string) {
            self.word(number);
            return mix(hash, u64::from(tag::STRING));
        }
        let bytes = string.as_bytes();
        let hash = self.hash(bytes);
        if let Some(seconds) = time(bytes) {
            self.bytes.push(tag::TIME);
            self.varint(seconds);
        } else if let Some(uuid) = uuid(bytes) {
            self.bytes.push(tag::UUID);
            self.bytes.extend_from_slice(&uuid);
        } else if let Some(number) = self.dictionary.number(string, hash, used) {
            self.word(number);
        } else {
            let digits = bytes
                .iter()
                .rev()
                .take_while(|byte| digit(**byte).is_some())
                .count()
                & !1;
            match string.split_at_checked(bytes.len() - digits) {
                Some((rest, digits)) if digits.len() >= LEAST_DIGITS => {
                    self.bytes.push(tag::DIGEST);
                    self.string(rest, used);
                    self.varint(digits.len() as u64 / 2);
                    let packed = digits
                        .as_bytes()
                        .chunks_exact(2)
                        .filter_map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?));
                    self.bytes.extend(packed);
                }
                _ => {
                    match bytes.len() {
                        length @ 0..64 => self.bytes.push(tag::SHORT + length as u8),
                        length => {
                            self.bytes.push(tag::STRING);
                            self.varint(length as u64);
                        }
                    }
                    self.bytes.extend_from_slice(bytes);
                }
            }
        }
        mix(hash, u64::from(tag::STRING))
    }

    /// Puts a pointer in place of what has been encoded from `start` on, if it is known.
    fn share(&mut self, start: usize, shared: usize, hash: u64) {
        if self.bytes.len() - start < LEAST_SHARED {
            return;
        }
        let known = self
            .pool
            .share(hash, &self.bytes[start..], &self.shared[shared..]);
        if let Some(known) = known {
            self.bytes.truncate(start);
            self.shared.truncate(shared);
            self.bytes.push(tag::SHARED);
            self.shared.push(known);
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

/// Seven bits a byte, the lowest first; the last byte has no upper bit.
pub(super) fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn mix(a: u64, b: u64) -> u64 {
    let wide = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd1b5_4a32_d192_ed03);
    (wide as u64) ^ (wide >> 64) as u64
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// The seconds since 1970 of `2026-01-02T03:04:05Z`.
fn time(bytes: &[u8]) -> Option<u64> {
    if bytes.len() != 20 || bytes[19] != b'Z' {
        return None;
    }
    let separated = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separated.iter().any(|(at, separator)| bytes[*at] != *separator) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        bytes[range].iter().try_fold(0_u64, |number, byte| {
            byte.is_ascii_digit()
                .then(|| number * 10 + u64::from(byte - b'0'))
        })
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let days = super::read::days(year, month, day)?;
    (hour < 24 && minute < 60 && second < 60).then_some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn uuid(bytes: &[u8]) -> Option<[u8; 16]> {
    if bytes.len() != 36 || [8, 13, 18, 23].iter().any(|at| bytes[*at] != b'-') {
        return None;
    }
    let mut uuid = [0; 16];
    let mut digits = bytes.iter().filter(|byte| **byte != b'-');
    for byte in &mut uuid {
        *byte = digit(*digits.next()?)? << 4 | digit(*digits.next()?)?;
    }
    digits.next().is_none().then_some(uuid)
}

/// Encodes one value and gives the hash of its content.
struct Value<'a> {
    encoder: &'a mut Encoder,
    /// What to leave out below here.
    drops: Option<&'a Drops>,
    root: Option<&'a TypeMeta>,
}

struct Name<'a>(&'a mut Encoder);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<u64, E> {
        self.encoder.bytes.push(tag::NULL);
        Ok(mix(0, u64::from(tag::NULL)))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<u64, E> {
        let tag = if value { tag::TRUE } else { tag::FALSE };
        self.encoder.bytes.push(tag);
        Ok(mix(0, u64::from(tag)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        Ok(self.encoder.unsigned(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        match u64::try_from(number) {
            Ok(number) => Ok(self.encoder.unsigned(number)),
            Err(_) => {
                self.encoder.bytes.push(tag::NEGATIVE);
                self.encoder.varint(!number as u64);
                Ok(mix(number as u64, u64::from(tag::NEGATIVE)))
            }
        }
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<u64, E> {
        self.encoder.bytes.push(tag::FLOAT);
        self.encoder.bytes.extend(number.to_le_bytes());
        Ok(mix(number.to_bits(), u64::from(tag::FLOAT)))
    }

    fn visit_str<E: Error>(self, string: &str) -> Result<u64, E> {
        let start = self.encoder.bytes.len();
        let hash = self.encoder.string(string, Use::Value);
        let shared = self.encoder.shared.len();
        self.encoder.share(start, shared, hash);
        Ok(hash)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<u64, A::Error> {
        let encoder = self.encoder;
        let (start, shared) = (encoder.bytes.len(), encoder.shared.len());
        encoder.bytes.push(tag::ARRAY);
        let mut hash = u64::from(tag::ARRAY);
        while let Some(value) = values.next_element_seed(Value {
            encoder,
            drops: None,
            root: None,
        })? {
            hash = mix(hash, value);
        }
        encoder.bytes.push(tag::END);
        encoder.share(start, shared, hash);
        Ok(hash)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<u64, A::Error> {
        let encoder = self.encoder;
        let (start, shared) = (encoder.bytes.len(), encoder.shared.len());
        encoder.bytes.push(tag::OBJECT);
        let mut hash = u64::from(tag::OBJECT);
        if let Some(root) = self.root {
            for (name, value) in [("apiVersion", &root.api_version), ("kind", &root.kind)] {
                hash = mix(hash, encoder.string(name, Use::Name));
                hash = mix(hash, encoder.string(value, Use::Name));
            }
        }
        loop {
            let (before, drops) = (
                encoder.bytes.len(),
                self.drops.filter(|drops| !drops.0.is_empty()),
            );
            let mut below = None;
            let mut dropped = false;
            let name = if drops.is_none() && self.root.is_none() {
                fields.next_key_seed(Name(encoder))?
            } else {
                let name = fields.next_key::<std::borrow::Cow<'_, str>>()?;
                if let Some(name) = &name {
                    below = drops.and_then(|drops| drops.below(name));
                    dropped = below.is_some_and(|below| below.0.is_empty())
                        || (self.root.is_some() && matches!(&**name, "apiVersion" | "kind"));
                }
                name.map(|name| encoder.string(&name, Use::Name))
            };
            let Some(name) = name else { break };
            if dropped {
                encoder.bytes.truncate(before);
                fields.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = fields.next_value_seed(Value {
                encoder,
                drops: below,
                root: None,
            })?;
            hash = mix(mix(hash, name), value);
        }
        encoder.bytes.push(tag::END);
        encoder.share(start, shared, hash);
        Ok(hash)
    }
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<u64, E> {
        Ok(self.0.string(name, Use::Name))
    }
}
