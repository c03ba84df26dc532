//! Phases: a status field that is a state machine, declared once, judged everywhere by the same declaration.
//!
//! Clients come to depend on a phase as they do on no other field of a status, so what it may do is declared rather
//! than left to the order of `if`s: where it begins, where it may go from there, where it ends. [`Phase`] is derived from
//! that declaration. A step that is not declared is an error before it is a request, and
//! [`#[phase(enforce)]`](#on-the-type) makes the API server refuse it too, whoever writes it.
//!
//! Prefer conditions where several things can be so at once; see [`crate::conditions`].
//!
//! ```
//! # use trimtab_apimachinery_derive::Phase;
//! use trimtab_apimachinery_meta::phase::Phase;
//!
//! #[derive(Phase, Clone, Debug, PartialEq, Eq)]
//! # #[phase(crate = "trimtab_apimachinery_meta")]
//! enum BackupPhase {
//!     #[phase(initial, to(Running, Failed))]
//!     Pending,
//!     #[phase(to(Succeeded, Failed))]
//!     Running,
//!     #[phase(terminal)]
//!     Succeeded,
//!     #[phase(terminal)]
//!     Failed,
//!     #[phase(unknown)]
//!     Other(String), // what a newer version wrote; kept as it is
//! }
//!
//! let mut phase = None;
//! assert!(BackupPhase::Pending.enter(&mut phase)?);
//! assert!(BackupPhase::Running.enter(&mut phase)?);
//! assert!(!BackupPhase::Running.enter(&mut phase)?, "to stay is always legal, and changes nothing");
//! let back = BackupPhase::Pending.enter(&mut phase).expect_err("nobody declared that");
//! assert_eq!(
//!     back.to_string(),
//!     "BackupPhase cannot go from Running to Pending: from Running it goes to Succeeded or Failed",
//! );
//! assert_eq!(phase, Some(BackupPhase::Running), "what was refused was not done");
//! # Ok::<(), trimtab_apimachinery_meta::phase::IllegalTransition>(())
//! ```
//!
//! # What the derive takes
//!
//! ## On the variants
//!
//! | in `#[phase(…)]` | meaning |
//! |---|---|
//! | `initial` | an object may begin so |
//! | `to(A, B)` | where it may go; `to(*)` is every other phase that is declared |
//! | `terminal` | it goes nowhere |
//! | `unknown` | this variant, which holds a `String`, is any phase that is not declared |
//! | `name = "…"` | how the object has it; without it, as the variant is called |
//!
//! It is an error, at compile time and at the place, if `to` names no variant, if nothing is initial, if a phase cannot
//! be reached from an initial one, or if one that is not terminal has no way out.
//!
//! ```compile_fail
//! # use trimtab_apimachinery_derive::Phase;
//! #[derive(Phase)]
//! # #[phase(crate = "trimtab_apimachinery_meta")]
//! enum Door {
//!     #[phase(initial, to(Open))]
//!     Closed,
//!     #[phase(to(Closd))] // there is no phase `Closd`; there are `Closed`, `Open`
//!     Open,
//! }
//! ```
//!
//! ## On the type
//!
//! | in `#[phase(…)]` | meaning |
//! |---|---|
//! | `enforce` | the schema has a transition rule: the API server refuses what is not declared |
//! | `schema = "enum"` | the schema lists the phases: the API server refuses others |
//! | `schema = "string"` | the schema takes any text, and describes the phases |
//! | `schema = "none"` | no schema: implement `JsonSchema` yourself |
//! | `crate = "…"` | where this crate or its facade is, if not where the derive was imported from |
//!
//! # What it gives
//!
//! [`Phase`], `Display`, `FromStr`, and serde's and schemars' traits. In the object a phase is a string. `Clone`, `Debug`,
//! `PartialEq` and `Default` are derived as ever.
//!
//! **Phases that are not declared** come from another version of the program: newer while a new version is rolled out, older
//! after a phase was given up. With an `unknown` variant they are read, and written back as they were. Nobody enters one,
//! and one is left only to where `#[phase(unknown, to(…))]` says, so by default an old version does not take over what a new
//! one has begun. Without the variant such an object cannot be read, and the error names the phases that can.
//! The empty text, which Go programs write for no phase, counts as none.
//!
//! **The schema** lists the phases as an `enum` if there is no `unknown` variant. If there is, it takes any string by
//! default: a schema that lists them would have the API server refuse each status in which an old version keeps a
//! newer phase, after a roll-back for example. Servers from Kubernetes 1.30 on forgive values that did not
//! change, so `schema = "enum"` is an option there. The rule of `enforce` judges steps between two declared phases only.

#[doc(hidden)]
pub mod __private;
mod machine;

use machine::alternatives;

pub use machine::{Machine, State};

