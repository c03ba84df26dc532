//! What a turn asks of the server, and what it does not.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    ConfigMap, LoadBalancerIngress, LoadBalancerStatus, Node, NodeStatus, Service, ServiceStatus,
};
use kube::ResourceExt;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trimtab_client_coordination::events::Note;

use super::server::{RETRY_AFTER, Server};
use super::widgets::{Widget, child, manager, run, wish};
use crate::{ConditionStatus, Error, Next, Reconcile, Result, Turn};

const SOON: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn each_thing_is_asked_once() {
    let server = Server::default();
    let running = run(&server, |controller| controller);
    server.put("widgets", "a", wish("hello"));
    sleep(SOON).await;
    let mut asked = vec![
        "PATCH widgets/a 200",
        "PATCH configmaps/a 200",
        "PATCH widgets/a/status 200",
    ];
    assert_eq!(server.log(), asked);
    let owner = server.get("configmaps", "a").expect("made")["metadata"]["ownerReferences"][0].clone();
    let uid = server.get("widgets", "a").expect("there")["metadata"]["uid"].clone();
    assert_eq!(
        owner,
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "name": "a", "uid": uid, "controller": true,
            "blockOwnerDeletion": true})
    );

    let turns = running.widgets.turns_of("a").len();
    server.put("configmaps", "a", json!({"status": {"of": "somebody else"}}));
    sleep(SOON).await;
    assert!(
        running.widgets.turns_of("a").len() > turns,
        "an owned object's change is a trigger"
    );
    assert_eq!(
        server.log(),
        asked,
        "a child's status is not what an apply would change"
    );

    for damage in [
        json!({"data": {"text": "other"}}),
        json!({"metadata": {"ownerReferences": null}}),
    ] {
        server.put("configmaps", "a", damage);
        asked.push("PATCH configmaps/a 200");
        sleep(SOON).await;
        assert_eq!(server.log(), asked, "repaired");
    }
    server.put("widgets", "a", wish("bye"));
    asked.extend(["PATCH configmaps/a 200", "PATCH widgets/a/status 200"]);
    sleep(SOON).await;
    assert_eq!(server.log(), asked);
    server.delete("widgets", "a");
    asked.extend(["DELETE configmaps/a 200", "PATCH widgets/a 200"]);
    sleep(SOON).await;
    assert_eq!(server.log(), asked);
    assert_eq!(server.get("widgets", "a"), None);
    assert_eq!(
        running.widgets.turns_of("a").last().expect("turns").versions,
        [None, None],
        "seen to be gone"
    );
    running.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_status_is_told_though_the_turn_fails_and_unknown_fields_stay() {
    let server = Server::default();
    let running = run(&server, |controller| controller);
    let mut wish = wish("fail late");
    wish["status"] = json!({"newer": "field", "conditions": [{"type": "Ready", "status": "False", "reason": "New",
        "message": "", "lastTransitionTime": "2020-01-01T00:00:00Z"}]});
    server.put("widgets", "a", wish);
    sleep(SOON).await;
    let status = server.get("widgets", "a").expect("there")["status"].clone();
    assert_eq!(
        (&status["seen"], &status["newer"]),
        (&json!("fail late"), &json!("field"))
    );
    let ready = &status["conditions"][0];
    assert_eq!(
        (&ready["status"], &ready["observedGeneration"]),
        (&json!("True"), &json!(1))
    );
    assert_ne!(ready["lastTransitionTime"], json!("2020-01-01T00:00:00Z"));
    let told = server.log().iter().filter(|line| line.contains("status")).count();
    assert_eq!(told, 1, "once, though the turn was repeated: {:?}", server.log());
    running.end().await.unwrap();
}

/// A status that was computed from an older spec is refused, and computed again.
#[tokio::test(start_paused = true)]
async fn a_conflict_costs_an_attempt_and_nothing_else() {
    let server = Server::default();
    let running = run(&server, |controller| controller);
    server.put("widgets", "a", wish("one"));
    sleep(SOON).await;
    server.0.lock().lag = Duration::from_millis(500);
    server.put("widgets", "a", wish("two"));
    sleep(Duration::from_millis(250)).await;
    server.put("widgets", "a", wish("three"));
    sleep(Duration::from_secs(10)).await;
    let log = server.log();
    assert!(log.contains(&"PATCH widgets/a/status 409".to_owned()), "{log:?}");
    assert_eq!(
        server.get("widgets", "a").expect("there")["status"]["seen"],
        "three"
    );
    let text = running.manager.metrics_text();
    assert!(
        text.contains("controller_runtime_reconcile_errors_total{controller=\"widget\"} 0"),
        "{text}"
    );
    running.end().await.unwrap();
}

