//! The items of a list's body, each as soon as it has arrived.
//!
//! Only where items begin and end is looked at here; whether they are well-formed is seen when they are decoded. At most one
//! unfinished item is held, and what the body says beside its items.

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::failure::Failure;

/// The most bytes of a list that are not items.
const MOST_BESIDE: usize = 1 << 20;

/// What a list says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListMeta {
    pub(super) resource_version: String,
    /// How to ask for the rest, if there is more.
    pub(super) continue_token: Option<String>,
    /// What says that the list is one shard.
    pub(super) shard: Option<String>,
}

/// Finds the items in the parts of a body.
#[derive(Debug)]
pub(super) struct ListReader {
    /// What has arrived and is not looked at yet.
    chunk: Bytes,
    place: Place,
    /// Everything but the items.
    beside: Vec<u8>,
    /// Where in `beside` the name of the field is whose value comes now, if that is a field of the list itself.
    field: (usize, usize),
    /// The beginning of an item that came in earlier chunks.
    begun: BytesMut,
    nesting: Nesting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Not in the items.
    Beside,
    /// Between two items.
    Items {
        comma: bool,
    },
    Item,
}

/// Where in a JSON text one is.
#[derive(Clone, Copy, Debug, Default)]
struct Nesting {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl ListReader {
    pub(super) fn new() -> Self {
        Self {
            chunk: Bytes::new(),
            place: Place::Beside,
            beside: Vec::new(),
            field: (0, 0),
            begun: BytesMut::new(),
            nesting: Nesting::default(),
        }
    }

    /// Takes the next part of the body. All items of the part before must have been taken.
    pub(super) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty());
        self.chunk = chunk;
    }

    /// The next item that has arrived as a whole.
    pub(super) fn next_item(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match self.place {
                Place::Beside => self.read_beside()?,
                Place::Items { comma } => self.read_between(comma)?,
                Place::Item => {
                    let end = self.nesting.end_of_value(&self.chunk);
                    let Some(end) = end else {
                        self.begun.extend_from_slice(&self.chunk);
                        self.chunk.clear();
                        return Ok(None);
                    };
                    self.place = Place::Items { comma: true };
                    // The list itself is what one is in again.
                    self.nesting = Nesting {
                        depth: 1,
                        ..Nesting::default()
                    };
                    if self.begun.is_empty() {
                        return Ok(Some(self.chunk.split_to(end)));
                    }
                    self.begun.extend_from_slice(&self.chunk[..end]);
                    self.chunk.advance(end);
                    return Ok(Some(self.begun.split().freeze()));
                }
            }
            if self.chunk.is_empty() {
                return Ok(None);
            }
        }
    }

    /// What the list says of itself, when its body has ended.
    pub(super) fn finish(self) -> Result<ListMeta, Failure> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            metadata: Meta,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Meta {
            resource_version: String,
            #[serde(rename = "continue")]
            continue_token: Option<String>,
            shard_info: Option<Box<RawValue>>,
        }
        let body: Body = serde_json::from_slice(&self.beside).map_err(|error| {
            if error.is_eof() {
                Failure::Connection("the body of the list ends in the middle".into())
            } else {
                Failure::Malformed(format!("no list: {error}"))
            }
        })?;
        Ok(ListMeta {
            resource_version: body.metadata.resource_version,
            continue_token: body.metadata.continue_token.filter(|token| !token.is_empty()),
            shard: body.metadata.shard_info.map(|shard| shard.get().to_owned()),
        })
    }

    fn read_beside(&mut self) -> Result<(), Failure> {
        let mut read = 0;
        for byte in self.chunk.iter().copied() {
            read += 1;
            let nesting = self.nesting;
            self.beside.push(byte);
            self.nesting.pass(byte);
            let (at, in_list) = (self.beside.len(), nesting.depth == 1);
            match byte {
                b'"' if in_list && !nesting.in_string => self.field.0 = at,
                b'"' if in_list && nesting.in_string && !nesting.escaped => self.field.1 = at - 1,
                b'[' if in_list && !nesting.in_string && self.is_items() => {
                    self.place = Place::Items { comma: false };
                    self.nesting = nesting;
                    break;
                }
                _ => {}
            }
        }
        self.chunk.advance(read);
        if self.beside.len() > MOST_BESIDE {
            return Err(Failure::Malformed(format!(
                "a list with more than {MOST_BESIDE} bytes beside its items"
            )));
        }
        Ok(())
    }

    /// Whether the array that has just begun is the items: what comes before it is their name.
    fn is_items(&self) -> bool {
        let name = self.beside.get(self.field.0..self.field.1);
        let between = self.beside.get(self.field.1 + 1..self.beside.len() - 1);
        name == Some(b"items") && between.is_some_and(|between| between.trim_ascii() == b":")
    }

    fn read_between(&mut self, mut comma: bool) -> Result<(), Failure> {
        for (read, byte) in self.chunk.iter().copied().enumerate() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b',' if comma => comma = false,
                b']' => {
                    self.beside.push(byte);
                    self.place = Place::Beside;
                    self.chunk.advance(read + 1);
                    return Ok(());
                }
                b'{' if !comma => {
                    self.place = Place::Item;
                    self.nesting = Nesting::default();
                    self.chunk.advance(read);
                    return Ok(());
                }
                _ => return Err(Failure::Malformed("a list with items that are no objects".into())),
            }
        }
        self.place = Place::Items { comma };
        self.chunk.clear();
        Ok(())
    }
}

