//! The workspace as the checks see it: members, their folders and dependencies, and the files that git tracks.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Where in the house a member lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Floor {
    Staging,
    Vendor,
    Cmd,
    Tests,
    Hack,
}

/// One dependency on another member, or on a third party.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `normal`, `dev` or `build`.
    pub(crate) kind: String,
    /// The version requirement, as `=0.1.0`; `*` when none is given.
    pub(crate) requirement: String,
}

/// One member of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) floor: Floor,
    /// The member's folder, relative to the root.
    pub(crate) dir: PathBuf,
    pub(crate) publishable: bool,
    pub(crate) dependencies: Vec<Dependency>,
    /// The package table as cargo reports it.
    pub(crate) raw: Value,
}

/// The whole workspace.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) members: Vec<Member>,
    /// Files that git tracks, relative to the root.
    pub(crate) files: Vec<PathBuf>,
}

impl Workspace {
    /// Reads the workspace around the current directory.
    pub(crate) fn load() -> Result<Self, String> {
        let text =
            run(Command::new("cargo").args(["metadata", "--no-deps", "--format-version", "1", "--locked"]))?;
        let metadata: Value = serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
        let root = PathBuf::from(metadata["workspace_root"].as_str().unwrap_or("."));
        let mut members = Vec::new();
        for package in metadata["packages"].as_array().into_iter().flatten() {
            members.push(member(&root, package)?);
        }
        let listing = run(Command::new("git").current_dir(&root).args(["ls-files", "-z"]))?;
        let files = listing
            .split('\0')
            .filter(|f| !f.is_empty() && root.join(f).exists())
            .map(PathBuf::from);
        Ok(Self {
            files: files.collect(),
            root,
            members,
        })
    }

    /// The member of that name.
    pub(crate) fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|m| m.name == name)
    }

    /// The members of one floor.
    pub(crate) fn floor(&self, floor: Floor) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |m| m.floor == floor)
    }

    /// The text of a tracked file.
    pub(crate) fn read(&self, file: &Path) -> Result<String, String> {
        std::fs::read_to_string(self.root.join(file)).map_err(|e| format!("{}: {e}", file.display()))
    }

    /// The tracked files below a folder.
    pub(crate) fn files_under<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = &'a Path> {
        self.files
            .iter()
            .map(PathBuf::as_path)
            .filter(move |f| f.starts_with(dir))
    }
}

fn member(root: &Path, package: &Value) -> Result<Member, String> {
    let name = package["name"].as_str().unwrap_or_default().to_owned();
    let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
    let dir = manifest
        .parent()
        .and_then(|d| d.strip_prefix(root).ok())
        .unwrap_or(Path::new(""))
        .to_owned();
    let floor = match dir.iter().next().and_then(|d| d.to_str()) {
        Some("staging") => Floor::Staging,
        Some("vendor") => Floor::Vendor,
        Some("cmd") => Floor::Cmd,
        Some("tests") => Floor::Tests,
        Some("hack") => Floor::Hack,
        _ => {
            return Err(format!(
                "{}: members live in staging, vendor, cmd, tests or hack",
                dir.display()
            ));
        }
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let dependencies = package["dependencies"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|d| Dependency {
            name: text(&d["name"]),
            kind: d["kind"].as_str().unwrap_or("normal").to_owned(),
            requirement: text(&d["req"]),
        });
    Ok(Member {
        version: text(&package["version"]),
        publishable: package["publish"]
            .as_array()
            .is_none_or(|registries| !registries.is_empty()),
        dependencies: dependencies.collect(),
        raw: package.clone(),
        name,
        floor,
        dir,
    })
}

/// Runs a command and returns what it printed; its error output is part of the error.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.output().map_err(|e| format!("{shown}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = stderr.lines().rev().take(40).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    Err(format!("{shown} failed:\n{}", tail.join("\n")))
}
