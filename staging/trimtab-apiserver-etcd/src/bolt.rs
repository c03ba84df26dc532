//! What an etcd snapshot holds, read from the file itself: no etcd has to run for it.
//!
//! The database is bbolt's: pages of a B+ tree, whose root is named by the younger of two checked meta pages. Bucket
//! `key` maps revisions to `mvccpb.KeyValue`; a revision with a `t` behind it is a deletion. Of the format only what is
//! needed to read is here. No length in the file is believed before it is checked.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use prost::Message as _;
use ring::digest::{Context, SHA256};

use crate::inventory::{Counter, Inventory, digest};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const PAGE_HEAD: usize = 16;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
/// Of a leaf's element: its value is a bucket.
const BUCKET: u32 = 0x01;
/// Deeper trees are not believed: at two children each, this is more than any disk holds.
const DEPTH: usize = 48;
/// A page that is said to be longer is not believed: bbolt's own limit of a value is below it.
const LONGEST: usize = 1 << 31;
/// What etcd puts behind a snapshot.
const SHA: u64 = 32;
/// The key by which API servers take turns to compact; it is no object.
const COMPACT_KEY: &[u8] = b"compact_rev_key";

/// A file that cannot be read as a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It is no database of etcd, or is damaged.
    #[error("it is no whole database of etcd: {0}")]
    Damaged(String),
    /// What is there is not what was sent.
    #[error("its SHA-256 is not the one that etcd put behind it: it is damaged or cut off")]
    Hash,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(int64, tag = "2")]
    create_revision: i64,
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
    #[prost(int64, tag = "6")]
    lease: i64,
}

/// Reads a snapshot from end to end and checks the hash behind it. It blocks.
///
/// # Errors
///
/// When it is not as etcd sent it.
pub fn check_hash(path: &Path) -> Result<(), SnapshotError> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    // Pages are of 512 bytes at least, so what is over is the hash.
    if length % 512 != SHA {
        return Err(SnapshotError::Hash);
    }
    let mut context = Context::new(&SHA256);
    let mut block = vec![0; 1 << 20];
    let mut at = 0;
    while at < length - SHA {
        let want = block
            .len()
            .min(usize::try_from(length - SHA - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut block[..want], at)?;
        context.update(&block[..want]);
        at += want as u64;
    }
    let mut wanted = [0; SHA as usize];
    file.read_exact_at(&mut wanted, length - SHA)?;
    if context.finish().as_ref() == wanted {
        Ok(())
    } else {
        Err(SnapshotError::Hash)
    }
}

/// What a database holds at its latest revision. It blocks. `progress` is told of the revisions read.
///
/// # Errors
///
/// When it is no whole database of etcd.
pub fn inventory(path: &Path, mut progress: impl FnMut(u64)) -> Result<Inventory, SnapshotError> {
    let bolt = Bolt::open(path)?;
    let root = bolt.bucket(b"key")?;
    /// Of a key's last change: when it was created and last changed, its digest, and whether it expires.
    type Last = ((u64, u64), [u8; 32], bool);
    let mut last: BTreeMap<Vec<u8>, Last> = BTreeMap::new();
    let (mut revision, mut seen) = (1, 0);
    bolt.walk(&root, 0, &mut |name, _, value| {
        let Some((main, deleted)) = revision_of(name) else {
            return Err(damaged("a revision is not as etcd writes them"));
        };
        revision = revision.max(main);
        let kv = KeyValue::decode(value).map_err(|e| damaged(&e.to_string()))?;
        if kv.key.is_empty() {
            // No key: what raises the revision of a restored store.
        } else if deleted {
            last.remove(&kv.key);
        } else {
            let number = |n| u64::try_from(n).unwrap_or(0);
            let mut hash = [0; 32];
            hash.copy_from_slice(digest(&kv.key, &kv.value).as_ref());
            let revisions = (number(kv.create_revision), number(kv.mod_revision));
            last.insert(kv.key, (revisions, hash, kv.lease != 0));
        }
        seen += 1;
        progress(seen);
        Ok(())
    })?;
    last.remove(COMPACT_KEY);
    // The latest revisions may be gone, when a compaction has come up to them.
    if let Ok(meta) = bolt.bucket(b"meta") {
        bolt.walk(&meta, 0, &mut |name, _, value| {
            if matches!(name, b"scheduledCompactRev" | b"finishedCompactRev")
                && let Some((compacted, _)) = revision_of(value)
            {
                revision = revision.max(compacted);
            }
            Ok(())
        })?;
    }
    let mut counter = Counter::new();
    for (key, (revisions, hash, expires)) in last {
        if expires {
            counter.add_expiring(&key, &hash);
        } else {
            counter.add_digest(&hash, revisions);
        }
    }
    Ok(counter.finish(revision))
}

/// A revision as etcd writes it: 8 bytes, `_`, 8 bytes, and `t` for a deletion.
fn revision_of(name: &[u8]) -> Option<(u64, bool)> {
    let deleted = match name.len() {
        17 => false,
        18 if name[17] == b't' => true,
        _ => return None,
    };
    let main = name[..8].try_into().ok()?;
    (name[8] == b'_').then_some((u64::from_be_bytes(main), deleted))
}

fn damaged(why: &str) -> SnapshotError {
    SnapshotError::Damaged(why.to_owned())
}

