//! What tests share, and those of the crate as a whole: manifests, routes, the server, alone and in a manager.

pub(crate) mod api;
mod managers;
mod manifests;
mod routes;
mod server;
mod targets;
pub(crate) mod websites;
