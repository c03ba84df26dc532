//! Costs: what an expression has cost so far, and the places in it where that is counted.
//!
//! The interpreter counts nothing and cannot be interrupted, so an expression counts for itself: [`insert`] puts calls into
//! it that add to a [`Meter`], and fail when that is full. They stand before what they pay for: before the whole, before
//! each turn of a loop, and around what functions go through from end to end. A loop around one that has failed may go
//! on, since `||` and `&&` forgive errors, but pays for no turn more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, operators};
use cel::common::types::{CelBool, CelBytes, CelInt, CelList, CelMap, CelString, DYN_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::requests::patches;
use counter::Meter;

/// Where expressions find their meter; a name that cannot be written.
pub(super) const NAME: &str = "@meter";
/// What is said when the meter is full, in cel-go's words.
pub(super) const EXCEEDED: &str = "operation cancelled: actual cost limit exceeded";
const PAY: &str = "@pay";
const SIZED: &str = "@sized";

/// What asking an authorizer costs: two checks are what one expression may do.
const CHECK: u64 = 350_000;
const LIST: u64 = 10;
const MAP: u64 = 30;
const STRUCT: u64 = 40;
/// How many bytes of text cost one.
const TEXT_PER_ONE: u64 = 10;

/// Functions that go through all of what they are called on, or given.
const SIZED_FUNCTIONS: &str = "_+_ _==_ _!=_ _<_ _<=_ _>_ _>=_ @in contains startsWith endsWith matches find findAll \
    replace split join substring lowerAscii upperAscii trim format reverse indexOf lastIndexOf sum min max isSorted \
    distinct sort flatten slice quantity isQuantity url isURL ip isIP cidr isCIDR containsIP containsCIDR string \
    timestamp duration int double uint bytes intersects equivalent escapeKey validate semver isSemver";

mod counter {
    use super::super::library::opaque;
    use super::{Arc, AtomicU64};

    /// What has been spent, and how much may be.
    #[derive(Clone, Debug)]
    pub(in super::super) struct Meter {
        pub(super) spent: Arc<AtomicU64>,
        pub(super) limit: u64,
    }

    impl PartialEq for Meter {
        fn eq(&self, other: &Self) -> bool {
            Arc::ptr_eq(&self.spent, &other.spent)
        }
    }

    opaque!(Meter, "@meter");
}

pub(super) use counter::Meter as Spending;

// === impl Meter ===

impl Meter {
    /// A meter with nothing spent.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            spent: Arc::default(),
            limit,
        }
    }

    /// What has been spent: more than the limit if that was reached.
    pub(super) fn spent(&self) -> u64 {
        self.spent.load(Ordering::Relaxed)
    }

    /// Whether the limit was reached. What an expression has come to all the same, since something in it forgave the
    /// error, does not count then.
    pub(super) fn is_exceeded(&self) -> bool {
        self.spent() > self.limit
    }

    /// What an expression fails with that has reached the limit.
    pub(super) fn exceeded() -> ExecutionError {
        ExecutionError::function_error(PAY, EXCEEDED)
    }

    fn spend(&self, cost: u64) -> Result<(), ExecutionError> {
        let before = self.spent.fetch_add(cost, Ordering::Relaxed);
        if before.saturating_add(cost) > self.limit {
            return Err(Self::exceeded());
        }
        Ok(())
    }
}

/// Declares what counts.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    let meter = || Meter::cel_type().to_owned();
    let int = CelInt::cel_type().to_owned();
    env.add_overload(PAY, PAY, vec![meter(), int], |arguments| {
        let [meter, cost] = arguments.as_slice() else {
            return Err(ExecutionError::invalid_argument_count(2, arguments.len()));
        };
        let cost = cost.downcast_ref::<CelInt>().map_or(0, |cost| *cost.inner());
        if let Some(meter) = meter.downcast_ref::<Meter>() {
            meter.spend(u64::try_from(cost).unwrap_or_default())?;
        }
        Ok(CowVal::owned(CelBool::from(true)))
    })?;
    env.add_overload(SIZED, SIZED, vec![meter(), DYN_TYPE], |mut arguments| {
        let (Some(value), Some(meter)) = (arguments.pop(), arguments.pop()) else {
            return Err(ExecutionError::MissingArgumentOrTarget);
        };
        if let Some(meter) = meter.downcast_ref::<Meter>() {
            meter.spend(size(value.as_ref()))?;
        }
        Ok(value)
    })
}

fn size(value: &dyn Val) -> u64 {
    let of = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    if let Some(text) = value.downcast_ref::<CelString>() {
        return of(text.inner().len()) / TEXT_PER_ONE;
    }
    if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        return of(bytes.inner().len()) / TEXT_PER_ONE;
    }
    if let Some(list) = value.downcast_ref::<CelList>() {
        return of(list.inner().len());
    }
    value
        .downcast_ref::<CelMap>()
        .map_or(0, |map| of(map.inner().len()))
}

/// Has an expression count what it costs. Patches become calls of the functions that make them.
pub(super) fn insert(expression: &mut IdedExpr) {
    let cost = metered(expression);
    before(expression, cost);
}

