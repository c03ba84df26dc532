//! Watching collections.
//!
//! A watch delivers every change of its collection after a revision, in order and once; what its selectors do not
//! match is left out, and what begins or ceases to match is shown as added or deleted. A watch from no particular
//! revision begins with the collection as it is.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::vec;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep_until};
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{Error, Revision, Store, WatchRequest, WatchStream};

use super::cache::{Cache, CacheWatch, Change, Sight, Woken, encode, line, partial_line};
use super::codec::Codec;
use super::item::{Item, Renderer};
use super::list_options::ListOptions;
use super::view::Filter;
use super::{Answer, Call, Registry, ResourceTable, shape, storage};
use crate::ambient::Entropy;
use crate::api::{ApiRequest, ApiResponse, OutputShape, WatchEvent};
use crate::changes::Changes;

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
        let asked = options.version.unwrap_or_default();
        if asked > 0 && options.send_initial_events.is_some() {
            self.wait_for(asked).await?;
        }
        let (initial, from) = if from_state {
            let (initial, revision) = self.initial(&options).await?;
            (Some(initial), revision)
        } else if asked == 0 {
            let current = self.store().revision().await.map_err(|e| storage::error(&e))?;
            (None, current)
        } else {
            (None, asked)
        };
        let view = View {
            resource: self.resource.clone(),
            renderer: Renderer::new(&self.resource),
            filter: self.filter(&options),
            request: self.request.clone(),
            clock: self.registry.ambient.clock.clone(),
            table: self.registry.resources.clone(),
            columns_sent: false,
        };
        let mut watching = Watching::new(view, self.registry, &options);
        watching.progress = from;
        match self.open(&options, from).await {
            Ok(source) => watching.source = source,
            Err(Error::Compacted { oldest }) => watching.fail(&too_old(from, oldest)),
            Err(e) => return Err(storage::error(&e)),
        }
        if self.request.shape == OutputShape::PartialMetadataList {
            // Events are of single objects, which are no lists: there is nothing that could be sent.
            watching.source = Source::None;
        } else if let Some(initial) = initial {
            watching.say_when_done = options.bookmarks && options.send_initial_events == Some(true);
            watching.initial = initial;
        }
        // What moves from event to event is a pointer.
        let events = stream::unfold(Box::new(watching), |mut watching| async move {
            watching.next().await.map(|event| (event, watching))
        });
        Ok(Answer::Whole(ApiResponse::Watch {
            events: events.boxed(),
            warnings: Vec::new(),
        }))
    }

    /// The collection as it is, and the revision of that.
    async fn initial(&self, options: &ListOptions) -> Result<(Initial, Revision), ApiError> {
        let all = ListOptions {
            limit: 0,
            token: None,
            ..options.clone()
        };
        if self.codec.asks_others() {
            let page = self.page(&all).await?;
            return Ok((Initial::Values(page.objects.into_iter()), page.revision));
        }
        let page = self.stored_page(&all).await?;
        Ok((Initial::Stored(page.objects.into_iter()), page.revision))
    }

    /// What brings the changes after `from`: the cache if it has them, the store otherwise.
    async fn open(&self, options: &ListOptions, from: Revision) -> Result<Source, Error> {
        let prefix = self.prefix(options);
        let cache = self.registry.caches.of(&self.resource);
        if cache.ready().await
            && let Some(watch) = cache.watch(prefix.scope(), from)
        {
            return Ok(Source::Cache(watch));
        }
        let (start, end) = prefix.range();
        let request = WatchRequest {
            start,
            end,
            from: Some(from + 1),
        };
        let stream = self.store().watch(request).await?;
        Ok(Source::Store(stream, cache, prefix.scope()))
    }
}

fn too_old(asked: Revision, oldest: Revision) -> ApiError {
    ApiError::expired(format!("too old resource version: {asked} ({oldest})"))
}

/// How one watcher sees events.
struct View {
    resource: Arc<Resource>,
    renderer: Renderer,
    filter: Filter,
    request: ApiRequest,
    clock: super::Clock,
    table: Arc<ResourceTable>,
    /// Whether the table's columns have been sent: only the first event has them.
    columns_sent: bool,
}

