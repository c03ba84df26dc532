//! Kubernetes' list functions, and CEL's sets.

use std::cmp::Ordering;

use cel::common::types::{CelBool, CelInt, CelList, CelOptional, DYN_TYPE, LIST_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::argument;

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    let list = || LIST_TYPE;
    env.add_member_overload("isSorted", "list_is_sorted_bool", list(), vec![], is_sorted)?;
    env.add_member_overload("sum", "list_sum", list(), vec![], sum)?;
    env.add_member_overload("min", "list_min", list(), vec![], min)?;
    env.add_member_overload("max", "list_max", list(), vec![], max)?;
    env.add_member_overload("indexOf", "list_a_index_of_int", list(), vec![DYN_TYPE], index_of)?;
    env.add_member_overload(
        "lastIndexOf",
        "list_a_last_index_of_int",
        list(),
        vec![DYN_TYPE],
        last_index_of,
    )?;
    env.add_member_overload("first", "list_first", list(), vec![], first)?;
    env.add_member_overload("last", "list_last", list(), vec![], last)?;
    let two = || vec![LIST_TYPE, LIST_TYPE];
    env.add_overload("sets.contains", "list_sets_contains_list", two(), contains)?;
    env.add_overload("sets.equivalent", "list_sets_equivalent_list", two(), equivalent)?;
    env.add_overload("sets.intersects", "list_sets_intersects_list", two(), intersects)
}

type Item<'v> = Box<dyn Val + 'v>;

fn items<'a, 'v>(arguments: &'a [CowVal<'_, 'v>], index: usize) -> Result<&'a [Item<'v>], ExecutionError> {
    let list = arguments
        .get(index)
        .ok_or_else(ExecutionError::missing_argument_or_target)?;
    Ok(argument::<CelList<'v>>(&**list)?.inner())
}

fn compare(a: &dyn Val, b: &dyn Val) -> Result<Ordering, ExecutionError> {
    match a.as_comparer() {
        Some(comparer) => comparer.compare(b),
        None => Err(ExecutionError::no_such_overload(
            "_<_",
            vec![a.get_type().name().to_owned(), b.get_type().name().to_owned()],
        )),
    }
}

fn is_sorted<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let items = items(&arguments, 0)?;
    for (a, b) in items.iter().zip(items.iter().skip(1)) {
        if compare(a.as_ref(), b.as_ref())?.is_gt() {
            return Ok(CowVal::owned(CelBool::from(false)));
        }
    }
    Ok(CowVal::owned(CelBool::from(true)))
}

fn sum<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let items = items(&arguments, 0)?;
    let mut total: Option<Item<'v>> = None;
    for item in items {
        total = Some(match total {
            None => item.clone(),
            Some(total) => match total.as_adder() {
                Some(adder) => adder.add(item.as_ref())?.into_owned(),
                None => return Err(unsupported("sum", total.as_ref())),
            },
        });
    }
    Ok(CowVal::Owned(total.unwrap_or_else(|| Box::new(CelInt::from(0)))))
}

fn unsupported(function: &str, value: &dyn Val) -> ExecutionError {
    ExecutionError::no_such_member_overload(function, vec![value.get_type().name().to_owned()])
}

/// The item that comes first in an order; an empty list has none.
fn extreme<'b, 'v>(
    arguments: &[CowVal<'b, 'v>],
    function: &str,
    wanted: Ordering,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let mut found: Option<&Item<'v>> = None;
    for item in items(arguments, 0)? {
        found = match found {
            Some(best) if compare(item.as_ref(), best.as_ref())? != wanted => Some(best),
            _ => Some(item),
        };
    }
    match found {
        Some(item) => Ok(CowVal::Owned(item.clone())),
        None => Err(ExecutionError::function_error(
            function,
            format!("{function} called on empty list"),
        )),
    }
}

fn min<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    extreme(&arguments, "min", Ordering::Less)
}

fn max<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    extreme(&arguments, "max", Ordering::Greater)
}

fn needle<'a, 'b, 'v>(arguments: &'a [CowVal<'b, 'v>]) -> Result<&'a CowVal<'b, 'v>, ExecutionError> {
    arguments
        .get(1)
        .ok_or_else(ExecutionError::missing_argument_or_target)
}

fn position<'b, 'v>(index: Option<usize>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let index = index.and_then(|i| i64::try_from(i).ok()).unwrap_or(-1);
    Ok(CowVal::owned(CelInt::from(index)))
}

fn index_of<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let wanted = needle(&arguments)?;
    position(
        items(&arguments, 0)?
            .iter()
            .position(|item| item.equals(wanted.as_ref())),
    )
}

fn last_index_of<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let wanted = needle(&arguments)?;
    position(
        items(&arguments, 0)?
            .iter()
            .rposition(|item| item.equals(wanted.as_ref())),
    )
}

fn optional<'b, 'v>(item: Option<&Item<'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let item = item.map_or_else(CelOptional::none, |item| CelOptional::of(item.clone()));
    Ok(CowVal::owned(item))
}

fn first<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    optional(items(&arguments, 0)?.first())
}

fn last<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    optional(items(&arguments, 0)?.last())
}

fn has(items: &[Item<'_>], wanted: &Item<'_>) -> bool {
    items.iter().any(|item| item.equals(wanted.as_ref()))
}

fn contains<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (all, some) = (items(&arguments, 0)?, items(&arguments, 1)?);
    Ok(CowVal::owned(CelBool::from(
        some.iter().all(|item| has(all, item)),
    )))
}

fn equivalent<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (a, b) = (items(&arguments, 0)?, items(&arguments, 1)?);
    let same = a.iter().all(|item| has(b, item)) && b.iter().all(|item| has(a, item));
    Ok(CowVal::owned(CelBool::from(same)))
}

fn intersects<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (a, b) = (items(&arguments, 0)?, items(&arguments, 1)?);
    Ok(CowVal::owned(CelBool::from(a.iter().any(|item| has(b, item)))))
}
