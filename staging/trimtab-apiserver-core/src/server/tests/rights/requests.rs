//! `requests.txt`, asked.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use super::{API, GROUP, Kit};

const FACTS: &str = include_str!("requests.txt");

/// A line of the file.
struct Fact {
    who: &'static str,
    request: &'static str,
    code: u16,
    words: &'static str,
}

fn facts() -> impl Iterator<Item = Fact> {
    FACTS
        .lines()
        .filter(|line| line.contains(" | ") && !line.starts_with('#'))
        .map(|line| {
            let mut parts = line.split(" | ");
            let mut next = || parts.next().unwrap_or_default();
            Fact {
                who: next(),
                request: next(),
                code: next().parse().expect("a code"),
                words: next(),
            }
        })
}

/// The custom roles, with the rules of each together.
fn roles() -> Vec<(&'static str, Vec<Value>)> {
    let mut roles: Vec<(&str, Vec<Value>)> = Vec::new();
    for line in FACTS.lines().filter_map(|line| line.strip_prefix("custom ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, verbs, group, resources, names @ ..] = words.as_slice() else {
            panic!("not understood: {line}");
        };
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let mut rule =
            json!({"verbs": list(verbs), "apiGroups": [unnamed(group)], "resources": list(resources)});
        if let [names] = names {
            rule["resourceNames"] = json!(list(names));
        }
        match roles.iter_mut().find(|(role, _)| role == name) {
            Some((_, rules)) => rules.push(rule),
            None => roles.push((name, vec![rule])),
        }
    }
    roles
}

fn unnamed(group: &str) -> &str {
    if group == "core" { "" } else { group }
}

/// Rules of one verb list on things.
fn rules(verbs: &str, things: &str) -> Value {
    let verbs: Vec<&str> = verbs.split(',').collect();
    let rule = |thing: &str| {
        if thing.starts_with('/') {
            return json!({"verbs": verbs, "nonResourceURLs": [thing]});
        }
        let (what, name) = thing.split_once('=').unwrap_or((thing, ""));
        let (group, resource) = what.split_once('/').expect("a group and a resource");
        let mut rule = json!({"verbs": verbs, "apiGroups": [unnamed(group)], "resources": [resource]});
        if !name.is_empty() {
            rule["resourceNames"] = json!([name]);
        }
        rule
    };
    things.split(',').map(rule).collect()
}

/// The path of a collection.
fn collection(namespace: &str, resource: &str) -> String {
    let api = if resource.ends_with("roles") || resource.ends_with("bindings") {
        API
    } else {
        "/api/v1"
    };
    match namespace {
        "-" => format!("{api}/{resource}"),
        namespace => format!("{api}/namespaces/{namespace}/{resource}"),
    }
}

/// A request as the file words it.
fn request(fact: &Fact) -> Request<Full<Bytes>> {
    let words: Vec<&str> = fact.request.split(' ').collect();
    let object =
        |kind: &str| json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": {"name": "x"}});
    let written = |path: String| format!("{path}?dryRun=All");
    let (method, path, body, mask) = match words.as_slice() {
        ["path", path] => ("GET", (*path).to_owned(), Value::Null, &[][..]),
        ["whoami", mask @ ..] => {
            let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews".to_owned();
            ("POST", path, json!({}), mask)
        }
        [
            "create",
            kind @ ("RoleBinding" | "ClusterRoleBinding"),
            namespace,
            of,
            role,
        ] => {
            let mut binding = object(kind);
            binding["roleRef"] = json!({"apiGroup": GROUP, "kind": of, "name": role});
            binding["subjects"] = json!([{"kind": "User", "apiGroup": GROUP, "name": "x"}]);
            let path = collection(namespace, &format!("{}s", kind.to_lowercase()));
            ("POST", written(path), binding, &[][..])
        }
        ["create", kind @ ("Role" | "ClusterRole"), namespace, what @ ..] => {
            let mut role = object(kind);
            if let [verbs, things] = what {
                role["rules"] = rules(verbs, things);
            } else {
                let selector = json!({"matchLabels": {"a": "b"}});
                role["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
            }
            let path = collection(namespace, &format!("{}s", kind.to_lowercase()));
            ("POST", written(path), role, &[][..])
        }
        ["list", namespace, resource, mask @ ..] => {
            ("GET", collection(namespace, resource), Value::Null, mask)
        }
        ["create", namespace, resource] => {
            let path = written(collection(namespace, resource));
            ("POST", path, json!({"metadata": {"name": "x"}}), &[][..])
        }
        ["deletecollection", namespace, resource] => (
            "DELETE",
            written(collection(namespace, resource)),
            json!({}),
            &[][..],
        ),
        _ => panic!("not understood: {}", fact.request),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {}", fact.who))
        .header("content-type", "application/json");
    for (what, value) in mask.iter().filter_map(|word| word.split_once('=')) {
        request = request.header(format!("impersonate-{}", what.replace('.', "-")), value);
    }
    let body = if body.is_null() {
        Bytes::new()
    } else {
        Bytes::from(body.to_string())
    };
    request.body(Full::new(body)).expect("a request")
}

#[tokio::test]
async fn those_who_hold_roles_are_answered_as_by_kube_apiserver() {
    let mut users: Vec<&str> = facts().map(|fact| fact.who).collect();
    users.sort_unstable();
    users.dedup();
    let kit = Kit::new(&users).await;
    for (name, rules) in roles() {
        let role = json!({"metadata": {"name": name}, "rules": rules});
        kit.create(&format!("{API}/clusterroles"), &role).await;
    }
    for user in &users {
        let (scope, role) = user.split_once(':').expect("a scope and a role");
        kit.bind(user, role, (scope == "in-a").then_some("a")).await;
    }
    let mut wrong = Vec::new();
    for fact in facts() {
        let (code, answer) = kit.ask(request(&fact)).await;
        let message = answer["message"].as_str().unwrap_or_default();
        if code != fact.code || !message.contains(fact.words) {
            let Fact { who, request, .. } = fact;
            wrong.push(format!(
                "{who} | {request} | {code} | {message}\n    not {} | {}",
                fact.code, fact.words
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} requests:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    kit.server.shutdown().await.expect("stops");
}
