//! A circuit that opens when a server cannot be reached several times in a row: for a while nobody waits for it then.
//!
//! While it is open one request after the other may try, each after a longer pause; the first that is answered closes it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// So many failures in a row open it.
const MOST_FAILURES: u32 = 5;
/// How long it stays open for the first time; twice as long each time after that.
const PAUSE: Duration = Duration::from_secs(1);
/// How long it stays open at most: as long as the server is checked anew at least.
const LONGEST: Duration = Duration::from_secs(30);

/// The circuit before one server.
#[derive(Debug, Default)]
pub(crate) struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Nobody may try before.
    closed_until: Option<Instant>,
    pause: Duration,
}

impl Circuit {
    /// Whether a request may try. While the circuit is open the one that may has the others wait again.
    pub(crate) fn allows(&self) -> bool {
        let mut state = self.0.lock();
        let now = Instant::now();
        match state.closed_until {
            None => true,
            Some(until) if until > now => false,
            Some(_) => {
                state.closed_until = Some(now + state.pause);
                true
            }
        }
    }

    /// The server has answered.
    pub(crate) fn answered(&self) {
        let mut state = self.0.lock();
        if state.failures > 0 {
            *state = State::default();
        }
    }

    /// The server has not.
    pub(crate) fn failed(&self) {
        let mut state = self.0.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= MOST_FAILURES {
            state.pause = (state.pause * 2).clamp(PAUSE, LONGEST);
            state.closed_until = Some(Instant::now() + state.pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_lets_one_try_after_longer_and_longer() {
        let circuit = Circuit::default();
        let fail = |times: u32| (0..times).for_each(|_| circuit.failed());
        fail(MOST_FAILURES - 1);
        circuit.answered();
        fail(MOST_FAILURES - 1);
        assert!(circuit.allows(), "they were not in a row");
        fail(1);
        let mut pause = PAUSE;
        for _ in 0..8 {
            assert!(!circuit.allows());
            sleep(pause - Duration::from_millis(1)).await;
            assert!(!circuit.allows(), "not before {pause:?}");
            advance(Duration::from_millis(1)).await;
            assert!(circuit.allows(), "after {pause:?}");
            assert!(!circuit.allows(), "one at a time");
            fail(1);
            pause = (pause * 2).min(LONGEST);
        }
        sleep(pause).await;
        assert!(circuit.allows());
        circuit.answered();
        assert!(circuit.allows() && circuit.allows());
    }
}