/// Has the parts of an expression count what is not known beforehand; answers what the rest costs, once.
fn metered(expression: &mut IdedExpr) -> u64 {
    match &mut expression.expr {
        Expr::Unspecified | Expr::Literal(_) => 0,
        Expr::Ident(_) => 1,
        // A name of several parts is looked up as one, so nothing may come between them.
        Expr::Select(select) => 1 + metered(&mut select.operand),
        Expr::Call(call) => metered_call(call),
        Expr::List(list) => LIST + list.elements.iter_mut().map(metered).sum::<u64>(),
        Expr::Map(map) => {
            MAP + map
                .entries
                .iter_mut()
                .map(|entry| metered_entry(&mut entry.expr))
                .sum::<u64>()
        }
        Expr::Struct(_) => {
            patches::construct(expression);
            STRUCT + metered(expression)
        }
        Expr::Comprehension(comprehension) => {
            let once = metered(&mut comprehension.iter_range)
                + metered(&mut comprehension.accu_init)
                + metered(&mut comprehension.result);
            let turn = 1 + metered(&mut comprehension.loop_cond) + metered(&mut comprehension.loop_step);
            before(body(&mut comprehension.loop_step), turn);
            once
        }
    }
}

fn metered_entry(entry: &mut EntryExpr) -> u64 {
    match entry {
        EntryExpr::StructField(field) => metered(&mut field.value),
        EntryExpr::MapEntry(entry) => metered(&mut entry.key) + metered(&mut entry.value),
    }
}

fn metered_call(call: &mut CallExpr) -> u64 {
    let logical = matches!(
        call.func_name.as_str(),
        operators::LOGICAL_AND | operators::LOGICAL_OR | operators::CONDITIONAL
    );
    let target = call.target.as_mut().map_or(0, |target| metered(target));
    let arguments: u64 = call.args.iter_mut().map(metered).sum();
    let is_check = call.func_name == "check" && call.args.len() == 1;
    if let Some(target) = call.target.as_mut().filter(|_| is_check) {
        before(target, CHECK);
    }
    if SIZED_FUNCTIONS
        .split_whitespace()
        .any(|name| name == call.func_name)
    {
        // What is the first part of a function's name is left alone.
        let target = call.target.as_mut().filter(
            |target| !matches!(&target.expr, Expr::Ident(name) if matches!(name.as_str(), "sets" | "jsonpatch")),
        );
        for part in target
            .map(|target| &mut **target)
            .into_iter()
            .chain(&mut call.args)
        {
            if !matches!(part.expr, Expr::Literal(_)) {
                let value = std::mem::take(part);
                *part = calling(value.id, SIZED, vec![meter(value.id), value]);
            }
        }
    }
    target + arguments + u64::from(!logical)
}

/// What a loop evaluates in each turn, within what the interpreter knows the step by: `result && x`, `result || x`,
/// `x ? step : result`, `result + [x]`.
fn body(step: &mut IdedExpr) -> &mut IdedExpr {
    let place = match &step.expr {
        Expr::Call(call) if call.target.is_none() => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [_, _]) => Some(1),
            (operators::CONDITIONAL, [_, _, _]) => Some(0),
            (operators::ADD, [_, sized]) if appended(sized).is_some() => Some(1),
            _ => None,
        },
        _ => None,
    };
    let Some(place) = place else { return step };
    let Expr::Call(call) = &mut step.expr else {
        unreachable!("it was a call")
    };
    let is_addition = call.func_name == operators::ADD;
    let part = &mut call.args[place];
    if !is_addition {
        return part;
    }
    // What is appended need not be measured, and must be seen to be a list of one.
    if let Expr::Call(sized) = &mut part.expr
        && let Some(list) = sized.args.pop()
    {
        *part = list;
    }
    match &mut part.expr {
        Expr::List(list) => &mut list.elements[0],
        _ => unreachable!("it was a list of one"),
    }
}

/// The one element of a list that has been wrapped to be measured.
fn appended(sized: &IdedExpr) -> Option<&IdedExpr> {
    let list = match &sized.expr {
        Expr::Call(call) if call.func_name == SIZED => &call.args.get(1)?.expr,
        other => other,
    };
    match list {
        Expr::List(ListExpr { elements, .. }) => match elements.as_slice() {
            [one] => Some(one),
            _ => None,
        },
        _ => None,
    }
}

/// Puts a payment before an expression.
fn before(expression: &mut IdedExpr, cost: u64) {
    let value = std::mem::take(expression);
    let id = value.id;
    let cost = LiteralValue::Int(CelInt::from(i64::try_from(cost).unwrap_or(i64::MAX)));
    let pay = calling(id, PAY, vec![meter(id), node(id, Expr::Literal(cost))]);
    let never = node(id, Expr::Literal(LiteralValue::Null));
    *expression = calling(id, operators::CONDITIONAL, vec![pay, value, never]);
}

fn meter(id: u64) -> IdedExpr {
    node(id, Expr::Ident(NAME.to_owned()))
}

fn node(id: u64, expr: Expr) -> IdedExpr {
    IdedExpr { id, expr }
}

/// A call of a function that is no method.
pub(super) fn calling(id: u64, function: &str, args: Vec<IdedExpr>) -> IdedExpr {
    let call = CallExpr {
        func_name: function.to_owned(),
        target: None,
        args,
    };
    node(id, Expr::Call(call))
}
