//! JSON with line breaks and indents, made of JSON without as it is sent: of a long list no more than a piece is ever in
//! memory.

use bytes::Bytes;
use trimtab_apimachinery_meta::ApiError;

/// Pieces of JSON, each written anew.
#[derive(Debug)]
pub(super) struct Pretty<I> {
    pieces: I,
    writer: Writer,
}

impl<I> Pretty<I> {
    pub(super) fn new(pieces: I) -> Self {
        Self {
            pieces,
            writer: Writer::default(),
        }
    }
}

impl<I: Iterator<Item = Result<Bytes, ApiError>>> Iterator for Pretty<I> {
    type Item = Result<Bytes, ApiError>;

    fn next(&mut self) -> Option<Self::Item> {
        let piece = self.pieces.next()?;
        Some(piece.map(|piece| {
            let mut out = Vec::with_capacity(piece.len() * 2);
            self.writer.write(&piece, &mut out);
            out.into()
        }))
    }
}

/// Where in a document the writer is.
#[derive(Debug, Default)]
struct Writer {
    depth: usize,
    in_text: bool,
    /// The character before was a backslash, within a text.
    escaped: bool,
    /// A bracket has been opened, and nothing has come yet.
    opened: bool,
}

impl Writer {
    fn write(&mut self, json: &[u8], out: &mut Vec<u8>) {
        for &byte in json {
            if self.in_text {
                out.push(byte);
                self.in_text = self.escaped || byte != b'"';
                self.escaped = !self.escaped && byte == b'\\';
                continue;
            }
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if !std::mem::take(&mut self.opened) {
                        self.break_line(out);
                    }
                    out.push(byte);
                    continue;
                }
                _ => {}
            }
            if std::mem::take(&mut self.opened) {
                self.break_line(out);
            }
            out.push(byte);
            match byte {
                b'"' => self.in_text = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    self.opened = true;
                }
                b',' => self.break_line(out),
                b':' => out.push(b' '),
                _ => {}
            }
        }
    }

    fn break_line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', self.depth * 2));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            r#"[a"\\\[\]{},: ]{0,4}"#.prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(r#"[a"\\{]{0,2}"#, inner, 0..3)
                    .prop_map(|fields| Value::from(fields.into_iter().collect::<serde_json::Map<_, _>>())),
            ]
        })
    }

    proptest! {
        /// It is what the whole would be, wherever the pieces end.
        #[test]
        fn pieces_are_written_as_the_whole_is(value in values(), at in any::<proptest::sample::Index>()) {
            let json = Bytes::from(value.to_string());
            let at = at.index(json.len() + 1);
            let pieces = [Ok(json.slice(..at)), Ok(json.slice(at..))];
            let written: Result<Vec<Bytes>, _> = Pretty::new(pieces.into_iter()).collect();
            let whole = serde_json::to_vec_pretty(&value).unwrap();
            prop_assert_eq!(written.unwrap().concat(), whole);
        }
    }
}
