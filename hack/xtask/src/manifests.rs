//! What every manifest must say, so that the workspace can be published as one and built from crates.io.

use crate::workspace::{Floor, Member, Workspace};

/// Finds manifests that would break publishing, or read badly on crates.io.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    let versions: std::collections::BTreeSet<&str> =
        workspace.members.iter().map(|m| m.version.as_str()).collect();
    if versions.len() != 1 {
        problems.push(format!(
            "all members share one version; found {versions:?}: use version.workspace = true"
        ));
    }
    for member in &workspace.members {
        check_member(workspace, member, &mut problems)?;
    }
    Ok(problems)
}

fn check_member(workspace: &Workspace, member: &Member, problems: &mut Vec<String>) -> Result<(), String> {
    let at = format!("{}/Cargo.toml", member.dir.display());
    let released = matches!(member.floor, Floor::Staging | Floor::Vendor);
    if member.publishable != released {
        let mend = if released {
            "remove `publish = false`"
        } else {
            "add `publish = false`"
        };
        problems.push(format!(
            "{at}: {mend}: staging and vendor are released, nothing else is"
        ));
    }
    if !workspace
        .read(&member.dir.join("Cargo.toml"))?
        .contains("[lints]\nworkspace = true")
    {
        problems.push(format!("{at}: add `[lints]` with `workspace = true`"));
    }
    for dependency in &member.dependencies {
        let Some(target) = workspace.member(&dependency.name) else {
            continue;
        };
        let pin = format!("={}", target.version);
        match dependency.kind.as_str() {
            "dev" if dependency.requirement != "*" => problems.push(format!(
                "{at}: dev-dependency {} must be path-only ({{ path = \"…\" }}): a version would make a publish cycle",
                target.name
            )),
            "normal" if released && dependency.requirement != pin => problems.push(format!(
                "{at}: dependency {} must be pinned to {pin}: write `{}.workspace = true`",
                target.name, target.name
            )),
            _ => {}
        }
    }
    if !released {
        return Ok(());
    }
    let dir_name = member
        .dir
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    if dir_name != member.name {
        problems.push(format!(
            "{at}: the folder is called {dir_name}, the package {}",
            member.name
        ));
    }
    for field in ["description", "license", "repository", "readme", "rust_version"] {
        if member.raw[field].as_str().is_none_or(str::is_empty) {
            problems.push(format!("{at}: {field} is missing"));
        }
    }
    for file in ["README.md", "LICENSE"] {
        if !workspace.files.contains(&member.dir.join(file)) {
            problems.push(format!(
                "{}: {file} is missing: it is part of the published package",
                member.dir.display()
            ));
        }
    }
    if member.floor == Floor::Staging {
        let facade = facade_of(workspace, &member.name);
        let readme = workspace.read(&member.dir.join("README.md")).unwrap_or_default();
        let doc = workspace.read(&member.dir.join("src/lib.rs")).unwrap_or_default();
        for (file, text) in [("README.md", readme), ("src/lib.rs", doc)] {
            if !text.contains(&format!("`{facade}`")) {
                problems.push(format!(
                    "{}/{file}: say that users depend on `{facade}` instead",
                    member.dir.display()
                ));
            }
        }
    }
    Ok(())
}

fn facade_of<'a>(workspace: &'a Workspace, staging: &str) -> &'a str {
    workspace
        .floor(Floor::Vendor)
        .map(|f| f.name.as_str())
        .filter(|f| staging.starts_with(&format!("{f}-")))
        .max_by_key(|f| f.len())
        .unwrap_or("trimtab")
}
