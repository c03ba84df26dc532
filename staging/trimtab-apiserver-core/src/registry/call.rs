//! One request on its way through the registry: what it is about, where it goes, and how its answer leaves.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use trimtab_apimachinery_meta::{ApiError, StatusReason};
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_kinds::strategy::RequestContext;
use trimtab_apiserver_storage::Store;

use super::codec::{Codec, Written};
use super::hooks::{Attributes, Operation};
use super::item::{Item, Renderer};
use super::storage::Stored;
use super::{Hooks, Registry, deadline, keys, meta, options, shape};
use crate::api::{ApiRequest, ApiResponse, OutputShape};

/// 405, as routing words it.
fn not_allowed() -> ApiError {
    let message = "the server does not allow this method on the requested resource";
    ApiError::new(405, StatusReason::MethodNotAllowed, message)
}

/// What a call comes to, before it is shaped.
pub(super) enum Answer {
    /// An object of the resource's kind.
    Object(u16, Value),
    /// An object of the resource's kind, as it is stored.
    Stored(u16, Item),
    /// A value that is answered as it is.
    Plain(u16, Value),
    /// A response that is complete.
    Whole(ApiResponse),
}

impl Answer {
    /// An object that has been written.
    pub(super) fn written(code: u16, written: Written) -> Self {
        match written {
            Written::Value(object) => Self::Object(code, object),
            Written::Stored(item) => Self::Stored(code, item),
        }
    }
}

/// One request on its way.
pub(super) struct Call<'a> {
    pub(super) registry: &'a Registry,
    pub(super) request: ApiRequest,
    pub(super) resource: Arc<Resource>,
    pub(super) hooks: Hooks,
    /// The namespace; empty for cluster-scoped resources and across namespaces.
    pub(super) namespace: String,
    pub(super) now: Timestamp,
    /// When the request has to be answered; `None` for what may last.
    pub(super) deadline: Option<Instant>,
    /// How its objects are stored.
    pub(super) codec: Codec,
    pub(super) warnings: Vec<String>,
}

/// A stored object in this shape, if its bytes are enough for that.
fn encoded(codec: &Codec, item: &Item, shape: OutputShape) -> Option<Bytes> {
    if shape == OutputShape::Table || !codec.serves_bytes_of(item) {
        return None;
    }
    let mut json = Vec::new();
    let written = match shape {
        OutputShape::Object => Renderer::new(&codec.resource).object(item, item.revision, &mut json),
        OutputShape::PartialMetadata | OutputShape::PartialMetadataList => {
            Renderer::partial(item, item.revision, &mut json)
        }
        OutputShape::Table => false,
    };
    json.push(b'\n');
    written.then(|| json.into())
}

/// Subresources that reach through an object to something that runs.
const CONNECTIONS: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];

