//! What a client of the Kubernetes API needs beside requests: watched copies of objects, work queues, leader election,
//! sharding, events.
//!
//! The transport is [`kube::Client`](https://docs.rs/kube). A [`cache::InformerFactory`] keeps an indexed copy of what
//! the server has and tells handlers of each change; handlers put keys into a [`workqueue::WorkQueue`]; workers take
//! them out and look up the latest state. `trimtab-controller` puts these together; this crate is for those who want
//! the parts.

/// Watched copies of objects: reflectors, indexed stores, listers, shared informers.
pub mod cache {
    #[doc(inline)]
    pub use trimtab_client_cache::informer::{InformerFactory, Selection, SharedInformer};
    #[doc(inline)]
    pub use trimtab_client_cache::{
        Belonging, Cached, Delta, Form, Object, barrier, cached, delta, expectations, index, informer,
        key_of, lister, predicate, reflector, store,
    };
}

/// A deduplicating, fair, rate-limited queue of keys.
pub mod workqueue {
    #[doc(inline)]
    pub use trimtab_client_workqueue::{
        Add, Backoff, Bucket, Builder, Exponential, FastSlow, Histogram, InvalidLimiter, InvalidQueue,
        Jittered, KeySnapshot, KeyedBackoff, Leftover, MaxOf, MaxWait, Metrics, NoBackoff, Phase, Reason,
        Reasons, Refused, Shutdown, Work, WorkQueue,
    };
}

/// What time it is, for all that writes times into objects and compares with them: the machine's, or one that tests drive.
pub mod clock {
    #[doc(inline)]
    pub use trimtab_client_coordination::clock::{Clock, Driving};
}

/// Recording events.
#[doc(inline)]
pub use trimtab_client_coordination::events;

/// Leader election: of all replicas one does the work.
#[doc(inline)]
pub use trimtab_client_coordination::leader;

/// Trying again after a conflict.
#[doc(inline)]
pub use trimtab_client_coordination::retry;

/// Sharding: all replicas work, each on its share of the keys.
#[doc(inline)]
pub use trimtab_client_coordination::sharding;

/// Bringing one object to what is wished, from a command or a migration.
#[doc(inline)]
pub use trimtab_client_coordination::write;
