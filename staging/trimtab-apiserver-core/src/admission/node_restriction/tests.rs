//! What the kubelet of `n` may do, and in which words it may not.

use serde_json::{Value, json};

use super::*;
use crate::admission::tests::tables::{Ask, ask, create, request_for, update};
use crate::admission::tests::{Objects, around, named};

fn plugin() -> NodeRestriction {
    let projected =
        json!([{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}]}}]);
    let claims = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    let driver = json!({"spec": {"tokenRequests": [{"audience": "disk"}]}});
    let objects = Objects::default()
        .with("nodes", "", named("n", json!({"metadata": {"uid": "u"}})))
        .with("pods", "ns", named("mine", json!({"metadata": {"uid": "m", "namespace": "ns"}, "spec": {"nodeName": "n", "volumes": projected}})))
        .with("pods", "ns", named("stored", json!({"metadata": {"uid": "s", "namespace": "ns"}, "spec": {"nodeName": "n", "volumes": claims}})))
        .with("pods", "ns", named("other", json!({"metadata": {"uid": "o"}, "spec": {"nodeName": "m"}})))
        .with("persistentvolumeclaims", "ns", named("c", json!({"spec": {"volumeName": "v"}})))
        .with("persistentvolumes", "", named("v", json!({"spec": {"csi": {"driver": "d"}}})))
        .with("csidrivers", "", named("d", driver));
    NodeRestriction::new(std::sync::Arc::new(objects), around().authorizer)
}

fn kubelet(ask: Ask) -> Ask {
    Ask {
        user: UserInfo {
            name: "system:node:n".to_owned(),
            groups: vec!["system:nodes".to_owned()],
            ..UserInfo::default()
        },
        ..ask
    }
}

async fn check(request: Ask, wanted: &str) {
    let what = format!("{:?} {} {}", request.operation, request.path, request.object);
    let answer = ask(&plugin(), kubelet(request)).await;
    let text = answer.err().unwrap_or_default();
    let text = text
        .split_once(" is forbidden: ")
        .map_or(text.as_str(), |(_, why)| why);
    assert_eq!(text, wanted, "{what}");
}

fn mirror(more: Value) -> Value {
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true});
    let mut pod = named(
        "p",
        json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner]}, "spec": {"nodeName": "n"}}),
    );
    trimtab_apimachinery_schema::patch::merge(&mut pod, &more);
    pod
}

