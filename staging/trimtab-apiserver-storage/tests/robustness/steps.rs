//! A disk that fails at each call that the store makes of it, in turn: once, or until it is mended, or for good because
//! the power has gone or the process was killed there. Nothing acknowledged is lost, nothing refused is seen, reads go on, and so do writes afterwards.

use fastrand::Rng;
use trimtab_apiserver_storage::{EmbeddedStore, Error, RangeRequest, Store, Txn};

use crate::disk::{Fault, Kind, SimDisk};
use crate::kit::{agrees, all, delete, number, open, put, runtime, txn};
use crate::model::Model;

/// What is done to the store: sizes from nothing to several pages, growth of the file, deletions and compactions.
enum Step {
    Txn(Txn),
    Compact(u64),
    Tidy,
}

fn script() -> Vec<Step> {
    let mut steps = Vec::new();
    for n in 0..8_u8 {
        steps.push(Step::Txn(txn([
            put(&format!("k{}", n % 3), vec![n; usize::from(n) * 300]),
            put("counter", vec![n]),
            delete(&format!("k{}", (n + 1) % 3)),
        ])));
    }
    steps.push(Step::Compact(6));
    steps.push(Step::Txn(txn([
        put("big", vec![7; 600 << 10]),
        put("counter", vec![8]),
    ])));
    steps.push(Step::Txn(txn([delete("big"), put("counter", vec![9])])));
    steps.push(Step::Compact(10));
    steps.push(Step::Txn(txn([put("counter", vec![10])])));
    steps.push(Step::Compact(12));
    steps.push(Step::Tidy);
    steps.push(Step::Txn(txn([put("last", "x")])));
    steps
}

/// How it went until the script, or the disk, was at its end.
struct Outcome {
    /// What was acknowledged.
    model: Model,
    /// What was under way when the power went.
    pending: Option<Txn>,
    refused: usize,
}

/// Follows the script, whatever goes wrong.
async fn follow(store: &EmbeddedStore, disk: &SimDisk) -> Result<Outcome, String> {
    let mut outcome = Outcome {
        model: Model::default(),
        pending: None,
        refused: 0,
    };
    for step in script() {
        match step {
            Step::Txn(txn) => match store.txn(txn.clone()).await {
                Ok(response) => {
                    let wanted = outcome.model.txn(&txn);
                    if wanted != response {
                        return Err(format!("Linearizable: wanted {wanted:?}, got {response:?}"));
                    }
                }
                Err(Error::Full(_) | Error::Io(_)) => {
                    outcome.refused += 1;
                    if disk.is_dead() {
                        outcome.pending = Some(txn);
                        return Ok(outcome);
                    }
                }
                Err(error) => return Err(format!("refused in an unknown way: {error}")),
            },
            // Removes the big one's rows, and shortens the file.
            Step::Tidy => outcome.refused += usize::from(store.tidy().await.is_err()),
            Step::Compact(revision) => match store.compact(revision).await {
                Ok(()) => outcome.model.oldest = revision,
                Err(Error::Full(_) | Error::Io(_)) => outcome.refused += 1,
                // When earlier transactions were refused there may be nothing to compact yet.
                Err(Error::Future { .. } | Error::Compacted { .. }) => {}
                Err(error) => return Err(format!("refused in an unknown way: {error}")),
            },
        }
        agrees(store, &outcome.model)
            .await
            .map_err(|e| format!("after {e}"))?;
        if disk.is_dead() {
            return Ok(outcome);
        }
    }
    Ok(outcome)
}

/// One more transaction, which must succeed.
async fn goes_on(store: &dyn Store, model: &mut Model) -> Result<(), String> {
    let more = txn([put("more", vec![1; 100])]);
    let response = store
        .txn(more.clone())
        .await
        .map_err(|e| format!("does not go on: {e}"))?;
    let wanted = model.txn(&more);
    if wanted != response {
        return Err(format!("Linearizable: wanted {wanted:?}, got {response:?}"));
    }
    agrees(store, model).await
}

/// A disk that fails and is mended.
async fn one_fault(fault: Fault) -> Result<(), String> {
    let disk = SimDisk::default();
    disk.inject(fault);
    let mut model = match open(&disk) {
        Ok(store) => {
            let mut outcome = follow(&store, &disk).await?;
            disk.heal();
            goes_on(&store, &mut outcome.model).await?;
            outcome.model
        }
        Err(Error::Full(_) | Error::Io(_)) => {
            disk.heal();
            Model::default()
        }
        Err(error) => return Err(format!("cannot be opened in an unknown way: {error}")),
    };
    // The process ends; then, after some more, the machine does.
    let store = open(&disk).map_err(|e| format!("opening again: {e}"))?;
    agrees(&store, &model)
        .await
        .map_err(|e| format!("opened again: {e}"))?;
    goes_on(&store, &mut model).await?;
    disk.cut();
    drop(store);
    for seed in 0..2 {
        let after = disk.after_power_cut(&mut Rng::with_seed(seed));
        let store = open(&after).map_err(|e| format!("opening after a power cut: {e}"))?;
        agrees(&store, &model)
            .await
            .map_err(|e| format!("after a power cut: {e}"))?;
    }
    Ok(())
}

