//! Where the parts of a stored object are in its JSON, found in one pass and without making values of it.
//!
//! What is accepted is JSON that a copy of its bytes answers for: the parser of values would read it, and what it would
//! write again means the same. Whatever is unusual (other keys first, a part twice, escaped keys, numbers with
//! exponents, line breaks between tokens) is not accepted: it is read as values, which takes longer and is always right.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// A part of the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// Where the parts of an object are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// The value of `metadata`, an object, with its braces. Before it there are `kind` and `apiVersion` alone.
    pub(super) metadata: Span,
    /// The value of `metadata.labels`; empty when there is none.
    pub(super) labels: Span,
    /// The text of `metadata.name`, without quotes; empty when there is none.
    pub(super) name: Span,
    /// The text of `metadata.namespace`, without quotes; empty when there is none.
    pub(super) namespace: Span,
    /// Behind the object's last brace.
    pub(super) end: u32,
}

/// Values nested deeper than this are not accepted. The parser of values goes a little further.
const DEEPEST: usize = 100;
/// Longer numbers are not accepted.
const LONGEST_NUMBER: usize = 40;

/// The layout of a stored object; `None` of what has to be read as values.
pub(super) fn scan(bytes: &[u8]) -> Option<Layout> {
    // Nearly all is ASCII, and to see that is several times as fast.
    let is_text = bytes.is_ascii() || std::str::from_utf8(bytes).is_ok();
    if bytes.len() >= u32::MAX as usize || !is_text {
        return None;
    }
    let mut layout = Layout::default();
    let (mut kind, mut api_version, mut metadata) = (false, false, false);
    let mut scanner = Scanner { bytes, at: 0 };
    scanner.object(|scanner, key| {
        let first_time = match key {
            b"kind" => !std::mem::replace(&mut kind, true),
            b"apiVersion" => !std::mem::replace(&mut api_version, true),
            b"metadata" if kind && api_version => {
                let first_time = !std::mem::replace(&mut metadata, true);
                let start = scanner.at;
                scanner.metadata(&mut layout)?;
                layout.metadata = scanner.span(start);
                return first_time.then_some(());
            }
            _ => metadata,
        };
        if !first_time {
            return None;
        }
        scanner.value(1)
    })?;
    layout.end = scanner.span(0).end;
    let rest = &bytes[scanner.at..];
    (metadata && rest.iter().all(u8::is_ascii_whitespace)).then_some(layout)
}

/// An object that has of one that has been scanned nothing but what is at these paths.
pub(super) fn parts(bytes: &[u8], paths: &[[String; 2]]) -> Option<Value> {
    let mut found = Map::new();
    let mut scanner = Scanner { bytes, at: 0 };
    scanner.object(|scanner, key| {
        if !paths.iter().any(|[part, _]| part.as_bytes() == key) {
            return scanner.value(1);
        }
        let part = std::str::from_utf8(key).ok()?;
        // Of several the last counts.
        found.remove(part);
        if scanner.peek()? != b'{' {
            return scanner.value(1);
        }
        let mut inside = Map::new();
        scanner.members(|scanner, key| {
            scanner.spaces();
            let start = scanner.at;
            scanner.value(2)?;
            let name = text(key.of(bytes))?;
            if paths.iter().any(|path| path[0] == part && path[1] == name) {
                let value = serde_json::from_slice(scanner.span(start).of(bytes)).ok()?;
                inside.insert(name.into_owned(), value);
            }
            Some(())
        })?;
        found.insert(part.to_owned(), Value::Object(inside));
        Some(())
    })?;
    Some(Value::Object(found))
}

/// The text of a label in the JSON of `metadata.labels`, which has been scanned.
pub(super) fn label<'b>(labels: &'b [u8], wanted: &str) -> Option<Cow<'b, str>> {
    let mut found = None;
    let mut scanner = Scanner { bytes: labels, at: 0 };
    scanner.members(|scanner, key| {
        let is_it = text(key.of(labels)).is_some_and(|key| key == wanted);
        scanner.spaces();
        let start = scanner.at;
        scanner.value(1)?;
        if is_it {
            // Of several the last counts, whatever it is.
            let value = scanner.span(start).of(labels);
            found = value
                .strip_prefix(b"\"")
                .and_then(|value| value.strip_suffix(b"\""))
                .and_then(text);
        }
        Some(())
    })?;
    found
}

/// What a string says whose bytes between the quotes are these.
fn text(inner: &[u8]) -> Option<Cow<'_, str>> {
    if !inner.contains(&b'\\') {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    let quoted = [b"\"", inner, b"\""].concat();
    serde_json::from_slice(&quoted).ok().map(Cow::Owned)
}

struct Scanner<'b> {
    bytes: &'b [u8],
    at: usize,
}

/// What ends the quick part of a string: a quote, a backslash, or a character that may not be there.
fn is_special(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < b' '
}

