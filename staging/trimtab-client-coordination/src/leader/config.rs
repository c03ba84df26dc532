//! What an election is about, and what would be wrong with it.

use std::time::Duration;

use trimtab_apimachinery_meta::names::{dns1123_label, dns1123_subdomain};
use uuid::Uuid;

use crate::lease::{InvalidTiming, Timing, host_name};

/// How long work may take to end once it is told to; controller-runtime's graceful shutdown.
const GRACE: Duration = Duration::from_secs(30);

/// What an election is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectionConfig {
    /// The namespace of the Lease. None, the default: the client's own, which is the pod's in a cluster and that of the
    /// kubeconfig's context elsewhere.
    pub namespace: Option<String>,
    /// The name of the Lease: all candidates for one leadership have the same.
    pub name: String,
    /// Tells this candidate from others; people see it as the Lease's holder. Default: host name, `_` and a random UUID.
    pub identity: String,
    /// How long leadership lasts and how often it is renewed.
    pub timing: Timing,
    /// How long the work may take to end once it is told to, if the lease lasts that long; then it is dropped. While the work
    /// ends after a stop the lease is renewed. Default: 30 seconds, controller-runtime's figure.
    pub grace: Duration,
}

/// Why an election cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidElection {
    /// The times do not fit together.
    #[error("timing of the election cannot work")]
    Timing(#[from] InvalidTiming),
    /// No Lease can have such a name.
    #[error("name of the election's lease is {name:?}, which {why}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such namespace.
    #[error("namespace of the election's lease is {namespace:?}, which {why}")]
    Namespace {
        /// What was given.
        namespace: String,
        /// What is wrong with it.
        why: String,
    },
    /// A Lease without holder is free.
    #[error("identity of the candidate is empty: give each candidate a name of its own")]
    NoIdentity,
}

impl ElectionConfig {
    /// An election by the Lease of this name, in the client's namespace, with the defaults of all else.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            namespace: None,
            name: name.into(),
            identity: format!("{}_{}", host_name(), Uuid::new_v4()),
            timing: Timing::default(),
            grace: GRACE,
        }
    }

    /// Checks all of it.
    ///
    /// # Errors
    /// [`InvalidElection`] says what is wrong.
    pub fn validate(&self) -> Result<(), InvalidElection> {
        self.timing.validate()?;
        if let Some(why) = dns1123_subdomain(&self.name).into_iter().next() {
            let name = self.name.clone();
            return Err(InvalidElection::Name { name, why });
        }
        let namespace = self.namespace.as_ref();
        let why = namespace.and_then(|namespace| dns1123_label(namespace).into_iter().next());
        if let (Some(namespace), Some(why)) = (namespace, why) {
            let namespace = namespace.clone();
            return Err(InvalidElection::Namespace { namespace, why });
        }
        if self.identity.is_empty() {
            return Err(InvalidElection::NoIdentity);
        }
        Ok(())
    }
}
