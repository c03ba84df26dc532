//! `trimtab etcd switch-transport` on real members: under a writer, killed at each step, failing, by units.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use trimtab_tests::binary;

use crate::operated::{Operated, Writer, fill};
use crate::process::{usual, versions};

/// Kills the command as soon as each step has begun, and has the last one end. Steps that are done before they can be
/// killed are passed over.
fn switch_killed_at_each_step(cluster: &Operated, to: &str, more: &[&str]) {
    let steps = cluster.steps(to, more);
    let mut wanted = 1;
    while wanted <= steps {
        let mut process = cluster.switching(to, more);
        let mut begun = 0;
        while begun < wanted {
            let line = process.wait_for_line(&format!("/{steps} "));
            let number = line.split('/').next().and_then(|number| number.parse().ok());
            begun = number.unwrap_or(begun);
        }
        process.signal("KILL");
        process.wait();
        wanted = begun + 1;
    }
    let last = cluster.ok(&Operated::switch(to, more));
    assert!(last.contains("done: "), "{last}");
    cluster.check_scheme(to);
}

#[test]
fn three_members_change_and_change_back_under_a_writer_and_the_command_killed_at_each_step() {
    let Some(version) = usual() else { return };
    let cluster = Operated::start(version, 3);
    // Certificates come first, so that the writer has them too.
    cluster.ok(&Operated::switch("https", &["--hold"]));
    let writer = Writer::start(cluster.config(&["http", "https"]));
    cluster.fails(&Operated::switch("https", &["--roll-back"]));
    cluster.check_scheme("http");
    switch_killed_at_each_step(&cluster, "https", &[]);
    switch_killed_at_each_step(&cluster, "http", &["--strategy=snapshot"]);
    writer.check(cluster.config(&["http"]));
    for n in 0..3 {
        assert!(
            cluster.path(&format!("m{n}/member/snap/db")).exists(),
            "the old one stays"
        );
    }
    let again = cluster.ok(&Operated::switch("http", &[]));
    assert!(again.contains("already"), "{again}");
}

#[test]
fn each_version_changes_both_ways_by_both_strategies() {
    for version in versions() {
        for strategies in [["rolling", "snapshot"], ["snapshot", "rolling"]] {
            let cluster = Operated::start(version, 1);
            let revision = fill(cluster.config(&["http"]), 30);
            for (to, strategy) in ["https", "http"].into_iter().zip(strategies) {
                let strategy = format!("--strategy={strategy}");
                let said = cluster.ok(&Operated::switch(to, &[&strategy]));
                assert!(said.contains("done: "), "{version}: {said}");
                cluster.check_scheme(to);
                let servers = cluster.urls(to).join(",");
                let saved = [
                    "etcd",
                    "backup",
                    "x.db",
                    "--certificates=certs",
                    "--etcd-servers",
                    &servers,
                ];
                let saved = cluster.ok(&saved);
                let wanted = format!("30 keys at revision {revision}, 3 of them expiring");
                assert!(saved.contains(&wanted), "{version}: {saved}");
            }
        }
    }
}

