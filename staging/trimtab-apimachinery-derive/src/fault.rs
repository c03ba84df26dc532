//! What is wrong with a declaration: all of it at once, each with the words to blame.

use proc_macro2::TokenStream;
use quote::ToTokens;

/// The faults of one declaration, in the order in which they were found.
#[derive(Default)]
pub(crate) struct Faults(Vec<Fault>);

pub(crate) struct Fault {
    /// The words under which the compiler prints the message; empty if the parser found the place itself.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "only tests ask, since only a compiler sees spans")
    )]
    pub(crate) blamed: String,
    pub(crate) error: syn::Error,
}

impl Faults {
    /// Notes a fault of these words.
    pub(crate) fn blame(&mut self, words: impl ToTokens, message: impl Into<String>) {
        let words = words.into_token_stream();
        self.0.push(Fault {
            blamed: words.to_string(),
            error: syn::Error::new_spanned(words, message.into()),
        });
    }

    /// Notes what the parser did not understand.
    pub(crate) fn syntax(&mut self, error: syn::Error) {
        self.0.push(Fault {
            blamed: String::new(),
            error,
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults as the compiler is told them.
    pub(crate) fn into_compile_errors(self) -> TokenStream {
        let faults = self.0.into_iter();
        faults.map(|fault| fault.error.into_compile_error()).collect()
    }
}

#[cfg(test)]
impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
