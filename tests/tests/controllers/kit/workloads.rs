//! Plays the controllers of StatefulSets and Deployments: what is asked for is there at once, and says so.

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, StatefulSet, StatefulSetStatus,
};
use kube::Client;
use tokio_util::sync::CancellationToken;
use trimtab::prelude::*;

/// Plays until `stop`.
pub(crate) async fn play(client: Client, stop: CancellationToken) -> Result<()> {
    let manager = Manager::new(client).name("workloads");
    manager.controller::<StatefulSet, _>(Players).start()?;
    manager.controller::<Deployment, _>(Players).start()?;
    manager.run(stop).await
}

struct Players;

impl Reconcile<StatefulSet> for Players {
    async fn reconcile(&self, turn: &mut Turn<StatefulSet>) -> Result<Next> {
        let Some(set) = turn.latest() else {
            return Ok(Next::Done);
        };
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        turn.status_as(|status: &mut StatefulSetStatus| {
            status.observed_generation = set.metadata.generation;
            status.replicas = replicas;
            status.ready_replicas = Some(replicas);
        })?;
        Ok(Next::Done)
    }
}

impl Reconcile<Deployment> for Players {
    async fn reconcile(&self, turn: &mut Turn<Deployment>) -> Result<Next> {
        let Some(deployment) = turn.latest() else {
            return Ok(Next::Done);
        };
        let replicas = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1);
        turn.status_as(|status: &mut DeploymentStatus| {
            status.observed_generation = deployment.metadata.generation;
            status.replicas = Some(replicas);
            status.ready_replicas = Some(replicas);
            status.conditions.get_or_insert_with(|| {
                vec![DeploymentCondition {
                    type_: "Available".to_owned(),
                    status: "True".to_owned(),
                    ..DeploymentCondition::default()
                }]
            });
        })?;
        Ok(Next::Done)
    }
}
