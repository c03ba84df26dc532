//! What is decided for Jobs: tables, and whole lives in which each pod is counted once.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobSpec, JobStatus, UncountedTerminatedPods};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::decide::{Plan, decide, end_of};
use super::indexes::Indexes;
use super::seen::Seen;
use crate::workload::pods::{Facts, Phase};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

fn spec(more: Value) -> JobSpec {
    let mut object = json!({"completions": 3, "parallelism": 2, "backoffLimit": 6, "template": {"spec": {"containers": []}}});
    for (field, value) in more.as_object().into_iter().flatten() {
        object[field] = value.clone();
    }
    serde_json::from_value(object).expect("a spec")
}

fn status(value: Value) -> JobStatus {
    serde_json::from_value(value).expect("a status")
}

/// A pod as words say, that ended at 100 if it did: `succeeded tracked`, `failed code=3`, `running index=1`.
fn pod(uid: &str, words: &str) -> Seen {
    let mut seen = Seen {
        namespace: "ns".into(),
        tracked: true,
        finished: at(100),
        ..Seen::default()
    };
    let mut facts = Facts {
        uid: uid.into(),
        name: uid.into(),
        phase: Phase::Running,
        ready: Some(at(50)),
        node: "n".into(),
        ..Facts::default()
    };
    for word in words.split(' ') {
        match word.split_once('=') {
            Some(("index", index)) => seen.index = index.parse().ok(),
            Some(("code", code)) => seen.exits.push(("main".into(), code.parse().expect("a code"))),
            Some(("failures", count)) => seen.failures = count.parse().expect("a count"),
            Some(("condition", type_)) => seen.conditions.push((type_.into(), "True".into())),
            None if word == "succeeded" => facts.phase = Phase::Succeeded,
            None if word == "failed" => facts.phase = Phase::Failed,
            None if word == "going" => facts.deleting = true,
            None if word == "counted" => seen.tracked = false,
            None if word == "running" => {}
            other => panic!("{other:?}"),
        }
    }
    seen.facts = Arc::new(facts);
    seen
}

fn planned(spec: &JobSpec, before: &JobStatus, pods: &[Seen], now: i64) -> Plan {
    let pods: Vec<_> = pods.iter().collect();
    decide(spec, before, false, &pods, at(now))
}

fn conditions(plan: &Plan) -> Vec<String> {
    let conditions = plan.status.conditions.iter().flatten();
    let text = |word: &Option<String>| word.clone().unwrap_or_default();
    conditions
        .map(|c| {
            format!(
                "{} {} {}: {}",
                c.type_,
                c.status,
                text(&c.reason),
                text(&c.message)
            )
        })
        .collect()
}

#[test]
fn indexes_are_written_short() {
    let cases = [
        ("", ""),
        ("1", "1"),
        ("1,2", "1,2"),
        ("1,2,3", "1-3"),
        ("5,1-3,4", "1-5"),
        ("1-3,7", "1-3,7"),
        ("8-99", "8,9"),
        ("x,3-1,2", "2"),
    ];
    for (text, expected) in cases {
        assert_eq!(Indexes::parse(text, 10).to_string(), expected, "{text}");
    }
    let some = Indexes::parse("1-3,6", 10);
    assert_eq!(some.missing(8, 10), [0, 4, 5, 7]);
    assert_eq!(some.missing(8, 2), [0, 4]);
    assert_eq!(
        (
            some.count(),
            some.has(2),
            some.has(4),
            some.in_common(&Indexes::parse("2-6", 10))
        ),
        (4, true, false, 3)
    );
}

#[test]
fn as_many_run_as_may_and_are_needed() {
    let running = |count: usize| {
        (0..count)
            .map(|n| pod(&n.to_string(), "running"))
            .collect::<Vec<_>>()
    };
    #[rustfmt::skip]
    let cases = vec![
        ("as many as may", json!({}), json!({}), vec![], 2, 0),
        ("no more than are left", json!({}), json!({"succeeded": 2}), vec![], 1, 0),
        ("too many", json!({"parallelism": 1}), json!({}), running(3), 0, 2),
        ("none while suspended", json!({"suspend": true}), json!({}), running(2), 0, 2),
        ("any success is enough", json!({"completions": null}), json!({"succeeded": 1}), running(1), 0, 0),
        ("until then all run", json!({"completions": null, "parallelism": 4}), json!({}), running(1), 3, 0),
        ("what goes is replaced", json!({}), json!({}), vec![pod("a", "running going"), pod("b", "running")], 1, 0),
        ("or not, until it has ended", json!({"podReplacementPolicy": "Failed"}), json!({}), vec![pod("a", "running going"), pod("b", "running")], 0, 0),
    ];
    for (why, more, before, pods, create, drop) in cases {
        let plan = planned(&spec(more), &status(before), &pods, 1000);
        assert_eq!((plan.create.len(), plan.drop.len()), (create, drop), "{why}");
    }
}

