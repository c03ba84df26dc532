//! How many pods may be taken.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::{PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use trimtab_apimachinery_meta::conditions;

use crate::workload::amount::{self, Round};
use crate::workload::clock::later;
use crate::workload::pods::Facts;

/// How long a pod that was let be evicted may take to go before it counts again. kube-controller-manager's figure.
const DELETION: Duration = Duration::from_secs(2 * 60);

/// What the controllers of pods want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scale {
    /// So many pods, all together.
    pub(super) wanted: i32,
    /// Whether some pods have no controller.
    pub(super) unmanaged: bool,
    /// Why it is not known how many some controller wants.
    pub(super) failure: Option<String>,
}

/// What is to be said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) status: PodDisruptionBudgetStatus,
    /// Why nothing can be said.
    pub(super) failure: Option<String>,
    /// Whether pods without a controller make the numbers wrong.
    pub(super) unmanaged: bool,
    /// The pods that should be gone by now.
    pub(super) not_deleted: Vec<String>,
    pub(super) look_again: Option<Timestamp>,
}

/// Decides.
pub(super) fn decide(
    spec: &PodDisruptionBudgetSpec,
    before: &PodDisruptionBudgetStatus,
    generation: Option<i64>,
    pods: &[&Facts],
    scale: &Scale,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan {
        status: before.clone(),
        ..Plan::default()
    };
    let count = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    let of_scale = |amount: &IntOrString| amount::of(amount, scale.wanted, Round::Up).unwrap_or_default();
    let (by_scale, expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (true, scale.wanted, (scale.wanted - of_scale(most)).max(0)),
        (None, Some(IntOrString::Int(least))) => (false, count, *least),
        (None, Some(least)) => (true, scale.wanted, of_scale(least)),
        (None, None) => (false, 0, 0),
    };
    if let Some(failure) = scale.failure.clone().filter(|_| by_scale) {
        plan.status.disruptions_allowed = Some(0);
        say(
            &mut plan.status,
            "False",
            "SyncFailed",
            &failure,
            before.observed_generation,
            now,
        );
        plan.failure = Some(failure);
        return plan;
    }
    plan.unmanaged = by_scale && scale.unmanaged;
    let mut disrupted = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !pod.deleting) {
        let since = before
            .disrupted_pods
            .as_ref()
            .and_then(|pods| pods.get(&*pod.name));
        let Some(since) = since else { continue };
        let due = later(since.0, DELETION);
        if due < now {
            plan.not_deleted.push(pod.name.to_string());
        } else {
            plan.look_again = Some(plan.look_again.map_or(due, |soonest| soonest.min(due)));
            disrupted.insert(pod.name.to_string(), since.clone());
        }
    }
    let is_healthy = |pod: &&&Facts| !pod.deleting && pod.is_ready() && !disrupted.contains_key(&*pod.name);
    let healthy = i32::try_from(pods.iter().filter(is_healthy).count()).unwrap_or(i32::MAX);
    let allowed = if expected <= 0 {
        0
    } else {
        (healthy - desired).max(0)
    };
    plan.status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: generation,
        conditions: before.conditions.clone(),
    };
    let (status, reason) = if allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    say(&mut plan.status, status, reason, "", generation, now);
    plan
}

fn say(
    status: &mut PodDisruptionBudgetStatus,
    holds: &str,
    reason: &str,
    message: &str,
    observed_generation: Option<i64>,
    now: Timestamp,
) {
    let new = conditions::new("DisruptionAllowed", holds, reason, message, now);
    let conditions = status.conditions.get_or_insert_default();
    conditions::set(
        conditions,
        Condition {
            observed_generation,
            ..new
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    #[test]
    fn budgets_are_what_is_more_than_enough() {
        let pods: Vec<Facts> = (0..5)
            .map(|number| Facts {
                name: format!("p{number}").into(),
                ready: (number < 4).then(|| at(1)),
                ..Facts::default()
            })
            .collect();
        let pods: Vec<&Facts> = pods.iter().collect();
        let scale = Scale {
            wanted: 5,
            ..Scale::default()
        };
        let odd = Scale {
            wanted: 5,
            unmanaged: true,
            failure: Some("found no controllers for pod \"p0\"".to_owned()),
        };
        let evicted = json!({"disruptedPods": {"p0": at(950).to_string(), "p1": at(800).to_string()}});
        #[rustfmt::skip]
        let cases: Vec<(Value, Value, &Scale, [i32; 4], &str)> = vec![
            (json!({"minAvailable": 3}), json!({}), &scale, [5, 3, 4, 1], "SufficientPods"),
            (json!({"minAvailable": 3}), json!({}), &odd, [5, 3, 4, 1], "SufficientPods"),
            (json!({"minAvailable": "50%"}), json!({}), &scale, [5, 3, 4, 1], "SufficientPods"),
            (json!({"maxUnavailable": 1}), json!({}), &scale, [5, 4, 4, 0], "InsufficientPods"),
            (json!({"maxUnavailable": "30%"}), json!({}), &scale, [5, 3, 4, 1], "SufficientPods"),
            (json!({"maxUnavailable": 9}), json!({}), &scale, [5, 0, 4, 4], "SufficientPods"),
            (json!({"minAvailable": 3}), evicted.clone(), &scale, [5, 3, 3, 0], "InsufficientPods"),
            (json!({"maxUnavailable": 1}), json!({}), &odd, [0, 0, 0, 0], "SyncFailed"),
        ];
        for (spec, before, scale, expected, reason) in cases {
            let mut status =
                json!({"currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0, "disruptionsAllowed": 0});
            for (field, value) in before.as_object().into_iter().flatten() {
                status[field] = value.clone();
            }
            let parsed = serde_json::from_value(spec.clone()).expect("a spec");
            let before = serde_json::from_value(status).expect("a status");
            let plan = decide(&parsed, &before, Some(1), &pods, scale, at(1000));
            let status = &plan.status;
            let found = [
                status.expected_pods,
                status.desired_healthy,
                status.current_healthy,
                status.disruptions_allowed,
            ];
            assert_eq!(found.map(Option::unwrap_or_default), expected, "{spec}");
            assert_eq!(
                status
                    .conditions
                    .as_ref()
                    .map(|conditions| &*conditions[0].reason),
                Some(reason),
                "{spec}"
            );
            if before.disrupted_pods.is_some() {
                assert_eq!(
                    (plan.not_deleted, plan.look_again),
                    (vec!["p1".to_owned()], Some(at(1070)))
                );
            }
        }
        let none = decide(
            &serde_json::from_value(json!({"minAvailable": 0})).expect("a spec"),
            &PodDisruptionBudgetStatus::default(),
            None,
            &[],
            &Scale::default(),
            at(1),
        );
        assert_eq!(none.status.disruptions_allowed, Some(0));
    }
}
