//! What the binaries around a server share: logging and progress on standard error, and waiting to be told to stop.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;

/// How often a line of progress is written anew.
const PROGRESS: Duration = Duration::from_millis(100);

/// Logs to standard error: warnings at 0, what happens at 1 and 2, debugging from 3 on, everything from 5 on.
/// `RUST_LOG` overrides it. Does nothing when something logs already.
pub fn log_to_stderr(verbosity: u8) {
    let level = match verbosity {
        0 => "warn",
        1 | 2 => "info",
        3 | 4 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A file is not to be full of colours.
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

/// Waits for Ctrl-C or a request to terminate; a second one ends the process at once.
///
/// # Errors
///
/// When signals cannot be listened for.
pub async fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(())
}

/// A line on standard error that says how far something long has come; silent where nobody watches a terminal. It is
/// wiped out when dropped.
#[derive(Debug)]
pub struct Progress {
    shown: Option<Instant>,
    watched: bool,
}

impl Progress {
    /// Nothing shown yet.
    pub fn new() -> Self {
        Self {
            shown: None,
            watched: std::io::stderr().is_terminal(),
        }
    }

    /// Shows a line, unless one has been shown just now.
    pub fn show(&mut self, line: impl FnOnce() -> String) {
        if !self.watched || self.shown.is_some_and(|at| at.elapsed() < PROGRESS) {
            return;
        }
        self.shown = Some(Instant::now());
        // Progress that cannot be shown is no reason to stop.
        let _ = write!(std::io::stderr(), "\r\x1b[K{}", line());
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
