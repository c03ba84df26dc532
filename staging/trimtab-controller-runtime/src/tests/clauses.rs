//! The named clauses: for each one a checker, and scenarios that try to break it.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_workqueue::Add;

use super::server::Server;
use super::widgets::{NO_CHILD, Running, Seen, Widgets, run, run_again, wish};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What may happen to a controller.
#[derive(Clone, Debug)]
enum Happening {
    Wish(usize, u8),
    Unwish(usize),
    /// Somebody changes what the controller made.
    Damage(usize),
    /// Somebody deletes it.
    Remove(usize),
    /// Watches break.
    Cut,
    /// The server refuses some writes.
    Fail(u32),
    /// The server does what it is asked, and its answers are lost.
    Lose(u32),
    /// The controller dies in the middle of what it does, and is started again.
    Crash,
    Wait(u64),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => (0..3_usize, 0..4_u8).prop_map(|(name, text)| Happening::Wish(name, text)),
        1 => (0..3_usize).prop_map(Happening::Unwish),
        1 => (0..3_usize).prop_map(Happening::Damage),
        1 => (0..3_usize).prop_map(Happening::Remove),
        1 => Just(Happening::Cut),
        1 => (1..4_u32).prop_map(Happening::Fail),
        1 => (1..4_u32).prop_map(Happening::Lose),
        1 => Just(Happening::Crash),
        4 => (0..300_u64).prop_map(Happening::Wait),
    ];
    proptest::collection::vec(one, 1..30)
}

async fn happen(server: &Server, happening: Happening) {
    match happening {
        Happening::Wish(name, text) => {
            server.put("widgets", NAMES[name], wish(&format!("text {text}")));
        }
        Happening::Unwish(name) => server.delete("widgets", NAMES[name]),
        Happening::Damage(name) => {
            if server.get("configmaps", NAMES[name]).is_some() {
                server.put("configmaps", NAMES[name], json!({"data": {"text": "damaged"}}));
            }
        }
        Happening::Remove(name) => server.delete("configmaps", NAMES[name]),
        Happening::Cut => server.cut_watches(),
        Happening::Lose(times) => server.0.lock().lost_answers += times,
        Happening::Crash => unreachable!("that is not the server's"),
        Happening::Fail(times) => server.0.lock().failures += times,
        Happening::Wait(millis) => sleep(Duration::from_millis(millis)).await,
    }
}

/// *Level-triggered*: what is follows from what is wished, whatever happened on the way.
fn level_triggered(server: &Server) -> Result<(), String> {
    for name in NAMES {
        let widget = server.get("widgets", name);
        let child = server
            .get("configmaps", name)
            .map(|child| child["data"]["text"].clone());
        let wished = widget.as_ref().map(|widget| widget["spec"]["text"].clone());
        if wished.clone().filter(|text| text != NO_CHILD) != child {
            return Err(format!(
                "Level-triggered: {name} should be {wished:?} and is {child:?}"
            ));
        }
        let Some(widget) = widget else { continue };
        let told = (
            &widget["status"]["seen"],
            &widget["status"]["conditions"][0]["observedGeneration"],
        );
        if (Some(told.0), told.1) != (wished.as_ref(), &widget["metadata"]["generation"]) {
            return Err(format!("Level-triggered: {name} does not say what is: {widget}"));
        }
    }
    Ok(())
}

/// *Own writes seen*: each turn saw what the turns before it had written for its key, or what came after that.
fn own_writes_seen(server: &Server, widgets: &Widgets) -> Result<(), String> {
    let state = server.0.lock();
    for turn in widgets.diary.lock().iter() {
        for ((plural, _, name), written) in &state.writes[..turn.writes] {
            let seen = turn.versions[usize::from(plural == "configmaps")];
            let deleted_since = || {
                let mut after = state
                    .history
                    .iter()
                    .filter(|(version, id, _)| version >= written && id.0 == *plural);
                after.any(|(_, id, event)| id.2 == *name && event["type"] == "DELETED")
            };
            let fine = *name != turn.name || seen.map_or_else(deleted_since, |seen| seen >= *written);
            if !fine {
                return Err(format!(
                    "Own writes seen: {plural}/{name} was written at {written}: {turn:?}"
                ));
            }
        }
    }
    Ok(())
}

fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_fixed_point_depends_on_wishes_alone(
        happenings in happenings(),
        lag in 0..400_u64,
        workers in 1..4_usize,
    ) {
        paused(async move {
            let server = Server::default();
            server.0.lock().lag = Duration::from_millis(lag);
            let mut running = run(&server, |controller| controller.workers(workers));
            for happening in happenings {
                if let Happening::Crash = happening {
                    running.task.abort();
                    running = run_again(running.widgets, |controller| controller.workers(workers));
                } else {
                    happen(&server, happening).await;
                }
            }
            sleep(Duration::from_secs(120)).await;
            level_triggered(&server).unwrap();
            own_writes_seen(&server, &running.widgets).unwrap();

            let quiet = server.log().len();
            for name in NAMES {
                running.controller.trigger(ObjectKey::namespaced("default", name), "to see");
            }
            sleep(Duration::from_secs(1)).await;
            assert_eq!(server.log()[quiet..], [] as [&str; 0], "nothing to do, nothing is asked");
            running.end().await.unwrap();
        });
    }
}

/// *Backoff is about failures*: each turn of a key that always fails comes after the backoff of the turn before it, or
/// early because something has changed; then it is no new failure, and the next turn is the same attempt again.
fn backoff_is_about_failures(turns: &[Seen], changes: usize, lag: Duration) -> Result<(), String> {
    let mut early = 0;
    for turns in turns.windows(3) {
        let [before, turn, after] = turns else {
            unreachable!()
        };
        if after.attempt == turn.attempt {
            early += 1;
            continue;
        }
        let (backoff, waited) = (
            Duration::from_millis(5) * 2_u32.pow(turn.attempt - 2),
            turn.at - before.at,
        );
        let latest = backoff.mul_f64(1.1) + lag + Duration::from_millis(3);
        if after.attempt != turn.attempt + 1 || waited < backoff || waited > latest {
            return Err(format!(
                "Backoff is about failures: {turn:?} came {waited:?} after {before:?}"
            ));
        }
    }
    if early > changes {
        return Err(format!(
            "Backoff is about failures: {early} early turns for {changes} changes"
        ));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// A key fails for ten seconds, while it is triggered and changed at random.
    #[test]
    fn triggers_do_not_lengthen_a_backoff(
        text in prop_oneof![Just("fail"), Just("fail late"), Just("panic")],
        changes in proptest::collection::vec(0..10_000_u64, 0..8),
        noises in proptest::collection::vec(0..10_000_u64, 0..8),
        lag in 0..100_u64,
    ) {
        paused(async move {
            let server = Server::default();
            server.0.lock().lag = Duration::from_millis(lag);
            let running = run(&server, |controller| controller);
            server.put("widgets", "a", wish(text));
            let real = changes.iter().map(|at| (*at, true));
            let mut agenda: Vec<_> = real.chain(noises.iter().map(|at| (*at, false))).collect();
            agenda.sort_unstable();
            let start = Instant::now();
            for (n, (at, real)) in agenda.into_iter().enumerate() {
                sleep_until(start + Duration::from_millis(at)).await;
                if real {
                    server.put("widgets", "a", json!({"metadata": {"labels": {"n": n.to_string()}}}));
                } else {
                    let key = ObjectKey::namespaced("default", "a");
                    let add = Add::now().because("noise");
                    running.controller.queue().add_with(key, add).unwrap();
                }
            }
            sleep_until(start + Duration::from_secs(20)).await;
            let turns = running.widgets.turns_of("a");
            assert!(turns.last().expect("turns").attempt >= 8, "it went on");
            backoff_is_about_failures(&turns, changes.len(), Duration::from_millis(lag)).unwrap();
            server.put("widgets", "a", wish("well"));
            sleep(Duration::from_secs(1)).await;
            level_triggered(&server).unwrap();
            server.put("widgets", "a", wish("well again"));
            sleep(Duration::from_secs(1)).await;
            assert_eq!(running.widgets.turns_of("a").last().expect("turns").attempt, 1, "failures are forgotten");
            running.end().await.unwrap();
        });
    }
}

/// *Isolated*: keys that panic or never end cost others nothing but their worker.
#[test]
fn a_bad_key_stops_no_other() {
    paused(async {
        let server = Server::default();
        let running = run(&server, |controller| controller.workers(2));
        for bad in ["panic", "slow"] {
            server.put("widgets", bad, wish(bad));
        }
        for name in NAMES {
            server.put("widgets", name, wish("well"));
        }
        sleep(Duration::from_secs(3)).await;
        level_triggered(&server).unwrap();
        assert_eq!(running.widgets.turns_of("slow").len(), 1);
        let panics = running.widgets.turns_of("panic");
        assert!(panics.len() > 3, "a panic is retried");
        let text = running.manager.metrics_text();
        let counted = format!(
            "controller_runtime_reconcile_panics_total{{controller=\"widget\"}} {}",
            panics.len()
        );
        assert!(text.contains(&counted), "{text}");

        let before = Instant::now();
        let ended = running.end().await;
        assert!(matches!(ended, Err(crate::Error::CutOff(1))), "{ended:?}");
        assert_eq!(before.elapsed().as_secs(), 30, "the slow one had its time");
    });
}

/// *Isolated*: a cache that is behind delays the keys that wrote, and holds no worker.
#[test]
fn a_key_that_waits_for_caches_holds_no_worker() {
    paused(async {
        let server = Server::default();
        let running = run(&server, |controller| {
            controller.workers(1).patience(Duration::from_secs(60))
        });
        sleep(Duration::from_secs(1)).await;
        for name in NAMES {
            server.put("widgets", name, wish("well"));
        }
        server.0.lock().lag = Duration::from_secs(30);
        sleep(Duration::from_secs(1)).await;
        for name in NAMES {
            assert!(server.get("configmaps", name).is_some(), "{name} had its turn");
            assert_eq!(running.widgets.turns_of(name).len(), 1, "{name} waits");
        }
        sleep(Duration::from_secs(60)).await;
        own_writes_seen(&server, &running.widgets).unwrap();
        assert!(running.widgets.turns_of("a").len() > 1);
        assert_eq!(unseen(&running), "0");
        running.end().await.unwrap();
    });
}

/// *Own writes seen* has an end: a cache that never shows them does not hold a key for ever.
#[test]
fn patience_has_an_end_and_is_counted() {
    paused(async {
        let server = Server::default();
        let running = run(&server, |controller| controller.patience(Duration::from_secs(5)));
        sleep(Duration::from_secs(1)).await;
        server.put("widgets", "a", wish("well"));
        server.0.lock().lag = Duration::from_secs(60);
        sleep(Duration::from_secs(1)).await;
        running
            .controller
            .trigger(ObjectKey::namespaced("default", "a"), "to see");
        sleep(Duration::from_secs(3)).await;
        assert_eq!(
            (running.widgets.turns_of("a").len(), &*unseen(&running)),
            (1, "0")
        );
        sleep(Duration::from_secs(2)).await;
        assert!(running.widgets.turns_of("a").len() > 1);
        assert_eq!(unseen(&running), "1");
        let last = server.log().pop().expect("writes");
        assert_eq!(
            last, "PATCH widgets/a 409",
            "what was read from the old cache does no harm"
        );
        running.end().await.unwrap();
    });
}

/// How many turns' writes were not seen in time.
fn unseen(running: &Running) -> String {
    let text = running.manager.metrics_text();
    let name = r#"controller_runtime_own_writes_unseen_total{controller="widget"} "#;
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .expect("the metric")
        .to_owned()
}
