//! What happens to namespaces, and what must hold meanwhile.

use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use kube::Client;
use kube::core::{ApiResource, ObjectMeta};
use serde_json::json;
use trimtab::prelude::*;
use trimtab::testing::{EnvError, TestEnv};

use super::{MANAGED_BY, NAME, TENANT};
use crate::kit::acts::{Act, create, delete, patch};
use crate::kit::history::Moment;
use crate::kit::scenario::Scenario;
use crate::kit::{named, namespace};

/// Namespaces, and those who own them.
#[derive(Default)]
pub(crate) struct Policy;

/// A tenant's Namespace.
pub(super) fn tenant(name: &str) -> Namespace {
    namespace(name, &[(TENANT, "true")])
}

/// A NetworkPolicy that somebody else has made, which lets everything in.
pub(super) fn foreign_policy(namespace: &str, name: &str) -> NetworkPolicy {
    let anything = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]});
    NetworkPolicy {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            ..named(name)
        },
        spec: serde_json::from_value::<NetworkPolicySpec>(anything).ok(),
    }
}

impl Scenario for Policy {
    async fn prepare(&self, _: &mut TestEnv) -> Result<(), EnvError> {
        Ok(())
    }

    fn manager(&self, client: Client) -> Result<Manager> {
        super::manager(client)
    }

    fn kinds(&self) -> Vec<ApiResource> {
        vec![
            ApiResource::erase::<Namespace>(&()),
            ApiResource::erase::<NetworkPolicy>(&()),
            ApiResource::erase::<ResourceQuota>(&()),
        ]
    }

    fn script(&self) -> Vec<Act> {
        let label = |value| json!({"metadata": {"labels": {TENANT: value}}});
        let unmarked = json!({"metadata": {"labels": {MANAGED_BY: null}}});
        vec![
            create(&tenant("red")),
            create(&tenant("blue")),
            create(&namespace("nobody", &[])),
            create(&namespace("green", &[])),
            create(&foreign_policy("nobody", "default-deny")),
            patch::<NetworkPolicy>("red/default-deny", json!({"spec": {"ingress": [{}]}})),
            patch::<Namespace>("green", label(json!("true"))),
            delete::<ResourceQuota>("blue/share"),
            create(&namespace("loud", &[])),
            create(&foreign_policy("loud", "default-deny")),
            create(&foreign_policy("loud", "let-it-in")),
            patch::<ResourceQuota>("red/share", json!({"spec": {"hard": {"pods": "1000"}}})),
            patch::<Namespace>("loud", label(json!("true"))),
            patch::<NetworkPolicy>("green/default-deny", unmarked),
            delete::<Namespace>("blue"),
            patch::<Namespace>("red", label(json!(null))),
            create(&tenant("blue")),
            delete::<NetworkPolicy>("blue/default-deny"),
            create(&tenant("brief")),
            delete::<Namespace>("brief"),
        ]
    }

    /// *Tenants only*: nothing is touched where no tenant is or ever was, not even where the names are the program's own.
    fn always(&self, moment: &Moment<'_>) -> Result<(), String> {
        let made = [moment.changed("NetworkPolicy"), moment.changed("ResourceQuota")];
        for object in made.into_iter().flatten() {
            let ours = object["metadata"]["labels"][MANAGED_BY] == NAME;
            let place = &object["metadata"]["namespace"];
            let theirs = [
                "nobody",
                "default",
                "kube-system",
                "kube-public",
                "kube-node-lease",
            ];
            if ours && theirs.iter().any(|name| place == name) {
                return Err(format!("Tenants only: something was made in {place}"));
            }
        }
        Ok(())
    }
}
