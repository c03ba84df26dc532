//! Threads that add keys in every way and workers that finish them in every way, for some seconds at full rate, with the
//! queue's clauses checked at each turn and at the end. `hack/stress-workqueue` runs it with several seeds.
//!
//! `cargo run --release -p trimtab-client-workqueue --example stress -- [SECONDS] [SEED]`

#![allow(clippy::print_stdout, reason = "it reports to whoever runs it")]

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use trimtab_client_workqueue::{Add, Exponential, Phase, Shutdown, Work, WorkQueue};

const KEYS: u32 = 512;
const PRODUCERS: u64 = 3;
const WORKERS: u64 = 8;
/// After so long without a turn, the queue hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of one key from outside the queue.
#[derive(Debug, Default)]
struct Key {
    held: AtomicBool,
    /// Adds that were accepted or are about to be.
    wanted: AtomicU64,
    /// How many of them the last turn could see when it began.
    seen: AtomicU64,
}

#[derive(Debug)]
struct World {
    queue: WorkQueue<u32>,
    keys: Vec<Key>,
    turns: AtomicU64,
    stop: AtomicBool,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let seed: u64 = arguments
        .next()
        .map_or(Ok(fastrand::u64(..)), |text| text.parse())?;
    println!("seed {seed}, {seconds} s");

    let backoff = Exponential::new(Duration::from_micros(50), Duration::from_millis(5))?;
    let mut builder = WorkQueue::builder().backoff(backoff);
    if seed.is_multiple_of(2) {
        builder = builder.fair_by(|key: &u32| key % 7);
    }
    let world = Arc::new(World {
        queue: builder.ageing(Duration::from_millis(3)).build()?,
        keys: (0..KEYS).map(|_| Key::default()).collect(),
        turns: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()?;
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            runtime.spawn(work(
                world.clone(),
                fastrand::Rng::with_seed(seed ^ (worker << 32)),
            ))
        })
        .collect();
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let (world, seed) = (world.clone(), seed.wrapping_add(producer));
            thread::spawn(move || produce(&world, fastrand::Rng::with_seed(seed)))
        })
        .collect();

    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut last, mut progress) = (0, Instant::now());
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(500));
        let turns = world.turns.load(SeqCst);
        if turns > last {
            (last, progress) = (turns, Instant::now());
        } else if progress.elapsed() > PATIENCE {
            println!("it hangs: {:#?}", world.queue.snapshot());
            return Ok(ExitCode::FAILURE);
        }
    }
    world.stop.store(true, SeqCst);
    for producer in producers {
        producer.join().map_err(|_| "a producer panicked")?;
    }

    let left = runtime.block_on(async {
        let drained = world.queue.shut_down(Shutdown::Drain);
        let left = tokio::time::timeout(PATIENCE, drained).await?;
        for worker in workers {
            tokio::time::timeout(PATIENCE, worker).await??;
        }
        Ok::<_, Box<dyn Error>>(left)
    })?;
    let mut reported = vec![false; world.keys.len()];
    for left in &left {
        assert_eq!(
            left.phase,
            Phase::Delayed,
            "a drained queue has nothing else left"
        );
        assert!(
            !reported[left.key as usize],
            "Lossless: {} is reported twice",
            left.key
        );
        reported[left.key as usize] = true;
    }
    for (key, state) in world.keys.iter().enumerate() {
        let (wanted, seen) = (state.wanted.load(SeqCst), state.seen.load(SeqCst));
        assert!(
            seen == wanted || reported[key],
            "Lossless: {key} was wanted {wanted} times and the last turn saw {seen}"
        );
    }
    assert!(world.queue.snapshot().is_empty(), "nothing is kept");
    println!(
        "{} turns, {} reported at the end",
        world.turns.load(SeqCst),
        left.len()
    );
    Ok(ExitCode::SUCCESS)
}

fn produce(world: &World, mut random: fastrand::Rng) {
    while !world.stop.load(SeqCst) {
        let key = random.u32(..KEYS);
        let mut add = match random.u8(..10) {
            0 | 1 => Add::after(Duration::from_micros(random.u64(..3000))),
            2 => Add::rate_limited().at_latest(Duration::from_millis(2)),
            _ => Add::now(),
        };
        add = add.priority(random.i32(-2..3));
        if random.u8(..10) == 0 {
            add = add.lower();
        }
        if random.u8(..5) == 0 {
            add = add.end_backoff().because("stress");
        }
        world.keys[key as usize].wanted.fetch_add(1, SeqCst);
        world.queue.add_with(key, add).expect("it is open");
        if random.u8(..200) == 0 {
            thread::yield_now();
        }
    }
}

async fn work(world: Arc<World>, mut random: fastrand::Rng) {
    loop {
        let work = if random.u8(..20) == 0 {
            // A worker that loses patience must not take a key with it.
            match tokio::time::timeout(Duration::from_micros(50), world.queue.get()).await {
                Ok(work) => work,
                Err(_) => continue,
            }
        } else {
            world.queue.get().await
        };
        let Some(work) = work else { return };
        turn(&world, work, &mut random).await;
    }
}

async fn turn(world: &World, work: Work<u32>, random: &mut fastrand::Rng) {
    let key = &world.keys[*work.key() as usize];
    assert!(
        !key.held.swap(true, SeqCst),
        "Exclusive: {} is in two hands",
        work.key()
    );
    key.seen.store(key.wanted.load(SeqCst), SeqCst);
    world.turns.fetch_add(1, SeqCst);
    match random.u8(..8) {
        0 => tokio::task::yield_now().await,
        1 => tokio::time::sleep(Duration::from_micros(random.u64(..200))).await,
        _ => {}
    }
    key.held.store(false, SeqCst);
    match random.u8(..20) {
        0 => work.retry(),
        1 => work.requeue_after(Duration::from_micros(random.u64(..2000))),
        2 => drop(work),
        _ => work.done(),
    }
}
