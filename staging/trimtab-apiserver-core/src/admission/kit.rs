//! A registry of the built-in kinds with policies and webhooks, and requests to it written as a verb, a path and a body.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use trimtab_apiserver_auth::user::MASTERS_GROUP;
use trimtab_apiserver_auth::{Attributes as AuthAttributes, Decision, UserInfo};
use trimtab_apiserver_storage::{Config, MemoryStore, Store};

use crate::admission::dynamic::Surroundings;
use crate::admission::policies::{ParamAccess, Policies, PolicyMetrics};
use crate::admission::webhooks::{WebhookMetrics, Webhooks};
use crate::admission::{Chain, Reader, StoreReader};
use crate::api::{ApiRequest, ApiResponse, BodyFormat, RequestInfo};
use crate::auth::Authorizer;
use crate::registry::Registry;
use crate::webhook::testing::{Asked, Hook, Reply};
use crate::webhook::{Clients, ServiceAddresses};

/// Where configurations are.
pub(crate) const CONFIGURATIONS: &str = "admissionregistration.k8s.io/v1";

/// Allows what a user named `admin` asks, and nothing else.
#[derive(Debug)]
struct Admin;

impl Authorizer for Admin {
    fn authorize(&self, user: &UserInfo, _: &AuthAttributes) -> Decision {
        if user.name == "admin" {
            Decision::allow("")
        } else {
            Decision::deny("")
        }
    }
}

pub(crate) struct Server {
    pub(crate) registry: Arc<Registry>,
    pub(crate) policy_metrics: Arc<PolicyMetrics>,
    pub(crate) metrics: Arc<WebhookMetrics>,
    pub(crate) user: UserInfo,
}

/// What came of a request: code, body or status, warnings.
pub(crate) type Answer = (u16, Value, Vec<String>);

impl Server {
    pub(crate) async fn new() -> Self {
        Self::with(|chain, _| chain).await
    }