#[tokio::test(start_paused = true)]
async fn pods_are_mirrors_of_what_runs_on_the_node() {
    let owner = |more: Value| {
        let mut owner =
            json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true});
        trimtab_apimachinery_schema::patch::merge(&mut owner, &more);
        json!({"metadata": {"ownerReferences": [owner]}})
    };
    let volume = |volume: Value| json!({"spec": {"volumes": [volume]}});
    let env = json!([{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "m"}}}]);
    for (more, wanted) in [
        (json!({}), ""),
        (
            json!({"metadata": {"annotations": null}}),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n\" can only create mirror pods",
        ),
        (
            json!({"spec": {"nodeName": "m"}}),
            "node \"n\" can only create pods with spec.nodeName set to itself",
        ),
        (
            json!({"metadata": {"ownerReferences": []}}),
            "node \"n\" can only create pods with an owner reference set to itself",
        ),
        (
            json!({"metadata": {"ownerReferences": [{}, {}]}}),
            "node \"n\" can only create pods with a single owner reference set to itself",
        ),
        (
            owner(json!({"name": "m"})),
            "node \"n\" can only create pods with an owner reference set to itself",
        ),
        (
            owner(json!({"controller": false})),
            "node \"n\" can only create pods with a controller owner reference set to itself",
        ),
        (
            owner(json!({"blockOwnerDeletion": true})),
            "node \"n\" must not set blockOwnerDeletion on an owner reference",
        ),
        (
            owner(json!({"uid": "x"})),
            "node n UID mismatch: expected x got u",
        ),
        (
            json!({"spec": {"serviceAccountName": "a"}}),
            "node \"n\" can not create pods that reference serviceaccounts",
        ),
        (
            json!({"spec": {"imagePullSecrets": [{"name": "a"}]}}),
            "node \"n\" can not create pods that reference secrets",
        ),
        (
            json!({"spec": {"containers": [{"name": "c", "env": env}]}}),
            "node \"n\" can not create pods that reference configmaps",
        ),
        (
            json!({"spec": {"resourceClaims": [{"name": "r"}]}}),
            "node \"n\" can not create pods that reference resourceclaims",
        ),
        (volume(json!({"name": "v", "hostPath": {"path": "/"}})), ""),
        (
            volume(json!({"name": "v", "secret": {}})),
            "node \"n\" can not create pods that reference secrets",
        ),
        (
            volume(json!({"name": "v", "csi": {"driver": "d"}})),
            "node \"n\" can not create pods that reference csidrivers (via CSI volumes)",
        ),
        (
            volume(
                json!({"name": "v", "projected": {"sources": [{"downwardAPI": {}}, {"clusterTrustBundle": {}}]}}),
            ),
            "node \"n\" can not create pods that reference clustertrustbundles",
        ),
        (
            volume(json!({"name": "v", "new": {}})),
            "error checking mirror pod for API references: unknown volume type for volume  \"v\"",
        ),
    ] {
        check(create("pods", mirror(more)), wanted).await;
    }
    let pod = mirror(json!({}));
    check(
        update("pods", pod.clone(), pod),
        "unexpected operation \"UPDATE\", node \"n\" can only create and delete mirror pods",
    )
    .await;
    check(
        create("pods/exec", json!({})),
        "unexpected pod subresource \"exec\", only 'status' and 'eviction' are allowed",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_run_on_the_node_are_its_own() {
    let pod = |node: &str, status: Value, labels: Value| {
        named(
            "p",
            json!({"metadata": {"labels": labels}, "spec": {"nodeName": node}, "status": status}),
        )
    };
    let plain = |node: &str| pod(node, json!({}), json!({}));
    let claims = json!({"resourceClaimStatuses": [{"name": "c", "resourceClaimName": "x"}]});
    for (new, old, wanted) in [
        (pod("n", json!({"phase": "Running"}), json!({})), plain("n"), ""),
        (
            plain("m"),
            plain("m"),
            "node \"n\" can only update pod status for pods with spec.nodeName set to itself",
        ),
        (
            pod("n", json!({}), json!({"a": "b"})),
            plain("n"),
            "node \"n\" cannot update labels through pod status",
        ),
        (
            pod("n", claims, json!({})),
            plain("n"),
            "node \"n\" cannot update resource claim statues",
        ),
        (
            pod("n", json!({"extendedResourceClaimStatus": {}}), json!({})),
            plain("n"),
            "node \"n\" cannot update extended resource claim status",
        ),
    ] {
        check(update("pods/status", new, old), wanted).await;
    }
    check(create("pods/eviction", named("mine", json!({}))), "").await;
    check(
        create("pods/eviction", named("other", json!({}))),
        "node n can only evict pods with spec.nodeName set to itself",
    )
    .await;
    check(
        create("pods/eviction", named("none", json!({}))),
        "404 pods \"none\" not found",
    )
    .await;
    for (node, refused) in [("n", false), ("m", true)] {
        let mut request = crate::admission::tests::attributes(Operation::Delete, "pods", "ns", "p");
        request.user = kubelet(create("pods", json!({}))).user;
        let answer = plugin()
            .validate(&request, None, Some(&plain(node)), &mut Vec::new())
            .await;
        assert_eq!(answer.is_err(), refused, "{node}: {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_node_is_its_own_but_for_what_others_say_of_it() {
    let node = |name: &str, more: Value| {
        let mut node = named(name, json!({}));
        trimtab_apimachinery_schema::patch::merge(&mut node, &more);
        node
    };
    let labels = |labels: Value| node("n", json!({"metadata": {"labels": labels}}));
    let fine = json!({"kubernetes.io/hostname": "n", "x.kubelet.kubernetes.io/a": "b", "example.com/a": "b", "plain": "c"});
    let bad = json!({"node-role.kubernetes.io/master": "", "a.node-restriction.kubernetes.io/x": "y", "node-restriction.kubernetes.io/z": "y", "x.k8s.io/a": ""});
    let list = "a.node-restriction.kubernetes.io/x, node-restriction.kubernetes.io/z, node-role.kubernetes.io/master, x.k8s.io/a";
    check(create("nodes", labels(fine)), "").await;
    check(
        create("nodes", labels(bad.clone())),
        &format!("node \"n\" is not allowed to set the following labels: {list}"),
    )
    .await;
    check(
        create("nodes", node("m", json!({}))),
        "node \"n\" is not allowed to modify node \"m\"",
    )
    .await;
    let plain = || node("n", json!({}));
    for (new, old, wanted) in [
        (plain(), plain(), String::new()),
        (labels(bad.clone()), labels(bad.clone()), String::new()),
        (
            plain(),
            labels(bad.clone()),
            format!("is not allowed to modify labels: {list}"),
        ),
        (
            node("n", json!({"spec": {"taints": [{"key": "a"}]}})),
            plain(),
            "node \"n\" is not allowed to modify taints".to_owned(),
        ),
        (
            node("n", json!({"metadata": {"ownerReferences": [{}]}})),
            plain(),
            "node \"n\" is not allowed to modify ownerReferences".to_owned(),
        ),
        (
            node("n", json!({"spec": {"configSource": {"a": 1}}})),
            plain(),
            "node \"n\" is not allowed to update configSource to a new non-nil configSource".to_owned(),
        ),
    ] {
        check(update("nodes", new, old), &wanted).await;
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_are_for_pods_on_the_node() {
    let token = |kind: &str, name: &str, uid: &str, audiences: Value| json!({"spec": {"audiences": audiences, "boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}}});
    let vault = || json!(["vault"]);
    let missing = |audience: &str| {
        format!(
            "audience \"{audience}\" not found in pod spec volume, system:node:n is not authorized to request tokens for this audience"
        )
    };
    for (request, wanted) in [
        (token("Pod", "mine", "m", vault()), String::new()),
        (token("Pod", "stored", "s", json!(["disk"])), String::new()),
        (token("Pod", "mine", "m", json!(["other"])), missing("other")),
        (token("Pod", "mine", "m", json!([])), missing("")),
        (token("Pod", "mine", "m", json!(["vault", "other"])), "node may only request 0 or 1 audiences".to_owned()),
        (token("Secret", "mine", "m", vault()), "node requested token not bound to a pod".to_owned()),
        (token("Pod", "mine", "", vault()), "node requested token with a pod binding without a uid".to_owned()),
        (token("Pod", "mine", "x", vault()), "the UID in the bound object reference (x) does not match the UID in record. The object might have been deleted and then recreated".to_owned()),
        (token("Pod", "other", "o", vault()), "node requested token bound to a pod scheduled on a different node".to_owned()),
        (json!({"spec": {}}), "node requested token not bound to a pod".to_owned()),
    ] {
        check(create("serviceaccounts/token", request), &wanted).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_the_node_is_called_like_it() {
    let own = |name: &str| named(name, json!({}));
    let claim = |status: Value| named("c", json!({"status": status}));
    let more = "node \"n\" is not allowed to update fields other than status.quantity and status.conditions";
    let slice = |node: &str| named("s", json!({"spec": {"nodeName": node}}));
    let kubelet_signer = "kubernetes.io/kube-apiserver-client-kubelet";
    for (request, wanted) in [
        (create("csinodes", own("n")), ""),
        (
            create("csinodes", own("m")),
            "can only access CSINode with the same name as the requesting node",
        ),
        (
            update("csinodes", own("m"), own("m")),
            "can only access CSINode with the same name as the requesting node",
        ),
        (
            create("leases", own("n")),
            "can only access leases in the \"kube-node-lease\" system namespace",
        ),
        (
            create("persistentvolumeclaims", own("c")),
            "may only update PVC status",
        ),
        (
            update(
                "persistentvolumeclaims/status",
                claim(json!({"capacity": {"storage": "1"}})),
                claim(json!({})),
            ),
            "",
        ),
        (
            update(
                "persistentvolumeclaims/status",
                claim(json!({"phase": "Lost"})),
                claim(json!({})),
            ),
            more,
        ),
        (create("resourceslices", slice("n")), ""),
        (
            create("resourceslices", slice("m")),
            "can only create ResourceSlice with the same NodeName as the requesting node",
        ),
        (
            create(
                "certificatesigningrequests",
                request_for(kubelet_signer, "system:node:n", "system:nodes"),
            ),
            "",
        ),
        (
            create(
                "certificatesigningrequests",
                request_for(kubelet_signer, "system:node:m", "system:nodes"),
            ),
            "can only create a node CSR with CN=system:node:n",
        ),
        (
            create(
                "certificatesigningrequests",
                request_for("example.com/s", "system:node:m", "system:nodes"),
            ),
            "",
        ),
        (create("configmaps", own("m")), ""),
    ] {
        check(request, wanted).await;
    }
    // Those who are no kubelets are none of its business.
    let answer = ask(&plugin(), create("nodes", own("m"))).await;
    assert!(answer.is_ok(), "{answer:?}");
}
