//! What a group is and how its members behave, and what would be wrong with it.

use std::time::Duration;

use trimtab_apimachinery_meta::names::{dns1123_label, dns1123_subdomain, label_value};
use uuid::Uuid;

use crate::lease::{InvalidTiming, Timing};

/// How long work may take to end once it is told to; controller-runtime's graceful shutdown.
const GRACE: Duration = Duration::from_secs(30);

/// A member of a group that shares keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// The namespace of the members' Leases. None, the default: the client's own, which is the pod's in a cluster and that of
    /// the kubeconfig's context elsewhere.
    pub namespace: Option<String>,
    /// The name of the group: all members that share one set of keys have the same. It begins the names of their Leases, and
    /// is the value of their label [`GROUP_LABEL`](super::GROUP_LABEL).
    pub group: String,
    /// Tells this member from others, and decides which partitions it is given. It ends the name of its Lease: lower case
    /// letters, digits, `-` and `.`. Default: a random UUID. The name of a pod of a StatefulSet is a good one, too: then a
    /// pod that comes back is given what it had.
    pub identity: String,
    /// How long membership lasts and how often it is renewed.
    pub timing: Timing,
    /// How long work may take to end once it is told to; then what is [run](super::Held::run) is dropped. Default: 30 seconds,
    /// controller-runtime's figure.
    pub grace: Duration,
}

/// Why a membership cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMember {
    /// The times do not fit together.
    #[error("timing of the membership cannot work")]
    Timing(#[from] InvalidTiming),
    /// No Lease can be of such a group.
    #[error("group is {group:?}, which as a label {why}")]
    Group {
        /// What was given.
        group: String,
        /// What is wrong with it.
        why: String,
    },
    /// No Lease can have a name that ends with this.
    #[error("name of the member's lease is {name:?}, which {why}")]
    Name {
        /// The group and the identity that were given.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such namespace.
    #[error("namespace of the members' leases is {namespace:?}, which {why}")]
    Namespace {
        /// What was given.
        namespace: String,
        /// What is wrong with it.
        why: String,
    },
}

impl MemberConfig {
    /// A member of this group, in the client's namespace, with the defaults of all else.
    pub fn new(group: impl Into<String>) -> Self {
        Self {
            namespace: None,
            group: group.into(),
            identity: Uuid::new_v4().to_string(),
            timing: Timing::default(),
            grace: GRACE,
        }
    }

    /// Checks all of it.
    ///
    /// # Errors
    /// [`InvalidMember`] says what is wrong.
    pub fn validate(&self) -> Result<(), InvalidMember> {
        self.timing.validate()?;
        let empty = self.group.is_empty().then(|| "must not be empty".to_owned());
        if let Some(why) = empty.into_iter().chain(label_value(&self.group)).next() {
            let group = self.group.clone();
            return Err(InvalidMember::Group { group, why });
        }
        let name = self.lease_name();
        if let Some(why) = dns1123_subdomain(&name).into_iter().next() {
            return Err(InvalidMember::Name { name, why });
        }
        let namespace = self.namespace.as_ref();
        let why = namespace.and_then(|namespace| dns1123_label(namespace).into_iter().next());
        if let (Some(namespace), Some(why)) = (namespace, why) {
            let namespace = namespace.clone();
            return Err(InvalidMember::Namespace { namespace, why });
        }
        Ok(())
    }

    /// The name of this member's Lease.
    pub(super) fn lease_name(&self) -> String {
        format!("{}-{}", self.group, self.identity)
    }
}
