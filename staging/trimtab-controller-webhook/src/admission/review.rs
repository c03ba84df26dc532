//! `AdmissionReview`: how the API server asks, and how it is answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use kube::core::Status;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::handler::{Admitted, Erased, Verdict};
use super::refusal::Refusal;
use super::request::Request;
use crate::envelope::{self, Answer};

const GROUP: &str = "admission.k8s.io";
const KIND: &str = "AdmissionReview";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: &'static str,
    response: Response,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    /// JSON patch, encoded in base64 as Go encodes bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Answers a review. `mutates`: whether the answer may change the object.
///
/// # Errors
/// When the body is no review: there is nobody to answer to but the sender, by 400.
pub(crate) async fn review(handler: &Erased, mutates: bool, body: &[u8]) -> Result<Answer, String> {
    let question: Question =
        serde_json::from_slice(body).map_err(|error| format!("the body is no {KIND}: {error}"))?;
    envelope::check(&question.api_version, &question.kind, [GROUP, KIND])?;
    let request = Arc::new(question.request.ok_or("the review has no request")?);
    let verdict = handler(request.clone()).await;
    let panicked = matches!(verdict, Verdict::Panic(_));
    let admitted = match verdict {
        Verdict::Yes(admitted) => patch_of(&request.object, admitted, mutates),
        Verdict::No(refusal) => Err(refusal),
        Verdict::Panic(words) => {
            tracing::error!(
                panic = words,
                uid = request.uid,
                kind = request.kind.kind,
                operation = %request.operation,
                name = request.name,
                namespace = request.namespace,
                "a webhook panicked"
            );
            Err(Refusal::Failed(
                "the webhook panicked; its log says more".to_owned(),
            ))
        }
    };
    let response = respond(&request, admitted);
    tracing::debug!(
        uid = request.uid,
        kind = request.kind.kind,
        operation = %request.operation,
        name = request.name,
        namespace = request.namespace,
        allowed = response.allowed,
        "answered an admission review"
    );
    let review = Review {
        api_version: question.api_version,
        kind: KIND,
        response,
    };
    Answer::new(&review, panicked)
}

/// The patch that makes the admitted object of the one that was sent; none if they are equal.
fn patch_of(sent: &Value, admitted: Admitted, mutates: bool) -> Result<Option<Patch>, Refusal> {
    let patch = match admitted {
        Admitted::AsSent => return Ok(None),
        Admitted::Changed(object) => json_patch::diff(sent, &object),
        Admitted::Patched(patch) => patch,
    };
    if patch.0.is_empty() {
        Ok(None)
    } else if mutates {
        Ok(Some(patch))
    } else {
        let why = "a validating webhook wants to change the object, which only a mutating one can";
        Err(Refusal::Failed(why.to_owned()))
    }
}

fn respond(request: &Request, admitted: Result<Option<Patch>, Refusal>) -> Response {
    let encoded = admitted.and_then(|patch| {
        let encode = |patch| serde_json::to_vec(&patch).map_err(Refusal::failed);
        patch.map(encode).transpose()
    });
    let said = request.said();
    let response = Response {
        uid: request.uid.clone(),
        warnings: said.warnings,
        audit_annotations: said.annotations,
        ..Response::default()
    };
    match encoded {
        Ok(patch) => Response {
            allowed: true,
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch: patch.map(|patch| STANDARD.encode(patch)),
            ..response
        },
        Err(refusal) => Response {
            status: Some(refusal.into_error(request).to_status()),
            ..response
        },
    }
}
