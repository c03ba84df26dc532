//! Many writes at once, orphans that are heard of, and sources that look things up.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::LabelSelector;

use super::server::Server;
use super::widgets::{Widget, child, manager, wish};
use crate::source::{Source, Watch};
use crate::{Next, Reconcile, Result, Turn};

const SOON: Duration = Duration::from_secs(1);

/// Makes as many ConfigMaps as its text says, and deletes what is beyond that.
struct Many;

impl Reconcile<Widget> for Many {
    async fn reconcile(&self, turn: &mut Turn<Widget>) -> Result<Next> {
        let Some(widget) = turn.latest() else {
            return Ok(Next::Done);
        };
        let wanted: usize = widget.spec.text.parse().unwrap_or_default();
        let there = turn.store::<ConfigMap>()?.list();
        let surplus: Vec<_> = there.iter().skip(wanted).cloned().collect();
        let deleted = turn.delete_all(&surplus).await;
        assert_eq!(deleted.done.len(), surplus.len());
        let missing = (there.len()..wanted).map(|number| {
            let mut made = child(&format!("c{number:03}"), "made");
            made.metadata.namespace.clone_from(&widget.metadata.namespace);
            made
        });
        let created = turn.create_all::<ConfigMap>(missing.collect()).await;
        assert_eq!(
            created.failure.is_ok(),
            created.skipped == 0 && created.done.len() == wanted.saturating_sub(there.len())
        );
        created.failure.map(|()| Next::Done)
    }
}

#[tokio::test(start_paused = true)]
async fn many_are_made_carefully_and_deleted_at_once() {
    let server = Server::default();
    server.put("widgets", "a", wish("100"));
    server.0.lock().failures = 1;
    let (manager, stop) = (manager(&server), CancellationToken::new());
    manager
        .controller(Many)
        .owns::<ConfigMap>()
        .start()
        .expect("a good description");
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        sleep(SOON).await;
        let log = server.log();
        assert_eq!(
            log[0], "POST configmaps/c000 500",
            "the first one tells how it goes: {log:?}"
        );
        assert_eq!(log.len(), 101, "each of the others once");
        server.put("widgets", "a", wish("3"));
        sleep(SOON).await;
        assert_eq!(server.log().len(), 101 + 97);
        stop.cancel();
    });
    ended.expect("a clean end");
}

/// Takes what is labelled with its name.
struct Adopter;

impl Reconcile<Widget> for Adopter {
    async fn reconcile(&self, turn: &mut Turn<Widget>) -> Result<Next> {
        let selector =
            LabelSelector::parse(&format!("of={}", turn.key().name)).map_err(crate::Error::terminal)?;
        let claimed = turn
            .claim_cached_where::<ConfigMap>(&selector, |object| !object.name().starts_with("not"))
            .await?;
        if let Some(first) = claimed.first() {
            turn.merge_latest(json!({"metadata": {"annotations": {"first": first.name()}}}))
                .await?;
        }
        Ok(Next::Done)
    }
}

#[tokio::test(start_paused = true)]
async fn orphans_are_heard_of_by_those_who_select_them() {
    let server = Server::default();
    for name in ["a", "b"] {
        server.put("widgets", name, wish("x"));
    }
    let (manager, stop) = (manager(&server), CancellationToken::new());
    let related = Source::watch_related(Watch::<ConfigMap>::new(), |object, caches| {
        let widgets = caches
            .store::<Widget>()
            .map(|widgets| widgets.list_in(object.namespace()));
        let related = widgets
            .into_iter()
            .flatten()
            .filter(|widget| object.label("of").as_deref() == Some(widget.name()));
        related.map(|widget| widget.key().clone()).collect()
    });
    manager
        .controller(Adopter)
        .claims::<ConfigMap>(|widget: &Widget| {
            LabelSelector::parse(&format!("of={}", widget.metadata.name.clone()?)).ok()
        })
        .source(related)
        .start()
        .expect("a good description");
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        manager.ready().await;
        for name in ["orphan", "not-this"] {
            server.put("configmaps", name, json!({"metadata": {"labels": {"of": "b"}}}));
        }
        sleep(SOON).await;
        let owner = |name| {
            server.get("configmaps", name).expect("there")["metadata"]["ownerReferences"][0]["name"].clone()
        };
        assert_eq!((owner("orphan"), owner("not-this")), (json!("b"), json!(null)));
        let widget = server.get("widgets", "b").expect("there");
        assert_eq!(widget["metadata"]["annotations"]["first"], "orphan");
        stop.cancel();
    });
    ended.expect("a clean end");
}
