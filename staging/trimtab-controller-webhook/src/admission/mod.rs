//! Admission: what is asked about an object before it is written, and what is answered.

mod difference;
mod handler;
mod refusal;
mod request;
mod review;
mod typed;

#[cfg(test)]
mod tests;

pub use handler::{Admitted, Handler};
pub use refusal::Refusal;
pub use request::{Operation, Request};
pub use typed::{Defaulter, DeletionValidator, Reviewed, Validator};

pub(crate) use handler::{Erased, erase, words_of};
pub(crate) use review::review;
pub(crate) use typed::{Defaults, Deletions, Validates};
