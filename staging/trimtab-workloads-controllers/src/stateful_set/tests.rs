//! What is decided for StatefulSets: tables of single decisions, and whole lives of which the order is checked at every step.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::claims::{Holder, claims, mount, owners};
use super::decide::{Plan, Which, Wish, decide, ordinal, status};
use crate::workload::pods::{Facts, Phase};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

fn set(spec: Value) -> StatefulSet {
    let mut object = json!({"metadata": {"name": "db", "namespace": "ns", "uid": "u"},
        "spec": {"replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c"}], "volumes": [{"name": "data"}, {"name": "x"}]}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    serde_json::from_value(object).expect("a StatefulSet")
}

fn wish(spec: Value) -> Wish {
    Wish::of(set(spec).spec.as_ref().expect("a spec"), false, "old", "new")
}

/// A pod as a word says: `old` and `new` are ready pods of these revisions.
fn pod(word: &str) -> Facts {
    let mut facts = Facts {
        phase: Phase::Running,
        ready: Some(at(100)),
        revision: "new".into(),
        ..Facts::default()
    };
    for part in word.split(' ') {
        match part {
            "old" | "new" => facts.revision = part.into(),
            "going" => facts.deleting = true,
            "pending" => (facts.phase, facts.ready) = (Phase::Pending, None),
            "unready" => facts.ready = None,
            "failed" => (facts.phase, facts.ready) = (Phase::Failed, None),
            "fresh" => facts.ready = Some(at(195)),
            other => panic!("{other}"),
        }
    }
    facts
}

fn planned(wish: &Wish, pods: &[(i32, &str)]) -> Plan {
    let facts: Vec<_> = pods.iter().map(|(ordinal, word)| (*ordinal, pod(word))).collect();
    let facts: Vec<_> = facts.iter().map(|(ordinal, facts)| (*ordinal, facts)).collect();
    decide(wish, &facts, at(200))
}

#[test]
fn pods_come_and_go_in_order() {
    let ordered = json!({});
    let parallel = json!({"podManagementPolicy": "Parallel"});
    let slow = json!({"minReadySeconds": 10});
    let partition = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    let by_hand = json!({"updateStrategy": {"type": "OnDelete"}});
    let wide = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 2}}});
    let late = json!({"ordinals": {"start": 5}});
    let one = json!({"replicas": 1});
    let one_parallel = json!({"replicas": 1, "podManagementPolicy": "Parallel"});
    let made = |ordinals: &[i32]| {
        ordinals
            .iter()
            .map(|ordinal| (*ordinal, Which::Update))
            .collect::<Vec<_>>()
    };
    type Case<'a> = (
        &'a str,
        &'a Value,
        &'a [(i32, &'a str)],
        Vec<(i32, Which)>,
        &'a [i32],
    );
    #[rustfmt::skip]
    let cases: Vec<Case<'_>> = vec![
        ("the first one", &ordered, &[], made(&[0]), &[]),
        ("waits until it is ready", &ordered, &[(0, "unready")], vec![], &[]),
        ("then the next", &ordered, &[(0, "new")], made(&[1]), &[]),
        ("waits until it is available", &slow, &[(0, "fresh")], vec![], &[]),
        ("all at once", &parallel, &[(1, "unready")], made(&[0, 2]), &[]),
        ("a gap is closed before anything else", &ordered, &[(0, "old"), (2, "old")], made(&[1]), &[]),
        ("what failed is made anew", &ordered, &[(0, "failed"), (1, "new")], vec![], &[0]),
        ("one that goes is awaited", &ordered, &[(0, "going"), (1, "new")], vec![], &[]),
        ("other ordinals", &late, &[(0, "new"), (5, "new")], made(&[6]), &[]),
        ("the last one goes first", &one, &[(0, "new"), (1, "new"), (2, "new")], vec![], &[2]),
        ("and alone", &one, &[(0, "new"), (1, "new"), (2, "going")], vec![], &[]),
        ("but none waits for one that failed", &one, &[(0, "new"), (1, "failed"), (2, "failed")], vec![], &[2]),
        ("nor for it to be well itself", &one, &[(0, "new"), (1, "failed"), (2, "pending")], vec![], &[2]),
        ("not before all are well", &one, &[(0, "unready"), (1, "new")], vec![], &[]),
        ("unless it is the one that is not", &one, &[(0, "new"), (1, "new"), (2, "unready")], vec![], &[2]),
        ("but not another one", &one, &[(0, "new"), (1, "unready"), (2, "unready")], vec![], &[]),
        ("all go at once", &one_parallel, &[(0, "unready"), (1, "new"), (2, "unready")], vec![], &[2, 1]),
        ("an update begins at the end", &ordered, &[(0, "old"), (1, "old"), (2, "old")], vec![], &[2]),
        ("and waits for each", &ordered, &[(0, "old"), (1, "old"), (2, "new unready")], vec![], &[]),
        ("one after the other", &ordered, &[(0, "old"), (1, "old"), (2, "new")], vec![], &[1]),
        ("to the partition", &partition, &[(0, "old"), (1, "old"), (2, "new")], vec![], &[]),
        ("below it the old are made", &partition, &[(1, "old"), (2, "new")], vec![(0, Which::Current)], &[]),
        ("by hand", &by_hand, &[(0, "old"), (1, "old"), (2, "old")], vec![], &[]),
        ("by hand, the newest is made", &by_hand, &[(0, "old"), (1, "old")], made(&[2]), &[]),
        ("several at a time", &wide, &[(0, "old"), (1, "old"), (2, "old")], vec![], &[2, 1]),
        ("as many as are not missing", &wide, &[(0, "old"), (1, "old"), (2, "old")], vec![], &[2, 1]),
        ("in parallel an update waits for what is made", &parallel, &[(0, "old"), (1, "old")], made(&[2]), &[]),
        ("done", &ordered, &[(0, "new"), (1, "new"), (2, "new")], vec![], &[]),
    ];
    for (why, spec, pods, create, delete) in cases {
        let plan = planned(&wish(spec.clone()), pods);
        let deleted: Vec<_> = plan.delete.iter().map(|at| pods[*at].0).collect();
        assert_eq!((plan.create, &*deleted), (create, delete), "{why}");
    }
    let mut ending = wish(json!({}));
    ending.deleting = true;
    assert_eq!(planned(&ending, &[(0, "new")]), Plan::default());
}

