//! Where the API server finds the webhooks: a Service in the cluster, or a URL.

use http::Uri;

use crate::error::WebhookError;

/// Where the API server finds the webhooks of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Service {
        namespace: String,
        name: String,
        port: u16,
    },
    /// Without a slash at its end.
    Url { base: String, host: String },
}

/// The port of a Service that is meant when none is given; Kubernetes' own.
const PORT: u16 = 443;

impl Target {
    /// A Service in the cluster, at port 443. It forwards to the port that the server listens on.
    pub fn service(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self(Place::Service {
            namespace: namespace.into(),
            name: name.into(),
            port: PORT,
        })
    }

    /// Another port of the Service. A URL has its own.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self(match self.0 {
            Place::Service { namespace, name, .. } => Place::Service {
                namespace,
                name,
                port,
            },
            url @ Place::Url { .. } => url,
        })
    }

    /// A URL that the API server can reach, as `https://127.0.0.1:9443`; the paths of webhooks are added to its own.
    ///
    /// # Errors
    /// [`WebhookError::Url`] for what Kubernetes does not allow: anything but `https`, users, queries, fragments.
    pub fn url(url: impl Into<String>) -> Result<Self, WebhookError> {
        let url = url.into();
        let wrong = || WebhookError::Url(url.clone());
        let parsed: Uri = url.parse().map_err(|_| wrong())?;
        let authority = parsed.authority().ok_or_else(wrong)?;
        let fine = parsed.scheme_str() == Some("https")
            && !authority.as_str().contains('@')
            && !authority.host().is_empty()
            && !url.contains(['?', '#']);
        if !fine {
            return Err(wrong());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        Ok(Self(Place::Url {
            host: host.to_owned(),
            base: url.trim_end_matches('/').to_owned(),
        }))
    }

    /// The names that a certificate for it has to have.
    pub fn names(&self) -> Vec<String> {
        match &self.0 {
            Place::Service { namespace, name, .. } => ["", ".cluster.local"]
                .iter()
                .map(|domain| format!("{name}.{namespace}.svc{domain}"))
                .collect(),
            Place::Url { host, .. } => vec![host.clone()],
        }
    }

    /// The two forms of `clientConfig`, which Kubernetes declares twice: a Service with its path and port, or a URL.
    pub(crate) fn client(&self, path: &str) -> Client {
        match &self.0 {
            Place::Service {
                namespace,
                name,
                port,
            } => Client::Service {
                namespace: namespace.clone(),
                name: name.clone(),
                path: path.to_owned(),
                port: i32::from(*port),
            },
            Place::Url { base, .. } => Client::Url(format!("{base}{path}")),
        }
    }

    /// Whether a `clientConfig` points here, whatever its path.
    pub(crate) fn is_meant_by(&self, client_config: &serde_json::Value) -> bool {
        match &self.0 {
            Place::Service { namespace, name, .. } => {
                let service = &client_config["service"];
                service["namespace"] == **namespace && service["name"] == **name
            }
            Place::Url { base, .. } => client_config["url"]
                .as_str()
                .and_then(|url| url.strip_prefix(base.as_str()))
                .is_some_and(|path| path.is_empty() || path.starts_with('/')),
        }
    }
}

/// A `clientConfig` without its bundle.
pub(crate) enum Client {
    Service {
        namespace: String,
        name: String,
        path: String,
        port: i32,
    },
    Url(String),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Place::Service {
                namespace,
                name,
                port,
            } => write!(f, "service {namespace}/{name}:{port}"),
            Place::Url { base, .. } => f.write_str(base),
        }
    }
}
