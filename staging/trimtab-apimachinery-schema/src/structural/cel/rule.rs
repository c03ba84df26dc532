//! One rule: compiled once, evaluated for each value.

use std::sync::Arc;

use cel::common::types::CelOptional;
use cel::common::value::Val;
use cel::{Context, Env, ExecutionError, Program, Value as CelValue};
use trimtab_apimachinery_meta::field::FieldPath;

use super::depth;
use super::library;
use super::path;
use crate::Schema;
use crate::schema;

/// How long a computed message may be, in bytes (`MaxEvaluatedMessageExpressionSizeBytes`).
const MESSAGE_LIMIT: usize = 5 << 10;

/// A rule that can be evaluated, or why it cannot.
#[derive(Debug)]
pub(super) struct Rule {
    program: Result<Program, String>,
    message_expression: Option<Program>,
    /// Whether it looks at the value at all.
    pub(super) uses_self: bool,
    /// Whether it compares with the old value, and so applies to updates only.
    pub(super) uses_old_self: bool,
    /// The blamed field, below the value.
    pub(super) field_path: FieldPath,
    pub(super) stated: schema::Rule,
}

/// What came of evaluating a rule.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It holds.
    Holds,
    /// It does not, and this is what to say.
    Fails(String),
    /// It could not be evaluated, for this reason.
    Broken(String),
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
        let message_expression =
            Some(rule.message_expression.as_str()).filter(|text| !text.trim().is_empty());
        Self {
            uses_self: refers_to("self"),
            uses_old_self: refers_to("oldSelf"),
            program,
            message_expression: message_expression.and_then(|text| compile(text).ok()),
            field_path: path::resolve(rule.field_path.trim(), schema).unwrap_or_default(),
            stated: rule.clone(),
        }
    }

    /// Whether the rule applies, given whether there is an old value.
    pub(super) fn applies(&self, has_old: bool) -> bool {
        has_old || !self.uses_old_self || self.stated.optional_old_self
    }

    /// Evaluates the rule. The values are cheap to make, and made for each rule anew.
    pub(super) fn evaluate<'v>(
        &self,
        new: &dyn Fn() -> Box<dyn Val + 'v>,
        old: Option<&dyn Fn() -> Box<dyn Val + 'v>>,
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
        match program.execute(&context(self.stated.optional_old_self)) {
            Ok(CelValue::Bool(true)) => Verdict::Holds,
            Ok(_) => Verdict::Fails(self.message(&context(false))),
            Err(error) => Verdict::Broken(self.explain(&error)),
        }
    }

    /// What to say of a rule that does not hold; a message that cannot be computed is replaced by the plain one.
    fn message(&self, context: &Context<'_, '_>) -> String {
        if let Some(program) = &self.message_expression
            && let Ok(CelValue::String(text)) = program.execute(context)
        {
            let text = text.trim();
            if !text.is_empty() && text.len() <= MESSAGE_LIMIT && !text.contains('\n') {
                return text.to_owned();
            }
        }
        if self.stated.message.is_empty() {
            format!("failed rule: {}", self.stated.rule.trim())
        } else {
            self.stated.message.trim().to_owned()
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

const NO_OVERLOAD: &str = "no such overload";

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
