//! Robustness: informers behind a network in which everything goes wrong, in front of a real API server.
//!
//! The README beside this file says how it is built and how a run is repeated.
#![allow(clippy::print_stderr)] // seeds are printed, and why something is skipped

// What is done: writes, and what goes wrong.
mod faults;
mod traffic;
mod world;

// What is watched and recorded.
mod history;
mod informers;
mod recorder;
mod run;

// What is held against it.
mod model;
mod validate;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::str::FromStr;
use std::thread::ScopedJoinHandle;

use crate::history::{Report, Wire};
use crate::world::World;

/// How many runs there are, each with a seed of its own, and how many steps each has.
const RUNS: usize = 8;
const STEPS: u64 = 3000;
/// In a cluster, where time is real, there is one run.
const CLUSTER_STEPS: u64 = 1000;

/// A number from the environment.
fn number<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let number = text.parse().ok();
    assert!(number.is_some(), "{name} is {text:?}, and should be a number");
    number
}

fn steps(usual: u64) -> u64 {
    number("TRIMTAB_ROBUSTNESS_STEPS").unwrap_or(usual)
}

/// One run on a runtime of its own.
fn record(
    world: impl Future<Output = Result<World, String>>,
    paused: bool,
    seed: u64,
    steps: u64,
) -> Result<Report, String> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(paused).build();
    let report = runtime.map_err(|e| e.to_string())?.block_on(async {
        let world = world.await?;
        let report = run::run(&world, seed, steps).await;
        world.end().await?;
        report
    });
    report.map_err(|why| format!("{why}\n  seed {seed}, {steps} steps"))
}

/// Records a run and holds every clause against it. Gives what was seen on the wire.
fn check(
    world: impl Future<Output = Result<World, String>>,
    paused: bool,
    seed: u64,
    steps: u64,
) -> Result<BTreeMap<Wire, usize>, String> {
    // Past what captures the output of tests: a run that hangs or is killed must leave its seed behind.
    let _shown = writeln!(std::io::stderr(), "robustness: seed {seed}, {steps} steps");
    let report = record(world, paused, seed, steps)?;
    eprintln!("seed {seed}, {steps} steps: {}", report.summary());
    validate::check(&report)?;
    Ok(report.on_the_wire())
}

#[test]
fn every_clause_holds_whatever_happens_on_the_way() {
    let seed = number("TRIMTAB_ROBUSTNESS_SEED");
    let seeds: Vec<u64> = match seed {
        Some(seed) => vec![seed],
        None => (0..RUNS).map(|_| fastrand::u64(..1 << 32)).collect(),
    };
    let steps = steps(STEPS);
    let verdicts: Vec<_> = std::thread::scope(|scope| {
        let one = |seed: &u64| {
            let seed = *seed;
            scope.spawn(move || check(World::in_process(), true, seed, steps))
        };
        let runs: Vec<_> = seeds.iter().map(one).collect();
        let verdict = |run: ScopedJoinHandle<'_, _>| run.join().expect("a run says what is wrong");
        runs.into_iter().map(verdict).collect()
    });
    let (fine, broken): (Vec<_>, Vec<_>) = verdicts.into_iter().partition(Result::is_ok);
    let broken: Vec<_> = broken.into_iter().filter_map(Result::err).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
    if seed.is_none() && steps >= STEPS {
        let seen: BTreeSet<_> = fine
            .into_iter()
            .flatten()
            .flatten()
            .map(|(wire, _)| wire)
            .collect();
        let unseen: Vec<_> = Wire::ALL.iter().filter(|wire| !seen.contains(wire)).collect();
        assert!(
            unseen.is_empty(),
            "of all that can happen this did not: {unseen:?}"
        );
    }
}

#[test]
fn every_clause_holds_on_a_cluster() {
    if std::env::var_os("TRIMTAB_ROBUSTNESS_CLUSTER").is_none_or(|wanted| wanted != "1") {
        return eprintln!("skipped: TRIMTAB_ROBUSTNESS_CLUSTER=1 runs this on the cluster of KUBECONFIG");
    }
    let seed = number("TRIMTAB_ROBUSTNESS_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    if let Err(broken) = check(World::cluster(), false, seed, steps(CLUSTER_STEPS)) {
        panic!("{broken}");
    }
}

/// Otherwise a seed would be of no use.
#[test]
fn a_seed_is_repeated_step_by_step() {
    let [first, second] = [(), ()].map(|()| {
        let report = record(World::in_process(), true, 1, 500).expect("it runs");
        report
            .entries
            .iter()
            .map(|entry| entry.outline())
            .collect::<Vec<_>>()
    });
    let differ = first
        .iter()
        .zip(&second)
        .position(|(first, second)| first != second);
    let at = differ.map(|at| (&first[at], &second[at]));
    assert_eq!((at, first.len()), (None, second.len()));
}
