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

mod binding;
mod connect;
mod continue_token;
mod create;
mod decode;
mod delete;
mod delete_collection;
mod delete_options;
mod events;
mod eviction;
mod get;
mod go_types;
mod json_syntax;
mod list;
mod managed;
mod metadata_rules;
mod options;
mod patch;
mod scale;
mod shape;
pub(crate) mod storage;
mod strict;
mod update;
mod view;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;
use serde_json::Value;
use trimtab_apimachinery_meta::{ApiError, StatusReason};
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_kinds::strategy::RequestContext;
use trimtab_apiserver_storage::Store;

pub use hooks::{
    Admission, AdmitAll, Allocation, Allocators, Attributes, NoAllocators, Operation, VirtualResource,
};
pub use resources::{ResourceTable, Resources};

use crate::api::{ApiRequest, ApiResponse};

/// Tells the time; tests bring their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The registry. Share it by `Arc`.
pub struct Registry {
    store: Arc<dyn Store>,
    resources: Arc<ResourceTable>,
    clock: Clock,
    recent: Arc<events::RecentChanges>,
    hooks: RwLock<Hooks>,
    virtuals: RwLock<HashMap<VirtualId, Arc<dyn VirtualResource>>>,
}

/// Group, version, resource, subresource.
type VirtualId = (String, String, String, String);

#[derive(Clone, Debug)]
struct Hooks {
    admission: Arc<dyn Admission>,
    allocators: Arc<dyn Allocators>,
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
        Self {
            store,
            resources: Arc::new(ResourceTable::new(resources)),
            clock: Arc::new(Timestamp::now),
            recent: Arc::default(),
            hooks: RwLock::new(Hooks {
                admission: Arc::new(AdmitAll),
                allocators: Arc::new(NoAllocators),
            }),
            virtuals: RwLock::default(),
        }
    }

    /// The same registry with another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// From now on every write is shown to `admission`.
    pub fn set_admission(&self, admission: Arc<dyn Admission>) {
        self.hooks.write().admission = admission;
    }

    /// From now on every write is shown to `allocators`.
    pub fn set_allocators(&self, allocators: Arc<dyn Allocators>) {
        self.hooks.write().allocators = allocators;
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

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Answers a request.
    ///
    /// Dropping the future before it is ready leaves the request undone or done, never half done.
    ///
    /// # Errors
    ///
    /// The error that is the answer.
    pub async fn handle(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
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
        let answer = call.answer().await?;
        Ok(call.finish(answer))
    }
}

/// 405, as routing words it.
fn not_allowed() -> ApiError {
    let message = "the server does not allow this method on the requested resource";
    ApiError::new(405, StatusReason::MethodNotAllowed, message)
}

/// What a call comes to, before it is shaped.
enum Answer {
    /// An object of the resource's kind.
    Object(u16, Value),
    /// A value that is answered as it is.
    Plain(u16, Value),
    /// A response that is complete.
    Whole(ApiResponse),
}

/// One request on its way.
struct Call<'a> {
    registry: &'a Registry,
    request: ApiRequest,
    resource: Arc<Resource>,
    hooks: Hooks,
    /// The namespace; empty for cluster-scoped resources and across namespaces.
    namespace: String,
    now: Timestamp,
    warnings: Vec<String>,
}

impl<'a> Call<'a> {
    fn new(registry: &'a Registry, request: ApiRequest, resource: Arc<Resource>) -> Result<Self, ApiError> {
        let info = &request.info;
        let is_namespace = resource.group.is_empty() && resource.plural == "namespaces";
        let namespace = if is_namespace {
            String::new()
        } else {
            info.namespace.clone()
        };
        if resource.namespaced() {
            if namespace.is_empty() && !info.name.is_empty() {
                return Err(ApiError::unknown_resource());
            }
            if namespace.is_empty() && !matches!(info.verb.as_str(), "list" | "watch") {
                return Err(not_allowed());
            }
        } else if !namespace.is_empty() {
            return Err(ApiError::unknown_resource());
        }
        let of_collection = matches!(info.verb.as_str(), "create" | "deletecollection" | "list");
        let of_object = matches!(info.verb.as_str(), "delete" | "get" | "patch" | "update");
        let is_object = !info.name.is_empty();
        if info.subresource.is_empty() && (of_collection && is_object || of_object && !is_object) {
            return Err(not_allowed());
        }
        let verbs = match info.subresource.as_str() {
            "" => &resource.verbs,
            name => {
                &resource
                    .subresource(name)
                    .ok_or_else(ApiError::unknown_resource)?
                    .verbs
            }
        };
        if !verbs.contains(&info.verb) {
            return Err(not_allowed());
        }
        let warnings = resource.deprecation_warning.clone().into_iter().collect();
        let (hooks, now) = (registry.hooks(), registry.now());
        Ok(Self {
            registry,
            request,
            resource,
            hooks,
            namespace,
            now,
            warnings,
        })
    }