#[test]
fn what_fails_is_taken_back_and_a_plan_touches_nothing() {
    let Some(version) = usual() else { return };
    let cluster = Operated::start(version, 3);
    let found: Vec<_> = (0..3).map(|n| cluster.text(&format!("m{n}.env"))).collect();
    let plan = cluster.ok(&Operated::switch("https", &["--plan"]));
    assert!(
        plan.contains("whichever answers") && !cluster.path("certs").exists(),
        "{plan}"
    );

    let held = cluster.ok(&Operated::switch("https", &["--hold"]));
    assert!(held.contains("waiting: move clients to https"), "{held}");
    let refused = cluster.fails(&Operated::switch("http", &[]));
    assert!(refused.contains("unfinished change to https"), "{refused}");
    for key in ["ca.key", "m0.key", "client.key"] {
        let mode = fs::metadata(cluster.path(&format!("certs/{key}")))
            .expect("is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let back = cluster.fails(&Operated::switch("https", &["--roll-back"]));
    assert!(back.contains("because it was asked to be taken back"), "{back}");
    // One that cannot be used, so that the member does not start with it.
    fs::write(cluster.path("certs/m1.key"), "nonsense").expect("writes");
    let failed = cluster.fails(&Operated::switch("https", &["--patience=4"]));
    assert!(
        failed.contains("everything is as before, because m1 is not well at https://"),
        "{failed}"
    );
    cluster.check_scheme("http");
    for (n, text) in found.iter().enumerate() {
        assert_eq!(&cluster.text(&format!("m{n}.env")), text, "m{n}");
    }
    let failed = cluster.fails(&Operated::switch(
        "https",
        &["--strategy=snapshot", "--patience=4"],
    ));
    assert!(
        failed.contains("everything is as before, because m1 is not well"),
        "{failed}"
    );
    cluster.check_scheme("http");
}

#[test]
fn what_cannot_be_changed_is_refused_before_anything_is_touched() {
    let Some(version) = usual() else { return };
    let cluster = Operated::start(version, 1);
    let env = cluster.text("m0.env");
    for (from, to, why) in [
        (
            "ETCD_NAME=m0",
            "ETCD_NAME=m1",
            "ETCD_NAME is m1, and the member is described as m0",
        ),
        ("ETCD_LISTEN_PEER_URLS=", "# ", "ETCD_LISTEN_PEER_URLS is not set"),
        ("CLIENT_URLS=http:", "CLIENT_URLS=unix:", "neither http nor https"),
        ("DATA_DIR=\"/", "DATA_DIR=\"", "an absolute path"),
    ] {
        fs::write(cluster.path("m0.env"), env.replace(from, to)).expect("writes");
        let refused = cluster.fails(&Operated::switch("https", &[]));
        assert!(refused.contains(why), "{refused}");
    }
    fs::write(cluster.path("m0.env"), &env).expect("writes");
    let member = format!(
        "--member=name=other,environment=m0.env,command={},pid-file=p,log-file=l",
        cluster.etcd.display()
    );
    let refused = cluster.fails(&[
        "etcd",
        "switch-transport",
        "--to=https",
        "--certificates=certs",
        &member,
    ]);
    assert!(refused.contains("described as other"), "{refused}");
    let refused = cluster.fails(&["etcd", "switch-transport", "--to=https", "--cluster=cluster.yaml"]);
    assert!(refused.contains("https needs certificates"), "{refused}");
}

#[test]
fn a_unit_is_restarted_by_systemctl() {
    let Some(version) = usual() else { return };
    let cluster = Operated::start(version, 1);
    // What systemd would do, with the member's environment file.
    let systemctl = "#!/bin/sh\ncd \"${0%/*}\"/..\necho \"$@\" >> asked\ncase $1 in\n\
        stop) pid=$(cat m0.pid); kill $pid; while grep -q ETCD_NAME /proc/$pid/environ 2>/dev/null; do sleep 0.05; done ;;\n\
        start) set -a; . ./m0.env; setsid sh -c 'echo $$ > m0.pid; exec ETCD >> m0.log 2>&1' </dev/null >/dev/null 2>&1 & ;;\nesac\n";
    fs::create_dir(cluster.path("bin")).expect("makes");
    let program = cluster.path("bin/systemctl");
    fs::write(
        &program,
        systemctl.replace("exec ETCD", &format!("exec {}", cluster.etcd.display())),
    )
    .expect("writes");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("changes");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(binary("trimtab"))
        .args([
            "etcd",
            "switch-transport",
            "--to=https",
            "--certificates=certs",
            "--make-certificates",
        ])
        .arg("--member=name=m0,environment=m0.env,unit=etcd.service,names=etcd.example.com+10.0.0.7")
        .env("PATH", format!("{}:{path}", cluster.path("bin").display()))
        .current_dir(cluster.dir.path())
        .output()
        .expect("trimtab starts");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    cluster.check_scheme("https");
    let asked = cluster.text("asked");
    assert_eq!(
        asked,
        "stop etcd.service\nstart --no-block etcd.service\n".repeat(2)
    );
}