impl Nesting {
    fn pass(&mut self, byte: u8) {
        if std::mem::take(&mut self.escaped) {
            return;
        }
        match byte {
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            b'{' | b'[' if !self.in_string => self.depth += 1,
            b'}' | b']' if !self.in_string => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    /// Where the object ends that one is in or that begins here; `None` if not in this text.
    fn end_of_value(&mut self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            if self.in_string && !self.escaped {
                // Most of a text is strings.
                at += memchr::memchr2(b'"', b'\\', &text[at..])?;
                self.pass(text[at]);
            } else {
                self.pass(*byte);
                if self.depth == 0 {
                    return Some(at + 1);
                }
            }
            at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(chunks: &[&[u8]]) -> Result<(Vec<Value>, ListMeta), Failure> {
        let (mut reader, mut items) = (ListReader::new(), Vec::new());
        for chunk in chunks {
            reader.push(Bytes::copy_from_slice(chunk));
            while let Some(item) = reader.next_item()? {
                items.push(serde_json::from_slice(&item).unwrap());
            }
        }
        Ok((items, reader.finish()?))
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[\\]\\[{}\",:\\\\a]{0,6}",
            Just("items".to_owned()),
            Just("\"items\":[".to_owned())
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            text().prop_map(Value::from),
            any::<i8>().prop_map(Value::from),
            Just(Value::Null)
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(text(), inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn items_are_found_wherever_the_body_is_split(
            items in prop::collection::vec(prop::collection::btree_map(text(), value(), 0..4), 0..5),
            others in prop::collection::btree_map("[a-z]{1,3}", value(), 0..3),
            items_first: bool,
            pretty: bool,
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let items: Vec<Value> = items.into_iter().map(|item| Value::Object(item.into_iter().collect())).collect();
            let mut fields: Vec<(String, Value)> = others.into_iter().collect();
            fields.push(("metadata".into(), json!({"resourceVersion": "7", "continue": "x", "items": [{}]})));
            let at = if items_first { 0 } else { fields.len() };
            fields.insert(at, ("items".into(), json!(items)));
            let fields = fields.iter().map(|(name, value)| {
                let value = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
                format!("\"{name}\" : {}", value.unwrap())
            });
            let body = format!("{{{}}}\n", fields.collect::<Vec<_>>().join(","));
            let body = body.as_bytes();
            cuts.sort_by_key(|cut| cut.index(body.len()));
            let (mut chunks, mut from) = (Vec::new(), 0);
            for cut in cuts.iter().map(|cut| cut.index(body.len())) {
                chunks.push(&body[from..cut]);
                from = cut;
            }
            chunks.push(&body[from..]);
            let meta = ListMeta { resource_version: "7".into(), continue_token: Some("x".into()), shard: None };
            prop_assert_eq!(read(&chunks).unwrap(), (items, meta));
            for cut in cuts.iter().map(|cut| cut.index(body.len() - 1)) {
                prop_assert!(read(&[&body[..cut]]).is_err());
            }
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let cases: [(&str, &str); 8] = [
            ("", "ends in the middle"),
            (r#"{"items":[{"a":1}"#, "ends in the middle"),
            (r#"{"items":[{"a":1},"#, "ends in the middle"),
            (r#"{"items":[1]}"#, "items that are no objects"),
            (r#"{"items":[{}{}]}"#, "items that are no objects"),
            (r#"{"items":[,{}]}"#, "items that are no objects"),
            (r#"{"items":[]}}"#, "no list: trailing characters"),
            ("<html>", "no list"),
        ];
        for (body, expected) in cases {
            let error = read(&[body.as_bytes()]).unwrap_err().to_string();
            assert!(error.contains(expected), "{body}: {error}");
        }
        let long = format!(r#"{{"kind":"{}"}}"#, "x".repeat(MOST_BESIDE));
        let error = read(&[long.as_bytes()]).unwrap_err().to_string();
        assert!(error.contains("more than 1048576 bytes beside"), "{error}");
    }

    #[test]
    fn a_list_may_have_no_items_and_may_be_a_shard() {
        for items in [r#","items":null"#, r#","items":[]"#, ""] {
            let body = format!(r#"{{"metadata":{{"continue":"","shardInfo":{{"selector":"s"}}}}{items}}}"#);
            let (items, meta) = read(&[body.as_bytes()]).unwrap();
            assert_eq!((items.len(), meta.continue_token), (0, None));
            assert_eq!(meta.shard.unwrap(), r#"{"selector":"s"}"#);
        }
    }
}
