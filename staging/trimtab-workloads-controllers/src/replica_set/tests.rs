//! Which pods are made and which go, as tables, and what holds of all of them.

use std::collections::HashMap;

use jiff::Timestamp;
use proptest::prelude::*;

use super::decide::{BURST, Change, Tally, change, tally};
use crate::workload::pods::{Facts, Phase};

const NOW: i64 = 1_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

fn pod(name: &str) -> Facts {
    Facts {
        name: name.into(),
        uid: name.into(),
        phase: Phase::Running,
        created: at(NOW - 1000),
        node: "n".into(),
        ready: Some(at(NOW - 900)),
        ..Facts::default()
    }
}

fn decided(wanted: i32, pods: &[Facts]) -> Change {
    let pods: Vec<&Facts> = pods.iter().collect();
    let on_node = || {
        let mut on_node = HashMap::new();
        for pod in &pods {
            *on_node.entry(pod.node.clone()).or_default() += 1;
        }
        on_node
    };
    change(wanted, &pods, at(NOW), on_node)
}

/// In each pair the first is given up before the second.
#[test]
fn what_is_worth_least_goes_first() {
    let cases: Vec<(&str, Facts, Facts)> = vec![
        (
            "no node",
            Facts {
                node: "".into(),
                ..pod("a")
            },
            Facts {
                phase: Phase::Pending,
                ready: None,
                ..pod("b")
            },
        ),
        (
            "pending",
            Facts {
                phase: Phase::Pending,
                ..pod("a")
            },
            Facts {
                phase: Phase::Unknown,
                ready: None,
                ..pod("b")
            },
        ),
        (
            "unknown",
            Facts {
                phase: Phase::Unknown,
                ..pod("a")
            },
            Facts {
                ready: None,
                ..pod("b")
            },
        ),
        (
            "not ready",
            Facts {
                ready: None,
                cost: 100,
                ..pod("a")
            },
            pod("b"),
        ),
        (
            "cheap",
            Facts { cost: -1, ..pod("a") },
            Facts {
                ready: Some(at(NOW)),
                ..pod("b")
            },
        ),
        (
            "ready for a shorter time",
            Facts {
                ready: Some(at(NOW - 10)),
                ..pod("a")
            },
            Facts {
                restarts: 9,
                ..pod("b")
            },
        ),
        (
            "restarted",
            Facts {
                restarts: 2,
                created: at(NOW - 5000),
                ..pod("a")
            },
            Facts {
                restarts: 1,
                ..pod("b")
            },
        ),
        (
            "newer",
            Facts {
                created: at(NOW - 10),
                ..pod("a")
            },
            pod("b"),
        ),
        (
            "as old, by its UID",
            Facts {
                ready: Some(at(NOW - 900)),
                created: at(NOW - 1001),
                ..pod("a")
            },
            pod("b"),
        ),
    ];
    for (why, first, second) in cases {
        let there = [second.clone(), first.clone()];
        assert_eq!(decided(1, &there), Change::Delete(vec![1]), "{why}");
        let there = [first, second];
        assert_eq!(decided(1, &there), Change::Delete(vec![0]), "{why}");
    }
}

/// In kube-controller-manager's order a goes before b, b before c, and c before a. Sorting must not depend on who comes first,
/// and standard sorts panic on such circles.
#[test]
fn pods_of_one_magnitude_are_in_no_circle() {
    let made = |name: &str, ready: i64, created: i64| Facts {
        ready: Some(at(NOW - ready)),
        created: at(NOW - created),
        ..pod(name)
    };
    let (a, b, c) = (made("a", 900, 9000), made("b", 901, 1000), made("c", 900, 1000));
    for order in [[&a, &b, &c], [&b, &c, &a], [&c, &a, &b], [&c, &b, &a]] {
        let there = order.map(Clone::clone);
        let Change::Delete(first) = decided(2, &there) else {
            panic!("one has to go");
        };
        assert_eq!(&*there[first[0]].name, "b", "{order:?}");
    }
}

#[test]
fn company_on_a_node_can_be_spared() {
    let alone = Facts {
        node: "m".into(),
        ..pod("a")
    };
    let there = [alone, pod("b"), pod("c")];
    assert_eq!(decided(1, &there), Change::Delete(vec![1, 2]));
}

