//! `trimtab etcd backup` and `restore` on real etcd: restored elsewhere, and compared.

use std::fs;

use trimtab_tests::eventually;

use crate::operated::{Operated, Writer, fill, watch_from};
use crate::process::versions;

/// How many keys there are at least, and at which revision, of what a command printed about its snapshot.
fn held(said: &str) -> (u64, u64, String) {
    let line = said
        .lines()
        .find(|line| line.contains("keys at revision"))
        .expect("an inventory");
    let numbers: Vec<u64> = line
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect();
    let hash = line.split("hash ").nth(1).expect("a hash").to_owned();
    (numbers[0], numbers[1], hash)
}

#[test]
fn a_backup_that_was_made_under_a_writer_is_restored_elsewhere_and_holds_the_same() {
    for version in versions() {
        let old = Operated::start(version, 1);
        fill(old.config(&["http"]), 40);
        let writer = Writer::start(old.config(&["http"]));
        let saved = old.ok(&[
            "etcd",
            "backup",
            "x.db",
            "--etcd-servers",
            &old.urls("http").join(","),
        ]);
        let (keys, revision, hash) = held(&saved);
        assert!(keys >= 40, "{saved}");
        writer.check(old.config(&["http"]));
        let checked = old.ok(&["etcd", "restore", "x.db", "--check"]);
        assert_eq!(held(&checked), (keys, revision, hash.clone()), "{version}");

        let new = Operated::described(version, 3);
        let file = old.path("x.db").display().to_string();
        let members: Vec<String> = (0..3)
            .map(|n| {
                format!(
                    "--member=name=m{n},peer={},data-dir={}",
                    new.peer(n),
                    new.path(&format!("m{n}")).display()
                )
            })
            .collect();
        // 3.6's own, where it was built, else that of the version.
        let beside = new.etcd.with_file_name("etcdutl");
        let program = if beside.exists() {
            beside
        } else {
            new.etcd.with_file_name("etcdctl")
        };
        let with = format!("--restore-with={}", program.display());
        let mut args = vec!["etcd", "restore", &file, &with];
        args.extend(members.iter().map(String::as_str));
        let bumps = version != "3.4";
        if !bumps {
            let refused = new.fails(&args);
            assert!(refused.contains("cannot raise revisions"), "{refused}");
            args.push("--bump-revision=0");
        }
        let said = new.ok(&args);
        assert_eq!(said.matches(&format!("hash {hash}")).count(), 4, "{said}");
        let again = new.ok(&args);
        assert_eq!(again, said, "what is there and the same is left");
        for n in 0..3 {
            new.spawn(n);
        }
        let servers = new.urls("http").join(",");
        let status = || {
            new.trimtab(&["etcd", "status", "--etcd-servers", &servers])
                .status
                .success()
        };
        eventually(
            || "the restored cluster is not well".to_owned(),
            || status().then_some(()),
        );
        let later = new.ok(&["etcd", "backup", "y.db", "--etcd-servers", &servers]);
        let bump = if bumps { 1_000_000_000 } else { 0 };
        assert_eq!(held(&later), (keys, revision + bump, hash), "{version}");
        let watch = watch_from(new.config(&["http"]), revision);
        assert_eq!(
            watch.is_some(),
            bumps,
            "{version}: a watch from before is told so, or goes on: {watch:?}"
        );
    }
}

#[test]
fn a_snapshot_that_is_not_whole_is_refused_and_leaves_the_old_file() {
    let Some(version) = crate::process::usual() else {
        return;
    };
    let cluster = Operated::start(version, 1);
    fill(cluster.config(&["http"]), 20);
    cluster.ok(&[
        "etcd",
        "backup",
        "x.db",
        "--etcd-servers",
        &cluster.urls("http").join(","),
    ]);
    let whole = fs::read(cluster.path("x.db")).expect("reads");
    let restore = |name: &str| {
        cluster.fails(&[
            "etcd",
            "restore",
            name,
            "--member=name=a,peer=http://127.0.0.1:1,data-dir=new",
        ])
    };
    let mut damaged = whole.clone();
    damaged[9000] ^= 1;
    for (bytes, why) in [
        (&whole[..whole.len() - 512], "its SHA-256 is not the one"),
        (&whole[..whole.len() - 32], "its SHA-256 is not the one"),
        (&damaged[..], "its SHA-256 is not the one"),
        (&b"nothing"[..], "its SHA-256 is not the one"),
    ] {
        fs::write(cluster.path("bad.db"), bytes).expect("writes");
        let refused = restore("bad.db");
        assert!(refused.contains("bad.db: ") && refused.contains(why), "{refused}");
    }
    assert!(!cluster.path("new").exists());
    let failed = cluster.fails(&["etcd", "backup", "x.db", "--etcd-servers=http://127.0.0.1:1"]);
    assert!(failed.contains("etcd at http://127.0.0.1:1"), "{failed}");
    assert_eq!(fs::read(cluster.path("x.db")).expect("reads"), whole);
}
