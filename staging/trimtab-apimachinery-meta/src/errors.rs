//! API errors: the `Status` that an API server answers with when it refuses, and what a client reads out of it.
//!
//! An [`ApiError`] is the server's answer as a value: an HTTP code, a machine-readable [`StatusReason`], a message
//! for people, and details (which object, which causes, when to retry). Servers build one with the constructors,
//! whose codes and texts are those of `k8s.io/apimachinery/pkg/api/errors`; clients get one from
//! [`ApiError::from_status`] and ask it questions.

use std::fmt;
use std::time::Duration;

use kube_core::Status;
use kube_core::response::{StatusCause, StatusDetails, StatusSummary};

use crate::field::FieldError;
use crate::key::{GroupKind, GroupResource};

/// Why a request failed. The text of each is its name, as `AlreadyExists`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StatusReason {
    /// The server has given no reason.
    Unknown,
    /// 401: the client must say who it is.
    Unauthorized,
    /// 403: the client is known, and not allowed.
    Forbidden,
    /// 404: the object, or the resource itself, does not exist.
    NotFound,
    /// 409 on create: an object of that name exists.
    AlreadyExists,
    /// 409 on a write: the object has changed since it was read.
    Conflict,
    /// 410: the object was at this address, and is no longer; as a watch error, the version is too old.
    Gone,
    /// 410: the resource version or continue token asked for has been compacted. List again.
    Expired,
    /// 422: the object is understood, and wrong. See the causes.
    Invalid,
    /// 500 or 504: the server is too busy to find out; retry.
    ServerTimeout,
    /// 504: the request took longer than it may.
    Timeout,
    /// 429: retry after the given time.
    TooManyRequests,
    /// 400: the request itself makes no sense.
    BadRequest,
    /// 405: this resource does not support the verb.
    MethodNotAllowed,
    /// 406: none of the accepted media types can be produced.
    NotAcceptable,
    /// 413: the body is larger than the server reads.
    RequestEntityTooLarge,
    /// 415: the body's media type is not understood.
    UnsupportedMediaType,
    /// 500: something is wrong with the server.
    InternalError,
    /// 503: the server is not there for now.
    ServiceUnavailable,
    /// 507: the storage has no room.
    StorageReadError,
    /// A reason that this version does not know.
    Other(String),
}

