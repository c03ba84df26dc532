//! A store that nobody serves, held so that nobody can, and looked at.

use std::path::Path;

use super::EmbeddedStore;
use super::engine::Engine;
use super::format::FORMAT;
use super::home::Home;
use crate::contract::{Result, Revision, Snapshot};
use crate::state::State;

/// A store that no process has open, and that none can open until this is dropped. Nothing is written to it but what
/// opening it repairs; no key expires.
#[derive(Debug)]
pub struct Stopped {
    state: State,
    // Closed before others may open it.
    engine: Engine,
    _home: Home,
}

impl Stopped {
    /// Opens the store in `dir`, and keeps others out. It blocks.
    ///
    /// # Errors
    ///
    /// As [`EmbeddedStore::open`].
    pub fn hold(dir: impl AsRef<Path>) -> Result<Self> {
        let home = Home::open(dir.as_ref())?;
        let (engine, state, _) = EmbeddedStore::load(&home)?;
        Ok(Self {
            state,
            engine,
            _home: home,
        })
    }

    /// The oldest revision that it can be asked for.
    pub fn oldest(&self) -> Revision {
        self.state.oldest()
    }

    /// How long its file is, in bytes, and which version of the format it is written in.
    ///
    /// # Errors
    ///
    /// When the file cannot be looked at.
    pub fn file(&self) -> Result<(u64, u64)> {
        Ok((self.engine.len()?, FORMAT))
    }

    /// Everything that is in it.
    pub fn snapshot(&self) -> Snapshot {
        self.state.snapshot()
    }
}
