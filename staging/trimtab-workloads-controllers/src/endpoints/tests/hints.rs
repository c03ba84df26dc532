//! Which zone each endpoint is for: tables of single decisions, and what holds of all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{addresses, after, pod, service};
use crate::endpoints::hints::{Allotted, Counts, Shares, are_asked_for};
use crate::endpoints::seen::Seen;
use crate::endpoints::slices::{Plan, decide};
use crate::endpoints::zones::Known;

fn asking() -> Service {
    let mut asking = service(json!({}));
    let annotations = [(
        "service.kubernetes.io/topology-mode".to_owned(),
        "Auto".to_owned(),
    )];
    asking.metadata.annotations = Some(annotations.into());
    asking
}

fn shares(cpus: &[(&str, i128)]) -> Shares {
    let cpus: Vec<_> = cpus
        .iter()
        .map(|(zone, cpus)| ((*zone).to_owned(), *cpus))
        .collect();
    Shares::of(cpus.iter().map(|(zone, cpus)| (zone, *cpus)))
}

/// A pod on the only node of a zone.
fn pod_in(zone: &str, number: usize) -> Seen {
    Seen {
        node: zone.into(),
        ..pod(number)
    }
}

/// So many pods in each zone.
fn pods_in(zones: &[(&str, usize)]) -> Vec<Seen> {
    let zones = zones.iter().flat_map(|(zone, count)| vec![*zone; *count]);
    zones
        .enumerate()
        .map(|(number, zone)| pod_in(zone, number))
        .collect()
}

/// The plan, where nodes are called as their zones; `none` has no zone.
fn planned(
    service: &Service,
    pods: &[Seen],
    there: &[Arc<EndpointSlice>],
    shares: &Shares,
    before: &Allotted,
) -> Plan {
    let pods: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
    let zone = |node: &str| Some((node != "none").then(|| node.to_owned()));
    let known = Known {
        shares: Arc::new(shares.clone()),
        before: before.clone(),
    };
    decide(service, &pods, there, zone, &known)
}

fn endpoints(slices: &[Arc<EndpointSlice>]) -> impl Iterator<Item = &Endpoint> {
    slices.iter().flat_map(|slice| slice.endpoints.iter().flatten())
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|is| is.ready) == Some(true)
}

/// The zones that an endpoint is for.
fn zones(endpoint: &Endpoint) -> Vec<&str> {
    let hints = endpoint.hints.iter();
    let zones = hints.flat_map(|hints| hints.for_zones.iter().flatten());
    zones.map(|zone| &*zone.name).collect()
}

/// How many endpoints are for each zone.
fn counted(slices: &[Arc<EndpointSlice>]) -> Counts {
    let mut counts = Counts::new();
    for zone in endpoints(slices).flat_map(zones) {
        *counts.entry(zone.to_owned()).or_default() += 1;
    }
    counts
}

fn told(plan: &Plan) -> Vec<String> {
    let notes = plan.notes.iter();
    notes
        .map(|note| format!("{:?} {} {}", note.severity, note.reason, note.message))
        .collect()
}

#[test]
fn the_older_annotation_goes_before_the_newer() {
    const NEW: &str = "service.kubernetes.io/topology-mode";
    const OLD: &str = "service.kubernetes.io/topology-aware-hints";
    let cases = [
        (vec![], false),
        (vec![(NEW, "Auto")], true),
        (vec![(NEW, "auto")], true),
        (vec![(NEW, "AUTO")], false),
        (vec![(NEW, "Disabled")], false),
        (vec![(OLD, "auto")], true),
        (vec![(OLD, "Auto"), (NEW, "Disabled")], true),
        (vec![(OLD, ""), (NEW, "Auto")], false),
    ];
    for (annotations, expected) in cases {
        let mut asking = service(json!({}));
        let all = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        asking.metadata.annotations = Some(all.collect());
        assert_eq!(are_asked_for(&asking), expected, "{annotations:?}");
    }
}

