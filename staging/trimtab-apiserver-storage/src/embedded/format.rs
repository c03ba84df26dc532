//! The on-disk format, version 2: how a version of a key is written as a row, and read back with doubt.
//!
//! Two tables. `meta` says by name: `format`, the version of the format; `oldest`, the oldest revision that can be
//! asked for (1 if not there); `start`, the revision that the store began with, to which rows of it and of revisions
//! before it were restored (1 if not there; version 1 of the format has no such name). `rows` holds the rows.
//!
//! Row key: the revision (8 bytes, big endian), then the key. Row value: a CRC-32 of the row's key and of the
//! rest of the value (4 bytes), what happened (1 byte), the revision of the key's creation (8 bytes), the time
//! of its expiry in milliseconds since 1970 or 0 for never (8 bytes), the value. Numbers are little endian
//! where not said otherwise.

use bytes::Bytes;

use crate::contract::{EventKind, Revision};
use crate::state::{Change, Millis};

/// The version of the format that this code writes.
pub(super) const FORMAT: u64 = 2;
/// The oldest version that it reads, and makes into the current one.
pub(super) const OLDEST_FORMAT: u64 = 1;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const HEAD: usize = 4 + 1 + 8 + 8;

/// A row, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) revision: Revision,
    pub(super) key: Bytes,
    pub(super) kind: EventKind,
    pub(super) create_revision: Revision,
    pub(super) expires: Option<Millis>,
    pub(super) value: Bytes,
}

pub(super) fn row_key(revision: Revision, key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(8 + key.len());
    row.extend_from_slice(&revision.to_be_bytes());
    row.extend_from_slice(key);
    row
}

pub(super) fn row_value(row_key: &[u8], change: &Change) -> Vec<u8> {
    let kv = &change.event.kv;
    let mut row = Vec::with_capacity(HEAD + kv.value.len());
    row.extend_from_slice(&[0; 4]);
    row.push(if change.event.kind == EventKind::Put {
        PUT
    } else {
        DELETE
    });
    row.extend_from_slice(&kv.create_revision.to_le_bytes());
    row.extend_from_slice(&change.expires.unwrap_or(0).to_le_bytes());
    row.extend_from_slice(&kv.value);
    let sum = checksum(row_key, &row[4..]);
    row[..4].copy_from_slice(&sum.to_le_bytes());
    row
}

/// Reads a row back.
///
/// # Errors
///
/// What is wrong with it, for people.
pub(super) fn parse(row_key: &[u8], row: &[u8]) -> Result<Row, String> {
    let (Some((revision, key)), Some((sum, rest))) = (row_key.split_first_chunk(), row.split_first_chunk())
    else {
        return Err("a row is too short".to_owned());
    };
    let revision = Revision::from_be_bytes(*revision);
    if checksum(row_key, rest) != u32::from_le_bytes(*sum) {
        return Err(format!("the checksum of a row of revision {revision} is wrong"));
    }
    let short = || format!("a row of revision {revision} is too short");
    let ([kind], rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (create_revision, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (expires, value) = rest.split_first_chunk().ok_or_else(short)?;
    let kind = match *kind {
        PUT => EventKind::Put,
        DELETE => EventKind::Delete,
        other => {
            return Err(format!(
                "a row of revision {revision} is of the unknown kind {other}"
            ));
        }
    };
    Ok(Row {
        revision,
        key: Bytes::copy_from_slice(key),
        kind,
        create_revision: Revision::from_le_bytes(*create_revision),
        expires: Some(Millis::from_le_bytes(*expires)).filter(|at| *at > 0),
        value: Bytes::copy_from_slice(value),
    })
}

fn checksum(row_key: &[u8], rest: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(row_key);
    crc.update(rest);
    crc.finalize()
}
