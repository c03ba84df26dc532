//! Why an object is not let in.

use std::fmt;

use trimtab_apimachinery_meta::{ApiError, FieldError, GroupKind, StatusReason};

use super::request::Request;

/// Why an operation is refused; the client is told all of it.
///
/// A text makes a [`Refusal::Forbidden`], field errors a [`Refusal::Invalid`], an error of the cluster a
/// [`Refusal::Failed`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// 403: this may not be, for the reason given.
    Forbidden(String),
    /// 422: the object is wrong in these ways.
    Invalid(Vec<FieldError>),
    /// Any other answer, as it is.
    Status(Box<ApiError>),
    /// 500: the question could not be decided, because of something that is not the client's doing.
    Failed(String),
}

impl Refusal {
    /// Refuses an object with errors, and no other.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] if there are any.
    pub fn unless_none(errors: Vec<FieldError>) -> Result<(), Self> {
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Self::Invalid(errors))
        }
    }

    /// 500, because of an error that is not the client's doing.
    pub fn failed(error: impl fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// 400: the question itself makes no sense.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::from(ApiError::bad_request(message))
    }

    /// What the API server is answered.
    pub(crate) fn into_error(self, request: &Request) -> ApiError {
        match self {
            Self::Forbidden(message) => ApiError::new(403, StatusReason::Forbidden, message),
            Self::Invalid(errors) => {
                let kind = GroupKind::new(&request.kind.group, &request.kind.kind);
                ApiError::invalid(&kind, &request.name, &errors)
            }
            Self::Status(error) => *error,
            Self::Failed(message) => ApiError::new(500, StatusReason::InternalError, message),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(message) | Self::Failed(message) => f.write_str(message),
            Self::Invalid(errors) => {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                f.write_str(&errors.join(", "))
            }
            Self::Status(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self::Forbidden(message)
    }
}

impl From<&str> for Refusal {
    fn from(message: &str) -> Self {
        Self::Forbidden(message.to_owned())
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::Invalid(vec![error])
    }
}

impl From<Vec<FieldError>> for Refusal {
    fn from(errors: Vec<FieldError>) -> Self {
        Self::Invalid(errors)
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Status(Box::new(error))
    }
}

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Self {
        Self::failed(error)
    }
}
