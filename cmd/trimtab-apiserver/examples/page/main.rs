//! Prints the page `docs/api-server.md`: what of the API server is complete, partial and absent, made of the tables that the
//! server itself uses and of what `by-hand.txt` says. `cargo xtask page --write` writes it.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line's output is its purpose

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args as _, Command};
use trimtab_apiserver::admission::Plugins;
use trimtab_apiserver::aggregation::AggregatorOptions;
use trimtab_apiserver::kinds::builtin;
use trimtab_apiserver::kinds::resource::{ALL_VERBS, Resource};
use trimtab_apiserver::options::ServerOptions;

const BY_HAND: &str = include_str!("by-hand.txt");

const HEAD: &str = "\
# The API server: what is complete, partial and absent

Measured by kube-apiserver 1.36 with its defaults. *Complete* is what answers as it does, as far as thousands of requests to
both have shown; known differences in what is answered are in [tests/CONFORMANCE.md](../tests/CONFORMANCE.md). *Partial* and
*absent* say why. This page is made by `cargo xtask page --write` of the tables that the server itself uses, and of
`cmd/trimtab-apiserver/examples/page/by-hand.txt`; `hack/verify-page` says whether it is up to date.
";

/// The lines of the file that begin with a word: their parts.
fn lines(word: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let prefix = format!("{word} ");
    BY_HAND.lines().filter_map(move |line| {
        let rest = line.strip_prefix(&prefix)?;
        Some(rest.split('|').map(str::trim).collect())
    })
}

/// A table of Markdown.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rule = format!("|{}\n", "---|".repeat(head.len()));
    let rows: String = rows.into_iter().map(|row| line(&row)).collect();
    format!("{}{rule}{rows}", line(&head))
}

fn main() -> ExitCode {
    match page() {
        Ok(page) => print!("{page}"),
        Err(error) => {
            eprintln!("page: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The whole page.
///
/// # Errors
///
/// What the file says that the code does not know.
fn page() -> Result<String, String> {
    let parts = [features()?, resources()?, plugins(), flags()?];
    Ok(format!("{HEAD}\n{}", parts.join("\n")))
}

fn features() -> Result<String, String> {
    let mut rows = Vec::new();
    for parts in lines("feature") {
        let [area, name, state @ ("complete" | "partial" | "absent"), what] = parts.as_slice() else {
            return Err(format!("not understood: feature {}", parts.join(" | ")));
        };
        rows.push([area, name, state, what].map(|part| (*part).to_owned()).to_vec());
    }
    Ok(format!(
        "## Features\n\n{}",
        table(&["area", "feature", "state", "remarks"], rows)
    ))
}

fn verbs(of: &[String]) -> String {
    let all = of.iter().map(String::as_str).eq(ALL_VERBS);
    if all { "all".to_owned() } else { of.join(", ") }
}

fn resources() -> Result<String, String> {
    let all = builtin::all();
    let mut remarks: BTreeMap<&str, [&str; 2]> = BTreeMap::new();
    for parts in lines("resource") {
        let [name, state, what] = parts.as_slice() else {
            return Err(format!("not understood: resource {}", parts.join(" | ")));
        };
        if !all.iter().any(|resource| resource.plural == *name) {
            return Err(format!("there is no resource {name}"));
        }
        remarks.insert(name, [state, what]);
    }
    let row = |resource: &Resource| {
        let below = resource.subresources.iter().map(|sub| sub.name.clone());
        let wide = resource
            .columns
            .iter()
            .filter(|column| column.priority > 0)
            .count();
        let [state, what] = remarks
            .get(resource.plural.as_str())
            .copied()
            .unwrap_or(["complete", ""]);
        vec![
            resource.api_version(),
            resource.plural.clone(),
            resource.kind.clone(),
            if resource.namespaced() { "yes" } else { "no" }.to_owned(),
            resource.short_names.join(", "),
            resource.categories.join(", "),
            verbs(&resource.verbs),
            below.collect::<Vec<_>>().join(", "),
            format!("{} + {wide}", resource.columns.len() - wide),
            state.to_owned(),
            what.to_owned(),
        ]
    };
    let head = [
        "version",
        "resource",
        "kind",
        "namespaced",
        "short",
        "categories",
        "verbs",
        "below",
        "columns",
        "state",
        "remarks",
    ];
    let served = table(&head, all.iter().map(|resource| row(resource)));
    let missing = lines("missing").map(|parts| parts.iter().map(|part| (*part).to_owned()).collect());
    let missing = table(&["version", "not served", "why"], missing);
    Ok(format!(
        "## Resources\n\nEach built-in kind has kube-apiserver's defaults, validation, immutable fields, columns (those that \
         always show, and those of `-o wide`) and protobuf.\n\n{served}\n{missing}"
    ))
}

fn plugins() -> String {
    let rows = Plugins::known().map(|(name, state)| vec![name.to_owned(), state.to_owned()]);
    format!(
        "## Admission plugins\n\nIn kube-apiserver's order. Those that are not here and on there are for what is not here \
         either.\n\n{}",
        table(&["plugin", "here"], rows)
    )
}

fn flags() -> Result<String, String> {
    let command = ServerOptions::augment_args(Command::new("server"));
    let command = AggregatorOptions::augment_args(command);
    let mut rows = Vec::new();
    for flag in command.get_arguments() {
        let Some(name) = flag.get_long() else { continue };
        let default = flag
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy());
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        rows.push(vec![
            format!("`--{name}`"),
            default.collect::<Vec<_>>().join(","),
            help.replace('\n', " ").replace('|', "\\|"),
        ]);
    }
    rows.sort();
    let mut missing = Vec::new();
    for parts in lines("flags") {
        let [why, names] = parts.as_slice() else {
            return Err(format!("not understood: flags {}", parts.join(" | ")));
        };
        let here = names
            .split(' ')
            .find(|name| command.get_arguments().any(|flag| flag.get_long() == Some(name)));
        if let Some(name) = here {
            return Err(format!("the flag {name} is said to be missing, and is here"));
        }
        let names: Vec<String> = names.split(' ').map(|name| format!("`{name}`")).collect();
        missing.push(vec![(*why).to_owned(), names.join(", ")]);
    }
    Ok(format!(
        "## Flags\n\n{}\nFlags of kube-apiserver's that are not here:\n\n{}",
        table(&["flag", "default", "what"], rows),
        table(&["about", "flags"], missing)
    ))
}