#[test]
fn zones_have_endpoints_by_their_share_of_cpus() {
    let two: &[_] = &[("a", 1), ("b", 1)];
    let three: &[_] = &[("a", 1), ("b", 1), ("c", 1)];
    #[rustfmt::skip]
    let cases: Vec<(&str, &[_], &[_], Result<&[_], &str>)> = vec![
        ("each its own", two, &[("a", 1), ("b", 1)], Ok(&[("a", 1), ("b", 1)])),
        ("half of those of one", two, &[("a", 4)], Ok(&[("a", 2), ("b", 2)])),
        ("its own, though another would be a little more even", &[("a", 45), ("b", 55)], &[("a", 1), ("b", 1)],
            Ok(&[("a", 1), ("b", 1)])),
        ("what both have half of stays", three, &[("a", 5), ("b", 4), ("c", 4)], Ok(&[("a", 5), ("b", 4), ("c", 4)])),
        ("from where there are most", &[("a", 35), ("b", 35), ("c", 30)], &[("a", 5), ("b", 2), ("c", 3)],
            Ok(&[("a", 4), ("b", 3), ("c", 3)])),
        ("to where there are fewest", &[("a", 500), ("b", 560), ("c", 540)], &[("a", 16)], Ok(&[("a", 5), ("b", 6), ("c", 5)])),
        ("a small zone has one", &[("a", 99), ("b", 1)], &[("a", 12)], Ok(&[("a", 11), ("b", 1)])),
        ("a zone without CPUs keeps what is not needed", two, &[("a", 4), ("b", 4), ("f", 1)],
            Ok(&[("a", 4), ("b", 4), ("f", 1)])),
        // What kube-controller-manager leaves, though it is beyond the threshold.
        ("a small zone has one even if the large has hardly more than its share", &[("a", 999), ("b", 1)], &[("a", 6)],
            Ok(&[("a", 5), ("b", 1)])),
        ("many that have a third too much", &[("a", 6), ("b", 17), ("c", 17), ("d", 17)], &[("a", 1), ("b", 6), ("c", 6), ("d", 6)],
            Ok(&[("a", 2), ("b", 6), ("c", 5), ("d", 6)])),
        ("a zone without CPUs gives what is needed", two, &[("a", 1), ("f", 3)], Ok(&[("a", 2), ("b", 2)])),
        ("no nodes", &[], &[("a", 9)],
            Err("Insufficient Node information: allocatable CPU or zone not specified on one or more nodes")),
        ("one zone", &[("a", 9)], &[("a", 9)],
            Err("Insufficient Node information: allocatable CPU or zone not specified on one or more nodes")),
        ("too few endpoints", three, &[("a", 2)], Err("Insufficient number of endpoints (2 endpoints, 3 zones)")),
        ("endpoints cannot be divided so that it is just", two, &[("a", 2), ("b", 3)],
            Err("Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (5 endpoints, 2 zones)")),
        ("one without a zone", two, &[("a", 4), ("none", 1), ("b", 4)], Err("One or more endpoints do not have a zone specified")),
    ];
    for (why, cpus, given, expected) in cases {
        let plan = planned(&asking(), &pods_in(given), &[], &shares(cpus), &Allotted::new());
        let (notes, allotted) = (told(&plan), plan.allotted["IPv4"].clone());
        let slices = after(&[], plan);
        match expected {
            Ok(expected) => {
                let expected: Counts = expected
                    .iter()
                    .map(|(zone, count)| ((*zone).to_owned(), *count))
                    .collect();
                assert_eq!(allotted.as_ref(), Ok(&expected), "{why}");
                assert_eq!(counted(&slices), expected, "{why}");
                assert_eq!(
                    notes,
                    [
                        "Normal TopologyAwareHintsEnabled Topology Aware Hints has been enabled, addressType: IPv4"
                    ]
                );
            }
            Err(expected) => {
                assert_eq!(allotted, Err(expected.to_owned()), "{why}");
                assert!(
                    endpoints(&slices).all(|endpoint| endpoint.hints.is_none()),
                    "{why}"
                );
                assert_eq!(
                    notes,
                    [format!(
                        "Warning TopologyAwareHintsDisabled {expected}, addressType: IPv4"
                    )]
                );
            }
        }
    }
}

