//! Facades hold docs and explicit re-exports only, so that a diff of `vendor/` shows every change of surface.

use std::path::Path;

use crate::workspace::{Floor, Workspace};

/// A facade's source longer than this wants to be split into modules' worth of crates.
const MAX_LINES: usize = 200;

/// Finds what does not belong in a facade.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    for member in workspace.floor(Floor::Vendor) {
        let sources = workspace
            .files_under(&member.dir)
            .filter(|f| f.extension().is_some_and(|e| e == "rs"));
        for file in sources {
            if file != member.dir.join("src/lib.rs") {
                problems.push(format!("{}: a facade is its src/lib.rs alone", file.display()));
            }
            check_source(file, &workspace.read(file)?, &mut problems);
        }
    }
    Ok(problems)
}

fn check_source(file: &Path, text: &str, problems: &mut Vec<String>) {
    let mut say = |line: usize, what: &str| problems.push(format!("{}:{line}: {what}", file.display()));
    if text.lines().count() > MAX_LINES {
        say(MAX_LINES, "a facade is a short table of contents");
    }
    let code = statements(text);
    for (line, statement) in code {
        let words = statement.trim();
        if words.starts_with("pub use ") {
            let path = words.trim_start_matches("pub use ");
            if path.contains('*') {
                say(line, "name what is re-exported: no globs");
            }
            if !path.contains("::") {
                say(
                    line,
                    "re-export modules or items, not a whole crate: its inside must be free to change",
                );
            }
        } else if words.starts_with("pub mod ") && words.ends_with('{') || words == "}" {
            // a named module of re-exports
        } else {
            say(
                line,
                &format!("only docs and `pub use` belong here, not `{words}`"),
            );
        }
    }
}

/// Splits source into statements: comments, attributes and blank lines are left out, `use` trees are joined.
fn statements(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default().trim();
        if line.is_empty() || (open.is_none() && line.starts_with("#[")) || line.starts_with("#![") {
            continue;
        }
        let (start, mut statement) = open.take().unwrap_or((number + 1, String::new()));
        statement.push_str(line);
        let complete = statement.ends_with(';')
            || statement == "}"
            || (statement.starts_with("pub mod") && statement.ends_with('{'));
        if complete {
            found.push((start, statement));
        } else {
            open = Some((start, statement));
        }
    }
    found.extend(open);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> usize {
        let mut found = Vec::new();
        check_source(Path::new("lib.rs"), text, &mut found);
        found.len()
    }

    #[test]
    fn only_explicit_re_exports_pass() {
        let cases = [
            ("//! Doc.\n#[doc(inline)]\npub use a::b;\n", 0),
            (
                "pub mod x {\n    //! Doc.\n    pub use a::{\n        B,\n        c,\n    };\n}\n",
                0,
            ),
            ("#[cfg(feature = \"x\")]\npub use a::b as c;\n", 0),
            ("pub use a::*;\n", 1),
            ("pub use a;\n", 1),
            ("pub fn f() {}\n", 1),
            ("pub struct S;\n", 1),
        ];
        for (text, expected) in cases {
            assert_eq!(problems(text), expected, "{text}");
        }
    }
}
