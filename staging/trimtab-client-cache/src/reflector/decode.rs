//! From the lines of a watch to events.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use trimtab_apimachinery_meta::ObjectKey;

use super::failure::Failure;

/// One line of a watch, its object still as text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event<'a> {
    pub(super) kind: Cow<'a, str>,
    pub(super) object: &'a [u8],
}

/// The part of an object that names it: all that is read of bookmarks and of objects that are gone.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(super) struct Named {
    pub(super) metadata: NameMeta,
}

#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NameMeta {
    namespace: String,
    name: String,
    pub(super) resource_version: String,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

impl Named {
    pub(super) fn key(&self) -> ObjectKey {
        ObjectKey {
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone(),
        }
    }
}

impl<'a> Event<'a> {
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, Failure> {
        if let Some(event) = Self::as_servers_write(line) {
            return Ok(event);
        }
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
            #[serde(borrow)]
            object: &'a RawValue,
        }
        let wire: Wire<'_> =
            serde_json::from_slice(line).map_err(|error| Failure::Malformed(error.to_string()))?;
        Ok(Self {
            kind: wire.kind,
            object: wire.object.get().as_bytes(),
        })
    }

    /// The event, if it is written as the servers that there are do, so that its end need not be looked for. That the object
    /// is well-formed, and ends where the event does, is seen when it is decoded.
    fn as_servers_write(line: &'a [u8]) -> Option<Self> {
        let rest = line.trim_ascii().strip_prefix(b"{\"type\":\"")?;
        let end = rest.iter().position(|byte| !byte.is_ascii_uppercase())?;
        let (kind, rest) = rest.split_at(end);
        let object = rest.strip_prefix(b"\",\"object\":")?.strip_suffix(b"}")?;
        Some(Self {
            kind: Cow::Borrowed(std::str::from_utf8(kind).ok()?),
            object,
        })
    }

    pub(super) fn named(&self) -> Result<Named, Failure> {
        serde_json::from_slice(self.object).map_err(|error| Failure::Malformed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_written() {
        let plain = br#"{"type":"ADDED","object":{"a":{}}}"#;
        let others: [&[u8]; 4] = [
            b" {\"type\":\"ADDED\",\"object\":{\"a\":{}}}\r",
            br#"{ "type": "ADDED", "object": {"a":{}} }"#,
            br#"{"object":{"a":{}},"type":"ADDED"}"#,
            br#"{"type":"\u0041DDED","object":{"a":{}}}"#,
        ];
        let expected = Event::as_servers_write(plain).unwrap();
        assert_eq!((&*expected.kind, expected.object), ("ADDED", &br#"{"a":{}}"#[..]));
        for other in others {
            assert_eq!(Event::parse(other).unwrap(), expected);
        }
        for malformed in [
            &b"{"[..],
            b"[]",
            b"{}",
            br#"{"type":"ADDED"}"#,
            br#"{"type":"ADDED","object":{"a""#,
        ] {
            let refused = Event::parse(malformed).and_then(|event| event.named().map(drop));
            assert!(refused.is_err(), "{}", malformed.escape_ascii());
        }
    }
}
