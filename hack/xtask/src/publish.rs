//! Packages every released crate and builds a consumer outside the workspace against the packages.
//!
//! What the consumer compiles is what crates.io would hand out, so its build is the verification; cargo's own
//! per-package verification is skipped.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::workspace::{Floor, Member, Workspace, run};

/// Packages, dry-run publishes, and builds the consumer.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>, String> {
    let target = workspace.root.join("target/consumer");
    let crates = target.join("crates");
    for stale in [&crates, &target.join("src")] {
        match std::fs::remove_dir_all(stale) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("{}: {e}", stale.display()));
            }
            _ => {}
        }
    }
    make_dir(&crates)?;
    make_dir(&target.join("src"))?;
    let publish = [
        "publish",
        "--workspace",
        "--dry-run",
        "--no-verify",
        "--allow-dirty",
        "--locked",
    ];
    run(Command::new("cargo")
        .current_dir(&workspace.root)
        .args(publish)
        .arg("--target-dir")
        .arg(&target))?;

    let released: Vec<&Member> = workspace
        .floor(Floor::Staging)
        .chain(workspace.floor(Floor::Vendor))
        .collect();
    for member in &released {
        let archive = format!("{}-{}.crate", member.name, member.version);
        let packaged = target.join("package").join(&archive);
        let packaged = if packaged.exists() {
            packaged
        } else {
            target.join("package/tmp-crate").join(&archive)
        };
        run(Command::new("tar")
            .arg("-xzf")
            .arg(&packaged)
            .arg("-C")
            .arg(&crates))?;
    }
    write(
        &target.join("Cargo.toml"),
        &consumer_manifest(workspace, &released),
    )?;
    write(&target.join("src/lib.rs"), &consumer_source(workspace))?;
    let lock = workspace.read(Path::new("Cargo.lock"))?;
    write(&target.join("Cargo.lock"), &lock)?;
    run(Command::new("cargo")
        .args(["check", "--manifest-path"])
        .arg(target.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(workspace.root.join("target")))?;
    Ok(Vec::new())
}

fn consumer_manifest(workspace: &Workspace, released: &[&Member]) -> String {
    let mut text = "# Made by `cargo xtask verify publish`.\n[workspace]\n\n[package]\nname = \"consumer\"\n\
                    version = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n"
        .to_owned();
    for facade in workspace.floor(Floor::Vendor) {
        let features: Vec<String> = facade.raw["features"]
            .as_object()
            .map(|f| {
                f.keys()
                    .filter(|k| *k != "default")
                    .map(|k| format!("{k:?}"))
                    .collect()
            })
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "{} = {{ version = \"={}\", features = [{}] }}",
            facade.name,
            facade.version,
            features.join(", ")
        );
    }
    text.push_str("\n[patch.crates-io]\n");
    for member in released {
        let _ = writeln!(
            text,
            "{} = {{ path = \"crates/{}-{}\" }}",
            member.name, member.name, member.version
        );
    }
    text
}

fn consumer_source(workspace: &Workspace) -> String {
    let mut text =
        "//! Made by `cargo xtask verify publish`: every facade resolves and compiles.\n".to_owned();
    for facade in workspace.floor(Floor::Vendor) {
        let _ = writeln!(text, "pub use {};", facade.name.replace('-', "_"));
    }
    text
}

fn make_dir(dir: &Path) -> Result<(), String> {
    std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))
}
