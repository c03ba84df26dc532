//! The named clauses: for each one a checker, and scenarios that try to break it.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tokio::time::sleep;

use super::server::Server;
use super::widgets::{Widgets, run, wish};

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
        if wished != child {
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
            let running = run(&server, |controller| controller.workers(workers));
            for happening in happenings {
                happen(&server, happening).await;
            }
            sleep(Duration::from_secs(120)).await;
            level_triggered(&server).unwrap();
            own_writes_seen(&server, &running.widgets).unwrap();

            let quiet = server.log().len();
            for name in NAMES {
                running.controller.trigger(trimtab_apimachinery_meta::ObjectKey::namespaced("default", name), "to see");
            }
            sleep(Duration::from_secs(1)).await;
            assert_eq!(server.log()[quiet..], [] as [&str; 0], "nothing to do, nothing is asked");
            running.end().await.unwrap();
        });
    }
}
