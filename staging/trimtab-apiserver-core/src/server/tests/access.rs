//! Nobody gets past the authorizer: what a user without rights asks for is refused before anything is done about it, however
//! it is asked for. Whatever the method, the path, the sub-resource, the query, the upgrade, or the user to be taken for.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::tokens::StaticTokens;
use trimtab_apiserver_storage::{Config, MemoryStore};

use crate::ApiServer;
use crate::http::Peer;

/// What every user may ask for, by the roles `system:discovery`, `system:public-info-viewer` and `system:basic-user`.
const OPEN: [&str; 9] = [
    "/api",
    "/apis",
    "/healthz",
    "/livez",
    "/readyz",
    "/openapi",
    "/version",
    "/.well-known",
    "/openid",
];
const REVIEWS: [&str; 3] = [
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
    "selfsubjectreviews",
];

/// A server in a runtime of its own, which all cases share.
struct Kit {
    runtime: Runtime,
    server: ApiServer,
}

static SHARED: OnceLock<Kit> = OnceLock::new();

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(30);

impl Kit {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let mut tokens = StaticTokens::default();
        let nobody = UserInfo {
            name: "nobody".to_owned(),
            ..UserInfo::default()
        };
        tokens.insert("of-nobody", nobody);
        let server = runtime.block_on(async {
            let store = Arc::new(MemoryStore::new(Config::default()));
            let server = ApiServer::builder(store).tokens(tokens).start().await;
            server.expect("starts")
        });
        let kit = Self { runtime, server };
        for (path, body) in [
            ("configmaps", json!({"metadata": {"name": "a"}})),
            ("serviceaccounts", json!({"metadata": {"name": "default"}})),
            (
                "pods",
                json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
            ),
        ] {
            let path = format!("/api/v1/namespaces/default/{path}");
            assert_eq!(kit.as_admin("POST", &path, body.to_string()), 201, "{path}");
        }
        kit
    }

    /// Has the administrator, who is in the process, ask; answers the code.
    fn as_admin(&self, method: &str, path: &str, body: impl Into<Bytes>) -> u16 {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json");
        let request = request.body(Full::new(body.into())).expect("a request");
        let answer = self.server.service().oneshot(request);
        let answer = async { tokio::time::timeout(PATIENCE, answer).await };
        let answer = self.runtime.block_on(answer).expect("answers in time");
        answer.expect("answers").status().as_u16()
    }

    /// Has somebody ask who comes over the network with nothing but a token; answers code and body.
    fn with_token(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"));
        let request = headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        let answer = async {
            let response = self.server.api.answer(request, Peer::default()).await;
            let code = response.status().as_u16();
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            (code, serde_json::from_slice(&body).unwrap_or_default())
        };
        let answer = async { tokio::time::timeout(PATIENCE, answer).await };
        self.runtime.block_on(answer).expect("is answered in time")
    }

    /// Whether what there was is there, and nothing else has been made.
    fn is_untouched(&self) -> bool {
        let code = |path: &str| self.as_admin("GET", path, "");
        let of_default = |path: &str| code(&format!("/api/v1/namespaces/default/{path}"));
        ["configmaps/a", "serviceaccounts/default", "pods/a"].map(of_default) == [200; 3]
            && ["configmaps/b", "secrets/b"].map(of_default) == [404; 2]
            && code("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/x") == 404
    }
}

/// An object that could be made.
const MINE: &str = r#"{"metadata": {"name": "b"}}"#;
/// By which one would be an administrator.
const TO_RULE: &str = r#"{"kind": "ClusterRoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "x"},
    "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"}, "subjects": [{"kind": "User", "name": "nobody"}]}"#;

/// Whether everybody may ask for a path.
fn is_open(method: &str, path: &str) -> bool {
    let plain = path.split('?').next().unwrap_or_default();
    let segments: Vec<&str> = plain.split('/').filter(|s| !s.is_empty()).collect();
    let discovery = match segments.first().copied() {
        Some("api") => segments.len() <= 2,
        Some("apis") => segments.len() <= 3,
        _ => OPEN
            .iter()
            .any(|open| plain == *open || plain.starts_with(&format!("{open}/"))),
    };
    (discovery && matches!(method, "GET" | "HEAD"))
        || (method == "POST" && REVIEWS.iter().any(|review| segments.last() == Some(review)))
}

fn resource_path() -> impl Strategy<Value = String> {
    let root = prop::sample::select(vec![
        "/api/v1",
        "/apis/apps/v1",
        "/apis/rbac.authorization.k8s.io/v1",
        "/apis/batch/v1",
        "/apis/apiextensions.k8s.io/v1",
        "/apis/none.example.com/v1",
        "//api/v1",
        "/api//v1",
        "/api/v1/watch",
    ]);
    let namespace = prop::sample::select(vec![
        "",
        "/namespaces/default",
        "/namespaces/none",
        "/namespaces/default/",
    ]);
    let resource = prop::sample::select(vec![
        "configmaps",
        "secrets",
        "pods",
        "nodes",
        "serviceaccounts",
        "deployments",
        "clusterroles",
        "rolebindings",
        "jobs",
        "customresourcedefinitions",
        "namespaces",
        "bindings",
        "nones",
        "%70ods",
    ]);
    let name = prop::sample::select(vec!["", "/a", "/default", "/none", "/a%2Fb", "/a/../b", "/."]);
    let below = prop::sample::select(vec![
        "",
        "/status",
        "/scale",
        "/exec",
        "/attach",
        "/portforward",
        "/proxy",
        "/proxy/x",
        "/log",
        "/eviction",
        "/binding",
        "/token",
        "/ephemeralcontainers",
        "/resize",
        "/finalize",
        "/approval",
        "/none",
    ]);
    (root, namespace, resource, name, below).prop_map(|(root, namespace, resource, name, below)| {
        let below = if name.is_empty() { "" } else { below };
        format!("{root}{namespace}/{resource}{name}{below}")
    })
}

