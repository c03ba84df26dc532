//! The drill: move a module from one staging crate to another, in a copy of the tree, and see what had to change.
//!
//! The promise is that such a move changes at most the path on the right of a facade's `pub use` line: no public
//! name, nothing in `cmd/` or `tests/`. The drill makes the move, changes that one path, and builds the facades, the
//! binaries and the tests, untouched.

use std::path::Path;
use std::process::Command;

use crate::workspace::{Floor, Workspace, run};

/// The move that is drilled: a module that other staging crates do not name.
const MODULE: &str = "retry";
const FROM: &str = "trimtab-client-coordination";
const TO: &str = "trimtab-client-cache";
const FACADE: &str = "vendor/trimtab-client/src/lib.rs";

/// Makes the move and builds what must not notice.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>, String> {
    let copy = workspace.root.join("target/drill");
    if copy.exists() {
        std::fs::remove_dir_all(&copy).map_err(|e| format!("{}: {e}", copy.display()))?;
    }
    for file in &workspace.files {
        let to = copy.join(file);
        let dir = to.parent().unwrap_or(&copy);
        std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        std::fs::copy(workspace.root.join(file), &to).map_err(|e| format!("{}: {e}", to.display()))?;
    }
    let (from, to) = (format!("staging/{FROM}/src"), format!("staging/{TO}/src"));
    rename(
        &copy.join(&from).join(format!("{MODULE}.rs")),
        &copy.join(&to).join(format!("{MODULE}.rs")),
    )?;
    let lines = |text: &str| {
        text.lines()
            .filter(|l| !names_module(l))
            .collect::<Vec<_>>()
            .join("\n")
            + "\n"
    };
    edit(&copy.join(&from).join("lib.rs"), &lines)?;
    edit(&copy.join(&to).join("lib.rs"), &|text| {
        format!("{text}\n/// Moved by the drill.\npub mod {MODULE};\n")
    })?;
    let old = format!("{}::{MODULE}", FROM.replace('-', "_"));
    let new = format!("{}::{MODULE}", TO.replace('-', "_"));
    edit(&copy.join(FACADE), &|text| text.replace(&old, &new))?;

    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(&copy)
        .args(["check", "--locked", "--all-targets"]);
    cargo.arg("--target-dir").arg(workspace.root.join("target"));
    for floor in [Floor::Vendor, Floor::Cmd, Floor::Tests] {
        for member in workspace.floor(floor) {
            cargo.args(["-p", &member.name]);
        }
    }
    run(&mut cargo)?;
    Ok(Vec::new())
}

fn names_module(line: &str) -> bool {
    let line = line.trim();
    line == format!("pub mod {MODULE};")
        || (line.starts_with("pub use ") && line.contains(&format!("{MODULE}::")))
}

fn rename(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::rename(from, to).map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))
}

fn edit(file: &Path, change: &dyn Fn(&str) -> String) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let changed = change(&text);
    if changed == text {
        return Err(format!(
            "{}: the drill expected to change this file; mend hack/xtask/src/drill.rs",
            file.display()
        ));
    }
    std::fs::write(file, changed).map_err(|e| format!("{}: {e}", file.display()))
}
