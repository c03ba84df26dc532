//! Clusters that `trimtab etcd` operates: members with environment files, started as processes of their own; and a writer
//! who remembers what was acknowledged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use futures::StreamExt;
use tempfile::TempDir;
use trimtab::apiserver::storage::{
    Error, EtcdConfig, EtcdStore, EtcdTls, Op, RangeRequest, Revision, Store, Txn, WatchRequest,
};
use trimtab_tests::{DEADLINE, Process, binary, eventually};

use crate::process::{Ports, find};

/// A cluster with its folder. Its members are killed with it.
pub(crate) struct Operated {
    pub(crate) dir: TempDir,
    pub(crate) etcd: PathBuf,
    clients: Vec<u16>,
    peers: Vec<u16>,
    _ports: Ports,
}

impl Operated {
    /// Starts members of a version by http, and describes them in `cluster.yaml`.
    pub(crate) fn start(version: &str, members: usize) -> Self {
        let operated = Self::described(version, members);
        for n in 0..members {
            operated.spawn(n);
        }
        operated.wait();
        operated
    }

    /// Waits until all members are well.
    pub(crate) fn wait(&self) {
        let servers = self.urls("http").join(",");
        let status = || {
            self.trimtab(&["etcd", "status", "--etcd-servers", &servers])
                .status
                .success()
        };
        eventually(
            || format!("the cluster is not well{}", self.logs()),
            || status().then_some(()),
        );
    }

    /// The same without starting them.
    pub(crate) fn described(version: &str, members: usize) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let ports = Ports::own(2 * members);
        let operated = Self {
            dir: dir.expect("a temporary folder"),
            etcd: find(version).expect("a version that is installed").etcd,
            clients: ports.numbers[..members].to_vec(),
            peers: ports.numbers[members..].to_vec(),
            _ports: ports,
        };
        let mut cluster = "members:\n".to_owned();
        for n in 0..members {
            fs::write(operated.path(&format!("m{n}.env")), operated.environment(n)).expect("writes");
            cluster += &format!(
                "- name: m{n}\n  environment: m{n}.env\n  process:\n    command: [{}]\n    pidFile: m{n}.pid\n    logFile: m{n}.log\n",
                operated.etcd.display()
            );
        }
        fs::write(operated.path("cluster.yaml"), cluster).expect("writes");
        operated
    }

    fn environment(&self, n: usize) -> String {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let all: Vec<_> = (0..self.peers.len())
            .map(|n| format!("m{n}={}", self.peer(n)))
            .collect();
        let (client, peer) = (url(self.clients[n]), self.peer(n));
        format!(
            "# a member\nETCD_NAME=m{n}\nETCD_DATA_DIR=\"{}\"\nETCD_LISTEN_PEER_URLS={peer}\n\
             ETCD_INITIAL_ADVERTISE_PEER_URLS={peer}\nETCD_LISTEN_CLIENT_URLS={client}\n\
             ETCD_ADVERTISE_CLIENT_URLS={client}\nETCD_INITIAL_CLUSTER={}\nETCD_HEARTBEAT_INTERVAL=50\n\
             ETCD_ELECTION_TIMEOUT=500\nETCD_LOGGER=zap\nETCD_LOG_LEVEL=warn\n",
            self.path(&format!("m{n}")).display(),
            all.join(",")
        )
    }

    /// A member's peer URL.
    pub(crate) fn peer(&self, n: usize) -> String {
        format!("http://127.0.0.1:{}", self.peers[n])
    }

    /// Starts a member as who runs it without the tool would, and notes its process.
    pub(crate) fn spawn(&self, n: usize) {
        let start = "set -a; . ./m$0.env; echo $$ > m$0.pid; exec \"$1\" >> m$0.log 2>&1";
        let spawned = Command::new("sh")
            .args(["-c", start, &n.to_string()])
            .arg(&self.etcd)
            .current_dir(self.dir.path())
            .spawn();
        // It is found again by its number.
        drop(spawned.expect("etcd starts"));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The members' client URLs by a scheme.
    pub(crate) fn urls(&self, scheme: &str) -> Vec<String> {
        let url = |port: &u16| format!("{scheme}://127.0.0.1:{port}");
        self.clients.iter().map(url).collect()
    }

    /// How to reach it, with the certificates that were made for it.
    pub(crate) fn config(&self, schemes: &[&str]) -> EtcdConfig {
        let mut config = EtcdConfig::new(schemes.iter().flat_map(|scheme| self.urls(scheme)));
        config.compaction_interval = None;
        if schemes.contains(&"https") {
            config.tls = EtcdTls {
                ca: Some(self.text("certs/ca.crt")),
                identity: Some((self.text("certs/client.crt"), self.text("certs/client.key"))),
            };
        }
        config
    }

    /// `trimtab` with these arguments.
    pub(crate) fn trimtab(&self, args: &[&str]) -> Output {
        let output = Command::new(binary("trimtab"))
            .args(args)
            .current_dir(self.dir.path())
            .output();
        output.expect("trimtab starts")
    }

    /// What `trimtab` prints when it succeeds.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.trimtab(args);
        let [out, err] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        assert!(output.status.success(), "{args:?}: {out}{err}{}", self.logs());
        out
    }

    /// What `trimtab` says on standard error when it fails.
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let output = self.trimtab(args);
        let [out, err] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        assert!(!output.status.success(), "{args:?}: {out}{err}");
        err
    }

    fn logs(&self) -> String {
        let logs = (0..self.clients.len()).map(|n| {
            let log = fs::read_to_string(self.path(&format!("m{n}.log"))).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            format!(
                "\n--- m{n}\n{}",
                lines[lines.len().saturating_sub(8)..].join("\n")
            )
        });
        logs.collect()
    }

    /// The command line of a change of transport.
    pub(crate) fn switch<'a>(to: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let usual = [
            "etcd",
            "switch-transport",
            "--cluster=cluster.yaml",
            "--certificates=certs",
            "--make-certificates",
            "--to",
            to,
        ];
        [&usual[..], more].concat()
    }

    /// Begins a change of transport.
    pub(crate) fn switching(&self, to: &str, more: &[&str]) -> Process {
        Process::start(&binary("trimtab"), self.dir.path(), &Self::switch(to, more))
    }

    /// How many steps a change has.
    pub(crate) fn steps(&self, to: &str, more: &[&str]) -> usize {
        let plan = self.ok(&Self::switch(to, &[more, &["--plan"]].concat()));
        plan.lines().count()
    }

    /// All members are found by this scheme, by clients and by each other, and no certificate is without an end.
    pub(crate) fn check_scheme(&self, scheme: &str) {
        let servers = self.urls(scheme).join(",");
        let status = self.ok(&[
            "etcd",
            "status",
            "--certificates=certs",
            "--etcd-servers",
            &servers,
        ]);
        let other = if scheme == "http" { "https://" } else { "http://" };
        assert!(!status.contains(other), "{status}");
        assert_eq!(status.matches("leads").count(), 1, "{status}");
        let shown = if scheme == "https" {
            2 * self.clients.len()
        } else {
            0
        };
        assert_eq!(status.matches("days)").count(), shown, "{status}");
    }
}