impl View {
    /// What a change looks like through the selectors; `None` when it cannot be seen.
    async fn see(&mut self, change: &Change) -> Result<Option<WatchEvent>, ApiError> {
        // Who converts objects may have changed since the watch began.
        let codec = self.codec();
        let seen = change.seen_by(&codec);
        let is = match self.matches(&codec, change.now.as_deref()) {
            Some(is) => is,
            None => self.matches_decoded(seen.now(change).await?),
        };
        let was = match self.matches(&codec, change.before.as_deref()) {
            Some(was) => was,
            None => self.matches_decoded(seen.before(change).await?),
        };
        let sight = match (is, was) {
            (true, true) => Sight::Modified,
            (true, false) => Sight::Added,
            (false, true) => Sight::Deleted,
            (false, false) => return Ok(None),
        };
        if self.request.shape == OutputShape::Object {
            let json = seen.line(change, sight).await?;
            return Ok(Some(WatchEvent { json }));
        }
        if self.request.shape == OutputShape::PartialMetadata
            && let Some(json) = seen.partial_line(change, sight)
        {
            return Ok(Some(WatchEvent { json }));
        }
        let object = if sight == Sight::Deleted {
            seen.before(change).await?
        } else {
            seen.now(change).await?
        };
        Ok(object.cloned().map(|object| self.show(sight.as_str(), object)))
    }

    fn codec(&self) -> Codec {
        Codec::new(&self.table.snapshot(), self.resource.clone(), None)
    }

    /// Whether an object matches; `None` if it has to be decoded to know.
    fn matches(&self, codec: &Codec, item: Option<&Item>) -> Option<bool> {
        match item {
            None => Some(false),
            Some(_) if self.filter.is_open() => Some(true),
            Some(item) if !codec.asks_others() => self.filter.matches_stored(item),
            Some(_) => None,
        }
    }

    fn matches_decoded(&self, object: Option<&Value>) -> bool {
        object.is_some_and(|object| self.filter.matches(object))
    }

