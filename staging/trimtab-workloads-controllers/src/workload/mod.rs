//! What the controllers of workloads have in common: how they see pods, make them, name them and say what became of it.
//!
//! Each of them is a pure function from what is wanted, what is there and the time to what is to be done, and a reconciler that
//! looks, asks it, and does it. `designs/0017` says why.

pub(crate) mod amount;
pub(crate) mod history;
pub(crate) mod nodes;
pub(crate) mod pods;
pub(crate) mod template;
pub(crate) mod words;

pub(crate) use trimtab_client_coordination::clock;
