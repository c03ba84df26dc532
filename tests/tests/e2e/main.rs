//! The real binaries with real clients in front, as a person uses them. What a smaller test can show is not here.

mod apiserver;
mod backup;
mod bad_input;
mod extension;
mod kill;
mod nodes;
mod policies;
mod python;
mod restart;
mod rust_client;
mod website;