#[test]
fn names_have_ordinals() {
    for (name, expected) in [
        ("db-0", Some(0)),
        ("db-12", Some(12)),
        ("db-01", None),
        ("db-x", None),
        ("other-0", None),
        ("db", None),
        ("db--1", None),
        ("db-+1", None),
    ] {
        assert_eq!(ordinal("db", name), expected, "{name}");
    }
}

#[test]
fn the_status_counts_by_revision() {
    let of = |words: &[&str]| {
        let facts: Vec<_> = words.iter().map(|word| pod(word)).collect();
        let facts: Vec<_> = facts.iter().map(|facts| (0, facts)).collect();
        let status = status(
            &wish(json!({})),
            &StatefulSetStatus::default(),
            &facts,
            Some(7),
            at(200),
        );
        let count = |count: Option<i32>| count.unwrap_or_default();
        (
            [
                status.replicas,
                count(status.ready_replicas),
                count(status.current_replicas),
                count(status.updated_replicas),
            ],
            status.current_revision.unwrap_or_default(),
        )
    };
    assert_eq!(
        of(&["old", "old", "new unready"]),
        ([3, 2, 2, 1], "old".to_owned())
    );
    assert_eq!(of(&["old", "old going", "new"]), ([3, 3, 1, 1], "old".to_owned()));
    assert_eq!(of(&["new", "new", "new"]), ([3, 3, 3, 3], "new".to_owned()));
}

