//! The controllers against a server in memory, on paused time.

mod server;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{ControllerSet, Options};
use server::Server;

/// Longer than any of the waits between tries that these tests lead to.
const LONG: Duration = Duration::from_secs(120);

async fn started(server: &Server, controllers: &str) -> ControllerSet {
    let options = Options {
        controllers: controllers.split(',').map(str::to_owned).collect(),
        ..Options::default()
    };
    let mut set = ControllerSet::start(server.client(), options).expect("known controllers");
    set.synced().await;
    set
}

fn owned_by(server: &Server, owner: &str, kind: &str) -> Value {
    let name = owner.split('/').nth(1).unwrap_or_default();
    json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": server.uid(owner), "blockOwnerDeletion": true})
}

fn owners(server: &Server, path: &str) -> Option<Vec<String>> {
    let object = server.get(path)?;
    let owners = object["metadata"]["ownerReferences"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    Some(
        owners
            .iter()
            .map(|owner| owner["name"].as_str().unwrap_or_default().to_owned())
            .collect(),
    )
}

#[tokio::test(start_paused = true)]
async fn dependents_follow_their_owner_as_its_deletion_asks() {
    let all_gone: [Option<&[&str]>; 3] = [None, None, None];
    let cases = [
        ("Background", 0, all_gone),
        ("Foreground", 0, all_gone),
        ("Orphan", 0, [None, Some(&[][..]), Some(&["dependent"][..])]),
        // Whatever is refused is tried again.
        ("Background", 7, all_gone),
        ("Foreground", 7, all_gone),
        ("Orphan", 7, [None, Some(&[][..]), Some(&["dependent"][..])]),
    ];
    for (policy, failures, expected) in cases {
        let server = Server::default();
        server.put("configmaps/owner", json!({}));
        server.put(
            "secrets/dependent",
            json!({"ownerReferences": [owned_by(&server, "configmaps/owner", "ConfigMap")]}),
        );
        server.put(
            "configmaps/leaf",
            json!({"ownerReferences": [owned_by(&server, "secrets/dependent", "Secret")]}),
        );
        let set = started(&server, "garbagecollector").await;
        server.delete("configmaps/owner", policy);
        server.faults(|faults| faults.failures = failures);
        sleep(LONG).await;
        let left =
            ["configmaps/owner", "secrets/dependent", "configmaps/leaf"].map(|path| owners(&server, path));
        let expected =
            expected.map(|owners| owners.map(|owners| owners.iter().map(ToString::to_string).collect()));
        assert_eq!(
            left,
            expected,
            "{policy} with {failures} failures: {:?}",
            server.log()
        );
        set.shut_down().await.expect("nothing to do");
    }
}

#[tokio::test(start_paused = true)]
async fn what_gains_an_owner_at_the_last_moment_is_kept() {
    let server = Server::default();
    server.put("configmaps/first", json!({}));
    server.put("configmaps/second", json!({}));
    let (first, second) = (
        owned_by(&server, "configmaps/first", "ConfigMap"),
        owned_by(&server, "configmaps/second", "ConfigMap"),
    );
    server.put("secrets/dependent", json!({"ownerReferences": [first]}));
    let _set = started(&server, "garbagecollector").await;
    let adopted = json!({"ownerReferences": [first, second]});
    server.faults(|faults| faults.before_delete = Some(("secrets/dependent", adopted)));
    server.delete("configmaps/first", "Background");
    sleep(LONG).await;
    assert_eq!(
        owners(&server, "secrets/dependent"),
        Some(vec!["second".to_owned()])
    );
    assert_eq!(
        server.log()[0],
        "DELETE secrets/dependent 409",
        "{:?}",
        server.log()
    );

    // But a change that has nothing to do with owners does not save it.
    server.faults(|faults| faults.before_delete = Some(("secrets/dependent", json!({"labels": {"a": "b"}}))));
    server.delete("configmaps/second", "Background");
    sleep(LONG).await;
    assert_eq!(server.get("secrets/dependent"), None, "{:?}", server.log());
}

#[tokio::test(start_paused = true)]
async fn only_what_the_server_denies_is_absent() {
    let server = Server::default();
    server.faults(|faults| faults.sites = true);
    server.put("sites/site", json!({}));
    let site = json!({"apiVersion": "example.com/v1", "kind": "Site", "name": "site", "uid": server.uid("sites/site")});
    let gone = json!({"apiVersion": "example.com/v1", "kind": "Site", "name": "gone", "uid": "gone-1"});
    server.faults(|faults| faults.sites = false);
    server.put("secrets/of-site", json!({"ownerReferences": [site]}));
    server.put("secrets/of-nothing", json!({"ownerReferences": [gone]}));
    server.put("secrets/elsewhere/other", json!({"ownerReferences": [site]}));
    let set = started(&server, "garbagecollector").await;
    sleep(LONG).await;
    assert_eq!(
        server.names("secrets"),
        ["of-nothing", "of-site", "elsewhere"],
        "the kind is not served: nothing is known"
    );

    server.faults(|faults| (faults.sites, faults.lost) = (true, true));
    sleep(LONG).await;
    assert_eq!(
        server.names("secrets").len(),
        3,
        "its objects cannot be asked for: nothing is known"
    );

    server.faults(|faults| faults.lost = false);
    sleep(10 * LONG).await;
    assert_eq!(
        server.names("secrets"),
        ["of-site"],
        "the kind is served: one owner is not there, one is elsewhere"
    );

    // A kind that is no longer served has not lost its objects; one that is back tells what it has.
    server.faults(|faults| faults.sites = false);
    sleep(LONG).await;
    server.faults(|faults| faults.sites = true);
    sleep(LONG).await;
    assert_eq!(server.names("secrets"), ["of-site"]);
    server.delete("sites/site", "Background");
    sleep(LONG).await;
    assert!(server.names("secrets").is_empty());
    set.shut_down().await.expect("nothing to do");
}

fn condition(server: &Server, type_: &str) -> String {
    let namespace = server.get("namespaces/ns").expect("it is held");
    let conditions = namespace["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let condition = conditions
        .iter()
        .find(|condition| condition["type"] == type_)
        .cloned()
        .unwrap_or_default();
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    [text("status"), text("reason"), text("message")].join(" ")
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_emptied_then_let_go() {
    let server = Server::default();
    server.faults(|faults| faults.stale = true);
    server.put(
        "namespaces/ns",
        json!({"finalizers": ["example.com/keeps-it-for-this-test"]}),
    );
    server.hold("ns");
    server.put("configmaps/held", json!({"finalizers": ["example.com/hold"]}));
    for path in ["configmaps/free", "secrets/a", "secrets/b", "secrets/other/other"] {
        server.put(path, json!({}));
    }
    let set = started(&server, "namespace").await;
    server.delete("namespaces/ns", "Background");
    sleep(LONG).await;
    assert_eq!(
        (server.names("configmaps"), server.names("secrets")),
        (vec!["held".to_owned()], vec!["other".to_owned()])
    );
    let conditions = [
        (
            "NamespaceDeletionDiscoveryFailure",
            "True DiscoveryFailed Discovery failed for some groups, 1 failing: unable to \
          retrieve the complete list of server APIs: remote.com/v1: stale GroupVersion discovery: remote.com/v1",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "False ParsedGroupVersions All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            "False ContentDeleted All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            "True SomeResourcesRemain Some resources are remaining: configmaps. has 1 resource instances",
        ),
        (
            "NamespaceFinalizersRemaining",
            "True SomeFinalizersRemain Some content in the namespace has finalizers remaining: \
          example.com/hold in 1 resource instances",
        ),
    ];
    for (type_, expected) in conditions {
        assert_eq!(condition(&server, type_), expected, "{type_}");
    }
    let writes = server.log().len();
    sleep(Duration::from_secs(16)).await;
    assert_eq!(
        server.log().len(),
        writes,
        "what is held is not deleted again: {:?}",
        server.log()
    );

    server.put("configmaps/held", json!({"finalizers": []}));
    sleep(LONG).await;
    assert_eq!(
        condition(&server, "NamespaceContentRemaining"),
        "False ContentRemoved All content successfully removed"
    );
    assert!(server.is_held("ns"), "a part of the content cannot be known yet");

    server.faults(|faults| faults.old = true);
    sleep(LONG).await;
    assert!(server.is_held("ns"), "none of the content can be known");
    assert!(
        condition(&server, "NamespaceDeletionDiscoveryFailure")
            .starts_with("True DiscoveryFailed the server says")
    );

    server.faults(|faults| {
        (faults.old, faults.stale) = (false, false);
        faults.failures = 3;
    });
    sleep(LONG).await;
    assert_eq!(
        condition(&server, "NamespaceFinalizersRemaining"),
        "False ContentHasNoFinalizers All content-preserving finalizers finished"
    );
    assert!(!server.is_held("ns"), "{:?}", server.log());
    set.shut_down().await.expect("nothing to do");
}

/// Other servers of the cluster may let objects in until they know.
#[tokio::test(start_paused = true)]
async fn a_namespace_is_emptied_at_once_and_looked_at_again_before_it_goes() {
    let server = Server::default();
    server.put(
        "namespaces/ns",
        json!({"finalizers": ["example.com/keeps-it-for-this-test"]}),
    );
    server.hold("ns");
    server.put("configmaps/early", json!({}));
    let set = started(&server, "namespace").await;
    server.delete("namespaces/ns", "Background");
    sleep(Duration::from_secs(1)).await;
    assert!(server.names("configmaps").is_empty(), "{:?}", server.log());

    sleep(Duration::from_secs(3)).await;
    server.put("configmaps/late", json!({}));
    assert!(server.is_held("ns"), "before the delay is over");
    sleep(Duration::from_secs(2)).await;
    assert!(server.names("configmaps").is_empty(), "{:?}", server.log());
    assert!(!server.is_held("ns"), "{:?}", server.log());
    set.shut_down().await.expect("nothing to do");
}

#[tokio::test(start_paused = true)]
async fn every_namespace_has_its_service_account_while_it_lives() {
    let server = Server::default();
    server.put("namespaces/ns", json!({}));
    server.faults(|faults| faults.failures = 2);
    let set = started(&server, "serviceaccount").await;
    sleep(LONG).await;
    assert_eq!(server.names("serviceaccounts"), ["default"]);
    server.delete("serviceaccounts/default", "Background");
    server.put("namespaces/later", json!({}));
    sleep(LONG).await;
    assert_eq!(
        server.names("serviceaccounts"),
        ["default", "default"],
        "made again, and in the new one"
    );

    server.put("namespaces/ns", json!({"finalizers": ["example.com/hold"]}));
    server.delete("namespaces/ns", "Background");
    sleep(LONG).await;
    server.delete("serviceaccounts/default", "Background");
    sleep(LONG).await;
    assert_eq!(
        server.names("serviceaccounts"),
        ["default"],
        "not in one that is being deleted"
    );
    set.shut_down().await.expect("nothing to do");
}

#[tokio::test(start_paused = true)]
async fn what_is_used_outlasts_its_deletion() {
    let claim_finalizer = json!(["kubernetes.io/pvc-protection"]);
    let volume_finalizer = json!(["kubernetes.io/pv-protection"]);
    let pod = json!({"spec": {"nodeName": "n", "containers": [], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "used"}}]}});
    for failures in [0, 5] {
        let server = Server::default();
        server.put("persistentvolumeclaims/used", json!({}));
        server.put(
            "persistentvolumeclaims/idle",
            json!({"finalizers": ["example.com/own"]}),
        );
        server.put_whole("pods/p", &pod);
        server.put_whole("persistentvolumes/bound", &json!({"status": {"phase": "Bound"}}));
        server.faults(|faults| faults.failures = failures);
        let claims = started(&server, "pvc-protection").await;
        let volumes = started(&server, "pv-protection").await;
        sleep(LONG).await;
        let finalizers =
            |path: &str| server.get(path).expect("it is there")["metadata"]["finalizers"].clone();
        assert_eq!(finalizers("persistentvolumeclaims/used"), claim_finalizer);
        assert_eq!(
            finalizers("persistentvolumeclaims/idle"),
            json!(["example.com/own", "kubernetes.io/pvc-protection"])
        );
        assert_eq!(finalizers("persistentvolumes/bound"), volume_finalizer);
        for path in [
            "persistentvolumeclaims/used",
            "persistentvolumeclaims/idle",
            "persistentvolumes/bound",
        ] {
            server.delete(path, "Background");
        }
        server.faults(|faults| faults.failures = failures);
        sleep(LONG).await;
        assert_eq!(finalizers("persistentvolumeclaims/used"), claim_finalizer);
        assert_eq!(
            finalizers("persistentvolumeclaims/idle"),
            json!(["example.com/own"])
        );
        assert_eq!(finalizers("persistentvolumes/bound"), volume_finalizer);
        server.delete("pods/p", "Background");
        server.put_whole(
            "persistentvolumes/bound",
            &json!({"status": {"phase": "Released"}}),
        );
        sleep(LONG).await;
        let left = ["persistentvolumeclaims/used", "persistentvolumes/bound"].map(|path| server.get(path));
        assert_eq!(left, [None, None], "{:?}", server.log());
        claims.shut_down().await.expect("nothing to do");
        volumes.shut_down().await.expect("nothing to do");
    }
}

/// The collector is told by the watches that others have, and has its own of what nobody watches.
#[tokio::test(start_paused = true)]
async fn no_kind_is_watched_twice() {
    let server = Server::default();
    server.put("namespaces/owner", json!({}));
    let owner = owned_by(&server, "namespaces/owner", "Namespace");
    server.put("configmaps/dependent", json!({"ownerReferences": [owner]}));
    let set = started(
        &server,
        "garbagecollector,namespace,pvc-protection,serviceaccount",
    )
    .await;
    let watches = ["namespaces", "configmaps", "secrets"].map(|plural| server.watches(plural));
    assert_eq!(watches, [1; 3]);
    server.delete("namespaces/owner", "Background");
    sleep(LONG).await;
    assert_eq!(server.get("configmaps/dependent"), None, "{:?}", server.log());
    set.shut_down().await.expect("nothing is under way");
}
