//! The manager's order of things: what waits for what, and what ends when.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use kube::ResourceExt;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::informer::{InformerStatus, Selection};

use super::server::Server;
use super::widgets::{Widget, Widgets, manager, run, wish};
use crate::rbac::Rule;
use crate::serving::Router;
use crate::source::{Source, Watch};
use crate::{Error, Manager, Part};

const SOON: Duration = Duration::from_secs(1);

/// A controller works as soon as its own kinds are there; the manager is ready when all of them are.
#[tokio::test(start_paused = true)]
async fn a_missing_kind_delays_only_those_who_need_it() {
    let server = Server::default();
    server.0.lock().missing.push("secrets".to_owned());
    server.put("widgets", "a", wish("x"));
    let manager = manager(&server);
    let widgets = Widgets::of(&server);
    let waiting = Widgets::of(&server);
    manager
        .controller(widgets.clone())
        .owns::<ConfigMap>()
        .start()
        .expect("a good description");
    let other = manager
        .controller(waiting.clone())
        .named("other")
        .owns::<ConfigMap>()
        .owns::<Secret>();
    other.start().expect("a good description");
    let taken = manager.controller(waiting.clone()).named("other").start();
    assert!(matches!(
        taken,
        Err(Error::NameTaken {
            what: "controller",
            ..
        })
    ));

    let stop = CancellationToken::new();
    let run = manager.run(stop.clone());
    let test = async {
        sleep(Duration::from_secs(5)).await;
        assert!(!manager.is_ready());
        assert_eq!(
            (widgets.turns_of("a").is_empty(), waiting.turns_of("a").len()),
            (false, 0)
        );
        server.0.lock().missing.clear();
        sleep(Duration::from_secs(60)).await;
        assert!(manager.is_ready());
        assert!(!waiting.turns_of("a").is_empty());
        assert!(matches!(manager.run(stop.clone()).await, Err(Error::AlreadyRun)));
        assert!(matches!(
            manager.controller(waiting.clone()).named("late").start(),
            Err(Error::AlreadyRun)
        ));
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(run, test);
    assert!(ended.is_ok(), "{ended:?}");
    assert!(!manager.is_ready());
    let turns = (widgets.turns_of("a").len(), waiting.turns_of("a").len());
    server.put("widgets", "a", wish("later"));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        (widgets.turns_of("a").len(), waiting.turns_of("a").len()),
        turns,
        "all has ended"
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_for_the_first_lists_says_what_is_missing() {
    let server = Server::default();
    server.0.lock().missing.push("configmaps".to_owned());
    let manager = manager(&server).sync_within(Duration::from_secs(20));
    let widgets = Widgets::of(&server);
    manager
        .controller(widgets)
        .owns::<ConfigMap>()
        .start()
        .expect("a good description");
    let begun = Instant::now();
    let error = manager
        .run(CancellationToken::new())
        .await
        .expect_err("it cannot sync");
    assert_eq!(begun.elapsed().as_secs(), 20);
    let words = error.to_string();
    assert!(
        words.contains("ConfigMap of controller widget (") && words.contains("could not find"),
        "{words}"
    );
    assert!(!words.contains("Widget of"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn keys_come_from_watched_kinds_from_outside_and_from_time() {
    let server = Server::default();
    let running = run(&server, |controller| {
        controller
            .watches(|secret: &Secret| {
                let name = secret.annotations().get("for").cloned();
                name.map(|name| ObjectKey::namespaced("default", name))
                    .into_iter()
                    .collect()
            })
            .ignore_status()
            .resync(Duration::from_secs(3600))
    });
    for name in ["a", "b"] {
        server.put("widgets", name, wish("x"));
    }
    sleep(SOON).await;
    let turns = |name| running.widgets.turns_of(name).len();
    let (a, b) = (turns("a"), turns("b"));

    server.put("widgets", "a", json!({"status": {"other": 1}}));
    sleep(SOON).await;
    assert_eq!((turns("a"), turns("b")), (a, b), "a status is no trigger");
    server.put("secrets", "s", json!({"metadata": {"annotations": {"for": "a"}}}));
    sleep(SOON).await;
    assert_eq!((turns("a"), turns("b")), (a + 1, b));
    server.put("secrets", "s", json!({"metadata": {"annotations": {"for": "b"}}}));
    sleep(SOON).await;
    assert_eq!((turns("a"), turns("b")), (a + 2, b + 1), "what was and what is");
    assert!(
        running
            .controller
            .trigger(ObjectKey::namespaced("default", "b"), "a call")
    );
    sleep(SOON).await;
    assert_eq!((turns("a"), turns("b")), (a + 2, b + 2));
    sleep(Duration::from_secs(4000)).await;
    assert_eq!(
        (turns("a"), turns("b")),
        (a + 3, b + 3),
        "a resync after an hour, more or less"
    );

    server.put("widgets", "a", wish("terminal"));
    sleep(SOON).await;
    let failed = turns("a");
    server.put("secrets", "s", json!({"metadata": {"annotations": {"for": "a"}}}));
    sleep(SOON).await;
    assert_eq!(
        turns("a"),
        failed + 1,
        "what is in no view is remembered as a change"
    );
    let trigger = running.controller.clone();
    running.end().await.unwrap();
    assert!(!trigger.trigger(ObjectKey::namespaced("default", "a"), "too late"));
}

#[tokio::test(start_paused = true)]
async fn figures_have_the_names_that_dashboards_know() {
    let server = Server::default();
    let running = run(&server, |controller| controller);
    server.put("widgets", "a", wish("x"));
    sleep(SOON).await;
    let text = running.manager.metrics_text();
    let turns = running.widgets.turns_of("a").len();
    let informer = |name: &str, more: &str, value: &str| {
        let labels = r#"kind="Widget",resource="widgets.example.com",scope="all""#;
        format!("informer_{name}{{{labels}{more}}} {value}")
    };
    for line in [
        format!(r#"controller_runtime_reconcile_total{{controller="widget",result="success"}} {turns}"#),
        r#"controller_runtime_reconcile_total{controller="widget",result="error"} 0"#.to_owned(),
        r#"controller_runtime_active_workers{controller="widget"} 0"#.to_owned(),
        format!(r#"controller_runtime_reconcile_time_seconds_count{{controller="widget"}} {turns}"#),
        format!(r#"workqueue_work_duration_seconds_count{{name="widget",controller="widget"}} {turns}"#),
        r#"workqueue_longest_running_processor_seconds{name="widget",controller="widget"} 0.0"#.to_owned(),
        "# TYPE workqueue_longest_waiting_seconds gauge".to_owned(),
        informer("objects", "", "1"),
        informer("synced", "", "1"),
        informer("lists_total", r#",how="paged""#, "1"),
        informer("relists_total", r#",reason="expired""#, "0"),
        informer("handler_backlog", r#",handler="Widget""#, "0"),
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(text.ends_with("# EOF\n"));
    running.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_part_brings_checks_figures_and_rules() {
    let server = Server::default();
    let manager = manager(&server);
    let idle = |name: &str| {
        Part::beside(name, |stop: CancellationToken| async move {
            stop.cancelled().await;
            Ok::<_, std::io::Error>(())
        })
    };
    let (figure, mut figures) = (Gauge::<i64>::default(), Registry::default());
    figures.register("leaflets", "Leaflets in stock", figure.clone());
    let stocked = figure.clone();
    let check = move || {
        let empty = stocked.get() == 0;
        async move {
            if empty {
                Err("no leaflets".to_owned())
            } else {
                Ok(())
            }
        }
    };
    let printer = idle("printer")
        .metrics(figures)
        .ready("stock", check)
        .needs(Rule::new("", "pods/log", ["get"], true));
    manager.part(printer).expect("the first");
    assert!(manager.rules().allow("get", "", "pods/log"));

    let router = manager.health().routes(Router::new()).expect("new paths");
    for (stock, code) in [(0, 500), (3, 200)] {
        figure.set(stock);
        let request = http::Request::get("/readyz/stock").body(Full::<Bytes>::default());
        let answer = router.answer(request.expect("a request")).await;
        assert_eq!(answer.status(), code);
        let text = manager.metrics_text();
        let line = format!("leaflets {stock}");
        assert!(text.lines().any(|found| found == line), "{text}");
        assert!(
            text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1,
            "{text}"
        );
    }

    let taken = manager.part(idle("copier").ready("stock", || async { Ok(()) }));
    let error = taken.expect_err("the check is there").to_string();
    assert!(
        error.starts_with("copier: a health check needs a name of its own"),
        "{error}"
    );
}

/// Who asks the manager for an informer shares the watches and caches of its controllers, also of kinds without namespaces,
/// to which a manager's namespace means nothing. So does a manager that is given them.
#[tokio::test(start_paused = true)]
async fn the_informers_of_a_manager_are_those_of_its_controllers() {
    let server = Server::default();
    server.put("widgets", "a", wish("x"));
    let kept = Selection::in_namespace("default").without_bookkeeping();
    let manager = manager(&server).selecting(kept.clone());
    let informers = manager.informers().clone();
    let widgets = informers.informer::<Widget>(kept.clone());
    let nodes = informers.informer::<Node>(kept.clone().without_filters());
    let other = Manager::new(informers.clone()).selecting(kept.clone());
    let shared = other.informers().informer::<Widget>(kept);
    let builder = manager.controller(Widgets::of(&server));
    let builder = builder.source(Source::watch(Watch::<Node>::new(), |_| Vec::new()));
    builder.start().expect("a good description");
    let stop = CancellationToken::new();
    let test = async {
        manager.ready().await;
        let handlers = |status: InformerStatus| (status.synced, status.handlers.len());
        assert_eq!(handlers(widgets.status()), (true, 1));
        assert_eq!(handlers(shared.status()), (true, 1));
        assert_eq!(handlers(nodes.status()), (true, 1));
        assert_eq!(informers.status().len(), 2);
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), test);
    assert!(ended.is_ok(), "{ended:?}");
}
