//! A store that nobody serves, held so that nobody can, and looked at.

use std::path::Path;

use super::EmbeddedStore;
use super::engine::Engine;
use super::home::Home;
use crate::contract::{Result, Snapshot};
use crate::state::State;

/// A store that no process has open, and that none can open until this is dropped. Nothing is written to it but what
/// opening it repairs; no key expires.
#[derive(Debug)]
pub struct Stopped {
    state: State,
    // Closed before others may open it.
    _engine: Engine,
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
            _engine: engine,
            _home: home,
        })
    }

    /// Everything that is in it.
    pub fn snapshot(&self) -> Snapshot {
        self.state.snapshot()
    }
}
