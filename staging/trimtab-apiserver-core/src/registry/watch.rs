//! Watching collections.
//!
//! A watch delivers every change of its collection after a revision, in order and once; what its selectors do not
//! match is left out, and what begins or ceases to match is shown as added or deleted. A watch from no particular
//! revision begins with the collection as it is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{Error, Event, Revision, Store, WatchBatch, WatchRequest, WatchStream};

use super::codec::Codec;
use super::events::{RecentChanges, Sight, encode};
use super::list::Page;
use super::list_options::ListOptions;
use super::view::Filter;
use super::{Answer, Call, Registry, ResourceTable, shape, storage};
use crate::api::{ApiRequest, ApiResponse, OutputShape, WatchEvent};

/// How long a watch lasts whose client does not say: between one and two times this, so that they do not all end at
/// once. As kube-apiserver's `--min-request-timeout`.
const SHORTEST: Duration = Duration::from_secs(1800);
/// How often a quiet watch is told how far the server has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before its end a watch is told how far it has come.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// Marks the bookmark after the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

impl Call<'_> {
    /// GET of a collection with `watch`.
    pub(super) async fn watch(&mut self) -> Result<Answer, ApiError> {
        let mut options = ListOptions::read(&self.request, &self.resource, true)?;
        if !self.name().is_empty() {
            // The old path of a watch of one object.
            let name = trimtab_apimachinery_meta::selector::FieldTerm {
                field: "metadata.name".to_owned(),
                value: self.name().to_owned(),
                equal: true,
            };
            options.fields.terms.push(name);
        }
        let from_state = options
            .send_initial_events
            .unwrap_or(matches!(options.version, None | Some(0)));
        let mut initial = None;
        let mut from = options.version.unwrap_or_default();
        if from_state || from == 0 {
            let current = self.store().revision().await.map_err(|e| storage::error(&e))?;
            if from > current && options.send_initial_events.is_some() {
                return Err(storage::too_large(from, current));
            }
            from = current;
            if from_state {
                let page = self
                    .page(&ListOptions {
                        limit: 0,
                        token: None,
                        ..options.clone()
                    })
                    .await?;
                from = page.revision;
                initial = Some(page);
            }
        }
        let (start, end) = self.prefix(&options).range();
        let request = WatchRequest {
            start,
            end,
            from: Some(from + 1),
        };
        let opened = self.store().watch(request).await;
        let view = View {
            resource: self.resource.clone(),
            filter: Filter::new(
                self.resource.clone(),
                options.labels.clone(),
                options.fields.clone(),
            ),
            request: self.request.clone(),
            clock: self.registry.clock.clone(),
            table: self.registry.resources.clone(),
            recent: self.registry.recent.clone(),
            columns_sent: false,
        };
        let mut watching = Watching::new(view, self.registry, &options);
        watching.progress = from;
        match opened {
            Ok(stream) => watching.stream = Some(stream),
            Err(Error::Compacted { oldest }) => watching.fail(&too_old(from, oldest)),
            Err(e) => return Err(storage::error(&e)),
        }
        if self.request.shape == OutputShape::PartialMetadataList {
            // Events are of single objects, which are no lists: there is nothing that could be sent.
            watching.stream = None;
        } else {
            watching.begin(initial, options.send_initial_events == Some(true));
        }
        let events = stream::unfold(watching, |mut watching| async move {
            watching.next().await.map(|event| (event, watching))
        });
        Ok(Answer::Whole(ApiResponse::Watch {
            events: events.boxed(),
            warnings: Vec::new(),
        }))
    }
}

fn too_old(asked: Revision, oldest: Revision) -> ApiError {
    ApiError::expired(format!("too old resource version: {asked} ({oldest})"))
}

/// How one watcher sees events.
struct View {
    resource: Arc<Resource>,
    filter: Filter,
    request: ApiRequest,
    clock: super::Clock,
    table: Arc<ResourceTable>,
    recent: Arc<RecentChanges>,
    /// Whether the table's columns have been sent: only the first event has them.
    columns_sent: bool,
}

impl View {
    /// What a change looks like through the selectors; `None` when it cannot be seen.
    async fn see(&mut self, event: Event) -> Result<Option<WatchEvent>, ApiError> {
        // Who converts objects may have changed since the watch began.
        let codec = Codec::new(&self.table.snapshot(), self.resource.clone(), None);
        let change = self.recent.get(codec, event);
        let (is, was) = if self.filter.is_open() {
            (change.exists(), change.existed())
        } else {
            let matches = |object: Option<&Value>| object.is_some_and(|object| self.filter.matches(object));
            (matches(change.now().await?), matches(change.before().await?))
        };
        let sight = match (is, was) {
            (true, true) => Sight::Modified,
            (true, false) => Sight::Added,
            (false, true) => Sight::Deleted,
            (false, false) => return Ok(None),
        };
        if self.request.shape == OutputShape::Object {
            let json = change.line(sight).await?;
            return Ok(Some(WatchEvent { json }));
        }
        let object = if sight == Sight::Deleted {
            change.before().await?
        } else {
            change.now().await?
        };
        Ok(object.cloned().map(|object| self.show(sight.as_str(), object)))
    }

    fn show(&mut self, kind: &str, object: Value) -> WatchEvent {
        let shaper = shape::Shaper::new(&self.resource, &self.request, (self.clock)());
        let first = !std::mem::replace(&mut self.columns_sent, true);
        WatchEvent {
            json: encode(kind, &shaper.event(object, first)),
        }
    }

