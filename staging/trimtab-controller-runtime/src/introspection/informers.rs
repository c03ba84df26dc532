//! Informers as they are shown.

use std::time::Duration;

use serde::Serialize;
use trimtab_client_cache::informer::{HandlerStatus, InformerStatus};
use trimtab_client_cache::reflector::Status;

use super::wire;

/// What an informer is doing. The numbers are those of all of its reflectors together, since it began.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct InformerSnapshot {
    /// The kind of the objects.
    pub kind: String,
    /// Which of them, and what is kept of them.
    pub selection: String,
    /// Whether the first list is in the store.
    pub synced: bool,
    /// What is wrong with it, if it cannot be relied upon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<String>,
    /// What failed last, if nothing has succeeded since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The resource version that the store is at.
    pub resource_version: String,
    /// How many objects are stored.
    pub objects: usize,
    /// Bytes that they take.
    pub bytes: usize,
    /// Additions, modifications and deletions that were received after a list.
    pub events: u64,
    /// Bookmarks that were received after a list.
    pub bookmarks: u64,
    /// Lists of any form.
    pub lists: u64,
    /// Watch requests that were answered.
    pub watches: u64,
    /// Lists after the first, and why.
    pub relists: Relists,
    /// Failures of any kind; each was followed by another try.
    pub failures: u64,
    /// How often an object was found not to be of the type.
    pub undecodable: u64,
    /// Bytes of lists and watches that were received.
    pub received_bytes: u64,
    /// How long ago the server last said anything; of several reflectors, the one that has waited longest.
    #[serde(rename = "silentSeconds", serialize_with = "wire::seconds")]
    pub silent_for: Duration,
    /// How long that should be at most.
    #[serde(rename = "silenceExpectedSeconds", serialize_with = "wire::seconds")]
    pub silence_expected: Duration,
    /// Who is told of changes.
    pub handlers: Vec<HandlerSnapshot>,
    /// How many changes were lost to a panic of their handler.
    pub handler_panics: u64,
}

/// Lists after the first, by why there had to be one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Relists {
    /// The version that a watch was to begin at had expired.
    pub expired: u64,
    /// The server did not know the version that a watch was to begin at.
    pub unknown: u64,
    /// Any other failure that leaves the server's state in doubt.
    pub failed: u64,
}

/// How a handler is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HandlerSnapshot {
    /// What it is called.
    pub name: String,
    /// How many objects it still has to be told of.
    pub backlog: usize,
    /// Whether it has handled the whole initial list.
    pub synced: bool,
}

impl From<&InformerStatus> for InformerSnapshot {
    fn from(status: &InformerStatus) -> Self {
        let reflectors = &status.reflectors;
        let sum = |of: fn(&Status) -> u64| reflectors.iter().map(of).sum();
        let longest = |of: fn(&Status) -> Duration| reflectors.iter().map(of).max().unwrap_or_default();
        Self {
            kind: status.kind.clone(),
            selection: status.selection.to_string(),
            synced: status.synced,
            unhealthy: status.health().err().map(|unhealthy| unhealthy.to_string()),
            trouble: reflectors.iter().find_map(|reflector| reflector.trouble.clone()),
            resource_version: status.resource_version.clone(),
            objects: status.objects,
            bytes: status.bytes,
            events: sum(|of| of.events),
            bookmarks: sum(|of| of.bookmarks),
            lists: sum(|of| of.paged_lists + of.streamed_lists),
            watches: sum(|of| of.watches),
            relists: Relists {
                expired: sum(|of| of.relists_expired),
                unknown: sum(|of| of.relists_unknown),
                failed: sum(|of| of.relists_failed),
            },
            failures: sum(|of| of.failures),
            undecodable: status.undecodable,
            received_bytes: sum(|of| of.bytes),
            silent_for: longest(|of| of.silent_for),
            silence_expected: longest(|of| of.silence_expected),
            handlers: status.handlers.iter().map(HandlerSnapshot::from).collect(),
            handler_panics: status.handler_panics,
        }
    }
}

impl From<&HandlerStatus> for HandlerSnapshot {
    fn from(status: &HandlerStatus) -> Self {
        Self {
            name: status.name.clone(),
            backlog: status.backlog,
            synced: status.synced,
        }
    }
}
