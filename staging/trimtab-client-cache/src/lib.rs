//! Watched copies of a server's objects: reflectors, indexed stores, listers and shared informers.
//!
//! Depend on the facade `trimtab-client` instead of this crate; its paths are the stable ones.
//!
//! An [`InformerFactory`](informer::InformerFactory) hands out [`SharedInformer`](informer::SharedInformer)s. Each runs
//! one [`reflector`], which lists and watches a kind and writes what it learns to one [`Store`](store::Store). Handlers
//! are told of each change after the store has it, each at its own pace.
//!
//! Objects stay encoded by default, and are decoded when somebody looks at them: see [`Cached`]. What keeps them and passes
//! them on does not know of what type they are, so its code is in a program once, and not for each kind; types come back
//! where users look.
//!
//! What holds, by name:
//!
//! - *Ordered*: a handler sees the states of one object in the order of their resource versions.
//! - *Monotonic*: the store never goes back in time, relists included.
//! - *Complete*: after a relist every object that vanished while disconnected is announced as deleted.
//! - *Atomic*: a reader sees all of a replacement or none of it.
//! - *Bounded*: a slow handler costs at most one pending entry per object, never an unbounded buffer; of the initial list it
//!   costs a pointer per object. It may miss states
//!   in between, but no final state, and no deletion of an object that it knows.
//! - *Synced*: a handler's `synced` means that it has seen the whole initial list.
//!
//! What does not: a handler sees every state only if it keeps up, and two informers are at two points in time.

pub mod cached;
mod compact;
mod object;
mod projection;
mod selection;

pub mod delta;
pub mod index;
pub mod predicate;

pub mod barrier;
pub mod expectations;
pub mod lister;
pub mod store;

mod factory;
pub mod informer;
mod mailbox;
pub mod reflector;

pub use cached::{Belonging, Cached, Form};
pub use delta::Delta;
pub use object::{Object, key_of};

#[cfg(test)]
mod tests;
