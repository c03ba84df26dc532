//! What becomes of new objects of all kinds, and what is said of them: cases in which kube-apiserver 1.36 was asked first.

use serde_json::{Value, json};

use crate::resource::Resource;
use crate::strategy::RequestContext;

fn context() -> RequestContext {
    RequestContext {
        now: "2026-01-01T00:00:00Z".to_owned(),
        namespace: "n".to_owned(),
        subresource: String::new(),
        user: "alice".to_owned(),
        requester: json!({"uid": "u", "groups": ["g"]}),
    }
}

fn resource(api_version: &str, kind: &str) -> std::sync::Arc<Resource> {
    let all = crate::builtin::all();
    let found = all
        .into_iter()
        .find(|r| r.kind == kind && r.api_version() == api_version);
    found.expect("a built-in kind")
}

/// A new object as it would be stored, and what is wrong with it.
fn created(api_version: &str, kind: &str, mut object: Value) -> (Value, Vec<String>) {
    let (resource, ctx) = (resource(api_version, kind), context());
    resource.strategy.default(&mut object);
    resource.strategy.prepare_create(&ctx, &mut object);
    let errors = resource.strategy.validate_create(&ctx, &object);
    (object, errors.iter().map(ToString::to_string).collect())
}

#[test]
fn objects_are_refused_in_the_words_of_kubernetes() {
    let cases: Vec<(&str, &str, Value, Vec<&str>)> = vec![
        (
            "v1",
            "PersistentVolume",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "csi": {"driver": "d"}}}),
            vec!["spec.csi.volumeHandle: Required value"],
        ),
        (
            "v1",
            "PersistentVolume",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "local": {"path": "/a"},
                "nodeAffinity": {}}}),
            vec!["spec.nodeAffinity.required: Required value: must specify required node constraints"],
        ),
        (
            "v1",
            "Node",
            json!({"spec": {"podCIDR": "x"}}),
            vec![
                "spec.podCIDRs[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ],
        ),
        (
            "storage.k8s.io/v1",
            "StorageClass",
            json!({"provisioner": "p", "allowedTopologies": [{}]}),
            vec!["allowedTopologies[0].matchLabelExpressions: Duplicate value: \"\""],
        ),
        (
            "scheduling.k8s.io/v1",
            "PriorityClass",
            json!({"value": 1, "preemptionPolicy": ""}),
            vec!["preemptionPolicy: Required value"],
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1",
            "PriorityLevelConfiguration",
            json!({"metadata": {"name": "p"}, "spec": {}}),
            vec!["spec.type: Required value"],
        ),
        (
            "node.k8s.io/v1",
            "RuntimeClass",
            json!({"handler": "h", "overhead": {"podFixed": {"no": "1"}}}),
            vec![
                "overhead.limits[no]: Invalid value: \"no\": must be a standard resource type or fully qualified",
                "overhead.limits[no]: Invalid value: \"no\": must be a standard resource for containers",
            ],
        ),
        (
            "admissionregistration.k8s.io/v1",
            "MutatingWebhookConfiguration",
            json!({"webhooks": [{"name": "a.b.c", "failurePolicy": "", "sideEffects": "None",
                "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://h/"}}]}),
            vec![
                "webhooks[0].failurePolicy: Unsupported value: \"\": supported values: \"Fail\", \"Ignore\"",
            ],
        ),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicyBinding",
            json!({"spec": {"policyName": "p"}}),
            vec!["spec.validationActions: Required value: at least one validation action is required"],
        ),
        (
            "networking.k8s.io/v1",
            "Ingress",
            json!({"spec": {"rules": [{"http": {"paths": [{"path": "/", "pathType": "",
                "backend": {"service": {"name": "s", "port": {"number": 1}}}}]}}]}}),
            vec![
                "spec.rules[0].http.paths[0].pathType: Unsupported value: \"\": supported values: \"Exact\", \
                  \"ImplementationSpecific\", \"Prefix\"",
            ],
        ),
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "x"}], "matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
            vec![
                "spec.selector.matchExpressions[0].operator: Invalid value: \"x\": not a valid selector operator",
                "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"},\"matchExpressions\":[{\"key\":\"a\",\
                 \"operator\":\"x\"}]}: invalid label selector",
            ],
        ),
        (
            "v1",
            "Pod",
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}],
                "dnsConfig": {"searches": ["_a.b", "B"]}, "os": {"name": "x"},
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway",
                    "matchLabelKeys": ["k"]}]}}),
            vec![
                "spec.dnsConfig.searches[1]: Invalid value: \"B\": a lowercase RFC 1123 subdomain must consist of lower case \
                 alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. \
                 'example.com', regex used for validation is \
                 '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
                "spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is \
                 not set",
                "spec.os: Unsupported value: \"x\": supported values: \"linux\", \"windows\"",
            ],
        ),
    ];
    for (api_version, kind, object, expected) in cases {
        assert_eq!(
            created(api_version, kind, object.clone()).1,
            expected,
            "{kind} {object}"
        );
    }
}

