//! What a phase's type declares, as data: the judgement on steps, and the graph for people and for API servers.

use std::fmt::Write as _;

use super::IllegalTransition;

/// A declared state machine. Made by `#[derive(Phase)]`, which has checked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    name: &'static str,
    doc: &'static str,
    states: &'static [State],
    /// Where one may go from a phase that is not declared; `None` if such are not even read.
    unknown: Option<&'static [&'static str]>,
}

/// One declared phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// The phase as objects have it.
    pub name: &'static str,
    /// What its documentation says of it; empty if there is none.
    pub doc: &'static str,
    /// Whether an object may begin so.
    pub initial: bool,
    /// Where it may go, in the order declared, as objects have it; to stay is always legal.
    pub to: &'static [&'static str],
}

impl State {
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        doc: &'static str,
        initial: bool,
        to: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            doc,
            initial,
            to,
        }
    }

    /// Whether it is never left.
    pub fn is_terminal(&self) -> bool {
        self.to.is_empty()
    }
}

impl Machine {
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        doc: &'static str,
        states: &'static [State],
        unknown: Option<&'static [&'static str]>,
    ) -> Self {
        Self {
            name,
            doc,
            states,
            unknown,
        }
    }

    /// The name of the phase's type.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What the type's documentation says; empty if there is none.
    pub fn doc(&self) -> &'static str {
        self.doc
    }

    /// The declared phases, in the order of their declaration.
    pub fn states(&self) -> &'static [State] {
        self.states
    }

    /// The declared phase of that name.
    pub fn state(&self, name: &str) -> Option<&'static State> {
        self.states.iter().find(|state| state.name == name)
    }

    /// The names of the declared phases.
    pub fn names(&self) -> Vec<&'static str> {
        self.states.iter().map(|state| state.name).collect()
    }

    /// Where an object in a phase that is not declared may go; `None` if such an object cannot be read.
    pub fn after_unknown(&self) -> Option<&'static [&'static str]> {
        self.unknown
    }

    /// [`Phase::legal`](super::Phase::legal) by names.
    ///
    /// # Errors
    /// Says why the step is not legal, and what would be.
    pub fn check(&self, from: Option<&str>, to: &str) -> Result<(), IllegalTransition> {
        let from = from.filter(|from| !from.is_empty());
        if from == Some(to) {
            return Ok(());
        }
        let Some(target) = self.state(to) else {
            return Err(IllegalTransition::IntoUnknown {
                machine: self.name,
                to: to.to_owned(),
            });
        };
        match from.map(|from| (from, self.state(from))) {
            None if target.initial => Ok(()),
            None => Err(IllegalTransition::NotInitial {
                machine: self.name,
                to: to.to_owned(),
                initial: self.initial(),
            }),
            Some((_, Some(source))) if source.to.contains(&target.name) => Ok(()),
            Some((_, Some(source))) if source.is_terminal() => Err(IllegalTransition::Terminal {
                machine: self.name,
                from: source.name,
                to: to.to_owned(),
            }),
            Some((_, Some(source))) => Err(IllegalTransition::Undeclared {
                machine: self.name,
                from: source.name,
                to: to.to_owned(),
                legal: source.to,
            }),
            Some((_, None)) if self.unknown.is_some_and(|legal| legal.contains(&target.name)) => Ok(()),
            Some((from, None)) => Err(IllegalTransition::FromUnknown {
                machine: self.name,
                from: from.to_owned(),
                to: to.to_owned(),
                legal: self.unknown.unwrap_or_default(),
            }),
        }
    }

    /// The machine as a graph in the language of Graphviz: initial phases come from a point, terminal ones have a double
    /// border.
    pub fn dot(&self) -> String {
        let mut text = format!("digraph {} {{\n", quoted(self.name));
        text.push_str("  \"\" [shape=point];\n");
        for state in self.states {
            let shape = if state.is_terminal() {
                ", peripheries=2"
            } else {
                ""
            };
            let _ = writeln!(text, "  {} [shape=box{shape}];", quoted(state.name));
        }
        for state in self.states {
            if state.initial {
                let _ = writeln!(text, "  \"\" -> {};", quoted(state.name));
            }
            for to in state.to {
                let _ = writeln!(text, "  {} -> {};", quoted(state.name), quoted(to));
            }
        }
        text.push_str("}\n");
        text
    }

    /// The machine as a state diagram in the language of Mermaid, which GitHub, GitLab and many wikis draw.
    pub fn mermaid(&self) -> String {
        let id = |name: &str| match self.states.iter().position(|state| state.name == name) {
            Some(index) if !is_word(name) => format!("_{index}"),
            _ => name.to_owned(),
        };
        let mut text = "stateDiagram-v2\n".to_owned();
        for state in self.states.iter().filter(|state| !is_word(state.name)) {
            let label = state.name.replace('"', "#quot;");
            let _ = writeln!(text, "    state \"{label}\" as {}", id(state.name));
        }
        for state in self.states {
            if state.initial {
                let _ = writeln!(text, "    [*] --> {}", id(state.name));
            }
            for to in state.to {
                let _ = writeln!(text, "    {} --> {}", id(state.name), id(to));
            }
            if state.is_terminal() {
                let _ = writeln!(text, "    {} --> [*]", id(state.name));
            }
        }
        text
    }

    /// The machine as a CEL transition rule, for `x-kubernetes-validations` of a string. Where unknown phases are
    /// tolerated it judges steps between declared phases only, since the server may hold the schema of another version
    /// than the program's.
    pub fn cel(&self) -> String {
        let list = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| cel_text(name)).collect();
            format!("[{}]", names.join(", "))
        };
        let mut ways = vec!["self == oldSelf".to_owned()];
        if self.unknown.is_some() {
            let known = list(&self.names());
            ways.push(format!("!(self in {known}) || !(oldSelf in {known})"));
        }
        for state in self.states.iter().filter(|state| !state.is_terminal()) {
            let from = cel_text(state.name);
            ways.push(format!("oldSelf == {from} && self in {}", list(state.to)));
        }
        ways.join(" || ")
    }

    fn initial(&self) -> Vec<&'static str> {
        let initial = self.states.iter().filter(|state| state.initial);
        initial.map(|state| state.name).collect()
    }
}

/// `A`, `A or B`, `A, B or C`.
pub(super) fn alternatives(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !["end", "state", "note", "direction"].contains(&name.to_ascii_lowercase().as_str())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn cel_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
