//! What the binaries around a server share: the command line as it is in force, logging and progress on standard error, and waiting to be told to stop.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use clap::{ArgMatches, Command, Parser};
use tracing_subscriber::EnvFilter;

/// How often a line of progress is written anew.
const PROGRESS: Duration = Duration::from_millis(100);

/// Reads the command line, and answers with it what each flag is, given or not, by name. Ends the process when the command
/// line makes no sense.
pub fn parse<C: Parser>() -> (C, BTreeMap<String, String>) {
    let mut command = C::command();
    let matches = command.get_matches_mut();
    let flags = flags(&command, &matches);
    match C::from_arg_matches(&matches) {
        Ok(parsed) => (parsed, flags),
        Err(error) => error.format(&mut command).exit(),
    }
}

/// The flags of a command and of the one below it that was chosen. A list is in brackets, as Go's flags print it.
fn flags(command: &Command, matches: &ArgMatches) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    for flag in command.get_arguments() {
        let (Some(name), Ok(values)) = (flag.get_long(), matches.try_get_raw(flag.get_id().as_str())) else {
            continue;
        };
        let values: Vec<_> = values
            .into_iter()
            .flatten()
            .map(|value| value.to_string_lossy())
            .collect();
        let listed =
            flag.get_value_delimiter().is_some() || matches!(flag.get_action(), clap::ArgAction::Append);
        let text = values.join(",");
        flags.insert(name.to_owned(), if listed { format!("[{text}]") } else { text });
    }
    if let Some((name, below)) = matches.subcommand()
        && let Some(command) = command.find_subcommand(name)
    {
        flags.extend(self::flags(command, below));
    }
    flags
}

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
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            biased;
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

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Below,
    }

    #[derive(clap::Subcommand)]
    enum Below {
        Up {
            #[command(flatten)]
            server: Box<crate::options::ServerOptions>,
        },
    }

    #[test]
    fn flags_are_told_as_they_are_in_force() {
        let mut command = Cli::command();
        let matches = command.try_get_matches_from_mut([
            "x",
            "up",
            "--secure-port=1",
            "--enable-admission-plugins=A,B",
            "--anonymous-auth=false",
        ]);
        let matches = matches.expect("is understood");
        let flags = flags(&command, &matches);
        for (name, value) in [
            ("secure-port", "1"),
            ("bind-address", "127.0.0.1"),
            ("enable-admission-plugins", "[A,B]"),
            ("disable-admission-plugins", "[]"),
            ("anonymous-auth", "false"),
            ("token-auth-file", ""),
        ] {
            assert_eq!(flags.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(Cli::from_arg_matches(&matches).is_ok());
    }
}
