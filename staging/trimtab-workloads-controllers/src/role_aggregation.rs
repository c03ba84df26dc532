//! The controller of aggregated cluster roles: those whose rules are the rules of others that they select by labels.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;
use trimtab_apimachinery_meta::{LabelSelector, ObjectKey};
use trimtab_client_cache::Cached;
use trimtab_controller_runtime::source::{Caches, Source, Watch};
use trimtab_controller_runtime::{Manager, Next, Reconcile, Result, Turn};

use crate::workload::template;

/// The controller's name.
pub(crate) const NAME: &str = "clusterrole-aggregation-controller";

/// Describes the controller.
pub(crate) fn describe(manager: &Manager, _: &crate::Options) -> Result<()> {
    manager
        .controller::<ClusterRole, _>(Aggregation)
        .named(NAME)
        .source(Source::watch_related(Watch::new(), selecting))
        .start()
        .map(drop)
}

/// The roles that select a role.
fn selecting(role: &Cached<ClusterRole>, caches: &Caches) -> Vec<ObjectKey> {
    let belonging = role.belonging();
    let roles = caches.store::<ClusterRole>().map(|roles| roles.list());
    let found = roles.into_iter().flatten().filter(|other| {
        let selectors = selectors(other);
        selectors
            .iter()
            .any(|selector| belonging.is_selected_by(selector))
    });
    found.map(|other| other.key().clone()).collect()
}

/// What a role selects, read when it is asked for first.
fn selectors(role: &Cached<ClusterRole>) -> std::sync::Arc<Vec<LabelSelector>> {
    role.derived(|role| {
        let path = ["aggregationRule", "clusterRoleSelectors"];
        let selectors: Option<Vec<_>> = role.read(path).ok().flatten();
        selectors
            .iter()
            .flatten()
            .filter_map(template::selector)
            .collect()
    })
}

struct Aggregation;

impl Reconcile<ClusterRole> for Aggregation {
    async fn reconcile(&self, turn: &mut Turn<ClusterRole>) -> Result<Next> {
        let store = turn.store::<ClusterRole>()?;
        let (Some(role), Some(cached)) = (turn.latest(), store.get(turn.key())) else {
            return Ok(Next::Done);
        };
        if role.aggregation_rule.is_none() {
            return Ok(Next::Done);
        }
        let mut rules: Vec<PolicyRule> = Vec::new();
        let all = store.list();
        for selector in &*selectors(&cached) {
            for other in all.iter().filter(|other| other.name() != cached.name()) {
                if !other.belonging().is_selected_by(selector) {
                    continue;
                }
                for rule in other.decode()?.rules.iter().flatten() {
                    if !rules.contains(rule) {
                        rules.push(rule.clone());
                    }
                }
            }
        }
        if role.rules.clone().unwrap_or_default() != rules {
            turn.merge_latest(json!({ "rules": rules })).await?;
        }
        Ok(Next::Done)
    }
}
