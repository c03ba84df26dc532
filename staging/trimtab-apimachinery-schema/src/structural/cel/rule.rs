//! One rule: compiled once, evaluated for each value.

use std::sync::Arc;

use cel::common::types::{CelBool, CelOptional, CelString};
use cel::common::value::{CowVal, Val};
use cel::{Context, Env, ExecutionError, IdedExpr, Program, Value as CelValue};
use trimtab_apimachinery_meta::field::FieldPath;

use super::budget::Budget;
use super::meter::{self, Spending};
use super::requests::COST_OF_ONE;
use super::{depth, library, path, room};
use crate::Schema;
use crate::schema;

/// How long a computed message may be, in bytes (`MaxEvaluatedMessageExpressionSizeBytes`).
const MESSAGE_LIMIT: usize = 5 << 10;

/// A rule that can be evaluated, or why it cannot.
#[derive(Debug)]
pub(super) struct Rule {
    program: Result<IdedExpr, String>,
    message_expression: Option<IdedExpr>,
    /// How deep the expressions are.
    pub(super) levels: usize,
    /// Whether it looks at the value at all.
    pub(super) uses_self: bool,
    /// Whether it compares with the old value, and so applies to updates only.
    pub(super) uses_old_self: bool,
    /// The blamed field, below the value.
    field_path: FieldPath,
    pub(super) stated: schema::Rule,
}

/// What came of evaluating a rule.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It holds.
    Holds,
    /// It does not, and this is what to say.
    Fails(String),
    /// It does not, and finding out what to say has cost too much, for this reason: no further rules are evaluated.
    FailsCostly(String),
    /// It could not be evaluated, for this reason.
    Broken(String),
    /// It has cost too much, for this reason: no further rules are evaluated.
    Costly(String),
}

/// Compiles an expression; the error is worded as kube-apiserver's compiler words it.
///
/// What is so deep that it may not have room on the stack that is there is refused: it is evaluated for every object.
pub(super) fn compile(expression: &str) -> Result<Program, String> {
    if depth::is_too_deep(expression) {
        let most = depth::MOST_LEVELS;
        return Err(format!(
            "compilation failed: ERROR: <input>:-1:0: expression recursion limit exceeded: {most}"
        ));
    }
    compile_in(library::env(), expression)
}

/// As [`compile`], with the functions of that environment, where there is room for any depth (`requests::depth`).
pub(super) fn compile_in(env: &Env, expression: &str) -> Result<Program, String> {
    env.compile(expression).map_err(|errors| {
        let errors = errors.to_string();
        if errors.contains("Recursion limit of 96 exceeded") {
            let limit = "compilation failed: ERROR: <input>:-1:0: expression recursion limit exceeded: 96";
            return limit.to_owned();
        }
        format!("compilation failed: {}", errors.replace("\n| ", "\n | "))
    })
}

impl Rule {
    pub(super) fn new(rule: &schema::Rule, schema: &Arc<Schema>) -> Self {
        let program = compile(&rule.rule);
        let refers_to = |name: &str| {
            program
                .as_ref()
                .is_ok_and(|program| program.references().has_variable(name))
        };
        let mut levels = 0;
        let mut metered = |program: &Program| {
            levels = levels.max(room::measure(program.expression())?.levels);
            let mut expression = program.expression().clone();
            meter::insert(&mut expression);
            Ok(expression)
        };
        let message_expression =
            Some(rule.message_expression.as_str()).filter(|text| !text.trim().is_empty());
        Self {
            uses_self: refers_to("self"),
            uses_old_self: refers_to("oldSelf"),
            program: program.as_ref().map_err(Clone::clone).and_then(&mut metered),
            message_expression: message_expression.and_then(|text| metered(&compile(text).ok()?).ok()),
            levels,
            field_path: path::resolve(rule.field_path.trim(), schema).unwrap_or_default(),
            stated: rule.clone(),
        }
    }

    /// Whether the rule applies, given whether there is an old value.
    pub(super) fn applies(&self, has_old: bool) -> bool {
        has_old || !self.uses_old_self || self.stated.optional_old_self
    }

