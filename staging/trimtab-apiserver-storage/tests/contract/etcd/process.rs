//! Real etcd processes for tests: one member or several, on free ports, in a temporary folder. They end with the
//! test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpSocket;

/// The versions that tests run on, where they are installed.
pub(crate) const VERSIONS: [&str; 3] = ["3.4", "3.5", "3.6"];

/// The version that tests run on that need no certain one, unless `TRIMTAB_ETCD` names another.
pub(crate) const USUAL: &str = "3.5";

/// Ports that are nobody else's as long as this lives, by sockets that do not listen: a member that is dead for a moment would come
/// back to find its port another test's, and that test would have this one's clients.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) numbers: Vec<u16>,
    _held: Vec<TcpSocket>,
}

impl Ports {
    pub(crate) fn own(count: usize) -> Self {
        let own = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(([127, 0, 0, 1], 0).into())?;
            Ok::<_, std::io::Error>((socket.local_addr()?.port(), socket))
        };
        let (numbers, held) = (0..count).map(|_| own().expect("a free port")).unzip();
        Self { numbers, _held: held }
    }
}

/// Finds a version's programs where `hack/install-test-tools` puts them, or on the path.
pub(crate) fn find(version: &str) -> Option<Programs> {
    let test = std::env::current_exe().unwrap_or_default();
    let target = test.ancestors().nth(3).unwrap_or(Path::new("target"));
    let own = target.join("tools/etcd").join(version);
    let programs = if own.join("etcd").exists() {
        Programs {
            etcd: own.join("etcd"),
            etcdctl: own.join("etcdctl"),
        }
    } else {
        Programs {
            etcd: "etcd".into(),
            etcdctl: "etcdctl".into(),
        }
    };
    let told = Command::new(&programs.etcd).arg("--version").output().ok()?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    told.contains(&format!("etcd Version: {version}."))
        .then_some(programs)
}

/// The versions that are installed. Where `TRIMTAB_REQUIRE_TOOLS` is set, 3.4 and 3.5 must be; without it what
/// is missing is skipped with a printed reason.
///
/// # Panics
///
/// When one that must be there is not.
pub(crate) fn versions() -> Vec<&'static str> {
    let mut found = Vec::new();
    for version in VERSIONS {
        if find(version).is_some() {
            found.push(version);
            continue;
        }
        let text = format!("skipped: etcd {version} is missing; hack/install-test-tools installs it");
        // The newest is built from source, which takes a Go compiler.
        let must = version != "3.6" && std::env::var_os("TRIMTAB_REQUIRE_TOOLS").is_some();
        assert!(!must, "{text}");
        #[allow(clippy::print_stderr)] // a reason to skip is for who runs the tests
        {
            eprintln!("{text}");
        }
    }
    found
}

/// Whether the usual version is installed; see [`versions`].
pub(crate) fn usual() -> Option<&'static str> {
    let wanted = std::env::var("TRIMTAB_ETCD").unwrap_or_else(|_| USUAL.to_owned());
    versions().into_iter().find(|version| *version == wanted)
}

/// The programs of a version.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) etcd: PathBuf,
    pub(crate) etcdctl: PathBuf,
}

#[derive(Debug)]
struct Member {
    name: String,
    client: String,
    peer: String,
    child: Option<Child>,
}

/// What is to be different from the usual member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// More flags.
    pub(crate) flags: Vec<String>,
    /// A certificate and its key for clients to see, and the authority that clients must be of.
    pub(crate) tls: Option<[PathBuf; 3]>,
}

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Etcd {
    members: Vec<Member>,
    programs: Programs,
    settings: Settings,
    dir: TempDir,
    _ports: Ports,
}

impl Etcd {
    /// Starts members of a version that [`versions`] names.
    ///
    /// # Panics
    ///
    /// When they cannot be started.
    pub(crate) fn start(version: &str, members: usize, settings: Settings) -> Self {
        let programs = find(version).expect("a version that is installed");
        // What dies here is a process and not the machine, so memory will do for a disk.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.expect("a temporary folder");
        let ports = Ports::own(2 * members);
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let members = ports.numbers.chunks(2).enumerate().map(|(n, ports)| Member {
            name: format!("m{n}"),
            client: format!("{scheme}://127.0.0.1:{}", ports[0]),
            peer: format!("http://127.0.0.1:{}", ports[1]),
            child: None,
        });
        let mut etcd = Self {
            members: members.collect(),
            programs,
            settings,
            dir,
            _ports: ports,
        };
        for n in 0..etcd.members.len() {
            etcd.restart(n);
        }
        etcd
    }

    /// The members' client URLs.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.members.iter().map(|m| m.client.clone()).collect()
    }

    /// Starts a member that is not running.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub(crate) fn restart(&mut self, n: usize) {
        let cluster: Vec<_> = self
            .members
            .iter()
            .map(|m| format!("{}={}", m.name, m.peer))
            .collect();
        let member = &mut self.members[n];
        let log = self.dir.path().join(format!("{}.log", member.name));
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log");
        let mut command = Command::new(&self.programs.etcd);
        command
            .args(["--name", &member.name])
            .arg("--data-dir")
            .arg(self.dir.path().join(&member.name))
            .args(["--listen-client-urls", &member.client])
            .args(["--advertise-client-urls", &member.client])
            .args(["--listen-peer-urls", &member.peer])
            .args(["--initial-advertise-peer-urls", &member.peer])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(["--logger", "zap", "--log-level", "warn"])
            .args(&self.settings.flags);
        if let Some([certificate, key, ca]) = &self.settings.tls {
            command.arg("--cert-file").arg(certificate);
            command.arg("--key-file").arg(key);
            command.arg("--trusted-ca-file").arg(ca).arg("--client-cert-auth");
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        member.child = Some(child.expect("etcd starts"));
    }

    /// Kills a member, as a power cut would.
    ///
    /// # Panics
    ///
    /// When it is not running.
    pub(crate) fn kill(&mut self, n: usize) {
        let child = self.members[n].child.take();
        let mut child = child.expect("a running member");
        child.kill().expect("can be killed");
        child.wait().expect("ends");
    }

    /// Stops a member's clock, or lets it go on: its connections stay.
    ///
    /// # Panics
    ///
    /// When it is not running.
    pub(crate) fn signal(&self, n: usize, signal: &str) {
        let id = self.members[n].child.as_ref().expect("a running member").id();
        let sent = Command::new("kill").args([signal, &id.to_string()]).status();
        assert!(sent.expect("kill starts").success(), "{signal} {id}");
    }

    /// Runs etcdctl and answers what it printed, if it succeeded.
    ///
    /// # Errors
    ///
    /// What it printed if it failed.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub(crate) fn ctl(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.programs.etcdctl)
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.urls().join(",")])
            .args(args)
            .output()
            .expect("etcdctl starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stdout) + &text(&output.stderr))
        }
    }

    /// The member that leads, if one is known to all that answer.
    pub(crate) fn leader(&self) -> Option<usize> {
        let status = self.ctl(&["endpoint", "status", "--write-out", "simple"]).ok()?;
        // endpoint, id, version, size, is leader, …
        let leads = status
            .lines()
            .find(|line| line.split(", ").any(|part| part == "true"))?;
        self.members
            .iter()
            .position(|m| leads.starts_with(m.client.as_str()))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|m| m.child.as_mut()) {
            let _ = child.kill(); // a member that has ended by itself is no matter here
            let _ = child.wait();
        }
    }
}