fn other_path() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "/metrics",
        "/metrics/slis",
        "/debug/pprof/",
        "/logs",
        "/",
        "/none",
        "/configz",
        "/debug/api_priority_and_fairness/dump_queues",
    ])
    .prop_map(str::to_owned)
}

fn query() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "?watch=true",
        "?watch=1&resourceVersion=0",
        "?dryRun=All",
        "?fieldManager=m&force=true",
        "?fieldSelector=metadata.name%3Da",
        "?limit=1",
        "?command=sh&stdin=true",
        "?as=admin",
        "?impersonate-user=admin",
        "?fieldValidation=Strict",
        "?propagationPolicy=Orphan",
        "?timeout=1s",
        "?pretty=true&pretty=true",
    ])
}

/// Headers by which a client asks for more than it may, or for another protocol.
fn tricks() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    prop::sample::select(vec![
        vec![],
        vec![("impersonate-user", "admin")],
        vec![
            ("impersonate-user", "admin"),
            ("impersonate-group", "system:masters"),
        ],
        vec![
            ("impersonate-user", "nobody"),
            ("impersonate-group", "system:masters"),
        ],
        vec![("impersonate-user", "system:serviceaccount:default:default")],
        vec![("impersonate-group", "system:masters")],
        vec![("impersonate-user", "nobody"), ("impersonate-extra-a", "b")],
        vec![("impersonate-user", "nobody"), ("impersonate-uid", "1")],
        vec![("x-remote-user", "admin"), ("x-remote-group", "system:masters")],
        vec![
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "AAAA"),
        ],
        vec![("connection", "Upgrade"), ("upgrade", "SPDY/3.1")],
        vec![("x-http-method-override", "GET")],
        vec![("x-forwarded-for", "127.0.0.1"), ("x-original-url", "/healthz")],
        vec![("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")],
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_user_without_rights_is_refused_before_anything_is_done(
        token in prop::sample::select(vec!["of-nobody", "of-no-one-who-is-known"]),
        method in prop::sample::select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "ELSE"]),
        path in prop_oneof![4 => resource_path(), 1 => other_path()],
        query in query(),
        mut headers in tricks(),
        content_type in prop::sample::select(vec![
            "application/json",
            "application/apply-patch+yaml",
            "application/merge-patch+json",
            "application/vnd.kubernetes.protobuf",
            "text/plain",
        ]),
        body in prop::sample::select(vec!["", "{}", "[", "k8s\0", MINE, TO_RULE]),
    ) {
        let path = format!("{path}{query}");
        prop_assume!(!is_open(method, &path));
        let kit = SHARED.get_or_init(Kit::new);
        // To be taken for another without saying for whom makes no sense, and is not asked about.
        let has = |name: &str| headers.iter().any(|(header, _)| header.starts_with(name));
        let senseless = has("impersonate") && !has("impersonate-user");
        headers.push(("content-type", content_type));
        let (code, answer) = kit.with_token(token, method, &path, &headers, body);
        let expected = if token == "of-nobody" { 403 } else { 401 };
        prop_assert!(code == expected || (senseless && matches!(code, 400 | 500)), "{code} {answer}");
        prop_assert!(answer.is_null() || answer["kind"] == "Status", "{answer}");
        prop_assert!(kit.is_untouched());
    }
}

/// Paths with nothing between two slashes lead nowhere, and need the rights of what they look like even so.
#[test]
fn a_user_without_rights_is_not_told_that_a_path_leads_nowhere() {
    let kit = SHARED.get_or_init(Kit::new);
    for path in [
        "/api/v1/namespaces/default//configmaps",
        "/apis/apps/v1//deployments",
        "//api/v1/pods",
        "//version",
    ] {
        assert_eq!(kit.with_token("of-nobody", "GET", path, &[], "").0, 403, "{path}");
        assert_eq!(kit.as_admin("GET", path, ""), 404, "{path}");
    }
}

/// The same requests do something when somebody asks who may: else the property would hold of a server that does nothing.
#[test]
fn an_administrator_is_not_refused() {
    let kit = SHARED.get_or_init(Kit::new);
    for path in [
        "/api/v1/namespaces/default/pods/a",
        "/metrics",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/api/v1/namespaces/default/configmaps/a?watch=false",
    ] {
        assert_eq!(kit.as_admin("GET", path, ""), 200, "{path}");
    }
}
