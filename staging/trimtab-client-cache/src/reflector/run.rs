//! One round of list and watch, and what follows from each way it can end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::core::Status as WireStatus;
use tokio::time::Instant;
use trimtab_apimachinery_meta::{ApiError, ObjectKey, resource_version};

use super::decode::Event;
use super::failure::{Failure, Recovery};
use super::listing::{ListMeta, ListReader};
use super::transport::{Chunks, Lines, send};
use super::{Sink, UntypedReflector};
use crate::cached::{Cached, NoObject, Undecodable, Untyped};
use crate::store::Replacement;

/// On a bookmark: all objects of the initial list have been sent.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A watch that is closed sooner than this without an event was not really served.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// A list while it is being read.
struct Listing {
    objects: HashMap<Arc<ObjectKey>, Cached<Untyped>>,
    skipped: HashMap<ObjectKey, String>,
}

impl UntypedReflector {
    /// Lists, then watches until only another list can help.
    pub(super) async fn list_and_watch(&mut self, sink: &mut dyn Sink<Untyped>) {
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
            if recovery == Recovery::Relist {
                self.status.count(|status| match () {
                    () if failure.is_expired() => status.relists_expired += 1,
                    () if failure.is_too_large() => status.relists_unknown += 1,
                    () => status.relists_failed += 1,
                });
            }
            self.pause(failure).await;
            if recovery == Recovery::Relist {
                return;
            }
        }
    }

    /// Waits as the failure and those before it call for.
    async fn pause(&mut self, failure: Failure) {
        // Who has been stopped ends here: that servers go away after their clients is no failure.
        tokio::task::yield_now().await;
        // What has expired, or was never there, is asked for anew at once; only if that does not help either, later.
        let unknown_version = failure.is_expired() || failure.is_too_large();
        // Until a list has succeeded: nothing that fails in between makes the version known.
        self.resumable &= !(unknown_version || matches!(failure, Failure::Backwards { .. }));
        let at_once = unknown_version && self.backoff.failures() == 0;
        let delay = self.backoff.next().max(failure.retry_after().unwrap_or_default());
        let delay = if at_once { Duration::ZERO } else { delay };
        // Servers have nothing to say, not even a bookmark, of a kind that never changed: kube-apiserver for minutes on end.
        if matches!(failure, Failure::Silent(_)) && self.backoff.failures() <= 1 {
            tracing::debug!(path = %self.endpoint.path, error = %failure, ?delay, "nothing was heard, watching anew");
        } else {
            tracing::warn!(path = %self.endpoint.path, error = %failure, ?delay, "list or watch failed, trying again");
        }
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
    async fn list(&mut self, sink: &mut dyn Sink<Untyped>) -> Result<Option<Lines>, Failure> {
        if self.streams {
            match self.streamed_list(sink).await {
                Err(failure) if failure.calls_for_plain_list() => {
                    tracing::debug!(path = %self.endpoint.path, error = %failure, "no streamed list, reading pages");
                    self.streams = failure.is_of_this_list();
                }
                streamed => return streamed.map(Some),
            }
        }
        self.paged_list(sink).await.map(|()| None)
    }

    // === the streamed list ===

    async fn streamed_list(&mut self, sink: &mut dyn Sink<Untyped>) -> Result<Lines, Failure> {
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
            self.status.heard(line.len());
            let event = Event::parse(&line)?;
            match &*event.kind {
                "BOOKMARK" => {
                    let bookmark = event.named()?;
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
                    let made = self.maker.lock().make(event.object, false);
                    self.put(&mut listing, sink, made)?;
                }
                "DELETED" => listing.remove(&event.named()?.key()),
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
    async fn paged_list(&mut self, sink: &mut dyn Sink<Untyped>) -> Result<(), Failure> {
        let (mut limit, mut token) = (self.config.page_size, String::new());
        let mut listing = Listing::new();
        let version = loop {
            let page = self.page(limit, &token, &mut listing, sink).await;
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

    /// Reads a page, each object when it has arrived. Gives the list's version and how to ask for the next page.
    async fn page(
        &mut self,
        limit: u32,
        token: &str,
        listing: &mut Listing,
        sink: &mut dyn Sink<Untyped>,
    ) -> Result<(String, Option<String>), Failure> {
        let patience = self.config.answer_timeout;
        let request = self.endpoint.list(limit, token)?;
        let mut chunks = Chunks::new(send(&self.client, request, patience).await?.into_body());
        let mut page = ListReader::new();
        while let Some(chunk) = chunks.next(patience).await? {
            self.status.heard(chunk.len());
            page.push(chunk);
            while let Some(item) = page.next_item()? {
                let made = self.maker.lock().make(&item, true);
                self.put(listing, sink, made)?;
            }
        }
        let ListMeta {
            resource_version,
            continue_token,
            shard,
        } = page.finish()?;
        if !self.endpoint.selection.shard.is_empty() && shard.is_none() {
            return Err(Failure::NotSharded);
        }
        Ok((resource_version, continue_token))
    }

    // === both ===

    fn put(
        &self,
        listing: &mut Listing,
        sink: &dyn Sink<Untyped>,
        made: Result<Cached<Untyped>, NoObject>,
    ) -> Result<(), Failure> {
        match made {
            Ok(object) => {
                // What is in the store already is kept once.
                let object = sink
                    .stored(object.key())
                    .filter(|stored| {
                        stored.is_same_object(&object)
                            && stored.resource_version() == object.resource_version()
                    })
                    .unwrap_or(object);
                listing.skipped.remove(object.key());
                listing.objects.insert(object.shared_key().clone(), object);
                Ok(())
            }
            Err(NoObject::Undecodable(undecodable)) => {
                self.report(&undecodable);
                listing.objects.remove(&undecodable.key);
                listing.skipped.insert(undecodable.key, undecodable.uid);
                Ok(())
            }
            Err(NoObject::Malformed(why)) => Err(Failure::Malformed(why)),
        }
    }

    fn replace(
        &mut self,
        sink: &mut dyn Sink<Untyped>,
        listing: Listing,
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
        let Undecodable { key, why, .. } = undecodable;
        tracing::warn!(path = %self.endpoint.path, %key, error = %why, "skipping an object that cannot be decoded, until it changes");
    }

    // === the watch ===

    async fn watch(&mut self, sink: &mut dyn Sink<Untyped>) -> Result<(), Failure> {
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
    async fn follow(&mut self, mut lines: Lines, sink: &mut dyn Sink<Untyped>) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut told = false;
        loop {
            let next = lines.next(self.config.silence_timeout).await;
            // A watch that held as long as the longest backoff was served, even if there was nothing to tell.
            if next.is_err() && begun.elapsed() >= self.config.backoff_max {
                self.succeeded();
            }
            let Some(line) = next? else { break };
            self.status.heard(line.len());
            self.pass_on(&Event::parse(&line)?, sink)?;
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

    fn pass_on(&mut self, event: &Event<'_>, sink: &mut dyn Sink<Untyped>) -> Result<(), Failure> {
        match &*event.kind {
            kind @ ("ADDED" | "MODIFIED" | "DELETED") => {
                let made = self.maker.lock().make(event.object, false);
                match (made, kind) {
                    (Ok(last), "DELETED") => sink.delete(last),
                    (Ok(object), _) => sink.upsert(object),
                    (Err(NoObject::Undecodable(gone)), "DELETED") => {
                        sink.delete_key(&gone.key, &gone.resource_version)
                    }
                    (Err(NoObject::Undecodable(undecodable)), _) => {
                        self.report(&undecodable);
                        sink.bookmark(&undecodable.resource_version);
                    }
                    (Err(NoObject::Malformed(why)), _) => return Err(Failure::Malformed(why)),
                }
            }
            "BOOKMARK" => {
                sink.bookmark(&event.named()?.metadata.resource_version);
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

impl Listing {
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

fn error_event(event: &Event<'_>) -> Failure {
    match serde_json::from_slice::<WireStatus>(event.object) {
        Ok(status) if event.kind == "ERROR" => Failure::InStream(ApiError::from_status(&status)),
        _ => Failure::Malformed(format!("event of type {:?}", event.kind)),
    }
}
