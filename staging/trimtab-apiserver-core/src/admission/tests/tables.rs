//! The small plugins, each as a table: what is asked, and what becomes of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use trimtab_apiserver_auth::UserInfo;

use super::super::*;
use super::{Objects, around, attributes, named};

/// A request to a plugin, of `alice` unless something else is said.
pub(in crate::admission) struct Ask {
    pub(in crate::admission) operation: Operation,
    /// `plural`, or `plural/subresource`.
    pub(in crate::admission) path: &'static str,
    pub(in crate::admission) user: UserInfo,
    pub(in crate::admission) object: Value,
    pub(in crate::admission) old: Option<Value>,
}

pub(in crate::admission) fn create(path: &'static str, object: Value) -> Ask {
    Ask {
        operation: Operation::Create,
        path,
        user: UserInfo {
            name: "alice".to_owned(),
            ..UserInfo::default()
        },
        object,
        old: None,
    }
}

pub(in crate::admission) fn update(path: &'static str, object: Value, old: Value) -> Ask {
    Ask {
        operation: Operation::Update,
        old: Some(old),
        ..create(path, object)
    }
}

/// What the plugin makes of the object, or the text with which it refuses.
pub(in crate::admission) async fn ask(plugin: &dyn Admission, ask: Ask) -> Result<Value, String> {
    let (plural, subresource) = ask.path.split_once('/').unwrap_or((ask.path, ""));
    let cluster_wide = matches!(
        plural,
        "nodes" | "persistentvolumes" | "volumeattributesclasses" | "certificatesigningrequests" | "csinodes"
    );
    let namespace = if cluster_wide { "" } else { "ns" };
    let mut attributes = attributes(ask.operation, plural, namespace, meta::name(&ask.object));
    subresource.clone_into(&mut attributes.subresource);
    attributes.user = ask.user;
    let (mut object, mut warnings) = (ask.object, Vec::new());
    let text = |error: ApiError| format!("{} {}", error.code, error.message);
    if !plugin.concerns(&attributes) {
        return Ok(object);
    }
    let old = ask.old.as_ref();
    plugin
        .mutate(&attributes, &mut object, old, &mut warnings)
        .await
        .map_err(text)?;
    plugin
        .validate(&attributes, Some(&object), old, &mut warnings)
        .await
        .map_err(text)?;
    Ok(object)
}

/// Asks, and expects an object or a text.
async fn check(plugin: &dyn Admission, request: Ask, wanted: Result<Value, &str>) {
    let what = format!("{:?} {} {}", request.operation, request.path, request.object);
    let wanted = wanted.map_err(str::to_owned);
    assert_eq!(ask(plugin, request).await, wanted, "{what}");
}

fn reader(objects: Objects) -> Arc<dyn Reader> {
    Arc::new(objects)
}

fn pod(spec: Value) -> Value {
    named("p", json!({ "spec": spec }))
}

#[tokio::test(start_paused = true)]
async fn new_nodes_are_not_ready() {
    let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let other = json!({"key": "a", "effect": "NoSchedule"});
    let tainted = |taints: Value| named("n", json!({"spec": {"taints": taints}}));
    for (object, wanted) in [
        (named("n", json!({})), tainted(json!([taint]))),
        (tainted(json!([other])), tainted(json!([other, taint]))),
        (tainted(json!([taint])), tainted(json!([taint]))),
    ] {
        check(&TaintNodes, create("nodes", object), Ok(wanted)).await;
    }
    let node = named("n", json!({}));
    check(&TaintNodes, update("nodes", node.clone(), node.clone()), Ok(node)).await;
}

