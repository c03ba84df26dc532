//! Whom the API server believes, as it says in a ConfigMap, and as it changes that.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use http::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use trimtab_apiserver_core::auth::{FrontProxy, Trusted};
use trimtab_apiserver_core::server::Believing;

use super::delegation::{Delegation, DelegationError, PATIENCE};

const TRUST: &str = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
/// Begins with what it is now, and is asked for again after five minutes.
const CHANGES: &str = "/api/v1/namespaces/kube-system/configmaps\
    ?watch=true&fieldSelector=metadata.name%3Dextension-apiserver-authentication&timeoutSeconds=300";
/// How long [`CHANGES`] lasts.
const LASTS: Duration = Duration::from_secs(300);
/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_secs(1);

impl Delegation {
    /// Whom the API server believes, as it says now.
    ///
    /// # Errors
    ///
    /// [`DelegationError`].
    pub async fn trusted(&self) -> Result<Trusted, DelegationError> {
        let end = Instant::now() + PATIENCE;
        let found = self.endpoint.call(Method::GET, TRUST, &Value::Null, end).await;
        trusted(&found.map_err(DelegationError::Trust)?["data"])
    }

    /// Has a server believe whom the API server believes, whenever that becomes somebody else. It never ends.
    pub(super) async fn follow(self, believing: Believing) {
        loop {
            match self
                .endpoint
                .watch(CHANGES, Instant::now() + LASTS + PATIENCE)
                .await
            {
                Ok(events) => {
                    let mut events = pin!(events);
                    while let Some(Ok(event)) = events.next().await {
                        take(&event, &believing);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the API server does not say whom it believes, asking again");
                    sleep(PATIENCE).await;
                }
            }
            sleep(PAUSE).await;
        }
    }
}

/// What is there is believed. That it is gone, or makes no sense, is no reason to believe nobody.
fn take(event: &Value, believing: &Believing) {
    if !matches!(event["type"].as_str(), Some("ADDED" | "MODIFIED")) {
        return;
    }
    let believed = trusted(&event["object"]["data"]).map_err(|error| error.to_string());
    if let Err(error) = believed.and_then(|trusted| believing.set(trusted)) {
        tracing::error!(error, "whom the API server believes now cannot be believed");
    }
}

fn trusted(data: &Value) -> Result<Trusted, DelegationError> {
    let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
    let names = |name: &str| -> Result<Vec<String>, DelegationError> {
        match text(name).as_str() {
            "" => Ok(Vec::new()),
            list => {
                let read = serde_json::from_str(list);
                read.map_err(|error| DelegationError::Unreadable(format!("{name}: {error}")))
            }
        }
    };
    let authorities = text("requestheader-client-ca-file");
    let proxy = match authorities.is_empty() {
        true => None,
        false => Some(FrontProxy {
            authorities,
            allowed_names: names("requestheader-allowed-names")?,
            username_headers: names("requestheader-username-headers")?,
            uid_headers: names("requestheader-uid-headers")?,
            group_headers: names("requestheader-group-headers")?,
            extra_prefixes: names("requestheader-extra-headers-prefix")?,
        }),
    };
    Ok(Trusted {
        clients: text("client-ca-file"),
        proxy,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_behind_another_believes_whom_that_believes() {
        let data = json!({
            "client-ca-file": "c",
            "requestheader-client-ca-file": "p",
            "requestheader-allowed-names": "[\"front\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-extra-headers-prefix": "[]",
        });
        let found = trusted(&data).expect("is read");
        let proxy = found.proxy.expect("there is one");
        assert_eq!((found.clients.as_str(), proxy.authorities.as_str()), ("c", "p"));
        assert_eq!(
            (proxy.allowed_names, proxy.uid_headers),
            (vec!["front".to_owned()], vec![])
        );
        assert_eq!(
            trusted(&json!({"client-ca-file": ""})).ok(),
            Some(Trusted::default())
        );
        let bad = json!({"requestheader-client-ca-file": "p", "requestheader-allowed-names": "["});
        let bad = trusted(&bad)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(bad.contains("requestheader-allowed-names"), "{bad}");
    }
}