/// A status phase: a state machine with declared transitions. Derive it: see [the module](self).
///
/// Phases are told apart by their text, so an unknown variant that holds the text of a declared phase is that phase.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a phase",
    note = "a phase is an enum with `#[derive(Phase)]`: see https://docs.rs/trimtab-apimachinery/latest/trimtab_apimachinery/phase"
)]
pub trait Phase: Sized + 'static {
    /// What was declared.
    const MACHINE: &'static Machine;

    /// The declared phases, in the order of their declaration.
    const ALL: &'static [Self];

    /// The phase as objects have it.
    fn as_str(&self) -> &str;

    /// Reads a phase as objects have it. `FromStr` does the same.
    ///
    /// # Errors
    /// [`UnknownPhase`] if it is not declared and no variant is there for such.
    fn parse(text: &str) -> Result<Self, UnknownPhase>;

    /// Whether this version of the program declares the phase.
    fn is_known(&self) -> bool {
        Self::MACHINE.state(self.as_str()).is_some()
    }

    /// Whether an object may begin so.
    fn is_initial(&self) -> bool {
        Self::MACHINE
            .state(self.as_str())
            .is_some_and(|state| state.initial)
    }

    /// Whether the phase is one that is never left. An unknown phase is not: it is not known where it goes.
    fn is_terminal(&self) -> bool {
        Self::MACHINE.state(self.as_str()).is_some_and(State::is_terminal)
    }

    /// Whether the step is declared. From `None`, and from an empty phase, one begins. To stay is always legal.
    ///
    /// # Errors
    /// Says why not, and what would be.
    fn legal(from: Option<&Self>, to: &Self) -> Result<(), IllegalTransition> {
        Self::MACHINE.check(from.map(Self::as_str), to.as_str())
    }

    /// Takes the step if it is declared, and says whether it changes anything.
    ///
    /// # Errors
    /// As [`Phase::legal`]; the phase is then as it was.
    fn enter(self, phase: &mut Option<Self>) -> Result<bool, IllegalTransition> {
        Self::legal(phase.as_ref(), &self)?;
        let changes = phase.as_ref().is_none_or(|old| old.as_str() != self.as_str());
        *phase = Some(self);
        Ok(changes)
    }

    /// [`Phase::enter`] for a status whose phase is always there, as one with a `Default` is.
    ///
    /// # Errors
    /// As [`Phase::legal`]; the phase is then as it was.
    fn go_to(&mut self, to: Self) -> Result<bool, IllegalTransition> {
        Self::legal(Some(self), &to)?;
        let changes = self.as_str() != to.as_str();
        *self = to;
        Ok(changes)
    }
}

/// A step that was not declared. A reconciler that wants to take it has a defect, or has computed it from an object that is
/// out of date: leave the phase as it is and report the error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IllegalTransition {
    /// An object does not begin so. Begin with one of the initial phases, or declare this one `initial`.
    #[error("{machine} cannot begin as {to}: it begins as {}", alternatives(initial))]
    NotInitial {
        /// The type of the phase.
        machine: &'static str,
        /// The phase that was to be entered.
        to: String,
        /// The phases with which an object may begin.
        initial: Vec<&'static str>,
    },
    /// There is no way from one to the other. Go by a declared way, or declare this one.
    #[error(
        "{machine} cannot go from {from} to {to}: from {from} it goes to {}",
        alternatives(legal)
    )]
    Undeclared {
        /// The type of the phase.
        machine: &'static str,
        /// The phase that the object is in.
        from: &'static str,
        /// The phase that was to be entered.
        to: String,
        /// Where the object may go.
        legal: &'static [&'static str],
    },
    /// The object is where it ends. What is to begin anew is a new object.
    #[error("{machine} cannot go from {from} to {to}: {from} is terminal")]
    Terminal {
        /// The type of the phase.
        machine: &'static str,
        /// The phase that the object is in.
        from: &'static str,
        /// The phase that was to be entered.
        to: String,
    },
    /// The phase to be entered is not declared; such phases are read, never entered.
    #[error("{machine} cannot become {to:?}: it is not declared")]
    IntoUnknown {
        /// The type of the phase.
        machine: &'static str,
        /// The phase that was to be entered.
        to: String,
    },
    /// The object is in a phase that is not declared, and this version may not take it from there. Leave the object to the
    /// version that put it there, or declare a way: `#[phase(unknown, to(…))]`.
    #[error(
        "{machine} cannot go from {from:?} to {to}: {from:?} is not declared{}",
        otherwise(legal)
    )]
    FromUnknown {
        /// The type of the phase.
        machine: &'static str,
        /// The phase that the object is in.
        from: String,
        /// The phase that was to be entered.
        to: String,
        /// Where the object may go from an unknown phase.
        legal: &'static [&'static str],
    },
}

fn otherwise(legal: &[&str]) -> String {
    if legal.is_empty() {
        return ", so it is another version's to leave".to_owned();
    }
    format!(", and from such it goes to {}", alternatives(legal))
}

/// A text that is no declared phase, for a type that tolerates no others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {machine} {text:?}: it is one of {}", .known.join(", "))]
pub struct UnknownPhase {
    /// The type of the phase.
    pub machine: &'static str,
    /// The text.
    pub text: String,
    /// The declared phases.
    pub known: Vec<&'static str>,
}