impl<'b> Scanner<'b> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// From `start` to here. That the bytes are few enough has been checked.
    #[allow(clippy::cast_possible_truncation)] // checked at the beginning
    fn span(&self, start: usize) -> Span {
        Span {
            start: start as u32,
            end: self.at as u32,
        }
    }

    /// Skips what may be between tokens. Line breaks may not: they end the lines of a watch.
    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.spaces();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// An object whose keys have no escapes. `member` is called at each value, and goes behind it.
    fn object(&mut self, mut member: impl FnMut(&mut Self, &'b [u8]) -> Option<()>) -> Option<()> {
        self.members(|scanner, key| {
            let key = key.of(scanner.bytes);
            if key.contains(&b'\\') {
                return None;
            }
            scanner.spaces();
            member(scanner, key)
        })
    }

    /// An object. `member` is called before each value with the key, which may have escapes, and goes behind it.
    fn members(&mut self, mut member: impl FnMut(&mut Self, Span) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        self.spaces();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.spaces();
            let key = self.string()?;
            self.expect(b':')?;
            member(self, key)?;
            self.spaces();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    fn metadata(&mut self, layout: &mut Layout) -> Option<()> {
        let (mut labels, mut name, mut namespace) = (false, false, false);
        self.object(|scanner, key| match key {
            b"labels" if !std::mem::replace(&mut labels, true) => {
                let start = scanner.at;
                scanner.value(2)?;
                layout.labels = scanner.span(start);
                Some(())
            }
            b"name" if !std::mem::replace(&mut name, true) => {
                layout.name = scanner.plain_string()?;
                Some(())
            }
            b"namespace" if !std::mem::replace(&mut namespace, true) => {
                layout.namespace = scanner.plain_string()?;
                Some(())
            }
            b"labels" | b"name" | b"namespace" | b"resourceVersion" => None,
            _ => scanner.value(2),
        })
    }

    /// A string without escapes.
    fn plain_string(&mut self) -> Option<Span> {
        let span = self.string()?;
        (!span.of(self.bytes).contains(&b'\\')).then_some(span)
    }

    /// A value of any sort, `depth` levels below the top.
    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        self.spaces();
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' => self.members(|scanner, _| scanner.value(depth + 1)),
            b'[' => self.array(depth),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        self.spaces();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.value(depth + 1)?;
            self.spaces();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes[self.at..]
            .starts_with(word)
            .then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        if self.peek()? == b'-' {
            self.at += 1;
        }
        let first = self.at;
        let whole = self.digits();
        if whole == 0 || (whole > 1 && self.bytes[first] == b'0') {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return None;
            }
        }
        // An exponent would follow here; who asked finds that neither a comma nor a brace does.
        (self.at - start <= LONGEST_NUMBER).then_some(())
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    /// A string; answers what is between the quotes.
    fn string(&mut self) -> Option<Span> {
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        let start = self.at;
        loop {
            self.plain();
            match self.peek()? {
                b'"' => {
                    let span = self.span(start);
                    self.at += 1;
                    return Some(span);
                }
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
    }

    /// Goes to the next special byte, eight bytes at a time.
    fn plain(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGHS: u64 = 0x8080_8080_8080_8080;
        const QUOTES: u64 = ONES * b'"' as u64;
        const BACKSLASHES: u64 = ONES * b'\\' as u64;
        const SPACES: u64 = ONES * b' ' as u64;
        let is_zero = |x: u64| x.wrapping_sub(ONES) & !x;
        while let Some(chunk) = self.bytes[self.at..].first_chunk::<8>() {
            let word = u64::from_le_bytes(*chunk);
            // The lowest mark is always right: a borrow marks only what is above a byte that is marked rightly.
            let marks =
                (is_zero(word ^ QUOTES) | is_zero(word ^ BACKSLASHES) | (word.wrapping_sub(SPACES) & !word))
                    & HIGHS;
            if marks != 0 {
                self.at += (marks.trailing_zeros() / 8) as usize;
                return;
            }
            self.at += 8;
        }
        while self.peek().is_some_and(|byte| !is_special(byte)) {
            self.at += 1;
        }
    }

    /// An escape. Of surrogates it would have to be seen whether they come in pairs: they are not accepted.
    fn escape(&mut self) -> Option<()> {
        match self.bytes.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => {
                let digits = self.bytes.get(self.at + 2..self.at + 6)?;
                if matches!(digits[0], b'd' | b'D') || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                self.at += 6;
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const HEAD: &str = r#"{"kind":"A","apiVersion":"v1","#;

    #[test]
    fn the_parts_are_found() {
        let text = r#"{"kind":"A","apiVersion":"v1","metadata":{"labels":{"a":"1","b":"\u0041"},"name":"n","namespace":"s"},"x":[1,-2.5,true,null,{"metadata":{}}]}"#;
        let text = format!("{text}  \n");
        let bytes = text.as_bytes();
        let layout = scan(bytes).expect("it is as usual");
        let labels = layout.labels.of(bytes);
        assert_eq!(labels, br#"{"a":"1","b":"\u0041"}"#);
        assert_eq!(layout.name.of(bytes), b"n");
        assert_eq!(layout.namespace.of(bytes), b"s");
        assert!(layout.metadata.of(bytes).starts_with(b"{\"labels\""));
        assert!(layout.metadata.of(bytes).ends_with(b"\"s\"}"));
        assert_eq!(bytes[layout.end as usize - 1], b'}');
        assert_eq!(label(labels, "a").as_deref(), Some("1"));
        assert_eq!(label(labels, "b").as_deref(), Some("A"));
        assert_eq!(label(labels, "c"), None);
    }

    #[test]
    fn of_labels_that_repeat_the_last_counts() {
        let cases = [
            (r#"{"a":"1","a":"2"}"#, Some("2")),
            (r#"{"a":"1","\u0061":"2"}"#, Some("2")),
            (r#"{"a":"1","a":7}"#, None),
            (r#"{"a":"1","a":null}"#, None),
            ("null", None),
            ("", None),
            (r#"{ "b" : {"a":"1"} , "a" : "\"" }"#, Some("\"")),
        ];
        for (labels, expected) in cases {
            assert_eq!(label(labels.as_bytes(), "a").as_deref(), expected, "{labels}");
        }
    }

    #[test]
    fn the_unusual_is_left_to_others() {
        let usual = format!("{HEAD}\"metadata\":{{}}}}");
        assert!(scan(usual.as_bytes()).is_some());
        let cases = [
            String::new(),
            "{}".to_owned(),
            "7".to_owned(),
            r#"{"apiVersion":"v1","data":{},"kind":"A","metadata":{}}"#.to_owned(),
            r#"{"kind":"A","metadata":{},"apiVersion":"v1"}"#.to_owned(),
            format!("{HEAD}\"metadata\":7}}"),
            format!("{HEAD}\"metadata\":{{}}"),
            format!("{HEAD}\"metadata\":{{}}}}x"),
            format!("{HEAD}\"metadata\":{{}},\n\"x\":1}}"),
            format!("{HEAD}\"metadata\":{{}},}}"),
            format!("{HEAD}\"metadata\":{{}},\"kind\":\"B\"}}"),
            format!("{HEAD}\"metadata\":{{}},\"metadata\":{{}}}}"),
            format!("{HEAD}\"metadata\":{{}},\"met\\u0061data\":{{}}}}"),
            format!("{HEAD}\"metadata\":{{\"resourceVersion\":\"1\"}}}}"),
            format!("{HEAD}\"metadata\":{{\"name\":\"a\",\"name\":\"b\"}}}}"),
            format!("{HEAD}\"metadata\":{{\"name\":\"\\u0061\"}}}}"),
            format!("{HEAD}\"metadata\":{{\"name\":null}}}}"),
            format!("{HEAD}\"metadata\":{{\"labels\":{{}},\"labels\":{{}}}}}}"),
        ];
        for text in cases {
            assert_eq!(scan(text.as_bytes()), None, "{text}");
        }
        for value in [
            "1e400",
            "01",
            "-",
            "1.",
            ".5",
            "tru",
            "\"\\ud800\"",
            "\"\\x\"",
            "\"\n\"",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
        ] {
            let text = format!("{HEAD}\"metadata\":{{}},\"x\":{value}}}");
            assert_eq!(scan(text.as_bytes()), None, "{text}");
        }
        let deep = format!(
            "{HEAD}\"metadata\":{{}},\"x\":{}{}}}",
            "[".repeat(200),
            "]".repeat(200)
        );
        assert_eq!(scan(deep.as_bytes()), None);
        let mut not_utf8 = usual.into_bytes();
        not_utf8[9] = 0xff;
        assert_eq!(scan(&not_utf8), None);
    }

    proptest! {
        /// What is accepted is JSON, whatever is done to it: a byte changed, added or left out.
        #[test]
        fn what_is_accepted_is_json(
            keys in proptest::collection::vec(".{0,12}", 0..4), at in 0..200usize, byte: u8, how in 0..4u8,
        ) {
            let mut object = json!({"x": keys.clone(), "y": {"z": [1, -2.5, true, null, u64::MAX]}});
            for key in &keys {
                object["y"][key.as_str()] = key.as_str().into();
            }
            let text = object.to_string();
            let mut bytes = format!("{HEAD}\"metadata\":{{\"name\":\"n\"}},{}", &text[1..]).into_bytes();
            prop_assert!(scan(&bytes).is_some() || keys.iter().any(|k| k == "metadata"));
            let at = at % bytes.len();
            match how {
                0 => {}
                1 => bytes[at] = byte,
                2 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
            if scan(&bytes).is_some() {
                let read: Result<Value, _> = serde_json::from_slice(&bytes);
                prop_assert!(read.is_ok(), "{}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}
