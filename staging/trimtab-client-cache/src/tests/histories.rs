//! Random histories under random faults: all clauses hold on the way, and in the end everybody knows what is.

use std::time::Duration;

use proptest::prelude::*;

use super::harness::{Called, Slow, Watched, caught_up, settle, start_selected};
use super::server::{Fault, Server};
use crate::cached::Form;
use crate::informer::Selection;
use crate::reflector::Config;

const NAMES: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Put(usize, bool),
    Delete(usize),
    /// Deleted and made again at once.
    Again(usize),
    FailList(Fault),
    FailWatch(Fault),
    Cut,
    Compact,
    JoinCalled,
    JoinSlow,
    Take(usize, usize),
    /// Passes time, in milliseconds.
    Pass(u64),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Refused),
        Just(Fault::Mute),
        Just(Fault::Code(429, Some(3))),
        Just(Fault::Code(500, None)),
        Just(Fault::Code(503, Some(1))),
        Just(Fault::Expired),
        any::<bool>().prop_map(|by_cause| Fault::TooLarge { by_cause }),
        Just(Fault::ExpiredEvent),
        Just(Fault::Garbled),
        (1..9_u64).prop_map(Fault::Again),
        prop_oneof![Just(429), Just(500), Just(504)].prop_map(Fault::ErrorEvent),
        (0..900_usize).prop_map(Fault::Cut),
        (0..900_usize).prop_map(Fault::Short),
        Just(Fault::Hung),
        Just(Fault::Closed),
        (1..5_u64).prop_map(Fault::Stale),
        (1..9_u64).prop_map(Fault::Growing),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..NAMES, any::<bool>()).prop_map(|(name, label)| Step::Put(name, label)),
        3 => (0..NAMES).prop_map(Step::Delete),
        2 => (0..NAMES).prop_map(Step::Again),
        2 => fault().prop_map(Step::FailList),
        2 => fault().prop_map(Step::FailWatch),
        3 => Just(Step::Cut),
        2 => Just(Step::Compact),
        1 => Just(Step::JoinCalled),
        1 => Just(Step::JoinSlow),
        3 => (0..3_usize, 1..4_usize).prop_map(|(who, most)| Step::Take(who, most)),
        6 => prop_oneof![0..10_u64, 500..5_000_u64, 60_000..150_000_u64].prop_map(Step::Pass),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    (any::<bool>(), 0..4_u32).prop_map(|(streamed_lists, page_size)| Config {
        streamed_lists,
        page_size,
        ..Config::default()
    })
}

fn put(server: &Server, name: usize, label: bool) {
    server.put(
        &format!("object-{name}"),
        &[("team", if label { "a" } else { "b" })],
    );
}

async fn live(seed: u64, config: Config, form: Form, before: usize, steps: Vec<Step>) -> Result<(), String> {
    fastrand::seed(seed);
    let server = Server::new();
    (0..before).for_each(|name| put(&server, name, true));
    let all = start_selected(&server, config.clone(), Selection::all().form(form));
    let some = start_selected(
        &server,
        config,
        Selection::in_namespace("default").labels("team=a").form(form),
    );
    let mut watched = [Watched::new(all, ""), Watched::new(some, "team=a")];
    for step in steps {
        match step {
            Step::Put(name, label) => put(&server, name, label),
            Step::Delete(name) => server.delete(&format!("object-{name}")),
            Step::Again(name) => {
                server.delete(&format!("object-{name}"));
                put(&server, name, true);
            }
            Step::FailList(fault) => server.fail_lists([fault]),
            Step::FailWatch(fault) => server.fail_watches([fault]),
            Step::Cut => server.cut(),
            Step::Compact => server.compact(),
            Step::JoinCalled => watched
                .iter_mut()
                .for_each(|one| one.called.push(Called::join(&one.informer))),
            Step::JoinSlow => watched
                .iter_mut()
                .for_each(|one| one.slow.push(Slow::join(&one.informer))),
            Step::Take(who, most) => {
                for one in &mut watched {
                    one.slow.get_mut(who).map(|slow| slow.take(most));
                }
            }
            Step::Pass(time) => tokio::time::sleep(Duration::from_millis(time)).await,
        }
        // A step that lets nothing run in between makes histories of several writes at once.
        if !matches!(step, Step::Put(..) | Step::Delete(_)) {
            settle().await;
            watched.iter_mut().try_for_each(|one| one.check(&server, NAMES))?;
        }
    }
    server.change(|state| {
        state.list_faults.clear();
        state.watch_faults.clear();
    });
    for one in &mut watched {
        caught_up(&server, &one.informer).await;
        one.check_end(&server, NAMES)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_clause_holds_whatever_fails(
        seed: u64,
        config in config(),
        form in prop_oneof![Just(Form::Typed), Just(Form::Compact { hot: 2 })],
        before in 0..=NAMES,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let verdict = runtime.unwrap().block_on(live(seed, config, form, before, steps));
        prop_assert_eq!(verdict, Ok(()));
    }
}
