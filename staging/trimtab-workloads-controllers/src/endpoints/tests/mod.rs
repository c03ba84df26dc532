//! Which slices and Endpoints a Service has: tables, and what holds of all of them.

mod hints;

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::classic;
use super::seen::Seen;
use super::slices::{HEADLESS, MOST, Plan, decide};
use super::zones::Known;

fn service(spec: Value) -> Service {
    let mut object = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "u", "labels": {"of": "us"}},
        "spec": {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    serde_json::from_value(object).expect("a Service")
}

fn pod(number: usize) -> Seen {
    Seen {
        namespace: "ns".into(),
        name: format!("web-{number}").into(),
        uid: number.to_string().into(),
        addresses: vec![format!("10.1.{}.{}", number / 250, number % 250).into()],
        node: "n".into(),
        hostname: format!("web-{number}").into(),
        subdomain: "web".into(),
        ready: true,
        deleting: false,
        ports: vec![("web".into(), "TCP".into(), 8080)],
    }
}

fn planned(service: &Service, pods: Vec<Seen>, there: &[Arc<EndpointSlice>]) -> Plan {
    let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
    let zone = |node: &str| match node {
        "n" => Some(Some("z".to_owned())),
        "m" => Some(None),
        _ => None,
    };
    decide(service, &pods, there, zone, &Known::default())
}

/// The slices once a plan is carried out.
fn after(there: &[Arc<EndpointSlice>], plan: Plan) -> Vec<Arc<EndpointSlice>> {
    let mut slices: Vec<_> = there
        .iter()
        .map(|slice| serde_json::to_value(&**slice).expect("a slice"))
        .collect();
    for (at, patch) in plan.update {
        json_patch::merge(&mut slices[at], &patch);
    }
    let kept = slices
        .into_iter()
        .enumerate()
        .filter(|(at, _)| !plan.delete.contains(at));
    let kept = kept.map(|(_, slice)| Arc::new(serde_json::from_value(slice).expect("a slice")));
    kept.chain(plan.create.into_iter().map(Arc::new)).collect()
}

fn addresses(slices: &[Arc<EndpointSlice>]) -> Vec<String> {
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    endpoints
        .flat_map(|endpoint| endpoint.addresses.clone())
        .collect()
}

