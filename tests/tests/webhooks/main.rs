//! Webhooks from end to end: programs that answer for them, and the API server that asks.
//!
//! - `policy`: a program that completes and refuses, a kind of its own and a built-in one.
//! - `alarms`: a program that converts a kind between three versions.
//! - `certificates`: made by the program and renewed while it is asked, or given to it as files.
#![allow(unreachable_pub)] // the programs are written as the crates that they become

mod alarms;
mod certificates;
mod kit;
mod policy;