#[test]
fn failures_are_waited_after() {
    let failed = |ends: &[i64]| -> Vec<Seen> {
        ends.iter()
            .map(|end| Seen {
                finished: at(*end),
                ..pod(&end.to_string(), "failed counted")
            })
            .collect()
    };
    let one = spec(json!({"completions": 1, "parallelism": 1}));
    for (ends, now, again) in [
        (vec![100], 105, Some(110)),
        (vec![100], 110, None),
        (vec![90, 100], 115, Some(120)),
        (vec![90, 95, 100], 150, None),
    ] {
        let plan = planned(&one, &JobStatus::default(), &failed(&ends), now);
        assert_eq!(
            (plan.create.is_empty(), plan.look_again),
            (again.is_some(), again.map(at)),
            "{ends:?} at {now}"
        );
    }
    // A success begins anew.
    let mut pods = failed(&[90, 95, 100]);
    pods.push(Seen {
        finished: at(101),
        ..pod("s", "succeeded counted")
    });
    let plan = planned(
        &spec(json!({"completions": 2})),
        &status(json!({"succeeded": 1})),
        &pods,
        102,
    );
    assert_eq!(plan.create.len(), 1);
}

#[test]
fn each_pod_is_counted_in_steps() {
    let wanted = spec(json!({"completions": 2}));
    let pods = vec![pod("a", "succeeded"), pod("b", "running")];
    let first = planned(&wanted, &JobStatus::default(), &pods, 1000);
    let listed = |plan: &Plan| {
        plan.status
            .uncounted_terminated_pods
            .clone()
            .unwrap_or_default()
            .succeeded
    };
    assert_eq!(
        (first.release.len(), listed(&first), first.status.succeeded),
        (0, Some(vec!["a".to_owned()]), None)
    );
    let second = planned(&wanted, &first.status, &pods, 1001);
    assert_eq!((&*second.release, second.status.succeeded), (&[0][..], None));
    let pods = vec![pod("a", "succeeded counted"), pod("b", "running")];
    let third = planned(&wanted, &second.status, &pods, 1002);
    assert_eq!(
        (third.release.len(), listed(&third), third.status.succeeded),
        (0, None, Some(1))
    );
    // Once it is counted it may as well be gone.
    let fourth = planned(&wanted, &third.status, &[pod("b", "running")], 1003);
    assert_eq!((fourth.status.succeeded, fourth.create.len()), (Some(1), 0));
}

/// Containers may exit with 0 when they are told to stop.
#[test]
fn what_was_listed_as_failed_stays_so_if_it_ends_well() {
    let late = spec(json!({"completions": 1, "activeDeadlineSeconds": 10}));
    let before = status(json!({"startTime": at(900).to_string()}));
    let first = planned(&late, &before, &[pod("a", "running going")], 1000);
    let second = planned(&late, &first.status, &[pod("a", "succeeded going")], 1001);
    for plan in [&first, &second] {
        let listed = plan.status.uncounted_terminated_pods.clone();
        let listed = listed.unwrap_or_default();
        assert_eq!(
            (listed.succeeded, listed.failed),
            (None, Some(vec!["a".to_owned()]))
        );
    }
    let third = planned(
        &late,
        &second.status,
        &[pod("a", "succeeded going counted")],
        1002,
    );
    assert_eq!((third.status.succeeded, third.status.failed), (None, Some(1)));
}

