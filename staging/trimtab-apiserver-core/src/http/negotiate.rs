//! Content negotiation: which shape and encoding a client accepts, and what its body is. JSON, YAML and protobuf are served;
//! CBOR is refused, as kube-apiserver refuses it while its feature gate `CBORServingAndStorage` is off, which is the default.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use trimtab_apimachinery_meta::{ApiError, StatusReason};

use super::protobuf;
use crate::api::{self, BodyFormat, OutputShape};

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

/// What can be had in protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InProtobuf {
    /// Everything but tables.
    Objects,
    /// Metadata, of resources whose objects have no protobuf form.
    Metadata,
}

/// What a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// What the registry reads.
    As(BodyFormat),
    Protobuf,
}

/// What a client accepts, decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) encoding: Encoding,
    pub(crate) shape: OutputShape,
    /// Whether `pretty=1` was asked for.
    pub(crate) pretty: bool,
}

/// One entry of an Accept header: type and parameters, lower case where that does not matter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MediaType<'a> {
    pub(crate) name: &'a str,
    pub(crate) parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl MediaType<'_> {
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| *v)
    }
}

/// The entries of an Accept header, best first; equal ones keep their order.
pub(crate) fn accepted_types(header: &str) -> Vec<MediaType<'_>> {
    let mut types: Vec<MediaType<'_>> = header
        .split(',')
        .filter_map(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            let name = parts.next().filter(|n| !n.is_empty())?;
            let parameters: Vec<(&str, &str)> = parts
                .filter_map(|p| p.split_once('='))
                .map(|(n, v)| (n.trim(), v.trim().trim_matches('"')))
                .collect();
            let quality = parameters
                .iter()
                .find(|(n, _)| *n == "q")
                .and_then(|(_, v)| v.parse().ok())
                .unwrap_or(1.0);
            Some(MediaType {
                name,
                parameters,
                quality,
            })
        })
        .collect();
    types.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    types
}

/// The encoding that a media type names, whatever its parameters.
fn encoding(media: &MediaType<'_>) -> Option<Encoding> {
    match media.name {
        "application/json" | "*/*" | "application/*" => Some(Encoding::Json),
        "application/yaml" => Some(Encoding::Yaml),
        protobuf::MEDIA_TYPE => Some(Encoding::Protobuf),
        _ => None,
    }
}

/// Decides what the answer will look like; `None` when nothing that the client accepts can be produced.
pub(crate) fn accept(headers: &HeaderMap, in_protobuf: InProtobuf) -> Option<Accepted> {
    let header = header_text(headers, &ACCEPT);
    // What most clients say is understood without taking it apart.
    if matches!(header.trim(), "" | "application/json") {
        return Some(Accepted::default());
    }
    for media in accepted_types(&header) {
        let Some(encoding) = encoding(&media) else {
            continue;
        };
        let shape = match media.parameter("as") {
            None => OutputShape::Object,
            Some(kind) => {
                let known = media.parameter("g") == Some("meta.k8s.io") && media.parameter("v") == Some("v1");
                match kind {
                    "Table" if known => OutputShape::Table,
                    "PartialObjectMetadata" if known => OutputShape::PartialMetadata,
                    "PartialObjectMetadataList" if known => OutputShape::PartialMetadataList,
                    _ => continue,
                }
            }
        };
        let possible = match shape {
            OutputShape::Object => in_protobuf == InProtobuf::Objects,
            OutputShape::Table => false,
            OutputShape::PartialMetadata | OutputShape::PartialMetadataList => true,
        };
        if encoding == Encoding::Protobuf && !possible {
            continue;
        }
        let pretty = media.parameter("pretty").is_some_and(is_true);
        return Some(Accepted {
            encoding,
            shape,
            pretty,
        });
    }
    None
}

/// What a path has on offer, and who says so in kube-apiserver: its router, or what is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Objects.
    Objects,
    /// Lists, and streams of their changes.
    Lists,
    /// Objects, where no router looks at the types.
    Unrouted,
}

/// 406, with what can be had. What has a name that the router knows comes to grief behind it, over its parameters.
pub(crate) fn not_acceptable(headers: &HeaderMap, offer: Offer) -> ApiError {
    let header = header_text(headers, &ACCEPT);
    let is_routed = accepted_types(&header)
        .iter()
        .any(|media| encoding(media).is_some());
    let types = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let message = match offer {
        _ if is_routed || offer == Offer::Unrouted => {
            format!("only the following media types are accepted: {types}")
        }
        Offer::Lists => format!(
            "406: Not Acceptable\n\nAvailable representations: {types}, application/json;stream=watch, \
             application/vnd.kubernetes.protobuf;stream=watch"
        ),
        _ => format!("406: Not Acceptable\n\nAvailable representations: {types}"),
    };
    ApiError::new(406, StatusReason::NotAcceptable, message)
}

/// Whether the client accepts a document that there is in JSON only.
///
/// # Errors
///
/// 406 when it does not.
pub(crate) fn accept_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let header = header_text(headers, &ACCEPT);
    let types = accepted_types(&header);
    if types.is_empty() || types.iter().any(|media| encoding(media) == Some(Encoding::Json)) {
        return Ok(());
    }
    let message = "406: Not Acceptable\n\nAvailable representations: application/json";
    Err(ApiError::new(406, StatusReason::NotAcceptable, message))
}

/// Whether a query parameter or media type parameter says yes.
pub(crate) fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn header_text<'h>(headers: &'h HeaderMap, name: &http::HeaderName) -> Cow<'h, str> {
    let mut values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    let first = values.next().unwrap_or_default();
    let rest: Vec<&str> = values.collect();
    if rest.is_empty() {
        return first.into();
    }
    [&[first], rest.as_slice()].concat().join(",").into()
}

/// What a body is, from its Content-Type; JSON when nothing is said. `in_protobuf` says what the resource's objects
/// can be in.
///
/// # Errors
///
/// 415 when the type is not understood for this verb.
pub(crate) fn written(headers: &HeaderMap, verb: &str, in_protobuf: InProtobuf) -> Result<Written, ApiError> {
    let header = header_text(headers, &CONTENT_TYPE);
    let media = header.split(';').next().unwrap_or_default().trim();
    if verb == "patch" {
        return match media {
            "application/json-patch+json" => Ok(Written::As(BodyFormat::JsonPatch)),
            "application/merge-patch+json" => Ok(Written::As(BodyFormat::MergePatch)),
            "application/strategic-merge-patch+json" => Ok(Written::As(BodyFormat::StrategicMergePatch)),
            "application/apply-patch+yaml" => Ok(Written::As(BodyFormat::ApplyPatch)),
            _ if in_protobuf == InProtobuf::Metadata => Err(unsupported(api::NO_SUCH_PATCH)),
            // The generic wording, details and all.
            _ => Err(unsupported("415: Unsupported Media Type")),
        };
    }
    match media {
        "" | "application/json" => Ok(Written::As(BodyFormat::Json)),
        "application/yaml" => Ok(Written::As(BodyFormat::Yaml)),
        protobuf::MEDIA_TYPE if in_protobuf == InProtobuf::Objects => Ok(Written::Protobuf),
        _ => Err(unsupported(
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

fn unsupported(message: &str) -> ApiError {
    ApiError::new(415, StatusReason::UnsupportedMediaType, message)
}
