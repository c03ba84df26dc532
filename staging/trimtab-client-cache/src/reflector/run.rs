//! One round of list and watch, and what follows from each way it can end.

use std::collections::HashMap;
use std::time::Duration;

use kube::core::Status as WireStatus;
use tokio::time::Instant;
use trimtab_apimachinery_meta::{ApiError, ObjectKey, resource_version};

use super::decode::{Event, Named, Page, Undecodable};
use super::failure::{Failure, Recovery};
use super::transport::{Lines, read_all, send};
use super::{Reflector, Sink};
use crate::store::Replacement;
use crate::{Object, key_of};

/// On a bookmark: all objects of the initial list have been sent.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A watch that is closed sooner than this without an event was not really served.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// A list while it is being read.
struct Listing<K> {
    objects: HashMap<ObjectKey, K>,
    skipped: HashMap<ObjectKey, String>,
}

impl<K: Object> Reflector<K> {
    /// Lists, then watches until only another list can help.
    pub(super) async fn list_and_watch(&mut self, sink: &mut impl Sink<K>) {
        let mut open = match self.list(sink).await {
            Ok(stream) => stream,
            Err(failure) => return self.pause(failure).await,
        };
        self.resumable = true;
        loop {
            let watched = match open.take() {
                Some(stream) => self.follow(stream, sink).await,
                None => self.watch(sink).await,
            };
            let Err(failure) = watched else { continue };
            let recovery = failure.recovery();
            self.pause(failure).await;
            if recovery == Recovery::Relist {
                self.status.count(|status| status.relists += 1);
                return;
            }
        }
    }

    /// Waits as the failure and those before it call for.
    async fn pause(&mut self, failure: Failure) {
        // What has expired, or was never there, is asked for anew at once; only if that does not help either, later.
        let unknown_version = failure.is_expired() || failure.is_too_large();
        // Until a list has succeeded: nothing that fails in between makes the version known.
        self.resumable &= !(unknown_version || matches!(failure, Failure::Backwards { .. }));
        let at_once = unknown_version && self.backoff.failures() == 0;
        let delay = self.backoff.next().max(failure.retry_after().unwrap_or_default());
        let delay = if at_once { Duration::ZERO } else { delay };
        tracing::warn!(path = %self.endpoint.path, error = %failure, ?delay, "list or watch failed, trying again");
        self.status.count(|status| {
            status.failures += 1;
            status.trouble = Some(failure.to_string());
        });
        tokio::time::sleep(delay).await;
    }

    /// The watch has proved itself. A list has not: a server that lists but cannot watch must be left alone, too.
    fn succeeded(&mut self) {
        self.backoff.reset();
        self.status.count(|status| status.trouble = None);
    }

    /// Replaces everything in the sink by what the server has now. A streamed list goes on as a watch.
    async fn list(&mut self, sink: &mut impl Sink<K>) -> Result<Option<Lines>, Failure> {
        if self.streams {
            match self.streamed_list(sink).await {
                Err(failure) if failure.calls_for_plain_list() => {
                    tracing::debug!(path = %self.endpoint.path, error = %failure, "no streamed list, reading pages");
                    self.streams = false;
                }
                streamed => return streamed.map(Some),
            }
        }
        self.paged_list(sink).await.map(|()| None)
    }

    // === the streamed list ===

