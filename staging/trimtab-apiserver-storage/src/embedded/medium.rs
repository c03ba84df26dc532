//! The disk as the engine sees it: one whose syncs can be believed, also after one has failed, and counted.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use redb::StorageBackend;

use super::disk::Disk;
use crate::contract::{DiskUse, SYNC_MILLIS};

/// So much is written again at a time.
const CHUNK: usize = 1 << 20;

/// A disk with what it still owes. Clones are the same disk.
#[derive(Clone, Debug)]
pub(super) struct Medium(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where was written since the last good sync.
    unsynced: Vec<(u64, usize)>,
    /// Whether a sync has failed since the last good one, so that all of `unsynced` is to be written again.
    doubtful: bool,
    done: DiskUse,
}

impl Medium {
    /// A disk, with what a process before this one has left undone on it done.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub(super) fn new(disk: Arc<dyn Disk>) -> io::Result<Self> {
        let medium = Self(Arc::new(Inner {
            disk,
            state: Mutex::default(),
        }));
        if medium.0.disk.is_doubtful() {
            let len = medium.0.disk.len()?;
            {
                let mut state = medium.0.state.lock();
                state.doubtful = true;
                state
                    .unsynced
                    .push((0, usize::try_from(len).unwrap_or(usize::MAX)));
            }
            medium.sync_data()?;
        }
        Ok(medium)
    }

    /// What has been done to the disk.
    pub(super) fn done(&self) -> DiskUse {
        self.0.state.lock().done
    }

    /// Whether nothing but a header that was never finished is there: making the store was interrupted before
    /// anything was in it.
    pub(super) fn is_unfinished(&self) -> io::Result<bool> {
        let len = self.0.disk.len()?;
        let mut magic = [0; 9];
        if len < 4096 {
            return Ok(false);
        }
        self.0.disk.read(0, &mut magic)?;
        if magic != [0; 9] {
            return Ok(false);
        }
        let mut chunk = vec![0; CHUNK];
        let mut at = 4096;
        while at < len {
            let n = usize::try_from(len - at).unwrap_or(CHUNK).min(CHUNK);
            self.0.disk.read(at, &mut chunk[..n])?;
            if chunk[..n].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += n as u64;
        }
        Ok(true)
    }

    fn count<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.is_err() {
            self.0.state.lock().done.failures += 1;
        }
        result
    }
}

impl Inner {
    /// Writes again what may be in the system's memory alone; what is read back is what the engine goes by.
    fn write_again(&self, ranges: &[(u64, usize)]) -> io::Result<()> {
        let len = self.disk.len()?;
        let mut chunk = vec![0; CHUNK];
        for (offset, size) in ranges {
            let end = offset.saturating_add(*size as u64).min(len);
            let mut at = *offset;
            while at < end {
                let n = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
                self.disk.read(at, &mut chunk[..n])?;
                self.disk.write(at, &chunk[..n])?;
                at += n as u64;
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let again = {
            let state = self.state.lock();
            state.doubtful.then(|| state.unsynced.clone())
        };
        let doubtful = again.is_some();
        let began = Instant::now();
        let synced = match again {
            Some(ranges) => self.write_again(&ranges).and_then(|()| self.disk.sync()),
            None => self.disk.sync(),
        };
        let took = began.elapsed();
        let mut state = self.state.lock();
        if let Err(error) = synced {
            state.doubtful = true;
            drop(state);
            // Should this process not get to make it good.
            self.disk.set_doubtful(true);
            return Err(error);
        }
        state.unsynced.clear();
        state.doubtful = false;
        state.done.syncs += 1;
        state.done.syncing += took;
        let bucket = SYNC_MILLIS.partition_point(|millis| took.as_micros() > u128::from(*millis) * 1000);
        state.done.buckets[bucket] += 1;
        drop(state);
        if doubtful {
            self.disk.set_doubtful(false);
        }
        Ok(())
    }
}

impl StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        self.0.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.count(self.0.disk.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.count(self.0.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        {
            let mut state = self.0.state.lock();
            state.unsynced.push((offset, data.len()));
            state.done.written += data.len() as u64;
        }
        self.count(self.0.disk.write(offset, data))
    }
}
