//! What a request of a reflector asks for.

use std::fmt;

use http::{HeaderMap, Request, header};
use kube::client::Body;

/// The three requests that a reflector makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    List,
    /// A watch that begins with a list.
    StreamedList,
    Watch,
}

/// A request, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) kind: Kind,
    pub(super) path: String,
    /// The query without what differs between two requests for the same.
    same: String,
    /// Whether the rest of a list is asked for.
    pub(super) goes_on: bool,
    /// The version that is asked for; 0 for none.
    pub(super) version: u64,
    headers: HeaderMap,
}

/// Parameters that differ between two requests for the same.
const MOMENTARY: [&str; 3] = ["resourceVersion", "timeoutSeconds", "continue"];

impl Ask {
    pub(super) fn of(request: &Request<Body>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let parameters = || query.split('&').filter_map(|parameter| parameter.split_once('='));
        let value = |name: &str| {
            parameters()
                .find(|(other, _)| *other == name)
                .map(|(_, value)| value)
        };
        let kind = match (value("watch"), value("sendInitialEvents")) {
            (Some("true"), Some("true")) => Kind::StreamedList,
            (Some("true"), _) => Kind::Watch,
            _ => Kind::List,
        };
        let same = parameters().filter(|(name, _)| !MOMENTARY.contains(name));
        let same: Vec<_> = same.map(|(name, value)| format!("{name}={value}")).collect();
        let mut headers = HeaderMap::new();
        if let Some(accept) = request.headers().get(header::ACCEPT) {
            headers.insert(header::ACCEPT, accept.clone());
        }
        Self {
            kind,
            path: request.uri().path().to_owned(),
            same: same.join("&"),
            goes_on: value("continue").is_some(),
            version: value("resourceVersion")
                .and_then(|version| version.parse().ok())
                .unwrap_or_default(),
            headers,
        }
    }

    /// What requests for the same objects have in common.
    pub(super) fn route(&self) -> String {
        format!("{}?{}", self.path, self.same)
    }

    /// A watch of the same objects from a version on.
    pub(super) fn watch_from(&self, version: u64) -> Request<Body> {
        let list_only = |parameter: &&str| {
            !parameter.starts_with("sendInitialEvents") && !parameter.starts_with("resourceVersionMatch")
        };
        let mut query: Vec<_> = self
            .same
            .split('&')
            .filter(list_only)
            .map(str::to_owned)
            .collect();
        query.extend([
            format!("resourceVersion={version}"),
            "timeoutSeconds=300".to_owned(),
        ]);
        let mut request = Request::new(Body::empty());
        let uri = format!("{}?{}", self.path, query.join("&"));
        *request.uri_mut() = uri.parse().expect("made of parts of another");
        *request.headers_mut() = self.headers.clone();
        request
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::List if self.goes_on => "next page",
            Kind::List => "list",
            Kind::StreamedList => "streamed list",
            Kind::Watch => "watch",
        };
        write!(f, "{kind} of {} from {}", self.path, self.version)
    }
}