#[tokio::test(start_paused = true)]
async fn pods_say_where_their_node_is() {
    let labels = json!({"topology.kubernetes.io/zone": "z", "other": "o"});
    let objects = Objects::default()
        .with("nodes", "", named("n", json!({"metadata": {"labels": labels}})))
        .with("nodes", "", named("plain", json!({})));
    let plugin = PodTopologyLabels::new(reader(objects));
    let zone = json!({"topology.kubernetes.io/zone": "z", "a": "b"});
    let with = |labels: Value, more: Value| {
        let mut object = named("p", json!({"metadata": {"labels": labels}}));
        trimtab_apimachinery_schema::patch::merge(&mut object, &more);
        object
    };
    let own = json!({"a": "b"});
    let on = |node: &str| json!({"spec": {"nodeName": node}});
    let to = |kind: &str, node: &str| json!({"target": {"kind": kind, "name": node}});
    for (path, more, labelled) in [
        ("pods", on("n"), true),
        ("pods", on("plain"), false),
        ("pods", on("none"), false),
        ("pods", json!({"spec": {}}), false),
        ("pods/binding", to("Node", "n"), true),
        ("pods/binding", to("Other", "n"), false),
        ("pods/eviction", on("n"), false),
    ] {
        let wanted = with(if labelled { zone.clone() } else { own.clone() }, more.clone());
        check(&plugin, create(path, with(own.clone(), more)), Ok(wanted)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn images_are_always_pulled() {
    let spec = |policy: Value, image: &str| {
        pod(json!({
            "containers": [{"name": "c", "image": image, "imagePullPolicy": policy}],
            "initContainers": [{"name": "i", "image": "i", "imagePullPolicy": policy}],
            "volumes": [{"name": "v", "image": {"reference": "r", "pullPolicy": policy}}, {"name": "e", "emptyDir": {}}],
        }))
    };
    let (never, always) = (json!("Never"), json!("Always"));
    let plugin = AlwaysPullImages;
    check(
        &plugin,
        create("pods", spec(never.clone(), "c")),
        Ok(spec(always.clone(), "c")),
    )
    .await;
    let same = update("pods", spec(never.clone(), "c"), spec(never.clone(), "c"));
    check(&plugin, same, Ok(spec(never.clone(), "c"))).await;
    let other = update("pods", spec(never.clone(), "new"), spec(never.clone(), "c"));
    check(&plugin, other, Ok(spec(always, "new"))).await;
    // Whoever comes after may not change that.
    let request = attributes(Operation::Create, "pods", "ns", "p");
    let error = plugin
        .validate(&request, Some(&spec(never, "c")), None, &mut Vec::new())
        .await
        .expect_err("refused");
    assert!(
        error.message.contains(
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Never\": supported values: \"Always\""
        ),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn pods_grow_as_far_as_their_node_goes() {
    let node = |name: &str, os: &str| {
        let labels = json!({"kubernetes.io/os": os});
        let allocatable = json!({"cpu": "2", "memory": "1Gi"});
        named(
            name,
            json!({"metadata": {"labels": labels}, "status": {"allocatable": allocatable}}),
        )
    };
    let objects =
        Objects::default()
            .with("nodes", "", node("n", "linux"))
            .with("nodes", "", node("w", "windows"));
    let plugin = PodResize::new(reader(objects));
    let sized = |node: &str, cpu: &str, memory: &str, generation: u64| {
        let resources = json!({"requests": {"cpu": cpu, "memory": memory}});
        let given = json!({"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "9"}}}]});
        named(
            "p",
            json!({"metadata": {"generation": generation}, "status": given, "spec": {"nodeName": node, "containers": [{"name": "c", "resources": resources}]}}),
        )
    };
    let cases = [
        ("n", "2", "1Gi", 2, ""),
        (
            "n",
            "2500m",
            "2Gi",
            2,
            "node didn't have enough allocatable resources: cpu, requested: 2500, allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824",
        ),
        ("n", "9", "9Gi", 1, ""),
        ("", "9", "9Gi", 2, ""),
        ("none", "1", "1Gi", 2, "node \"none\" not found"),
        (
            "w",
            "1",
            "1Gi",
            2,
            "pod resize is only supported on linux nodes, node \"w\" is \"windows\"",
        ),
    ];
    for (node, cpu, memory, generation, wanted) in cases {
        let new = sized(node, cpu, memory, generation);
        let text = format!("403 pods \"p\" is forbidden: {wanted}");
        let wanted = if wanted.is_empty() {
            Ok(new.clone())
        } else {
            Err(text.as_str())
        };
        let request = update("pods/resize", new, sized(node, "1", "1Mi", 1));
        check(&plugin, request, wanted).await;
    }
}

#[tokio::test(start_paused = true)]
async fn pods_keep_others_from_their_node_only() {
    let rule = |key: &str| {
        let terms = json!([{"topologyKey": key}]);
        pod(
            json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}),
        )
    };
    let plugin = LimitAntiAffinity;
    let host = rule("kubernetes.io/hostname");
    check(&plugin, create("pods", host.clone()), Ok(host)).await;
    let text = "403 pods \"p\" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey zone but only key kubernetes.io/hostname is allowed";
    check(&plugin, create("pods", rule("zone")), Err(text)).await;
}

#[tokio::test(start_paused = true)]
async fn pods_run_where_their_namespace_says() {
    let plugin = |annotation: Option<&str>, config: Value| {
        let annotations = match annotation {
            Some(text) => json!({"scheduler.alpha.kubernetes.io/node-selector": text}),
            None => json!({}),
        };
        let namespace = named("ns", json!({"metadata": {"annotations": annotations}}));
        PodNodeSelector::new(
            reader(Objects::default().with("namespaces", "", namespace)),
            &config,
        )
    };
    let selecting = |labels: Value| pod(json!({ "nodeSelector": labels }));
    let conflict = "403 pods \"p\" is forbidden: pod node label selector conflicts with its namespace node label selector";
    let whitelist =
        "403 pods \"p\" is forbidden: pod node label selector labels conflict with its namespace whitelist";
    let default = json!({"clusterDefaultNodeSelector": "d=1"});
    for (annotation, config, own, wanted) in [
        (
            Some("a=1, b=2"),
            json!({}),
            json!({"c": "3"}),
            Ok(json!({"a": "1", "b": "2", "c": "3"})),
        ),
        (Some("a=1"), json!({}), json!({"a": "2"}), Err(conflict)),
        (
            Some(""),
            default.clone(),
            json!({"a": "2"}),
            Ok(json!({"a": "2"})),
        ),
        (None, default, json!({"a": "2"}), Ok(json!({"a": "2", "d": "1"}))),
        (None, json!({}), json!({"a": "2"}), Ok(json!({"a": "2"}))),
        (
            Some("a=1"),
            json!({"ns": "a=1,b=2"}),
            json!({"b": "2"}),
            Ok(json!({"a": "1", "b": "2"})),
        ),
        (
            Some("a=1"),
            json!({"ns": "a=1,b=2"}),
            json!({"c": "2"}),
            Err(whitelist),
        ),
    ] {
        let plugin = plugin(annotation, config).expect("a plugin");
        check(&plugin, create("pods", selecting(own)), wanted.map(selecting)).await;
    }
    let error = plugin(None, json!({"ns": "a"})).expect_err("refused");
    assert_eq!(error, "podNodeSelectorPluginConfig.ns: invalid selector: [a]");
}

#[tokio::test(start_paused = true)]
async fn pods_with_extended_resources_tolerate_their_taints() {
    let container = |requests: Value| json!({"name": "c", "resources": {"requests": requests}});
    let toleration = json!({"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"});
    let mut asking = pod(json!({
        "containers": [container(json!({"cpu": "1", "example.com/gpu": "1", "x.kubernetes.io/a": "1"}))],
        "initContainers": [container(json!({"example.com/gpu": "1"}))],
    }));
    let mut wanted = asking.clone();
    wanted["spec"]["tolerations"] = json!([toleration]);
    let plugin = ExtendedResourceToleration;
    check(&plugin, create("pods", asking.clone()), Ok(wanted.clone())).await;
    asking["spec"]["tolerations"] = json!([{"key": "a"}, toleration]);
    wanted["spec"]["tolerations"] = asking["spec"]["tolerations"].clone();
    check(&plugin, create("pods", asking), Ok(wanted)).await;
}

#[tokio::test(start_paused = true)]
async fn pods_tolerate_what_their_namespace_has_them_tolerate_and_allows() {
    let t = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoSchedule"});
    let pressure = || t("node.kubernetes.io/memory-pressure");
    let namespace = |defaults: Option<Value>, allowed: Option<Value>| {
        let mut annotations = json!({});
        if let Some(defaults) = defaults {
            annotations["scheduler.alpha.kubernetes.io/defaultTolerations"] = json!(defaults.to_string());
        }
        if let Some(allowed) = allowed {
            annotations["scheduler.alpha.kubernetes.io/tolerationsWhitelist"] = json!(allowed.to_string());
        }
        named("ns", json!({"metadata": {"annotations": annotations}}))
    };
    let config = json!({"default": [t("c")], "whitelist": [t("c"), t("own"), pressure()]});
    let asking = json!([{"name": "c", "resources": {"requests": {"cpu": "1"}}}]);
    let idle = json!([{"name": "c"}]);
    let conflict = |scope: &str| {
        format!(
            "403 pods \"p\" is forbidden: pod tolerations (possibly merged with namespace default tolerations) conflict with its {scope} whitelist"
        )
    };
    let (of_namespace, of_cluster) = (conflict("namespace"), conflict("cluster"));
    for (defaults, allowed, config, containers, own, wanted) in [
        (
            Some(json!([t("d")])),
            None,
            Value::Null,
            &idle,
            json!([t("own")]),
            Ok(json!([t("own"), t("d")])),
        ),
        (
            Some(json!([t("own")])),
            None,
            Value::Null,
            &idle,
            json!([t("own")]),
            Ok(json!([t("own")])),
        ),
        (
            Some(json!([])),
            None,
            config.clone(),
            &idle,
            json!([t("own")]),
            Ok(json!([t("own")])),
        ),
        (
            None,
            None,
            config.clone(),
            &asking,
            json!([t("own")]),
            Ok(json!([t("own"), t("c"), pressure()])),
        ),
        (
            None,
            None,
            config.clone(),
            &idle,
            json!([t("other")]),
            Err(of_cluster.as_str()),
        ),
        (
            None,
            Some(json!([t("x")])),
            Value::Null,
            &idle,
            json!([t("other")]),
            Err(of_namespace.as_str()),
        ),
        (
            None,
            Some(json!([])),
            config,
            &idle,
            json!([t("other")]),
            Ok(json!([t("other"), t("c")])),
        ),
    ] {
        let objects = Objects::default().with("namespaces", "", namespace(defaults, allowed));
        let plugin = TolerationRestriction::new(reader(objects), &config).expect("a plugin");
        let with = |tolerations: Value| pod(json!({"containers": containers, "tolerations": tolerations}));
        check(&plugin, create("pods", with(own)), wanted.map(with)).await;
    }
    let wrong = TolerationRestriction::new(reader(Objects::default()), &json!({"default": "a"}));
    assert_eq!(wrong.expect_err("refused"), "default: want a list of tolerations");
}

#[tokio::test(start_paused = true)]
async fn storage_outlasts_its_use() {
    let held = |finalizers: Value| named("v", json!({"metadata": {"finalizers": finalizers}}));
    for (path, finalizer) in [
        ("persistentvolumes", "kubernetes.io/pv-protection"),
        ("persistentvolumeclaims", "kubernetes.io/pvc-protection"),
        ("volumeattributesclasses", "kubernetes.io/vac-protection"),
    ] {
        let plugin = StorageProtection;
        check(
            &plugin,
            create(path, named("v", json!({}))),
            Ok(held(json!([finalizer]))),
        )
        .await;
        check(
            &plugin,
            create(path, held(json!(["a"]))),
            Ok(held(json!(["a", finalizer]))),
        )
        .await;
        check(
            &plugin,
            create(path, held(json!([finalizer]))),
            Ok(held(json!([finalizer]))),
        )
        .await;
    }
    check(
        &StorageProtection,
        create("configmaps", named("v", json!({}))),
        Ok(named("v", json!({}))),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn claims_grow_where_that_can_be_done() {
    let class = |name: &str, fields: Value| named(name, fields);
    let objects = Objects::default()
        .with(
            "storageclasses",
            "",
            class("grows", json!({"allowVolumeExpansion": true})),
        )
        .with("storageclasses", "", class("fixed", json!({})));
    let plugin = ClaimResize::new(reader(objects));
    let claim = |class: &str, size: &str, phase: &str| {
        named(
            "c",
            json!({"spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}, "status": {"phase": phase}}),
        )
    };
    let unbound =
        "403 persistentvolumeclaims \"c\" is forbidden: Only bound persistent volume claims can be expanded";
    let fixed = "403 persistentvolumeclaims \"c\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    for (class, size, phase, wanted) in [
        ("grows", "2Gi", "Bound", None),
        ("fixed", "1Gi", "Bound", None),
        ("grows", "2Gi", "Pending", Some(unbound)),
        ("fixed", "2Gi", "Bound", Some(fixed)),
        ("none", "2Gi", "Bound", Some(fixed)),
        ("", "2Gi", "Bound", Some(fixed)),
    ] {
        let new = claim(class, size, phase);
        let request = update("persistentvolumeclaims", new.clone(), claim(class, "1Gi", phase));
        check(&plugin, request, wanted.map_or(Ok(new), Err)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn runtime_classes_say_what_and_where() {
    let class = named(
        "vm",
        json!({
            "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"kvm": "yes"}, "tolerations": [{"key": "kvm", "operator": "Exists", "effect": "NoSchedule"}]},
        }),
    );
    let plain = named("plain", json!({"handler": "runc"}));
    let objects = Objects::default()
        .with("runtimeclasses", "", class)
        .with("runtimeclasses", "", plain);
    let plugin = RuntimeClass::new(reader(objects));
    let tolerations = |more: Value| {
        let kvm = json!({"key": "kvm", "operator": "Exists", "effect": "NoSchedule"});
        let mut all = more.as_array().cloned().unwrap_or_default();
        all.push(kvm);
        Value::Array(all)
    };
    let a = json!([{"key": "a", "operator": "Exists"}]);
    let narrow = json!([{"key": "kvm", "operator": "Equal", "value": "x", "effect": "NoSchedule"}]);
    let wide = json!([{"operator": "Exists"}]);
    let full = |tolerations: Value| json!({"runtimeClassName": "vm", "overhead": {"cpu": "250m"}, "nodeSelector": {"kvm": "yes"}, "tolerations": tolerations});
    let cases = [
        (
            json!({"runtimeClassName": "vm"}),
            Ok(full(tolerations(json!([])))),
        ),
        (
            json!({"runtimeClassName": "vm", "tolerations": a}),
            Ok(full(tolerations(a.clone()))),
        ),
        (
            json!({"runtimeClassName": "vm", "tolerations": narrow}),
            Ok(full(tolerations(json!([])))),
        ),
        (
            json!({"runtimeClassName": "vm", "tolerations": wide}),
            Ok(full(wide.clone())),
        ),
        (
            json!({"runtimeClassName": "plain"}),
            Ok(json!({"runtimeClassName": "plain"})),
        ),
        (json!({}), Ok(json!({}))),
        (
            json!({"runtimeClassName": "none"}),
            Err("pod rejected: RuntimeClass \"none\" not found"),
        ),
        (
            json!({"runtimeClassName": "vm", "overhead": {"cpu": "1"}}),
            Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"),
        ),
        (
            json!({"overhead": {"cpu": "1"}}),
            Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"),
        ),
        (
            json!({"runtimeClassName": "vm", "nodeSelector": {"kvm": "no"}}),
            Err("conflict: runtimeClass.scheduling.nodeSelector[kvm] = yes; pod.spec.nodeSelector[kvm] = no"),
        ),
    ];
    for (spec, wanted) in cases {
        let text = wanted
            .as_ref()
            .err()
            .map(|why| format!("403 pods \"p\" is forbidden: {why}"));
        let wanted = match &text {
            Some(text) => Err(text.as_str()),
            None => wanted.map(pod),
        };
        check(&plugin, create("pods", pod(spec)), wanted).await;
    }
}

#[tokio::test(start_paused = true)]
async fn ingresses_get_the_newest_default_class() {
    let class = |name: &str, created: &str| {
        let annotations = json!({"ingressclass.kubernetes.io/is-default-class": "true"});
        named(
            name,
            json!({"metadata": {"creationTimestamp": created, "annotations": annotations}}),
        )
    };
    let objects = Objects::default()
        .with("ingressclasses", "", class("old", "2030-01-01T00:00:00Z"))
        .with("ingressclasses", "", class("new", "2031-01-01T00:00:00Z"))
        .with("ingressclasses", "", class("also-new", "2031-01-01T00:00:00Z"));
    let plugin = DefaultIngressClass::new(reader(objects));
    let ingress = |class: Value| named("i", json!({"spec": {"ingressClassName": class}}));
    let none = || named("i", json!({"spec": {}}));
    check(
        &plugin,
        create("ingresses", none()),
        Ok(ingress(json!("also-new"))),
    )
    .await;
    let own = ingress(json!("own"));
    check(&plugin, create("ingresses", own.clone()), Ok(own)).await;
    let mut annotated = none();
    annotated["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "nginx"});
    check(&plugin, create("ingresses", annotated.clone()), Ok(annotated)).await;
    let nothing = DefaultIngressClass::new(reader(Objects::default()));
    check(&nothing, create("ingresses", none()), Ok(none())).await;
}

#[tokio::test(start_paused = true)]
async fn services_keep_their_external_addresses_and_get_no_others() {
    let service = |ips: Value| named("s", json!({"spec": {"externalIPs": ips}}));
    let text = "403 services \"s\" is forbidden: Use of external IPs is denied by admission control";
    for (new, old, refused) in [
        (json!([]), None, false),
        (json!(["1.1.1.1"]), None, true),
        (json!(["1.1.1.1"]), Some(json!(["1.1.1.1", "2.2.2.2"])), false),
        (json!(["1.1.1.1", "3.3.3.3"]), Some(json!(["1.1.1.1"])), true),
    ] {
        let new = service(new);
        let request = Ask {
            operation: if old.is_some() {
                Operation::Update
            } else {
                Operation::Create
            },
            old: old.map(service),
            ..create("services", new.clone())
        };
        check(
            &DenyExternalIps,
            request,
            if refused { Err(text) } else { Ok(new) },
        )
        .await;
    }
}

/// A certificate request for a name and a group.
pub(in crate::admission) fn request_for(signer: &str, name: &str, group: &str) -> Value {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, group);
    let key = KeyPair::generate().expect("a key");
    let pem = params.serialize_request(&key).and_then(|r| r.pem()).expect("PEM");
    named(
        "r",
        json!({"spec": {"signerName": signer, "request": STANDARD.encode(pem)}}),
    )
}

fn admin(ask: Ask) -> Ask {
    Ask {
        user: UserInfo {
            name: "admin".to_owned(),
            ..UserInfo::default()
        },
        ..ask
    }
}

const CSR: &str = "403 certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: ";

#[tokio::test(start_paused = true)]
async fn certificates_are_approved_and_signed_by_those_who_may() {
    let around = around();
    let (approval, signing) = (
        CertificateApproval::new(around.authorizer.clone()),
        CertificateSigning::new(around.authorizer),
    );
    let request = |status: Value| {
        named(
            "r",
            json!({"spec": {"signerName": "example.com/s"}, "status": status}),
        )
    };
    let approved = request(json!({"conditions": [{"type": "Approved"}]}));
    let approve = || {
        update(
            "certificatesigningrequests/approval",
            approved.clone(),
            request(json!({})),
        )
    };
    let text = format!("{CSR}user not permitted to approve requests with signerName \"example.com/s\"");
    check(&approval, approve(), Err(&text)).await;
    check(&approval, admin(approve()), Ok(approved.clone())).await;
    let signed = request(json!({"certificate": "Y2VydA=="}));
    let sign = || {
        update(
            "certificatesigningrequests/status",
            signed.clone(),
            request(json!({})),
        )
    };
    let text = format!("{CSR}user not permitted to sign requests with signerName \"example.com/s\"");
    check(&signing, sign(), Err(&text)).await;
    check(&signing, admin(sign()), Ok(signed.clone())).await;
    let same = update(
        "certificatesigningrequests/status",
        signed.clone(),
        signed.clone(),
    );
    check(&signing, same, Ok(signed)).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_asks_for_a_certificate_of_the_masters() {
    let client = "kubernetes.io/kube-apiserver-client";
    let plugin = CertificateSubject;
    let text = format!("{CSR}use of {client} signer with system:masters group is not allowed");
    for (signer, group, refused) in [
        (client, "system:masters", true),
        (client, "devs", false),
        ("example.com/s", "system:masters", false),
    ] {
        let request = request_for(signer, "me", group);
        let wanted = if refused {
            Err(text.as_str())
        } else {
            Ok(request.clone())
        };
        check(&plugin, create("certificatesigningrequests", request), wanted).await;
    }
    let nonsense = named("r", json!({"spec": {"signerName": client, "request": "eA=="}}));
    let text = format!("{CSR}failed to parse CSR: PEM block type must be CERTIFICATE REQUEST");
    check(
        &plugin,
        create("certificatesigningrequests", nonsense),
        Err(&text),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn owners_are_set_by_those_who_may() {
    let around = around();
    let plugin = OwnerPermissions::new(around.authorizer, around.resources);
    let owner = |kind: &str, uid: &str, blocks: bool| json!({"apiVersion": "v1", "kind": kind, "name": "o", "uid": uid, "blockOwnerDeletion": blocks});
    let owned = |owners: Value| named("m", json!({"metadata": {"ownerReferences": owners}}));
    let (a, blocking, unknown) = (
        owned(json!([owner("Pod", "a", false)])),
        owned(json!([owner("Pod", "a", true)])),
        owned(json!([owner("Thing", "a", true)])),
    );
    let none = named("m", json!({}));
    let delete =
        "403 configmaps \"m\" is forbidden: cannot set an ownerRef on a resource you can't delete: , <nil>";
    let finalize = "403 configmaps \"m\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>";
    let mapping = "403 configmaps \"m\" is forbidden: cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion v1 Kind Thing: no matches for kind \"Thing\" in version \"v1\"";
    for (request, wanted) in [
        (create("configmaps", none.clone()), None),
        (create("configmaps", a.clone()), None),
        (create("configmaps", blocking.clone()), Some(finalize)),
        (create("configmaps", unknown), Some(mapping)),
        (admin(create("configmaps", blocking.clone())), None),
        (update("configmaps", a.clone(), none.clone()), Some(delete)),
        (update("configmaps", none, a.clone()), Some(delete)),
        (update("configmaps", a.clone(), a.clone()), None),
        (admin(update("configmaps", blocking.clone(), a)), None),
        (update("pods/status", blocking.clone(), blocking), None),
    ] {
        let wanted = wanted.map_or_else(|| Ok(request.object.clone()), Err);
        check(&plugin, request, wanted).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_without_a_namespace() {
    let objects = || Objects::default().with("namespaces", "", named("ns", json!({})));
    let map = named("m", json!({}));
    let here = NamespaceExists::new(reader(objects()));
    check(&here, create("configmaps", map.clone()), Ok(map.clone())).await;
    let nowhere = NamespaceExists::new(reader(Objects::default()));
    check(
        &nowhere,
        create("configmaps", map),
        Err("404 namespaces \"ns\" not found"),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn everything_is_denied() {
    let text = "403 configmaps \"m\" is forbidden: admission control is denying all modifications";
    check(
        &AlwaysDeny,
        create("configmaps", named("m", json!({}))),
        Err(text),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_come_at_a_rate() {
    let limit = |by: &str, qps: u32, burst: u32, cache: u32| json!({"type": by, "qps": qps, "burst": burst, "cacheSize": cache});
    let plugin = |limits: Value| {
        EventRateLimit::new(
            &json!({"kind": "Configuration", "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "limits": limits}),
        )
    };
    let event = |about: &str| {
        named(
            "e",
            json!({"involvedObject": {"kind": "Pod", "name": about}, "source": {"component": "kubelet"}}),
        )
    };
    let sent =
        async |plugin: &EventRateLimit, about: &str| ask(plugin, create("events", event(about))).await.err();
    let by_object = plugin(json!([limit("SourceAndObject", 1, 2, 2)])).expect("a plugin");
    let text = "429 Too many requests: limit reached on type SourceAndObject for key kubeletPoda";
    for (about, wanted) in [("a", None), ("a", None), ("a", Some(text)), ("b", None)] {
        assert_eq!(sent(&by_object, about).await.as_deref(), wanted, "{about}");
    }
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert_eq!(sent(&by_object, "a").await, None, "a second brings one more");
    assert_eq!(sent(&by_object, "a").await.as_deref(), Some(text));
    // A third takes the place of the one that has waited longest, which is as new when it comes back.
    assert_eq!(sent(&by_object, "c").await, None);
    assert_eq!(sent(&by_object, "a").await.as_deref(), Some(text));

    let server = plugin(json!([limit("Server", 1, 1, 0), limit("User", 5, 5, 0)])).expect("a plugin");
    assert_eq!(sent(&server, "a").await, None);
    let text = "429 Too many requests: limit reached on type Server for key ";
    assert_eq!(sent(&server, "b").await.as_deref(), Some(text));
    for limits in [
        json!([]),
        json!([limit("Other", 1, 1, 0)]),
        json!([limit("User", 0, 1, 0)]),
        json!([limit("User", 1, 0, 0)]),
    ] {
        assert!(plugin(limits.clone()).is_err(), "{limits}");
    }
}
