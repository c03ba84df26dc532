//! The worker of one APIService that another server serves: it looks whether that is there, and asks what it serves. Nobody
//! else waits for it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_core::extensions::{Backend, Body, Elsewhere, Forwarded, Identity, Within};
use trimtab_apiserver_core::registry::keys;
use trimtab_apiserver_storage::{Event, WatchRequest};

use super::check::{SERVICE_NAME, check};
use super::documents::Documents;
use super::service::{Reference, Registered};
use super::status::write_condition;
use crate::proxy::{Proxy, Upstream};

/// A server is looked for this often though nothing has changed; kube-aggregator's.
const AGAIN: Duration = Duration::from_secs(30);
/// The pauses after checks that have failed, from the first to the longest; kube-aggregator's.
const RETRY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(30));
/// How long after a check the next one may be made since somebody was not answered.
const DOUBTED: Duration = Duration::from_secs(1);
/// How often it is asked what it serves; kube-aggregator's.
const REFRESH: Duration = Duration::from_secs(60);
/// The first pause after it has not said so; kube-aggregator's.
const RETRY_DOCUMENTS: Duration = Duration::from_millis(500);

/// An APIService that another server serves.
#[derive(Debug)]
pub(super) struct Remote {
    registered: ArcSwap<Registered>,
    upstream: Arc<Upstream>,
    proxy: Proxy,
    within: Within,
    documents: Mutex<Documents>,
    /// The APIService has another availability or other priorities.
    changed: Notify,
    /// Its server is to be looked for.
    moved: Notify,
    /// Told when the documents have.
    told: Arc<Notify>,
}

impl Remote {
    pub(super) fn new(
        registered: Registered,
        reference: Reference,
        within: &Within,
        identity: Option<&Identity>,
        rejects_redirects: bool,
        upgraded: &TaskTracker,
        told: &Arc<Notify>,
    ) -> Self {
        let upstream = Arc::new(Upstream::new(reference, within.resolver.clone(), identity));
        Self {
            proxy: Proxy::new(
                upstream.clone(),
                rejects_redirects,
                within.stop.clone(),
                upgraded.clone(),
            ),
            upstream,
            registered: ArcSwap::from_pointee(registered),
            within: within.clone(),
            documents: Mutex::default(),
            changed: Notify::new(),
            moved: Notify::new(),
            told: told.clone(),
        }
    }

    pub(super) fn reference(&self) -> &Reference {
        self.upstream.reference()
    }

    /// The APIService is this now; its server is the same.
    pub(super) fn update(&self, registered: &Registered) {
        let before = self.registered.swap(Arc::new(registered.clone()));
        if *before == *registered {
            return;
        }
        self.changed.notify_one();
        if before.is_available == registered.is_available {
            // Somebody has had a hand in it: perhaps since something is the matter.
            self.moved.notify_one();
        }
    }

    /// From now on the server is shown this certificate.
    pub(super) fn identify(&self, identity: &Identity) {
        self.upstream.identify(identity);
        self.moved.notify_one();
    }

    pub(super) fn documents(&self) -> Documents {
        self.documents.lock().clone()
    }

    /// What discovery says of it.
    pub(super) fn elsewhere(self: &Arc<Self>) -> Elsewhere {
        let documents = self.documents.lock();
        Elsewhere {
            backend: self.clone(),
            resources: documents.resources.clone(),
            is_current: documents.is_current,
            is_available: self.registered.load().is_available,
        }
    }

    /// Keeps up with the server. It never ends.
    pub(super) async fn work(self: Arc<Self>) {
        tokio::join!(self.keep_checked(), self.keep_described());
    }

    async fn keep_checked(&self) {
        let mut pause = RETRY.0;
        let mut watched = self.watch().await;
        loop {
            let registered = self.registered.load_full();
            let finding = check(&self.within.registry, &registered, &self.upstream).await;
            let written = write_condition(&self.within, &registered.name, &finding).await;
            if let Err(error) = &written {
                tracing::debug!(%error, name = registered.name, "the condition of an APIService cannot be written");
            }
            let wait = if written.is_err() || finding.may_pass() {
                let wait = pause;
                pause = (pause * 2).min(RETRY.1);
                wait
            } else {
                pause = RETRY.0;
                AGAIN
            };
            let checked = Instant::now();
            let ended = tokio::select! {
                biased;
                next = watched.next() => next.is_none(),
                () = self.moved.notified() => false,
                () = tokio::time::sleep(wait) => false,
                () = self.upstream.doubted() => {
                    // However many have not been answered.
                    tokio::time::sleep_until(checked + DOUBTED).await;
                    false
                }
            };
            if ended {
                // Not at once, should the store be what is at fault.
                tokio::time::sleep(RETRY_DOCUMENTS).await;
                watched = self.watch().await;
            }
        }
    }

