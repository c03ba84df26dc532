//! When turns are had, and what follows from how they end.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{LATER, SLOW, SOON, Told, during, told};
use crate::ControllerBuilder;
use crate::tests::server::Server;
use crate::tests::widgets::{Widget, manager, wish};

/// Describes nothing, or so many workers.
fn with(
    workers: Option<usize>,
) -> impl FnOnce(ControllerBuilder<'_, Widget, Told>) -> ControllerBuilder<'_, Widget, Told> {
    move |controller| match workers {
        Some(workers) => controller.workers(workers),
        None => controller,
    }
}

#[tokio::test(start_paused = true)]
async fn turns_are_had_one_at_a_time_unless_more_are_asked_for() {
    for (workers, rounds) in [(None, 4), (Some(2), 2), (Some(4), 1)] {
        let server = Server::default();
        (0..4).for_each(|n| drop(server.put("widgets", &format!("w{n}"), wish("slow"))));
        let begun = Instant::now();
        told(&server, with(workers), async |told, _| {
            sleep(SLOW * 10).await;
            let ends = told.0.lock().iter().filter_map(|had| had.ended).max();
            let took = ends.map(|end| end - begun).unwrap_or_default();
            assert_eq!(
                took.as_millis() / SLOW.as_millis(),
                rounds,
                "{workers:?}: {took:?}"
            );
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_waits_for_5_ms_doubled_up_to_1000_s() {
    let server = Server::default();
    server.put("widgets", "a", wish("fail"));
    told(
        &server,
        |controller| controller,
        async |told, _| {
            sleep(Duration::from_secs(10_000)).await;
            let turns = told.of("a");
            let waits = turns.windows(2).map(|two| two[1].begun - two[0].begun);
            let doubled = std::iter::successors(Some(Duration::from_millis(5)), |wait| Some(*wait * 2));
            let expected = doubled.map(|wait| wait.min(Duration::from_secs(1000)));
            for (wait, least) in waits.zip(expected) {
                let most = least * 11 / 10 + Duration::from_millis(2); // the timer's own grain
                assert!(
                    (least..=most).contains(&wait),
                    "{wait:?} is not {least:?} and up to a tenth more"
                );
            }
            assert!(
                turns.len() > 20,
                "the longest have been waited for: {}",
                turns.len()
            );
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_terminal_failure_is_counted_apart() {
    let server = Server::default();
    server.put("widgets", "a", wish("terminal"));
    let manager = manager(&server);
    manager
        .controller(Told::default())
        .start()
        .expect("a good description");
    during(&manager, async {
        sleep(SLOW).await;
        let text = manager.metrics_text();
        for (name, count) in [
            ("reconcile_errors", 1),
            ("terminal_reconcile_errors", 1),
            ("reconcile_panics", 0),
        ] {
            let line = format!(r#"controller_runtime_{name}_total{{controller="widget"}} {count}"#);
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_later_look_forgets_failures() {
    let server = Server::default();
    told(
        &server,
        |controller| controller,
        async |told, _| {
            server.put("widgets", "a", wish("fail"));
            sleep(SLOW).await;
            assert!(told.last("a").attempt > 3, "it has failed");
            server.put("widgets", "a", wish("later"));
            sleep(SOON).await;
            let before = told.last("a");
            sleep(LATER).await;
            let looked = told.last("a");
            assert_eq!((looked.attempt, looked.begun - before.begun), (1, LATER));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_change_comes_before_a_later_look() {
    let server = Server::default();
    told(
        &server,
        |controller| controller,
        async |told, _| {
            server.put("widgets", "a", wish("later"));
            sleep(LATER / 2).await;
            assert_eq!(told.of("a").len(), 1);
            server.put("widgets", "a", json!({"metadata": {"labels": {"n": "1"}}}));
            sleep(SOON).await;
            assert_eq!(told.of("a").len(), 2);
            sleep(LATER * 3 / 4).await;
            assert_eq!(
                told.of("a").len(),
                2,
                "the later look is counted from the last turn"
            );
            sleep(LATER / 2).await;
            assert_eq!(told.of("a").len(), 3);
        },
    )
    .await;
}
