//! The workloads of `hack/bench-workqueue` on the Rust queues: `workqueue-bench PEER WORKLOAD` prints one JSON line.

mod kube_rs;
mod ours;
mod report;

use std::process::ExitCode;

use peak_alloc::PeakAlloc;

/// Distinct keys of the throughput and memory workloads.
const KEYS: u64 = 1_000_000;
/// The merged workload: how many adds, over how many keys, by how many threads.
const ADDS: u64 = 5_000_000;
const MERGED_KEYS: u64 = 1_000;
const PRODUCERS: u64 = 4;
/// The delayed workload: keys, and the seed of their delays.
const DELAYED: u64 = 200_000;
const SEED: u64 = 42;
/// The startup workload: the initial list, its workers, and when the user's change comes, in milliseconds.
const LISTED: u64 = 20_000;
const WORKERS: usize = 10;
const CHANGE_AT_MS: u64 = 100;

/// Runs the workload that the arguments name. `heap` is the allocator if it counts.
pub fn main(heap: Option<&'static PeakAlloc>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [peer, workload] = arguments.as_slice() else {
        eprintln!("usage: workqueue-bench ours|kube-rs WORKLOAD");
        return ExitCode::from(2);
    };
    let figures = match peer.as_str() {
        "ours" => ours::run(workload, heap),
        "kube-rs" => kube_rs::run(workload, heap),
        _ => None,
    };
    match figures {
        Some(figures) => {
            println!("{}", figures.json(peer, workload));
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("{peer} has no workload {workload} in this program");
            ExitCode::from(3)
        }
    }
}

/// The keys of the string workloads.
fn string_key(n: u64) -> String {
    format!("namespace-{:03}/name-{n:07}", n % 1000)
}

/// The delays in nanoseconds of the delayed workload: splitmix64, as in the Go program.
fn delays() -> Vec<u64> {
    let mut state = SEED;
    (0..DELAYED)
        .map(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (z ^ (z >> 31)) % 1_000_000_000
        })
        .collect()
}
