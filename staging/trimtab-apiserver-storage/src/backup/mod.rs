//! Backups: a store's snapshot as a file, and back. The format knows nothing of the backend that it came from.
//!
//! What is written is whole or known not to be: each block carries a checksum of itself and of all before it, and the
//! end says how much there was. A reader trusts no length before its checksum.
//!
//! # The format, version 1
//!
//! Numbers are little endian; `crc` is a CRC-32 of the `crc` before it and of what stands between the two.
//!
//! | part | bytes |
//! |---|---|
//! | head | `trimtab backup 1\n`, revision (8), number of keys (8), when it was made in milliseconds since 1970 (8), crc (4) |
//! | block, any number of times | length of the entries, not 0 (4), crc (4) of that length and of the entries, the entries |
//! | entry | length of the key (4), length of the value (4), revision of its creation (8), of its last change (8), when it expires in milliseconds since 1970 or 0 for never (8), key, value |
//! | end | 0 (4), crc (4), number of keys (8), bytes of all entries (8), crc (4) of these two numbers |

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::io;

use crate::contract::{self, Revision};

pub use read::{Reader, verify};
pub use write::{encode, save};

/// By how many revisions a restored store begins after its backup, unless it is told otherwise: more than the old
/// store can have made since. What the documentation of etcd gives as an example for `--bump-revision`: it allows for
/// 1,000 writes a second over eleven days.
pub const BUMP: u64 = 1_000_000_000;

const MAGIC: &[u8] = b"trimtab backup ";
const VERSION: u8 = b'1';
/// Blocks are closed when they have become this long.
const BLOCK_BYTES: usize = 256 << 10;
/// A longer one is not believed.
const MAX_BLOCK_BYTES: u32 = 256 << 20;
const ENTRY_HEAD: usize = 4 + 4 + 8 + 8 + 8;

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The revision that it is of.
    pub revision: Revision,
    /// How many keys it holds.
    pub keys: u64,
    /// The length of the backup, in bytes.
    pub bytes: u64,
    /// When it was made, in milliseconds since 1970.
    pub made: u64,
}

/// A backup that cannot be made, read or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is not a backup of a trimtab store")]
    NotABackup,
    /// It was made by a newer version.
    #[error(
        "it is a backup of format {0:?}, which a newer version of trimtab made, and this one reads format 1"
    )]
    Version(char),
    /// It ends too early.
    #[error("it is cut off after {at} bytes: {keys} of {of} keys are there")]
    Truncated {
        /// How many bytes are whole.
        at: u64,
        /// How many keys they hold.
        keys: u64,
        /// How many there should be.
        of: u64,
    },
    /// It is not as it was written.
    #[error("it is damaged at byte {at}: {why}")]
    Damaged {
        /// Where, or shortly after it.
        at: u64,
        /// How that shows.
        why: &'static str,
    },
    /// The store that it comes from or goes to fails.
    #[error(transparent)]
    Store(#[from] contract::Error),
    /// There is something where the store is to go.
    #[error("{0} is not empty; restore to a new directory, and move it to where the old one was")]
    NotEmpty(String),
}

/// A checksum that goes on from the one before.
fn chained(before: u32, parts: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&before.to_le_bytes());
    parts.iter().for_each(|part| crc.update(part));
    crc.finalize()
}
