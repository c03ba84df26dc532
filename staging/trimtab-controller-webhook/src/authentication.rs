//! Token reviews: who the bearer of a token is, asked by API servers that leave the question to a webhook.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReviewSpec, TokenReviewStatus, UserInfo};
use serde::{Deserialize, Serialize};

use crate::admission::words_of;
use crate::envelope::{self, Answer};

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenReview";

/// Says whose a token is. An API server asks it at the address of its `--authentication-token-webhook-config-file`.
pub trait Authenticator: Send + Sync + 'static {
    /// The bearer of a token, if it is one that this authenticator knows. `audiences` are those for which it is to be good; empty
    /// for the API server itself.
    ///
    /// Cancelled when the server gives up. A panic is an error, whose words are logged and not told.
    ///
    /// # Errors
    /// When that cannot be found out now. The text is told to the API server, which logs it; never put the token in it.
    fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
    ) -> impl Future<Output = Result<Option<Bearer>, String>> + Send;
}

/// Whose a token is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bearer {
    /// The user, with groups and whatever else authorization goes by.
    pub user: UserInfo,
    /// For whom the token is good; those that were asked for are told. Empty, if the authenticator knows of no audiences: then
    /// the API server takes it as good for itself only.
    pub audiences: Vec<String>,
}

/// An authenticator whose type is forgotten.
pub(crate) type Erased = Arc<dyn Fn(TokenReviewSpec) -> BoxFuture<'static, Found> + Send + Sync>;

/// What came of a question.
pub(crate) enum Found {
    Ended(Result<Option<Bearer>, String>),
    /// It panicked, with these words.
    Panicked(String),
}

pub(crate) fn erase(authenticator: impl Authenticator) -> Erased {
    let authenticator = Arc::new(authenticator);
    Arc::new(move |asked: TokenReviewSpec| {
        let authenticator = authenticator.clone();
        let found = AssertUnwindSafe(async move {
            let token = asked.token;
            let audiences = asked.audiences.unwrap_or_default();
            let bearer = authenticator.authenticate(&token, &audiences).await?;
            Ok(bearer.and_then(|bearer| bearer.good_for(&audiences)))
        });
        async move {
            match found.catch_unwind().await {
                Ok(ended) => Found::Ended(ended),
                Err(panic) => Found::Panicked(words_of(panic.as_ref())),
            }
        }
        .boxed()
    })
}

impl Bearer {
    /// None, if the token is good for others than those who ask.
    fn good_for(mut self, asked: &[String]) -> Option<Self> {
        if !self.audiences.is_empty() && !asked.is_empty() {
            self.audiences.retain(|audience| asked.contains(audience));
            if self.audiences.is_empty() {
                return None;
            }
        }
        Some(self)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    spec: Option<TokenReviewSpec>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: &'static str,
    status: TokenReviewStatus,
}

/// Answers a review.
///
/// # Errors
/// When the body is no review: there is nobody to answer to but the sender, by 400.
pub(crate) async fn review(authenticator: &Erased, body: &[u8]) -> Result<Answer, String> {
    let question: Question =
        serde_json::from_slice(body).map_err(|error| format!("the body is no {KIND}: {error}"))?;
    envelope::check(&question.api_version, &question.kind, [GROUP, KIND])?;
    let asked = question.spec.ok_or("the review has no spec")?;
    if asked.token.is_empty() {
        return Err("the review has no token".to_owned());
    }
    let found = authenticator(asked).await;
    let panicked = matches!(found, Found::Panicked(_));
    let status = match found {
        Found::Ended(Ok(Some(bearer))) => TokenReviewStatus {
            authenticated: Some(true),
            user: Some(bearer.user),
            audiences: (!bearer.audiences.is_empty()).then_some(bearer.audiences),
            error: None,
        },
        Found::Ended(Ok(None)) => refused(None),
        Found::Ended(Err(why)) => refused(Some(why)),
        Found::Panicked(words) => {
            tracing::error!(panic = words, "an authenticator panicked");
            refused(Some("the authenticator panicked; its log says more".to_owned()))
        }
    };
    let review = Review {
        api_version: question.api_version,
        kind: KIND,
        status,
    };
    Answer::new(&review, panicked)
}

fn refused(error: Option<String>) -> TokenReviewStatus {
    TokenReviewStatus {
        authenticated: Some(false),
        error,
        ..TokenReviewStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    struct Tokens;

    impl Authenticator for Tokens {
        async fn authenticate(&self, token: &str, _: &[String]) -> Result<Option<Bearer>, String> {
            let user = UserInfo {
                username: Some("ada".to_owned()),
                groups: Some(vec!["dev".to_owned()]),
                ..UserInfo::default()
            };
            let audiences = match token {
                "good" => Vec::new(),
                "for-vault" => vec!["vault".to_owned(), "api".to_owned()],
                "down" => return Err("the directory does not answer".to_owned()),
                "panic" => panic!("asked for"),
                _ => return Ok(None),
            };
            Ok(Some(Bearer { user, audiences }))
        }
    }

    async fn ask(question: Value) -> Result<(Value, bool), String> {
        let answer = review(&erase(Tokens), question.to_string().as_bytes()).await?;
        Ok((
            serde_json::from_slice(&answer.body).expect("JSON"),
            answer.panicked,
        ))
    }

    fn question(version: &str, token: &str, audiences: &[&str]) -> Value {
        json!({"apiVersion": format!("{GROUP}/{version}"), "kind": KIND, "metadata": {},
            "spec": {"token": token, "audiences": audiences}})
    }

    #[tokio::test]
    async fn tokens_are_told_apart() {
        let ada = json!({"username": "ada", "groups": ["dev"]});
        let yes = |audiences: Value| {
            let mut status = json!({"authenticated": true, "user": ada});
            if !audiences.is_null() {
                status["audiences"] = audiences;
            }
            status
        };
        let no = |error: &str| json!({"authenticated": false, "error": error});
        let cases = [
            ("good", &[][..], yes(Value::Null)),
            ("good", &["vault"], yes(Value::Null)),
            ("for-vault", &[], yes(json!(["vault", "api"]))),
            ("for-vault", &["db", "vault"], yes(json!(["vault"]))),
            ("for-vault", &["db"], json!({"authenticated": false})),
            ("unknown", &[], json!({"authenticated": false})),
            ("down", &[], no("the directory does not answer")),
            ("panic", &[], no("the authenticator panicked; its log says more")),
        ];
        for version in ["v1", "v1beta1"] {
            for (token, audiences, expected) in &cases {
                let (answer, panicked) = ask(question(version, token, audiences)).await.expect("an answer");
                assert_eq!(answer["status"], *expected, "{token} for {audiences:?}");
                assert_eq!(
                    answer["apiVersion"],
                    format!("{GROUP}/{version}"),
                    "as it was asked"
                );
                assert_eq!(panicked, *token == "panic");
                assert!(!answer.to_string().contains("for-vault"), "tokens are not told");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_question_is_refused() {
        let cases = [
            (json!([]), "no TokenReview"),
            (question("v2", "good", &[]), "expected TokenReview"),
            (question("v1", "", &[]), "no token"),
            (
                json!({"apiVersion": "authentication.k8s.io/v1", "kind": KIND}),
                "no spec",
            ),
        ];
        for (question, says) in cases {
            let error = ask(question.clone()).await.expect_err("no question");
            assert!(error.contains(says), "{question}: {error}");
        }
    }
}
