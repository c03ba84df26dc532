//! What leads to requests, and which is next.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{SLOW, SOON, during, told};
use crate::predicate::Predicate;
use crate::source::{LOW, Watch};
use crate::tests::server::Server;
use crate::tests::widgets::{Widget, manager, wish};
use crate::{Next, Reconcile, Reconciled, Result, Subject, Turn};

/// Keeps a diary of the keys of anything.
#[derive(Clone, Default)]
struct Keys(Arc<Mutex<Vec<String>>>);

impl<S: Subject> Reconcile<S> for Keys {
    async fn reconcile(&self, turn: &mut Turn<S>) -> Result<Next> {
        self.0.lock().push(turn.key().to_string());
        Ok(Next::Done)
    }
}

impl Keys {
    /// What came up since this was asked last.
    fn take(&self) -> Vec<String> {
        let mut keys = std::mem::take(&mut *self.0.lock());
        keys.sort();
        keys
    }
}

/// Runs a controller of `K`s that own ConfigMaps until the test has ended.
async fn owners<K: Reconciled>(server: &Server, test: impl AsyncFnOnce(&Keys)) {
    let (manager, keys) = (manager(server), Keys::default());
    let controller = manager.controller::<K, _>(keys.clone()).owns::<ConfigMap>();
    controller.start().expect("a good description");
    during(&manager, async {
        sleep(SOON).await;
        test(&keys).await;
    })
    .await;
}

/// An object with owners.
fn owned(owners: Value) -> Value {
    json!({"metadata": {"ownerReferences": owners}})
}

fn owner(api_version: &str, kind: &str, name: &str, controller: bool) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": "u", "controller": controller})
}

#[tokio::test(start_paused = true)]
async fn what_happens_in_a_turn_leads_to_one_more() {
    let server = Server::default();
    told(
        &server,
        |controller| controller.workers(3),
        async |told, _| {
            server.put("widgets", "a", wish("slow"));
            sleep(SOON).await;
            for n in 0..5 {
                server.put(
                    "widgets",
                    "a",
                    json!({"metadata": {"labels": {"n": n.to_string()}}}),
                );
                sleep(SOON).await;
            }
            sleep(SLOW * 5).await;
            let turns = told.of("a");
            assert_eq!(turns.len(), 2, "{turns:?}");
            assert!(
                turns[0].ended.is_some_and(|ended| ended <= turns[1].begun),
                "{turns:?}"
            );
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn owners_are_told_by_group_and_kind_if_they_are_controllers() {
    let (ours, later, theirs) = ("example.com/v1", "example.com/v2beta1", "example.org/v1");
    let cases = [
        (vec![owner(ours, "Widget", "a", true)], vec!["default/a"]),
        (vec![owner(later, "Widget", "a", true)], vec!["default/a"]),
        (vec![owner(ours, "Widget", "a", false)], vec![]),
        (vec![owner(theirs, "Widget", "a", true)], vec![]),
        (vec![owner("v1", "Widget", "a", true)], vec![]),
        (vec![owner(ours, "Gadget", "a", true)], vec![]),
        (
            vec![
                owner(ours, "Widget", "a", false),
                owner(ours, "Widget", "b", true),
            ],
            vec!["default/b"],
        ),
        (vec![], vec![]),
    ];
    let server = Server::default();
    owners::<Widget>(&server, async |keys| {
        for (number, (owners, expected)) in cases.into_iter().enumerate() {
            server.put("configmaps", &format!("c{number}"), owned(owners.clone().into()));
            sleep(SOON).await;
            assert_eq!(keys.take(), expected, "{owners:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_loses_an_object_hears_of_it() {
    let server = Server::default();
    let by = |name| owned(json!([owner("example.com/v1", "Widget", name, true)]));
    owners::<Widget>(&server, async |keys| {
        server.put("configmaps", "c", by("a"));
        sleep(SOON).await;
        assert_eq!(keys.take(), ["default/a"]);
        server.put("configmaps", "c", by("b"));
        sleep(SOON).await;
        assert_eq!(keys.take(), ["default/a", "default/b"]);
        server.put("configmaps", "c", owned(Value::Null));
        sleep(SOON).await;
        assert_eq!(keys.take(), ["default/b"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_in_no_namespace_is_told_by_its_name() {
    let server = Server::default();
    owners::<Node>(&server, async |keys| {
        server.put("configmaps", "c", owned(json!([owner("v1", "Node", "n", true)])));
        sleep(SOON).await;
        assert_eq!(keys.take(), ["n"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_predicate_drops_a_look_and_not_a_change() {
    struct Looking(Arc<Mutex<Vec<usize>>>);
    impl Reconcile<Widget> for Looking {
        async fn reconcile(&self, turn: &mut Turn<Widget>) -> Result<Next> {
            let maps = turn.store::<ConfigMap>()?.len();
            self.0.lock().push(maps);
            Ok(Next::Done)
        }
    }
    let (server, seen) = (Server::default(), Arc::<Mutex<Vec<usize>>>::default());
    let manager = manager(&server);
    let nothing = Watch::<ConfigMap>::new().when(Predicate::new(|_| false));
    let controller = manager.controller(Looking(seen.clone())).owns_by(nothing);
    controller.start().expect("a good description");
    during(&manager, async {
        server.put("widgets", "a", wish("x"));
        sleep(SOON).await;
        server.put(
            "configmaps",
            "a",
            owned(json!([owner("example.com/v1", "Widget", "a", true)])),
        );
        sleep(SOON).await;
        assert_eq!(*seen.lock(), [0], "it leads to nothing");
        server.put("widgets", "a", wish("y"));
        sleep(SOON).await;
        assert_eq!(*seen.lock(), [0, 1], "and is there");
    })
    .await;
}

// === which request is next ===

#[tokio::test(start_paused = true)]
async fn a_resync_is_urgent_for_nobody() {
    let server = Server::default();
    (0..5).for_each(|n| drop(server.put("widgets", &format!("w{n}"), wish("slow"))));
    told(
        &server,
        |controller| controller.resync(Duration::from_secs(3600)),
        async |told, controller| {
            sleep(SLOW * 10).await;
            assert_eq!((told.0.lock().len(), controller.queue().len()), (5, 0));
            let resynced = async {
                while controller.queue().is_empty() {
                    sleep(SOON).await;
                }
            };
            let resynced = timeout(Duration::from_secs(4000), resynced).await;
            resynced.expect("an hour has passed, and a tenth");
            let waiting = controller.queue().snapshot();
            assert_eq!(waiting.len(), 5);
            assert!(waiting.iter().all(|key| key.priority == LOW), "{waiting:?}");
            sleep(SLOW * 10).await;
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_back_is_as_urgent_as_before() {
    for text in ["fail", "later"] {
        let server = Server::default();
        server.put("widgets", "listed", wish(text));
        told(
            &server,
            |controller| controller,
            async |told, controller| {
                sleep(SOON).await;
                server.put("widgets", "made", wish(text));
                sleep(SLOW).await;
                assert!(!told.of("listed").is_empty() && !told.of("made").is_empty());
                let mut waiting: Vec<_> = controller
                    .queue()
                    .snapshot()
                    .into_iter()
                    .map(|waiting| (waiting.key.name, waiting.priority))
                    .collect();
                waiting.sort();
                assert_eq!(
                    waiting,
                    [("listed".to_owned(), LOW), ("made".to_owned(), 0)],
                    "{text}"
                );
            },
        )
        .await;
    }
}
