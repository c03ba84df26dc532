//! The house's own checks and chores: `cargo xtask verify [CHECK…]`, called by the scripts in `hack/`.
//!
//! Each check prints what is wrong, where, and what to run or change; the exit status is 1 when one failed.
//! The quick checks read files only. The slow ones build: `page`, `publish` and `move`.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line's output is its purpose

mod deps;
mod drill;
mod facades;
mod manifests;
mod page;
mod publish;
mod tidy;
mod workspace;

use std::process::ExitCode;

use workspace::Workspace;

/// One check: its name, whether it is quick, and the function that finds what is wrong.
type Check = (&'static str, bool, fn(&Workspace) -> Result<Vec<String>, String>);

const CHECKS: &[Check] = &[
    ("tidy", true, tidy::check),
    ("deps", true, deps::check),
    ("facades", true, facades::check),
    ("manifests", true, manifests::check),
    ("page", false, page::check),
    ("publish", false, publish::check),
    ("move", false, drill::check),
];

const USAGE: &str = "usage: cargo xtask verify [--quick] [tidy|deps|facades|manifests|page|publish|move]…
       cargo xtask page --write";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["page", rest @ ..] = words.as_slice() {
        return write_page(rest);
    }
    let Some((&"verify", rest)) = words.split_first() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let quick_only = rest.contains(&"--quick");
    let names: Vec<&str> = rest.iter().copied().filter(|w| *w != "--quick").collect();
    if let Some(unknown) = names.iter().find(|n| !CHECKS.iter().any(|(name, ..)| name == *n)) {
        eprintln!("xtask: no check is called {unknown:?}\n{USAGE}");
        return ExitCode::from(2);
    }
    let workspace = match Workspace::load() {
        Ok(workspace) => workspace,
        Err(error) => {
            eprintln!("xtask: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = false;
    for (name, quick, check) in CHECKS {
        if !(names.is_empty() || names.contains(name)) || (quick_only && !quick) {
            continue;
        }
        let problems = check(&workspace).unwrap_or_else(|error| vec![error]);
        if problems.is_empty() {
            println!("verify {name}: ok");
            continue;
        }
        failed = true;
        for problem in &problems {
            eprintln!("verify {name}: {problem}");
        }
        eprintln!(
            "verify {name}: {} to mend; run hack/verify-{name} to see them again",
            problems.len()
        );
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Writes the page that says how complete the API server is.
fn write_page(rest: &[&str]) -> ExitCode {
    let done = match rest {
        ["--write"] => Workspace::load().and_then(|workspace| page::write(&workspace)),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
