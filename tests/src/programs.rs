//! Programs of other languages with those languages' own clients (tests/clients), each run against a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Process;
use crate::clients::{skip, tools};

/// A language that a program of tests/clients is written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Language {
    /// Python with `kubernetes` and `kopf`.
    Python,
}

/// Runs a program until it ends by itself, in a folder of the test's own. Skips, with a printed reason, where what the program needs
/// is not installed.
///
/// # Panics
///
/// When the program fails, with what it printed, or does not end before [`crate::DEADLINE`].
pub fn run(language: Language, program: &str, kubeconfig: &Path, dir: &Path) {
    let Some(mut command) = language.command(program, dir) else {
        return;
    };
    command
        .current_dir(dir)
        .env("KUBECONFIG", kubeconfig)
        .env("TMPDIR", dir) // where the Python client keeps what it discovered, by host and port alone
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let mut process = Process::spawn(&mut command);
    let status = process.wait();
    assert!(status.success(), "{language:?}'s {program} ended with {status}");
}

// === impl Language ===

impl Language {
    /// How a program is started; `None`, with a printed reason, where what it needs is not installed.
    fn command(self, program: &str, _dir: &Path) -> Option<Command> {
        let (sources, tools) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("clients"), tools());
        match self {
            Self::Python => {
                let python = installed(
                    tools.join("venv/bin/python"),
                    &tools.join("venv/requirements.txt"),
                    &sources.join("python/requirements.txt"),
                    "the environment of the Python clients",
                )?;
                let mut command = Command::new(python);
                command.arg(sources.join(format!("python/{program}.py")));
                Some(command)
            }
        }
    }
}

/// `path`, if it was installed from the list of versions that is there today.
fn installed(path: PathBuf, from: &Path, list: &Path, name: &str) -> Option<PathBuf> {
    let read = |file: &Path| std::fs::read(file).ok();
    if path.exists() && read(from).is_some_and(|then| read(list).is_some_and(|now| now == then)) {
        return Some(path);
    }
    skip(name);
    None
}
