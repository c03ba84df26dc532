//! The registry: what every resource can do, over a store.
//!
//! A request comes in as an [`ApiRequest`] (authenticated, authorized, not decoded) and leaves as an
//! [`ApiResponse`] or an [`ApiError`]. On its way a write is decoded, defaulted, admitted, validated and stored in
//! one transaction, in the order in which kube-apiserver does it; a read is filtered and shaped.
//!
//! # What always holds
//!
//! - **Atomic**: an object is written in one transaction at the revision that the decision was made on; if it has
//!   changed meanwhile the decision is made again, or the request is refused with a conflict.
//! - **No silent success**: nothing is answered with success that has not been stored, dry runs aside.
//! - **Snapshot**: all pages of a list are of one revision.

pub mod hooks;
pub mod keys;
pub mod meta;
pub mod resources;

mod before_update;
mod binding;
mod cache;
mod call;
pub(crate) mod codec;
mod computed;
mod connect;
mod continue_token;
mod create;
mod creation;
pub(crate) mod deadline;
pub(crate) mod decode;
mod delete;
mod delete_collection;
mod delete_options;
mod eviction;
pub(crate) mod followed;
mod get;
mod go_types;
pub(crate) mod item;
pub(crate) mod json_syntax;
mod list;
mod list_options;
mod listing;
pub(crate) mod managed;
mod metadata_rules;
pub(crate) mod options;
mod patch;
mod scale;
mod shape;
pub(crate) mod storage;
mod strict;
mod update;
pub(crate) mod view;
mod watch;
pub(crate) mod yaml;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::Store;

pub use hooks::{
    Accounts, Admission, AdmitAll, Allocation, Allocators, Attributes, NoAccounts, NoAllocators, Operation,
    VirtualResource,
};
pub use resources::{ResourceTable, Resources};

use crate::ambient::Ambient;
pub use crate::ambient::Clock;
use crate::api::{ApiRequest, ApiResponse};
use crate::limits::Limits;
pub(crate) use cache::{CacheFigures, Caches, ListFigures};
use call::{Answer, Call};
pub(crate) use creation::Creation;
pub(crate) use deadline::{asked as time_asked, duration, exceeded as deadline_exceeded};

/// The registry. Share it by `Arc`.
pub struct Registry {
    store: Arc<dyn Store>,
    resources: Arc<ResourceTable>,
    ambient: Ambient,
    caches: Arc<Caches>,
    hooks: RwLock<Hooks>,
    virtuals: RwLock<HashMap<VirtualId, Arc<dyn VirtualResource>>>,
    /// How long a request may take, and how long a watch lasts whose client does not say: up to twice that, so that they do
    /// not all end at once.
    timeouts: (Duration, Duration),
}

/// Group, version, resource, subresource.
type VirtualId = (String, String, String, String);

#[derive(Clone, Debug)]
struct Hooks {
    admission: Arc<dyn Admission>,
    allocators: Arc<dyn Allocators>,
    accounts: Arc<dyn Accounts>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// A registry of these resources over a store, which admits everything and allocates nothing.
    pub fn new(store: Arc<dyn Store>, resources: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let resources = Arc::new(ResourceTable::new(resources));
        let limits = Limits::default();
        Self {
            caches: Arc::new(Caches::new(store.clone(), resources.clone())),
            store,
            resources,
            ambient: Ambient::default(),
            hooks: RwLock::new(Hooks {
                admission: Arc::new(AdmitAll),
                allocators: Arc::new(NoAllocators),
                accounts: Arc::new(NoAccounts),
            }),
            virtuals: RwLock::default(),
            timeouts: (limits.request_timeout, limits.min_request_timeout),
        }
    }