#[test]
fn what_has_ended_or_goes_does_not_count() {
    let there = [
        Facts {
            phase: Phase::Failed,
            ..pod("a")
        },
        Facts {
            phase: Phase::Succeeded,
            ..pod("b")
        },
        Facts {
            deleting: true,
            ..pod("c")
        },
        Facts {
            ready: Some(at(NOW - 5)),
            ..pod("d")
        },
        Facts {
            ready: None,
            ..pod("e")
        },
    ];
    assert_eq!(decided(3, &there), Change::Create(1));
    assert_eq!(decided(2, &there), Change::Nothing);
    let pods: Vec<&Facts> = there.iter().collect();
    let expected = Tally {
        replicas: 2,
        labelled: 1,
        ready: 1,
        available: 0,
        terminating: 1,
    };
    assert_eq!(tally(&pods, |at| at == 3, 10, at(NOW)), expected);
    assert_eq!(tally(&pods, |at| at == 3, 5, at(NOW)).available, 1);
}

#[test]
fn a_turn_makes_and_deletes_so_many_at_most() {
    assert_eq!(decided(10_000, &[]), Change::Create(BURST));
    let many: Vec<_> = (0..2 * BURST).map(|n| pod(&n.to_string())).collect();
    assert!(matches!(decided(0, &many), Change::Delete(at) if at.len() == BURST));
}

fn any_pod() -> impl Strategy<Value = Facts> {
    let phases = prop::sample::select(vec![
        Phase::Pending,
        Phase::Running,
        Phase::Unknown,
        Phase::Succeeded,
        Phase::Failed,
    ]);
    let times = (0..100_i64, 0..20_i64);
    (
        0..100_u32,
        phases,
        any::<bool>(),
        any::<bool>(),
        0..3_usize,
        times,
        0..3_i32,
    )
        .prop_map(
            |(uid, phase, ready, deleting, node, (age, until_ready), restarts)| Facts {
                uid: uid.to_string().into(),
                phase,
                deleting,
                created: at(NOW - age),
                ready: ready.then(|| at(NOW - age + until_ready)),
                node: ["", "n", "m"][node].into(),
                restarts,
                ..pod("p")
            },
        )
}

proptest! {
    /// Which pods go does not depend on how they are listed: they are all worth more or less than each other.
    #[test]
    fn the_same_pods_go_in_whatever_order_they_come(
        listed in prop::collection::vec((any_pod(), any::<u64>()), 21..120),
        share in 1..10_usize,
    ) {
        let named = |(n, (pod, _)): (usize, &(Facts, u64))| Facts { uid: n.to_string().into(), ..pod.clone() };
        let pods: Vec<_> = listed.iter().enumerate().map(named).collect();
        let mut shuffled: Vec<_> = pods.iter().zip(&listed).collect();
        shuffled.sort_by_key(|(_, (_, place))| *place);
        let shuffled: Vec<_> = shuffled.into_iter().map(|(pod, _)| pod.clone()).collect();
        let wanted = (pods.len() / 10 * share) as i32;
        let gone = |pods: &[Facts]| -> std::collections::BTreeSet<_> {
            match decided(wanted, pods) {
                Change::Delete(places) => places.into_iter().map(|at| pods[at].uid.clone()).collect(),
                Change::Nothing | Change::Create(_) => Default::default(),
            }
        };
        prop_assert_eq!(gone(&pods), gone(&shuffled));
    }

    /// *Exact*: once it is done there are as many active pods as are wanted, and none was deleted that did not count.
    #[test]
    fn there_are_as_many_as_are_wanted(wanted in 0..20_i32, pods in prop::collection::vec(any_pod(), 0..20)) {
        let active = pods.iter().filter(|pod| pod.is_active()).count();
        let after = match decided(wanted, &pods) {
            Change::Nothing => active,
            Change::Create(count) => active + count,
            Change::Delete(places) => {
                let distinct: std::collections::BTreeSet<_> = places.iter().collect();
                prop_assert_eq!(distinct.len(), places.len());
                prop_assert!(places.iter().all(|at| pods[*at].is_active()));
                // Nothing that is kept is worth less than what goes.
                let kept_unready = (0..pods.len()).any(|at| {
                    pods[at].is_active() && !places.contains(&at) && pods[at].node.is_empty()
                });
                let gone_on_node = places.iter().any(|at| !pods[*at].node.is_empty());
                prop_assert!(!(kept_unready && gone_on_node));
                active - places.len()
            }
        };
        prop_assert_eq!(after, wanted as usize);
    }
}