/// A tree: by its root's page, or inside a value.
enum Root {
    Page(u64),
    Inline(Vec<u8>),
}

struct Bolt {
    file: File,
    page: usize,
    root: u64,
    length: u64,
}

type Visit<'a> = dyn FnMut(&[u8], u32, &[u8]) -> Result<(), SnapshotError> + 'a;

impl Bolt {
    fn open(path: &Path) -> Result<Self, SnapshotError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut first = [0; 4096];
        if length < first.len() as u64 {
            return Err(damaged("it is too short"));
        }
        file.read_exact_at(&mut first, 0)?;
        // Where the second one is, only the first can say; when that is damaged, pages of 4 KiB are most likely.
        let page = match meta(&first) {
            Some(meta) => meta.page,
            None => 4096,
        };
        let mut second = [0; 80];
        file.read_exact_at(&mut second, page as u64)?;
        let metas = [meta(&first), meta(&second)];
        let newest = metas.into_iter().flatten().max_by_key(|meta| meta.transaction);
        let newest = newest.ok_or_else(|| damaged("neither of its beginnings is whole"))?;
        Ok(Self {
            file,
            page: newest.page,
            root: newest.root,
            length,
        })
    }

    fn read(&self, id: u64) -> Result<Vec<u8>, SnapshotError> {
        let at = id
            .checked_mul(self.page as u64)
            .filter(|at| at + self.page as u64 <= self.length)
            .ok_or_else(|| damaged("a page lies beyond its end"))?;
        let mut head = [0; PAGE_HEAD];
        self.file.read_exact_at(&mut head, at)?;
        let length = (number32(&head, 12)? as usize + 1).saturating_mul(self.page);
        if length > LONGEST || at + length as u64 > self.length {
            return Err(damaged("a page is longer than the file"));
        }
        let mut page = vec![0; length];
        self.file.read_exact_at(&mut page, at)?;
        if number64(&page, 0)? != id {
            return Err(damaged("a page is not where it says that it is"));
        }
        Ok(page)
    }

    /// The tree of a bucket of the first level.
    fn bucket(&self, wanted: &[u8]) -> Result<Root, SnapshotError> {
        let mut found = None;
        self.walk(&Root::Page(self.root), 0, &mut |name, flags, value| {
            if name == wanted && flags & BUCKET != 0 {
                found = Some(match number64(value, 0)? {
                    0 => Root::Inline(value.get(16..).unwrap_or_default().to_vec()),
                    page => Root::Page(page),
                });
            }
            Ok(())
        })?;
        found.ok_or_else(|| damaged(&format!("it has no bucket {}", wanted.escape_ascii())))
    }

    /// Visits what a tree holds, in order.
    fn walk(&self, root: &Root, depth: usize, visit: &mut Visit<'_>) -> Result<(), SnapshotError> {
        let read;
        let page = match root {
            Root::Inline(page) => page,
            Root::Page(id) => {
                read = self.read(*id)?;
                &read
            }
        };
        if depth > DEPTH {
            return Err(damaged("its tree is too deep"));
        }
        let flags = number16(page, 8)?;
        for n in 0..usize::from(number16(page, 10)?) {
            let at = PAGE_HEAD + n * 16;
            match flags {
                BRANCH => self.walk(&Root::Page(number64(page, at + 8)?), depth + 1, visit)?,
                LEAF => {
                    let start = at + number32(page, at + 4)? as usize;
                    let middle = start + number32(page, at + 8)? as usize;
                    let end = middle + number32(page, at + 12)? as usize;
                    let (Some(name), Some(value)) = (page.get(start..middle), page.get(middle..end)) else {
                        return Err(damaged("an element lies outside of its page"));
                    };
                    visit(name, number32(page, at)?, value)?;
                }
                _ => return Err(damaged("a page of its tree is neither branch nor leaf")),
            }
        }
        Ok(())
    }
}

struct Meta {
    page: usize,
    root: u64,
    transaction: u64,
}

/// A meta page, if it is whole.
fn meta(page: &[u8]) -> Option<Meta> {
    let meta = page.get(PAGE_HEAD..PAGE_HEAD + 64)?;
    let size = usize::try_from(number32(meta, 8).ok()?).ok()?;
    let good = number32(meta, 0).ok()? == MAGIC
        && number32(meta, 4).ok()? == VERSION
        && number64(meta, 56).ok()? == fnv(&meta[..56])
        && (512..=1 << 20).contains(&size);
    good.then_some(Meta {
        page: size,
        root: number64(meta, 16).ok()?,
        transaction: number64(meta, 48).ok()?,
    })
}

/// FNV-1a, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], SnapshotError> {
    bytes
        .get(at..at + N)
        .and_then(|part| part.try_into().ok())
        .ok_or_else(|| damaged("a page ends too early"))
}

// bbolt writes numbers as the machine has them; etcd's machines are little endian.
fn number16(bytes: &[u8], at: usize) -> Result<u16, SnapshotError> {
    part(bytes, at).map(u16::from_le_bytes)
}

fn number32(bytes: &[u8], at: usize) -> Result<u32, SnapshotError> {
    part(bytes, at).map(u32::from_le_bytes)
}

fn number64(bytes: &[u8], at: usize) -> Result<u64, SnapshotError> {
    part(bytes, at).map(u64::from_le_bytes)
}
