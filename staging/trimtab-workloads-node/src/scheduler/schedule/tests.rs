//! Decisions, each as a few nodes, what is on them, and a pod: where it may go, or what is told of why not.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node as NodeObject, PersistentVolumeClaim, Pod};
use serde_json::{Value, json};
use trimtab_client_cache::key_of;

use super::*;
use crate::scheduler::preempt::{Budget, preempt};

/// Nodes `n0`, `n1`, … with four processors, 8 Gi and ten places, changed by what is given.
fn cluster(nodes: &[Value]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (number, change) in nodes.iter().enumerate() {
        let name = format!("n{number}");
        let mut node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
        });
        merge(&mut node, change);
        let node: NodeObject = serde_json::from_value(node).expect("a node");
        snapshot.set_node(&node);
    }
    snapshot
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

fn pod(name: &str, spec: &Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": spec["labels"].clone()},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {}}}]},
    });
    let requests = &mut pod["spec"]["containers"][0]["resources"]["requests"];
    for resource in ["cpu", "memory", "example.com/gpu"] {
        if !spec[resource].is_null() {
            requests[resource] = spec[resource].clone();
        }
    }
    let mut rest = spec.clone();
    if let Some(rest) = rest.as_object_mut() {
        for name in ["labels", "cpu", "memory", "example.com/gpu", "on"] {
            rest.remove(name);
        }
    }
    merge(&mut pod["spec"], &rest);
    serde_json::from_value(pod).expect("a pod")
}

fn fill(snapshot: &mut Snapshot, pods: &[Value]) {
    for (number, spec) in pods.iter().enumerate() {
        let node = spec["on"].as_str().expect("a node");
        let mut placed = pod(&format!("p{number}"), spec);
        placed.status = Some(k8s_openapi::api::core::v1::PodStatus {
            start_time: Some(crate::clock::seconds(
                jiff::Timestamp::from_second(i64::try_from(number).expect("a number")).expect("a time"),
            )),
            ..k8s_openapi::api::core::v1::PodStatus::default()
        });
        snapshot.place(&placed, node);
    }
}

/// The names of all nodes that chance may choose, or the message.
fn outcomes(snapshot: &mut Snapshot, spec: &Value) -> Result<BTreeSet<String>, String> {
    let pod = pod("new", spec);
    let (key, wants) = (key_of(&pod), snapshot.wants(&pod));
    let request = Request {
        key: &key,
        wants: &wants,
        siblings: None,
        nominated: None,
    };
    let mut found = BTreeSet::new();
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        match schedule(request, snapshot, &mut random) {
            Ok(choice) => drop(found.insert(snapshot.nodes[choice.node].name.to_string())),
            Err(nowhere) => return Err(nowhere.why.to_string()),
        }
    }
    Ok(found)
}

fn check(nodes: &[Value], pods: &[Value], spec: &Value, expected: Result<&[&str], &str>) {
    let mut snapshot = cluster(nodes);
    fill(&mut snapshot, pods);
    let expected = expected
        .map(|names| names.iter().map(ToString::to_string).collect())
        .map_err(str::to_owned);
    assert_eq!(outcomes(&mut snapshot, spec), expected, "{spec}");
}

fn zone(name: &str) -> Value {
    json!({"metadata": {"labels": {"zone": name}}})
}

