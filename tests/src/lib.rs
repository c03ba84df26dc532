//! What the test areas share: the real binaries as child processes, and the real clients in front of them.
#![allow(clippy::print_stderr)] // a skipped test says so

pub mod browser;
pub mod clients;
pub mod process;
pub mod programs;

pub use browser::Browser;
pub use clients::{Kubectl, python};
pub use process::{Process, Server, binary};
pub use programs::Language;

use std::time::{Duration, Instant};

/// How long a test waits for something that should take moments: long enough for a loaded machine, short enough
/// to end a hung run.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks until the answer is `Some`, or panics with what `describe` says when the deadline passes.
///
/// For what no client can watch; where one can (`kubectl wait`), it should.
pub fn eventually<T>(describe: impl Fn() -> String, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "gave up after {DEADLINE:?}: {}",
            describe()
        );
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(50));
    }
}
