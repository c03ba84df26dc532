//! Admission: what an API server does to objects before it stores them, beyond their own kinds' rules.
//!
//! A chain of small plugins, each of which fills in or refuses. The order is fixed, since plugins build on what
//! earlier ones have filled in: limits before service accounts, priorities before tolerations; `plugins` has it, and which
//! of them are on. A plugin reads other objects through a [`Reader`] and keeps no state of its own. After the plugins come
//! `policies`, whose expressions users write, and then `webhooks`, which ask others. Last of all [`Quotas`] counts, as a
//! part of what is written.

mod certificates;
mod deny;
pub(crate) mod dynamic;
mod event_rate;
mod images;
#[cfg(test)]
mod kit;
mod limit_ranger;
mod namespaces;
mod node_restriction;
mod nodes;
mod owner_references;
mod plugins;
mod pod_resize;
pub mod pod_security;
mod pods;
pub(crate) mod policies;
mod priority;
mod quota;
mod reader;
mod runtime_class;
mod service_accounts;
mod services;
mod storage_class;
#[cfg(test)]
mod tests;
pub(crate) mod timings;
mod toleration_restriction;
mod tolerations;
mod volumes;
pub(crate) mod webhooks;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;
use trimtab_apimachinery_meta::ApiError;

pub use certificates::{CertificateApproval, CertificateSigning, CertificateSubject};
pub use deny::AlwaysDeny;
pub use event_rate::EventRateLimit;
pub use images::AlwaysPullImages;
pub use limit_ranger::LimitRanger;
pub use namespaces::{NamespaceExists, NamespaceLifecycle};
pub use node_restriction::NodeRestriction;
pub use nodes::{PodTopologyLabels, TaintNodes};
pub use owner_references::OwnerPermissions;
pub use plugins::{PluginError, Plugins};
pub use pod_resize::PodResize;
pub use pod_security::{PodSecurity, PodSecurityConfig};
pub use pods::{ExtendedResourceToleration, LimitAntiAffinity, PodNodeSelector};
use policies::Policies;
pub use priority::Priority;
pub use quota::{Limited, Quotas};
pub use reader::{Reader, StoreReader};
pub use runtime_class::RuntimeClass;
pub use service_accounts::ServiceAccounts;
pub use services::{DefaultIngressClass, DenyExternalIps};
pub use storage_class::DefaultStorageClass;
use timings::{AdmissionTimings, Step, Timings};
pub use toleration_restriction::TolerationRestriction;
pub use tolerations::DefaultTolerations;
pub use volumes::{ClaimResize, StorageProtection};
use webhooks::Webhooks;

use crate::registry::hooks::{Admission, Attributes, Operation};
use crate::registry::managed::keep_ownership;
use crate::registry::meta;

/// Plugins, one after the other, then policies, then webhooks. All change first, then all have their last word; the first
/// refusal ends it. What policies and webhooks have changed is shown to the plugins again, and to policies and webhooks that
/// want to know.
#[derive(Debug, Default)]
pub struct Chain {
    plugins: Vec<Plugin>,
    timings: Arc<AdmissionTimings>,
    dynamic: Option<Dynamic>,
    asked: Asked,
    /// Whether everything is refused once policies and webhooks are there.
    denies: bool,
}

#[derive(Clone, Debug)]
struct Plugin {
    plugin: Arc<dyn Admission>,
    /// Of those that kube-apiserver has a name for.
    timings: Option<Arc<Timings>>,
}

impl Plugin {
    /// Counts how long it has taken since then, and answers what time it is now.
    fn took(&self, attributes: &Attributes, step: Step, rejected: bool, since: Instant) -> Instant {
        match &self.timings {
            Some(timings) => timings.add(attributes.operation, step, rejected, since),
            None => since,
        }
    }
}

/// What is made by objects in the store.
#[derive(Clone, Debug)]
struct Dynamic {
    policies: Arc<Policies>,
    webhooks: Arc<Webhooks>,
}

/// Which of them are asked.
#[derive(Clone, Copy, Debug)]
struct Asked {
    mutating_policies: bool,
    mutating_webhooks: bool,
    validating_policies: bool,
    validating_webhooks: bool,
}

impl Default for Asked {
    /// All.
    fn default() -> Self {
        Self {
            mutating_policies: true,
            mutating_webhooks: true,
            validating_policies: true,
            validating_webhooks: true,
        }
    }
}

impl Chain {
    /// The same chain with one more plugin at its end.
    #[must_use]
    pub fn then(mut self, plugin: impl Admission + 'static) -> Self {
        self.plugins.push(Plugin {
            plugin: Arc::new(plugin),
            timings: None,
        });
        self
    }

    /// The same chain, whose last plugin is told apart by this name.
    #[must_use]
    fn named(mut self, name: &'static str) -> Self {
        // Not all names are of plugins that are in the chain.
        if let Some(last) = self.plugins.last_mut().filter(|last| last.timings.is_none()) {
            last.timings = Some(self.timings.plugin(name));
        }
        self
    }

