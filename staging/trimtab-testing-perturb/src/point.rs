//! Points of a run: what the controller asked for and what it was told, named so that they are found again in another run.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use http::Method;
use http::request::Parts;
use serde_json::Value;

/// The n-th time that this happened to this object in a run, as `create:configmaps/default/a#1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    /// `create`, `update`, `patch`, `apply`, `delete`; `get`, `list`, `watch`; `added`, `modified`, `deleted`.
    pub(crate) verb: String,
    /// Resource, namespace, name and subresource; of generated names the part that is not.
    pub(crate) target: String,
    /// Counted from one.
    pub(crate) number: u32,
}

/// Which of the three kinds of points it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Write,
    Read,
    /// The opening of a watch.
    Watch,
    /// One event of a watch.
    Notice,
}

/// Numbers the points of a run.
#[derive(Debug, Default)]
pub(crate) struct Counter(BTreeMap<(String, String), u32>);

/// What a request asks for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) verb: &'static str,
    pub(crate) target: String,
    /// The resource with its group, as `deployments.apps`.
    pub(crate) resource: String,
    /// Of a watch: whether it begins with a list.
    pub(crate) lists: bool,
}

// === impl Point ===

impl Point {
    pub(crate) fn sort(&self) -> Sort {
        match self.verb.as_str() {
            "get" | "list" => Sort::Read,
            "watch" => Sort::Watch,
            "added" | "modified" | "deleted" => Sort::Notice,
            _ => Sort::Write,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}#{}", self.verb, self.target, self.number)
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = || {
            let (verb, rest) = text.split_once(':')?;
            let (target, number) = rest.rsplit_once('#')?;
            Some((verb, target, number.parse().ok()?))
        };
        let (verb, target, number) =
            parts().ok_or_else(|| format!("{text:?} is no point of a run; want verb:target#number"))?;
        Ok(Self {
            verb: verb.to_owned(),
            target: target.to_owned(),
            number,
        })
    }
}

// === impl Counter ===

impl Counter {
    pub(crate) fn next(&mut self, verb: &str, target: &str) -> Point {
        let count = self.0.entry((verb.to_owned(), target.to_owned())).or_default();
        *count += 1;
        Point {
            verb: verb.to_owned(),
            target: target.to_owned(),
            number: *count,
        }
    }
}

// === impl Ask ===

impl Ask {
    /// What a request to the API asks for. None: it is not about objects.
    pub(crate) fn of(head: &Parts, body: &[u8]) -> Option<Self> {
        let path: Vec<&str> = head
            .uri
            .path()
            .split('/')
            .filter(|step| !step.is_empty())
            .collect();
        let (group, rest) = match path.as_slice() {
            ["api", _, rest @ ..] => ("", rest),
            ["apis", group, _, rest @ ..] => (*group, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let [plural, rest @ ..] = rest else { return None };
        let resource = if group.is_empty() {
            (*plural).to_owned()
        } else {
            format!("{plural}.{group}")
        };
        let named = rest.first().map(|name| (*name).to_owned());
        let is_watch = param(head, "watch").is_some_and(|value| matches!(value.as_str(), "true" | "1"));
        let apply = head
            .headers
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|of| of.as_bytes().starts_with(b"application/apply-patch"));
        let verb = match (&head.method, &named) {
            (&Method::GET, _) if is_watch => "watch",
            (&Method::GET, None) => "list",
            (&Method::GET, Some(_)) => "get",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::PATCH, _) if apply => "apply",
            (&Method::PATCH, _) => "patch",
            (&Method::DELETE, None) => "deletecollection",
            (&Method::DELETE, Some(_)) => "delete",
            _ => return None,
        };
        let made = || {
            let object: Value = serde_json::from_slice(body).unwrap_or_default();
            stable_name(&object)
        };
        let name = match named {
            Some(name) => name,
            None if verb == "create" => made(),
            None => String::new(),
        };
        let steps = [resource.as_str(), namespace, name.as_str()].into_iter();
        let steps: Vec<&str> = steps
            .chain(rest.iter().skip(1).copied())
            .filter(|step| !step.is_empty())
            .collect();
        Some(Self {
            verb,
            target: steps.join("/"),
            resource,
            lists: param(head, "sendInitialEvents").is_some_and(|value| value == "true"),
        })
    }

    /// Whether it is about what says how controllers are, not what they do: Events, Leases, reviews of access.
    pub(crate) fn is_aside(&self) -> bool {
        is_aside(&self.resource)
    }
}

/// Whether objects of this resource do not count: how many there are and when they change is a matter of chance.
pub(crate) fn is_aside(resource: &str) -> bool {
    matches!(
        resource,
        "events" | "events.events.k8s.io" | "leases.coordination.k8s.io"
    ) || resource.ends_with("reviews.authorization.k8s.io")
}

/// An object's name; of a generated one the part that is not random.
pub(crate) fn stable_name(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let (name, prefix) = (text("name"), text("generateName"));
    if !prefix.is_empty() && name.starts_with(prefix) || name.is_empty() {
        format!("{prefix}*")
    } else {
        name.to_owned()
    }
}

/// A parameter of a request's query.
pub(crate) fn param(head: &Parts, name: &str) -> Option<String> {
    let query = head.uri.query()?.as_bytes();
    let mut pairs = form_urlencoded::parse(query);
    pairs
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_by_what_they_are_about() {
        let table = [
            ("GET", "/api/v1/configmaps?", "", Some("list:configmaps")),
            (
                "GET",
                "/api/v1/configmaps?watch=true",
                "",
                Some("watch:configmaps"),
            ),
            ("GET", "/api/v1/namespaces", "", Some("list:namespaces")),
            (
                "PUT",
                "/api/v1/namespaces/a/finalize",
                "",
                Some("update:namespaces/a/finalize"),
            ),
            ("DELETE", "/api/v1/namespaces/a", "", Some("delete:namespaces/a")),
            (
                "POST",
                "/apis/apps/v1/namespaces/a/deployments?",
                r#"{"metadata": {"name": "x"}}"#,
                Some("create:deployments.apps/a/x"),
            ),
            (
                "POST",
                "/api/v1/namespaces/a/pods?",
                r#"{"metadata": {"generateName": "x-"}}"#,
                Some("create:pods/a/x-*"),
            ),
            (
                "PATCH",
                "/apis/example.com/v1/namespaces/a/toys/x/status",
                "",
                Some("patch:toys.example.com/a/x/status"),
            ),
            ("GET", "/version", "", None),
            ("GET", "/apis/apps/v1", "", None),
        ];
        for (method, uri, body, expected) in table {
            let request = http::Request::builder()
                .method(method)
                .uri(uri)
                .body(())
                .expect("a request");
            let ask = Ask::of(&request.into_parts().0, body.as_bytes());
            let is = ask.map(|ask| format!("{}:{}", ask.verb, ask.target));
            assert_eq!(is.as_deref(), expected, "{method} {uri}");
        }
    }
}