#[test]
fn objects_are_made_as_kubernetes_makes_them() {
    let source = |group: Value, kind: &str| json!({"apiGroup": group, "kind": kind, "name": "s"});
    let claim = |spec: Value| json!({"spec": spec});
    let snapshot = source("snapshot.storage.k8s.io".into(), "VolumeSnapshot");
    let term = json!({"topologyKey": "z", "labelSelector": {}, "matchLabelKeys": ["a", "no"], "mismatchLabelKeys": ["b"]});
    let cases = [
        (
            "v1",
            "ServiceAccount",
            json!({"secrets": [{"name": "a", "kind": "Secret", "namespace": "x"}]}),
            "/secrets/0",
            json!({"name": "a"}),
        ),
        (
            "v1",
            "Node",
            json!({"spec": {"podCIDR": "10.0.0.0/24"}}),
            "/spec/podCIDRs",
            json!(["10.0.0.0/24"]),
        ),
        (
            "v1",
            "Node",
            json!({"spec": {"podCIDRs": ["10.0.0.0/24"]}}),
            "/spec/podCIDR",
            json!("10.0.0.0/24"),
        ),
        (
            "v1",
            "PersistentVolumeClaim",
            claim(json!({"dataSource": snapshot})),
            "/spec/dataSourceRef",
            snapshot.clone(),
        ),
        (
            "v1",
            "PersistentVolumeClaim",
            claim(json!({"dataSource": source("x".into(), "Y")})),
            "/spec/dataSource",
            Value::Null,
        ),
        (
            "v1",
            "PersistentVolumeClaim",
            claim(json!({"dataSourceRef": source("x".into(), "Y")})),
            "/spec/dataSource",
            source("x".into(), "Y"),
        ),
        (
            "v1",
            "PersistentVolume",
            json!({}),
            "/status",
            json!({"phase": "Pending", "lastPhaseTransitionTime": "2026-01-01T00:00:00Z"}),
        ),
        (
            "certificates.k8s.io/v1",
            "CertificateSigningRequest",
            json!({"spec": {"username": "x", "groups": ["y"]}}),
            "/spec/groups",
            json!(["g"]),
        ),
        (
            "v1",
            "Pod",
            json!({"spec": {"containers": [{"name": "c", "image": "Not/An_Image!"}]}}),
            "/spec/containers/0/imagePullPolicy",
            json!("IfNotPresent"),
        ),
        (
            "v1",
            "Pod",
            json!({"spec": {"containers": [{"name": "c", "image": "localhost:5000/a/b"}]}}),
            "/spec/containers/0/imagePullPolicy",
            json!("Always"),
        ),
        (
            "v1",
            "Pod",
            json!({"spec": {"schedulingGates": [{"name": "g"}]}}),
            "/status/conditions/0/lastTransitionTime",
            json!("2026-01-01T00:00:00Z"),
        ),
        (
            "v1",
            "Pod",
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"affinity": {"podAffinity":
                {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}}),
            "/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/labelSelector",
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]},
                {"key": "b", "operator": "NotIn", "values": ["2"]}]}),
        ),
        (
            "apps/v1",
            "StatefulSet",
            json!({"spec": {"updateStrategy": {"type": "RollingUpdate"}}}),
            "/spec/updateStrategy",
            json!({"type": "RollingUpdate"}),
        ),
    ];
    for (api_version, kind, object, at, expected) in cases {
        let (made, _) = created(api_version, kind, object.clone());
        assert_eq!(
            made.pointer(at).cloned().unwrap_or_default(),
            expected,
            "{kind} {object} {at}"
        );
    }
}

