//! Each program ends where it would have ended if nothing had gone wrong, and does nothing forbidden on the way there.
//!
//! A run does to a program what its [scenario](Scenario) says, while what goes wrong goes wrong: [processes](processes) are
//! killed and deposed, and between them and the server there are [faults](faults). Then these clauses are checked:
//!
//! | clause | what holds | checked by |
//! |---|---|---|
//! | *Converges* | in the end the state, in the cluster and outside, is that of a run in which nothing went wrong | [`check`] |
//! | *Quiet* | then nothing is written any more | [`until_quiet`] |
//! | *Single* | of several replicas only the one that was elected last has written, and one whose Lease was deleted until it has to renew it | [`Processes::single`] |
//! | *One*, *Held* | an object has one child of a kind at most, made when its finalizer was there | the [scenarios](Scenario::always) of `database`, `bucket`, `website` |
//! | *Declared*, *Forward* | a phase goes the declared ways, and a status not back to an older spec | that of `database` |
//! | *Nothing left* | when an object is gone, it has nothing outside the cluster | that of `bucket` |
//! | *Tenants only* | nothing is touched where no tenant is | that of `policy` |
//!
//! The first three are about the end and about who wrote; the others held at every moment.
//!
//! What goes wrong follows from a seed, which a failed test prints. `TRIMTAB_SEED=7` runs the seed 7 alone, and
//! `TRIMTAB_SEEDS=100` the first hundred. Maps and UUIDs differ from run to run, so that a seed does not tell everything.
#![allow(clippy::print_stderr)] // seeds are told

mod faults;
mod processes;

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trimtab::testing::TestEnv;

use crate::kit::history::History;
use crate::kit::scenario::Scenario;
use crate::kit::state::{self, State};
use faults::Faults;
use processes::{Processes, depose};

/// For how long nothing may happen in the end: longer than a watch can be silent, and than a backoff that began in the time of
/// trouble.
const QUIET: Duration = Duration::from_secs(600);
/// How many such times it may take until nothing happens.
const SETTLED_WITHIN: u32 = 4;

/// What goes wrong.
#[derive(Clone, Copy)]
struct Trouble {
    replicas: usize,
    killed: bool,
    deposed: bool,
    /// Calls to the server and outside.
    calls: bool,
    watches: bool,
}

/// Nothing does.
const NONE: Trouble = Trouble {
    replicas: 1,
    killed: false,
    deposed: false,
    calls: false,
    watches: false,
};

macro_rules! programs {
    ($($program:ident),*) => { $(
        mod $program {
            use super::{NONE, Trouble, check};
            use crate::$program::Scenario;

            #[test]
            fn is_killed() {
                check::<Scenario>(Trouble { killed: true, ..NONE });
            }

            #[test]
            fn loses_the_leadership() {
                check::<Scenario>(Trouble { replicas: 2, deposed: true, ..NONE });
            }

            #[test]
            fn is_told_late_twice_or_not_at_all() {
                check::<Scenario>(Trouble { watches: true, ..NONE });
            }

            #[test]
            fn is_refused_and_not_answered() {
                check::<Scenario>(Trouble { calls: true, ..NONE });
            }

            #[test]
            fn has_all_of_it_at_once() {
                check::<Scenario>(Trouble { replicas: 2, killed: true, deposed: true, calls: true, watches: true });
            }
        }
    )* };
}

programs!(database, policy, bucket, website);

/// Compares runs with trouble with one without.
fn check<S: Scenario>(trouble: Trouble) {
    let expected = without_trouble::<S>();
    assert!(!expected.state.is_empty(), "there is something to compare");
    for seed in seeds() {
        eprintln!("seed {seed}: run it alone by TRIMTAB_SEED={seed}");
        let is = paused(run::<S>(trouble, seed));
        let differences = state::difference(&expected.state, &is.state);
        assert!(differences.is_empty(), "Converges: {}", differences.join("\n"));
        assert_eq!(expected.outside, is.outside, "Converges: outside the cluster");
    }
}

/// Where a run without trouble ends, which all tests of a program compare with.
fn without_trouble<S: Scenario>() -> Arc<End> {
    static ENDS: Mutex<BTreeMap<TypeId, Arc<End>>> = Mutex::new(BTreeMap::new());
    let mut ends = ENDS.lock();
    let end = ends.entry(TypeId::of::<S>());
    end.or_insert_with(|| Arc::new(paused(run::<S>(NONE, 0)))).clone()
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().expect("a number"))
    };
    match number("TRIMTAB_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TRIMTAB_SEEDS").unwrap_or(2),
    }
}

fn paused<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(test)
}

/// Where a run ended.
struct End {
    state: State,
    outside: Value,
}

/// One run.
async fn run<S: Scenario>(trouble: Trouble, seed: u64) -> End {
    fastrand::seed(seed); // of backoffs and their like
    let mut rng = Rng::with_seed(seed);
    let scenario = S::default();
    let mut env = TestEnv::start().await.expect("it starts");
    scenario.prepare(&mut env).await.expect("it is prepared");
    let client = env.client();
    let history = History::record(&client, &scenario.kinds());
    let faults = Faults::new(rng.fork(), trouble.calls, trouble.watches);
    scenario.trouble(trouble.calls.then(|| rng.fork()));
    let mut processes = Processes::start(&scenario, client.clone(), &faults, trouble.replicas);

    let end = CancellationToken::new();
    let (kills, depositions) = (rng.fork(), rng.fork());
    let people = async {
        for act in scenario.script() {
            sleep(Duration::from_millis(rng.u64(..4000))).await;
            act.perform(&client).await;
        }
        end.cancel();
    };
    let killing = async {
        if trouble.killed {
            processes.kill(kills, &end).await;
        }
    };
    let deposing = async {
        if trouble.deposed {
            depose(client.clone(), &faults, depositions, &end).await
        } else {
            Vec::new()
        }
    };
    let ((), (), deletions) = tokio::join!(people, killing, deposing);
    faults.end();
    scenario.trouble(None);

    until_quiet(&history, &processes).await;

    processes.stop().await.expect("a clean end");
    history
        .check(|moment| scenario.always(moment))
        .unwrap_or_else(|why| panic!("{why}"));
    processes.single(&deletions).unwrap_or_else(|why| panic!("{why}"));
    let state = state::of(&client, &scenario.kinds())
        .await
        .expect("the server answers");
    let outside = scenario.outside();
    env.shutdown().await.expect("a clean end");
    End { state, outside }
}

/// *Quiet*: waits until nothing is written any more.
async fn until_quiet<S: Scenario>(history: &History, processes: &Processes<'_, S>) {
    let mut written = Vec::new();
    for _ in 0..SETTLED_WITHIN {
        let (changes, writes) = (history.len(), processes.writes().len());
        sleep(QUIET).await;
        written = processes.writes().split_off(writes);
        if written.is_empty() && history.len() == changes {
            return;
        }
    }
    panic!("Quiet: it does not come to rest: {written:?}");
}
