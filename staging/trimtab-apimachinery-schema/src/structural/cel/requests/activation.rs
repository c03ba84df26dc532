//! A request as expressions see it, and evaluating them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use cel::common::types::{CelBool, CelNull, CelString};
use cel::common::value::Val;
use cel::{Context, ExecutionError, Value as CelValue};
use serde_json::Value;

use super::super::library::authorizers::{Asker, Authorizer};
use super::super::meter::{self, Spending};
use super::super::{room, rule, value};
use super::expression::{Compiled, Expression, Output, Returns};
use super::shared::{Shared, Variables};
use super::{COST_OF_ONE, Composition, patches};

/// What the names of expressions stand for.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `object`: the object as it shall be; null when there is none.
    pub object: &'a Value,
    /// `oldObject`: the object as it is; null when there is none.
    pub old_object: &'a Value,
    /// `request`: an `AdmissionRequest` of admission.k8s.io/v1 without its objects.
    pub request: &'a Value,
    /// `params`: null when there are none.
    pub params: &'a Value,
    /// `namespaceObject`: the namespace of the object; null when it is in none.
    pub namespace: &'a Value,
    /// `authorizer`: whom to ask what the user of the request may do.
    pub authorizer: &'a Arc<dyn Authorizer>,
}

/// The names that have values, those of variables apart.
const NAMES: [&str; 7] = [
    "object",
    "oldObject",
    "request",
    "params",
    "namespaceObject",
    "authorizer",
    "authorizer.requestResource",
];

/// Why an expression has come to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvaluationError {
    /// It cannot be compiled or evaluated, for this reason in kube-apiserver's words.
    Failed(String),
    /// It has cost more than was left.
    OutOfBudget,
}

impl fmt::Display for EvaluationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => f.write_str(why),
            Self::OutOfBudget => f.write_str(rule::OUT_OF_BUDGET),
        }
    }
}

/// A request, for the expressions of one policy. The values that they look at are made once, whoever looks first.
#[derive(Debug)]
pub struct Activation<'a> {
    inputs: Inputs<'a>,
    scope: Arc<Scope>,
}

/// What the variables of a policy need, and what has become of them.
#[derive(Debug)]
pub(super) struct Scope {
    /// By name, in order.
    expressions: Arc<Vec<(String, Expression)>>,
    /// The values of [`NAMES`] that have been needed.
    values: [OnceLock<Shared>; NAMES.len()],
    variables: Vec<OnceLock<Result<Shared, String>>>,
    /// What evaluating variables has cost since that was last asked.
    cost: AtomicU64,
}

impl<'a> Activation<'a> {
    /// A request for the expressions of `composition`.
    pub fn new(composition: &Composition, inputs: Inputs<'a>) -> Self {
        let scope = Scope {
            values: Default::default(),
            variables: composition.variables.iter().map(|_| OnceLock::new()).collect(),
            cost: AtomicU64::new(0),
            expressions: Arc::clone(&composition.variables),
        };
        Self {
            inputs,
            scope: Arc::new(scope),
        }
    }

    /// Evaluates an expression; what it and the variables cost that it is the first to look at is taken off `budget`.
    ///
    /// # Errors
    ///
    /// When that cannot be done, or not within the budget.
    pub fn evaluate(&self, expression: &Expression, budget: &mut u64) -> Result<Output, EvaluationError> {
        let compiled = expression
            .compiled()
            .map_err(|fault| EvaluationError::Failed(format!("compilation error: {fault}")))?;
        self.prepare(compiled);
        let end = self.scope.variables.len();
        let ran = room::with_room(compiled.levels, || self.scope.run(compiled, end));
        let (result, cost) = ran.map_err(EvaluationError::Failed)?;
        let variables = self.scope.cost.swap(0, Ordering::Relaxed);
        let left = budget.checked_sub(variables.saturating_add(cost));
        *budget = left.unwrap_or_default();
        if left.is_none() {
            return Err(EvaluationError::OutOfBudget);
        }
        let failed = |why: String| {
            let text = expression.text();
            EvaluationError::Failed(format!("expression '{text}' resulted in error: {why}"))
        };
        let value = result.map_err(|error| failed(rule::explain(&error)))?;
        output(&*value, expression.returns()).map_err(|why| match expression.returns() {
            Returns::Object | Returns::Patches => EvaluationError::Failed(why),
            _ => failed(why),
        })
    }

    /// Makes the values of the names that an expression, or the variables it may look at, use.
    fn prepare(&self, compiled: &Compiled) {
        self.make(&compiled.names);
        if compiled.uses("variables") {
            for (_, variable) in self.scope.expressions.iter() {
                if let Ok(variable) = variable.compiled() {
                    self.make(&variable.names);
                }
            }
        }
    }

