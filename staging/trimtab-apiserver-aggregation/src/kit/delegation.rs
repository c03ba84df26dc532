//! Who sends a request, and whether they may: the API server in front knows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_auth::user::MASTERS_GROUP;
use trimtab_apiserver_auth::{Attributes, Decision, UserInfo};
use trimtab_apiserver_core::auth::{Authenticator, Credentials, Decider, NotAuthenticated};
use trimtab_apiserver_core::extensions::{CallError, Endpoint};

use super::cache::Cache;

/// How long answers are kept; that of Kubernetes' own extension servers.
const KEPT: Duration = Duration::from_secs(10);
/// So many answers are kept of each kind.
const MOST: usize = 4096;
/// How long the API server has to answer; Kubernetes' `DelegatingAuthenticationOptions` has it so.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// What everyone may ask.
const HEALTH: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// The API server that is asked. Its account needs the rights of the ClusterRole `system:auth-delegator`, those of the Role
/// `extension-apiserver-authentication-reader` in `kube-system`, and to get namespaces if what it stores is in some.
#[derive(Clone, Debug)]
pub struct Delegation {
    pub(super) endpoint: Arc<Endpoint>,
    tokens: Arc<Cache<String, Option<UserInfo>>>,
    decisions: Arc<Cache<Question, Decision>>,
}

/// An API server that cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DelegationError {
    /// It is not known where it is.
    #[error("the API server is not known: {0}")]
    Unknown(String),
    /// It does not say whom it believes.
    #[error("the API server does not say whom it believes: {0}")]
    Trust(CallError),
    /// What it says makes no sense.
    #[error("configmap kube-system/extension-apiserver-authentication: {0}")]
    Unreadable(String),
}

/// Who, and what.
type Question = (UserKey, String, bool, [String; 6]);
type UserKey = (String, String, Vec<String>, BTreeMap<String, Vec<String>>);

impl Delegation {
    /// The API server of a kubeconfig's current context.
    ///
    /// # Errors
    ///
    /// [`DelegationError::Unknown`].
    pub fn kubeconfig(file: &Path) -> Result<Self, DelegationError> {
        let read = Endpoint::read(file);
        let read = read.map_err(|why| DelegationError::Unknown(format!("{}: {why}", file.display())));
        Ok(Self::of(read?))
    }

    /// The API server of the cluster in which this runs as a pod.
    ///
    /// # Errors
    ///
    /// [`DelegationError::Unknown`].
    pub fn in_cluster() -> Result<Self, DelegationError> {
        Endpoint::in_cluster()
            .map(Self::of)
            .map_err(DelegationError::Unknown)
    }

    fn of(endpoint: Endpoint) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
            tokens: Arc::new(Cache::new(KEPT, MOST)),
            decisions: Arc::new(Cache::new(KEPT, MOST)),
        }
    }

    /// Sends a request to the API server, as this server's own account: what it takes to compute objects of others, say.
    ///
    /// # Errors
    ///
    /// The error that is the answer to who has asked this server: that of the API server, or 503 when it does not answer.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Value, ApiError> {
        let answer = self
            .endpoint
            .call(method, path, body, Instant::now() + PATIENCE)
            .await;
        answer.map_err(|error| {
            let mut refused = ApiError::unavailable(error.message);
            refused.code = error.code;
            refused
        })
    }

    async fn review(&self, path: &str, review: &Value) -> Result<Value, CallError> {
        let end = Instant::now() + PATIENCE;
        let answer = self.endpoint.call(Method::POST, path, review, end).await?;
        Ok(answer["status"].clone())
    }
}

/// A user as a TokenReview tells of one.
fn user(value: &Value) -> UserInfo {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let extra = value["extra"].as_object().into_iter().flatten();
    UserInfo {
        name: text("username"),
        uid: text("uid"),
        groups: texts(&value["groups"]),
        extra: extra.map(|(key, values)| (key.clone(), texts(values))).collect(),
    }
}

#[async_trait]
impl Authenticator for Delegation {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<UserInfo>, NotAuthenticated> {
        if let Some(user) = &credentials.certificate {
            return Ok(Some(user.clone()));
        }
        let Some(token) = &credentials.token else {
            return Ok(None);
        };
        let known = match self.tokens.get(token) {
            Some(known) => known,
            None => {
                let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                    "spec": {"token": token}});
                let path = "/apis/authentication.k8s.io/v1/tokenreviews";
                let status = self.review(path, &review).await.map_err(|error| {
                    tracing::error!(%error, "the API server cannot be asked whose a token is");
                    NotAuthenticated
                })?;
                let known = (status["authenticated"] == true).then(|| user(&status["user"]));
                self.tokens.put(token.clone(), known.clone());
                known
            }
        };
        known.map(Some).ok_or(NotAuthenticated)
    }
}

