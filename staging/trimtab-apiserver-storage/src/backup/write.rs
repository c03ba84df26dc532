//! Writes a snapshot as a backup.

use std::io::Write;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};

use super::{BLOCK_BYTES, ENTRY_HEAD, MAGIC, MAX_BLOCK_BYTES, Summary, VERSION, chained};
use crate::contract::{Error, Result, Snapshot, SnapshotEntry};

/// A backup in pieces, to be written one after the other; `made` is the time, in milliseconds since 1970. After an
/// error nothing comes: what there is lacks its end, and is known by that.
pub fn encode(snapshot: Snapshot, made: u64) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    let mut head = [MAGIC, &[VERSION, b'\n']].concat();
    for number in [snapshot.revision, snapshot.count, made] {
        head.extend_from_slice(&number.to_le_bytes());
    }
    let crc = chained(0, &[&head]);
    head.extend_from_slice(&crc.to_le_bytes());
    let encoder = Encoder {
        entries: snapshot.entries,
        part: Vec::new().into_iter(),
        block: Vec::new(),
        crc,
        keys: 0,
        bytes: 0,
        done: false,
    };
    stream::once(async { Ok(Bytes::from(head)) }).chain(stream::unfold(encoder, |mut encoder| async {
        let piece = encoder.piece().await?;
        Some((piece, encoder))
    }))
}

/// Writes a backup; `progress` is told of the keys written and of all keys.
///
/// # Errors
///
/// When the snapshot cannot be read or the backup not be written; what is there by then is no backup.
pub async fn save(
    snapshot: Snapshot,
    made: u64,
    to: &mut (impl Write + Send),
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<Summary, super::Error> {
    let (revision, count) = (snapshot.revision, snapshot.count);
    let mut summary = Summary {
        revision,
        keys: count,
        bytes: 0,
        made,
    };
    let Snapshot { entries, .. } = snapshot;
    let (counted, mut seen) = counting(entries);
    let snapshot = Snapshot {
        revision,
        count,
        entries: counted,
    };
    let mut pieces = std::pin::pin!(encode(snapshot, made));
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        to.write_all(&piece)?;
        summary.bytes += piece.len() as u64;
        progress(seen(), count);
    }
    Ok(summary)
}

type Entries = BoxStream<'static, Result<Vec<SnapshotEntry>>>;

/// The same entries, and how many of them have been taken.
fn counting(entries: Entries) -> (Entries, impl FnMut() -> u64) {
    let counter = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let seen = counter.clone();
    let counted = entries.inspect(move |part| {
        if let Ok(part) = part {
            counter.fetch_add(part.len() as u64, std::sync::atomic::Ordering::Relaxed);
        }
    });
    (Box::pin(counted), move || {
        seen.load(std::sync::atomic::Ordering::Relaxed)
    })
}

struct Encoder {
    entries: Entries,
    /// What has come and has not been written.
    part: std::vec::IntoIter<SnapshotEntry>,
    block: Vec<u8>,
    crc: u32,
    keys: u64,
    bytes: u64,
    done: bool,
}

impl Encoder {
    async fn piece(&mut self) -> Option<Result<Bytes>> {
        if self.done {
            return None;
        }
        while self.block.len() < BLOCK_BYTES {
            if let Some(entry) = self.part.next() {
                if let Err(error) = self.entry(&entry) {
                    self.done = true;
                    return Some(Err(error));
                }
                continue;
            }
            match self.entries.next().await {
                Some(Ok(part)) => self.part = part.into_iter(),
                Some(Err(error)) => {
                    self.done = true;
                    return Some(Err(error));
                }
                None if self.block.is_empty() => {
                    self.done = true;
                    return Some(Ok(self.end()));
                }
                None => break,
            }
        }
        Some(Ok(self.block()))
    }

    fn entry(&mut self, entry: &SnapshotEntry) -> Result<()> {
        let kv = &entry.kv;
        let size = ENTRY_HEAD + kv.key.len() + kv.value.len();
        if size > MAX_BLOCK_BYTES as usize - BLOCK_BYTES {
            let key = String::from_utf8_lossy(&kv.key);
            return Err(Error::Io(format!("{key} is too long for a backup: {size} bytes")));
        }
        self.block.reserve(size);
        for len in [kv.key.len(), kv.value.len()] {
            self.block.extend_from_slice(&length(len).to_le_bytes());
        }
        for number in [kv.create_revision, kv.mod_revision, entry.expires.unwrap_or(0)] {
            self.block.extend_from_slice(&number.to_le_bytes());
        }
        self.block.extend_from_slice(&kv.key);
        self.block.extend_from_slice(&kv.value);
        self.keys += 1;
        Ok(())
    }

    fn block(&mut self) -> Bytes {
        let len = length(self.block.len()).to_le_bytes();
        self.crc = chained(self.crc, &[&len, &self.block]);
        self.bytes += self.block.len() as u64;
        let mut piece = Vec::with_capacity(8 + self.block.len());
        piece.extend_from_slice(&len);
        piece.extend_from_slice(&self.crc.to_le_bytes());
        piece.append(&mut self.block);
        piece.into()
    }

    fn end(&mut self) -> Bytes {
        let mark = [0; 4];
        self.crc = chained(self.crc, &[&mark]);
        let mut piece = [&mark[..], &self.crc.to_le_bytes()].concat();
        let numbers = [self.keys.to_le_bytes(), self.bytes.to_le_bytes()].concat();
        self.crc = chained(self.crc, &[&numbers]);
        piece.extend_from_slice(&numbers);
        piece.extend_from_slice(&self.crc.to_le_bytes());
        piece.into()
    }
}

/// A length as it is written; longer ones have been refused.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