/// A reconciler that tries what must be refused and says what came of it.
#[derive(Clone, Default)]
struct Trespasser(Arc<Mutex<Vec<String>>>);

impl Reconcile<Widget> for Trespasser {
    async fn reconcile(&self, turn: &mut Turn<Widget>) -> Result<Next> {
        let mut nameless = child("x", "y");
        nameless.metadata.name = None;
        let mut elsewhere = child("x", "y");
        elsewhere.metadata.namespace = Some("other".to_owned());
        turn.event(Note::warning("Trespass", "Apply", "trying"));
        let results = [
            turn.apply(child("taken", "mine")).await.err(),
            turn.apply(Deployment::default()).await.err(),
            turn.apply(nameless).await.err(),
            turn.apply(elsewhere).await.err(),
            turn.apply(Node {
                metadata: child("n", "").metadata,
                ..Node::default()
            })
            .await
            .err(),
            turn.owned::<Deployment>().err(),
            turn.delete(&child("absent", "")).await.err(),
        ];
        let words = results.map(|error| error.map_or_else(|| "fine".to_owned(), |error| error.to_string()));
        *self.0.lock() = words.to_vec();
        turn.condition("Tried", ConditionStatus::Unknown, "Refused", "");
        turn.release("example.com/not-there").await
    }
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_is_refused_with_a_reason() {
    let server = Server::default();
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u", "controller": true}]);
    server.put(
        "configmaps",
        "taken",
        json!({"metadata": {"ownerReferences": owner}}),
    );
    server.put("widgets", "a", wish("x"));
    let (manager, trespasser, stop) = (manager(&server), Trespasser::default(), CancellationToken::new());
    let builder = manager
        .controller(trespasser.clone())
        .owns::<ConfigMap>()
        .watches(|_: &Node| Vec::new())
        .writes::<Node>();
    builder.start().expect("a good description");
    let run = stop.run_until_cancelled(manager.run(CancellationToken::new()));
    let (_, ()) = tokio::join!(run, async {
        sleep(SOON).await;
        stop.cancel();
    });
    assert_eq!(
        *trespasser.0.lock(),
        [
            r#"object "taken" is already owned by another ReplicaSet controller rs"#,
            "Deployment is not watched by this controller",
            "the ConfigMap to be applied for default/a has no name",
            r#"cross-namespace owner references are disallowed, owner's namespace "default", object's namespace "other""#,
            r#"cluster-scoped object must not have a namespaced owner, owner's namespace "default""#,
            "Deployment is not watched by this controller",
            "fine",
        ]
    );
    let first_turn = ["DELETE configmaps/absent 404", "PATCH widgets/a/status 200"];
    assert_eq!(server.log()[..2], first_turn);
    assert_eq!(
        server.log()[2..],
        first_turn[..1],
        "the second turn has no news to tell"
    );
}

/// A load balancer: a controller of a kind that is not its own, whose type does not tell its status.
struct Balancer;

impl Reconcile<Service> for Balancer {
    async fn reconcile(&self, turn: &mut Turn<Service>) -> Result<Next> {
        turn.status_as(|status: &mut ServiceStatus| {
            let address = LoadBalancerIngress {
                ip: Some("192.0.2.1".to_owned()),
                ..LoadBalancerIngress::default()
            };
            status.load_balancer = Some(LoadBalancerStatus {
                ingress: Some(vec![address]),
            });
        })?;
        if turn
            .latest()
            .is_some_and(|service| service.annotations().is_empty())
        {
            turn.annotate_with_status("example.com/balanced-by", "us");
        }
        let other = turn.status_as(|_: &mut NodeStatus| {});
        assert!(matches!(other, Err(Error::Invalid(_))), "{other:?}");
        Ok(Next::Done)
    }
}

#[tokio::test(start_paused = true)]
async fn built_in_kinds_have_a_status_too() {
    let server = Server::default();
    server.put(
        "services",
        "s",
        json!({"status": {"conditions": [], "unknown": 1}}),
    );
    let (manager, stop) = (manager(&server), CancellationToken::new());
    manager.controller(Balancer).start().expect("a good description");
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        sleep(SOON).await;
        stop.cancel();
    });
    ended.expect("a clean end");
    let service = server.get("services", "s").expect("there");
    assert_eq!(
        service["status"],
        json!({"conditions": [], "unknown": 1, "loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}})
    );
    assert_eq!(
        service["metadata"]["annotations"],
        json!({"example.com/balanced-by": "us"})
    );
    assert_eq!(server.log(), ["PATCH services/s/status 200"]);
}

/// Also after a write; the store has them.
#[tokio::test(start_paused = true)]
async fn the_latest_state_comes_without_managed_fields() {
    #[derive(Clone, Default)]
    struct Looks(Arc<Mutex<Vec<[bool; 3]>>>);
    impl Reconcile<Widget> for Looks {
        async fn reconcile(&self, turn: &mut Turn<Widget>) -> Result<Next> {
            let has =
                |widget: Option<&Widget>| widget.is_some_and(|widget| widget.managed_fields().len() == 1);
            let before = turn.latest();
            turn.hold("example.com/looks").await?;
            let after = turn.latest();
            let stored = turn
                .store::<Widget>()?
                .get(turn.key())
                .map(|widget| widget.decode());
            let stored = stored.transpose()?;
            let all = [before.as_deref(), after.as_deref(), stored.as_deref()].map(has);
            self.0.lock().push(all);
            Ok(Next::Done)
        }
    }
    let server = Server::default();
    let mut widget = wish("x");
    widget["metadata"] = json!({"managedFields": [{"manager": "somebody", "operation": "Update"}]});
    server.put("widgets", "a", widget);
    let (manager, looks, stop) = (manager(&server), Looks::default(), CancellationToken::new());
    manager
        .controller(looks.clone())
        .start()
        .expect("a good description");
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        sleep(Duration::from_secs(1)).await;
        stop.cancel();
    });
    ended.expect("a clean end");
    let looks = looks.0.lock();
    assert!(
        !looks.is_empty() && looks.iter().all(|seen| *seen == [false, false, true]),
        "{looks:?}"
    );
}

