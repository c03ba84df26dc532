//! Robustness: what becomes of the store when everything around it fails.
//!
//! - [`steps`]: a disk that fails at each of its calls in turn, once or for good; the power going at each of them.
//! - [`histories`]: many clients at once, while disks fail, the power goes and clocks jump. [`traffic`] is what they do and
//!   see, [`history`] holds the clauses against it, [`refusals`] shows that each is able to say no.
//! - [`kill`]: a process that writes, killed again and again.
//! - [`damage`]: bytes that change by themselves, everywhere in the file; files of other versions and of others.
//! - [`syncs`]: how many syncs there are. [`size`]: how large the file becomes.
//! - [`backup`]: backups under load, and stores made of them.
//! - [`home`]: the directory: who may open and read it, and how it was closed.
//!
//! [`disk`] is the disk that fails. The model and the checkers of the clauses are the contract's suite's.
#![allow(clippy::print_stderr)] // seeds are printed

mod backup;
mod damage;
mod disk;
mod histories;
mod history;
mod home;
mod kill;
mod kit;
mod refusals;
mod size;
mod steps;
mod syncs;
mod traffic;

#[path = "../contract/clauses.rs"]
#[allow(dead_code)] // what the contract's suite needs alone
mod clauses;
#[path = "../contract/model.rs"]
#[allow(dead_code)] // as of the clauses
mod model;
