//! One workload on one Rust queue, with the system's allocator: what rates and times are taken from.

fn main() -> std::process::ExitCode {
    workqueue_bench::main(None)
}
