//! Robustness: what becomes of the store when everything around it fails.
//!
//! - [`steps`]: a disk that fails at each of its calls in turn, once or for good; the power going at each of them.
//! - [`damage`]: bytes that change by themselves, everywhere in the file; files of other versions and of others.
//! - [`syncs`]: how many syncs there are.
//! - [`backup`]: backups under load, and stores made of them.
//! - [`home`]: the directory: who may open and read it, and how it was closed.
//!
//! [`disk`] is the disk that fails. The model and the checkers of the clauses are the contract's suite's.
#![allow(clippy::print_stderr)] // seeds are printed

mod backup;
mod damage;
mod disk;
mod home;
mod kit;
mod steps;
mod syncs;

#[path = "../contract/clauses.rs"]
#[allow(dead_code)] // what the contract's suite needs alone
mod clauses;
#[path = "../contract/model.rs"]
#[allow(dead_code)]
mod model;
