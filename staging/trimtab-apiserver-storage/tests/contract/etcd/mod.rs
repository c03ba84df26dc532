//! What is particular to the store in etcd, on real etcd processes: real time, members that fail, authentication.

mod auth;
mod certificates;
mod failover;
mod limits;
mod process;
mod snapshot;
mod time;

pub(crate) use certificates::Certificates;
pub(crate) use process::{Etcd, Settings, USUAL, usual, versions};
