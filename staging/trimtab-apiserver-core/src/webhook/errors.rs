//! What can go wrong with a call, in the words that kube-apiserver has for it: they are what people look for.

use std::error::Error;
use std::io;

use rustls::CertificateError;
use rustls_pki_types::ServerName;
use serde_json::Value;

/// A call that brought no answer, or none that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// Why.
    pub message: String,
    /// The code of the webhook's answer, or 503 when there was none.
    pub code: u16,
}

impl CallError {
    /// What is said when nothing has been tried.
    pub(crate) fn none() -> Self {
        Self::new("nothing has been tried")
    }

    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 503,
        }
    }

    /// `POST` to this URL has failed.
    pub(super) fn post(url: &str, why: impl std::fmt::Display) -> Self {
        Self::of("Post", url, why)
    }

    /// A request to this URL has failed.
    pub(super) fn of(method: &str, url: &str, why: impl std::fmt::Display) -> Self {
        Self::new(format!("{method} {url:?}: {why}"))
    }

    /// An answer with a code that is no success. If its body is a `Status`, that says why; `text` is its body if it is
    /// text.
    pub(super) fn status(code: u16, body: &[u8], text: &str) -> Self {
        let status: Option<Value> = serde_json::from_slice(body).ok();
        let status = status.filter(|s| s["kind"] == "Status" && s["status"] == "Failure");
        if let Some(status) = status {
            let own = status["code"].as_u64().and_then(|c| u16::try_from(c).ok());
            return Self {
                message: status["message"].as_str().unwrap_or_default().to_owned(),
                code: own.unwrap_or(code),
            };
        }
        let message = match code {
            400 => "the server rejected our request for an unknown reason",
            401 => "the server has asked for the client to provide credentials",
            403 | 415 => text,
            404 => "the server could not find the requested resource",
            405 => "the server does not allow this method on the requested resource",
            406 if text == "unknown" || text.is_empty() => {
                "the server was unable to respond with a content type that the client supports"
            }
            406 => text,
            409 => "the server reported a conflict",
            422 => "the server rejected our request due to an error in our request",
            429 => "the server has received too many requests and has asked us to try again later",
            503 => "the server is currently unable to handle the request",
            504 => {
                "the server was unable to return a response in the time allotted, but may still be processing the request"
            }
            500.. => {
                let message =
                    format!("an error on the server ({text:?}) has prevented the request from succeeding");
                return Self { message, code };
            }
            _ => {
                let message = format!(
                    "the server responded with the status code {code} but did not return more information"
                );
                return Self { message, code };
            }
        };
        Self {
            message: message.to_owned(),
            code,
        }
    }
}

/// Why a connection could not be made or has ended, from the error of an HTTP client.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = tls_error(error) {
            return explain_tls(tls);
        }
        innermost = error;
        next = error.source();
    }
    innermost.to_string()
}

/// The TLS error in an error, which I/O errors wrap more than once.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    tls_error(inner)
}

fn explain_tls(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(why) = error else {
        return format!("tls: {error}");
    };
    let why = match why {
        // An authority of the same name with another key is another authority.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate signed by unknown authority".to_owned()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            format!("certificate has expired or is not yet valid: {why}")
        }
        CertificateError::NotValidForNameContext { expected, presented } => wrong_name(expected, presented),
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}

fn wrong_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let expected = expected.to_str();
    if presented.is_empty() {
        return format!("certificate is not valid for any names, but wanted to match {expected}");
    }
    // They are told by kind: `DnsName("a")`.
    let bare = |name: &String| {
        let inner = name
            .split_once('(')
            .map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')'));
        inner.trim_matches('"').to_owned()
    };
    let presented: Vec<String> = presented.iter().map(bare).collect();
    format!(
        "certificate is valid for {}, not {expected}",
        presented.join(", ")
    )
}
