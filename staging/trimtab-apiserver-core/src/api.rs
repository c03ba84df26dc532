//! What the HTTP half hands to the registry, and what it gets back: requests and responses without HTTP.

use bytes::Bytes;
use futures::stream::BoxStream;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::user::MASTERS_GROUP;

/// A request for a resource, parsed from its path and method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The API group; empty for core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The namespace; empty for cluster-scoped resources and for lists across namespaces.
    pub namespace: String,
    /// The resource.
    pub resource: String,
    /// The object's name; empty for collections.
    pub name: String,
    /// The subresource, or empty.
    pub subresource: String,
    /// The one name that a collection is asked for by `fieldSelector=metadata.name=…`; empty otherwise. Roles may
    /// allow a list of that name alone.
    pub field_name: String,
    /// The whole path.
    pub path: String,
    /// The HTTP method, upper case.
    pub method: String,
}

/// The shape of the answer that the client accepts; its encoding is the HTTP half's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputShape {
    /// The object itself.
    #[default]
    Object,
    /// `Table` of meta.k8s.io/v1.
    Table,
    /// `PartialObjectMetadata` of meta.k8s.io/v1: for single objects and watches.
    PartialMetadata,
    /// `PartialObjectMetadataList` of meta.k8s.io/v1: for collections.
    PartialMetadataList,
}

/// What a body's bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyFormat {
    /// `application/json`, also when nothing is said.
    #[default]
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/json-patch+json`.
    JsonPatch,
    /// `application/merge-patch+json`.
    MergePatch,
    /// `application/strategic-merge-patch+json`.
    StrategicMergePatch,
    /// `application/apply-patch+yaml`, of which JSON is a part.
    ApplyPatch,
}

/// What is said of patches that custom resources do not take.
pub(crate) const NO_SUCH_PATCH: &str = "the body of the request was in an unknown format - accepted media types \
                                        include: application/json-patch+json, application/merge-patch+json, \
                                        application/apply-patch+yaml";

/// A request for the registry: authenticated, authorized, read, not yet decoded.
#[derive(Clone, Debug, Default)]
pub struct ApiRequest {
    /// What is asked.
    pub info: RequestInfo,
    /// The query's parameters, decoded, in order.
    pub query: Vec<(String, String)>,
    /// Who asks.
    pub user: UserInfo,
    /// The shape of answer wanted.
    pub shape: OutputShape,
    /// What the body is.
    pub body_format: BodyFormat,
    /// The body.
    pub body: Bytes,
    /// The client's user agent: the field manager of those who name none is its first word.
    pub user_agent: String,
}

impl ApiRequest {
    /// A request that the server makes to itself; `user_agent` becomes its field manager.
    pub fn own(verb: &str, method: &str, user_agent: &str) -> Self {
        Self {
            info: RequestInfo {
                verb: verb.to_owned(),
                method: method.to_owned(),
                ..RequestInfo::default()
            },
            user: UserInfo {
                name: "system:apiserver".to_owned(),
                groups: vec![MASTERS_GROUP.to_owned()],
                ..UserInfo::default()
            },
            user_agent: user_agent.to_owned(),
            ..Self::default()
        }
    }

    /// The first value of a query parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(k, _)| k == name)
            .map(|(_, v)| v.as_str())
    }
}

/// One line of a watch.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// The event as JSON, `{"type":…,"object":…}`, and a newline; shared between watchers where it can be.
    pub json: Bytes,
}

/// The pieces of an answer, each written when it is asked for.
pub type Pieces = Box<dyn Iterator<Item = Result<Bytes, ApiError>> + Send>;

/// What the registry answers.
pub enum ApiResponse {
    /// A value, to be encoded as the client accepts it.
    Value {
        /// The HTTP status code.
        code: u16,
        /// The object, list, table or status.
        value: Value,
        /// Warnings for the client, each a header.
        warnings: Vec<String>,
    },
    /// JSON that is written already, or will be as it is sent.
    Encoded {
        /// The HTTP status code.
        code: u16,
        /// The pieces of the JSON, with a newline at the end. After an error nothing more comes, and the answer is not
        /// whole.
        json: Pieces,
        /// Warnings for the client, each a header.
        warnings: Vec<String>,
    },
    /// A stream of events; ends when the watch does. Errors in mid-stream are events of type `ERROR`.
    Watch {
        /// The events.
        events: BoxStream<'static, WatchEvent>,
        /// Warnings for the client, each a header.
        warnings: Vec<String>,
    },
}

impl ApiResponse {
    /// The same answer as a value, if it is JSON that is written already.
    ///
    /// # Errors
    ///
    /// When it cannot be written to its end.
    pub fn decoded(self) -> Result<Self, ApiError> {
        let Self::Encoded { code, json, warnings } = self else {
            return Ok(self);
        };
        let value = read(json)?;
        Ok(Self::Value {
            code,
            value,
            warnings,
        })
    }
}

/// The value that the pieces are.
pub(crate) fn read(pieces: Pieces) -> Result<Value, ApiError> {
    let mut all = Vec::new();
    for piece in pieces {
        all.extend_from_slice(&piece?);
    }
    serde_json::from_slice(&all).map_err(ApiError::internal)
}

impl std::fmt::Debug for ApiResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value { code, value, .. } => f
                .debug_struct("Value")
                .field("code", code)
                .field("value", value)
                .finish(),
            Self::Encoded { code, .. } => f
                .debug_struct("Encoded")
                .field("code", code)
                .finish_non_exhaustive(),
            Self::Watch { .. } => f.debug_struct("Watch").finish_non_exhaustive(),
        }
    }
}