    async fn streamed_list(&mut self, sink: &mut impl Sink<K>) -> Result<Lines, Failure> {
        let from = if self.resumable {
            sink.resource_version()
        } else {
            String::new()
        };
        let request = self.endpoint.streamed_list(&from, self.watch_timeout())?;
        let response = send(&self.client, request, self.config.answer_timeout).await?;
        let mut lines = Lines::new(response.into_body());
        let mut listing = Listing::new();
        let version = loop {
            let line = match lines.next(self.config.initial_silence).await {
                Err(Failure::Silent(_)) => return Err(Failure::NotStreaming),
                next => next?.ok_or(Failure::CutShort)?,
            };
            self.status.heard();
            let event = parse(&line)?;
            match &*event.kind {
                "BOOKMARK" => {
                    let bookmark = named(&event)?;
                    let annotations = bookmark.metadata.annotations.unwrap_or_default();
                    if annotations
                        .get(INITIAL_EVENTS_END)
                        .is_none_or(|end| end != "true")
                    {
                        return Err(Failure::NotStreaming);
                    }
                    break bookmark.metadata.resource_version;
                }
                "ADDED" | "MODIFIED" => {
                    let decoded = self.decoder.object::<K>(event.object)?;
                    self.put(&mut listing, decoded);
                }
                "DELETED" => listing.remove(&named(&event)?.key()),
                _ => return Err(error_event(&event)),
            }
        };
        self.replace(sink, listing, version)?;
        self.status.count(|status| {
            status.streamed_lists += 1;
            status.watches += 1;
            status.trouble = None;
        });
        Ok(lines)
    }

    // === the paged list ===

    /// Always asks for the latest state, so that what it gets cannot be older than what was seen.
    async fn paged_list(&mut self, sink: &mut impl Sink<K>) -> Result<(), Failure> {
        let (mut limit, mut token) = (self.config.page_size, String::new());
        let mut listing = Listing::new();
        let version = loop {
            let page = self.page(limit, &token, &mut listing).await;
            match page {
                // A later page of a snapshot that is gone: all at once, since another snapshot might go as well.
                Err(failure) if failure.is_expired() && !token.is_empty() => {
                    (limit, token, listing) = (0, String::new(), Listing::new());
                }
                Err(failure) => return Err(failure),
                Ok((version, None)) => break version,
                Ok((_, Some(next))) => token = next,
            }
        };
        self.replace(sink, listing, version)?;
        self.status.count(|status| {
            status.paged_lists += 1;
            status.trouble = None;
        });
        Ok(())
    }

    async fn page(
        &mut self,
        limit: u32,
        token: &str,
        listing: &mut Listing<K>,
    ) -> Result<(String, Option<String>), Failure> {
        let request = self.endpoint.list(limit, token)?;
        let response = send(&self.client, request, self.config.answer_timeout).await?;
        let body = read_all(response.into_body(), self.config.answer_timeout).await?;
        self.status.heard();
        let page: Page<'_> =
            serde_json::from_slice(&body).map_err(|error| Failure::Malformed(error.to_string()))?;
        for item in page.items.into_iter().flatten() {
            let decoded = self.decoder.item::<K>(item)?;
            self.put(listing, decoded);
        }
        let next = page.metadata.continue_token.filter(|token| !token.is_empty());
        Ok((page.metadata.resource_version, next))
    }

    // === both ===

    fn put(&self, listing: &mut Listing<K>, decoded: Result<K, Undecodable>) {
        match decoded {
            Ok(object) => {
                let key = key_of(&object);
                listing.skipped.remove(&key);
                listing.objects.insert(key, object);
            }
            Err(undecodable) => {
                self.report(&undecodable);
                let key = undecodable.named.key();
                listing.objects.remove(&key);
                listing.skipped.insert(key, undecodable.named.metadata.uid);
            }
        }
    }

    fn replace(
        &mut self,
        sink: &mut impl Sink<K>,
        listing: Listing<K>,
        listed: String,
    ) -> Result<(), Failure> {
        if listed.is_empty() {
            return Err(Failure::Malformed("a list without a resource version".into()));
        }
        let seen = sink.resource_version();
        if resource_version::compare(&listed, &seen).is_ok_and(|order| order.is_lt()) {
            self.backwards += 1;
            if self.backwards <= self.config.backwards_refusals {
                return Err(Failure::Backwards { listed, seen });
            }
            tracing::error!(path = %self.endpoint.path, %listed, %seen, "the server was set back to an older state, following it");
        }
        self.backwards = 0;
        sink.replace(Replacement {
            objects: listing.objects.into_values().collect(),
            skipped: listing.skipped,
            resource_version: listed,
        });
        Ok(())
    }

