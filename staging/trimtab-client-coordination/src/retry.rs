//! Trying again after a conflict, for callers who own the whole change: a command, a migration.
//!
//! A controller does not need this: it returns the conflict, and its next turn reads the latest state.

use std::time::Duration;

use kube::Error;

/// How often to try, and how long to wait in between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The number of tries, the first included. At least one is made.
    pub steps: u32,
    /// The wait after the first try.
    pub initial: Duration,
    /// What each further wait is longer by; 1.0 keeps them equal.
    pub factor: f64,
    /// Each wait is made longer by a random part of itself up to this fraction.
    pub jitter: f64,
}

/// For conflicts that are over at once, as when two clients edit one object now and then. client-go's figures.
pub const DEFAULT_RETRY: Backoff = Backoff {
    steps: 5,
    initial: Duration::from_millis(10),
    factor: 1.0,
    jitter: 0.1,
};

/// For objects that many clients write. client-go's figures.
pub const DEFAULT_BACKOFF: Backoff = Backoff {
    steps: 4,
    initial: Duration::from_millis(10),
    factor: 5.0,
    jitter: 0.1,
};

/// Whether the server refused a write because the object had changed.
pub fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.is_conflict())
}

/// Runs `change` until it succeeds or fails with something other than a conflict.
///
/// `change` must read the object anew each time, change it and write it; to write the same old object again would only
/// conflict again. Cancelling this between tries leaves what the last try did.
///
/// # Errors
/// The first error that is no conflict, or the conflict of the last try.
pub async fn retry_on_conflict<T, F>(backoff: Backoff, change: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    retry_if(backoff, is_conflict, change).await
}

/// Runs `change` until it succeeds or fails with an error that is not `retriable`.
///
/// # Errors
/// The first error that is not retriable, or that of the last try.
pub async fn retry_if<T, E, F>(
    backoff: Backoff,
    retriable: impl Fn(&E) -> bool,
    mut change: impl FnMut() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut wait = backoff.initial.as_secs_f64();
    for _ in 1..backoff.steps {
        match change().await {
            Err(error) if retriable(&error) => {}
            result => return result,
        }
        let jittered = wait * (1.0 + backoff.jitter * fastrand::f64());
        tokio::time::sleep(Duration::try_from_secs_f64(jittered).unwrap_or_default()).await;
        wait *= backoff.factor;
    }
    change().await
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use tokio::time::Instant;

    use super::*;

    fn error(code: u16, reason: &str) -> Error {
        Error::Api(Status::failure("no", reason).with_code(code).boxed())
    }

    #[tokio::test(start_paused = true)]
    async fn conflicts_are_retried_and_nothing_else() {
        for (failures, code, reason, tries, ok) in [
            (0, 409, "Conflict", 1, true),
            (4, 409, "Conflict", 5, true),
            (5, 409, "Conflict", 5, false),
            (1, 409, "AlreadyExists", 1, false),
            (1, 500, "InternalError", 1, false),
        ] {
            let mut made = 0;
            let start = Instant::now();
            let result = retry_on_conflict(DEFAULT_RETRY, || {
                made += 1;
                let failed = made <= failures;
                async move { if failed { Err(error(code, reason)) } else { Ok(()) } }
            })
            .await;
            assert_eq!((made, result.is_ok()), (tries, ok), "{failures} times {reason}");
            let waits = tries - 1;
            let waited = Instant::now() - start;
            let (least, most) = (
                Duration::from_millis(10) * waits,
                Duration::from_millis(13) * waits,
            );
            assert!(
                waited >= least && waited <= most,
                "{waited:?}, and nothing after the last try"
            );
        }
    }
}
