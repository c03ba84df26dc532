//! A stock kubectl in front of `trimtab up`, as people use it: each command that they know, and what it prints where that
//! matters. One server for all stories, each of which has a namespace of its own.

mod access;
mod apply;
mod custom;
mod looks;
mod nodes;
mod workloads;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use trimtab_tests::{Kubectl, Server, eventually};

/// What one story has: kubectl in a namespace of its own, and a folder for its files.
struct Story {
    kubectl: Kubectl,
    namespace: &'static str,
    dir: PathBuf,
}

type Stories = &'static [(&'static str, fn(&Story))];

/// All stories, by the namespace that they take place in.
const STORIES: [Stories; 6] = [
    access::STORIES,
    apply::STORIES,
    custom::STORIES,
    looks::STORIES,
    nodes::STORIES,
    workloads::STORIES,
];

/// A node whose taint, `of=story`, keeps the pods of all stories but one away.
const NODE_OF_ONE: &str = "node-2";
/// So many stories take place at once.
const AT_ONCE: usize = 3;

impl Story {
    /// Makes a kubeconfig whose namespace is the story's, and the namespace.
    fn new(admin: &Path, dir: &Path, namespace: &'static str) -> Option<Self> {
        let dir = dir.join(namespace);
        std::fs::create_dir(&dir).expect("a folder");
        let kubeconfig = dir.join("kubeconfig");
        std::fs::copy(admin, &kubeconfig).expect("a kubeconfig");
        let kubectl = Kubectl::new(&kubeconfig)?;
        kubectl.ok(&["create", "namespace", namespace]);
        kubectl.ok(&["config", "set-context", "--current", "--namespace", namespace]);
        // Pods are not admitted before their account is there.
        let account = || {
            kubectl
                .run(&["get", "serviceaccount", "default"])
                .status
                .success()
                .then_some(())
        };
        eventually(|| "there is no service account".to_owned(), account);
        Some(Self {
            kubectl,
            namespace,
            dir,
        })
    }

    /// Writes a file of the story, and answers its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }

    /// kubectl prints these parts, in this order.
    fn prints(&self, args: &[&str], parts: &[&str]) -> String {
        let printed = self.kubectl.ok(args);
        in_order(&printed, args, parts);
        printed
    }

    /// kubectl fails, and says these parts.
    fn is_refused(&self, args: &[&str], parts: &[&str]) {
        in_order(&self.kubectl.fails(args), args, parts);
    }

    /// A JSON path of an object.
    fn value(&self, what: &str, name: &str, path: &str) -> String {
        let path = format!("jsonpath={{{path}}}");
        self.kubectl.ok(&["get", what, name, "-o", &path])
    }

    fn wait(&self, what: &str, wanted: &str) {
        self.kubectl.ok(&["wait", what, "--for", wanted, "--timeout=60s"]);
    }
}

fn in_order(printed: &str, args: &[&str], parts: &[&str]) {
    let mut rest = printed;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            panic!("kubectl {} prints no {part:?}:\n{printed}", args.join(" "));
        };
        rest = after;
    }
}

#[test]
fn kubectl_does_what_people_know_of_it() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = Server::up(dir.path(), &["--storage=memory", "--nodes=3"]);
    let Some(kubectl) = server.kubectl() else { return };
    kubectl.ok(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"]);
    kubectl.ok(&["taint", "nodes", NODE_OF_ONE, "of=story:NoSchedule"]);
    let stories: Vec<_> = STORIES.into_iter().flatten().collect();
    let admin = server.kubeconfig().to_owned();
    let next = AtomicUsize::new(0);
    let tell = || {
        let mut failed = Vec::new();
        while let Some((name, story)) = stories.get(next.fetch_add(1, Ordering::Relaxed)) {
            let told = catch_unwind(AssertUnwindSafe(|| {
                let world = Story::new(&admin, dir.path(), name).expect("there is a kubectl");
                story(&world);
            }));
            failed.extend(told.is_err().then_some(*name));
        }
        failed
    };
    let failed: Vec<&str> = std::thread::scope(|scope| {
        let tellers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(tell)).collect();
        tellers
            .into_iter()
            .flat_map(|teller| teller.join().expect("has caught all"))
            .collect()
    });
    assert!(
        failed.is_empty(),
        "stories that failed, as told above: {}",
        failed.join(", ")
    );
    server.stop();
}
