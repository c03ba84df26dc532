//! Resources whose objects are computed and can be watched: what has been computed is kept in memory until it is computed again, and
//! the difference is what has happened.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_core::api::{ApiRequest, ApiResponse};
use trimtab_apiserver_core::registry::{Registry, VirtualResource, keys};
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{Config, MemoryStore, Op, RangeRequest, Txn};

use super::computed::{Asked, Computed, whole};

/// What can be done with them.
pub(super) const VERBS: [&str; 3] = ["get", "list", "watch"];

/// Computes, and remembers.
pub(super) struct Observed<C> {
    computed: C,
    /// The version that objects are remembered in.
    resource: Arc<Resource>,
    registry: Arc<Registry>,
    every: Duration,
    /// One at a time computes, so that what is newer is remembered last.
    computing: tokio::sync::Mutex<()>,
    /// There while anybody watches.
    poller: Mutex<Weak<AbortOnDropHandle<()>>>,
}

/// One that all versions share.
pub(super) struct Shared<C>(pub(super) Arc<Observed<C>>);

impl<C> fmt::Debug for Shared<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed")
            .field("resource", &self.0.resource.plural)
            .finish_non_exhaustive()
    }
}

/// What remembers: its revisions are no other replica's, so that whoever comes from one begins anew.
pub(super) fn memory() -> Arc<MemoryStore> {
    let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
    Arc::new(MemoryStore::starting_at(
        u64::try_from(now).unwrap_or(1),
        Config::default(),
    ))
}

impl<C: Computed> Observed<C> {
    pub(super) fn new(
        computed: C,
        resource: Arc<Resource>,
        registry: Arc<Registry>,
        every: Duration,
    ) -> Self {
        Self {
            computed,
            resource,
            registry,
            every,
            computing: tokio::sync::Mutex::default(),
            poller: Mutex::default(),
        }
    }

    /// Computes all objects, and remembers them instead of those of before, as one change.
    async fn refresh(&self) -> Result<(), ApiError> {
        let _alone = self.computing.lock().await;
        let asked = Asked {
            namespace: None,
            user: UserInfo::default(),
        };
        let mut now: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        for object in self.computed.list(&asked).await? {
            let object = whole(&object, &self.resource)?;
            let part = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
            let (namespace, name) = (part("namespace"), part("name"));
            if name.is_empty() || namespace.is_empty() == self.resource.namespaced() {
                let why = format!(
                    "an object of {} has no name, or is in the wrong scope",
                    self.resource.plural
                );
                return Err(ApiError::internal(why));
            }
            let key = keys::object_key(&self.resource, namespace, name);
            now.insert(Bytes::from(key), object.to_string().into());
        }
        let store = self.registry.store();
        let failed = |error: trimtab_apiserver_storage::Error| ApiError::internal(error);
        let all = RangeRequest::prefix(keys::resource_prefix(&self.resource));
        let mut changes = Vec::new();
        for before in store.range(all).await.map_err(failed)?.kvs {
            match now.remove(&before.key) {
                None => changes.push(Op::Delete { key: before.key }),
                Some(value) if value == before.value => {}
                Some(value) => changes.push(put(before.key, value)),
            }
        }
        changes.extend(now.into_iter().map(|(key, value)| put(key, value)));
        if changes.is_empty() {
            return Ok(());
        }
        let changes = Txn {
            success: changes,
            ..Txn::default()
        };
        store.txn(changes).await.map(drop).map_err(failed)
    }

    /// Computes again and again, for as long as anybody has what this answers.
    fn polled(self: &Arc<Self>) -> Arc<AbortOnDropHandle<()>> {
        let mut poller = self.poller.lock();
        if let Some(there) = poller.upgrade() {
            return there;
        }
        let observed = self.clone();
        let polling = tokio::spawn(async move {
            loop {
                sleep(observed.every).await;
                if let Err(error) = observed.refresh().await {
                    tracing::warn!(%error, resource = observed.resource.plural, "what is watched cannot be computed");
                }
            }
        });
        let polling = Arc::new(AbortOnDropHandle::new(polling));
        *poller = Arc::downgrade(&polling);
        polling
    }
}

fn put(key: Bytes, value: Bytes) -> Op {
    Op::Put {
        key,
        value,
        ttl: None,
    }
}

#[async_trait]
impl<C: Computed> VirtualResource for Shared<C> {
    async fn handle(&self, _: &Registry, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let observed = &self.0;
        // The pages of a list are of the moment of its first.
        if request.param("continue").unwrap_or_default().is_empty() {
            observed.refresh().await?;
        }
        let watches = request.info.verb == "watch";
        if watches && let Some(Ok(asked)) = request.param("resourceVersion").map(str::parse::<u64>) {
            let current = observed
                .registry
                .store()
                .revision()
                .await
                .map_err(ApiError::internal)?;
            if asked > current {
                return Err(ApiError::expired(format!(
                    "resource version {asked} is of another replica, or from before a restart: list again"
                )));
            }
        }
        let response = observed.registry.handle(request).await?;
        Ok(match response {
            ApiResponse::Watch { events, warnings } => {
                let polled = observed.polled();
                let events = events.inspect(move |_| {
                    let _ = &polled;
                });
                ApiResponse::Watch {
                    events: events.boxed(),
                    warnings,
                }
            }
            other => other,
        })
    }
}
