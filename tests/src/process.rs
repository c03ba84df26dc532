//! The project's binaries as child processes that cannot outlive their test.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crate::{DEADLINE, Kubectl, eventually};

/// The path of one of the workspace's binaries, built with the profile that the tests are built with.
///
/// # Panics
///
/// When the build fails.
pub fn binary(name: &str) -> PathBuf {
    static PROFILE_DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = PROFILE_DIR.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a path");
        let dir = test
            .parent()
            .and_then(Path::parent)
            .expect("tests live in target/PROFILE/deps")
            .to_owned();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--workspace", "--bins", "--manifest-path"]);
        build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
        build.arg("--target-dir").arg(
            dir.parent()
                .expect("a profile's folder lies in the target folder"),
        );
        if dir.ends_with("release") {
            build.arg("--release");
        }
        let status = build.status().expect("cargo starts");
        assert!(status.success(), "building the binaries failed");
        dir
    });
    dir.join(name)
}

/// A running binary, killed when dropped. What it prints is kept, for the test to read and for its failure to show.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    printed: Arc<Mutex<String>>,
}

impl Process {
    /// Starts `program` in `dir`.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(program: &Path, dir: &Path, args: &[&str]) -> Self {
        Self::spawn(Command::new(program).current_dir(dir).args(args))
    }

    /// Starts what `command` says, without input.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
        let printed = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = channel();
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|o| Box::new(o) as _),
            child.stderr.take().map(|o| Box::new(o) as _),
        ];
        for output in outputs.into_iter().flatten() {
            let (sender, printed) = (sender.clone(), printed.clone());
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let mut all = printed.lock().unwrap_or_else(PoisonError::into_inner);
                    all.push_str(&line);
                    all.push('\n');
                    drop(all);
                    let _ = sender.send(line); // nobody may be waiting for lines any more
                }
            });
        }
        Self {
            child,
            lines,
            printed,
        }
    }

    /// Everything printed so far, both outputs.
    pub fn printed(&self) -> String {
        self.printed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for a line that contains `text`, and returns it.
    ///
    /// # Panics
    ///
    /// When the process ends or the deadline passes first.
    pub fn wait_for_line(&self, text: &str) -> String {
        let start = Instant::now();
        loop {
            match self.lines.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no line with {text:?}; printed:\n{}", self.printed())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended before {text:?}; printed:\n{}", self.printed())
                }
            }
        }
    }

    /// Waits for the process to end by itself.
    ///
    /// # Panics
    ///
    /// When it does not end before the deadline.
    pub fn wait(&mut self) -> ExitStatus {
        let printed = self.printed.clone();
        let describe = || {
            format!(
                "still running; printed:\n{}",
                printed.lock().unwrap_or_else(PoisonError::into_inner)
            )
        };
        eventually(describe, || {
            self.child.try_wait().expect("a child can be waited for")
        })
    }

    /// Sends a signal by name, as `INT`.
    ///
    /// # Panics
    ///
    /// When there is no such process.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .expect("kill starts");
        assert!(status.success(), "kill -s {name} {pid} failed");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the process had printed:\n{}", self.printed());
        }
    }
}

/// A running API server (`trimtab up` or `trimtab-apiserver`) with its folder and its kubeconfig.
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub process: Process,
    kubeconfig: PathBuf,
}

impl Server {
    /// Starts `trimtab up` in `dir` on a free port and waits until it is ready.
    pub fn up(dir: &Path, args: &[&str]) -> Self {
        let all = [&["up", "--secure-port=0"], args].concat();
        Self::start(
            &binary("trimtab"),
            dir,
            &all,
            dir.join("trimtab/admin.kubeconfig"),
        )
    }

    /// Starts `trimtab-apiserver` in `dir` on a free port, in memory, and waits until it is ready.
    pub fn apiserver(dir: &Path, args: &[&str]) -> Self {
        Self::apiserver_on(dir, &[&["--storage=memory"], args].concat())
    }

    /// Starts `trimtab-apiserver` in `dir` on a free port, with a storage that is named, and waits until it is ready.
    pub fn apiserver_on(dir: &Path, storage: &[&str]) -> Self {
        let kubeconfig = dir.join("admin.kubeconfig");
        let out = format!("--kubeconfig-out={}", kubeconfig.display());
        let all = [&["--secure-port=0", "--cert-dir=certs", out.as_str()], storage].concat();
        Self::start(&binary("trimtab-apiserver"), dir, &all, kubeconfig)
    }

    fn start(program: &Path, dir: &Path, args: &[&str], kubeconfig: PathBuf) -> Self {
        let process = Process::start(program, dir, args);
        process.wait_for_line("ready");
        Self { process, kubeconfig }
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// kubectl as the admin; `None`, with a printed reason, where there is no kubectl.
    pub fn kubectl(&self) -> Option<Kubectl> {
        Kubectl::new(&self.kubeconfig)
    }

    /// Stops it as Ctrl-C does.
    ///
    /// # Panics
    ///
    /// When it does not stop cleanly.
    pub fn stop(mut self) {
        self.process.signal("INT");
        let status = self.process.wait();
        assert!(
            status.success(),
            "stopped with {status}; printed:\n{}",
            self.process.printed()
        );
    }

    /// Kills it without warning.
    pub fn kill(mut self) {
        self.process.signal("KILL");
        self.process.wait();
    }
}
