//! Who sends a request: client certificates, static tokens, service account tokens, bootstrap tokens.

use std::sync::Arc;

use async_trait::async_trait;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::bootstrap_token::{self, BootstrapToken};
use trimtab_apiserver_auth::service_account::{Claims, Issuer, ObjectRef};
use trimtab_apiserver_auth::tokens::StaticTokens;

use super::{Authenticator, Credentials, NotAuthenticated};
use crate::admission::Reader;
use crate::ambient::Ambient;
use crate::registry::meta;

/// Knows client certificates, static tokens, the tokens of service accounts that exist and, if so wished, bootstrap tokens.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) tokens: StaticTokens,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) reader: Arc<dyn Reader>,
    /// Whether bootstrap tokens are believed.
    pub(crate) bootstrap_tokens: bool,
    pub(crate) ambient: Ambient,
}

impl Known {
    /// Whom a token stands for, and for which of the `audiences` (empty: this server's) it is good.
    pub(crate) async fn token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(UserInfo, Vec<String>), NotAuthenticated> {
        if let Some(user) = self.tokens.user(token) {
            return Ok((user.clone(), self.ours(audiences)?));
        }
        let bootstrap = BootstrapToken::parse(token).filter(|_| self.bootstrap_tokens);
        if let Some(bootstrap) = bootstrap {
            return Ok((self.bootstrapper(&bootstrap).await?, self.ours(audiences)?));
        }
        let now = self.ambient.now().as_second();
        let (claims, audiences) = self.issuer.verify(token, audiences, now).map_err(|why| {
            tracing::debug!(why, "refused a token");
            NotAuthenticated
        })?;
        match self.is_alive(&claims).await {
            Ok(true) => Ok((claims.user(), audiences)),
            Ok(false) => Err(NotAuthenticated),
            Err(error) => {
                tracing::error!(%error, "cannot look up a service account");
                Err(NotAuthenticated)
            }
        }
    }

    /// For which of the `audiences` (empty: this server's) a token is good that says nothing about them.
    fn ours(&self, audiences: &[String]) -> Result<Vec<String>, NotAuthenticated> {
        let ours = self.issuer.audiences();
        let good: Vec<String> = match audiences {
            [] => ours.to_vec(),
            wanted => wanted.iter().filter(|a| ours.contains(a)).cloned().collect(),
        };
        if good.is_empty() {
            Err(NotAuthenticated)
        } else {
            Ok(good)
        }
    }

    async fn bootstrapper(&self, token: &BootstrapToken<'_>) -> Result<UserInfo, NotAuthenticated> {
        let name = token.secret_name();
        let secret = self
            .reader
            .get("", "secrets", bootstrap_token::NAMESPACE, &name)
            .await
            .map_err(|error| {
                tracing::error!(%error, "cannot look up a bootstrap token");
                NotAuthenticated
            })?;
        let secret = secret.ok_or(NotAuthenticated)?;
        token.user(&secret, self.ambient.now()).map_err(|why| {
            tracing::debug!(why, secret = name, "refused a bootstrap token");
            NotAuthenticated
        })
    }

    /// Whether the account, and what the token is bound to, are still there and the same.
    async fn is_alive(&self, claims: &Claims) -> Result<bool, ApiError> {
        let bound = &claims.bound;
        let namespace = bound.namespace.as_str();
        let mut objects = vec![("serviceaccounts", namespace, &bound.serviceaccount)];
        match (&bound.pod, &bound.secret, &bound.node) {
            (Some(pod), _, _) => objects.push(("pods", namespace, pod)),
            (_, Some(secret), _) => objects.push(("secrets", namespace, secret)),
            (_, _, Some(node)) => objects.push(("nodes", "", node)),
            _ => {}
        }
        for (plural, namespace, ObjectRef { name, uid }) in objects {
            let Some(object) = self.reader.get("", plural, namespace, name).await? else {
                return Ok(false);
            };
            if meta::text(&object, "uid") != uid {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[async_trait]
impl Authenticator for Known {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<UserInfo>, NotAuthenticated> {
        if let Some(user) = &credentials.certificate {
            return Ok(Some(user.clone()));
        }
        match &credentials.token {
            Some(token) => Ok(Some(self.token(token, &[]).await?.0)),
            None => Ok(None),
        }
    }
}
