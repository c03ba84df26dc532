//! The same, with an allocator that counts: what heap bytes are taken from. It is slower.

use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

fn main() -> std::process::ExitCode {
    workqueue_bench::main(Some(&HEAP))
}
