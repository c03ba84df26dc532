//! Who may look: bearer tokens and permissions, asked of the cluster by TokenReview and SubjectAccessReview.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::body::{Response, text};

/// How long a yes holds. As long as controller-runtime's for tokens; its for permissions is 5 minutes.
const YES: Duration = Duration::from_secs(60);
/// How long a no holds.
const NO: Duration = Duration::from_secs(10);
/// How many answers of each kind are remembered.
const REMEMBERED: usize = 1024;
/// How long the cluster has to answer a question; controller-runtime's figure.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many questions may be open at once: whoever makes up tokens shall not make us flood the cluster.
const AT_ONCE: usize = 16;

/// Lets those in whom the cluster lets: the token in `Authorization: Bearer` must be of a user who may do the request's
/// method, in lower case, to the non-resource URL that is the request's path. For `/metrics` that is a ClusterRole with
///
/// ```yaml
/// rules:
/// - nonResourceURLs: ["/metrics"]
///   verbs: ["get"]
/// ```
///
/// The program itself needs to create TokenReviews and SubjectAccessReviews, as the ClusterRole `system:auth-delegator`
/// allows. Without a token, or with one that is not valid, the answer is 401; without permission 403; 500 when the cluster
/// cannot be asked, which is never remembered. A yes is remembered for a minute, a no for 10 seconds; so long does it take
/// to see a change. Tokens are remembered by their SHA-256 only. Clones share all of that.
///
/// Tokens are secrets: use TLS.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    client: Client,
    questions: Semaphore,
    users: Memory<[u8; 32], Option<UserInfo>>,
    permissions: Memory<Asked, bool>,
}

/// What a user may or may not do. Users are told apart by all that the cluster judges them by.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Asked {
    user: String,
    verb: String,
    path: String,
}

/// Why the cluster could not be asked.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error(transparent)]
    Refused(#[from] kube::Error),
    #[error("the API server did not answer within {PATIENCE:?}")]
    Late,
    #[error("the API server answered without a status")]
    Empty,
    #[error(transparent)]
    Encode(#[from] serde_json::Error),
}

// === impl Access ===

impl Access {
    /// Asks the cluster of this client.
    pub fn new(client: Client) -> Self {
        Self(Arc::new(Inner {
            client,
            questions: Semaphore::new(AT_ONCE),
            users: Memory::default(),
            permissions: Memory::default(),
        }))
    }

    /// Whether the request may go on; if not, the answer to give.
    pub(super) async fn check(&self, headers: &HeaderMap, method: &str, path: &str) -> Result<(), Response> {
        let Some(token) = bearer(headers) else {
            return Err(unauthorized());
        };
        let user = match self.user(token).await {
            Ok(Some(user)) => user,
            Ok(None) => return Err(unauthorized()),
            Err(error) => {
                tracing::error!(
                    error = %error,
                    "a token cannot be reviewed; the program needs to create TokenReviews, as system:auth-delegator allows"
                );
                return Err(text(500, "Authentication failed: the token cannot be reviewed\n"));
            }
        };
        let name = user.username.clone().unwrap_or_default();
        match self.may(user, method.to_lowercase(), path).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                tracing::debug!(user = name, path, "access denied");
                Err(text(403, format!("Authorization denied for user {name}\n")))
            }
            Err(error) => {
                tracing::error!(
                    error = %error,
                    "a permission cannot be reviewed; the program needs to create SubjectAccessReviews, as \
                     system:auth-delegator allows"
                );
                Err(text(500, format!("Authorization for user {name} failed\n")))
            }
        }
    }

    /// Whose token it is, if anybody's.
    async fn user(&self, token: &str) -> Result<Option<UserInfo>, Unknown> {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(known) = self.0.users.get(&key) {
            return Ok(known);
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let status = self.ask(&review).await?.status.ok_or(Unknown::Empty)?;
        let valid = status.authenticated.unwrap_or_default();
        let user = valid.then(|| status.user.unwrap_or_default());
        self.0.users.put(key, user.clone(), valid);
        Ok(user)
    }

    async fn may(&self, user: UserInfo, verb: String, path: &str) -> Result<bool, Unknown> {
        let asked = Asked {
            user: serde_json::to_string(&user)?,
            verb: verb.clone(),
            path: path.to_owned(),
        };
        if let Some(known) = self.0.permissions.get(&asked) {
            return Ok(known);
        }
        let attributes = NonResourceAttributes {
            path: Some(path.to_owned()),
            verb: Some(verb),
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                groups: user.groups,
                uid: user.uid,
                extra: user.extra,
                non_resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let status = self.ask(&review).await?.status.ok_or(Unknown::Empty)?;
        let allowed = status.allowed && !status.denied.unwrap_or_default();
        self.0.permissions.put(asked, allowed, allowed);
        Ok(allowed)
    }

    async fn ask<R>(&self, review: &R) -> Result<R, Unknown>
    where
        R: kube::Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()>,
        R: Clone + fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let answer = async {
            let _permit = self.0.questions.acquire().await;
            let reviews: Api<R> = Api::all(self.0.client.clone());
            reviews.create(&PostParams::default(), review).await
        };
        Ok(timeout(PATIENCE, answer).await.map_err(|_| Unknown::Late)??)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn unauthorized() -> Response {
    let mut response = text(401, "Unauthorized\n");
    let headers = response.headers_mut();
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Answers that hold for a while, and not too many of them.
struct Memory<K, V>(Mutex<Answers<K, V>>);

struct Answers<K, V> {
    by_question: HashMap<K, Answer<V>>,
    /// How many there have been.
    count: u64,
}

struct Answer<V> {
    value: V,
    until: Instant,
    /// Tells apart what ends at the same time.
    number: u64,
}

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Answers {
            by_question: HashMap::new(),
            count: 0,
        }))
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Memory<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let memory = self.0.lock();
        let answer = memory.by_question.get(key)?;
        (answer.until > Instant::now()).then(|| answer.value.clone())
    }

    fn put(&self, key: K, value: V, positive: bool) {
        let now = Instant::now();
        let until = now + if positive { YES } else { NO };
        let Answers { by_question, count } = &mut *self.0.lock();
        if by_question.len() >= REMEMBERED && !by_question.contains_key(&key) {
            by_question.retain(|_, answer| answer.until > now);
        }
        if by_question.len() >= REMEMBERED && !by_question.contains_key(&key) {
            // A no ends soonest: made-up tokens push each other out before they push out the valid ones.
            let first = by_question
                .iter()
                .min_by_key(|(_, answer)| (answer.until, answer.number));
            if let Some(first) = first.map(|(key, _)| key.clone()) {
                by_question.remove(&first);
            }
        }
        *count += 1;
        let number = *count;
        by_question.insert(key, Answer { value, until, number });
    }
}