#[test]
fn claims_belong_to_whom_they_go_with() {
    let policy = |deleted: &str, scaled: &str| {
        set(json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}))
    };
    let whose = |set: &StatefulSet, wanted: bool, there: Value| {
        let meta =
            serde_json::from_value(json!({"name": "data-db-0", "ownerReferences": there})).expect("metadata");
        let holder = Holder {
            name: "db-0",
            uid: "p",
            wanted,
        };
        let owners = owners(&meta, set, &holder)?;
        Some(
            owners
                .iter()
                .map(|owner| owner.kind.clone())
                .collect::<Vec<_>>()
                .join(" "),
        )
    };
    let own = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "u", "controller": true, "blockOwnerDeletion": true});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": "db-0", "uid": "p", "controller": true, "blockOwnerDeletion": true});
    let other = json!({"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "o"});
    let gone =
        json!({"apiVersion": "v1", "kind": "Pod", "name": "db-0", "uid": "before", "controller": true});
    let some = |text: &str| Some(text.to_owned());
    let (keep, with_set, with_size, with_both) = (
        policy("Retain", "Retain"),
        policy("Delete", "Retain"),
        policy("Retain", "Delete"),
        policy("Delete", "Delete"),
    );
    let cases = [
        ("kept", &keep, true, json!([]), None),
        ("let go", &keep, true, json!([own, other]), some("Other")),
        (
            "goes with the set",
            &with_set,
            true,
            json!([]),
            some("StatefulSet"),
        ),
        ("so it does", &with_set, false, json!([own]), None),
        (
            "goes with the pod once that is to go",
            &with_size,
            false,
            json!([]),
            some("Pod"),
        ),
        ("not before", &with_size, true, json!([pod]), some("")),
        (
            "with one or the other",
            &with_both,
            true,
            json!([pod]),
            some("StatefulSet"),
        ),
        ("or the other", &with_both, false, json!([own]), some("Pod")),
        ("it waits for its end", &with_both, true, json!([gone]), None),
    ];
    for (why, set, wanted, there, expected) in cases {
        assert_eq!(whose(set, wanted, there), expected, "{why}");
    }
    let claim = &claims(&keep, 4)[0];
    assert_eq!(claim.metadata.name.as_deref(), Some("data-db-4"));
    assert_eq!(
        claim.metadata.labels,
        Some([("app".to_owned(), "db".to_owned())].into())
    );
    let mut template = keep.spec.clone().expect("a spec").template;
    mount(&keep, &mut template, 4);
    let volumes = serde_json::to_value(template.spec.expect("a pod").volumes).expect("volumes");
    assert_eq!(
        volumes,
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-4"}}, {"name": "x"}])
    );
}

proptest! {
    /// *One of each*, *In order*, *One at a time*, *Done*: through any life, and when nothing more happens to it, an end.
    #[test]
    fn sets_keep_their_order_and_get_there(
        steps in prop::collection::vec((0..8_u8, 0..6_i32), 0..60), ordered in any::<bool>(),
    ) {
        let mut pods: Vec<(i32, Facts)> = Vec::new();
        let mut wish = wish(json!({"podManagementPolicy": if ordered { "OrderedReady" } else { "Parallel" }}));
        let revisions = ["r0", "r1"];
        (wish.current, wish.update) = (revisions[0].to_owned(), revisions[0].to_owned());
        let calm = std::iter::repeat_n((9, 0), 200);
        for (what, which) in steps.into_iter().chain(calm) {
            match what {
                0 => wish.replicas = which,
                1 => wish.update = revisions[usize::from(which > 2)].to_owned(),
                2 => if let Some((_, pod)) = pods.get_mut(which as usize) { pod.ready = None },
                3 => if let Some((_, pod)) = pods.get_mut(which as usize) { (pod.phase, pod.ready) = (Phase::Failed, None) },
                4 => pods.retain(|(_, pod)| !pod.deleting),
                9 => {
                    pods.retain(|(_, pod)| !pod.deleting);
                    for (_, pod) in pods.iter_mut().filter(|(_, pod)| pod.phase != Phase::Failed) {
                        (pod.phase, pod.ready) = (Phase::Running, Some(at(0)));
                    }
                }
                _ => if let Some((_, pod)) = pods.get_mut(which as usize).filter(|(_, pod)| pod.phase != Phase::Failed) {
                    (pod.phase, pod.ready) = (Phase::Running, Some(at(0)));
                },
            }
            let seen: Vec<_> = pods.iter().map(|(ordinal, pod)| (*ordinal, pod)).collect();
            let plan = decide(&wish, &seen, at(1));
            if ordered {
                prop_assert!(plan.create.len() + plan.delete.len() <= 1, "one at a time: {plan:?}");
                for (made, _) in &plan.create {
                    let well = |ordinal: i32| seen.iter().any(|(at, pod)| *at == ordinal && pod.is_ready() && !pod.deleting);
                    prop_assert!((0..*made).all(well), "in order");
                }
            }
            let deleted: Vec<_> = plan.delete.clone();
            for at in deleted {
                pods[at].1.deleting = true;
            }
            for (ordinal, which) in plan.create {
                let revision = match which { Which::Current => &wish.current, Which::Update => &wish.update };
                pods.push((ordinal, Facts { revision: revision.as_str().into(), ..pod("pending") }));
            }
            let ordinals: BTreeSet<_> = pods.iter().map(|(ordinal, _)| *ordinal).collect();
            prop_assert_eq!(ordinals.len(), pods.len(), "one of each");
        }
        let left: BTreeSet<_> = pods.iter().map(|(ordinal, _)| *ordinal).collect();
        prop_assert_eq!(left, (0..wish.replicas).collect());
        prop_assert!(pods.iter().all(|(_, pod)| *pod.revision == *wish.update && pod.is_ready()), "{pods:?}");
    }
}
