//! Reads a backup, with doubt.

use std::io::{self, Read};

use bytes::Bytes;

use super::{ENTRY_HEAD, Error, MAGIC, MAX_BLOCK_BYTES, Summary, VERSION, chained};
use crate::contract::{KeyValue, SnapshotEntry};

/// Reads all of a backup and keeps nothing; `progress` is told of the keys seen and of all keys.
///
/// # Errors
///
/// What is wrong with it.
pub fn verify(from: impl Read, mut progress: impl FnMut(u64, u64)) -> Result<Summary, Error> {
    let mut reader = Reader::new(from)?;
    while reader.block()?.is_some() {
        progress(reader.keys, reader.summary.keys);
    }
    Ok(reader.summary)
}

/// A backup that is being read.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    summary: Summary,
    crc: u32,
    /// How many keys have come, and how many bytes of entries.
    keys: u64,
    entries: u64,
    /// Everything up to here is whole.
    at: u64,
    last: Option<Bytes>,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the head. `from` should be buffered.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no backup that this version knows.
    pub fn new(mut from: R) -> Result<Self, Error> {
        let mut head = [0; MAGIC.len() + 2 + 24];
        let found = fill(&mut from, &mut head)?;
        if found < MAGIC.len() + 2 || !head.starts_with(MAGIC) || head[MAGIC.len() + 1] != b'\n' {
            return Err(Error::NotABackup);
        }
        if head[MAGIC.len()] != VERSION {
            return Err(Error::Version(char::from(head[MAGIC.len()])));
        }
        let mut crc = [0; 4];
        if found < head.len() || fill(&mut from, &mut crc)? < crc.len() {
            return Err(Error::Truncated {
                at: found as u64,
                keys: 0,
                of: 0,
            });
        }
        let expected = chained(0, &[&head]);
        if u32::from_le_bytes(crc) != expected {
            return Err(Error::Damaged {
                at: 0,
                why: "the checksum of its head is wrong",
            });
        }
        let mut numbers = Numbers(&head[MAGIC.len() + 2..]);
        let (revision, keys, made) = (numbers.u64(), numbers.u64(), numbers.u64());
        let at = (head.len() + crc.len()) as u64;
        Ok(Self {
            from,
            summary: Summary {
                revision,
                keys,
                bytes: at,
                made,
            },
            crc: expected,
            keys: 0,
            entries: 0,
            at,
            last: None,
            ended: false,
        })
    }

    /// What the backup says of itself; its length is what has been read of it.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// The next keys, in order; nothing after the last ones, when all of the backup has been found to be whole.
    ///
    /// # Errors
    ///
    /// What is wrong with it. What came before is not to be used then: only a whole backup is a state that was.
    pub fn block(&mut self) -> Result<Option<Vec<SnapshotEntry>>, Error> {
        if self.ended {
            return Ok(None);
        }
        let (len, crc) = (self.bytes::<4>()?, self.bytes::<4>()?);
        let (size, crc) = (u32::from_le_bytes(len), u32::from_le_bytes(crc));
        if size == 0 {
            self.check(chained(self.crc, &[&len]), crc)?;
            return self.end().map(|()| None);
        }
        if size > MAX_BLOCK_BYTES {
            return Err(self.damaged("a length is beyond belief"));
        }
        let mut block = Vec::new();
        // Read as it comes, so that a false length costs no memory.
        let found = (&mut self.from).take(u64::from(size)).read_to_end(&mut block)?;
        if found < size as usize {
            return Err(self.truncated());
        }
        self.check(chained(self.crc, &[&len, &block]), crc)?;
        self.at += 8 + u64::from(size);
        self.entries += u64::from(size);
        self.summary.bytes = self.at;
        let entries = self.entries(&Bytes::from(block))?;
        self.keys += entries.len() as u64;
        Ok(Some(entries))
    }

    fn entries(&mut self, block: &Bytes) -> Result<Vec<SnapshotEntry>, Error> {
        let mut entries = Vec::new();
        let mut at = 0;
        while at < block.len() {
            let head = block.get(at..at + ENTRY_HEAD);
            let mut numbers = Numbers(head.ok_or_else(|| self.damaged("an entry is too short"))?);
            let (key_len, value_len) = (numbers.u32() as usize, numbers.u32() as usize);
            let (create_revision, mod_revision, expires) = (numbers.u64(), numbers.u64(), numbers.u64());
            at += ENTRY_HEAD;
            let end = at.saturating_add(key_len).saturating_add(value_len);
            if end > block.len() {
                return Err(self.damaged("an entry is too short"));
            }
            // Copies, since entries outlive the block by far.
            let key = Bytes::copy_from_slice(&block[at..at + key_len]);
            let value = Bytes::copy_from_slice(&block[at + key_len..end]);
            at = end;
            if self.last.as_ref().is_some_and(|last| *last >= key) {
                return Err(self.damaged("the keys are out of order"));
            }
            if create_revision > mod_revision || mod_revision > self.summary.revision {
                return Err(self.damaged("a key is of a later revision than the backup"));
            }
            self.last = Some(key.clone());
            let kv = KeyValue {
                key,
                value,
                create_revision,
                mod_revision,
            };
            entries.push(SnapshotEntry {
                kv,
                expires: Some(expires).filter(|at| *at > 0),
            });
        }
        Ok(entries)
    }

    fn end(&mut self) -> Result<(), Error> {
        let (numbers, crc) = (self.bytes::<16>()?, self.bytes::<4>()?);
        self.check(chained(self.crc, &[&numbers]), u32::from_le_bytes(crc))?;
        let mut numbers = Numbers(&numbers);
        if (numbers.u64(), numbers.u64()) != (self.keys, self.entries) || self.keys != self.summary.keys {
            return Err(self.damaged("the number of keys is wrong"));
        }
        if fill(&mut self.from, &mut [0])? > 0 {
            return Err(self.damaged("something follows its end"));
        }
        self.at += 28;
        self.summary.bytes = self.at;
        self.ended = true;
        Ok(())
    }

    fn check(&mut self, expected: u32, found: u32) -> Result<(), Error> {
        if expected != found {
            return Err(self.damaged("a checksum is wrong"));
        }
        self.crc = expected;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        if fill(&mut self.from, &mut bytes)? < N {
            return Err(self.truncated());
        }
        Ok(bytes)
    }

    fn damaged(&self, why: &'static str) -> Error {
        Error::Damaged { at: self.at, why }
    }

    fn truncated(&self) -> Error {
        Error::Truncated {
            at: self.at,
            keys: self.keys,
            of: self.summary.keys,
        }
    }
}

/// Reads as much as there is, up to the length of `out`.
fn fill(from: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut found = 0;
    while found < out.len() {
        match from.read(&mut out[found..]) {
            Ok(0) => break,
            Ok(n) => found += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Takes numbers from bytes that are known to be enough.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((first, rest)) = self.0.split_first_chunk::<N>() else {
            return [0; N];
        };
        self.0 = rest;
        *first
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}
