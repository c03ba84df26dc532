//! What the author of a controller writes: one function from a turn to what comes next.

use std::time::Duration;

use crate::error::Result;
use crate::subject::Subject;
use crate::turn::Turn;

/// Brings what is to what should be.
///
/// The reconciler gets a key's [`Turn`], looks at the latest state, and does what is missing. It must not rely on which
/// events led to the turn (*Level-triggered*): events are merged, repeated and lost. It runs for one key at a time, for
/// several keys at once.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not reconcile `{S}`",
    note = "implement `async fn reconcile(&self, turn: &mut Turn<{S}>) -> Result<Next>`"
)]
pub trait Reconcile<S: Subject>: Send + Sync + 'static {
    /// One turn. What it returns says when the key is due again; an error means after its backoff, and a
    /// [terminal](crate::Error::terminal) one when something has changed.
    ///
    /// Cancelled when the controller's [deadline](crate::ControllerBuilder::deadline) passes, and at the end of the time
    /// that a shutdown or a lost leadership leaves; a panic is a failure of this key alone.
    fn reconcile(&self, turn: &mut Turn<S>) -> impl Future<Output = Result<Next>> + Send;
}

/// When a key is due again, if nothing triggers it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// When something changes.
    Done,
    /// After this time at the latest.
    After(Duration),
    /// After its backoff, as after a failure, but nobody is told of one: what was waited for is not there yet.
    Again,
}
