//! The flags of programs with a manager.

use clap::{CommandFactory, Parser};

use crate::process::Options;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    process: Options,
}

fn parse(flags: &str) -> Result<Options, String> {
    let words = std::iter::once("test").chain(flags.split_whitespace());
    Cli::try_parse_from(words)
        .map(|cli| cli.process)
        .map_err(|error| error.to_string())
}

#[test]
fn flags_that_need_others_say_so() {
    Cli::command().debug_assert();
    let refusals = [
        ("--tls-cert-file c", "--bind-address"),
        ("--bind-address :1 --tls-cert-file c", "--tls-private-key-file"),
        ("--authorize-requests", "--bind-address"),
        ("--leader-elect-lease-duration 20", "--leader-elect"),
        ("--leader-elect-resource-namespace n", "--leader-elect"),
        (
            "--leader-elect --leader-elect-retry-period x",
            "invalid value 'x'",
        ),
    ];
    for (flags, missing) in refusals {
        let refused = parse(flags).expect_err(flags);
        assert!(refused.contains(missing), "{flags}: {refused}");
    }
    let plain = parse("").expect("no flag is needed");
    assert!(!plain.leader_elect && plain.bind_address.is_none() && !plain.print_role);
    let elected = parse("--leader-elect --leader-elect-lease-duration 20").expect("complete");
    assert_eq!(
        (
            elected.leader_elect_lease_duration,
            elected.leader_elect_renew_deadline
        ),
        (20, 10)
    );
}

const KUBECONFIG: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "u", "user": {}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}"#;

#[tokio::test]
async fn a_manager_is_as_the_flags_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, KUBECONFIG).expect("written");
    let flags = format!(
        "--kubeconfig {} --leader-elect --bind-address 127.0.0.1:0 --authorize-requests",
        file.display()
    );
    let manager = parse(&flags)
        .expect("good flags")
        .manager("gardener")
        .await
        .expect("a manager");
    assert_eq!(manager.field_manager(), "gardener");
    let rules = manager.rules();
    assert!(
        rules.allow("update", "coordination.k8s.io", "leases"),
        "it elects"
    );
    assert!(
        rules.allow("create", "authentication.k8s.io", "tokenreviews"),
        "it asks who asks"
    );

    let flags = format!("{flags} --tls-cert-file /nowhere/a --tls-private-key-file /nowhere/b");
    let refused = parse(&flags)
        .expect("good flags")
        .manager("gardener")
        .await
        .expect_err("no file");
    assert!(refused.to_string().contains("/nowhere/a"), "{refused}");
    let refused = parse("--kubeconfig /nowhere")
        .expect("good flags")
        .manager("gardener")
        .await;
    assert!(
        refused
            .expect_err("no file")
            .to_string()
            .contains("--kubeconfig /nowhere")
    );
}
