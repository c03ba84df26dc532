//! What is special about each built-in kind.

mod admission;
mod apps;
pub(crate) mod autoscaling;
mod batch;
mod certificates;
mod checks;
mod classes;
mod coordination;
mod core;
mod discovery;
mod fields;
pub(crate) mod fill;
mod flow_rules;
mod networking;
mod policy;
mod rbac;
mod rules;
mod server;
mod storage;
#[cfg(test)]
mod tests;
pub mod webhook_client;

use std::sync::Arc;

use trimtab_apimachinery_meta::GroupVersionKind;
use trimtab_apimachinery_schema::Schema;

use self::rules::{Ruled, Rules};
use crate::schema_ref::SchemaRef;
use crate::strategy::Strategy;

/// The strategy of a built-in kind.
pub(crate) fn strategy(gvk: &GroupVersionKind, schema: &SchemaRef) -> Arc<dyn Strategy> {
    if let Some(strategy) = core::strategy(gvk, schema) {
        return strategy;
    }
    let (rules, schema) = match rules_of(gvk) {
        Some(rules) => (rules, schema.clone()),
        // What is left is not stored, or is described elsewhere.
        None => (Rules::ORDINARY, Schema::any().into()),
    };
    Arc::new(Ruled { rules, schema })
}

/// The rules of a kind.
fn rules_of(gvk: &GroupVersionKind) -> Option<Rules> {
    match gvk.group.as_str() {
        "" => core::rules(&gvk.kind),
        "admissionregistration.k8s.io" => admission::rules(&gvk.kind),
        "apiregistration.k8s.io" => server::registration(&gvk.kind),
        "apps" => apps::rules(&gvk.kind),
        "autoscaling" => autoscaling::rules(&gvk.version, &gvk.kind),
        "batch" => batch::rules(&gvk.kind),
        "certificates.k8s.io" => certificates::rules(&gvk.kind),
        "coordination.k8s.io" => coordination::rules(&gvk.kind),
        "discovery.k8s.io" => discovery::rules(&gvk.kind),
        "flowcontrol.apiserver.k8s.io" => server::flow_control(&gvk.kind),
        "networking.k8s.io" => networking::rules(&gvk.kind),
        "policy" => policy::rules(&gvk.kind),
        "node.k8s.io" => classes::node(&gvk.kind),
        "scheduling.k8s.io" => classes::scheduling(&gvk.kind),
        "storage.k8s.io" => storage::rules(&gvk.kind),
        "rbac.authorization.k8s.io" => rbac::rules(&gvk.kind),
        _ => None,
    }
}

/// The warning that requests for a deprecated version carry.
pub(crate) fn deprecation(gvk: &GroupVersionKind) -> Option<String> {
    (gvk.group.is_empty() && gvk.kind == "Endpoints")
        .then(|| "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned())
}
