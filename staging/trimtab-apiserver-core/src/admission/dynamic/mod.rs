//! What webhooks and policies have in common: both are made by objects in the store, at any time.
//!
//! `configurations` follows those objects, `matching` decides which of them a request concerns, `versions` gives objects the
//! version that one wants, `namespace` and `request` are what each may look at besides, and `rounds` says who is asked
//! again when others have changed the object.

mod configurations;
mod matching;
mod namespace;
mod request;
mod rounds;
pub(crate) mod versions;

use std::sync::Arc;

use trimtab_apimachinery_schema::structural;
use trimtab_apiserver_auth::{Attributes as Asked, UserInfo};
use trimtab_apiserver_storage::Store;

pub(crate) use self::configurations::{Configurations, Kinds};
#[cfg(test)]
pub(crate) use self::matching::{NamespaceLabels, namespace_labels, rule_matches};
pub(crate) use self::matching::{
    Rule, Sight, is_exempt, is_exempt_from_policies, objects_match, selector, sight, texts, wants_equivalents,
};
pub(crate) use self::namespace::Namespace;
pub(crate) use self::request::request;
pub(crate) use self::rounds::Progress;
use super::Reader;
use crate::ambient::Entropy;
use crate::auth::Authorizer;
use crate::registry::{Caches, ResourceTable};

/// What plugins, policies and webhooks need of the server around them.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) resources: Arc<ResourceTable>,
    pub(crate) reader: Arc<dyn Reader>,
    /// What params are read from.
    pub(crate) caches: Arc<Caches>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) entropy: Entropy,
}

/// Asks the server's authorizer on behalf of an expression.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) user: UserInfo,
}

impl structural::Authorizer for Asking {
    fn decide(&self, check: &structural::Check) -> structural::Decision {
        let account;
        let user = match &check.service_account {
            Some((namespace, name)) => {
                account = UserInfo::of_service_account(namespace, name).authenticated();
                &account
            }
            None => &self.user,
        };
        let asked = Asked {
            verb: check.verb.clone(),
            group: check.group.clone(),
            version: if check.path.is_none() {
                "*".to_owned()
            } else {
                String::new()
            },
            resource: check.resource.clone(),
            subresource: check.subresource.clone(),
            namespace: check.namespace.clone(),
            name: check.name.clone(),
            is_resource: check.path.is_none(),
            path: check.path.clone().unwrap_or_default(),
        };
        let decision = self.authorizer.authorize(user, &asked);
        structural::Decision {
            allowed: decision.allowed,
            reason: decision.reason,
            error: String::new(),
        }
    }
}