#[test]
fn what_a_success_makes_needless_is_not_counted() {
    let policy = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3,
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]}});
    let pods = [
        pod("a", "succeeded index=0"),
        pod("b", "running index=1"),
        pod("c", "running index=2"),
    ];
    let first = planned(&spec(policy.clone()), &JobStatus::default(), &pods, 1000);
    assert_eq!(first.delete, [1, 2]);
    let going = [
        pod("a", "succeeded index=0 counted"),
        pod("b", "running index=1 going"),
        pod("c", "succeeded index=2 going"),
    ];
    let second = planned(&spec(policy), &first.status, &going, 1001);
    let status = &second.status;
    assert_eq!(
        (status.completed_indexes.as_deref(), status.failed),
        (Some("0"), None)
    );
    assert_eq!(
        status.uncounted_terminated_pods,
        Some(UncountedTerminatedPods::default())
    );
    assert_eq!(second.release, [1, 2]);
}

#[test]
fn ends_are_told_with_their_reasons() {
    let policy = json!({"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
        {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1, 2, 42]}}]});
    let indexed = json!({"completionMode": "Indexed", "backoffLimitPerIndex": 1, "backoffLimit": i32::MAX, "podFailurePolicy": policy});
    let with = |mut value: Value, more: Value| {
        for (field, more) in more.as_object().into_iter().flatten() {
            value[field] = more.clone();
        }
        value
    };
    let fails = |uid: &str, words: &str| pod(uid, &format!("failed {words}"));
    #[rustfmt::skip]
    let cases: Vec<(&str, Value, Value, Vec<Seen>, &str)> = vec![
        ("enough", json!({"completions": 1}), json!({}), vec![pod("a", "succeeded")],
            "SuccessCriteriaMet True CompletionsReached: Reached expected number of succeeded pods"),
        ("too many failures", json!({"backoffLimit": 1}), json!({"failed": 1}), vec![fails("a", "code=1")],
            "FailureTarget True BackoffLimitExceeded: Job has reached the specified backoff limit"),
        ("just not too many", json!({"backoffLimit": 2}), json!({"failed": 1}), vec![fails("a", "code=1")], ""),
        ("too late", json!({"activeDeadlineSeconds": 10}), json!({"startTime": at(990).to_string()}), vec![pod("a", "running")],
            "FailureTarget True DeadlineExceeded: Job was active longer than specified deadline"),
        ("in time", json!({"activeDeadlineSeconds": 11}), json!({"startTime": at(990).to_string()}), vec![pod("a", "running")], ""),
        ("by policy", json!({"podFailurePolicy": policy}), json!({}), vec![fails("a", "code=42")],
            "FailureTarget True PodFailurePolicy: Container main for pod ns/a failed with exit code 42 matching FailJob rule at index 1"),
        ("ignored by policy", json!({"backoffLimit": 0, "podFailurePolicy": policy}), json!({}), vec![fails("a", "code=42 condition=DisruptionTarget")], ""),
        ("too many failed indexes", with(indexed.clone(), json!({"maxFailedIndexes": 0})), json!({}), vec![fails("a", "index=0 code=7")],
            "FailureTarget True MaxFailedIndexesExceeded: Job has exceeded the specified maximal number of failed indexes"),
        ("all indexes are settled", indexed.clone(), json!({"completedIndexes": "1,2"}), vec![fails("a", "index=0 code=1 failures=1")],
            "FailureTarget True FailedIndexes: Job has failed indexes"),
        ("an index may fail again", indexed.clone(), json!({"completedIndexes": "1,2"}), vec![fails("a", "index=0 code=1")], ""),
        ("some successes are enough", json!({"completionMode": "Indexed", "successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 1}]}}),
            json!({}), vec![pod("a", "succeeded index=1")], "SuccessCriteriaMet True SuccessPolicy: Matched rules at index 0"),
        ("others are not", json!({"completionMode": "Indexed", "successPolicy": {"rules": [{"succeededIndexes": "0-1"}]}}),
            json!({}), vec![pod("a", "succeeded index=1")], ""),
    ];
    for (why, more, before, pods, expected) in cases {
        let plan = planned(&spec(more), &status(before), &pods, 1000);
        assert_eq!(conditions(&plan).join("; "), expected, "{why}");
        let active = pods.iter().filter(|pod| pod.facts.is_active()).count();
        assert_eq!(
            plan.delete.len(),
            if expected.is_empty() { 0 } else { active },
            "{why}"
        );
    }
}

#[test]
fn indexes_are_each_somebodys() {
    let wanted = spec(
        json!({"completionMode": "Indexed", "completions": 5, "parallelism": 5, "backoffLimitPerIndex": 2}),
    );
    let pods = vec![
        pod("a", "running index=0"),
        pod("b", "failed index=1 code=1"),
        pod("c", "succeeded index=2"),
        pod("d", "failed index=3 code=1 failures=2"),
        pod("e", "running index=4"),
    ];
    let before = status(json!({"completedIndexes": "2", "failedIndexes": "3"}));
    let plan = planned(&wanted, &before, &pods, 1000);
    assert_eq!(plan.create.len(), 1);
    assert_eq!(
        (plan.create[0].index, plan.create[0].failures),
        (Some(1), Some((1, 0)))
    );
    // The failed one stays until its successor is there, the settled ones go.
    assert!(
        !plan.release.contains(&1) && plan.release.contains(&2),
        "{plan:?}"
    );
    assert_eq!(plan.status.failed_indexes.as_deref(), Some("3"));

    let plain = spec(json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2}));
    let doubled = vec![
        pod("a", "running index=0"),
        pod("b", "running index=0"),
        pod("c", "running index=7"),
        pod("d", "running"),
    ];
    assert_eq!(
        planned(&plain, &JobStatus::default(), &doubled, 1000).drop.len(),
        3
    );
}

