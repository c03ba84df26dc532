//! Reads a declaration: the words in `#[phase(…)]` on the type and on its variants.

use proc_macro2::{Ident, TokenStream};
use quote::ToTokens;
use syn::ext::IdentExt as _;
use syn::meta::ParseNestedMeta;
use syn::punctuated::Punctuated;
use syn::{Attribute, Data, DeriveInput, Expr, Fields, Lit, LitStr, Meta, Path, Token, Type, Variant};

use crate::fault::Faults;

/// A declaration as it was read. That it makes a machine is for [`crate::check`] to say.
pub(crate) struct Declaration {
    pub(crate) ident: Ident,
    pub(crate) doc: String,
    pub(crate) options: Options,
    pub(crate) states: Vec<State>,
    pub(crate) unknown: Option<Unknown>,
}

/// What is said of the type.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) krate: Option<Path>,
    pub(crate) schema: Option<Schema>,
    pub(crate) enforce: Option<Path>,
}

/// Which schema is wished for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schema {
    Enum,
    String,
    None,
}

/// A declared phase.
pub(crate) struct State {
    pub(crate) ident: Ident,
    /// As objects have it.
    pub(crate) name: String,
    /// The words that say the name.
    pub(crate) named_by: TokenStream,
    pub(crate) doc: String,
    pub(crate) initial: bool,
    /// Where it goes; nowhere if it is terminal.
    pub(crate) to: Vec<Target>,
}

/// The variant for phases that are not declared.
pub(crate) struct Unknown {
    pub(crate) ident: Ident,
    pub(crate) to: Vec<Target>,
}

/// A word in `to(…)`.
pub(crate) enum Target {
    Every(Token![*]),
    One(Ident),
}

/// The words on one variant, each at most once.
#[derive(Default)]
struct Marks {
    initial: Option<Path>,
    terminal: Option<Path>,
    unknown: Option<Path>,
    name: Option<(Path, LitStr)>,
    to: Option<(Path, Vec<Target>)>,
}

const ON_VARIANTS: &str = "`initial`, `to(…)`, `terminal`, `unknown`, `name = \"…\"`";
const ON_TYPES: &str = "`enforce`, `schema = \"…\"`, `crate = \"…\"`";

/// Reads what can be read, and notes the rest. `None` if it is no enum.
pub(crate) fn read(input: DeriveInput, faults: &mut Faults) -> Option<Declaration> {
    let Data::Enum(data) = input.data else {
        faults.blame(
            &input.ident,
            format!(
                "a phase is an enum, with a variant for each state that `{}` may be in",
                input.ident
            ),
        );
        return None;
    };
    if !input.generics.params.is_empty() {
        faults.blame(
            &input.generics,
            "a phase is a string in an object, so its type has no parameters",
        );
    }
    let mut declaration = Declaration {
        doc: doc(&input.attrs),
        options: options(&input.attrs, faults),
        ident: input.ident,
        states: Vec::new(),
        unknown: None,
    };
    for variant in data.variants {
        let marks = marks(&variant.attrs, faults);
        if marks.unknown.is_some() {
            let unknown = unknown(variant, marks, faults);
            if let Some(first) = &declaration.unknown {
                faults.blame(
                    &unknown.ident,
                    format!(
                        "`{}` is there for unknown phases already: remove one of the two",
                        first.ident
                    ),
                );
            }
            declaration.unknown.get_or_insert(unknown);
        } else {
            declaration.states.push(state(variant, marks, faults));
        }
    }
    Some(declaration)
}

fn options(attrs: &[Attribute], faults: &mut Faults) -> Options {
    let mut options = Options::default();
    each_word(attrs, faults, |meta, faults| {
        let path = meta.path.clone();
        if path.is_ident("enforce") {
            once(&mut options.enforce, path.clone(), &path, faults);
        } else if path.is_ident("schema") {
            let text: LitStr = meta.value()?.parse()?;
            let schema = match text.value().as_str() {
                "enum" => Some(Schema::Enum),
                "string" => Some(Schema::String),
                "none" => Some(Schema::None),
                _ => None,
            };
            match schema {
                Some(schema) => once(&mut options.schema, schema, &path, faults),
                None => faults.blame(text, "a schema is \"enum\", \"string\" or \"none\""),
            }
        } else if path.is_ident("crate") {
            let text: LitStr = meta.value()?.parse()?;
            match text.parse::<Path>() {
                Ok(krate) => once(&mut options.krate, krate, &path, faults),
                Err(_) => faults.blame(
                    text,
                    "name a crate or a module, as in `crate = \"trimtab_apimachinery\"`",
                ),
            }
        } else {
            strange(&meta, ON_TYPES, faults)?;
        }
        Ok(())
    });
    if let (Some(Schema::None), Some(enforce)) = (options.schema, &options.enforce) {
        faults.blame(
            enforce,
            "the rule is part of the schema that `schema = \"none\"` leaves out: remove one of the two",
        );
    }
    options
}

fn marks(attrs: &[Attribute], faults: &mut Faults) -> Marks {
    let mut marks = Marks::default();
    each_word(attrs, faults, |meta, faults| {
        let path = meta.path.clone();
        if path.is_ident("initial") {
            once(&mut marks.initial, path.clone(), &path, faults);
        } else if path.is_ident("terminal") {
            once(&mut marks.terminal, path.clone(), &path, faults);
        } else if path.is_ident("unknown") {
            once(&mut marks.unknown, path.clone(), &path, faults);
        } else if path.is_ident("name") {
            let name = meta.value()?.parse()?;
            once(&mut marks.name, (path.clone(), name), &path, faults);
        } else if path.is_ident("to") {
            let targets = targets(&meta)?;
            once(&mut marks.to, (path.clone(), targets), &path, faults);
        } else {
            strange(&meta, ON_VARIANTS, faults)?;
        }
        Ok(())
    });
    marks
}