impl Drop for Operated {
    fn drop(&mut self) {
        for n in 0..self.clients.len() {
            kill(&self.path(&format!("m{n}.pid")));
        }
    }
}

/// Kills the etcd whose process id is in a file, if it is one still.
fn kill(pid_file: &Path) {
    let Ok(pid) = fs::read_to_string(pid_file) else {
        return;
    };
    let pid = pid.trim();
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if line.contains("etcd") {
        let _ = Command::new("kill").args(["-KILL", pid]).status(); // it may end by itself
    }
}

/// A writer in a thread of its own. It writes one key after the other, and remembers the revision of each that was
/// acknowledged.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(u64, Revision)>>,
}

impl Writer {
    /// Writes to whichever member answers.
    pub(crate) fn start(config: EtcdConfig) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                let store = EtcdStore::connect(config).await.expect("etcd answers");
                let mut acknowledged = Vec::new();
                for n in 0.. {
                    if stopped.load(Ordering::Relaxed) && acknowledged.len() > 20 {
                        break;
                    }
                    // What is not acknowledged may be there or not; the next one is another key.
                    if let Ok(done) = store.txn(put(&key(n), &n.to_string())).await {
                        acknowledged.push((n, done.revision));
                    }
                }
                acknowledged
            })
        });
        Self { stop, thread }
    }

    /// Stops, and checks that all that was acknowledged is there, and is told to a watch from the beginning on.
    pub(crate) fn check(self, config: EtcdConfig) {
        self.stop.store(true, Ordering::Relaxed);
        let acknowledged = self.thread.join().expect("the writer does not panic");
        assert!(acknowledged.is_sorted_by(|a, b| a.1 < b.1), "revisions go up");
        runtime().block_on(async {
            let store = EtcdStore::connect(config).await.expect("etcd answers");
            let all = store
                .range(RangeRequest::prefix("/registry/w/"))
                .await
                .expect("reads");
            let wanted = |n: u64, revision| {
                let found = all.kvs.iter().find(|kv| kv.key == key(n).as_bytes());
                found.is_some_and(|kv| kv.value == n.to_string().as_bytes() && kv.mod_revision == revision)
            };
            let lost: Vec<_> = acknowledged
                .iter()
                .filter(|(n, revision)| !wanted(*n, *revision))
                .collect();
            assert!(
                lost.is_empty(),
                "of {} writes these are lost: {lost:?}",
                acknowledged.len()
            );

            let watch = WatchRequest::prefix("/registry/w/").from(acknowledged[0].1);
            let mut watch = store.watch(watch).await.expect("nothing was compacted");
            let mut told = 0;
            while told < all.kvs.len() {
                let next = tokio::time::timeout(DEADLINE, watch.next())
                    .await
                    .expect("in time");
                told += next.expect("goes on").expect("no error").events.len();
            }
        });
    }
}

/// A key of the writer's.
fn key(n: u64) -> String {
    format!("/registry/w/{n:08}")
}

pub(crate) fn put(key: &str, value: &str) -> Txn {
    let put = Op::Put {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ttl: None,
    };
    Txn {
        success: vec![put],
        ..Txn::default()
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// Writes keys, some of them under a lease.
pub(crate) fn fill(config: EtcdConfig, keys: usize) -> Revision {
    runtime().block_on(async {
        let store = EtcdStore::connect(config).await.expect("etcd answers");
        for n in 0..keys {
            let mut txn = put(&format!("/registry/k/{n}"), &"v".repeat(n));
            if let (0, Op::Put { ttl, .. }) = (n % 10, &mut txn.success[0]) {
                *ttl = Some(3600);
            }
            store.txn(txn).await.expect("writes");
        }
        store
            .txn(put("/registry/k/1", "again"))
            .await
            .expect("writes")
            .revision
    })
}

/// The error of a watch from an old revision.
pub(crate) fn watch_from(config: EtcdConfig, revision: Revision) -> Option<Error> {
    runtime().block_on(async {
        let store = EtcdStore::connect(config).await.expect("etcd answers");
        store
            .watch(WatchRequest::prefix("/registry/").from(revision))
            .await
            .err()
    })
}
