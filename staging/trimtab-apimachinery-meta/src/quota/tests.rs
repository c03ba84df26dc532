//! What each kind of object uses, and which quotas count it.

use serde_json::{Value, json};

use super::*;

fn counted(resource: &str) -> Counted {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    Counted::of(&GroupResource::new(group, plural)).expect("is counted")
}

fn usage(resource: &str, object: &Value) -> String {
    describe(&counted(resource).usage(object, 1_000))
}

fn container(requests: Value, limits: Value) -> Value {
    json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
}

#[test]
fn objects_use_what_they_ask_for() {
    let cpu = |cpu: &str| container(json!({ "cpu": cpu }), json!({}));
    let with = |mut container: Value, more: Value| {
        container
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().cloned().expect("an object"));
        container
    };
    let cases = [
        ("configmaps", json!({}), "configmaps=1,count/configmaps=1"),
        ("deployments.apps", json!({}), "count/deployments.apps=1"),
        (
            "services",
            json!({"spec": {"type": "ClusterIP", "ports": [{}]}}),
            "count/services=1,services=1,services.loadbalancers=0,services.nodeports=0",
        ),
        (
            "services",
            json!({"spec": {"type": "NodePort", "ports": [{}, {}]}}),
            "count/services=1,services=1,services.loadbalancers=0,services.nodeports=2",
        ),
        (
            "services",
            json!({"spec": {"type": "LoadBalancer", "ports": [{}, {}]}}),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=2",
        ),
        (
            "services",
            json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"nodePort": 30000}, {}]}}),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1",
        ),
        (
            "persistentvolumeclaims",
            json!({"spec": {"resources": {"requests": {"storage": "1.5Gi"}}}}),
            "count/persistentvolumeclaims=1,persistentvolumeclaims=1,requests.storage=1536Mi",
        ),
        (
            "persistentvolumeclaims",
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "500m"}}}, "status": {"allocatedResources": {"storage": "2"}}}),
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/requests.storage=2,persistentvolumeclaims=1,requests.storage=2",
        ),
        (
            "persistentvolumeclaims",
            json!({"spec": {"resources": {"requests": {"storage": "500m"}}}}),
            "count/persistentvolumeclaims=1,persistentvolumeclaims=1,requests.storage=1",
        ),
        (
            "resourceclaims.resource.k8s.io",
            json!({"spec": {"devices": {"requests": [
                {"exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
                {"firstAvailable": [
                    {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1},
                    {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 3},
                    {"deviceClassName": "tpu", "allocationMode": "All"},
                ]},
            ]}}}),
            "count/resourceclaims.resource.k8s.io=1,gpu.deviceclass.resource.k8s.io/devices=5,tpu.deviceclass.resource.k8s.io/devices=32",
        ),
        (
            "pods",
            json!({"spec": {"containers": [{"name": "c"}]}}),
            "count/pods=1,pods=1",
        ),
        (
            "pods",
            json!({"status": {"phase": "Failed"}, "spec": {"containers": [cpu("1")]}}),
            "count/pods=1",
        ),
        (
            "pods",
            json!({"metadata": {"deletionTimestamp": "1970-01-01T00:16:00Z", "deletionGracePeriodSeconds": 30}}),
            "count/pods=1",
        ),
        (
            "pods",
            json!({"metadata": {"deletionTimestamp": "1970-01-01T00:16:30Z", "deletionGracePeriodSeconds": 30}}),
            "count/pods=1,pods=1",
        ),
        (
            "pods",
            json!({"spec": {"containers": [
                container(json!({"cpu": "100m", "memory": "1Gi", "ephemeral-storage": "1", "hugepages-2Mi": "4Mi", "example.com/gpu": "1"}),
                    json!({"cpu": "1", "memory": "2Gi", "ephemeral-storage": "3", "example.com/gpu": "1"})),
                cpu("200m"),
            ]}}),
            "count/pods=1,cpu=300m,ephemeral-storage=1,hugepages-2Mi=4Mi,limits.cpu=1,limits.ephemeral-storage=3,limits.memory=2Gi,memory=1Gi,pods=1,requests.cpu=300m,requests.ephemeral-storage=1,requests.example.com/gpu=1,requests.hugepages-2Mi=4Mi,requests.memory=1Gi",
        ),
        // Those that run first count if they need more than all that follow; those beside count with either.
        (
            "pods",
            json!({"spec": {"containers": [cpu("1")], "initContainers": [cpu("3"), with(cpu("1"), json!({"restartPolicy": "Always"})), cpu("500m")]}}),
            "count/pods=1,cpu=3,pods=1,requests.cpu=3",
        ),
        (
            "pods",
            json!({"spec": {"containers": [cpu("1")], "initContainers": [with(cpu("1"), json!({"restartPolicy": "Always"})), cpu("2500m")]}}),
            "count/pods=1,cpu=3500m,pods=1,requests.cpu=3500m",
        ),
        // The pod as a whole, and its runtime.
        (
            "pods",
            json!({"spec": {"containers": [cpu("1")], "resources": {"requests": {"cpu": "4"}}, "overhead": {"cpu": "1", "memory": "1Mi"}}}),
            "count/pods=1,cpu=5,memory=1Mi,pods=1,requests.cpu=5,requests.memory=1Mi",
        ),
        (
            "pods",
            json!({"spec": {"containers": [container(json!({}), json!({"cpu": "1"}))], "overhead": {"cpu": "1", "memory": "1Mi"}}}),
            "count/pods=1,cpu=1,limits.cpu=2,memory=1Mi,pods=1,requests.cpu=1,requests.memory=1Mi",
        ),
        // One that is being resized counts as the larger.
        (
            "pods",
            json!({"spec": {"containers": [cpu("1")]}, "status": {"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "2"}}, "allocatedResources": {"cpu": "3"}}]}}),
            "count/pods=1,cpu=3,pods=1,requests.cpu=3",
        ),
        (
            "pods",
            json!({"spec": {"containers": [cpu("9")]}, "status": {"conditions": [{"type": "PodResizePending", "reason": "Infeasible"}],
            "containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}}),
            "count/pods=1,cpu=2,pods=1,requests.cpu=2",
        ),
    ];
    for (resource, object, wanted) in cases {
        assert_eq!(usage(resource, &object), wanted, "{resource} {object}");
    }
    assert_eq!(Counted::of(&GroupResource::new("", "events")), None);
}

#[test]
fn quotas_know_their_names() {
    let cases = [
        (
            "pods",
            &[
                "pods",
                "count/pods",
                "limits.cpu",
                "cpu",
                "requests.example.com/gpu",
                "hugepages-2Mi",
                "requests.hugepages-1Gi",
            ][..],
            &[
                "services",
                "example.com/gpu",
                "requests.storage",
                "limits.example.com/gpu",
                "count/secrets",
            ][..],
        ),
        (
            "persistentvolumeclaims",
            &[
                "persistentvolumeclaims",
                "requests.storage",
                "gold.storageclass.storage.k8s.io/requests.storage",
                "gold.storageclass.storage.k8s.io/persistentvolumeclaims",
                "count/persistentvolumeclaims",
            ],
            &[
                "pods",
                "goldrequests.storage",
                "gold.storageclass.storage.k8s.io/pods",
            ],
        ),
        (
            "services",
            &[
                "services",
                "services.nodeports",
                "services.loadbalancers",
                "count/services",
            ],
            &["pods"],
        ),
        ("secrets", &["secrets", "count/secrets"], &["configmaps", ""]),
        ("jobs.batch", &["count/jobs.batch"], &["jobs", "count/jobs", ""]),
        (
            "resourceclaims.resource.k8s.io",
            &[
                "gpu.deviceclass.resource.k8s.io/devices",
                "count/resourceclaims.resource.k8s.io",
            ],
            &["gpu"],
        ),
    ];
    for (resource, known, unknown) in cases {
        for name in known {
            assert!(counted(resource).knows(name), "{resource} {name}");
        }
        for name in unknown {
            assert!(!counted(resource).knows(name), "{resource} {name}");
        }
    }
}

#[test]
fn scopes_choose_objects() {
    let scopes = |scopes: &[&str]| json!({ "scopes": scopes });
    let selector = |scope: &str, operator: &str, values: &[&str]| {
        let term = json!({"scopeName": scope, "operator": operator, "values": values});
        json!({"scopeSelector": {"matchExpressions": [term]}})
    };
    let class = |class: &str| json!({"spec": {"priorityClassName": class}});
    let job = json!({"spec": {"activeDeadlineSeconds": 5}});
    let asking = json!({"spec": {"containers": [container(json!({"memory": "1"}), json!({}))]}});
    let nothing =
        json!({"spec": {"containers": [container(json!({"cpu": "0", "example.com/a": "1"}), json!({}))]}});
    let near = json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a"}]}}}});
    let far = json!({"spec": {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {"namespaces": ["a"]}}]}}}});
    let everywhere = json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaceSelector": {}}]}}}});
    let modified = json!({"spec": {"volumeAttributesClassName": "fast"}, "status": {"currentVolumeAttributesClassName": "slow"}});
    let high = &["high"][..];
    for (spec, resource, object, wanted) in [
        (json!({}), "pods", &job, true),
        (scopes(&["Terminating"]), "pods", &job, true),
        (scopes(&["NotTerminating"]), "pods", &job, false),
        (scopes(&["Terminating", "NotBestEffort"]), "pods", &job, false),
        (scopes(&["BestEffort"]), "pods", &nothing, true),
        (scopes(&["BestEffort"]), "pods", &asking, false),
        (scopes(&["NotBestEffort"]), "pods", &asking, true),
        (
            scopes(&["NotBestEffort"]),
            "pods",
            &json!({"status": {"qosClass": "BestEffort"}, "spec": asking["spec"]}),
            false,
        ),
        (
            scopes(&["BestEffort"]),
            "pods",
            &json!({"spec": {"resources": {"limits": {"cpu": "1"}}}}),
            false,
        ),
        (scopes(&["PriorityClass"]), "pods", &class("high"), true),
        (scopes(&["PriorityClass"]), "pods", &class(""), false),
        (
            selector("PriorityClass", "In", high),
            "pods",
            &class("high"),
            true,
        ),
        (
            selector("PriorityClass", "In", high),
            "pods",
            &class("low"),
            false,
        ),
        (
            selector("PriorityClass", "NotIn", high),
            "pods",
            &class("low"),
            true,
        ),
        (selector("PriorityClass", "NotIn", high), "pods", &class(""), true),
        (
            selector("PriorityClass", "DoesNotExist", &[]),
            "pods",
            &class(""),
            true,
        ),
        (
            selector("PriorityClass", "DoesNotExist", &[]),
            "pods",
            &class("low"),
            false,
        ),
        (scopes(&["CrossNamespacePodAffinity"]), "pods", &near, false),
        (scopes(&["CrossNamespacePodAffinity"]), "pods", &far, true),
        (scopes(&["CrossNamespacePodAffinity"]), "pods", &everywhere, true),
        (
            scopes(&["VolumeAttributesClass"]),
            "persistentvolumeclaims",
            &modified,
            true,
        ),
        (
            selector("VolumeAttributesClass", "In", &["slow"]),
            "persistentvolumeclaims",
            &modified,
            true,
        ),
        (
            selector("VolumeAttributesClass", "In", &["other"]),
            "persistentvolumeclaims",
            &modified,
            false,
        ),
        (
            scopes(&["BestEffort"]),
            "persistentvolumeclaims",
            &modified,
            false,
        ),
        (scopes(&["BestEffort"]), "secrets", &job, false),
    ] {
        let all = ["pods", "persistentvolumeclaims", "secrets"];
        let counts = counted(resource).is_counted_by(&spec, all, object);
        assert_eq!(counts, wanted, "{spec} {object}");
    }
    assert!(!counted("pods").is_counted_by(&json!({}), ["secrets"], &job));
}

#[test]
fn containers_must_say_what_is_limited() {
    let spec = |containers: Value| json!({"spec": {"containers": containers, "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "1"}}}]}});
    let b = json!({"name": "b", "resources": {"limits": {"cpu": "1"}}});
    let all = ["limits.cpu", "requests.cpu", "pods", "limits.ephemeral-storage"];
    let missing = |object: &Value| counted("pods").missing(object, all);
    let text = "must specify limits.cpu for: a,i; requests.cpu for: a,b";
    assert_eq!(missing(&spec(json!([{"name": "a"}, b]))).as_deref(), Some(text));
    let mut whole = spec(json!([{"name": "a"}]));
    whole["spec"]["resources"] = json!({"requests": {"cpu": "1"}});
    assert_eq!(missing(&whole), None);
    assert_eq!(counted("secrets").missing(&json!({}), all), None);
}

#[test]
fn amounts_add_up() {
    let before = amounts(&json!({"cpu": "1", "pods": 3, "memory": "1Gi", "bad": "x"}));
    let after = amounts(&json!({"cpu": "1500m", "pods": 2, "services": "1", "secrets": "0"}));
    assert_eq!(describe(&increase(&after, &before)), "cpu=500m,services=1");
    let mut sum = before.clone();
    add(&mut sum, &after);
    assert_eq!(
        to_value(&sum),
        json!({"cpu": "2500m", "pods": "5", "memory": "1Gi", "services": "1", "secrets": "0"})
    );
}
