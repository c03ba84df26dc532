//! What can go wrong between a reflector and its server, and what each calls for.

use std::time::Duration;

use trimtab_apimachinery_meta::{ApiError, StatusReason};

/// Why a list or a watch ended.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// There is no such request: the selection is not one that can be asked for.
    #[error("no request can be made for {0}")]
    Unaskable(String),
    /// The server refused the request.
    #[error("{0}")]
    Refused(ApiError),
    /// The server sent an error in the stream.
    #[error("error in the stream: {0}")]
    InStream(ApiError),
    /// The request was not answered or the stream broke: refused or lost connection, TLS, credentials.
    #[error("connection failed: {0}")]
    Connection(String),
    /// The server was silent for longer than it should be.
    #[error("no word from the server for {0:?}")]
    Silent(Duration),
    /// The answer is not what the protocol says.
    #[error("answer not understood: {0}")]
    Malformed(String),
    /// The stream was closed at once, without an event.
    #[error("watch was closed at once")]
    ClosedAtOnce,
    /// The stream was closed before the initial list was complete.
    #[error("stream was closed in the middle of the initial list")]
    CutShort,
    /// A shard was asked for, and the server does not say that it has sharded its list.
    #[error("server does not shard lists: it needs the feature ShardedListAndWatch")]
    NotSharded,
    /// The server does not stream initial lists.
    #[error("server does not stream initial lists")]
    NotStreaming,
    /// The list is older than what was seen already.
    #[error("list at resource version {listed:?} is older than what was seen, {seen:?}")]
    Backwards {
        /// The version of the list.
        listed: String,
        /// The version that was seen.
        seen: String,
    },
}

/// How to go on after a watch has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// Watch again from where the last watch ended: nothing is lost.
    Resume,
    /// List again: what happened in between cannot be had any more, or the server's state is in doubt.
    Relist,
}

impl Failure {
    /// The server's own words, where there are any.
    fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Refused(error) | Self::InStream(error) => Some(error),
            _ => None,
        }
    }

    /// The version asked for has been compacted.
    pub(super) fn is_expired(&self) -> bool {
        self.api().is_some_and(ApiError::is_expired)
    }

    /// The version asked for is one that the server has not reached, as after it was restored from a backup.
    pub(super) fn is_too_large(&self) -> bool {
        self.api().is_some_and(|error| {
            error.has_cause("ResourceVersionTooLarge")
                || (error.reason == StatusReason::Timeout
                    && error.message.contains("Too large resource version"))
        })
    }

    /// How long the server asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.api()?.retry_after
    }

    /// Whether a plain list can succeed where a streamed one failed like this.
    pub(super) fn calls_for_plain_list(&self) -> bool {
        match self {
            Self::NotStreaming => true,
            Self::Refused(error) => matches!(error.code, 400 | 405 | 406 | 422 | 501),
            // kube-apiserver says so that its etcd cannot tell how far a watch has come.
            Self::InStream(error) => error.code == 500,
            _ => false,
        }
    }

    /// Whether the next list may be streamed, though this one could not.
    pub(super) fn is_of_this_list(&self) -> bool {
        matches!(self, Self::InStream(_))
    }

    pub(super) fn recovery(&self) -> Recovery {
        match self {
            Self::Connection(_) | Self::Silent(_) | Self::ClosedAtOnce | Self::CutShort => Recovery::Resume,
            _ if self.is_expired() || self.is_too_large() => Recovery::Relist,
            Self::Refused(error) if error.code == 429 || error.code >= 500 => Recovery::Resume,
            Self::InStream(error) if error.code == 429 => Recovery::Resume,
            _ => Recovery::Relist,
        }
    }
}
