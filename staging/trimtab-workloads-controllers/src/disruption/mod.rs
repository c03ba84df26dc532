//! The controller of disruption budgets: how many pods may be taken now, in the status that evictions go by.

mod decide;
mod scale;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Selector;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::{Cached, Delta};
use trimtab_client_coordination::events::Note;
use trimtab_controller_runtime::predicate::Predicate;
use trimtab_controller_runtime::source::{Caches, Source, Watch};
use trimtab_controller_runtime::{Manager, Next, Reconcile, Reconciled, Result, Turn};

use crate::resources::Recent;
use crate::workload::clock::{Clock, until};
use crate::workload::pods::{Facts, facts};
use crate::workload::template;
use decide::decide;
use scale::scale;

/// The controller's name.
pub(crate) const NAME: &str = "disruption-controller";

/// How many are worked on at once.
const WORKERS: usize = 4;

/// Describes the controller.
pub(crate) fn describe(manager: &Manager, options: &crate::Options) -> Result<()> {
    let matters = Predicate::new(|delta: &Delta<Pod>| match delta {
        Delta::Updated { old, new } => counts(old) != counts(new) || old.belonging() != new.belonging(),
        _ => true,
    });
    manager
        .controller::<PodDisruptionBudget, _>(Budgets {
            clock: options.clock,
            served: Recent::default(),
        })
        .named(NAME)
        .reporting_as("controllermanager")
        .source(Source::watch_related(Watch::new().when(matters), of_pod))
        .source(scaled::<Deployment>())
        .source(scaled::<ReplicaSet>())
        .source(scaled::<StatefulSet>())
        .source(scaled::<ReplicationController>())
        .workers(WORKERS)
        .start()
        .map(drop)
}

/// What a budget counts of a pod.
fn counts(pod: &Cached<Pod>) -> (bool, bool) {
    let facts = facts(pod);
    (facts.is_ready(), facts.deleting)
}

/// The budgets that select a pod.
fn of_pod(pod: &Cached<Pod>, caches: &Caches) -> Vec<ObjectKey> {
    let belonging = pod.belonging();
    let budgets = caches
        .store::<PodDisruptionBudget>()
        .map(|budgets| budgets.list_in(pod.namespace()));
    let selecting = budgets.into_iter().flatten().filter(|budget| {
        let selector = selector(budget);
        selector.is_some_and(|selector| belonging.is_selected_by(&selector))
    });
    selecting.map(|budget| budget.key().clone()).collect()
}

fn selector(budget: &Cached<PodDisruptionBudget>) -> Option<trimtab_apimachinery_meta::LabelSelector> {
    template::selector(&budget.read(["spec", "selector"]).ok().flatten()?)
}

/// Watches owners of pods: when one is given another size, all budgets of its namespace are looked at.
fn scaled<T: Reconciled>() -> Source<ObjectKey> {
    let matters = Predicate::part(["spec", "replicas"]);
    Source::watch_related(
        Watch::<T>::new().when(matters),
        |object: &Cached<T>, caches: &Caches| {
            let budgets = caches
                .store::<PodDisruptionBudget>()
                .map(|budgets| budgets.list_in(object.namespace()));
            budgets
                .into_iter()
                .flatten()
                .map(|budget| budget.key().clone())
                .collect()
        },
    )
}

struct Budgets {
    clock: Clock,
    served: Recent,
}

impl Reconcile<PodDisruptionBudget> for Budgets {
    async fn reconcile(&self, turn: &mut Turn<PodDisruptionBudget>) -> Result<Next> {
        let Some(budget) = turn.latest() else {
            return Ok(Next::Done);
        };
        let Some(spec) = &budget.spec else {
            return Ok(Next::Done);
        };
        let selector = spec.selector.as_ref().and_then(template::selector);
        let namespace = turn.key().namespace.clone();
        let mut pods = turn.store::<Pod>()?.list_in(&namespace);
        pods.retain(|pod| {
            let belonging = pod.belonging();
            selector
                .as_ref()
                .is_some_and(|selector| belonging.is_selected_by(selector))
        });
        let scale = scale(turn, &self.served, &pods).await?;
        let seen: Vec<_> = pods.iter().map(facts).collect();
        let seen: Vec<&Facts> = seen.iter().map(|facts| &**facts).collect();
        let now = self.clock.now();
        let before = budget.status.clone().unwrap_or_default();
        let plan = decide(spec, &before, budget.metadata.generation, &seen, &scale, now);
        if pods.is_empty() {
            turn.event(Note::normal("NoPods", "Sync", "No matching pods found"));
        }
        if let Some(error) = &plan.failure {
            let message = format!("Failed to calculate the number of expected pods: {error}");
            turn.event(Note::warning("CalculateExpectedPodCountFailed", "Sync", message));
        }
        if plan.unmanaged {
            let text = spec.selector.as_ref().map(spelt).unwrap_or_default();
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {text}) were found to be unmanaged. As a result, the status \
                 of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods \
                 please set \".spec.minAvailable\" field of the PDB to an integer value."
            );
            turn.event(Note::warning("UnmanagedPods", "Sync", message));
        }
        for name in &plan.not_deleted {
            if let Some(pod) = pods.iter().find(|pod| pod.name() == name) {
                let message = format!(
                    "Pod was expected by PDB {} to be deleted but it wasn't",
                    turn.key()
                );
                turn.event_on(&*pod.decode()?, Note::warning("NotDeleted", "Sync", message));
            }
        }
        turn.put_status(budget.status.as_ref(), &plan.status)?;
        Ok(match plan.look_again {
            Some(then) => Next::After(until(then, now)),
            None => Next::Done,
        })
    }
}

/// A selector as events of kube-controller-manager spell it.
fn spelt(selector: &Selector) -> String {
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels.map(|(name, value)| format!("{name}: {value},")).collect();
    let expressions = selector.match_expressions.iter().flatten();
    let expressions: String = expressions
        .map(|one| {
            let values = one.values.clone().unwrap_or_default().join(" ");
            format!(
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},",
                one.key, one.operator
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_spelt_as_kubernetes_does() {
        let selector = serde_json::from_value(serde_json::json!({"matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "a", "operator": "In", "values": ["x", "y"]}]}));
        assert_eq!(
            spelt(&selector.expect("a selector")),
            "&LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{\
             LabelSelectorRequirement{Key:a,Operator:In,Values:[x y],},},}"
        );
    }
}