#[test]
fn users_are_warned_in_the_words_of_kubernetes() {
    let cases = [
        (
            "v1",
            "Secret",
            json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}}),
            vec!["tls: failed to find any PEM data in certificate input"],
        ),
        (
            "v1",
            "Secret",
            json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "LS0tLS1CRUdJTiBY", "tls.key": ""}}),
            vec!["tls: failed to find any PEM data in key input"],
        ),
        (
            "v1",
            "PersistentVolume",
            json!({"spec": {"persistentVolumeReclaimPolicy": "Recycle", "rbd": {}}}),
            vec![
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach \
             is to use dynamic provisioning.",
                "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
            ],
        ),
        (
            "storage.k8s.io/v1",
            "CSIDriver",
            json!({"spec": {"tokenRequests": [{"audience": "a"}]}}),
            vec![
                "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible \
             logging of tokens in volume attributes",
            ],
        ),
        (
            "storage.k8s.io/v1",
            "CSIDriver",
            json!({"spec": {"serviceAccountTokenInSecrets": false,
            "tokenRequests": [{"audience": "a"}]}}),
            vec![],
        ),
        (
            "v1",
            "Pod",
            json!({"metadata": {"name": "p"}, "spec": {"volumes": [{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"path": "p"}}]}}],
            "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1, "hostIP": "1.2.3.4"}]}]}}),
            vec![
                "volume \"v\" (Projected) has no sources provided",
                "spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:1 Protocol:TCP \
             HostIP:1.2.3.4}",
            ],
        ),
        (
            "v1",
            "Pod",
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": [
                {"name": "a", "configMap": {"name": "m", "items": [{"key": "x", "path": "p"}, {"key": "y", "path": "p"}]}},
                {"name": "b", "secret": {"secretName": "s", "items": [{"key": "x", "path": "p/q/"}, {"key": "y", "path": "p"}, {"key": "z", "path": "pq"}]}},
                {"name": "c", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                {"name": "d", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "p"}},
                    {"configMap": {"name": "m", "items": [{"key": "x", "path": "p"}]}},
                    {"secret": {"name": "s", "items": [{"key": "x", "path": "o"}]}}]}}]}}),
            vec![
                "volume \"a\" (ConfigMap \"m\"): overlapping paths: \"p\" with \"p\"",
                "volume \"b\" (Secret \"s\"): overlapping paths: \"p\" with \"p/q\"",
                "volume \"d\" (Projected): overlapping paths: \"p\" (ConfigMap \"m\") with \"p\" (ServiceAccountToken)",
            ],
        ),
    ];
    for (api_version, kind, object, expected) in cases {
        let (made, _) = created(api_version, kind, object.clone());
        let warnings = resource(api_version, kind)
            .strategy
            .warnings(&context(), &made, None);
        assert_eq!(warnings, expected, "{kind} {object}");
    }
}

#[test]
fn some_kinds_take_any_name_that_a_path_can_have() {
    for (api_version, kind, any) in [
        ("v1", "Event", true),
        ("events.k8s.io/v1", "Event", false),
        ("policy/v1", "PodDisruptionBudget", true),
        ("certificates.k8s.io/v1", "CertificateSigningRequest", true),
        ("v1", "ConfigMap", false),
    ] {
        let wrong = |name: &str| resource(api_version, kind).strategy.validate_name(name, false);
        assert_eq!(wrong("Any_Name!").is_empty(), any, "{api_version} {kind}");
        assert!(!wrong("a/b").is_empty(), "{api_version} {kind}");
    }
}

