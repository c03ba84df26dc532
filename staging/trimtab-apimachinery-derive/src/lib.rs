//! Derives for what Kubernetes objects have in common.
//!
//! Depend on the facade `trimtab-apimachinery` (or on `trimtab`) instead of this crate; its paths are the stable ones.
//! [`Phase`] is documented where its trait is, in the facade's module `phase`.
//!
//! The way of a declaration: `declaration` reads what the words say and `check` whether they make a machine; both
//! note what is wrong in `fault`, which knows the words to blame. Then `expand` writes the code, or the faults.
//!
//! The code names traits by the paths of a facade. There are two of those, and a derive cannot see from which one it was
//! imported, so there is one derive for each: a facade exports its own under the name `Phase`.

mod check;
mod declaration;
mod expand;
mod fault;

use proc_macro::TokenStream;

/// Declares a status phase as a state machine: implements the trait of the same name, `Display`, `FromStr`, and serde's and
/// schemars' traits, for an enum whose variants say in `#[phase(…)]` where they go.
///
/// The module `phase` says what may stand there and what comes of it.
#[proc_macro_derive(Phase, attributes(phase))]
pub fn phase(input: TokenStream) -> TokenStream {
    expand::phase(input.into(), "::trimtab_apimachinery").into()
}

/// [`Phase`] for those who import it from `trimtab`, which exports this one as `Phase`.
#[proc_macro_derive(TrimtabPhase, attributes(phase))]
pub fn trimtab_phase(input: TokenStream) -> TokenStream {
    expand::phase(input.into(), "::trimtab::apimachinery").into()
}

#[cfg(test)]
mod tests;
