//! `/statusz` and `/flagz`: what runs here and since when, and with which flags. For people as text, for programs as JSON or
//! YAML of config.k8s.io.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::{ApiError, StatusReason};

use super::negotiate::{self, MediaType};
use super::respond::{self, Body};
use super::{Api, Head, to_yaml};
use crate::version;

/// What is in front of what people read.
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility \
                       guarantees and is for debugging purposes only.";
/// Where else one looks, as `/statusz` lists it.
const PATHS: [&str; 7] = [
    "/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version",
];

/// How a page is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json(&'static str),
    Yaml(&'static str),
}

impl Form {
    /// The form that a media type names, if it names one of `kind`.
    fn of(media: &MediaType<'_>, kind: &str) -> Option<Self> {
        if matches!(media.name, "text/plain" | "text/*" | "*/*") {
            return Some(Self::Text);
        }
        let of_kind = media.parameter("as") == Some(kind) && media.parameter("g") == Some("config.k8s.io");
        let version = match media.parameter("v").filter(|_| of_kind)? {
            "v1beta1" => "v1beta1",
            "v1alpha1" => "v1alpha1",
            _ => return None,
        };
        match media.name {
            "application/json" => Some(Self::Json(version)),
            "application/yaml" => Some(Self::Yaml(version)),
            _ => None,
        }
    }

    fn wanted(head: &Head, kind: &str) -> Result<Self, ApiError> {
        let types = negotiate::accepted_types(head.header(http::header::ACCEPT));
        if types.is_empty() {
            return Ok(Self::Text);
        }
        let form = types.iter().find_map(|media| Self::of(media, kind));
        form.ok_or_else(|| {
            let message =
                "only the following media types are accepted: application/json, application/yaml, text/plain";
            ApiError::new(406, StatusReason::NotAcceptable, message)
        })
    }

    fn answer(self, kind: &str, text: impl FnOnce() -> String, fields: Value) -> Response<Body> {
        let (version, name) = match self {
            Self::Text => {
                let text = format!("\napiserver {}\n{WARNING}\n{}", kind.to_lowercase(), text());
                return respond::encoded(200, "text/plain; charset=utf-8", Bytes::from(text), false);
            }
            Self::Json(version) => (version, "json"),
            Self::Yaml(version) => (version, "yaml"),
        };
        let mut page = json!({
            "kind": kind,
            "apiVersion": format!("config.k8s.io/{version}"),
            "metadata": {"name": "apiserver"},
        });
        if let (Some(page), Value::Object(fields)) = (page.as_object_mut(), fields) {
            page.extend(fields);
        }
        let content_type = format!("application/{name};g=config.k8s.io;v={version};as={kind}");
        let body = match self {
            Self::Yaml(_) => to_yaml(&page),
            _ => page.to_string(),
        };
        respond::encoded(200, &content_type, Bytes::from(body), false)
    }
}

impl Api {
    /// Answers `/statusz`.
    pub(super) fn statusz(&self, head: &Head) -> Result<Response<Body>, ApiError> {
        let up = Timestamp::now().duration_since(self.started).as_secs().max(0);
        let running = version::GIT_VERSION.trim_start_matches('v');
        let emulated = version::MINOR_VERSION;
        let text = || {
            let since = self.started.strftime("%a %b %e %T UTC %Y");
            let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
            format!(
                "\nStarted: {since}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\nGo version: \nBinary version: \
                 {running}\nEmulation version: {emulated}\nPaths: {}\n",
                PATHS.join(" ")
            )
        };
        let fields = json!({
            "startTime": self.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "uptimeSeconds": up,
            "goVersion": "",
            "binaryVersion": running,
            "emulationVersion": emulated,
            "paths": PATHS,
        });
        Ok(Form::wanted(head, "Statusz")?.answer("Statusz", text, fields))
    }

    /// Answers `/flagz`, which there is only where there were flags.
    pub(super) fn flagz(&self, head: &Head) -> Result<Response<Body>, ApiError> {
        let flags: &BTreeMap<String, String> = &self.flags;
        if flags.is_empty() {
            return Ok(respond::page_not_found());
        }
        let text = || {
            flags
                .iter()
                .map(|(name, value)| format!("{name}:{value}\n"))
                .collect()
        };
        Ok(Form::wanted(head, "Flagz")?.answer("Flagz", text, json!({"flags": flags})))
    }
}