#[test]
fn demands_are_met_or_told_in_kubernetes_words() {
    let plain = json!({});
    let three = [json!({}), json!({}), json!({})];
    let tainted = |effect: &str| json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": effect}]}});
    let cordoned = json!({"spec": {"unschedulable": true}});
    let tolerant = json!([{"key": "k", "operator": "Exists"}]);
    let labelled = |value: &str| json!({"metadata": {"labels": {"disk": value}}});
    let affinity = |operator: &str, values: &[&str]| {
        let one = json!({"key": "disk", "operator": operator, "values": values});
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [one]}]}}}})
    };
    let big = |on: &str| json!({"on": on, "cpu": "3"});
    check(&[], &[], &plain, Err("no nodes available to schedule pods"));
    check(&three, &[], &plain, Ok(&["n0", "n1", "n2"]));
    check(&three, &[big("n0"), big("n2")], &json!({"cpu": "2"}), Ok(&["n1"]));
    check(
        &[json!({}), tainted("NoSchedule"), tainted("NoExecute")],
        &[big("n0")],
        &json!({"cpu": "2"}),
        Err("0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s)."),
    );
    check(
        &[json!({}), tainted("NoSchedule")],
        &[big("n0")],
        &json!({"cpu": "2", "tolerations": tolerant}),
        Ok(&["n1"]),
    );
    // What only asks is heard when there is a choice.
    check(
        &[json!({}), tainted("PreferNoSchedule")],
        &[],
        &plain,
        Ok(&["n0"]),
    );
    check(
        &[json!({}), cordoned.clone()],
        &[big("n0"), big("n0")],
        &json!({"cpu": "2", "memory": "9Gi"}),
        Err(
            "0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 node(s) were unschedulable.",
        ),
    );
    check(
        &[json!({})],
        &[],
        &json!({"example.com/gpu": "1"}),
        Err("0/1 nodes are available: 1 Insufficient example.com/gpu."),
    );
    check(
        &[json!({"status": {"allocatable": {"pods": "1"}}})],
        &[json!({"on": "n0"})],
        &plain,
        Err("0/1 nodes are available: 1 Too many pods."),
    );
    let two = [labelled("ssd"), labelled("hdd")];
    check(&two, &[], &json!({"nodeSelector": {"disk": "hdd"}}), Ok(&["n1"]));
    check(&two, &[], &affinity("In", &["ssd", "nvme"]), Ok(&["n0"]));
    check(&two, &[], &affinity("NotIn", &["ssd"]), Ok(&["n1"]));
    check(
        &two,
        &[],
        &affinity("DoesNotExist", &[]),
        Err("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."),
    );
    let port = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    let mut taken = port.clone();
    taken["on"] = "n0".into();
    check(&three[..2], &[taken.clone()], &port, Ok(&["n1"]));
    check(
        &three[..1],
        &[taken],
        &port,
        Err("0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."),
    );
}

#[test]
fn init_containers_sidecars_and_overhead_count() {
    let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
    let spec = |first: &str, sidecar: &str, overhead: &str| {
        json!({
            "cpu": "1",
            "overhead": {"cpu": overhead},
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": cpu(sidecar)},
                {"name": "i", "resources": cpu(first)},
            ],
        })
    };
    let fits: Result<&[&str], &str> = Ok(&["n0"]);
    let too_much: Result<&[&str], &str> = Err("0/1 nodes are available: 1 Insufficient cpu.");
    for (spec, expected) in [
        (spec("3", "1", "0"), fits),
        (spec("3500m", "1", "0"), too_much),
        (spec("1", "2500m", "500m"), fits),
        (spec("1", "2500m", "501m"), too_much),
    ] {
        check(&[json!({})], &[], &spec, expected);
    }
}

#[test]
fn the_emptiest_and_most_balanced_node_is_preferred() {
    let two = [json!({}), json!({})];
    check(
        &two,
        &[json!({"on": "n0", "cpu": "1"})],
        &json!({"cpu": "1"}),
        Ok(&["n1"]),
    );
    // Both are equally full; the pod makes the one even and the other not.
    check(
        &two,
        &[
            json!({"on": "n0", "cpu": "2"}),
            json!({"on": "n1", "memory": "4Gi"}),
        ],
        &json!({"memory": "4Gi"}),
        Ok(&["n0"]),
    );
    let likes = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 10, "preference": {"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n0"]}]}}]}}});
    check(&two, &[json!({"on": "n0", "cpu": "1"})], &likes, Ok(&["n0"]));
}