    async fn answer(&mut self) -> Result<Answer, ApiError> {
        let info = &self.request.info;
        let watching = info.verb == "watch" || options::flag(&self.request, "watch") == Some(true);
        match (info.subresource.as_str(), info.verb.as_str()) {
            ("", "list" | "watch") if watching => self.watch().await,
            ("", "list") => self.list().await,
            ("", "create") => self.create().await,
            ("", "deletecollection") => self.delete_collection().await,
            ("", "delete") => self.delete().await,
            ("scale", _) => self.scale().await,
            ("eviction", _) => self.evict().await,
            ("binding", _) => self.bind().await,
            ("attach" | "exec" | "log" | "portforward" | "proxy", _) => self.connect().await,
            (_, "get") => self.get().await,
            (_, "update") => self.put().await,
            (_, "patch") => self.patch().await,
            _ => Err(not_allowed()),
        }
    }

    /// Gives the answer the shape that the client wants.
    fn finish(self, answer: Answer) -> ApiResponse {
        let warnings = self.warnings;
        match answer {
            Answer::Object(code, object) => {
                let shaper = shape::Shaper::new(&self.resource, &self.request, self.now);
                ApiResponse::Value {
                    code,
                    value: shaper.object(object),
                    warnings,
                }
            }
            Answer::Plain(code, value) => ApiResponse::Value {
                code,
                value,
                warnings,
            },
            Answer::Whole(ApiResponse::Watch { events, .. }) => ApiResponse::Watch { events, warnings },
            Answer::Whole(ApiResponse::Value { code, value, .. }) => ApiResponse::Value {
                code,
                value,
                warnings,
            },
        }
    }

    fn name(&self) -> &str {
        &self.request.info.name
    }

    fn store(&self) -> &dyn Store {
        &*self.registry.store
    }

    fn key(&self, name: &str) -> String {
        keys::object_key(&self.resource, &self.namespace, name)
    }

    fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(&self.resource.group_resource(), name)
    }

    /// The time of the request as metadata writes it.
    fn timestamp(&self) -> String {
        self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn context(&self) -> RequestContext {
        RequestContext {
            now: self.timestamp(),
            namespace: self.namespace.clone(),
            subresource: self.request.info.subresource.clone(),
            user: self.request.user.name.clone(),
        }
    }

    fn attributes(&self, operation: Operation, name: &str, dry_run: bool, options: &str) -> Attributes {
        let is_namespace = self.resource.group.is_empty() && self.resource.plural == "namespaces";
        let mut details = serde_json::json!({"kind": options, "apiVersion": "meta.k8s.io/v1"});
        if dry_run {
            details["dryRun"] = serde_json::json!(["All"]);
        }
        for name in ["fieldManager", "fieldValidation"] {
            if let Some(value) = self.request.param(name) {
                details[name] = value.into();
            }
        }
        Attributes {
            operation,
            resource: self.resource.clone(),
            subresource: self.request.info.subresource.clone(),
            namespace: if is_namespace {
                name.to_owned()
            } else {
                self.namespace.clone()
            },
            name: name.to_owned(),
            user: self.request.user.clone(),
            dry_run,
            options: details,
        }
    }

    /// Warns of owner references that are there twice, and drops them.
    fn dedup_owners(&mut self, object: &mut Value) {
        let repeated = meta::dedup_owners(object);
        if !repeated.is_empty() {
            self.warnings.push(format!(
                ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, \
                 and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
                repeated.join(", ")
            ));
        }
    }
}

#[cfg(test)]
mod tests;