impl<'a> Call<'a> {
    pub(super) fn new(
        registry: &'a Registry,
        request: ApiRequest,
        resource: Arc<Resource>,
    ) -> Result<Self, ApiError> {
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
            name => match resource.subresource(name) {
                Some(subresource) => &subresource.verbs,
                None if resource.custom => {
                    return Err(ApiError::not_found(&resource.group_resource(), &info.name));
                }
                None => return Err(ApiError::unknown_resource()),
            },
        };
        if !verbs.contains(&info.verb) {
            return Err(if resource.custom {
                ApiError::method_not_allowed(&resource.group_resource(), &info.verb)
            } else {
                not_allowed()
            });
        }
        let warnings = resource.deprecation_warning.clone().into_iter().collect();
        let (hooks, now) = (registry.hooks(), registry.now());
        let lasts = is_watch(&request) || CONNECTIONS.contains(&info.subresource.as_str());
        let deadline = if lasts {
            None
        } else {
            Some(deadline::of(&request, registry.timeouts.0)?)
        };
        let codec = Codec::new(&registry.resources.snapshot(), resource.clone(), deadline);
        Ok(Self {
            registry,
            request,
            codec,
            resource,
            hooks,
            namespace,
            now,
            deadline,
            warnings,
        })
    }

    pub(super) async fn answer(&mut self) -> Result<Answer, ApiError> {
        let info = &self.request.info;
        match (info.subresource.as_str(), info.verb.as_str()) {
            ("", "list" | "watch") if is_watch(&self.request) => self.watch().await,
            ("", "list") => self.list().await,
            ("", "create") if self.resource.group.is_empty() && self.resource.plural == "bindings" => {
                self.bind_named().await
            }
            ("", "create") => self.create().await,
            ("", "deletecollection") => self.delete_collection().await,
            ("", "delete") => self.delete().await,
            ("scale", _) => self.scale().await,
            ("eviction", _) => self.evict().await,
            ("binding", _) => self.bind().await,
            (below, _) if CONNECTIONS.contains(&below) => self.connect().await,
            (_, "get") => self.get().await,
            (_, "update") => self.put().await,
            (_, "patch") => self.patch().await,
            _ => Err(not_allowed()),
        }
    }

    /// Gives the answer the shape that the client wants.
    ///
    /// # Errors
    ///
    /// When the object cannot be decoded.
    pub(super) fn finish(self, answer: Answer) -> Result<ApiResponse, ApiError> {
        let warnings = self.warnings;
        let shaper = shape::Shaper::new(&self.resource, &self.request, self.now);
        Ok(match answer {
            Answer::Object(code, object) => ApiResponse::Value {
                code,
                value: shaper.object(object),
                warnings,
            },
            Answer::Stored(code, item) => match encoded(&self.codec, &item, shaper.shape()) {
                Some(json) => ApiResponse::Encoded {
                    code,
                    json: Box::new(std::iter::once(Ok(json))),
                    warnings,
                },
                None => ApiResponse::Value {
                    code,
                    value: shaper.object(self.codec.decode_alone(&item, item.revision)?),
                    warnings,
                },
            },
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
            Answer::Whole(ApiResponse::Encoded { code, json, .. }) => {
                ApiResponse::Encoded { code, json, warnings }
            }
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.request.info.name
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.registry.store
    }

    pub(super) fn key(&self, name: &str) -> String {
        keys::object_key(&self.resource, &self.namespace, name)
    }

    /// The object of that name as it is stored.
    pub(super) async fn stored(&self, name: &str) -> Result<Option<Stored>, ApiError> {
        self.codec.get(self.store(), &self.key(name)).await
    }

    pub(super) fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(&self.resource.group_resource(), name)
    }

    /// The time of the request as metadata writes it.
    pub(super) fn timestamp(&self) -> String {
        self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    pub(super) fn context(&self) -> RequestContext {
        RequestContext {
            now: self.timestamp(),
            namespace: self.namespace.clone(),
            subresource: self.request.info.subresource.clone(),
            user: self.request.user.name.clone(),
            requester: if self.resource.strategy.wants_requester() {
                requester(&self.request.user)
            } else {
                Value::Null
            },
        }
    }

    /// What admission is told of this request; the options are those of [`Call::options`] or of a delete.
    pub(super) fn attributes(
        &self,
        operation: Operation,
        name: &str,
        dry_run: bool,
        options: Value,
    ) -> Attributes {
        let is_namespace = self.resource.group.is_empty() && self.resource.plural == "namespaces";
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
            options,
            deadline: self.deadline,
        }
    }

    /// The options of a write as an object of this kind.
    pub(super) fn options(&self, kind: &str, dry_run: bool) -> Value {
        let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if dry_run {
            options["dryRun"] = json!(["All"]);
        }
        for name in ["fieldManager", "fieldValidation"] {
            if let Some(value) = self.request.param(name) {
                options[name] = value.into();
            }
        }
        options
    }

    /// Shows admission an object that is not stored as it is: an eviction, a binding, the options of a connection.
    pub(super) async fn admit(
        &mut self,
        attributes: &Attributes,
        object: &mut Value,
    ) -> Result<(), ApiError> {
        let admission = self.hooks.admission.clone();
        admission
            .mutate(attributes, object, None, &mut self.warnings)
            .await?;
        admission
            .validate(attributes, Some(object), None, &mut self.warnings)
            .await
    }

    /// Warns of owner references that are there twice, and drops them.
    pub(super) fn dedup_owners(&mut self, object: &mut Value) {
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

/// What is known of a user beyond the name, for the kinds that write it down.
fn requester(user: &UserInfo) -> Value {
    let mut known = json!({});
    if !user.uid.is_empty() {
        known["uid"] = user.uid.as_str().into();
    }
    if !user.groups.is_empty() {
        known["groups"] = user.groups.clone().into();
    }
    if !user.extra.is_empty() {
        known["extra"] = json!(user.extra);
    }
    known
}

/// Whether the request is for a stream of changes.
fn is_watch(request: &ApiRequest) -> bool {
    request.info.verb == "watch" || options::flag(request, "watch") == Some(true)
}
