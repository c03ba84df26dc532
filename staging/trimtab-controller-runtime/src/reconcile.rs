//! What the author of a controller writes: one function from a turn to what comes next.

use std::time::Duration;

use serde::Serialize;
use trimtab_client_cache::Object;

use crate::error::Result;
use crate::turn::Turn;

/// Brings what is to what should be.
///
/// The reconciler gets a key's [`Turn`], looks at the latest state, and does what is missing. It must not rely on which
/// events led to the turn (*Level-triggered*): events are merged, repeated and lost. It runs for one key at a time, for
/// several keys at once.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not reconcile `{K}`",
    note = "implement `async fn reconcile(&self, turn: &mut Turn<{K}>) -> Result<Next>`"
)]
pub trait Reconcile<K: Reconciled>: Send + Sync + 'static {
    /// One turn. What it returns says when the key is due again; an error means after its backoff.
    ///
    /// Cancelled only when the shutdown's deadline passes; a panic is a failure of this key alone.
    fn reconcile(&self, turn: &mut Turn<K>) -> impl Future<Output = Result<Next>> + Send;
}

/// When a key is due again, if nothing triggers it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// When something changes.
    Done,
    /// After this time at the latest.
    After(Duration),
}

/// A kind that controllers work on: one that can be watched and written, and whose type says which kind it is.
///
/// Implemented for every type that fits: those of `k8s-openapi` and derived custom resources.
pub trait Reconciled: Object<DynamicType: Default> + Serialize + Clone {}

impl<K: Object<DynamicType: Default> + Serialize + Clone> Reconciled for K {}