    /// A server with plugins before its webhooks, and the namespace `default`.
    pub(crate) async fn with(plugins: impl Fn(Chain, &Arc<dyn Reader>) -> Chain) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Config::default()));
        let registry = Arc::new(Registry::new(store.clone(), crate::crd::builtin()));
        let resources = registry.resources().clone();
        let reader: Arc<dyn Reader> = Arc::new(StoreReader::new(store.clone(), resources.clone()));
        let clients = Arc::new(Clients::new(Arc::new(ServiceAddresses::new(reader.clone()))));
        let chain = plugins(Chain::default(), &reader);
        let policy_metrics = Arc::new(PolicyMetrics::default());
        let around = Surroundings {
            store,
            resources,
            reader,
            caches: registry.caches().clone(),
            authorizer: Arc::new(Admin),
            entropy: crate::Entropy::default(),
        };
        let metrics = Arc::new(WebhookMetrics::default());
        let policies = Arc::new(Policies::new(around.clone(), policy_metrics.clone()));
        let webhooks = Arc::new(Webhooks::new(around.clone(), clients, metrics.clone()));
        let chain = chain.then(ParamAccess(around));
        registry.set_admission(Arc::new(chain.with_dynamic(policies, webhooks)));
        let server = Self {
            registry,
            policy_metrics,
            metrics,
            user: UserInfo {
                name: "alice".to_owned(),
                uid: "u1".to_owned(),
                groups: vec!["devs".to_owned()],
                extra: [("k".to_owned(), vec!["v".to_owned()])].into(),
            },
        };
        let namespace = json!({"metadata": {"name": "default", "labels": {"team": "a"}}});
        server.ok("create", "/v1/namespaces", namespace).await;
        server
    }

    /// `path` is `GROUP/VERSION/[NAMESPACE:]RESOURCE[/NAME[/SUBRESOURCE]][?QUERY]`, the core group being empty; `patch`
    /// is a merge patch.
    pub(crate) async fn ask(&self, verb: &str, path: &str, body: Value) -> Answer {
        self.ask_as(&self.user, verb, path, body).await
    }

    /// As [`Server::ask`], in the name of somebody who may do everything.
    pub(crate) async fn ask_as_master(&self, verb: &str, path: &str, body: Value) -> Answer {
        let master = UserInfo {
            groups: vec![MASTERS_GROUP.to_owned()],
            ..self.user.clone()
        };
        self.ask_as(&master, verb, path, body).await
    }

    async fn ask_as(&self, user: &UserInfo, verb: &str, path: &str, body: Value) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut parts = path.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        let (group, version, resource) = (next(), next(), next());
        let (namespace, resource) = match resource.split_once(':') {
            Some((namespace, resource)) => (namespace.to_owned(), resource.to_owned()),
            None => (String::new(), resource),
        };
        let (name, subresource) = (next(), next());
        let is_namespace = resource == "namespaces";
        let info = RequestInfo {
            verb: verb.to_owned(),
            group,
            version,
            namespace: if is_namespace { name.clone() } else { namespace },
            resource,
            path: format!("/api/v1/{name}/{subresource}"),
            name,
            subresource,
            ..RequestInfo::default()
        };
        let request = ApiRequest {
            info,
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            user: user.clone(),
            body_format: if verb == "patch" {
                BodyFormat::MergePatch
            } else {
                BodyFormat::Json
            },
            body: match body {
                Value::Null => Bytes::new(),
                body => body.to_string().into(),
            },
            ..ApiRequest::default()
        };
        let mut warnings = Vec::new();
        match self
            .registry
            .answer(request, &mut warnings)
            .await
            .and_then(ApiResponse::decoded)
        {
            Ok(ApiResponse::Value {
                code,
                value,
                warnings,
            }) => (code, value, warnings),
            Ok(other) => panic!("{verb} {path} answers {other:?}"),
            Err(error) => {
                let status = crate::http::respond::status_value(&error);
                (error.code, status, warnings)
            }
        }
    }

    /// Makes a request that must succeed; answers the body.
    pub(crate) async fn ok(&self, verb: &str, path: &str, body: Value) -> Value {
        let (code, answer, _) = self.ask(verb, path, body).await;
        assert!(code < 300, "{verb} {path}: {code} {answer}");
        answer
    }

    /// Makes a request that must be refused; answers code and message.
    pub(crate) async fn refused(&self, verb: &str, path: &str, body: Value) -> (u16, String) {
        let (code, answer, _) = self.ask(verb, path, body).await;
        assert!(code >= 400, "{verb} {path}: {code} {answer}");
        (code, answer["message"].as_str().unwrap_or_default().to_owned())
    }

    /// Stores a configuration of one webhook of that kind (`mutating` or `validating`) and name.
    pub(crate) async fn configure(&self, kind: &str, name: &str, hook: Value) {
        let path = format!("{CONFIGURATIONS}/{kind}webhookconfigurations");
        let configuration = json!({"metadata": {"name": name}, "webhooks": [hook]});
        self.ok("create", &path, configuration).await;
    }

    /// Creates a ConfigMap of that name in `default`.
    pub(crate) async fn make(&self, name: &str) -> Answer {
        let object = json!({"metadata": {"name": name}, "data": {"k": "v"}});
        self.ask("create", "/v1/default:configmaps", object).await
    }
}

/// A webhook that wants to know of everything, as far as `change` does not say otherwise.
pub(crate) fn hook(client_config: Value, change: Value) -> Value {
    let mut hook = json!({
        "name": "h.example.com",
        "clientConfig": client_config,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}],
    });
    for (field, value) in change.as_object().into_iter().flatten() {
        hook[field] = value.clone();
    }
    hook
}

/// Rules for one resource.
pub(crate) fn rules(operations: &[&str], group: &str, version: &str, resource: &str) -> Value {
    json!([{"operations": operations, "apiGroups": [group], "apiVersions": [version], "resources": [resource]}])
}

/// The answer to a review, which says yes as far as `change` does not say otherwise.
pub(crate) fn reply(asked: &Asked, change: Value) -> Reply {
    let mut response = json!({"uid": asked.body["request"]["uid"], "allowed": true});
    for (field, value) in change.as_object().into_iter().flatten() {
        response[field] = value.clone();
    }
    Reply::Json(json!({
        "kind": "AdmissionReview",
        "apiVersion": asked.body["apiVersion"],
        "response": response,
    }))
}

/// The answer to a review that says yes, with a patch.
pub(crate) fn patch(asked: &Asked, operations: Value) -> Reply {
    let patch = STANDARD.encode(operations.to_string());
    reply(asked, json!({"patch": patch, "patchType": "JSONPatch"}))
}

/// A webhook that says yes to everything.
pub(crate) async fn yes() -> Hook {
    Hook::start(|asked| reply(asked, json!({}))).await
}

/// The requests of the reviews that a webhook got, which forgets them.
pub(crate) fn requests(hook: &Hook) -> Vec<Value> {
    hook.take()
        .into_iter()
        .map(|asked| asked.body["request"].clone())
        .collect()
}
