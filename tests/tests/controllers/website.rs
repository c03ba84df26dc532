//! The sample controller, as its own users have it: see `cmd/sample-controller`, where its first tests are.

mod scenario;
mod tests;

pub(crate) use scenario::Websites as Scenario;