    fn make(&self, names: &[String]) {
        for (name, value) in NAMES.iter().zip(&self.scope.values) {
            // The second name of the authorizer is written as a field of the first.
            let root = name.split('.').next();
            if names.iter().any(|used| Some(used.as_str()) == root) {
                value.get_or_init(|| self.value(name));
            }
        }
    }

    fn value(&self, name: &str) -> Shared {
        let inputs = &self.inputs;
        let asker = || Asker::new(Arc::clone(inputs.authorizer));
        let text = |pointer: &str| {
            let found = inputs.request.pointer(pointer);
            found.and_then(Value::as_str).unwrap_or_default()
        };
        let of = match name {
            "object" => inputs.object,
            "oldObject" => inputs.old_object,
            "request" => inputs.request,
            "params" => inputs.params,
            "namespaceObject" => inputs.namespace,
            "authorizer" => return Shared(Arc::new(asker())),
            _ => {
                let about = asker().about(
                    text("/requestResource/group"),
                    text("/requestResource/resource"),
                    text("/requestSubResource"),
                    text("/namespace"),
                    text("/name"),
                );
                return Shared(Arc::new(about));
            }
        };
        Shared(value::owned(of).into())
    }
}

impl Scope {
    /// Evaluates an expression that may look at the variables before `end`; answers what it has cost, too.
    fn run(self: &Arc<Self>, compiled: &Compiled, end: usize) -> (Result<Box<dyn Val>, ExecutionError>, u64) {
        let meter = Spending::new(COST_OF_ONE);
        let mut context: Context<'_, 'static> = Context::with_env(Arc::clone(compiled.env()));
        for (name, value) in NAMES.iter().zip(&self.values) {
            if let Some(value) = value.get() {
                context.add_variable_as_val(*name, Box::new(value.clone()));
            }
        }
        let variables = Variables {
            scope: Arc::downgrade(self),
            end,
        };
        context.add_variable_as_val("variables", Box::new(variables));
        context.add_variable_as_val(meter::NAME, Box::new(meter.clone()));
        let result =
            CelValue::resolve_val(&compiled.program, &context).map(cel::common::value::CowVal::into_owned);
        let result = match meter.is_exceeded() {
            true => Err(Spending::exceeded()),
            false => result,
        };
        (result, meter.spent())
    }

    /// The value of the last variable of that name among those before `end`.
    pub(super) fn variable<'s>(
        self: &'s Arc<Self>,
        name: &str,
        end: usize,
    ) -> Result<&'s Shared, ExecutionError> {
        let all = &self.expressions;
        let place = all.iter().take(end).rposition(|(known, _)| known == name);
        let found = place.and_then(|place| Some((place, all.get(place)?, self.variables.get(place)?)));
        let Some((place, (_, expression), cell)) = found else {
            return Err(ExecutionError::no_such_key(name));
        };
        let value = cell.get_or_init(|| {
            let compiled = expression
                .compiled()
                .map_err(|fault| format!("composited variable {name:?} fails to compile: {fault}"))?;
            let (result, cost) = self.run(compiled, place);
            self.cost.fetch_add(cost, Ordering::Relaxed);
            let failed = |error| {
                format!(
                    "composited variable {name:?} fails to evaluate: {}",
                    rule::explain(&error)
                )
            };
            result.map(|value| Shared(value.into())).map_err(failed)
        });
        value
            .as_ref()
            .map_err(|why| ExecutionError::function_error("variables", why))
    }
}

/// A value as what it has to be; of conditions and messages this is for the caller to judge.
fn output(value: &dyn Val, returns: Returns) -> Result<Output, String> {
    match returns {
        Returns::Object => return patches::configuration(value).map(Output::Json),
        Returns::Patches => return patches::operations(value).map(Output::Json),
        _ => {}
    }
    let output = if let Some(flag) = value.downcast_ref::<CelBool>() {
        Output::Bool(*flag.inner())
    } else if let Some(text) = value.downcast_ref::<CelString>() {
        Output::Text(text.inner().to_owned())
    } else if value.downcast_ref::<CelNull>().is_some() {
        Output::Null
    } else {
        Output::Other(value.get_type().name().to_owned())
    };
    match (returns, output) {
        (Returns::Bool, Output::Bool(flag)) => Ok(Output::Bool(flag)),
        (Returns::Bool, other) => Err(format!("must evaluate to bool but got {}", other.type_name())),
        (_, output) => Ok(output),
    }
}

impl Output {
    /// The name of its type.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Bool(_) => "bool",
            Self::Text(_) => "string",
            Self::Null => "null_type",
            Self::Json(_) => "dyn",
            Self::Other(name) => name,
        }
    }
}
