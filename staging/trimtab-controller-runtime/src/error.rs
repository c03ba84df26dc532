//! What can go wrong in a turn or around it, and what is to be done about it.

use std::time::Duration;

use trimtab_apimachinery_meta::owner::{ClaimError, OwnerError};
use trimtab_apimachinery_meta::phase::IllegalTransition;
use trimtab_client_cache::cached::Undecodable;

/// The result of a reconcile and of what a turn does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a turn, or the machinery around it, did not succeed. A reconcile that returns one has its key tried again after
/// its backoff, unless the error is [terminal](Error::is_terminal).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The API server refused, or could not be reached. A conflict is among these: see [`Error::is_conflict`].
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// To try again would not help before the object changes: a wish that cannot be fulfilled. Made by
    /// [`Error::terminal`].
    #[error("{0}")]
    Terminal(#[source] Source),
    /// Any other failure of the reconciler's own. Made by [`Error::other`].
    #[error("{0}")]
    Other(#[source] Source),
    /// An object cannot be given its owner: somebody else's controller manages it, or it is in another namespace.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The turn was asked for a kind that its controller does not watch; such a kind could change unseen. Add
    /// `.owns::<T>()` or `.watches::<T>(…)` to the controller.
    #[error("{0} is not watched by this controller")]
    NotWatched(String),
    /// The turn was asked to write a kind that its controller only watches. Its Role would not allow it: add `.owns::<T>()` or
    /// `.writes::<T>()` to the controller.
    #[error("{0} is not declared to be written by this controller")]
    NotDeclared(String),
    /// The turn's object cannot claim what it selects: its selector matches everything, or it is gone or going.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// A phase was to go where its declaration does not let it.
    #[error(transparent)]
    Phase(#[from] IllegalTransition),
    /// An object that is to be written lacks what it is found by, or a wish contradicts the object's state.
    #[error("{0}")]
    Invalid(String),
    /// An object or a status cannot be written as JSON.
    #[error("cannot encode: {0}")]
    Encode(#[from] serde_json::Error),
    /// An object in a cache is not of its type. A turn whose own object is such does not begin.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// The turn's object is gone, and what was asked for needs it.
    #[error("{0} is gone")]
    Gone(String),
    /// The caches had not been filled when the deadline passed. Says which, and what each struggled with.
    #[error("caches did not sync in time: {0}")]
    NotSynced(String),
    /// The reconciler took longer than the controller's deadline, and was cancelled.
    #[error("the turn took longer than {0:?}")]
    TimedOut(Duration),
    /// Turns that were still under way when the deadline of the shutdown passed were cut off.
    #[error("{0} turns were cut off at the end of the shutdown")]
    CutOff(usize),
    /// A manager runs once.
    #[error("the manager has been run already")]
    AlreadyRun,
    /// Two controllers, parts or clusters of one manager have the same name.
    #[error("there is another {what} with the name {name:?}")]
    NameTaken {
        /// What has the name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A part of the manager, or a controller, failed or ended though it should run.
    #[error("{name}: {why}")]
    Part {
        /// Which one.
        name: String,
        /// What it said.
        why: String,
    },
}

impl Error {
    /// A failure that trying again does not mend before the object changes.
    pub fn terminal(source: impl Into<Source>) -> Self {
        Self::Terminal(source.into())
    }

    /// A failure that may be over next time.
    pub fn other(source: impl Into<Source>) -> Self {
        Self::Other(source.into())
    }

    pub(crate) fn ended(name: String) -> Self {
        let why = "it ended by itself".to_owned();
        Self::Part { name, why }
    }

    pub(crate) fn part(name: String, error: &Self) -> Self {
        let why = error.to_string();
        Self::Part { name, why }
    }

    /// Whether the object had changed since it was read. The key is tried again; nobody needs to be told.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(status)) if status.is_conflict())
    }

    /// How long the server asks to be left alone: with a refusal of too many requests, mostly.
    pub fn retry_after(&self) -> Option<Duration> {
        let Self::Kube(kube::Error::Api(status)) = self else {
            return None;
        };
        let seconds = status.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }

    /// Whether what was written to or read was not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(status)) if status.is_not_found())
    }

    /// Whether the server has said that the namespace is on its way out, so that nothing can be made in it.
    pub(crate) fn is_of_ending_namespace(&self) -> bool {
        match self {
            Self::Terminal(why) => why
                .downcast_ref::<Self>()
                .is_some_and(Self::is_of_ending_namespace),
            Self::Kube(kube::Error::Api(status)) => {
                let mut causes = status.details.iter().flat_map(|details| &details.causes);
                causes.any(|cause| cause.reason == "NamespaceTerminating")
            }
            _ => false,
        }
    }

    /// Whether the key is left alone until something triggers it.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::Terminal(_)
                | Self::NotWatched(_)
                | Self::NotDeclared(_)
                | Self::Invalid(_)
                | Self::Phase(_)
                | Self::Encode(_)
                | Self::Undecodable(_)
        )
    }
}
