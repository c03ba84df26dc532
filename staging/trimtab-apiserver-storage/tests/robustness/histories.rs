//! Many clients at once on stores that fail, lose power and are opened again under another clock: what they saw must fit
//! every clause. A failure says by which seed; seeds repeat what is asked and what goes wrong, not how threads take turns.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use trimtab_apiserver_storage::{EmbeddedStore, MemoryStore, Store};

use crate::disk::{Fault, Kind, SimDisk};
use crate::history::{History, check};
use crate::kit::{all, config, now, number};
use crate::traffic::{Ids, Life, Watched, life};

/// Usual and most of the seeds are taken from here on.
const FIRST_SEED: u64 = 1;

fn watches() -> Vec<Watched> {
    [
        ("", 1),
        ("shared/", 1),
        ("shared/1", 2),
        ("id/", 1),
        ("nothing/", 1),
    ]
    .map(|(prefix, from)| Watched::new(prefix, from))
    .into()
}

/// Makes trouble while clients are at work: some faults in passing, and perhaps the power.
async fn trouble(disk: &SimDisk, mut random: Rng, power: bool) {
    for _ in 0..random.u8(0..4) {
        for _ in 0..random.u8(1..30) {
            tokio::task::yield_now().await;
        }
        disk.inject(Fault {
            at: disk.calls() + random.u64(1..60),
            kind: Kind::TRANSIENT[random.usize(0..Kind::TRANSIENT.len())],
            lasting: random.bool(),
        });
        for _ in 0..random.u8(1..30) {
            tokio::task::yield_now().await;
        }
        disk.heal();
    }
    if power {
        disk.inject(Fault {
            at: disk.calls() + random.u64(1..200),
            kind: Kind::PowerCut,
            lasting: true,
        });
    }
}

/// Up to a year either way.
fn jump(random: &mut Rng, at: SystemTime) -> SystemTime {
    let by = Duration::from_secs(random.u64(0..365 * 24 * 3600));
    if random.bool() { at + by } else { at - by }
}

async fn embedded(seed: u64) -> Result<History, String> {
    let mut random = Rng::with_seed(seed);
    let (mut disk, ids, mut watches) = (SimDisk::default(), Ids::default(), watches());
    let (mut lives, mut at): (Vec<Life>, _) = (Vec::new(), now());
    for _ in 0..random.u8(2..5) {
        let store = EmbeddedStore::on_disk("disk", Arc::new(disk.clone()), config(), at);
        let store: Arc<dyn Store> = Arc::new(store.map_err(|e| format!("opening: {e}"))?);
        // What was under way when the power went belongs to the life in which it was asked for.
        let found = store.revision().await.map_err(|e| e.to_string())?;
        if let Some(before) = lives.last_mut() {
            if found + 1 < before.revisions.end {
                return Err(format!(
                    "Durable: {} was seen, {found} is there",
                    before.revisions.end - 1
                ));
            }
            before.revisions.end = found + 1;
        }
        let power = random.bool();
        let trouble = trouble(&disk, random.fork(), power);
        lives.push(life(&store, &mut random, at, &mut watches, &ids, trouble).await);
        drop(store);
        if disk.is_dead() {
            disk = disk.after_power_cut(&mut random);
        } else {
            disk.heal();
        }
        if random.bool() {
            at = jump(&mut random, at);
        }
    }
    let store = EmbeddedStore::on_disk("disk", Arc::new(disk.clone()), config(), at);
    let store: Arc<dyn Store> = Arc::new(store.map_err(|e| format!("opening: {e}"))?);
    // One more, undisturbed, lets the watches see the end.
    if let Some(before) = lives.last_mut() {
        let found = store.revision().await.map_err(|e| e.to_string())?;
        if found + 1 < before.revisions.end {
            return Err(format!(
                "Durable: {} was seen, {found} is there",
                before.revisions.end - 1
            ));
        }
        before.revisions.end = found + 1;
    }
    lives.push(
        life(
            &store,
            &mut random,
            at,
            &mut watches,
            &ids,
            std::future::ready(()),
        )
        .await,
    );
    settled(&*store, lives, watches).await
}

async fn memory(seed: u64) -> Result<History, String> {
    let mut random = Rng::with_seed(seed);
    let (ids, mut watches) = (Ids::default(), watches());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(config()));
    let mut lives = Vec::new();
    for _ in 0..3 {
        lives.push(
            life(
                &store,
                &mut random,
                SystemTime::now(),
                &mut watches,
                &ids,
                std::future::ready(()),
            )
            .await,
        );
    }
    settled(&*store, lives, watches).await
}

/// The end of a history. Keys may expire until then, and nobody waits for that.
async fn settled(store: &dyn Store, lives: Vec<Life>, watches: Vec<Watched>) -> Result<History, String> {
    let last = all(store).await;
    let end = lives.last().map_or(1, |life| life.revisions.end);
    if last.revision + 1 != end {
        return Err(format!(
            "something happened after all was done: {} and {end}",
            last.revision
        ));
    }
    Ok(History { lives, watches, last })
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build();
    runtime.expect("a runtime")
}

/// A good history of a store in memory.
pub(crate) fn good(seed: u64) -> History {
    runtime().block_on(memory(seed)).expect("a history")
}

#[test]
fn histories_of_the_embedded_store_fit_every_clause() {
    let (first, seeds) = (
        number("TRIMTAB_STORAGE_FIRST", FIRST_SEED),
        number("TRIMTAB_STORAGE_SEEDS", 6),
    );
    let (mut revisions, mut refused) = (0, 0);
    for seed in first..first + seeds {
        let history = runtime().block_on(embedded(seed));
        let verdict = history.and_then(|history| {
            revisions += history.last.revision;
            let asked = history.lives.iter().flat_map(|life| &life.asked);
            refused += asked.filter(|asked| asked.response.is_none()).count();
            check(&history)
        });
        assert_eq!(
            verdict,
            Ok(()),
            "seed {seed}: TRIMTAB_STORAGE_FIRST={seed} TRIMTAB_STORAGE_SEEDS=1 repeats it"
        );
    }
    eprintln!(
        "seeds {first} to {}: {revisions} revisions, {refused} transactions refused",
        first + seeds - 1
    );
}

#[test]
fn histories_of_the_memory_store_fit_every_clause() {
    let (first, seeds) = (
        number("TRIMTAB_STORAGE_FIRST", FIRST_SEED),
        number("TRIMTAB_STORAGE_SEEDS", 6),
    );
    for seed in first..first + seeds {
        let verdict = runtime()
            .block_on(memory(seed))
            .and_then(|history| check(&history));
        assert_eq!(verdict, Ok(()), "seed {seed}");
    }
}
