//! What a request asks for, read from its method and path as kube-apiserver reads them.

use crate::api::RequestInfo;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// An object or a collection.
    Resource(Box<RequestInfo>),
    /// `/api`, `/apis`, a group or a version: the segments after the slash.
    Discovery(Vec<String>),
    /// Anything else, as `/version` or `/healthz/ping`.
    Other,
}

/// Subresources that reach through an object to something that runs, for as long as that is wanted.
const CONNECTIONS: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];

impl Target {
    /// Whether the answer goes on until one of both ends it: a watch, or a connection to a pod.
    pub(crate) fn lasts(&self) -> bool {
        match self {
            Self::Resource(info) => {
                let first = info.subresource.split('/').next().unwrap_or_default();
                info.verb == "watch" || CONNECTIONS.contains(&first)
            }
            _ => false,
        }
    }
}

/// Whether a path has nothing between two slashes: it leads nowhere, though whoever asks has to have the rights of what
/// [`parse`] reads in it.
pub(crate) fn leads_nowhere(path: &str) -> bool {
    path.trim_end_matches('/').contains("//")
}

/// Reads the method and the decoded path. `watch` says whether the query asks for a watch. Slashes at both ends mean nothing, and
/// what is between two slashes may be nothing, for whoever decides about rights.
pub(crate) fn parse(method: &str, path: &str, watch: bool, named: Option<&str>) -> Target {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match segments.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        ["api" | "apis", ..] => return Target::Discovery(segments.iter().map(|s| (*s).to_owned()).collect()),
        _ => return Target::Other,
    };
    let mut info = RequestInfo {
        verb: verb(method).to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        path: path.to_owned(),
        method: method.to_owned(),
        ..RequestInfo::default()
    };
    let mut rest = rest;
    // The old way to ask for a watch, and for the proxy: a word before the resource.
    let mut old_watch = false;
    if let ["watch", after @ ..] = rest
        && !after.is_empty()
    {
        old_watch = true;
        rest = after;
    }
    match rest {
        ["namespaces", namespace, resource, after @ ..] if !is_namespace_part(resource) => {
            info.namespace = (*namespace).to_owned();
            fill(&mut info, resource, after);
        }
        ["namespaces", name, after @ ..] => {
            info.namespace = (*name).to_owned();
            info.resource = "namespaces".to_owned();
            info.name = (*name).to_owned();
            info.subresource = after.join("/");
        }
        [resource, after @ ..] => fill(&mut info, resource, after),
        [] => {}
    }
    if info.name.is_empty() {
        info.verb = match info.verb.as_str() {
            "get" if watch || old_watch => "watch".to_owned(),
            "get" => "list".to_owned(),
            "delete" => "deletecollection".to_owned(),
            other => other.to_owned(),
        };
    } else if old_watch && info.verb == "get" {
        info.verb = "watch".to_owned();
    }
    // A list of one name may be allowed where a list of all is not: authorizers see the name.
    if let Some(name) = named
        && info.name.is_empty()
        && matches!(info.verb.as_str(), "list" | "watch" | "deletecollection")
        && info.subresource.is_empty()
    {
        info.field_name = name.to_owned();
    }
    Target::Resource(Box::new(info))
}

fn fill(info: &mut RequestInfo, resource: &str, after: &[&str]) {
    info.resource = resource.to_owned();
    if let [name, subresource @ ..] = after {
        info.name = (*name).to_owned();
        info.subresource = subresource.join("/");
    }
}

/// What can follow a namespace's name and still be about the namespace itself.
fn is_namespace_part(segment: &str) -> bool {
    matches!(segment, "status" | "finalize")
}

fn verb(method: &str) -> &'static str {
    match method {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}
