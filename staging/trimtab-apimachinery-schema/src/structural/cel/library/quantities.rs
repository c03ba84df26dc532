//! Quantities, as `1.5Gi`.

use std::cmp::Ordering;

use cel::common::types::{CelBool, CelDouble, CelInt, CelString};
use cel::{DeclarationError, Env, ExecutionError};
use trimtab_apimachinery_meta::quantity::Quantity;

use super::opaque;

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    cel::add_overload!(env, fn quantity: (CelString) -> Result<Amount>)?;
    cel::add_overload!(env, fn is_quantity: (CelString) -> CelBool)?;
    cel::add_member_overload!(env, fn sign: (Amount) -> CelInt)?;
    cel::add_member_overload!(env, fn is_greater_than: (Amount, Amount) -> CelBool)?;
    cel::add_member_overload!(env, fn is_less_than: (Amount, Amount) -> CelBool)?;
    cel::add_member_overload!(env, fn compare_to: (Amount, Amount) -> CelInt)?;
    cel::add_member_overload!(env, fn as_approximate_float: (Amount) -> CelDouble)?;
    cel::add_member_overload!(env, fn as_integer: (Amount) -> Result<CelInt>)?;
    cel::add_member_overload!(env, fn is_integer: (Amount) -> CelBool)?;
    cel::add_member_overload!(env, fn add: (Amount, Amount) -> Amount)?;
    cel::add_member_overload!(env, fn add_int: (Amount, CelInt) -> Amount, name = "add")?;
    cel::add_member_overload!(env, fn sub: (Amount, Amount) -> Amount)?;
    cel::add_member_overload!(env, fn sub_int: (Amount, CelInt) -> Amount, name = "sub")
}

/// A quantity among CEL's values.
#[derive(Clone, Debug, PartialEq)]
struct Amount(Quantity);

opaque!(Amount, "kubernetes.Quantity");

fn quantity(text: &CelString<'_>) -> Result<Amount, ExecutionError> {
    text.inner()
        .parse()
        .map(Amount)
        .map_err(|error| ExecutionError::function_error("quantity", error))
}

fn is_quantity(text: &CelString<'_>) -> CelBool {
    CelBool::from(text.inner().parse::<Quantity>().is_ok())
}

fn ordering(order: Ordering) -> CelInt {
    CelInt::from(order as i64)
}

fn sign(this: &Amount) -> CelInt {
    ordering(this.0.cmp(&Quantity::whole(0)))
}

fn is_greater_than(this: &Amount, other: &Amount) -> CelBool {
    CelBool::from(this.0 > other.0)
}

fn is_less_than(this: &Amount, other: &Amount) -> CelBool {
    CelBool::from(this.0 < other.0)
}

fn compare_to(this: &Amount, other: &Amount) -> CelInt {
    ordering(this.0.cmp(&other.0))
}

/// Exact as far as a double is.
fn as_approximate_float(this: &Amount) -> CelDouble {
    let text = this.0.to_string();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024f64,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        exponent => exponent
            .get(1..)
            .and_then(|e| e.parse().ok())
            .map_or(1.0, |e: i32| 10f64.powi(e)),
    };
    CelDouble::from(number.parse::<f64>().unwrap_or_default() * factor)
}

fn whole(this: &Amount) -> Option<i64> {
    let value = this.0.value();
    (Quantity::whole(value) == this.0).then_some(value)
}

fn as_integer(this: &Amount) -> Result<CelInt, ExecutionError> {
    whole(this)
        .map(CelInt::from)
        .ok_or_else(|| ExecutionError::function_error("asInteger", "cannot convert value to integer"))
}

fn is_integer(this: &Amount) -> CelBool {
    CelBool::from(whole(this).is_some())
}

fn add(this: &Amount, other: &Amount) -> Amount {
    Amount(this.0 + other.0)
}

fn add_int(this: &Amount, other: &CelInt) -> Amount {
    Amount(this.0 + Quantity::whole(*other.inner()))
}

fn sub(this: &Amount, other: &Amount) -> Amount {
    Amount(this.0 - other.0)
}

fn sub_int(this: &Amount, other: &CelInt) -> Amount {
    Amount(this.0 - Quantity::whole(*other.inner()))
}
