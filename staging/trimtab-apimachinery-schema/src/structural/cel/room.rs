//! How deep expressions are nested, and room for it.
//!
//! The parser, the checker and the interpreter go down one frame, or several, for each level. What is deeper than usual is given
//! a stack of its own; what is deeper than cel-go takes is refused. Of brackets the parser takes fewer.

use std::thread;

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};

/// How deep an expression may be (`maxRecursionDepth` of cel-go).
const DEEPEST: usize = 250;
/// How deep an expression may be together with the variables that it looks at; so much room can be had.
const DEEPEST_OF_ALL: usize = 1024;
/// What goes on the stack that is there; builds that are not optimized take much more of it.
const USUAL: usize = if cfg!(debug_assertions) { 3 } else { 24 };
/// Room for one level, in bytes.
const LEVEL: usize = if cfg!(debug_assertions) {
    512 << 10
} else {
    64 << 10
};
/// What is said of what is too deep, in cel-go's words.
const TOO_DEEP: &str = "ERROR: <input>:-1:0: max recursion depth exceeded";

/// What matters of an expression to those that look at it.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// How deep it is.
    pub(super) levels: usize,
    /// The variables of the policy that it names.
    pub(super) variables: Vec<String>,
}

/// Does something that goes so many levels deep.
///
/// # Errors
///
/// A text when there is no room for it.
pub(super) fn with_room<T: Send>(levels: usize, work: impl FnOnce() -> T + Send) -> Result<T, String> {
    if levels <= USUAL {
        return Ok(work());
    }
    if levels > DEEPEST_OF_ALL {
        return Err(TOO_DEEP.to_owned());
    }
    thread::scope(|scope| {
        let stack = thread::Builder::new().stack_size(levels * LEVEL);
        let done = stack
            .spawn_scoped(scope, work)
            .ok()
            .map(thread::ScopedJoinHandle::join);
        match done {
            Some(Ok(done)) => Ok(done),
            Some(Err(_)) | None => Err("there is no room to go so deep".to_owned()),
        }
    })
}

/// How deep the parser may have to go, at most.
pub(super) fn of_text(text: &str) -> usize {
    let deeper = |byte: &u8| b"([{!-+*/%?<>=.,".contains(byte);
    let levels = text.bytes().filter(|byte| deeper(byte)).count();
    // What is flat may be long; only what opens something has to be closed.
    let opened = text.bytes().filter(|byte| b"([{!-".contains(byte)).count();
    if opened > DEEPEST_OF_ALL {
        return opened;
    }
    levels.min(DEEPEST_OF_ALL)
}

/// Measures an expression.
///
/// # Errors
///
/// A text when it is too deep.
pub(super) fn measure(expression: &IdedExpr) -> Result<Measured, String> {
    let mut measured = Measured::default();
    go_down(expression, 1, &mut measured);
    if measured.levels > DEEPEST {
        return Err(TOO_DEEP.to_owned());
    }
    Ok(measured)
}

fn go_down(expression: &IdedExpr, level: usize, measured: &mut Measured) {
    measured.levels = measured.levels.max(level);
    let mut below = |part: &IdedExpr| go_down(part, level + 1, measured);
    match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select(select) => {
            below(&select.operand);
            note(&select.operand, &select.field, measured);
        }
        Expr::Call(call) => {
            call.target.iter().for_each(|target| below(target));
            call.args.iter().for_each(below);
            if let (operators::OPT_SELECT, [of, field]) = (call.func_name.as_str(), call.args.as_slice())
                && let Expr::Literal(LiteralValue::String(field)) = &field.expr
            {
                note(of, field.inner(), measured);
            }
        }
        Expr::List(list) => list.elements.iter().for_each(below),
        Expr::Map(map) => map
            .entries
            .iter()
            .for_each(|entry| parts(&entry.expr, &mut below)),
        Expr::Struct(made) => made
            .entries
            .iter()
            .for_each(|entry| parts(&entry.expr, &mut below)),
        Expr::Comprehension(comprehension) => {
            for part in [
                &comprehension.iter_range,
                &comprehension.accu_init,
                &comprehension.loop_cond,
                &comprehension.loop_step,
                &comprehension.result,
            ] {
                below(part);
            }
        }
    }
}

fn parts(entry: &EntryExpr, below: &mut impl FnMut(&IdedExpr)) {
    match entry {
        EntryExpr::StructField(field) => below(&field.value),
        EntryExpr::MapEntry(entry) => {
            below(&entry.key);
            below(&entry.value);
        }
    }
}

/// Notes a variable if that is what is selected.
fn note(of: &IdedExpr, field: &str, measured: &mut Measured) {
    if matches!(&of.expr, Expr::Ident(name) if name == "variables") {
        measured.variables.push(field.to_owned());
    }
}
