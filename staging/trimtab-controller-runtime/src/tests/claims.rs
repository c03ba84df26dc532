//! Who is whose: adoption, release, and phases as turns see them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::LabelSelector;

use super::server::Server;
use super::widgets::{Life, Widget, manager, wish};
use crate::{Error, Next, Reconcile, Result, Turn};

const SOON: Duration = Duration::from_secs(1);

/// Claims the ConfigMaps with its own name as their label.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<String>>>);

impl Reconcile<Widget> for Collector {
    async fn reconcile(&self, turn: &mut Turn<Widget>) -> Result<Next> {
        let selector = match &*turn.key().name {
            "all" => "".to_owned(),
            name => format!("of={name}"),
        };
        let selector = LabelSelector::parse(&selector).map_err(Error::terminal)?;
        let claimed = turn.claim::<ConfigMap>(&selector).await;
        let line = match claimed {
            Ok(claimed) => claimed
                .iter()
                .map(|object| object.name_any())
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        };
        self.0.lock().push(line);
        Ok(Next::Done)
    }
}

fn labelled(of: &str, owners: Value) -> Value {
    json!({"metadata": {"labels": {"of": of}, "ownerReferences": owners}})
}

fn owned_by(uid: &Value) -> Value {
    json!([{"apiVersion": "example.com/v1", "kind": "Widget", "name": "a", "uid": uid, "controller": true}])
}

#[tokio::test(start_paused = true)]
async fn what_is_nobodys_is_adopted_and_what_is_not_selected_is_released() {
    let server = Server::default();
    let uid = server.put("widgets", "a", wish("x"))["metadata"]["uid"].clone();
    server.put("configmaps", "kept", labelled("a", owned_by(&uid)));
    server.put("configmaps", "orphan", labelled("a", Value::Null));
    server.put("configmaps", "strayed", labelled("b", owned_by(&uid)));
    server.put(
        "configmaps",
        "foreign",
        labelled("a", owned_by(&json!("another"))),
    );
    server.put("configmaps", "unrelated", labelled("b", Value::Null));
    let (manager, collector, stop) = (manager(&server), Collector::default(), CancellationToken::new());
    manager
        .controller(collector.clone())
        .owns::<ConfigMap>()
        .start()
        .expect("a good description");
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        sleep(SOON).await;
        stop.cancel();
    });
    ended.expect("a clean end");
    assert_eq!(collector.0.lock()[0], "kept orphan");
    let owner = |name| {
        let references =
            server.get("configmaps", name).expect("there")["metadata"]["ownerReferences"].clone();
        references[0]["uid"].clone()
    };
    assert_eq!(
        (owner("kept"), owner("orphan"), owner("strayed")),
        (uid.clone(), uid, Value::Null)
    );
    assert_eq!(
        (owner("foreign"), owner("unrelated")),
        (json!("another"), Value::Null)
    );
    let reference =
        server.get("configmaps", "orphan").expect("there")["metadata"]["ownerReferences"][0].clone();
    assert_eq!(
        (&reference["controller"], &reference["blockOwnerDeletion"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        server.log(),
        ["PATCH configmaps/orphan 200", "PATCH configmaps/strayed 200"],
        "each thing once"
    );
}

/// The cache shows an owner that is gone; what it would adopt stays an orphan.
#[tokio::test(start_paused = true)]
async fn nobody_adopts_for_an_owner_that_is_gone() {
    let server = Server::default();
    server.put("widgets", "a", wish("x"));
    server.put("widgets", "all", wish("x"));
    let (manager, collector, stop) = (manager(&server), Collector::default(), CancellationToken::new());
    let controller = manager
        .controller(collector.clone())
        .owns::<ConfigMap>()
        .start()
        .expect("a good description");
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        sleep(SOON).await;
        let mut heard = std::mem::take(&mut *collector.0.lock());
        heard.sort();
        assert_eq!(
            heard,
            [
                "",
                r#"the selector of owner "all" is empty and would claim every object"#
            ]
        );
        server.put("configmaps", "orphan", labelled("a", Value::Null));
        sleep(SOON).await;
        server.0.lock().lag = Duration::from_secs(60);
        server.delete("widgets", "a");
        controller.trigger(
            trimtab_apimachinery_meta::ObjectKey::namespaced("default", "a"),
            "to see",
        );
        sleep(SOON).await;
        assert_eq!(
            collector.0.lock().last().map(String::as_str),
            Some(r#"owner "a" is gone"#)
        );
        stop.cancel();
    });
    ended.expect("a clean end");
    assert_eq!(
        server.get("configmaps", "orphan").expect("there")["metadata"]["ownerReferences"],
        Value::Null
    );
}

struct Living;

impl Reconcile<Widget> for Living {
    async fn reconcile(&self, turn: &mut Turn<Widget>) -> Result<Next> {
        let Some(widget) = turn.latest() else {
            return Ok(Next::Done);
        };
        let to = if widget.spec.text == "run" {
            Life::Running
        } else {
            Life::Pending
        };
        turn.phase(|status| &mut status.phase, to).map(|_| Next::Done)
    }
}

#[tokio::test(start_paused = true)]
async fn a_phase_goes_only_where_it_is_declared_to() {
    let server = Server::default();
    server.put("widgets", "a", wish("wait"));
    let (manager, stop) = (manager(&server), CancellationToken::new());
    manager.controller(Living).start().expect("a good description");
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        let seen = || server.get("widgets", "a").expect("there")["status"]["phase"].clone();
        for (text, phase) in [("wait", "Pending"), ("run", "Running"), ("wait again", "Running")] {
            server.put("widgets", "a", wish(text));
            sleep(SOON).await;
            assert_eq!(seen(), phase, "{text}");
        }
        let text = manager.metrics_text();
        let line = r#"controller_runtime_terminal_reconcile_errors_total{controller="widget"} 1"#;
        assert!(text.lines().any(|found| found == line), "{text}");
        stop.cancel();
    });
    ended.expect("a clean end");
}
