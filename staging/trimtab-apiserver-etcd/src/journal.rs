//! The state file: what was found, what is planned, and how far it has come. It is written and synced before and after
//! each step, so that whoever comes after a crash knows what may have been done.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::{Error, Result};
use crate::inventory::Inventory;
use crate::plan::{Scheme, Stage, Step, Strategy};

/// What is known of a member from before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) name: String,
    /// Its environment file as it was found.
    pub(crate) environment: String,
    /// Its peer URLs in the list of members.
    pub(crate) peer_urls: Vec<String>,
    /// The directory that a snapshot is restored to.
    pub(crate) restored: PathBuf,
    /// The port on which it can be reached while clients cannot.
    pub(crate) fence: u16,
    /// How it runs; nothing while it is stopped.
    pub(crate) stage: Option<Stage>,
}

/// Which way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Direction {
    Forward,
    Back,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Journal {
    /// 1.
    pub(crate) version: u32,
    /// Of this change: the names of what it makes end with it.
    pub(crate) id: String,
    pub(crate) to: Scheme,
    pub(crate) strategy: Strategy,
    /// Whether members can serve clients by both schemes at once.
    pub(crate) both: bool,
    pub(crate) members: Vec<Record>,
    pub(crate) steps: Vec<Step>,
    /// How many steps are done.
    pub(crate) done: usize,
    /// Whether the next one may have been begun.
    pub(crate) begun: bool,
    pub(crate) direction: Direction,
    /// Why it goes back.
    pub(crate) why: Option<String>,
    /// What the snapshot holds.
    pub(crate) inventory: Option<Inventory>,
    pub(crate) finished: bool,
}

/// Where the state is kept, locked while it is open.
#[derive(Debug)]
pub(crate) struct Home {
    dir: PathBuf,
    _lock: File,
}

impl Home {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(Error::file(dir))?;
        let path = dir.join("lock");
        let lock = File::options().create(true).append(true).open(&path);
        let lock = lock.map_err(Error::file(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                dir: dir.to_owned(),
                _lock: lock,
            }),
            Err(_) => Err(Error::Usage(format!(
                "{} is in use by another process, which is changing the transport",
                dir.display()
            ))),
        }
    }

    pub(crate) fn snapshot(&self, journal: &Journal) -> PathBuf {
        self.dir.join(format!("{}.db", journal.id))
    }

    fn state(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    pub(crate) fn load(&self) -> Result<Option<Journal>> {
        let path = self.state();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file(&path)(error)),
        };
        let journal: Journal = serde_json::from_slice(&text)
            .map_err(|e| Error::Usage(format!("{} cannot be read as a state file: {e}", path.display())))?;
        match journal.version {
            1 => Ok(Some(journal)),
            other => Err(Error::Usage(format!(
                "{} is of version {other}, and this trimtab knows version 1",
                path.display()
            ))),
        }
    }

    pub(crate) fn save(&self, journal: &Journal) -> Result<()> {
        let text = serde_json::to_vec_pretty(journal).unwrap_or_default();
        durable::write(&self.state(), &text, Some(0o600))
    }

    /// Puts the state of what is finished aside, under its id.
    pub(crate) fn archive(&self, journal: &Journal) -> Result<()> {
        durable::rename(&self.state(), &self.dir.join(format!("{}.json", journal.id)))
    }
}

impl Journal {
    /// A change of these members that has not begun, and of which no step is known yet.
    pub(crate) fn new(id: String, to: Scheme, strategy: Strategy, members: Vec<Record>) -> Self {
        Self {
            version: 1,
            id,
            to,
            strategy,
            both: true,
            members,
            steps: Vec::new(),
            done: 0,
            begun: false,
            direction: Direction::Forward,
            why: None,
            inventory: None,
            finished: false,
        }
    }

    /// Whether it may still go back: clients have not been let in to what was restored.
    pub(crate) fn can_go_back(&self) -> bool {
        let touched = self.done + usize::from(self.begun);
        !self.steps.iter().take(touched).any(|step| step.is_final())
    }

    /// Turns back, for a reason.
    pub(crate) fn turn_back(&mut self, why: String) {
        self.done = (self.done + usize::from(self.begun)).min(self.steps.len());
        self.begun = false;
        self.direction = Direction::Back;
        self.why = Some(why);
    }
}
