//! What tests share, and those of the crate as a whole: manifests, routes, the server.

pub(crate) mod api;
mod manifests;
mod routes;
mod server;
mod targets;
pub(crate) mod websites;