#[test]
fn endpoints_tell_how_their_pods_are() {
    let plain = service(json!({}));
    let anyhow = service(json!({"publishNotReadyAddresses": true}));
    let conditions = |service: &Service, pod: Seen| {
        let slices = after(&[], planned(service, vec![pod], &[]));
        let endpoint = slices[0].endpoints.as_ref().expect("endpoints")[0].clone();
        let conditions = endpoint.conditions.expect("conditions");
        [conditions.ready, conditions.serving, conditions.terminating].map(Option::unwrap_or_default)
    };
    let unready = Seen {
        ready: false,
        ..pod(1)
    };
    let going = Seen {
        deleting: true,
        ..pod(1)
    };
    assert_eq!(conditions(&plain, pod(1)), [true, true, false]);
    assert_eq!(conditions(&plain, unready.clone()), [false, false, false]);
    assert_eq!(conditions(&plain, going.clone()), [false, true, true]);
    assert_eq!(conditions(&anyhow, unready.clone()), [true, false, false]);

    let hints = |how: &str, pod: Seen| {
        let near = service(json!({"trafficDistribution": how}));
        let slices = after(&[], planned(&near, vec![pod], &[]));
        json!(slices[0].endpoints.as_ref().expect("endpoints")[0].hints)
    };
    let zone = json!({"forZones": [{"name": "z"}]});
    assert_eq!(hints("PreferClose", pod(1)), zone);
    assert_eq!(hints("PreferSameZone", pod(1)), zone);
    assert_eq!(hints("PreferOthers", pod(1)), Value::Null);
    assert_eq!(hints("PreferSameZone", unready), Value::Null);
    let elsewhere = Seen {
        node: "m".into(),
        ..pod(1)
    };
    assert_eq!(hints("PreferSameZone", elsewhere.clone()), Value::Null);
    assert_eq!(
        hints("PreferSameNode", elsewhere),
        json!({"forNodes": [{"name": "m"}]})
    );

    let near = service(json!({"trafficDistribution": "PreferSameNode"}));
    let slices = after(&[], planned(&near, vec![pod(1)], &[]));
    let slice = serde_json::to_value(&*slices[0]).expect("a slice");
    let endpoint = json!({"addresses": ["10.1.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false},
        "hostname": "web-1", "nodeName": "n", "zone": "z", "hints": {"forZones": [{"name": "z"}], "forNodes": [{"name": "n"}]},
        "targetRef": {"kind": "Pod", "namespace": "ns", "name": "web-1", "uid": "1"}});
    assert_eq!(slice["endpoints"], json!([endpoint]));
    assert_eq!(
        slice["ports"],
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
    );
    assert_eq!(slice["addressType"], "IPv4");
    let labels = json!({"of": "us", "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
    assert_eq!(slice["metadata"]["labels"], labels);

    // What the older form says: ready or not, and not at all while it goes.
    let subsets = |service: &Service, pods: Vec<Seen>| {
        let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
        let subsets = classic::endpoints(service, &pods).subsets.unwrap_or_default();
        let ips = |list: &Option<Vec<k8s_openapi::api::core::v1::EndpointAddress>>| -> Vec<String> {
            list.iter().flatten().map(|address| address.ip.clone()).collect()
        };
        subsets
            .iter()
            .map(|subset| (ips(&subset.addresses), ips(&subset.not_ready_addresses)))
            .collect::<Vec<_>>()
    };
    let both = vec![
        pod(2),
        Seen {
            ready: false,
            ..pod(3)
        },
        Seen {
            deleting: true,
            ..pod(4)
        },
    ];
    assert_eq!(
        subsets(&plain, both.clone()),
        [(vec!["10.1.0.2".to_owned()], vec!["10.1.0.3".to_owned()])]
    );
    assert_eq!(subsets(&anyhow, both)[0].0.len(), 3);
}

#[test]
fn a_service_without_pods_has_an_empty_slice_and_keeps_it() {
    let web = service(json!({"clusterIP": "None"}));
    let first = after(&[], planned(&web, vec![], &[]));
    assert_eq!((first.len(), addresses(&first).len()), (1, 0));
    assert!(
        first[0]
            .metadata
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key(HEADLESS))
    );
    let again = planned(&web, vec![], &first);
    assert!(
        again.create.is_empty() && again.update.is_empty() && again.delete.is_empty(),
        "{again:?}"
    );
    // The empty one becomes the first real one, and the other way round.
    let filled = planned(&web, vec![pod(1)], &first);
    assert!(filled.create.is_empty() && filled.delete.is_empty(), "{filled:?}");
    let filled = after(&first, filled);
    let emptied = planned(&web, vec![], &filled);
    assert!(
        emptied.create.is_empty() && emptied.delete.is_empty(),
        "{emptied:?}"
    );
    assert_eq!(addresses(&after(&filled, emptied)).len(), 0);
}

#[test]
fn pods_without_a_known_node_wait() {
    let lost = Seen {
        node: "gone".into(),
        ..pod(1)
    };
    let plan = planned(&service(json!({})), vec![lost.clone()], &[]);
    assert!(plan.homeless);
    assert!(addresses(&after(&[], plan)).is_empty());
    let plan = planned(
        &service(json!({"publishNotReadyAddresses": true})),
        vec![lost],
        &[],
    );
    assert!(!plan.homeless);
}

#[test]
fn one_that_changes_changes_one_slice() {
    let web = service(json!({}));
    let pods: Vec<_> = (0..250).map(pod).collect();
    let there = after(&[], planned(&web, pods.clone(), &[]));
    assert_eq!(there.len(), 3);
    let mut changed = pods.clone();
    changed[17].ready = false;
    let plan = planned(&web, changed, &there);
    assert_eq!(
        (plan.create.len(), plan.update.len(), plan.delete.len()),
        (0, 1, 0)
    );
    let mut more = pods;
    more.push(pod(250));
    let plan = planned(&web, more, &there);
    assert_eq!(
        (plan.create.len(), plan.update.len(), plan.delete.len()),
        (0, 1, 0)
    );
}

proptest! {
    /// *Each once*, *Bounded*, *Settled*: through any changes of the pods, each is in one slice, no slice is too long, and what
    /// says all is left alone.
    #[test]
    fn slices_have_each_endpoint_once(steps in prop::collection::vec((0..300_usize, 0..300_usize), 1..8)) {
        let web = service(json!({}));
        let mut slices = Vec::new();
        for (from, count) in steps {
            let pods: Vec<_> = (from..from + count).map(pod).collect();
            let plan = planned(&web, pods.clone(), &slices);
            slices = after(&slices, plan);
            let seen = addresses(&slices);
            let distinct: BTreeSet<_> = seen.iter().cloned().collect();
            prop_assert_eq!(seen.len(), distinct.len());
            prop_assert_eq!(distinct, pods.iter().map(|pod| pod.addresses[0].to_string()).collect());
            prop_assert!(slices.iter().all(|slice| slice.endpoints.as_ref().is_none_or(|list| list.len() <= MOST)));
            let again = planned(&web, pods, &slices);
            prop_assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty(), "{again:?}");
        }
    }
}