    /// How long it takes, as it is read with the metrics.
    pub(crate) fn timings(&self) -> timings::Encoded {
        timings::Encoded(self.timings.clone())
    }

    /// The same plugins, with these policies and webhooks after them.
    #[must_use]
    pub(crate) fn with_dynamic(&self, policies: Arc<Policies>, webhooks: Arc<Webhooks>) -> Self {
        let chain = Self {
            plugins: self.plugins.clone(),
            timings: self.timings.clone(),
            dynamic: Some(Dynamic { policies, webhooks }),
            asked: self.asked,
            denies: self.denies,
        };
        if self.denies {
            chain.then(AlwaysDeny).named("AlwaysDeny")
        } else {
            chain
        }
    }

    async fn plugins(
        &self,
        attributes: &Attributes,
        object: &mut Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let mut since = Instant::now();
        for it in self.plugins.iter().filter(|it| it.plugin.concerns(attributes)) {
            let done = it.plugin.mutate(attributes, object, old, warnings).await;
            since = it.took(attributes, Step::Admit, done.is_err(), since);
            done?;
        }
        Ok(())
    }

    async fn admit(
        &self,
        attributes: &Attributes,
        object: &mut Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        self.plugins(attributes, object, old, warnings).await?;
        let Some(Dynamic { policies, webhooks }) = &self.dynamic else {
            return Ok(());
        };
        let (mut by_policies, mut by_webhooks) = (policies::Round::default(), webhooks::Round::default());
        if self.asked.mutating_policies {
            by_policies = policies.first_round(attributes).await?;
        }
        if self.asked.mutating_webhooks {
            by_webhooks = webhooks.first_round(attributes).await?;
        }
        if by_policies.is_empty() && by_webhooks.is_empty() {
            return Ok(());
        }
        let owned = object["metadata"]["managedFields"].clone();
        policies.mutate(&mut by_policies, attributes, object, old).await?;
        webhooks
            .mutate(&mut by_webhooks, attributes, Some(object), old, warnings)
            .await?;
        if by_policies.progress.has_changed() || by_webhooks.progress.has_changed() {
            self.plugins(attributes, object, old, warnings).await?;
            by_policies.progress.again(object);
            policies.mutate(&mut by_policies, attributes, object, old).await?;
            by_webhooks.progress.again(object);
            webhooks
                .mutate(&mut by_webhooks, attributes, Some(object), old, warnings)
                .await?;
        }
        keep_ownership(object, owned, warnings);
        Ok(())
    }

    async fn decide(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let asked = self.asked;
        if let (Operation::Delete, Some(Dynamic { webhooks, .. })) = (attributes.operation, &self.dynamic)
            && asked.mutating_webhooks
        {
            // Mutating webhooks are asked about deletes too, though there is nothing to change.
            let mut round = webhooks.first_round(attributes).await?;
            webhooks
                .mutate(&mut round, attributes, None, old, warnings)
                .await?;
        }
        let mut since = Instant::now();
        for it in self.plugins.iter().filter(|it| it.plugin.concerns(attributes)) {
            let done = it.plugin.validate(attributes, object, old, warnings).await;
            since = it.took(attributes, Step::Validate, done.is_err(), since);
            done?;
        }
        let Some(Dynamic { policies, webhooks }) = &self.dynamic else {
            return Ok(());
        };
        if asked.validating_policies {
            policies.validate(attributes, object, old, warnings).await?;
        }
        if asked.validating_webhooks {
            webhooks.validate(attributes, object, old, warnings).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Admission for Chain {
    async fn mutate(
        &self,
        attributes: &Attributes,
        object: &mut Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let since = Instant::now();
        let done = self.admit(attributes, object, old, warnings).await;
        self.timings
            .all
            .add(attributes.operation, Step::Admit, done.is_err(), since);
        done
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let since = Instant::now();
        let done = self.decide(attributes, object, old, warnings).await;
        self.timings
            .all
            .add(attributes.operation, Step::Validate, done.is_err(), since);
        done
    }
}

/// Whether the request is about this resource itself, not about what lies below its objects.
fn is(attributes: &Attributes, group: &str, plural: &str) -> bool {
    attributes.resource.group == group
        && attributes.resource.plural == plural
        && attributes.subresource.is_empty()
}

/// Whether the request creates an object of this resource.
fn creates(attributes: &Attributes, group: &str, plural: &str) -> bool {
    attributes.operation == Operation::Create && is(attributes, group, plural)
}

/// 403: `why`, about the object of the request.
fn forbidden(attributes: &Attributes, object: Option<&Value>, why: impl std::fmt::Display) -> ApiError {
    let of = |field: &str| object.map(|o| meta::text(o, field)).unwrap_or_default();
    let name = [
        attributes.name.as_str(),
        of("name"),
        of("generateName"),
        "Unknown",
    ]
    .into_iter()
    .find(|name| !name.is_empty())
    .unwrap_or_default();
    ApiError::forbidden(&attributes.resource.group_resource(), name, why)
}
