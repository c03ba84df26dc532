//! Writes the code that a declaration stands for.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt as _;
use syn::{DeriveInput, Path};

use crate::check::{self, Ways};
use crate::declaration::{self, Declaration, Schema};
use crate::fault::Faults;

/// The implementations of a phase, or what is wrong with its declaration. `krate` is where the traits are, unless the
/// declaration says otherwise.
pub(crate) fn phase(input: TokenStream, krate: &str) -> TokenStream {
    match checked(input) {
        Ok((declaration, ways)) => implement(&declaration, &ways, krate),
        Err(faults) => faults.into_compile_errors(),
    }
}

/// A declaration that makes a machine.
pub(crate) fn checked(input: TokenStream) -> Result<(Declaration, Ways), Faults> {
    let mut faults = Faults::default();
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => {
            faults.syntax(error);
            return Err(faults);
        }
    };
    let declaration = declaration::read(input, &mut faults);
    let checked = declaration.map(|declaration| {
        let ways = check::check(&declaration, &mut faults);
        (declaration, ways)
    });
    match checked {
        Some(checked) if faults.is_empty() => Ok(checked),
        _ => Err(faults),
    }
}

fn implement(declaration: &Declaration, ways: &Ways, krate: &str) -> TokenStream {
    let krate = match &declaration.options.krate {
        Some(krate) => krate.clone(),
        None => syn::parse_str::<Path>(krate).expect("the crate's own paths are paths"),
    };
    let ident = &declaration.ident;
    let machine = machine(declaration, ways);
    let table = table(declaration, ways);
    let states = declaration.states.iter().map(|state| &state.ident);
    let idents: Vec<_> = states.collect();
    let names: Vec<_> = declaration.states.iter().map(|state| &state.name).collect();
    let (unknown_text, unknown_parsed) = match &declaration.unknown {
        Some(unknown) => {
            let unknown = &unknown.ident;
            (
                Some(quote!(Self::#unknown(text) => text.as_str(),)),
                quote!(::core::result::Result::Ok(Self::#unknown(text.into()))),
            )
        }
        None => (
            None,
            quote!(::core::result::Result::Err(_private::unknown::<Self>(text))),
        ),
    };
    let schema = schema(declaration);
    quote! {
        const _: () = {
            use #krate::phase::__private as _private;

            #[doc = #table]
            #[automatically_derived]
            impl _private::Phase for #ident {
                const MACHINE: &'static _private::Machine = &#machine;
                const ALL: &'static [Self] = &[#(Self::#idents),*];

                fn as_str(&self) -> &str {
                    match self {
                        #(Self::#idents => #names,)*
                        #unknown_text
                    }
                }

                fn parse(text: &str) -> ::core::result::Result<Self, _private::UnknownPhase> {
                    match text {
                        #(#names => ::core::result::Result::Ok(Self::#idents),)*
                        _ => #unknown_parsed,
                    }
                }
            }

            #[automatically_derived]
            impl ::core::fmt::Display for #ident {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    f.pad(_private::Phase::as_str(self))
                }
            }

            #[automatically_derived]
            impl ::core::str::FromStr for #ident {
                type Err = _private::UnknownPhase;

                fn from_str(text: &str) -> ::core::result::Result<Self, Self::Err> {
                    _private::Phase::parse(text)
                }
            }

            #[automatically_derived]
            impl _private::serde::Serialize for #ident {
                fn serialize<S: _private::serde::Serializer>(
                    &self,
                    serializer: S,
                ) -> ::core::result::Result<S::Ok, S::Error> {
                    serializer.serialize_str(_private::Phase::as_str(self))
                }
            }

            #[automatically_derived]
            impl<'de> _private::serde::Deserialize<'de> for #ident {
                fn deserialize<D: _private::serde::Deserializer<'de>>(
                    deserializer: D,
                ) -> ::core::result::Result<Self, D::Error> {
                    _private::deserialize(deserializer)
                }
            }

            #schema
        };
    }
}

/// The constant that the trait's methods read.
fn machine(declaration: &Declaration, ways: &Ways) -> TokenStream {
    let name = declaration.ident.unraw().to_string();
    let doc = &declaration.doc;
    let state_name = |index: &usize| &declaration.states[*index].name;
    let states = declaration.states.iter().zip(&ways.from).map(|(state, to)| {
        let (name, doc, initial) = (&state.name, &state.doc, state.initial);
        let to = to.iter().map(state_name);
        quote!(_private::State::new(#name, #doc, #initial, &[#(#to),*]))
    });
    let unknown = match &declaration.unknown {
        Some(_) => {
            let to = ways.from_unknown.iter().map(state_name);
            quote!(::core::option::Option::Some(&[#(#to),*]))
        }
        None => quote!(::core::option::Option::None),
    };
    quote!(_private::Machine::new(#name, #doc, &[#(#states),*], #unknown))
}

fn schema(declaration: &Declaration) -> Option<TokenStream> {
    let by_default = match &declaration.unknown {
        Some(_) => Schema::String,
        None => Schema::Enum,
    };
    let values = match declaration.options.schema.unwrap_or(by_default) {
        Schema::Enum => quote!(Declared),
        Schema::String => quote!(Any),
        Schema::None => return None,
    };
    let transitions = match &declaration.options.enforce {
        Some(_) => quote!(Enforced),
        None => quote!(Free),
    };
    let ident = &declaration.ident;
    let name = ident.unraw().to_string();
    Some(quote! {
        #[automatically_derived]
        impl _private::schemars::JsonSchema for #ident {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> _private::Cow<'static, str> {
                _private::Cow::Borrowed(#name)
            }

            fn schema_id() -> _private::Cow<'static, str> {
                _private::Cow::Borrowed(::core::concat!(::core::module_path!(), "::", #name))
            }

            fn json_schema(_: &mut _private::schemars::SchemaGenerator) -> _private::schemars::Schema {
                _private::schema(
                    <Self as _private::Phase>::MACHINE,
                    _private::Values::#values,
                    _private::Transitions::#transitions,
                )
            }
        }
    })
}

/// The machine for readers of the type's documentation.
pub(crate) fn table(declaration: &Declaration, ways: &Ways) -> String {
    let state_name = |index: &usize| cell(&declaration.states[*index].name);
    let mut table = "| from | to |\n|---|---|\n".to_owned();
    let row = |from: &str, to: &[String]| format!("| {from} | {} |\n", to.join(", "));
    let initial = declaration.states.iter().filter(|state| state.initial);
    let initial: Vec<String> = initial.map(|state| cell(&state.name)).collect();
    table.push_str(&row("none yet", &initial));
    for (state, to) in declaration.states.iter().zip(&ways.from) {
        let to: Vec<String> = to.iter().map(state_name).collect();
        table.push_str(&row(&cell(&state.name), &to));
    }
    if declaration.unknown.is_some() {
        let to: Vec<String> = ways.from_unknown.iter().map(state_name).collect();
        table.push_str(&row("any other", &to));
    }
    table
}

/// A name as code in a cell of a table: a bar would end the cell, even within code, and a backtick the code.
fn cell(name: &str) -> String {
    let name = name.replace('|', "\\|");
    let most = name.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let (fence, space) = ("`".repeat(most + 1), if most > 0 { " " } else { "" });
    format!("{fence}{space}{name}{space}{fence}")
}