/// The power goes at one call.
async fn one_power_cut(at: u64, seeds: std::ops::Range<u64>) -> Result<(), String> {
    let disk = SimDisk::default();
    disk.inject(Fault {
        at,
        kind: Kind::PowerCut,
        lasting: true,
    });
    let outcome = match open(&disk) {
        Ok(store) => Some(follow(&store, &disk).await?),
        Err(_) => None,
    };
    disk.cut(); // at the latest when all is done
    for seed in seeds {
        // Or it was the process that was killed there, and the machine goes on.
        let after = match seed == at {
            true => disk.after_kill(),
            false => disk.after_power_cut(&mut Rng::with_seed(seed)),
        };
        let store = open(&after).map_err(|e| format!("power seed {seed}: opening: {e}"))?;
        let mut model = outcome.as_ref().map_or_else(Model::default, |o| o.model.clone());
        if all(&store).await.revision > model.revision()
            && let Some(pending) = outcome.as_ref().and_then(|o| o.pending.as_ref())
        {
            // What was under way has happened, and so in full.
            model.txn(pending);
        }
        // A compaction that was under way may have happened too.
        if let Err(Error::Compacted { oldest }) = store.range(RangeRequest::prefix("").at(model.oldest)).await
        {
            model.oldest = oldest;
        }
        let agreed = agrees(&store, &model).await;
        agreed.map_err(|e| format!("power seed {seed}: {e}"))?;
        goes_on(&store, &mut model).await?;
        drop(store);
        let store = open(&after).map_err(|e| format!("power seed {seed}: opening again: {e}"))?;
        agrees(&store, &model)
            .await
            .map_err(|e| format!("power seed {seed}: {e}"))?;
    }
    Ok(())
}

/// How many calls the script makes when nothing fails, opening and closing included.
fn calls() -> u64 {
    let disk = SimDisk::default();
    runtime().block_on(async {
        let store = open(&disk).expect("opens");
        let outcome = follow(&store, &disk).await.expect("nothing fails");
        assert_eq!(outcome.refused, 0);
        assert_eq!(outcome.model.revision(), 13);
    });
    disk.calls()
}

/// One in so many calls here, all of them in `hack/stress-storage`.
fn every(usual: u64) -> usize {
    number("TRIMTAB_STORAGE_EVERY", usual) as usize
}

#[test]
fn a_disk_that_fails_at_any_call_loses_nothing() {
    let calls = calls();
    let mut kinds = Kind::TRANSIENT.iter().cycle();
    let every = every(13);
    for at in (1..=calls).step_by(every) {
        for lasting in [false, true] {
            // A few here; every kind at every call where there is time.
            let some = if every == 1 { Kind::TRANSIENT.len() } else { 1 };
            for kind in kinds.by_ref().take(some) {
                let fault = Fault {
                    at,
                    kind: *kind,
                    lasting,
                };
                let verdict = runtime().block_on(one_fault(fault));
                assert_eq!(verdict, Ok(()), "{fault:?} of {calls} calls");
            }
        }
    }
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_acknowledged() {
    let calls = calls();
    let seeds = number("TRIMTAB_STORAGE_SEEDS", 3);
    for at in (1..=calls + 1).step_by(every(7)) {
        let verdict = runtime().block_on(one_power_cut(at, at..at + seeds));
        assert_eq!(verdict, Ok(()), "at call {at} of {calls}");
    }
}

#[tokio::test]
async fn a_full_disk_is_named_and_room_is_enough_to_go_on() {
    let disk = SimDisk::default();
    let store = open(&disk).expect("opens");
    let mut model = Model::default();
    goes_on(&store, &mut model).await.expect("writes");
    disk.fill(0);
    let mut refused = 0;
    for n in 0..100 {
        let big = txn([put(&format!("big{n}"), vec![7; 64 << 10])]);
        match store.txn(big.clone()).await {
            Ok(_) => drop(model.txn(&big)),
            Err(Error::Full(why)) => {
                refused += 1;
                assert!(
                    why.contains("disk: ") && why.contains("no storage space"),
                    "{why}"
                );
            }
            Err(other) => panic!("not named: {other}"),
        }
        agrees(&store, &model).await.expect("reads and watches go on");
    }
    assert!(refused > 50, "{refused}");
    disk.heal();
    goes_on(&store, &mut model).await.expect("there is room again");
    drop(store);
    agrees(&open(&disk).expect("opens"), &model)
        .await
        .expect("all there");
}