    /// An item for each change of the Service and of its EndpointSlices. It ends when the store does not tell of them any more.
    async fn watch(&self) -> BoxStream<'static, ()> {
        let Reference { namespace, name, .. } = self.reference().clone();
        let registry = &self.within.registry;
        let table = registry.resources().snapshot();
        let service = table.any_version("", "services");
        let service = service.map(|resource| keys::object_key(resource, &namespace, &name));
        let slices = table.any_version("discovery.k8s.io", "endpointslices");
        let slices = slices.map(|resource| keys::collection_prefix(resource, &namespace));
        let mut all = Vec::new();
        for (prefix, is_slices) in [(service, false), (slices, true)] {
            let Some(prefix) = prefix else { continue };
            let Ok(watch) = registry.store().watch(WatchRequest::prefix(prefix)).await else {
                return stream::empty().boxed();
            };
            let name = name.clone();
            let changes = watch.map(move |batch| {
                let batch = batch.ok()?;
                Some(batch.events.iter().any(|event| !is_slices || is_of(event, &name)))
            });
            all.push(changes.boxed());
        }
        let all = stream::select_all(all);
        // The end of one is the end of all.
        all.take_while(|change| std::future::ready(change.is_some()))
            .filter_map(|change| std::future::ready(change.filter(|is_ours| *is_ours).map(drop)))
            .boxed()
    }

    async fn keep_described(&self) {
        let mut pause = RETRY_DOCUMENTS;
        loop {
            let registered = self.registered.load_full();
            let mut documents = self.documents();
            let known = if registered.is_available {
                let discovered = documents.discover(&registered, &self.upstream).await;
                self.tell(&documents);
                let described = documents.describe(&registered, &self.upstream).await;
                discovered.and(described)
            } else {
                (documents.is_current, documents.resources) = (false, Vec::new());
                Ok(())
            };
            self.tell(&documents);
            let wait = match known {
                Ok(()) => {
                    pause = RETRY_DOCUMENTS;
                    REFRESH
                }
                Err(why) => {
                    tracing::debug!(
                        why,
                        name = registered.name,
                        "what an APIService serves is not known"
                    );
                    let wait = pause;
                    pause = (pause * 2).min(REFRESH);
                    wait
                }
            };
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn tell(&self, documents: &Documents) {
        let mut known = self.documents.lock();
        let is_same = known.is_current == documents.is_current
            && known.resources == documents.resources
            && known.openapi == documents.openapi
            && known.openapi_v2.as_ref().map(Arc::as_ptr) == documents.openapi_v2.as_ref().map(Arc::as_ptr);
        *known = documents.clone();
        if !is_same {
            self.told.notify_one();
        }
    }
}

/// Whether a change is of an EndpointSlice of this Service, or has been.
fn is_of(event: &Event, service: &str) -> bool {
    let before = event.prev.as_ref().map(|prev| &prev.value);
    let names = |value: &bytes::Bytes| {
        let object: Value = serde_json::from_slice(value).unwrap_or_default();
        object["metadata"]["labels"][SERVICE_NAME] == service
    };
    names(&event.kv.value) || before.is_some_and(names)
}

#[async_trait]
impl Backend for Remote {
    async fn answer(&self, forwarded: Forwarded) -> Result<Response<Body>, ApiError> {
        if !self.registered.load().is_available {
            return Ok(Proxy::refuse());
        }
        if forwarded.request.uri().path().starts_with("/openapi/")
            && let Some(converted) = self.documents.lock().converted.clone()
        {
            let body = Full::new(converted)
                .map_err(|never| match never {})
                .boxed_unsync();
            let mut response = Response::new(body);
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            return Ok(response);
        }
        self.proxy.pass_on(forwarded).await
    }
}
