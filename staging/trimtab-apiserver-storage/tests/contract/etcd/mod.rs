//! What is particular to the store in etcd, on real etcd processes: real time, members that fail, authentication.

mod process;
mod time;

pub(crate) use process::{Etcd, Settings, versions};
