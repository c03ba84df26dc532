//! One expression: compiled once, evaluated for each request.

use std::sync::Arc;

use cel::{Env, IdedExpr};
use serde_json::Value;

use super::super::types::Kind;
use super::super::{checker, library, meter, room, rule};
use super::Declarations;

/// What an expression must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// True or false.
    Bool,
    /// Text.
    Text,
    /// Text, or null for none.
    TextOrNull,
    /// `Object{…}`: an apply configuration.
    Object,
    /// A list of `JSONPatch{…}`.
    Patches,
    /// Any value.
    Anything,
}

/// What an expression has come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// True or false.
    Bool(bool),
    /// Text.
    Text(String),
    /// Null.
    Null,
    /// What an apply configuration says, or the operations of a JSON patch.
    Json(Value),
    /// A value of that type, with which nothing can be done.
    Other(String),
}

/// An expression, compiled.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    compiled: Result<Arc<Compiled>, String>,
    returns: Returns,
}

#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) program: IdedExpr,
    kind: Kind,
    /// How deep it is, with the variables that it looks at.
    pub(super) levels: usize,
    /// The names that it uses, of those that an activation has values for.
    pub(super) names: Vec<String>,
    patches: bool,
}

impl Compiled {
    /// The environment that it is evaluated in.
    pub(super) fn env(&self) -> &'static Arc<Env> {
        env(self.patches)
    }

    pub(super) fn uses(&self, name: &str) -> bool {
        self.names.iter().any(|used| used == name)
    }
}

impl Expression {
    /// Compiles an expression, which may use what is declared and must come to what it `returns`. Whether it makes sense
    /// is to be asked of [`Expression::fault`].
    pub fn new(text: &str, declarations: &Declarations, returns: Returns) -> Self {
        Self {
            text: text.to_owned(),
            compiled: room::with_room(room::of_text(text), || compile(text, declarations, returns))
                .map_err(|why| format!("compilation failed: {why}"))
                .flatten()
                .map(Arc::new),
            returns,
        }
    }

    /// What is wrong with the expression, in kube-apiserver's words, if anything is.
    pub fn fault(&self) -> Option<&str> {
        self.compiled.as_ref().err().map(String::as_str)
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it must come to.
    pub fn returns(&self) -> Returns {
        self.returns
    }

    pub(super) fn kind(&self) -> Option<&Kind> {
        self.compiled.as_ref().ok().map(|compiled| &compiled.kind)
    }

    pub(super) fn compiled(&self) -> Result<&Compiled, &str> {
        self.compiled
            .as_ref()
            .map(|compiled| &**compiled)
            .map_err(String::as_str)
    }
}

fn env(patches: bool) -> &'static Arc<Env> {
    if patches {
        library::with_patches()
    } else {
        library::with_authorizers()
    }
}

fn compile(text: &str, declarations: &Declarations, returns: Returns) -> Result<Compiled, String> {
    let parsed = rule::compile_in(env(declarations.patches), text)?;
    let measured = room::measure(parsed.expression()).map_err(|why| format!("compilation failed: {why}"))?;
    let kind = checker::check_request(
        &parsed,
        &declarations.names(),
        declarations.authorizer,
        declarations.patches,
    )
    .map_err(|faults| format!("compilation failed: {faults}"))?;
    let any = checker::is_plainly_dyn(parsed.expression(), &declarations.untyped());
    check_result(&kind, any, returns)?;
    let references = parsed.references();
    let mut names: Vec<String> = references.variables().iter().map(ToString::to_string).collect();
    names.sort_unstable();
    let mut program = parsed.expression().clone();
    meter::insert(&mut program);
    Ok(Compiled {
        program,
        kind,
        levels: measured.levels + declarations.levels(&measured.variables),
        names,
        patches: declarations.patches,
    })
}

/// Whether an expression of this type may come to what it has to. What is not known of a type, as opposed to what is known to
/// be of any type (`any`), shows when it is evaluated.
fn check_result(kind: &Kind, any: bool, returns: Returns) -> Result<(), String> {
    let unknown = matches!(kind, Kind::Dyn) && !any;
    let is = |name: &str| kind.simple() == Some(name);
    let (fits, wanted) = match returns {
        Returns::Anything => (true, ""),
        Returns::Bool => (is("bool"), "bool"),
        Returns::Text => (is("string"), "string"),
        Returns::TextOrNull => (is("string") || is("null"), "one of [string null_type]"),
        Returns::Object => (
            matches!(kind, Kind::Struct(name) if &**name == "Object"),
            "Object",
        ),
        Returns::Patches => {
            let fits = match kind {
                Kind::List(element) => match &**element {
                    Kind::Struct(name) => &**name == "JSONPatch",
                    other => matches!(other, Kind::Dyn),
                },
                _ => false,
            };
            (fits, "list(JSONPatch)")
        }
    };
    if fits || unknown {
        return Ok(());
    }
    let got = match kind.describe() {
        null if null == "null" => "null_type".to_owned(),
        other => other,
    };
    Err(format!("must evaluate to {wanted} but got {got}"))
}