    /// An object that was there before the watch began.
    fn show_stored(&mut self, item: &Item) -> Result<WatchEvent, ApiError> {
        let added = Sight::Added.as_str();
        let codec = self.codec();
        let rendered = match self.request.shape {
            OutputShape::PartialMetadataList | OutputShape::Table => None,
            _ if !codec.serves_bytes_of(item) => None,
            OutputShape::Object => line(&self.renderer, added, item, item.revision),
            OutputShape::PartialMetadata => partial_line(added, item, item.revision),
        };
        if let Some(json) = rendered {
            return Ok(WatchEvent { json });
        }
        let object = codec.decode_alone(item, item.revision)?;
        Ok(self.show(added, object))
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

/// What a watch begins with.
enum Initial {
    Stored(vec::IntoIter<Arc<Item>>),
    Values(vec::IntoIter<Value>),
}

/// Where changes come from.
enum Source {
    Cache(CacheWatch),
    /// The store, until the cache knows all that comes after: each change is decoded for this watch alone.
    Store(WatchStream, Arc<Cache>, Bytes),
    /// Nothing more comes.
    None,
}

/// What a watch wakes up for.
enum Next {
    Changes(VecDeque<Arc<Change>>, Option<Revision>),
    /// The resource may have gone away.
    Served,
    /// The store can go no further.
    Failed(Error),
    Ended,
}

impl Source {
    /// Waits for something to happen. Cancel-safe.
    async fn next(&mut self) -> Next {
        match self {
            Self::Cache(watch) => match watch.next().await {
                Woken::Changes(changes) => Next::Changes(changes, None),
                Woken::Poked => Next::Served,
                Woken::Ended => Next::Ended,
            },
            Self::Store(stream, ..) => match stream.next().await {
                Some(Ok(batch)) => {
                    let changes = batch.events.into_iter().map(Change::from_event);
                    Next::Changes(changes.map(Arc::new).collect(), Some(batch.revision))
                }
                Some(Err(error)) => Next::Failed(error),
                None => Next::Ended,
            },
            Self::None => Next::Ended,
        }
    }
}

/// A watch under way.
struct Watching {
    view: View,
    store: Arc<dyn Store>,
    table: Arc<ResourceTable>,
    /// Changes of what is served: the resource may go away. The cache tells of them, too.
    served: Changes,
    source: Source,
    /// What is to be sent before anything else.
    initial: Initial,
    /// Whether the end of that is to be told.
    say_when_done: bool,
    /// Changes that have come.
    changes: VecDeque<Arc<Change>>,
    /// How far the source is when they have been sent.
    behind_them: Revision,
    /// What the watch ends with.
    last: Option<WatchEvent>,
    end: Pin<Box<Sleep>>,
    /// When the next bookmark is due, if any are wanted.
    bookmark_at: Option<Pin<Box<Sleep>>>,
    /// A bookmark is due as soon as the watch has come as far as this.
    bookmark_due: Option<Revision>,
    /// Everything up to here has been delivered.
    progress: Revision,
}

impl Watching {
    fn new(view: View, registry: &Registry, options: &ListOptions) -> Self {
        let now = Instant::now();
        let lasts = options.timeout_seconds.map_or_else(
            || jittered(registry.timeouts.1, &registry.ambient.entropy),
            Duration::from_secs,
        );
        let mut watching = Self {
            view,
            store: registry.store.clone(),
            table: registry.resources.clone(),
            served: registry.resources.changes(),
            source: Source::None,
            initial: Initial::Values(Vec::new().into_iter()),
            say_when_done: false,
            changes: VecDeque::new(),
            behind_them: 0,
            last: None,
            end: Box::pin(sleep_until(now + lasts)),
            bookmark_at: None,
            bookmark_due: None,
            progress: 0,
        };
        if options.bookmarks {
            watching.bookmark_at = Some(Box::pin(sleep_until(watching.next_bookmark(now))));
        }
        watching
    }

    /// In a minute, but in time before the end.
    fn next_bookmark(&self, now: Instant) -> Instant {
        let end = self.end.deadline();
        let last = end - BOOKMARK_BEFORE_END.min(end - now);
        let next = now + BOOKMARK_EVERY;
        if last > now && last < next { last } else { next }
    }

    /// Ends the watch with an error.
    fn fail(&mut self, error: &ApiError) {
        let mut status = serde_json::to_value(error.to_status()).unwrap_or_default();
        status["kind"] = "Status".into();
        status["apiVersion"] = "v1".into();
        self.source = Source::None;
        self.changes.clear();
        self.bookmark_due = None;
        self.last = Some(WatchEvent {
            json: encode("ERROR", &status),
        });
    }

    async fn next(&mut self) -> Option<WatchEvent> {
        if let Some(event) = self.next_initial() {
            return Some(event);
        }
        loop {
            while let Some(change) = self.changes.pop_front() {
                // Whatever happened before it has been told.
                self.progress = self.progress.max(change.revision.saturating_sub(1));
                if let Some(bookmark) = self.due_bookmark() {
                    self.changes.push_front(change);
                    return Some(bookmark);
                }
                match self.view.see(&change).await {
                    Ok(Some(event)) => return Some(event),
                    Ok(None) => {}
                    Err(error) => self.fail(&error),
                }
            }
            if let Some(last) = self.last.take() {
                return Some(last);
            }
            self.progress = self.progress.max(self.behind_them);
            if let Source::Store(_, cache, scope) = &self.source
                && let Some(watch) = cache.watch(scope.clone(), self.progress)
            {
                self.source = Source::Cache(watch);
            }
            if self.bookmark_due.is_some() {
                if let Source::Cache(watch) = &mut self.source {
                    match watch.caught_up() {
                        Ok(reached) => self.progress = self.progress.max(reached.unwrap_or_default()),
                        Err(_) if self.is_over() => return None,
                        Err(changes) => {
                            self.changes = changes;
                            continue;
                        }
                    }
                }
                if let Some(bookmark) = self.due_bookmark() {
                    return Some(bookmark);
                }
            }
            if matches!(self.source, Source::None) {
                return None;
            }
            self.wait().await?;
        }
    }

    /// The bookmark that is due, if the watch has come as far as it is to tell.
    fn due_bookmark(&mut self) -> Option<WatchEvent> {
        self.bookmark_due.take_if(|due| self.progress >= *due)?;
        Some(self.view.bookmark(self.progress, false))
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end.deadline()
    }

    /// The next of what the watch begins with.
    fn next_initial(&mut self) -> Option<WatchEvent> {
        let added = Sight::Added.as_str();
        let next = match &mut self.initial {
            Initial::Stored(items) => items.next().map(|item| self.view.show_stored(&item)),
            Initial::Values(objects) => objects.next().map(|object| Ok(self.view.show(added, object))),
        };
        match next {
            Some(Ok(event)) => Some(event),
            Some(Err(error)) => {
                self.initial = Initial::Values(Vec::new().into_iter());
                self.fail(&error);
                self.last.take()
            }
            None if std::mem::take(&mut self.say_when_done) => Some(self.view.bookmark(self.progress, true)),
            None => None,
        }
    }

    /// Waits until there is something to look at; `None` at the end.
    async fn wait(&mut self) -> Option<()> {
        let by_cache = matches!(self.source, Source::Cache(_));
        let reached = match (&self.source, self.bookmark_due) {
            (Source::Cache(watch), Some(due)) => Some(watch.reached(due)),
            // The store says so by itself.
            _ => None,
        };
        let is_due = reached.is_some();
        let reached = async {
            if let Some(reached) = reached {
                reached.await;
            }
        };
        let bookmark = async {
            match &mut self.bookmark_at {
                Some(at) => at.await,
                None => pending().await,
            }
        };
        // Changes first, since they are what nearly always happens.
        tokio::select! {
            biased;
            next = self.source.next() => match next {
                Next::Changes(changes, behind_them) => {
                    self.changes = changes;
                    self.behind_them = behind_them.unwrap_or_default();
                    return self.keep_time().await;
                }
                Next::Served => self.check_served()?,
                Next::Failed(Error::Compacted { oldest }) => self.fail(&too_old(self.progress, oldest)),
                // The client resumes from what it has seen.
                Next::Failed(_) | Next::Ended => return None,
            },
            () = &mut self.end => return None,
            () = bookmark => self.ask_for_bookmark().await?,
            () = self.served.changed(), if !by_cache => self.check_served()?,
            () = reached, if is_due => {}
        }
        Some(())
    }

    /// What the clock asks for, also where changes never cease; `None` at the end.
    async fn keep_time(&mut self) -> Option<()> {
        if self.is_over() {
            return None;
        }
        let now = Instant::now();
        if self.bookmark_at.as_ref().is_some_and(|at| now >= at.deadline()) {
            self.ask_for_bookmark().await?;
        }
        Some(())
    }

    /// `None` when the resource is not served any more.
    fn check_served(&self) -> Option<()> {
        let Resource {
            group,
            version,
            plural,
            ..
        } = &*self.view.resource;
        self.table.get(group, version, plural).map(drop)
    }

    /// Has a bookmark sent when the source has said how far it is.
    async fn ask_for_bookmark(&mut self) -> Option<()> {
        let next = self.next_bookmark(Instant::now());
        if let Some(at) = &mut self.bookmark_at {
            at.as_mut().reset(next);
        }
        let current = self.store.revision().await.unwrap_or_default();
        self.bookmark_due = Some(current.max(self.progress));
        if current > self.progress {
            self.store.request_progress().await.ok()?;
        }
        Some(())
    }
}

fn jittered(shortest: Duration, entropy: &Entropy) -> Duration {
    let random = entropy.uuid().as_bytes()[0];
    shortest + shortest.mul_f64(f64::from(random) / 255.0)
}
