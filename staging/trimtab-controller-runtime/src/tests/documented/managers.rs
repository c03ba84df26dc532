//! What managers do besides: events, elections, figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Request;
use kube::Client;
use kube::client::Body;
use tokio::time::sleep;
use trimtab_client_cache::reflector;
use trimtab_client_coordination::leader::ElectionConfig;

use super::{SLOW, SOON, Told, during};
use crate::Manager;
use crate::tests::server::Server;
use crate::tests::widgets::{manager, wish};

/// A client that counts the events that are written.
fn counting_events(server: &Server) -> (Client, Arc<AtomicUsize>) {
    let (client, count) = (server.client(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        if request.uri().path().ends_with("/events") {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        let client = client.clone();
        async move { client.send(request).await }
    });
    (Client::new(service, "default"), count)
}

#[tokio::test(start_paused = true)]
async fn what_the_last_turns_tell_is_written() {
    let server = Server::default();
    server.put("widgets", "a", wish("slow"));
    let (client, events) = counting_events(&server);
    let config = reflector::Config {
        streamed_lists: false,
        ..reflector::Config::default()
    };
    let manager = Manager::new(client).name("widgets").watching(config);
    let told = Told::default();
    manager
        .controller(told.clone())
        .start()
        .expect("a good description");
    during(&manager, async {
        sleep(SOON).await;
        assert_eq!(told.of("a").len(), 1, "its turn is under way at the stop");
    })
    .await;
    assert_eq!(events.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn who_needs_no_leader_works_on_every_replica() {
    let server = Server::default();
    server.put("widgets", "a", wish("x"));
    server.0.lock().unreachable_leases = true;
    let manager = manager(&server).elected(ElectionConfig::new("widgets"));
    let (led, unled) = (Told::default(), Told::default());
    manager
        .controller(led.clone())
        .start()
        .expect("a good description");
    let controller = manager.controller(unled.clone()).named("unled").without_leader();
    controller.start().expect("a good description");
    during(&manager, async {
        sleep(SLOW).await;
        assert_eq!((led.of("a").len(), unled.of("a").len()), (0, 1));
    })
    .await;
}

#[tokio::test]
async fn figures_begin_at_nothing() {
    let manager = manager(&Server::default());
    manager
        .controller(Told::default())
        .start()
        .expect("a good description");
    let text = manager.metrics_text();
    let mut names: Vec<_> = [
        "reconcile_errors",
        "terminal_reconcile_errors",
        "reconcile_panics",
        "reconcile_timeouts",
    ]
    .map(|name| format!(r#"{name}_total{{controller="widget"}} 0"#))
    .into();
    names.extend(
        ["success", "error", "requeue", "requeue_after"]
            .map(|result| format!(r#"reconcile_total{{controller="widget",result="{result}"}} 0"#)),
    );
    names.push(r#"active_workers{controller="widget"} 0"#.to_owned());
    names.push(r#"max_concurrent_reconciles{controller="widget"} 1"#.to_owned());
    for name in names {
        let line = format!("controller_runtime_{name}");
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
}
