//! Phases as their users derive them.
//!
//! - `steps`: what a phase may become.
//! - `texts`: how it is read, written, printed and drawn.
//! - `schemas`: what an API server makes of its schema.

mod schemas;
mod steps;
mod texts;

use trimtab_apimachinery_derive::Phase;

/// Where a backup is.
#[derive(Phase, Clone, Debug, PartialEq, Eq)]
#[phase(crate = "trimtab_apimachinery_meta")]
enum Backup {
    /// It waits for its turn.
    #[phase(initial, to(Running, Failed))]
    Pending,
    #[phase(to(Succeeded, Failed))]
    Running,
    #[phase(terminal)]
    Succeeded,
    #[phase(terminal)]
    Failed,
    #[phase(unknown)]
    Other(String),
}

/// A closed set of phases with names that need care, which goes in circles.
#[derive(Phase, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[phase(crate = "trimtab_apimachinery_meta", enforce)]
enum Gate {
    #[default]
    #[phase(initial, to(*), name = "it's shut")]
    Shut,
    #[phase(initial, to(Shut), name = "a \"\\\" ajar")]
    Ajar,
    #[phase(to(Ajar))]
    Open,
}

/// One that says where to go on from what another version wrote.
#[derive(Phase, Clone, Debug, PartialEq, Eq)]
#[phase(crate = "trimtab_apimachinery_meta", enforce, schema = "enum")]
enum Roll {
    #[phase(initial, to(Back))]
    Forward,
    #[phase(to(Done))]
    Back,
    #[phase(terminal)]
    Done,
    #[phase(unknown, to(Back, Forward))]
    Other(String),
}
