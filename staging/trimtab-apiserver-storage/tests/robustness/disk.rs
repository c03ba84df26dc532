//! A disk in memory that does what disks do: it fills up, fails, forgets what it was not made to sync, and loses power
//! in the middle of anything.

use std::io;
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::Mutex;
use trimtab_apiserver_storage::embedded::Disk;

const SECTOR: usize = 512;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No room: ENOSPC, at whatever step the filesystem notices.
    Full,
    /// EIO.
    Broken,
    /// The filesystem has become read-only: EROFS.
    ReadOnly,
    /// A write ends early, with a part of it done.
    Torn,
    /// A sync fails, and what it was about is forgotten: it can be read, is not written by later syncs, and is gone
    /// after a power cut.
    Forgotten,
    /// The power goes: this and all later calls fail, and what was not synced is lost in any part.
    PowerCut,
}

impl Kind {
    pub(crate) const TRANSIENT: [Self; 5] = [
        Self::Full,
        Self::Broken,
        Self::ReadOnly,
        Self::Torn,
        Self::Forgotten,
    ];

    fn error(self) -> io::Error {
        match self {
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
            Self::Broken | Self::Torn | Self::Forgotten => io::Error::other("the disk is on fire"),
            Self::PowerCut => io::Error::other("the power is gone"),
        }
    }
}

/// What goes wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The first call that it hits.
    pub(crate) at: u64,
    pub(crate) kind: Kind,
    /// Whether all calls after it fail too, until [`SimDisk::heal`].
    pub(crate) lasting: bool,
}

/// The disk. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// As the process sees it.
    seen: Vec<u8>,
    /// As it is after a power cut that loses all it can.
    synced: Vec<u8>,
    /// What the next sync is about.
    since: Vec<Change>,
    calls: u64,
    growths: u64,
    syncs: u64,
    fault: Option<Fault>,
    /// The most that it can hold.
    room: Option<usize>,
    doubtful: bool,
    dead: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl SimDisk {
    /// A disk that holds these bytes, synced.
    pub(crate) fn holding(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            synced: image.clone(),
            seen: image,
            ..State::default()
        })))
    }

    /// What a process reads.
    pub(crate) fn image(&self) -> Vec<u8> {
        self.0.lock().seen.clone()
    }

    /// Puts other bytes in its place.
    pub(crate) fn exchange(&self, image: Vec<u8>) {
        let mut state = self.0.lock();
        state.synced.clone_from(&image);
        state.seen = image;
        state.since.clear();
    }

    /// Keeps all calls waiting until the answer is dropped.
    pub(crate) fn hold(&self) -> impl Drop + '_ {
        self.0.lock()
    }

    /// How many calls there have been.
    pub(crate) fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// How many syncs have succeeded.
    pub(crate) fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// How often it has become longer.
    pub(crate) fn growths(&self) -> u64 {
        self.0.lock().growths
    }

    /// Lets something go wrong.
    pub(crate) fn inject(&self, fault: Fault) {
        self.0.lock().fault = Some(fault);
    }

    /// Lets it hold no more than it does, give or take.
    pub(crate) fn fill(&self, spare: usize) {
        let mut state = self.0.lock();
        state.room = Some(state.seen.len() + spare);
    }

    /// From here on nothing goes wrong. A power cut stays one.
    pub(crate) fn heal(&self) {
        let mut state = self.0.lock();
        state.fault = None;
        state.room = None;
    }

    /// Whether the power has gone.
    pub(crate) fn is_dead(&self) -> bool {
        self.0.lock().dead
    }

    /// Cuts the power now.
    pub(crate) fn cut(&self) {
        self.0.lock().dead = true;
    }

    /// The disk after the process was killed: the system still has what was written.
    pub(crate) fn after_kill(&self) -> Self {
        let state = self.0.lock();
        let after = Self::holding(state.seen.clone());
        {
            let mut new = after.0.lock();
            new.synced.clone_from(&state.synced);
            new.since.clone_from(&state.since);
            // A sync that has failed is still owed.
            new.doubtful = state.doubtful;
        }
        after
    }

    /// The disk after a power cut: of what was not synced any part is there, to the sector, and in any order.
    pub(crate) fn after_power_cut(&self, random: &mut Rng) -> Self {
        let state = self.0.lock();
        let mut image = state.synced.clone();
        // None of it, all of it, what came first, or a share of it.
        let style = random.u8(0..4);
        let first = random.usize(0..=state.since.len());
        for (n, change) in state.since.iter().enumerate() {
            let mut kept = || match style {
                0 => false,
                1 => true,
                2 => n < first,
                _ => random.bool(),
            };
            match change {
                Change::Length(len) => {
                    if kept() {
                        image.resize(*len, 0);
                    }
                }
                Change::Write(at, data) => {
                    for (n, sector) in data.chunks(SECTOR).enumerate() {
                        let from = at + n * SECTOR;
                        if kept()
                            && let Some(place) = image.get_mut(from..from + sector.len())
                        {
                            place.copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        Self::holding(image)
    }
}

impl State {
    /// Counts a call; answers with what goes wrong with it.
    fn call(&mut self) -> Option<Kind> {
        self.calls += 1;
        if self.dead {
            return Some(Kind::PowerCut);
        }
        let fault = self.fault?;
        let hit = if fault.lasting {
            self.calls >= fault.at
        } else {
            self.calls == fault.at
        };
        if !hit {
            return None;
        }
        self.dead = fault.kind == Kind::PowerCut;
        Some(fault.kind)
    }

    fn put(&mut self, at: usize, data: &[u8]) -> io::Result<()> {
        let place = self.seen.get_mut(at..at + data.len());
        place.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        self.since.push(Change::Write(at, data.to_vec()));
        Ok(())
    }
}

impl Disk for SimDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        // What cannot be written can be read.
        if let Some(kind @ (Kind::Broken | Kind::PowerCut)) = state.call() {
            return Err(kind.error());
        }
        let from = offset as usize;
        let bytes = state.seen.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        match state.call() {
            Some(kind @ (Kind::Torn | Kind::PowerCut)) => {
                state.put(offset as usize, &data[..data.len() / 2])?;
                Err(kind.error())
            }
            Some(Kind::Forgotten) | None => state.put(offset as usize, data),
            Some(kind) => Err(kind.error()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        if let Some(kind) = state.call().filter(|kind| *kind != Kind::Forgotten) {
            return Err(kind.error());
        }
        let len = len as usize;
        if len > state.seen.len() && state.room.is_some_and(|room| len > room) {
            return Err(Kind::Full.error());
        }
        state.growths += u64::from(len > state.seen.len());
        state.seen.resize(len, 0);
        state.since.push(Change::Length(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        match state.call() {
            Some(kind @ Kind::Forgotten) => {
                // Lengths are kept in the filesystem's journal; what was written is forgotten.
                let len = state.seen.len();
                state.synced.resize(len, 0);
                state.since.clear();
                Err(kind.error())
            }
            Some(kind) => Err(kind.error()),
            None => {
                for change in std::mem::take(&mut state.since) {
                    match change {
                        Change::Length(len) => state.synced.resize(len, 0),
                        Change::Write(at, data) => {
                            if let Some(place) = state.synced.get_mut(at..at + data.len()) {
                                place.copy_from_slice(&data);
                            }
                        }
                    }
                }
                state.syncs += 1;
                Ok(())
            }
        }
    }

    fn is_doubtful(&self) -> bool {
        self.0.lock().doubtful
    }

    fn set_doubtful(&self, doubtful: bool) {
        self.0.lock().doubtful = doubtful;
    }
}