/// A life of one Service: what each step changes, and what is told of it.
#[test]
fn hints_stay_while_they_do_and_go_with_their_annotation() {
    let even = shares(&[("a", 1), ("b", 1)]);
    let (mut slices, mut before) = (Vec::new(), Allotted::new());
    let mut step = |service: &Service, pods: &[Seen], shares: &Shares| {
        let mut plan = planned(service, pods, &slices, shares, &before);
        before = std::mem::take(&mut plan.allotted);
        let changes = (plan.create.len(), plan.update.len(), plan.delete.len());
        let told = told(&plan);
        slices = after(&slices, plan);
        (changes, counted(&slices).into_values().collect::<Vec<_>>(), told)
    };
    let enabled = "Normal TopologyAwareHintsEnabled Topology Aware Hints has been enabled, addressType: IPv4";
    let disabled = |why: &str| {
        vec![format!(
            "Warning TopologyAwareHintsDisabled {why}, addressType: IPv4"
        )]
    };
    let few = "Insufficient number of endpoints (1 endpoints, 2 zones)";
    let unknown = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
    let mut pods = pods_in(&[("a", 150), ("b", 50)]);
    let none = Vec::<String>::new;
    assert_eq!(
        step(&asking(), &pods, &even),
        ((2, 0, 0), vec![100, 100], vec![enabled.to_owned()])
    );
    // 120 of 200 are few enough for 52 % of the CPUs as well: nothing changes for a little.
    let uneven = shares(&[("a", 48), ("b", 52)]);
    assert_eq!(
        step(&asking(), &pods, &uneven),
        ((0, 0, 0), vec![100, 100], none())
    );
    // Of two slices that one alone changes in which something has.
    pods[3].ready = false;
    assert_eq!(step(&asking(), &pods, &even).0, (0, 1, 0));
    pods[3].ready = true;
    // One zone has much more than the other: endpoints move.
    let lopsided = shares(&[("a", 1), ("b", 3)]);
    assert_eq!(step(&asking(), &pods, &lopsided).1, [50, 150]);
    assert_eq!(
        step(&asking(), &pods, &Shares::default()),
        ((0, 2, 0), vec![], disabled(unknown))
    );
    assert_eq!(
        step(&asking(), &pods, &Shares::default()),
        ((0, 0, 0), vec![], none()),
        "it is told once"
    );
    assert_eq!(step(&asking(), &pods[..1], &even).2, disabled(few));
    assert_eq!(step(&asking(), &pods, &even).2, [enabled]);

    let plain = service(json!({}));
    let gone = disabled("Topology Aware Hints has been disabled");
    assert_eq!(step(&plain, &pods, &even).1, Vec::<usize>::new());
    assert_eq!(step(&asking(), &pods, &even).2, [enabled]);
    // Traffic that is to stay nearby is another matter, and the annotation goes before it.
    let near = json!({"trafficDistribution": "PreferSameNode"});
    let mut both = asking();
    both.spec = service(near.clone()).spec;
    assert_eq!(step(&both, &pods, &even), ((0, 0, 0), vec![100, 100], none()));
    assert_eq!(
        step(&service(near), &pods, &even),
        ((0, 2, 0), vec![150, 50], gone)
    );
    assert_eq!(step(&both, &pods, &even).1, [100, 100]);
}

/// Nodes are for hints of one family of addresses as of the other.
#[test]
fn families_have_hints_of_their_own() {
    let mut asking = asking();
    asking.spec.as_mut().expect("a spec").ip_families = Some(vec!["IPv4".to_owned(), "IPv6".to_owned()]);
    let mut pods = pods_in(&[("a", 2), ("b", 2)]);
    for pod in &mut pods[1..] {
        pod.addresses.push(format!("fd00::{}", pod.uid).into());
    }
    let plan = planned(
        &asking,
        &pods,
        &[],
        &shares(&[("a", 1), ("b", 1)]),
        &Allotted::new(),
    );
    let why = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (3 endpoints, 2 zones)";
    assert_eq!(
        told(&plan),
        [
            format!("Warning TopologyAwareHintsDisabled {why}, addressType: IPv6"),
            "Normal TopologyAwareHintsEnabled Topology Aware Hints has been enabled, addressType: IPv4"
                .to_owned(),
        ]
    );
    let hinted: BTreeMap<_, _> = plan
        .create
        .iter()
        .map(|slice| {
            (
                &*slice.address_type,
                slice
                    .endpoints
                    .iter()
                    .flatten()
                    .filter(|one| one.hints.is_some())
                    .count(),
            )
        })
        .collect();
    assert_eq!(hinted, [("IPv4", 4), ("IPv6", 0)].into());
}