#[test]
fn pods_are_kept_together_and_apart() {
    let nodes = [zone("a"), zone("a"), zone("b")];
    let term =
        |key: &str, app: &str| json!([{"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}]);
    let near = |key: &str, app: &str| {
        json!({"labels": {"app": "x"}, "affinity": {"podAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": term(key, app)}}})
    };
    let apart = |key: &str, app: &str| {
        json!({"labels": {"app": "x"}, "affinity": {"podAntiAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": term(key, app)}}})
    };
    let one = [json!({"on": "n0", "labels": {"app": "y"}})];
    check(&nodes, &one, &near("zone", "y"), Ok(&["n1"]));
    check(&nodes, &one, &apart("zone", "y"), Ok(&["n2"]));
    check(
        &nodes,
        &one,
        &apart("kubernetes.io/hostname", "y"),
        Ok(&["n1", "n2"]),
    );
    check(
        &nodes,
        &one,
        &near("zone", "nobody"),
        Err("0/3 nodes are available: 3 node(s) didn't match pod affinity rules."),
    );
    // The first of its own kind has nobody to be near.
    check(&nodes, &one, &near("zone", "x"), Ok(&["n1", "n2"]));
    let mut lonely = apart("zone", "x");
    lonely["on"] = "n2".into();
    check(
        &nodes,
        &[lonely.clone()],
        &json!({"labels": {"app": "x"}}),
        Ok(&["n0", "n1"]),
    );
    let mut other = lonely.clone();
    other["on"] = "n0".into();
    check(
        &nodes,
        &[lonely, other],
        &apart("zone", "x"),
        Err("0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."),
    );
}

#[test]
fn pods_are_spread() {
    let nodes = [zone("a"), zone("a"), zone("b"), json!({})];
    let spread = |key: &str, when: &str| {
        json!({"labels": {"app": "x"}, "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": key,
            "whenUnsatisfiable": when, "labelSelector": {"matchLabels": {"app": "x"}}}]})
    };
    let on = |node: &str| json!({"on": node, "labels": {"app": "x"}});
    check(&nodes, &[on("n0")], &spread("zone", "DoNotSchedule"), Ok(&["n2"]));
    check(
        &nodes,
        &[on("n0")],
        &spread("zone", "ScheduleAnyway"),
        Ok(&["n2"]),
    );
    check(
        &[
            zone("a"),
            json!({"metadata": {"labels": {"zone": "b"}}, "spec": {"unschedulable": true}}),
            json!({}),
        ],
        &[on("n0")],
        &spread("zone", "DoNotSchedule"),
        Err(
            "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints, \
             1 node(s) didn't match pod topology spread constraints (missing required label), 1 node(s) were unschedulable.",
        ),
    );
    // Without constraints, siblings are spread as far as that is possible.
    let mut snapshot = cluster(&nodes[..3]);
    fill(&mut snapshot, &[on("n0"), on("n1")]);
    let new = pod("new", &json!({"labels": {"app": "x"}}));
    let (key, wants) = (key_of(&new), snapshot.wants(&new));
    let siblings = Selector::of_labels(new.metadata.labels.iter().flatten());
    let request = Request {
        key: &key,
        wants: &wants,
        siblings: Some(&siblings),
        nominated: None,
    };
    let choice = schedule(request, &snapshot, &mut fastrand::Rng::with_seed(1)).expect("a node");
    assert_eq!(&*snapshot.nodes[choice.node].name, "n2");
}

#[test]
fn claims_bind_pods_to_nodes() {
    let claim = |name: &str, more: &Value| -> PersistentVolumeClaim {
        let mut claim = json!({"metadata": {"name": name, "namespace": "ns"},
            "spec": {"storageClassName": "late", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}});
        merge(&mut claim, more);
        serde_json::from_value(claim).expect("a claim")
    };
    let volume = |name: &str, node: &str| {
        let volume = json!({"metadata": {"name": name}, "spec": {"storageClassName": "late",
            "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"],
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}}});
        serde_json::from_value(volume).expect("a volume")
    };
    let uses =
        |claim: &str| json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]});
    let mut snapshot = cluster(&[json!({}), json!({})]);
    let told = |snapshot: &mut Snapshot, name: &str| outcomes(snapshot, &uses(name));
    assert_eq!(
        told(&mut snapshot, "data"),
        Err("0/2 nodes are available: persistentvolumeclaim \"data\" not found.".to_owned())
    );
    snapshot.volumes.set_claim(&claim("data", &json!({})));
    assert_eq!(
        told(&mut snapshot, "data"),
        Err("0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.".to_owned())
    );
    let class = json!({"metadata": {"name": "late"}, "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer"});
    snapshot
        .volumes
        .set_class(&serde_json::from_value(class.clone()).expect("a class"));
    assert_eq!(
        told(&mut snapshot, "data"),
        Err(
            "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.".to_owned()
        )
    );
    snapshot.volumes.set_volume(&volume("here", "n1"));
    assert_eq!(told(&mut snapshot, "data"), Ok(["n1".to_owned()].into()));
    // One that is bound says where it is.
    let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "here"}});
    snapshot.volumes.set_claim(&claim("bound", &bound));
    assert_eq!(told(&mut snapshot, "bound"), Ok(["n1".to_owned()].into()));
    let mut provisioned = class;
    provisioned["provisioner"] = "example.com/disks".into();
    snapshot
        .volumes
        .set_class(&serde_json::from_value(provisioned).expect("a class"));
    assert_eq!(told(&mut snapshot, "data").map(|names| names.len()), Ok(2));
}