/// What is wrong with an update of what is at `subresource`, and the object as it would be stored.
fn updated(
    api_version: &str,
    kind: &str,
    subresource: &str,
    old: Value,
    change: (&str, Value),
) -> (Value, Vec<String>) {
    let resource = resource(api_version, kind);
    let (old, _) = created(api_version, kind, old);
    let mut new = old.clone();
    let (parent, field) = change.0.rsplit_once('/').expect("a pointer");
    new.pointer_mut(parent).expect("it is there")[field] = change.1;
    let ctx = RequestContext {
        now: "2027-01-01T00:00:00Z".to_owned(),
        subresource: subresource.to_owned(),
        ..context()
    };
    resource.strategy.default(&mut new);
    resource.strategy.prepare_update(&ctx, &mut new, &old);
    let errors = resource.strategy.validate_update(&ctx, &new, &old);
    (new, errors.iter().map(ToString::to_string).collect())
}

#[test]
fn updates_are_refused_in_the_words_of_kubernetes() {
    let term =
        |values: Value| json!({"matchExpressions": [{"key": "a", "operator": "In", "values": values}]});
    let volume = json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "nfs": {"server": "s",
        "path": "/p"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [term(json!(["b"]))]}}}});
    let gated = json!({"metadata": {"name": "p"}, "spec": {"schedulingGates": [{"name": "g"}], "nodeSelector": {"a": "b"},
        "containers": [{"name": "c", "image": "i"}]}});
    let cases = [
        (
            "v1",
            "PersistentVolume",
            "",
            volume.clone(),
            (
                "/spec/nodeAffinity/required/nodeSelectorTerms",
                json!([term(json!(["c"]))]),
            ),
            Some("field is immutable, except for updating from beta label to GA"),
        ),
        (
            "v1",
            "PersistentVolume",
            "",
            volume,
            ("/spec/storageClassName", json!("s")),
            None,
        ),
        (
            "v1",
            "Pod",
            "",
            gated.clone(),
            ("/spec/nodeSelector", json!({"a": "b", "c": "d"})),
            None,
        ),
        (
            "v1",
            "Pod",
            "",
            gated.clone(),
            ("/spec/nodeSelector", json!({"a": "c"})),
            Some(
                "spec.nodeSelector: Invalid value: {\"a\":\"c\"}: only additions to spec.nodeSelector are allowed (no mutations or \
             deletions)",
            ),
        ),
        (
            "v1",
            "Pod",
            "",
            gated,
            (
                "/spec/affinity",
                json!({"nodeAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term(json!(["b"]))]}}}),
            ),
            None,
        ),
        (
            "networking.k8s.io/v1",
            "IPAddress",
            "",
            json!({"spec": {"parentRef": {"resource": "r", "name": "n"}}}),
            ("/spec/parentRef", json!({"resource": "r"})),
            Some("spec.parentRef.name: Required value"),
        ),
        (
            "v1",
            "Node",
            "",
            json!({"spec": {}}),
            ("/spec/podCIDR", json!("x")),
            Some(
                "spec.podCIDRs[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1",
            "FlowSchema",
            "status",
            json!({"status": {}, "spec": {}}),
            ("/status", json!({"conditions": [{"type": "A"}, {"type": "A"}]})),
            Some("status.conditions[1].type: Duplicate value: \"A\""),
        ),
    ];
    for (api_version, kind, subresource, old, change, expected) in cases {
        let (_, errors) = updated(api_version, kind, subresource, old, change.clone());
        let first = errors.first().map(String::as_str).unwrap_or_default();
        match expected {
            None => assert_eq!(errors, Vec::<String>::new(), "{kind} {change:?}"),
            Some(expected) => assert!(first.ends_with(expected), "{kind} {change:?}: {errors:?}"),
        }
    }
}

#[test]
fn a_volume_tells_since_when_it_has_its_phase() {
    let created_at = "2026-01-01T00:00:00Z";
    let cases = [
        (json!({"phase": "Bound"}), "2027-01-01T00:00:00Z"),
        (
            json!({"phase": "Bound", "lastPhaseTransitionTime": "2026-06-01T00:00:00Z"}),
            "2026-06-01T00:00:00Z",
        ),
        (json!({"phase": "Pending"}), created_at),
    ];
    for (status, expected) in cases {
        let (new, _) = updated(
            "v1",
            "PersistentVolume",
            "status",
            json!({}),
            ("/status", status.clone()),
        );
        assert_eq!(new["status"]["lastPhaseTransitionTime"], expected, "{status}");
    }
}
