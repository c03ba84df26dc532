//! `ConversionReview`: how the API server asks for objects in another version, and how it is answered.

use std::collections::HashMap;
use std::sync::Arc;

use kube::core::Status;
use kube::core::conversion::{ConversionRequest, ConversionResponse, ConversionReview};
use kube::core::response::reason;
use serde_json::Value;
use trimtab_apimachinery_meta::GroupKind;

use super::convert::{Converts, Failure};
use crate::envelope::Answer;

const API_VERSION: &str = "apiextensions.k8s.io/v1";
const KIND: &str = "ConversionReview";

/// Answers a review. Objects are converted one after the other, with a rest for others in between; all of them or none.
///
/// # Errors
/// When the body is no review: there is nobody to answer to but the sender, by 400.
pub(crate) async fn review(
    conversions: &HashMap<GroupKind, Arc<dyn Converts>>,
    body: &[u8],
) -> Result<Answer, String> {
    let review: ConversionReview =
        serde_json::from_slice(body).map_err(|error| format!("the body is no {KIND}: {error}"))?;
    if review.types.kind != KIND || review.types.api_version != API_VERSION {
        return Err(format!(
            "the body is a {:?} of {:?}, expected {KIND} of {API_VERSION}",
            review.types.kind, review.types.api_version
        ));
    }
    let mut request = ConversionRequest::from_review(review).map_err(|error| error.to_string())?;
    let objects = std::mem::take(&mut request.objects);
    let desired = request.desired_api_version.clone();
    let uid = request.uid.clone();
    let response = ConversionResponse::for_request(request);
    let mut panicked = false;
    let response = match all(conversions, objects, &desired).await {
        Ok(converted) => response.success(converted),
        Err(failure) => {
            let why = match failure {
                Failure::Refused(why) => why,
                Failure::Panicked(words) => {
                    panicked = true;
                    tracing::error!(panic = words, uid, desired, "a conversion panicked");
                    "the conversion panicked; its log says more".to_owned()
                }
            };
            // Why is for the API server: it may quote the object.
            tracing::warn!(uid, desired, "objects were not converted");
            response.failure(Status::failure(&why, reason::INVALID))
        }
    };
    Answer::new(&response.into_review(), panicked)
}

async fn all(
    conversions: &HashMap<GroupKind, Arc<dyn Converts>>,
    objects: Vec<Value>,
    desired: &str,
) -> Result<Vec<Value>, Failure> {
    let (group, version) = desired.rsplit_once('/').unwrap_or(("", desired));
    let mut converted = Vec::with_capacity(objects.len());
    for object in objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        let from = object["apiVersion"].as_str().unwrap_or_default();
        let of = from.rsplit_once('/').map_or("", |(group, _)| group);
        let kind = GroupKind::new(of, kind);
        if of != group {
            return Err(Failure::Refused(format!(
                "{kind} cannot be converted from {from} to {desired}, which is of another group"
            )));
        }
        let conversion = conversions
            .get(&kind)
            .ok_or_else(|| Failure::Refused(format!("{kind} is of no kind that is converted here")))?;
        converted.push(conversion.convert(&object, version)?);
        tokio::task::yield_now().await;
    }
    Ok(converted)
}
