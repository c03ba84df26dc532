//! Whether a declaration makes a machine: its ways lead somewhere, and all of it can be reached.

use proc_macro2::Ident;
use syn::ext::IdentExt as _;

use crate::declaration::{Declaration, State, Target};
use crate::fault::Faults;

/// The ways of a declaration, as indices of its states.
pub(crate) struct Ways {
    /// For each state, where it goes.
    pub(crate) from: Vec<Vec<usize>>,
    /// Where one goes from unknown phases.
    pub(crate) from_unknown: Vec<usize>,
}

/// Finds the ways, and notes what is wrong with them. What they mean as a whole is judged only if each of them makes
/// sense, and nothing else was wrong: a misspelt word would make a stretch of the machine unreachable.
pub(crate) fn check(declaration: &Declaration, faults: &mut Faults) -> Ways {
    distinct(&declaration.states, faults);
    let from = declaration.states.iter().enumerate();
    let ways = Ways {
        from: from
            .map(|(index, state)| ends(declaration, &state.to, Some(index), faults))
            .collect(),
        from_unknown: declaration
            .unknown
            .as_ref()
            .map(|unknown| ends(declaration, &unknown.to, None, faults))
            .unwrap_or_default(),
    };
    if faults.is_empty() {
        reachable(declaration, &ways, faults);
    }
    ways
}

fn distinct(states: &[State], faults: &mut Faults) {
    for (index, state) in states.iter().enumerate() {
        if let Some(first) = states[..index].iter().find(|first| first.name == state.name) {
            let (first, second, name) = (&first.ident, &state.ident, &state.name);
            faults.blame(
                &state.named_by,
                format!(
                    "`{first}` and `{second}` are both written {name:?}: give one of them another `name`"
                ),
            );
        }
    }
}

fn ends(declaration: &Declaration, to: &[Target], from: Option<usize>, faults: &mut Faults) -> Vec<usize> {
    let mut ends = Vec::new();
    for target in to {
        let found = match target {
            Target::One(ident) => one(declaration, ident, from, faults),
            Target::Every(star) => {
                if to.len() > 1 {
                    faults.blame(star, "`*` is every phase: remove it, or the names beside it");
                    return ends;
                }
                let others: Vec<usize> = (0..declaration.states.len())
                    .filter(|end| Some(*end) != from)
                    .collect();
                if others.is_empty() {
                    faults.blame(
                        star,
                        "there is no other phase to go to: declare one, or say `terminal`",
                    );
                }
                return others;
            }
        };
        match found {
            Some(end) if ends.contains(&end) => {
                faults.blame(target, "this is said twice: remove one");
            }
            found => ends.extend(found),
        }
    }
    ends
}

fn one(declaration: &Declaration, ident: &Ident, from: Option<usize>, faults: &mut Faults) -> Option<usize> {
    // `r#A` and `A` are the same variant.
    let meant = |declared: &Ident| declared.unraw() == ident.unraw();
    if declaration
        .unknown
        .as_ref()
        .is_some_and(|unknown| meant(&unknown.ident))
    {
        faults.blame(
            ident,
            format!("`{ident}` is what other versions wrote: it is read, and never entered"),
        );
        return None;
    }
    let Some(end) = declaration.states.iter().position(|state| meant(&state.ident)) else {
        let names: Vec<String> = declaration
            .states
            .iter()
            .map(|state| format!("`{}`", state.ident))
            .collect();
        faults.blame(
            ident,
            format!("there is no phase `{ident}`; there are {}", names.join(", ")),
        );
        return None;
    };
    if Some(end) == from {
        faults.blame(
            ident,
            "to stay in a phase is always legal: say where else it goes",
        );
        return None;
    }
    Some(end)
}

/// Each phase is reached from an initial one by declared steps. Those from unknown phases do not count: they are taken
/// only after another version of the program was there.
fn reachable(declaration: &Declaration, ways: &Ways, faults: &mut Faults) {
    let states = &declaration.states;
    if states.is_empty() {
        faults.blame(
            &declaration.ident,
            "no phase is declared: add a variant, as in `#[phase(initial, to(…))] Pending`",
        );
        return;
    }
    let mut open: Vec<usize> = (0..states.len()).filter(|index| states[*index].initial).collect();
    if open.is_empty() {
        faults.blame(
            &declaration.ident,
            "no phase is initial: mark the one in which an object begins, as in `#[phase(initial, to(…))]`",
        );
        return;
    }
    let mut reached = vec![false; states.len()];
    while let Some(index) = open.pop() {
        if !std::mem::replace(&mut reached[index], true) {
            open.extend(&ways.from[index]);
        }
    }
    for (state, _) in states.iter().zip(reached).filter(|(_, reached)| !reached) {
        let ident = &state.ident;
        faults.blame(
            ident,
            format!(
                "`{ident}` cannot be reached from an initial phase: name it in the `to(…)` of one that can, or mark it \
                 `initial`"
            ),
        );
    }
}