    fn bookmark(&self, revision: Revision, initial_events_end: bool) -> WatchEvent {
        let (kind, api_version) = match self.request.shape {
            OutputShape::Object => (self.resource.kind.clone(), self.resource.api_version()),
            OutputShape::PartialMetadata | OutputShape::PartialMetadataList => {
                ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned())
            }
            OutputShape::Table => ("Table".to_owned(), "meta.k8s.io/v1".to_owned()),
        };
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_events_end {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let mut object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        if self.request.shape == OutputShape::Table {
            // A table has no annotations of its own, so they are in its one row.
            let row = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
            object["metadata"] = json!({"resourceVersion": revision.to_string()});
            object["columnDefinitions"] = Value::Null;
            object["rows"] = json!([{"cells": [], "object": row}]);
        }
        WatchEvent {
            json: encode("BOOKMARK", &object),
        }
    }
}

/// A watch under way.
struct Watching {
    view: View,
    store: Arc<dyn Store>,
    table: Arc<ResourceTable>,
    /// Changes of what is served: the resource may go away.
    changes: tokio::sync::watch::Receiver<u64>,
    /// `None` when nothing more comes from the store.
    stream: Option<WatchStream>,
    /// What is to be sent before anything else.
    queue: VecDeque<WatchEvent>,
    end: Instant,
    /// When the next bookmark is due; `None` when none are wanted.
    bookmark_at: Option<Instant>,
    /// A bookmark is due as soon as it is known how far the watch has come.
    bookmark_due: bool,
    /// Everything up to here has been delivered.
    progress: Revision,
}

impl Watching {
    fn new(view: View, registry: &Registry, options: &ListOptions) -> Self {
        let now = Instant::now();
        let lasts = options
            .timeout_seconds
            .map_or_else(|| jittered(SHORTEST), Duration::from_secs);
        let end = now + lasts;
        let mut watching = Self {
            view,
            store: registry.store.clone(),
            table: registry.resources.clone(),
            changes: registry.resources.changes(),
            stream: None,
            queue: VecDeque::new(),
            end,
            bookmark_at: None,
            bookmark_due: false,
            progress: 0,
        };
        if options.bookmarks {
            watching.bookmark_at = Some(watching.next_bookmark(now));
        }
        watching
    }

    /// In a minute, but in time before the end.
    fn next_bookmark(&self, now: Instant) -> Instant {
        let last = self.end - BOOKMARK_BEFORE_END.min(self.end - now);
        let next = now + BOOKMARK_EVERY;
        if last > now && last < next { last } else { next }
    }

    /// Queues what the watch begins with.
    fn begin(&mut self, initial: Option<Page<Value>>, say_when_done: bool) {
        let Some(page) = initial else { return };
        for object in page.objects {
            let event = self.view.show("ADDED", object);
            self.queue.push_back(event);
        }
        self.progress = page.revision;
        if say_when_done && self.bookmark_at.is_some() {
            self.queue.push_back(self.view.bookmark(page.revision, true));
        }
    }

    /// Ends the watch with an error.
    fn fail(&mut self, error: &ApiError) {
        let status = serde_json::to_value(error.to_status()).unwrap_or_default();
        self.stream = None;
        let mut status = status;
        status["kind"] = "Status".into();
        status["apiVersion"] = "v1".into();
        self.queue.push_back(WatchEvent {
            json: encode("ERROR", &status),
        });
    }

    async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            let bookmark_at = self.bookmark_at;
            let stream = self.stream.as_mut()?;
            tokio::select! {
                biased;
                () = sleep_until(self.end) => return None,
                () = sleep_until(bookmark_at.unwrap_or(self.end)), if bookmark_at.is_some() => {
                    self.bookmark_at = Some(self.next_bookmark(Instant::now()));
                    if self.store.revision().await.is_ok_and(|current| current > self.progress) {
                        // The bookmark is sent when the store has said how far the watch has come.
                        self.bookmark_due = true;
                        self.store.request_progress().await.ok()?;
                    } else {
                        self.queue.push_back(self.view.bookmark(self.progress, false));
                    }
                }
                Ok(()) = self.changes.changed() => {
                    let Resource { group, version, plural, .. } = &*self.view.resource;
                    self.table.get(group, version, plural)?;
                }
                batch = stream.next() => self.take(batch).await,
            }
        }
    }

    async fn take(&mut self, batch: Option<Result<WatchBatch, Error>>) {
        match batch {
            Some(Ok(batch)) => {
                for event in batch.events {
                    match self.view.see(event).await {
                        Ok(Some(event)) => self.queue.push_back(event),
                        Ok(None) => {}
                        Err(e) => return self.fail(&e),
                    }
                }
                self.progress = self.progress.max(batch.revision);
                if std::mem::take(&mut self.bookmark_due) {
                    self.queue.push_back(self.view.bookmark(self.progress, false));
                }
            }
            Some(Err(Error::Compacted { oldest })) => self.fail(&too_old(self.progress, oldest)),
            // The client resumes from what it has seen.
            Some(Err(_)) | None => self.stream = None,
        }
    }
}

fn jittered(shortest: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_bytes()[0];
    shortest + shortest.mul_f64(f64::from(random) / 255.0)
}