proptest! {
    /// *Counted once*, *Never too many*, *Done*: through any life a Job that is let end ends, with as many successes as it asked for
    /// and as many failures as there were.
    #[test]
    fn jobs_end_with_the_right_numbers(
        steps in prop::collection::vec((0..6_u8, 0..6_usize), 0..60),
        completions in 1..6_i32, parallelism in 1..4_i32, indexed in any::<bool>(),
    ) {
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        let wanted = spec(json!({"completions": completions, "parallelism": parallelism, "backoffLimit": 1000, "completionMode": mode}));
        let mut pods: Vec<Seen> = Vec::new();
        let mut stored = JobStatus::default();
        let (mut made, mut failures) = (0, 0);
        let calm = std::iter::repeat_n((9, 0), 100);
        for (step, (what, which)) in steps.into_iter().chain(calm).enumerate() {
            let set = |pod: &mut Seen, phase| {
                if !pod.facts.has_ended() {
                    let facts = Facts { phase, ..(*pod.facts).clone() };
                    pod.facts = Arc::new(facts);
                    return true;
                }
                false
            };
            match what {
                0 => if let Some(pod) = pods.get_mut(which) {
                    let counts = !pod.facts.deleting;
                    failures += i32::from(set(pod, Phase::Failed) && counts);
                },
                1 => if let Some(pod) = pods.get_mut(which) { set(pod, Phase::Succeeded); },
                // What is being deleted has failed, whatever becomes of it.
                3 => if let Some(pod) = pods.get_mut(which).filter(|pod| pod.facts.is_active()) {
                    pod.facts = Arc::new(Facts { deleting: true, ..(*pod.facts).clone() });
                    failures += 1;
                },
                // What is counted may be collected at any time.
                2 => pods.retain(|pod| pod.tracked || !pod.facts.has_ended()),
                9 => pods.iter_mut().for_each(|pod| { set(pod, Phase::Succeeded); }),
                _ => {}
            }
            if end_of(Some(&stored)).is_some() {
                break;
            }
            let plan = planned(&wanted, &stored, &pods, 1_000_000 + 10_000 * step as i64);
            for at in &plan.release {
                pods[*at].tracked = false;
            }
            let mut places: BTreeSet<_> = plan.delete.iter().chain(&plan.drop).copied().collect();
            while let Some(at) = places.pop_last() {
                pods.remove(at);
            }
            for new in &plan.create {
                made += 1;
                pods.push(Seen { index: new.index, ..pod(&made.to_string(), "running") });
            }
            let active = pods.iter().filter(|pod| pod.facts.is_active()).count();
            prop_assert!(active <= parallelism as usize, "never too many");
            stored = plan.status;
        }
        let end = end_of(Some(&stored)).map(|end| end.type_.clone());
        prop_assert_eq!(end.as_deref(), Some("Complete"), "done: {:?}", stored);
        prop_assert_eq!(stored.failed.unwrap_or_default(), failures, "counted once");
        prop_assert!(stored.succeeded.unwrap_or_default() >= completions);
        prop_assert!(pods.iter().all(|pod| !pod.tracked));
    }
}
