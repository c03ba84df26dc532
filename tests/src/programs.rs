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
    /// Go with client-go: all programs are one binary, which is told which of them to be.
    Go,
    /// JavaScript with `@kubernetes/client-node`, on Node.
    Node,
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
    fn command(self, program: &str, dir: &Path) -> Option<Command> {
        let (sources, tools) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("clients"), tools());
        match self {
            Self::Python => {
                let python = installed(
                    tools.join("venv/bin/python"),
                    &tools.join("venv/requirements.txt"),
                    &[sources.join("python/requirements.txt")],
                    "the environment of the Python clients",
                )?;
                let mut command = Command::new(python);
                command.arg(sources.join(format!("python/{program}.py")));
                Some(command)
            }
            Self::Go => {
                if !on_path("go") {
                    return None;
                }
                let files = std::fs::read_dir(sources.join("go")).expect("the sources are there");
                let mut files: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
                files.sort();
                let mut command = Command::new(installed(
                    tools.join("clients/go/clients"),
                    &tools.join("clients/go/sources"),
                    &files,
                    "the Go clients' binary",
                )?);
                command.arg(program);
                Some(command)
            }
            Self::Node => {
                if !on_path("npm") {
                    return None;
                }
                let modules = installed(
                    tools.join("clients/node/node_modules"),
                    &tools.join("clients/node/installed"),
                    &[sources.join("node/package-lock.json")],
                    "Node's client",
                )?;
                // Node looks for packages beside the file that imports them.
                std::os::unix::fs::symlink(modules, dir.join("node_modules"))
                    .expect("the test's folder is writable");
                for file in ["shared.mjs", &format!("{program}.mjs")] {
                    std::fs::copy(sources.join("node").join(file), dir.join(file))
                        .expect("the program is there");
                }
                let mut command = Command::new("node");
                command.arg(format!("{program}.mjs"));
                Some(command)
            }
        }
    }
}

/// `path`, if it was installed from what `sources`, one after the other, say today.
fn installed(path: PathBuf, from: &Path, sources: &[PathBuf], name: &str) -> Option<PathBuf> {
    let now: Vec<u8> = sources
        .iter()
        .flat_map(|file| std::fs::read(file).expect("the sources of a test are there"))
        .collect();
    if path.exists() && std::fs::read(from).is_ok_and(|then| then == now) {
        return Some(path);
    }
    skip(&format!("{name}, as its sources say today,"));
    None
}

/// Whether a program is on the path. Where a whole language is missing, tests in it are skipped even where tools are
/// required: hack/install-test-tools does not install languages.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !found {
        eprintln!("skipped: {program} is missing");
    }
    found
}