fn targets(meta: &ParseNestedMeta<'_>) -> syn::Result<Vec<Target>> {
    let content;
    syn::parenthesized!(content in meta.input);
    let targets = Punctuated::<Target, Token![,]>::parse_terminated(&content)?;
    Ok(targets.into_iter().collect())
}

fn state(variant: Variant, marks: Marks, faults: &mut Faults) -> State {
    let ident = variant.ident;
    if !matches!(variant.fields, Fields::Unit) {
        faults.blame(
            &variant.fields,
            "a declared phase is a name and holds nothing; only the variant marked `unknown` does, a `String`",
        );
    }
    match (&marks.to, &marks.terminal) {
        (None, None) => faults.blame(
            &ident,
            format!(
                "where does `{ident}` go? Say `#[phase(to(…))]`, or `#[phase(terminal)]` if it is never left"
            ),
        ),
        (Some(_), Some(terminal)) => faults.blame(
            terminal,
            format!("`{ident}` cannot be terminal and go somewhere: remove `terminal` or `to(…)`"),
        ),
        (Some((to, targets)), None) if targets.is_empty() => faults.blame(
            to,
            format!("name the phases that `{ident}` may go to, or say `terminal` instead"),
        ),
        _ => {}
    }
    let (name, named_by) = match &marks.name {
        Some((_, name)) => (name.value(), name.to_token_stream()),
        None => (ident.unraw().to_string(), ident.to_token_stream()),
    };
    if name.is_empty() {
        faults.blame(
            &named_by,
            "the empty text means that there is no phase yet: give it a name",
        );
    } else if name.contains(char::is_control) {
        faults.blame(
            &named_by,
            "people read phases: leave control characters out of the name",
        );
    }
    State {
        doc: doc(&variant.attrs),
        ident,
        name,
        named_by,
        initial: marks.initial.is_some(),
        to: marks.to.map(|(_, targets)| targets).unwrap_or_default(),
    }
}

fn unknown(variant: Variant, marks: Marks, faults: &mut Faults) -> Unknown {
    let ident = variant.ident;
    if !holds_string(&variant.fields) {
        let message = format!("the variant for unknown phases holds what was written: `{ident}(String)`");
        match &variant.fields {
            Fields::Unit => faults.blame(&ident, message),
            fields => faults.blame(fields, message),
        }
    }
    let never_entered =
        "an unknown phase is read and never entered, so no object begins so: remove `initial`";
    let elsewhere =
        "where an unknown phase ends is not known: remove `terminal`; without `to(…)` it is not left";
    let nameless = "an unknown phase has the name that was written: remove `name`";
    let faulty = [
        (&marks.initial, never_entered),
        (&marks.terminal, elsewhere),
        (&marks.name.map(|(path, _)| path), nameless),
    ];
    for (word, message) in faulty {
        if let Some(word) = word {
            faults.blame(word, message);
        }
    }
    if let Some((to, _)) = marks.to.as_ref().filter(|(_, targets)| targets.is_empty()) {
        faults.blame(
            to,
            "name the phases that an unknown one may be left for, or remove `to()`",
        );
    }
    Unknown {
        ident,
        to: marks.to.map(|(_, targets)| targets).unwrap_or_default(),
    }
}

fn holds_string(fields: &Fields) -> bool {
    let Fields::Unnamed(fields) = fields else {
        return false;
    };
    let mut fields = fields.unnamed.iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return false;
    };
    let Type::Path(path) = &field.ty else { return false };
    path.path
        .segments
        .last()
        .is_some_and(|last| last.ident == "String" && last.arguments.is_empty())
}

// === attributes ===

fn each_word(
    attrs: &[Attribute],
    faults: &mut Faults,
    mut read: impl FnMut(ParseNestedMeta<'_>, &mut Faults) -> syn::Result<()>,
) {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("phase")) {
        if let Err(error) = attr.parse_nested_meta(|meta| read(meta, faults)) {
            faults.syntax(error);
        }
    }
}

fn once<T>(slot: &mut Option<T>, value: T, word: &Path, faults: &mut Faults) {
    if slot.is_some() {
        faults.blame(
            word,
            format!("`{}` is said twice: remove one", word.to_token_stream()),
        );
    }
    slot.get_or_insert(value);
}

/// Notes a word that means nothing here, and skips what belongs to it.
fn strange(meta: &ParseNestedMeta<'_>, words: &str, faults: &mut Faults) -> syn::Result<()> {
    let word = meta.path.to_token_stream();
    faults.blame(
        &meta.path,
        format!("`{word}` means nothing here; what does is {words}"),
    );
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        let content;
        syn::parenthesized!(content in meta.input);
        content.parse::<TokenStream>()?;
    }
    Ok(())
}

/// The documentation in these attributes: lines of a paragraph become one line, as in descriptions of schemas.
fn doc(attrs: &[Attribute]) -> String {
    let lines = attrs.iter().filter_map(|attr| match &attr.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(expr) => match &expr.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let lines = paragraph.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join(" ")
    });
    let paragraphs: Vec<String> = paragraphs.filter(|paragraph| !paragraph.is_empty()).collect();
    paragraphs.join("\n\n")
}

impl syn::parse::Parse for Target {
    fn parse(input: syn::parse::ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(Token![*]) {
            return Ok(Self::Every(input.parse()?));
        }
        input.parse().map(Self::One)
    }
}

impl ToTokens for Target {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Every(star) => star.to_tokens(tokens),
            Self::One(ident) => ident.to_tokens(tokens),
        }
    }
}