#[async_trait]
impl Decider for Delegation {
    async fn decide(&self, user: &UserInfo, request: &Attributes) -> Result<Decision, ApiError> {
        let is_health = || HEALTH.contains(&request.path.as_str());
        if user.is_in(MASTERS_GROUP) || (!request.is_resource && is_health()) {
            return Ok(Decision::allow(""));
        }
        let question = question(user, request);
        if let Some(decision) = self.decisions.get(&question) {
            return Ok(decision);
        }
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let status = self.review(path, &review(user, request)).await;
        let status = status.map_err(|error| {
            ApiError::internal(format!("the API server cannot be asked for a decision: {error}"))
        })?;
        let decision = Decision {
            allowed: status["allowed"] == true && status["denied"] != true,
            reason: status["reason"].as_str().unwrap_or_default().to_owned(),
        };
        self.decisions.put(question, decision.clone());
        Ok(decision)
    }
}

fn question(user: &UserInfo, request: &Attributes) -> Question {
    let who = (
        user.name.clone(),
        user.uid.clone(),
        user.groups.clone(),
        user.extra.clone(),
    );
    let what = match request.is_resource {
        true => [
            &request.group,
            &request.version,
            &request.resource,
            &request.subresource,
            &request.namespace,
            &request.name,
        ]
        .map(Clone::clone),
        false => [
            request.path.clone(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ],
    };
    (who, request.verb.clone(), request.is_resource, what)
}

/// The SubjectAccessReview of a request.
fn review(user: &UserInfo, request: &Attributes) -> Value {
    let mut spec = json!({"user": user.name});
    if !user.uid.is_empty() {
        spec["uid"] = user.uid.as_str().into();
    }
    if !user.groups.is_empty() {
        spec["groups"] = user.groups.clone().into();
    }
    if !user.extra.is_empty() {
        spec["extra"] = json!(user.extra);
    }
    if request.is_resource {
        let mut of = json!({"verb": request.verb});
        for (name, value) in [
            ("group", &request.group),
            ("version", &request.version),
            ("resource", &request.resource),
            ("subresource", &request.subresource),
            ("namespace", &request.namespace),
            ("name", &request.name),
        ] {
            if !value.is_empty() {
                of[name] = value.as_str().into();
            }
        }
        spec["resourceAttributes"] = of;
    } else {
        spec["nonResourceAttributes"] = json!({"path": request.path, "verb": request.verb});
    }
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviews_say_who_asks_for_what() {
        let alice = UserInfo {
            name: "alice".to_owned(),
            uid: "u".to_owned(),
            groups: vec!["devs".to_owned()],
            extra: BTreeMap::from([("k".to_owned(), vec!["v".to_owned()])]),
        };
        let request = Attributes {
            verb: "get".to_owned(),
            group: "g".to_owned(),
            version: "v1".to_owned(),
            resource: "things".to_owned(),
            subresource: "status".to_owned(),
            namespace: "n".to_owned(),
            name: "a".to_owned(),
            is_resource: true,
            path: "/apis/g/v1/namespaces/n/things/a/status".to_owned(),
        };
        let spec = json!({"user": "alice", "uid": "u", "groups": ["devs"], "extra": {"k": ["v"]},
            "resourceAttributes": {"verb": "get", "group": "g", "version": "v1", "resource": "things",
                "subresource": "status", "namespace": "n", "name": "a"}});
        assert_eq!(review(&alice, &request)["spec"], spec);
        let path = Attributes {
            verb: "get".to_owned(),
            path: "/metrics".to_owned(),
            ..Attributes::default()
        };
        let spec = json!({"user": "system:anonymous", "groups": ["system:unauthenticated"],
            "nonResourceAttributes": {"path": "/metrics", "verb": "get"}});
        assert_eq!(review(&UserInfo::anonymous(), &path)["spec"], spec);
        assert_ne!(
            question(&alice, &request),
            question(&UserInfo::anonymous(), &request)
        );
        assert_ne!(question(&alice, &request), question(&alice, &path));
    }
}
