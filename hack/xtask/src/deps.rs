//! Which crate may depend on which: the arrows of the house, as data.

use crate::workspace::{Floor, Member, Workspace};

/// For each staging crate, the staging crates that it may depend on. The client half and the server half share
/// apimachinery only; testing stands on both.
const STAGING: &[(&str, &[&str])] = &[
    ("trimtab-apimachinery-derive", &[]),
    ("trimtab-apimachinery-meta", &[]),
    ("trimtab-apimachinery-schema", &["trimtab-apimachinery-meta"]),
    ("trimtab-client-workqueue", &[]),
    ("trimtab-client-cache", &["trimtab-apimachinery-meta"]),
    (
        "trimtab-client-coordination",
        &["trimtab-apimachinery-meta", "trimtab-client-cache"],
    ),
    (
        "trimtab-controller-runtime",
        &[
            "trimtab-apimachinery-meta",
            "trimtab-client-cache",
            "trimtab-client-coordination",
            "trimtab-client-workqueue",
        ],
    ),
    (
        "trimtab-controller-webhook",
        &["trimtab-apimachinery-meta", "trimtab-controller-runtime"],
    ),
    (
        "trimtab-workloads-controllers",
        &[
            "trimtab-apimachinery-meta",
            "trimtab-client-cache",
            "trimtab-client-coordination",
            "trimtab-client-workqueue",
            "trimtab-controller-runtime",
        ],
    ),
    (
        "trimtab-workloads-node",
        &[
            "trimtab-apimachinery-meta",
            "trimtab-client-cache",
            "trimtab-client-coordination",
            "trimtab-client-workqueue",
        ],
    ),
    (
        "trimtab-apiserver-storage",
        &["trimtab-apimachinery-meta", "trimtab-apimachinery-schema"],
    ),
    (
        "trimtab-apiserver-kinds",
        &["trimtab-apimachinery-meta", "trimtab-apimachinery-schema"],
    ),
    ("trimtab-apiserver-auth", &["trimtab-apimachinery-meta"]),
    (
        "trimtab-apiserver-core",
        &[
            "trimtab-apimachinery-meta",
            "trimtab-apimachinery-schema",
            "trimtab-apiserver-auth",
            "trimtab-apiserver-kinds",
            "trimtab-apiserver-storage",
        ],
    ),
    (
        "trimtab-apiserver-aggregation",
        &[
            "trimtab-apimachinery-meta",
            "trimtab-apimachinery-schema",
            "trimtab-apiserver-auth",
            "trimtab-apiserver-core",
            "trimtab-apiserver-kinds",
            "trimtab-apiserver-storage",
        ],
    ),
    (
        "trimtab-apiserver-etcd",
        &["trimtab-apiserver-auth", "trimtab-apiserver-storage"],
    ),
    (
        "trimtab-testing-env",
        &[
            "trimtab-apimachinery-meta",
            "trimtab-apiserver-auth",
            "trimtab-apiserver-core",
            "trimtab-apiserver-storage",
            "trimtab-client-cache",
            "trimtab-controller-runtime",
            "trimtab-workloads-controllers",
            "trimtab-workloads-node",
        ],
    ),
    ("trimtab-testing-perturb", &["trimtab-testing-env"]),
];

/// Binaries that another binary or the tests may link, since they run the same thing in-process.
const LINKED_BINARIES: &[(&str, &str)] = &[
    ("trimtab-cmd", "sample-controller"),
    ("trimtab-tests", "sample-controller"),
];

/// Finds dependencies that the house forbids.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    for member in &workspace.members {
        if member.floor == Floor::Staging && !STAGING.iter().any(|(name, _)| *name == member.name) {
            problems.push(format!(
                "{}: add {} to the table STAGING in hack/xtask/src/deps.rs, with a reason in designs/",
                member.dir.display(),
                member.name
            ));
            continue;
        }
        for dependency in &member.dependencies {
            let Some(target) = workspace.member(&dependency.name) else {
                continue;
            };
            if let Some(why) = forbidden(member, target, dependency.kind == "dev") {
                problems.push(format!(
                    "{}/Cargo.toml: {} depends on {}: {why}",
                    member.dir.display(),
                    member.name,
                    target.name
                ));
            }
        }
    }
    Ok(problems)
}

fn forbidden(from: &Member, to: &Member, dev: bool) -> Option<&'static str> {
    match (from.floor, to.floor) {
        (Floor::Staging, Floor::Staging) if dev => None,
        (Floor::Staging, Floor::Staging) => {
            let allowed = STAGING
                .iter()
                .find(|(name, _)| *name == from.name)
                .map_or(&[][..], |(_, to)| to);
            (!allowed.contains(&to.name.as_str()))
                .then_some("the arrows in hack/xtask/src/deps.rs do not go that way")
        }
        (Floor::Staging, _) => Some("staging depends on staging and third parties only"),
        (Floor::Vendor, Floor::Staging) if to.name.starts_with(&format!("{}-", from.name)) => None,
        (Floor::Vendor, Floor::Staging) => Some("a facade opens onto the staging crates that carry its name"),
        (Floor::Vendor, Floor::Vendor) if from.name == "trimtab" => None,
        (Floor::Vendor, _) => Some("facades depend on staging only (trimtab: on facades)"),
        (Floor::Cmd | Floor::Tests, Floor::Vendor) => None,
        (Floor::Cmd | Floor::Tests, Floor::Staging) => Some("import the facade in vendor/ instead"),
        (Floor::Cmd | Floor::Tests, Floor::Cmd)
            if LINKED_BINARIES.contains(&(from.name.as_str(), to.name.as_str())) =>
        {
            None
        }
        (Floor::Cmd | Floor::Tests, _) => Some("binaries and tests import facades and third parties only"),
        (Floor::Hack, _) => Some("hack/ stands apart from what it checks"),
    }
}
