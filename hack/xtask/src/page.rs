//! The page of the API server's completeness, which an example of its binary prints: it is linked with the server, and this
//! program is not.

use std::process::Command;

use crate::workspace::Workspace;

/// Where the page is.
const PAGE: &str = "docs/api-server.md";

/// Finds out whether the page is what the code says.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>, String> {
    let written = workspace.read(PAGE.as_ref()).unwrap_or_default();
    let same = made()? == written;
    let mend = format!("{PAGE} is not what the code says: run cargo xtask page --write");
    Ok((!same).then_some(mend).into_iter().collect())
}

/// Writes the page.
pub(crate) fn write(workspace: &Workspace) -> Result<(), String> {
    let path = workspace.root.join(PAGE);
    std::fs::write(&path, made()?).map_err(|error| format!("{}: {error}", path.display()))
}

/// The page as it ought to be.
fn made() -> Result<String, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let args = [
        "run",
        "--quiet",
        "--package",
        "trimtab-apiserver-cmd",
        "--example",
        "page",
    ];
    let output = Command::new(cargo).args(args).output();
    let output = output.map_err(|error| format!("cargo does not start: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
