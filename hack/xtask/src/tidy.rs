//! Rules for every file: a doc on the first line, sizes that a reader can hold, nothing unfinished.

use std::path::Path;

use crate::workspace::Workspace;

/// Non-test lines a source file may have; the aim is 300.
const MAX_LINES: usize = 600;
/// Lines a `lib.rs` may have: it is a table of contents.
const MAX_LIB_LINES: usize = 150;

/// Files that may be longer, each with its reason.
const LONGER: &[(&str, &str)] = &[];

/// Words that must not be in the source, each with what to do instead. The words are split here so that this file
/// passes its own check.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("todo", "!("), "finish it, or leave it out"),
    (concat!("unimplemented", "!("), "finish it, or leave it out"),
    (concat!("dbg", "!("), "remove it"),
    (
        concat!("FIX", "ME"),
        "mend it, or say in plain words what is not handled",
    ),
    (concat!("/ho", "me/"), "no paths of one machine"),
];

/// A choice among what is ready. Written so that this file passes its own check.
const SELECT: &str = concat!("select", "! {");

/// Finds files that break the rules.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    for file in &workspace.files {
        let Some(extension) = file.extension().and_then(|e| e.to_str()) else {
            continue;
        };
        if !matches!(extension, "rs" | "md" | "sh" | "toml" | "py" | "yaml") {
            continue;
        }
        let text = workspace.read(file)?;
        check_text(file, &text, &mut problems);
        if extension == "rs" {
            check_rust(file, &text, &mut problems);
        }
    }
    for script in workspace
        .files_under(Path::new("hack"))
        .filter(|f| f.extension().is_none())
    {
        let text = workspace.read(script)?;
        if !text.starts_with("#!/usr/bin/env bash\nset -euo pipefail\n") {
            problems.push(format!(
                "{}: begin with `#!/usr/bin/env bash` and `set -euo pipefail`",
                script.display()
            ));
        }
    }
    Ok(problems)
}

fn check_text(file: &Path, text: &str, problems: &mut Vec<String>) {
    for (number, line) in text.lines().enumerate() {
        if line.ends_with([' ', '\t']) && file.extension().is_none_or(|e| e != "md") {
            problems.push(format!("{}:{}: trailing space", file.display(), number + 1));
        }
        for (word, mend) in FORBIDDEN {
            if line.contains(word) {
                problems.push(format!("{}:{}: `{word}`: {mend}", file.display(), number + 1));
            }
        }
    }
}

fn check_rust(file: &Path, text: &str, problems: &mut Vec<String>) {
    if !text.starts_with("//! ") {
        problems.push(format!(
            "{}:1: begin with a `//!` line that says what the file owns",
            file.display()
        ));
    }
    problems.extend(by_chance(text).into_iter().map(|line| {
        let file = file.display();
        format!("{file}:{line}: begin with `biased;`, and put first what must not wait")
    }));
    let code = non_test_lines(text);
    let is_test = file
        .iter()
        .any(|part| part == "tests" || part == "benches" || part == "tests.rs");
    let listed = LONGER.iter().any(|(name, _)| Path::new(name) == file);
    if code > MAX_LINES && !is_test && !listed {
        problems.push(format!(
            "{}: {code} lines without tests, {MAX_LINES} is the limit: split it",
            file.display()
        ));
    }
    if file.ends_with("src/lib.rs") && code > MAX_LIB_LINES && !file.starts_with("vendor") {
        problems.push(format!(
            "{}: {code} lines: a lib.rs is a table of contents",
            file.display()
        ));
    }
}

/// The lines, by their numbers, with a choice that is left to chance: what happens by chance does not happen again.
fn by_chance(text: &str) -> Vec<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let is_unordered = |pair: &[&str]| {
        let code = pair[0].trim_start();
        !code.starts_with("//") && code.ends_with(SELECT) && pair[1].trim() != "biased;"
    };
    let pairs = lines.windows(2).enumerate();
    pairs
        .filter(|(_, pair)| is_unordered(pair))
        .map(|(at, _)| at + 1)
        .collect()
}

/// The lines before an inline test module, which ends a file.
fn non_test_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|w| w[0] == "#[cfg(test)]" && w[1].starts_with("mod ") && w[1].ends_with('{'));
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_do_not_count_as_lines() {
        assert_eq!(
            non_test_lines("//! a\nfn f() {}\n#[cfg(test)]\nmod tests {\n}\n"),
            2
        );
        assert_eq!(non_test_lines("//! a\n#[cfg(test)]\nmod tests;\nfn f() {}\n"), 4);
    }

    #[test]
    fn what_selects_does_so_in_order() {
        let text = |second: &str| format!("    let a = tokio::{SELECT}\n        {second}\n");
        assert_eq!(by_chance(&text("() = b => {}")), [1]);
        assert_eq!(by_chance(&text("biased;")), [0; 0]);
    }

    #[test]
    fn a_source_file_begins_with_its_doc() {
        let mut problems = Vec::new();
        check_rust(Path::new("staging/a/src/b.rs"), "use x;\n", &mut problems);
        assert_eq!(problems.len(), 1);
    }
}