    /// The same registry with another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.ambient.clock = clock;
        self
    }

    /// The same registry with this time and randomness.
    #[must_use]
    pub(crate) fn with_ambient(mut self, ambient: Ambient) -> Self {
        self.ambient = ambient;
        self
    }

    /// Its time and its randomness.
    pub(crate) fn ambient(&self) -> &Ambient {
        &self.ambient
    }

    /// The same registry, with how long requests may take as these limits have it.
    #[must_use]
    pub(crate) fn with_limits(mut self, limits: &Limits) -> Self {
        self.timeouts = (limits.request_timeout, limits.min_request_timeout);
        self
    }

    /// The caches that lists and watches are answered from.
    pub(crate) fn caches(&self) -> &Arc<Caches> {
        &self.caches
    }

    /// What the caches tell of themselves.
    pub(crate) fn cache_figures(&self) -> Vec<CacheFigures> {
        self.caches.figures()
    }

    /// What a resource's collection comes to, if that is known without asking for it.
    pub(crate) fn size_of(&self, group: &str, version: &str, plural: &str) -> Option<(u64, u64)> {
        let resource = self.resources.get(group, version, plural)?;
        self.caches.existing(&resource)?.size()
    }

    /// From now on every write is shown to `admission`.
    pub fn set_admission(&self, admission: Arc<dyn Admission>) {
        self.hooks.write().admission = admission;
    }

    /// From now on every write is shown to `allocators`.
    pub fn set_allocators(&self, allocators: Arc<dyn Allocators>) {
        self.hooks.write().allocators = allocators;
    }

    /// From now on every write is counted by `accounts`.
    pub fn set_accounts(&self, accounts: Arc<dyn Accounts>) {
        self.hooks.write().accounts = accounts;
    }

    /// From now on requests for this resource, or below it for this subresource, go to `handler`.
    pub fn add_virtual(
        &self,
        group: &str,
        version: &str,
        resource: &str,
        subresource: &str,
        handler: Arc<dyn VirtualResource>,
    ) {
        let id = (
            group.to_owned(),
            version.to_owned(),
            resource.to_owned(),
            subresource.to_owned(),
        );
        self.virtuals.write().insert(id, handler);
    }

    /// What is served.
    pub fn resources(&self) -> &Arc<ResourceTable> {
        &self.resources
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn hooks(&self) -> Hooks {
        self.hooks.read().clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ambient.now()
    }

    /// The time as metadata writes it.
    pub fn timestamp(&self) -> String {
        self.ambient.timestamp()
    }

    /// Answers a request.
    ///
    /// Dropping the future before it is ready leaves the request undone or done, never half done.
    ///
    /// # Errors
    ///
    /// The error that is the answer.
    pub async fn handle(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        self.answer(request, &mut Vec::new()).await
    }

    /// As [`Registry::handle`]; of a request that is refused, `warnings` gets what the client is to be warned of all the
    /// same.
    ///
    /// # Errors
    ///
    /// The error that is the answer.
    pub async fn answer(
        &self,
        request: ApiRequest,
        warnings: &mut Vec<String>,
    ) -> Result<ApiResponse, ApiError> {
        let info = &request.info;
        let id = (
            info.group.clone(),
            info.version.clone(),
            info.resource.clone(),
            info.subresource.clone(),
        );
        let handler = self.virtuals.read().get(&id).cloned();
        if let Some(handler) = handler {
            return handler.handle(self, request).await;
        }
        let resource = self
            .resources
            .get(&info.group, &info.version, &info.resource)
            .ok_or_else(ApiError::unknown_resource)?;
        let mut call = Call::new(self, request, resource)?;
        match call.answer().await {
            Ok(answer) => call.finish(answer),
            Err(error) => {
                warnings.append(&mut call.warnings);
                Err(error)
            }
        }
    }

    /// Answers a request for this resource, whether it is in the table or not.
    pub(crate) async fn handle_as(
        &self,
        request: ApiRequest,
        resource: Arc<Resource>,
    ) -> Result<ApiResponse, ApiError> {
        let mut call = Call::new(self, request, resource)?;
        let answer = call.answer().await?;
        call.finish(answer)
    }
}

#[cfg(test)]
mod tests;
