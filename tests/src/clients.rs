//! The clients that people use: a stock kubectl, and Python with the `kubernetes` package.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::Process;

/// Folders where `hack/install-test-tools` puts what a machine lacks.
pub(crate) fn tools() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    test.ancestors()
        .nth(3)
        .unwrap_or(Path::new("target"))
        .join("tools")
}

/// Says why a test is skipped; where `TRIMTAB_REQUIRE_TOOLS` is set, fails instead.
pub(crate) fn skip(tool: &str) {
    let text = format!("skipped: {tool} is missing; hack/install-test-tools installs it");
    assert!(std::env::var_os("TRIMTAB_REQUIRE_TOOLS").is_none(), "{text}");
    eprintln!("{text}");
}

/// kubectl with a kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// Finds kubectl; `None`, with a printed reason, where there is none.
    pub fn new(kubeconfig: &Path) -> Option<Self> {
        let own = tools().join("bin/kubectl");
        let program = if own.exists() {
            own
        } else {
            PathBuf::from("kubectl")
        };
        if Command::new(&program)
            .args(["version", "--client"])
            .output()
            .is_err()
        {
            skip("kubectl");
            return None;
        }
        Some(Self {
            program,
            kubeconfig: kubeconfig.to_owned(),
        })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // A cache of its own: discovery of another test's server must not be found there.
        command.env("KUBECACHEDIR", self.kubeconfig.with_extension("cache"));
        command.env("KUBECONFIG", &self.kubeconfig).args(args);
        command
    }

    /// Runs kubectl and returns what it printed and how it ended.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("kubectl starts")
    }

    /// Runs kubectl with these variables in its environment.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn run_with_env(&self, args: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = self.command(args);
        command.envs(variables.iter().copied());
        command.output().expect("kubectl starts")
    }

    /// Runs `kubectl edit` with an editor that does this `sed` script; it must succeed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn edit(&self, args: &[&str], script: &str) {
        let mut command = self.command(&[&["edit"], args].concat());
        command.env("KUBE_EDITOR", format!("sed -i '{script}'"));
        let output = command.output().expect("kubectl starts");
        let (out, err) = texts(&output);
        assert!(
            output.status.success(),
            "kubectl edit {} failed:\n{out}{err}",
            args.join(" ")
        );
    }

    /// Runs kubectl, which must succeed, and returns what it printed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = texts(&output);
        assert!(
            output.status.success(),
            "kubectl {} failed:\n{out}{err}",
            args.join(" ")
        );
        out
    }

    /// Runs kubectl, which must fail, and returns its error text.
    ///
    /// # Panics
    ///
    /// When it succeeds.
    pub fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = texts(&output);
        assert!(
            !output.status.success(),
            "kubectl {} succeeded:\n{out}",
            args.join(" ")
        );
        err
    }

    /// Runs kubectl with a manifest on its standard input; it must succeed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn with_input(&self, args: &[&str], input: &str) -> String {
        let output = self.run_with_input(args, input);
        let (out, err) = texts(&output);
        assert!(
            output.status.success(),
            "kubectl {} failed:\n{out}{err}",
            args.join(" ")
        );
        out
    }

    /// Runs kubectl with a manifest on its standard input.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Output {
        use std::io::Write as _;
        use std::process::Stdio;
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        child
            .stdin
            .take()
            .expect("its input is piped")
            .write_all(input.as_bytes())
            .expect("it reads its input");
        child.wait_with_output().expect("kubectl ends")
    }

    /// Gets objects as JSON.
    ///
    /// # Panics
    ///
    /// When kubectl fails.
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    /// Starts kubectl in the background, as for `get -w`.
    pub fn start(&self, args: &[&str]) -> Process {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig.display());
        let cache = format!(
            "--cache-dir={}",
            self.kubeconfig.with_extension("cache").display()
        );
        Process::start(
            &self.program,
            Path::new("."),
            &[&[kubeconfig.as_str(), cache.as_str()], args].concat(),
        )
    }
}

/// Runs a Python program with the `kubernetes` package against a kubeconfig, and returns what it printed; `None`, with a
/// printed reason, where Python or the package is missing.
///
/// # Panics
///
/// When the program fails.
pub fn python(kubeconfig: &Path, program: &str) -> Option<String> {
    let own = tools().join("venv/bin/python");
    let python = if own.exists() {
        own
    } else {
        PathBuf::from("python3")
    };
    let found = Command::new(&python).args(["-c", "import kubernetes"]).output();
    if !found.is_ok_and(|o| o.status.success()) {
        skip("Python's kubernetes package");
        return None;
    }
    let output = Command::new(python)
        .args(["-c", program])
        .env("KUBECONFIG", kubeconfig)
        .output()
        .expect("Python starts");
    let (out, err) = texts(&output);
    assert!(output.status.success(), "the Python program failed:\n{out}{err}");
    Some(out)
}

fn texts(output: &Output) -> (String, String) {
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
