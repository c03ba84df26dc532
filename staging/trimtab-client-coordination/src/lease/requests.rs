//! Requests for Leases, each with a deadline.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::Status;
use kube::{Api, Client, Error};
use tokio::time::timeout;

/// The Leases of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    api: Api<Lease>,
    timeout: Duration,
}

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The server refused it: nothing was written.
    #[error("{0}")]
    Refused(Box<Status>),
    /// There was no answer that could be read. What was to be written may have been, or may yet be.
    #[error("{0}")]
    Unanswered(Error),
    /// There was no answer in time. What was to be written may have been, or may yet be.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

impl RequestError {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(status) if status.is_not_found())
    }

    /// The Lease was written, made or deleted by somebody else since it was read.
    pub(crate) fn is_outdated(&self) -> bool {
        matches!(self, Self::Refused(status)
            if status.is_conflict() || status.is_already_exists() || status.is_not_found())
    }
}

type Result<T> = std::result::Result<T, RequestError>;

impl Leases {
    /// Those of `namespace`, or of the client's own.
    pub(crate) fn new(client: Client, namespace: Option<&str>, timeout: Duration) -> Self {
        let api = match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::default_namespaced(client),
        };
        Self { api, timeout }
    }

    /// The Lease as it is now, if there is one.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Lease>> {
        match self.within(self.api.get(name)).await {
            Ok(lease) => Ok(Some(lease)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn create(&self, lease: &Lease) -> Result<Lease> {
        self.within(self.api.create(&PostParams::default(), lease)).await
    }

    /// Writes a Lease if it is still at the resource version that `lease` has.
    pub(crate) async fn replace(&self, lease: &Lease) -> Result<Lease> {
        let name = lease.metadata.name.as_deref().unwrap_or_default();
        self.within(self.api.replace(name, &PostParams::default(), lease))
            .await
    }

    /// The Leases with this value of a label, as they are when the server gets to it: not from any cache.
    pub(crate) async fn list(&self, label: &str, value: &str) -> Result<Vec<Lease>> {
        let params = ListParams::default().labels(&format!("{label}={value}"));
        let list = self.within(self.api.list(&params)).await?;
        Ok(list.items)
    }

    /// Deletes a Lease if it is still as it was read.
    pub(crate) async fn delete(&self, lease: &Lease) -> Result<()> {
        let name = lease.metadata.name.as_deref().unwrap_or_default();
        let params = DeleteParams::default().preconditions(Preconditions {
            resource_version: lease.metadata.resource_version.clone(),
            uid: lease.metadata.uid.clone(),
        });
        self.within(self.api.delete(name, &params)).await.map(drop)
    }

    async fn within<T>(&self, request: impl Future<Output = std::result::Result<T, Error>>) -> Result<T> {
        match timeout(self.timeout, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Error::Api(status))) => Err(RequestError::Refused(status)),
            Ok(Err(error)) => Err(RequestError::Unanswered(error)),
            Err(_) => Err(RequestError::TimedOut(self.timeout)),
        }
    }
}