#[test]
fn errors_say_what_is_to_be_done() {
    let conflict = kube::core::Status {
        code: 409,
        reason: "Conflict".to_owned(),
        ..Default::default()
    };
    let conflict = Error::from(kube::Error::Api(Box::new(conflict)));
    assert!(conflict.is_conflict() && !conflict.is_terminal() && !conflict.is_not_found());
    assert!(Error::terminal("no").is_terminal() && !Error::other("no").is_terminal());
}

#[tokio::test(start_paused = true)]
async fn a_terminal_failure_waits_for_a_change() {
    let server = Server::default();
    let running = run(&server, |controller| controller);
    server.put("widgets", "a", wish("terminal"));
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(running.widgets.turns_of("a").len(), 1);
    server.put("widgets", "a", wish("good"));
    sleep(SOON).await;
    assert!(server.get("configmaps", "a").is_some());
    running.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_to_be_left_alone_is() {
    let server = Server::default();
    server.0.lock().busy = 2;
    let running = run(&server, |controller| controller);
    server.put("widgets", "a", wish("hello"));
    sleep(RETRY_AFTER * 3).await;
    let turns = running.widgets.turns_of("a");
    assert_eq!(server.0.lock().busy, 0);
    for (before, after) in [(0, 1), (1, 2)] {
        assert!(turns[after].at - turns[before].at >= RETRY_AFTER, "{turns:?}");
    }
    assert_eq!(
        server.get("configmaps", "a").expect("made")["data"]["text"],
        "hello"
    );
    let text = running.manager.metrics_text();
    for figure in [
        r#"rest_client_requests_total{code="429",method="PATCH"} 2"#,
        r#"rest_client_requests_total{code="200",method="PATCH"} 3"#,
    ] {
        assert!(text.contains(figure), "{figure} is not in {text}");
    }
    running.end().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_is_dropped_leaves_nothing_behind() {
    let server = Server::default();
    let running = run(&server, |controller| controller);
    sleep(SOON).await;
    server.0.lock().lag = Duration::from_secs(8);
    server.put("widgets", "a", wish("hello"));
    sleep(Duration::from_secs(9)).await;
    let diary = Arc::downgrade(&running.widgets.diary);
    assert_eq!(
        running.widgets.turns_of("a").len(),
        1,
        "its key waits for the caches"
    );
    running.task.abort();
    drop(running);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(diary.strong_count(), 0);
}

/// Otherwise nobody would ever hear why nothing happens.
#[tokio::test(start_paused = true)]
async fn a_terminal_failure_whose_status_was_not_written_is_tried_again() {
    struct Hopeless;
    impl Reconcile<Widget> for Hopeless {
        async fn reconcile(&self, turn: &mut Turn<Widget>) -> Result<Next> {
            turn.condition("Ready", false, "Hopeless", "");
            Err(Error::terminal("asked for"))
        }
    }
    let server = Server::default();
    server.put("widgets", "a", wish("x"));
    server.0.lock().failures = 2;
    let (manager, stop) = (manager(&server), CancellationToken::new());
    manager.controller(Hopeless).start().expect("a good description");
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        sleep(SOON).await;
        stop.cancel();
    });
    ended.expect("a clean end");
    let refused = "PATCH widgets/a/status 500";
    assert_eq!(server.log(), [refused, refused, "PATCH widgets/a/status 200"]);
}