impl StatusReason {
    /// The reason as it is written on the wire; empty for [`StatusReason::Unknown`].
    pub fn as_str(&self) -> &str {
        match self {
            Self::Unknown => "",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Expired => "Expired",
            Self::Invalid => "Invalid",
            Self::ServerTimeout => "ServerTimeout",
            Self::Timeout => "Timeout",
            Self::TooManyRequests => "TooManyRequests",
            Self::BadRequest => "BadRequest",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::InternalError => "InternalError",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::StorageReadError => "StorageReadError",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for StatusReason {
    fn from(text: &str) -> Self {
        match text {
            "" => Self::Unknown,
            "Unauthorized" => Self::Unauthorized,
            "Forbidden" => Self::Forbidden,
            "NotFound" => Self::NotFound,
            "AlreadyExists" => Self::AlreadyExists,
            "Conflict" => Self::Conflict,
            "Gone" => Self::Gone,
            "Expired" => Self::Expired,
            "Invalid" => Self::Invalid,
            "ServerTimeout" => Self::ServerTimeout,
            "Timeout" => Self::Timeout,
            "TooManyRequests" => Self::TooManyRequests,
            "BadRequest" => Self::BadRequest,
            "MethodNotAllowed" => Self::MethodNotAllowed,
            "NotAcceptable" => Self::NotAcceptable,
            "RequestEntityTooLarge" => Self::RequestEntityTooLarge,
            "UnsupportedMediaType" => Self::UnsupportedMediaType,
            "InternalError" => Self::InternalError,
            "ServiceUnavailable" => Self::ServiceUnavailable,
            "StorageReadError" => Self::StorageReadError,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for StatusReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A machine-readable part of why a request failed, about one field where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// As `FieldValueInvalid`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The field's path; empty when the cause is about the whole object.
    pub field: String,
}

/// What the server says when it refuses a request.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// The HTTP status code.
    pub code: u16,
    /// Why, for machines.
    pub reason: StatusReason,
    /// Why, for people.
    pub message: String,
    /// The object's name, where one is meant; empty otherwise.
    pub name: String,
    /// The API group of `kind`; empty for the core group.
    pub group: String,
    /// The kind or, as Kubernetes has it in most errors, the resource; empty where none is meant.
    pub kind: String,
    /// The object's UID, where one is meant; empty otherwise.
    pub uid: String,
    /// What exactly is wrong, one entry each.
    pub causes: Vec<Cause>,
    /// How long to wait before trying again.
    pub retry_after: Option<Duration>,
    /// With an expired list: a token by which the rest can be read all the same, as it is now. Empty otherwise.
    pub continue_token: String,
}

impl ApiError {
    /// An error of the given code, reason and message, about no object.
    pub fn new(code: u16, reason: StatusReason, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after: None,
            continue_token: String::new(),
        }
    }

    fn about(mut self, resource: &GroupResource, name: &str) -> Self {
        self.group.clone_from(&resource.group);
        self.kind.clone_from(&resource.resource);
        name.clone_into(&mut self.name);
        self
    }

    /// 404: no object of that name.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::new(
            404,
            StatusReason::NotFound,
            format!("{resource} {name:?} not found"),
        )
        .about(resource, name)
    }

    /// 404: the server serves no such path.
    pub fn unknown_resource() -> Self {
        let mut error = Self::new(
            404,
            StatusReason::NotFound,
            "the server could not find the requested resource",
        );
        error.causes.clear();
        error
    }

    /// 409: an object of that name exists.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::new(
            409,
            StatusReason::AlreadyExists,
            format!("{resource} {name:?} already exists"),
        )
        .about(resource, name)
    }

    /// 409: the write does not fit what is stored; `why` says how.
    pub fn conflict(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::new(409, StatusReason::Conflict, message).about(resource, name)
    }

    /// 409: the object has changed since the caller read it.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 401: who are you?
    pub fn unauthorized() -> Self {
        Self::new(401, StatusReason::Unauthorized, "Unauthorized")
    }

    /// 403: the caller may not do this to this object; `why` says so in full.
    pub fn forbidden(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Self {
        let message = if resource.resource.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {name:?} is forbidden: {why}")
        };
        Self::new(403, StatusReason::Forbidden, message).about(resource, name)
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, StatusReason::BadRequest, message)
    }

    /// 422: the object is wrong in these ways. `kind` is the kind, not the resource.
    pub fn invalid(kind: &GroupKind, name: &str, errors: &[FieldError]) -> Self {
        let mut texts: Vec<String> = Vec::with_capacity(errors.len());
        for text in errors.iter().map(ToString::to_string) {
            // The message says everything once; each error is a cause.
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let list = match texts.as_slice() {
            [] => "<nil>".to_owned(),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut error = Self::new(
            422,
            StatusReason::Invalid,
            format!("{kind} {name:?} is invalid: {list}"),
        );
        error.group.clone_from(&kind.group);
        error.kind.clone_from(&kind.kind);
        name.clone_into(&mut error.name);
        error.causes = errors
            .iter()
            .map(|e| Cause {
                reason: e.kind.reason().to_owned(),
                message: e.body(),
                field: e.field.to_string(),
            })
            .collect();
        error
    }

    /// 405: this resource has no such verb.
    pub fn method_not_allowed(resource: &GroupResource, verb: &str) -> Self {
        let message = format!(
            "{verb} is not supported on resources of kind {:?}",
            resource.to_string()
        );
        Self::new(405, StatusReason::MethodNotAllowed, message).about(resource, "")
    }

    /// 410: the version or continue token asked for is gone; list again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, StatusReason::Expired, message)
    }

    /// 429: too many requests; try again after `retry_after`, which is sent in whole seconds.
    pub fn too_many_requests(message: impl Into<String>, retry_after: Duration) -> Self {
        let mut error = Self::new(429, StatusReason::TooManyRequests, message);
        error.retry_after = Some(retry_after);
        error
    }

    /// 500: the server failed; `why` is for whoever runs it.
    pub fn internal(why: impl fmt::Display) -> Self {
        let message = format!("Internal error occurred: {why}");
        let mut error = Self::new(500, StatusReason::InternalError, message);
        error.causes.push(Cause {
            message: why.to_string(),
            ..Cause::default()
        });
        error
    }

    /// 504: the request took longer than it may.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, StatusReason::Timeout, format!("Timeout: {}", message.into()))
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, StatusReason::ServiceUnavailable, message)
    }

    /// The same error with one more cause.
    #[must_use]
    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        self.causes.push(Cause {
            reason: reason.to_owned(),
            message: message.into(),
            field: field.to_owned(),
        });
        self
    }

    /// Whether the object, or the resource itself, does not exist.
    pub fn is_not_found(&self) -> bool {
        self.reason == StatusReason::NotFound
    }

    /// Whether an object of that name exists already.
    pub fn is_already_exists(&self) -> bool {
        self.reason == StatusReason::AlreadyExists
    }

    /// Whether the object has changed since it was read: read it again before trying again.
    pub fn is_conflict(&self) -> bool {
        self.reason == StatusReason::Conflict
    }

    /// Whether the object itself was refused; trying again with the same object is useless.
    pub fn is_invalid(&self) -> bool {
        self.reason == StatusReason::Invalid
    }

    /// Whether the version or continue token is too old; list again.
    pub fn is_expired(&self) -> bool {
        matches!(self.reason, StatusReason::Expired | StatusReason::Gone)
    }

    /// Whether a cause of that reason is among the causes.
    pub fn has_cause(&self, reason: &str) -> bool {
        self.causes.iter().any(|c| c.reason == reason)
    }

    /// Reads a server's answer.
    pub fn from_status(status: &Status) -> Self {
        let mut error = Self::new(
            status.code,
            StatusReason::from(status.reason.as_str()),
            status.message.clone(),
        );
        if let Some(details) = &status.details {
            error.name.clone_from(&details.name);
            error.group.clone_from(&details.group);
            error.kind.clone_from(&details.kind);
            error.uid.clone_from(&details.uid);
            error.causes = details
                .causes
                .iter()
                .map(|c| Cause {
                    reason: c.reason.clone(),
                    message: c.message.clone(),
                    field: c.field.clone(),
                })
                .collect();
            if details.retry_after_seconds > 0 {
                error.retry_after = Some(Duration::from_secs(u64::from(details.retry_after_seconds)));
            }
        }
        error
    }

    /// The `Status` object that a server answers with.
    pub fn to_status(&self) -> Status {
        let details = StatusDetails {
            name: self.name.clone(),
            group: self.group.clone(),
            kind: self.kind.clone(),
            uid: self.uid.clone(),
            causes: self
                .causes
                .iter()
                .map(|c| StatusCause {
                    reason: c.reason.clone(),
                    message: c.message.clone(),
                    field: c.field.clone(),
                })
                .collect(),
            retry_after_seconds: self.retry_after.map_or(0, |d| {
                u32::try_from(d.as_secs_f64().ceil() as u64).unwrap_or(u32::MAX)
            }),
        };
        let mut status = Status {
            status: Some(StatusSummary::Failure),
            code: self.code,
            message: self.message.clone(),
            reason: self.reason.as_str().to_owned(),
            details: Some(details),
            metadata: Some(Default::default()),
        };
        if let Some(metadata) = status
            .metadata
            .as_mut()
            .filter(|_| !self.continue_token.is_empty())
        {
            metadata.continue_ = Some(self.continue_token.clone());
        }
        status
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl From<&Status> for ApiError {
    fn from(status: &Status) -> Self {
        Self::from_status(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::FieldPath;

    #[test]
    fn errors_survive_the_wire() {
        let pods = GroupResource::new("", "pods");
        let path = FieldPath::new("spec.replicas");
        let kind = GroupKind::new("apps", "Deployment");
        for error in [
            ApiError::not_found(&pods, "a"),
            ApiError::modified(&pods, "a"),
            ApiError::invalid(
                &kind,
                "web",
                &[FieldError::invalid(&path, -1, "must be positive")],
            ),
            ApiError::too_many_requests("slow down", Duration::from_secs(3)),
        ] {
            assert_eq!(ApiError::from_status(&error.to_status()), error);
        }
    }

    #[test]
    fn an_invalid_object_names_each_cause() {
        let path = FieldPath::new("spec.replicas");
        let kind = GroupKind::new("apps", "Deployment");
        let error = ApiError::invalid(
            &kind,
            "web",
            &[FieldError::invalid(&path, -1, "must be positive")],
        );
        assert_eq!(
            error.message,
            "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be positive"
        );
        assert!(error.has_cause("FieldValueInvalid"));
    }
}