#[test]
fn room_is_made_where_it_does_the_least_harm() {
    let low = |on: &str, cpu: &str, priority: i32| {
        json!({"on": on, "cpu": cpu, "priority": priority,
        "labels": {"on": on}})
    };
    let budget = |on: &str, allowed: i64| Budget {
        namespace: "ns".to_owned(),
        selector: Some(Selector::of_labels(
            &[("on".to_owned(), on.to_owned())]
                .into_iter()
                .collect::<std::collections::BTreeMap<_, _>>(),
        )),
        allowed,
        disrupted: Vec::new(),
    };
    let spec = json!({"cpu": "2", "priority": 100});
    let two = [json!({}), json!({})];
    let full = [low("n0", "2", 10), low("n0", "2", 5), low("n1", "3", 20)];
    type Case<'a> = (
        &'a [Value],
        Vec<Budget>,
        Value,
        Result<(&'a str, &'a [&'a str]), &'a str>,
    );
    let cases: [Case<'_>; 7] = [
        // The least important, and no more than needed.
        (&full, vec![], spec.clone(), Ok(("n0", &["p1"]))),
        // Budgets come before priorities.
        (&full, vec![budget("n0", 0)], spec.clone(), Ok(("n1", &["p2"]))),
        // The budget is counted from the most important on, so it is the other that it protects.
        (&full, vec![budget("n0", 1)], spec.clone(), Ok(("n0", &["p0"]))),
        // Where all else is equal, whoever has run for the shortest time goes.
        (
            &[low("n0", "3", 1), low("n1", "3", 1)],
            vec![],
            spec.clone(),
            Ok(("n1", &["p1"])),
        ),
        (
            &full,
            vec![],
            json!({"cpu": "2", "priority": 1}),
            Err("0/2 nodes are available: 2 No preemption victims found for incoming pod."),
        ),
        (
            &full,
            vec![],
            json!({"cpu": "5", "priority": 100}),
            Err("0/2 nodes are available: 2 Preemption is not helpful for scheduling."),
        ),
        (
            &full,
            vec![],
            json!({"cpu": "2", "priority": 100, "preemptionPolicy": "Never"}),
            Err("not eligible due to preemptionPolicy=Never."),
        ),
    ];
    for (pods, budgets, spec, expected) in cases {
        let mut snapshot = cluster(&two);
        fill(&mut snapshot, pods);
        let new = pod("new", &spec);
        let (key, wants) = (key_of(&new), snapshot.wants(&new));
        let request = Request {
            key: &key,
            wants: &wants,
            siblings: None,
            nominated: None,
        };
        let nowhere = schedule(request, &snapshot, &mut fastrand::Rng::with_seed(1)).expect_err("it is full");
        let before = format!("{:?}", snapshot.nodes);
        let found = preempt(request, &nowhere, &mut snapshot, &budgets);
        assert_eq!(
            format!("{:?}", snapshot.nodes),
            before,
            "the snapshot is as before"
        );
        let found = found.map(|found| {
            let victims: Vec<String> = found.victims.iter().map(|pod| pod.key.name.clone()).collect();
            (found.node.to_string(), victims)
        });
        let expected = expected
            .map(|(node, victims)| (node.to_owned(), victims.iter().map(ToString::to_string).collect()))
            .map_err(str::to_owned);
        assert_eq!(found, expected, "{spec} {budgets:?}");
    }
}

#[test]
fn the_snapshot_is_the_same_however_it_came_about() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20 {
        let mut snapshot = cluster(&[json!({}), json!({})]);
        let mut there: Vec<usize> = Vec::new();
        for _ in 0..60 {
            let number = random.usize(..8);
            let spec = json!({"on": format!("n{}", random.usize(..3)), "cpu": "100m", "labels": {"k": (number % 2).to_string()}});
            let mut one = pod(&format!("p{number}"), &spec);
            one.metadata.labels = Some([("k".to_owned(), (number % 2).to_string())].into());
            if random.bool() {
                snapshot.place(&one, spec["on"].as_str().expect("a node"));
                there.retain(|other| *other != number);
                there.push(number);
            } else {
                snapshot.displace(&key_of(&one));
                there.retain(|other| *other != number);
            }
            if random.u8(..10) == 0 {
                snapshot.remove_node("n1");
                let node =
                    json!({"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "4", "pods": "9"}}});
                snapshot.set_node(&serde_json::from_value(node).expect("a node"));
            }
        }
        for node in &snapshot.nodes {
            let count = i64::try_from(node.pods.len()).expect("a number");
            assert_eq!(node.requested.cpu, count * 100);
            assert_eq!(
                node.kinds.iter().map(|kind| kind.all).sum::<usize>(),
                node.pods.len()
            );
            for placed in &node.pods {
                assert_eq!(
                    snapshot.placed(&placed.key).map(|other| other.node.clone()),
                    Some(node.name.clone())
                );
            }
        }
    }
}