proptest! {
    /// *None lost*, *One zone each*, *Bearable* and *Settled*: through any changes of pods and nodes each ready endpoint is for one
    /// zone, and none has too much to bear, or there are no hints; and what says so is left alone.
    #[test]
    fn no_endpoint_is_lost_or_bears_too_much(
        homes in prop::collection::vec(0..5_usize, 1..9),
        steps in prop::collection::vec(
            (0..40_usize, 0..210_usize, 2..9_usize, prop::collection::vec(0..9_i128, 4), any::<bool>()), 1..5),
    ) {
        const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
        let (mut slices, mut before) = (Vec::new(), Allotted::new());
        for (from, count, unready, cpus, asks) in steps {
            let cpus: Vec<_> = NAMES.into_iter().zip(cpus).filter(|(_, cpus)| *cpus > 0).collect();
            let shares = shares(&cpus);
            let mut pods: Vec<_> = (from..from + count).map(|number| pod_in(NAMES[homes[number % homes.len()]], number)).collect();
            pods.iter_mut().step_by(unready).for_each(|pod| pod.ready = false);
            let service = if asks { asking() } else { service(json!({})) };
            let mut plan = planned(&service, &pods, &slices, &shares, &before);
            before = std::mem::take(&mut plan.allotted);
            slices = after(&slices, plan);

            let mut seen = addresses(&slices);
            seen.sort_unstable();
            let mut wanted: Vec<_> = pods.iter().map(|pod| pod.addresses[0].to_string()).collect();
            wanted.sort_unstable();
            prop_assert_eq!(seen, wanted);
            match before.get("IPv4") {
                Some(Ok(counts)) => {
                    for endpoint in endpoints(&slices) {
                        prop_assert_eq!(zones(endpoint).len(), usize::from(is_ready(endpoint)));
                    }
                                        prop_assert_eq!(&counted(&slices), counts);
                    prop_assert!(!shares.overload(counts), "{counts:?} of {shares:?}");
                    let total = cpus.iter().map(|(_, cpus)| cpus).sum::<i128>() as f64;
                    for (zone, cpus) in &cpus {
                        let share = *cpus as f64 / total;
                        let load = share * counted(&slices).values().sum::<usize>() as f64 / counts[*zone] as f64;
                        prop_assert!(load <= 1.2 + 1e-9, "{zone}: {load}");
                    }
                }
                _ => prop_assert!(endpoints(&slices).all(|endpoint| endpoint.hints.is_none())),
            }
            let again = planned(&service, &pods, &slices, &shares, &before);
            prop_assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty(), "{again:?}");
            prop_assert!(again.notes.is_empty(), "{:?}", again.notes);
            prop_assert_eq!(&again.allotted, &before);
        }
    }
}

/// Hints that somebody else has written do not stay if they are none of ours.
#[test]
fn foreign_hints_are_replaced() {
    let even = shares(&[("a", 1), ("b", 1)]);
    let pods = pods_in(&[("a", 2), ("b", 2)]);
    let first = after(&[], planned(&asking(), &pods, &[], &even, &Allotted::new()));
    let both = json!({"forZones": [{"name": "a"}, {"name": "b"}]});
    let near = json!({"forZones": [{"name": "a"}], "forNodes": [{"name": "n"}]});
    for hints in [Value::Null, both, near, json!({"forZones": [{"name": "z"}]})] {
        let mut slice = serde_json::to_value(&*first[0]).expect("a slice");
        slice["endpoints"][0]["hints"] = hints.clone();
        let there = [Arc::new(serde_json::from_value(slice).expect("a slice"))];
        let plan = planned(&asking(), &pods, &there, &even, &Allotted::new());
        assert_eq!(after(&there, plan), first, "{hints}");
    }
}