    /// Evaluates the rule within the budget. The values are cheap to make, and made for each rule anew.
    pub(super) fn evaluate<'v>(
        &self,
        new: &dyn Fn() -> Box<dyn Val + 'v>,
        old: Option<&dyn Fn() -> Box<dyn Val + 'v>>,
        budget: &mut Budget,
    ) -> Verdict {
        let program = match &self.program {
            Ok(program) => program,
            Err(error) => return Verdict::Broken(format!("rule compile error: {error}")),
        };
        let context = |optional: bool| {
            let mut context = Context::with_env(Arc::clone(library::env()));
            context.add_variable_as_val("self", new());
            match (old, optional) {
                (old, true) => {
                    let old = old.map_or_else(CelOptional::none, |old| CelOptional::of(old()));
                    context.add_variable_as_val("oldSelf", Box::new(old));
                }
                (Some(old), false) if self.uses_old_self => context.add_variable_as_val("oldSelf", old()),
                _ => {}
            }
            context
        };
        let (result, spending) = run(program, context(self.stated.optional_old_self), |result| {
            result.map(|value| value.downcast_ref::<CelBool>().is_some_and(|flag| *flag.inner()))
        });
        if !budget.take(spending.spent()) {
            return Verdict::Costly(OUT_OF_BUDGET.to_owned());
        }
        if spending.is_exceeded() {
            return Verdict::Costly(format!(
                "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                meter::EXCEEDED,
                self.name()
            ));
        }
        match result {
            Ok(true) => Verdict::Holds,
            Ok(false) => self.message(context(false), budget),
            Err(error) => Verdict::Broken(self.explain(&error)),
        }
    }

    /// What to say of a rule that does not hold; a message that cannot be computed is replaced by the plain one.
    fn message(&self, context: Context<'_, '_>, budget: &mut Budget) -> Verdict {
        let computed = self.message_expression.as_ref().map(|program| {
            run(program, context, |result| {
                let value = result.ok()?;
                let text = value.downcast_ref::<CelString>()?.inner().trim();
                let fits = !text.is_empty() && text.len() <= MESSAGE_LIMIT && !text.contains('\n');
                fits.then(|| text.to_owned())
            })
        });
        let text = match computed {
            Some((_, spending)) if !budget.take(spending.spent()) => {
                return Verdict::FailsCostly(MESSAGE_OUT_OF_BUDGET.to_owned());
            }
            Some((_, spending)) if spending.is_exceeded() => {
                return Verdict::FailsCostly(format!(
                    "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                    self.stated.message_expression
                ));
            }
            Some((text, _)) => text,
            None => None,
        };
        Verdict::Fails(text.unwrap_or_else(|| match self.stated.message.as_str() {
            "" => format!("failed rule: {}", self.stated.rule.trim()),
            message => message.trim().to_owned(),
        }))
    }

    /// The field that is blamed for a value that is at this path.
    pub(super) fn blamed(&self, path: &FieldPath) -> FieldPath {
        match self.field_path.as_str() {
            "" => path.clone(),
            below => path.child(below),
        }
    }

    /// What errors call the rule: its message, or itself.
    pub(super) fn name(&self) -> &str {
        match self.stated.message.trim() {
            "" => self.stated.rule.trim(),
            message => message,
        }
    }

    fn explain(&self, error: &ExecutionError) -> String {
        let name = self.name();
        let text = explain(error);
        if text == NO_OVERLOAD {
            return format!(
                "'no such overload': call arguments did not match a supported operator, function or macro \
                 signature for rule: {name}"
            );
        }
        format!("{text} evaluating rule: {name}")
    }
}

/// Runs a program, and looks at what comes of it.
fn run<T>(
    program: &IdedExpr,
    mut context: Context<'_, '_>,
    look: impl FnOnce(Result<CowVal<'_, '_>, ExecutionError>) -> T,
) -> (T, Spending) {
    let spending = Spending::new(COST_OF_ONE);
    context.add_variable_as_val(meter::NAME, Box::new(spending.clone()));
    (look(CelValue::resolve_val(program, &context)), spending)
}

const NO_OVERLOAD: &str = "no such overload";
/// What is said of rules that have cost all that rules may for one object.
pub(super) const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";
const MESSAGE_OUT_OF_BUDGET: &str = "messageExpression evaluation failed due to running out of cost budget, no further \
                                     validation rules will be run";

/// Why an expression cannot be evaluated, in the words of kube-apiserver's interpreter.
pub(super) fn explain(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchOverload(_) | ExecutionError::UnsupportedBinaryOperator(..) => {
            NO_OVERLOAD.to_owned()
        }
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::UndeclaredReference(reference) => format!("no such attribute(s): {reference}"),
        ExecutionError::IndexOutOfBounds(CelValue::Int(index)) => format!("index out of bounds: {index}"),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::Overflow(..) => "integer overflow".to_owned(),
        ExecutionError::FunctionError { function, message } if message.starts_with("string parse error") => {
            format!("type conversion error from 'string' to '{function}'")
        }
        ExecutionError::FunctionError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}
