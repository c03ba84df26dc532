//! What administrators expect of the policy.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::sleep;
use trimtab::controller::Subject;
use trimtab::prelude::*;
use trimtab::testing::{EnvError, TestEnv};

use super::scenario::{foreign_policy, tenant};
use super::{Check, MANAGED_BY, PODS, Policy, TENANT};
use crate::kit::namespace;

const SOON: std::time::Duration = std::time::Duration::from_secs(60);

/// A cluster with the controller and these namespaces.
struct Cluster {
    env: TestEnv,
    namespaces: Api<Namespace>,
}

impl Cluster {
    async fn with(namespaces: &[Namespace]) -> Result<Self, EnvError> {
        let mut env = TestEnv::start().await?;
        env.run(|client, stop| async move { super::manager(client)?.run(stop).await });
        let cluster = Self {
            namespaces: Api::all(env.client()),
            env,
        };
        for namespace in namespaces {
            cluster
                .namespaces
                .create(&PostParams::default(), namespace)
                .await?;
        }
        Ok(cluster)
    }

    fn policies(&self, namespace: &str) -> Api<NetworkPolicy> {
        Api::namespaced(self.env.client(), namespace)
    }

    fn quotas(&self, namespace: &str) -> Api<ResourceQuota> {
        Api::namespaced(self.env.client(), namespace)
    }

    async fn label(&self, name: &str, value: Value) -> Result<(), EnvError> {
        let label = Patch::Merge(json!({"metadata": {"labels": {TENANT: value}}}));
        self.namespaces
            .patch(name, &PatchParams::default(), &label)
            .await?;
        Ok(())
    }

    /// Waits until the namespace is kept apart, and its share is that of one among so many.
    async fn until_one_of(&self, tenants: usize, namespace: &str) -> Result<(), EnvError> {
        self.env
            .eventually(&self.policies(namespace), "default-deny", denies)
            .await?;
        let share = (PODS / tenants).to_string();
        let has_share = |quota: &ResourceQuota| {
            let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
            hard.and_then(|hard| hard.get("pods"))
                .is_some_and(|pods| pods.0 == share)
        };
        self.env
            .eventually(&self.quotas(namespace), "share", has_share)
            .await?;
        Ok(())
    }

    async fn until_nothing_in(&self, namespace: &str) -> Result<(), EnvError> {
        self.env
            .eventually_gone(&self.policies(namespace), "default-deny")
            .await?;
        self.env.eventually_gone(&self.quotas(namespace), "share").await?;
        Ok(())
    }
}

/// Whether nothing is let in.
fn denies(policy: &NetworkPolicy) -> bool {
    let spec = policy.spec.clone().unwrap_or_default();
    spec.ingress.unwrap_or_default().is_empty()
        && spec.policy_types.as_deref() == Some(&["Ingress".to_owned()])
}

#[tokio::test(start_paused = true)]
async fn each_tenant_has_its_share_and_nobody_else_does() -> Result<(), EnvError> {
    let cluster = Cluster::with(&[tenant("red"), namespace("nobody", &[])]).await?;
    cluster.until_one_of(1, "red").await?;
    cluster
        .namespaces
        .create(&PostParams::default(), &tenant("blue"))
        .await?;
    for name in ["red", "blue"] {
        cluster.until_one_of(2, name).await?;
    }
    cluster.until_nothing_in("nobody").await?;

    cluster.label("nobody", json!("true")).await?;
    for name in ["red", "blue", "nobody"] {
        cluster.until_one_of(3, name).await?;
    }
    cluster.label("red", json!(null)).await?;
    cluster.until_nothing_in("red").await?;
    cluster
        .namespaces
        .delete("blue", &DeleteParams::default())
        .await?;
    cluster.env.eventually_gone(&cluster.namespaces, "blue").await?;
    cluster.until_one_of(1, "nobody").await?;
    cluster.env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn what_tenants_change_or_delete_is_repaired() -> Result<(), EnvError> {
    let cluster = Cluster::with(&[tenant("red")]).await?;
    cluster.until_one_of(1, "red").await?;
    let (policies, quotas) = (cluster.policies("red"), cluster.quotas("red"));
    for damage in [
        json!({"spec": {"ingress": [{}]}}),
        json!({"spec": {"policyTypes": ["Egress"]}}),
        json!({"metadata": {"labels": {MANAGED_BY: "somebody"}}, "spec": {"ingress": [{}]}}),
    ] {
        policies
            .patch("default-deny", &PatchParams::default(), &Patch::Merge(&damage))
            .await?;
        let whole = |policy: &NetworkPolicy| {
            denies(policy) && policy.labels().get(MANAGED_BY).map(String::as_str) == Some(super::NAME)
        };
        cluster.env.eventually(&policies, "default-deny", whole).await?;
    }
    let more = Patch::Merge(json!({"spec": {"hard": {"pods": "1000"}}}));
    quotas.patch("share", &PatchParams::default(), &more).await?;
    cluster.until_one_of(1, "red").await?;
    policies.delete("default-deny", &DeleteParams::default()).await?;
    quotas.delete("share", &DeleteParams::default()).await?;
    cluster.until_one_of(1, "red").await?;
    cluster.env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_policy_is_replaced_in_a_tenants_namespace_only() -> Result<(), EnvError> {
    let cluster = Cluster::with(&[namespace("loud", &[]), namespace("nobody", &[])]).await?;
    for (namespace, name) in [
        ("loud", "default-deny"),
        ("loud", "let-it-in"),
        ("nobody", "default-deny"),
    ] {
        let theirs = foreign_policy(namespace, name);
        cluster
            .policies(namespace)
            .create(&PostParams::default(), &theirs)
            .await?;
    }
    cluster.label("loud", json!("true")).await?;
    cluster.until_one_of(1, "loud").await?;
    assert!(
        !denies(&cluster.policies("loud").get("let-it-in").await?),
        "another name is theirs"
    );
    assert!(
        !denies(&cluster.policies("nobody").get("default-deny").await?),
        "so is another namespace"
    );
    cluster.env.shutdown().await
}

/// A reconciler whose errors are heard.
struct Heard<R> {
    reconciler: R,
    errors: Arc<Mutex<Vec<String>>>,
}

impl<S: Subject, R: Reconcile<S>> Reconcile<S> for Heard<R> {
    async fn reconcile(&self, turn: &mut Turn<S>) -> Result<Next> {
        let result = self.reconciler.reconcile(turn).await;
        if let Err(error) = &result {
            self.errors.lock().push(error.to_string());
        }
        result
    }
}

/// An author who forgets to say what is written hears of it from the framework, before the server has to refuse.
#[tokio::test(start_paused = true)]
async fn what_is_not_declared_is_not_even_asked_for() -> Result<(), EnvError> {
    let mut env = TestEnv::start().await?;
    let errors = Arc::<Mutex<Vec<String>>>::default();
    let policy = Heard {
        reconciler: Policy,
        errors: errors.clone(),
    };
    env.run(|client, stop| async move {
        let manager = Manager::new(client).name(super::NAME);
        manager
            .controller(policy)
            .named("forgetful")
            .watches(|namespace: &PartialObjectMeta<Namespace>| vec![Check::Isolation(namespace.name_any())])
            .watches(|_: &NetworkPolicy| Vec::new())
            .start()?;
        manager.run(stop).await
    });
    let namespaces = Api::<Namespace>::all(env.client());
    namespaces.create(&PostParams::default(), &tenant("red")).await?;
    sleep(SOON).await;
    assert_eq!(
        *errors.lock(),
        ["NetworkPolicy is not declared to be written by this controller"]
    );
    env.shutdown().await
}