    fn report(&self, undecodable: &Undecodable) {
        self.status.count(|status| status.undecodable += 1);
        let (key, error) = (undecodable.named.key(), &undecodable.why);
        tracing::warn!(path = %self.endpoint.path, %key, %error, "skipping an object that cannot be decoded, until it changes");
    }

    // === the watch ===

    async fn watch(&mut self, sink: &mut impl Sink<K>) -> Result<(), Failure> {
        let request = self
            .endpoint
            .watch(&sink.resource_version(), self.watch_timeout())?;
        let response = send(&self.client, request, self.config.answer_timeout).await?;
        self.status.count(|status| {
            status.watches += 1;
            status.trouble = None;
        });
        self.follow(Lines::new(response.into_body()), sink).await
    }

    /// Passes on what a watch tells until it ends. An end that the server is entitled to is no failure.
    async fn follow(&mut self, mut lines: Lines, sink: &mut impl Sink<K>) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut told = false;
        loop {
            let next = lines.next(self.config.silence_timeout).await;
            // A watch that held as long as the longest backoff was served, even if there was nothing to tell.
            if next.is_err() && begun.elapsed() >= self.config.backoff_max {
                self.succeeded();
            }
            let Some(line) = next? else { break };
            self.status.heard();
            self.pass_on(&parse(&line)?, sink)?;
            if !std::mem::replace(&mut told, true) {
                self.succeeded();
            }
        }
        if !told && begun.elapsed() < SHORTEST_WATCH {
            return Err(Failure::ClosedAtOnce);
        }
        self.succeeded();
        Ok(())
    }

    fn pass_on(&mut self, event: &Event<'_>, sink: &mut impl Sink<K>) -> Result<(), Failure> {
        match &*event.kind {
            "ADDED" | "MODIFIED" => match self.decoder.object(event.object)? {
                Ok(object) => sink.upsert(object),
                Err(undecodable) => {
                    self.report(&undecodable);
                    sink.bookmark(&undecodable.named.metadata.resource_version);
                }
            },
            "DELETED" => match self.decoder.object(event.object)? {
                Ok(last) => sink.delete(last),
                Err(undecodable) => {
                    let named = undecodable.named;
                    sink.delete_key(&named.key(), &named.metadata.resource_version);
                }
            },
            "BOOKMARK" => {
                sink.bookmark(&named(event)?.metadata.resource_version);
                self.status.count(|status| status.bookmarks += 1);
                return Ok(());
            }
            _ => return Err(error_event(event)),
        }
        self.status.count(|status| status.events += 1);
        Ok(())
    }

    fn watch_timeout(&self) -> Duration {
        let (least, most) = (self.config.watch_timeout.start(), self.config.watch_timeout.end());
        least.saturating_add(most.saturating_sub(*least).mul_f64(fastrand::f64()))
    }
}

impl<K> Listing<K> {
    fn new() -> Self {
        Self {
            objects: HashMap::new(),
            skipped: HashMap::new(),
        }
    }

    fn remove(&mut self, key: &ObjectKey) {
        self.objects.remove(key);
        self.skipped.remove(key);
    }
}

fn parse(line: &[u8]) -> Result<Event<'_>, Failure> {
    serde_json::from_slice(line).map_err(|error| Failure::Malformed(error.to_string()))
}

fn named(event: &Event<'_>) -> Result<Named, Failure> {
    serde_json::from_str(event.object.get()).map_err(|error| Failure::Malformed(error.to_string()))
}

fn error_event(event: &Event<'_>) -> Failure {
    match serde_json::from_str::<WireStatus>(event.object.get()) {
        Ok(status) if event.kind == "ERROR" => Failure::InStream(ApiError::from_status(&status)),
        _ => Failure::Malformed(format!("event of type {:?}", event.kind)),
    }
}
