//! Stopping and killing: what was acknowledged is there again, and the controllers go on where they were.

use std::collections::BTreeSet;

use trimtab_tests::Server;

const WEBSITE: &str = include_str!("../../../examples/website.yaml");

#[test]
fn a_restart_in_the_middle_of_the_story_changes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = Server::up(dir.path(), &[]);
    let Some(kubectl) = server.kubectl() else { return };
    kubectl.with_input(&["apply", "-f", "-"], WEBSITE);
    kubectl.ok(&["wait", "--for=condition=Synced", "website/hello", "--timeout=60s"]);
    let names = [
        "website/hello",
        "deployment/hello",
        "service/hello",
        "configmap/hello",
    ];
    let before: Vec<_> = names
        .iter()
        .map(|n| kubectl.json(&["get", n])["metadata"]["uid"].clone())
        .collect();
    server.stop();

    let server = Server::up(dir.path(), &[]);
    let kubectl = server.kubectl().expect("it was there before");
    let after: Vec<_> = names
        .iter()
        .map(|n| kubectl.json(&["get", n])["metadata"]["uid"].clone())
        .collect();
    assert_eq!(before, after, "the objects are the same ones");
    kubectl.ok(&["delete", "deployment", "hello"]);
    kubectl.ok(&["wait", "--for=create", "deployment/hello", "--timeout=60s"]);
    kubectl.ok(&["delete", "website", "hello", "--timeout=60s"]);
    kubectl.ok(&["wait", "--for=delete", "deployment/hello", "--timeout=60s"]);
    server.stop();
}

#[test]
fn after_kill_9_nothing_acknowledged_is_missing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let server = Server::up(dir.path(), &[]);
        let Some(kubectl) = server.kubectl() else { return };
        // Writers are at work when the process dies; each says what it got an answer for.
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let kubectl = kubectl.clone();
                std::thread::spawn(move || {
                    let mut done = Vec::new();
                    loop {
                        let name = format!("r{round}-w{writer}-{}", done.len());
                        if !kubectl.run(&["create", "configmap", &name]).status.success() {
                            return done;
                        }
                        done.push(name);
                    }
                })
            })
            .collect();
        trimtab_tests::eventually(
            || "the writers do not get on".to_owned(),
            || {
                let names = kubectl.ok(&["get", "configmaps", "-o", "name"]);
                (names
                    .lines()
                    .filter(|l| l.contains(&format!("/r{round}-")))
                    .count()
                    >= 6)
                    .then_some(())
            },
        );
        server.kill();
        for writer in writers {
            acknowledged.extend(writer.join().expect("a writer does not panic"));
        }
    }
    let server = Server::up(dir.path(), &[]);
    let kubectl = server.kubectl().expect("it was there before");
    let stored = kubectl.ok(&["get", "configmaps", "-o", "name"]);
    let stored: BTreeSet<&str> = stored
        .lines()
        .filter_map(|l| l.strip_prefix("configmap/"))
        .collect();
    let missing: Vec<_> = acknowledged
        .iter()
        .filter(|n| !stored.contains(n.as_str()))
        .collect();
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    assert!(acknowledged.len() >= 18, "the writers wrote: {acknowledged:?}");
}
