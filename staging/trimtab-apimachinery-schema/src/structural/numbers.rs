//! Bounds and ranges of numbers.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::outcome::{Fault, Outcome};
use super::validate::is_integer;
use crate::Schema;
use crate::go;
use crate::schema::{Checks, Type};

pub(super) fn check(
    schema: &Schema,
    format: &str,
    checks: Option<&Checks>,
    new: &Value,
    name: &str,
) -> Outcome {
    let mut all = Outcome {
        checks: 1,
        ..Outcome::default()
    };
    let Value::Number(number) = new else { return all };
    let fits = |what: &str, number: &Number| in_range(schema, format, what, number, name);
    all.faults.extend(fits("Checked", number));
    let Some(checks) = checks else { return all };
    // Whole numbers are compared as such, with bounds that are of their type too.
    let whole = |all: &mut Outcome, what: &str, bound: &Number| {
        let fault = fits(what, bound);
        let pair = number.as_i64().zip(truncated(bound)).filter(|_| fault.is_none());
        fault.into_iter().for_each(|fault| all.add(fault));
        pair
    };
    let text_of = |whole: Option<(i64, i64)>, bound: &Number| match whole {
        Some((_, bound)) => bound.to_string(),
        None => go::float(float(bound)),
    };
    if let Some(factor) = &checks.multiple_of {
        let pair = whole(&mut all, "MultipleOf", factor);
        let text = text_of(pair, factor);
        let multiple = match pair {
            Some((number, factor)) => (factor > 0).then(|| number % factor == 0),
            None => is_multiple(float(number), float(factor)),
        };
        match multiple {
            None => {
                let text = format!("factor MultipleOf declared for {name} must be positive: {text}");
                let shown = pair.map_or_else(|| factor.clone(), |(_, factor)| factor.into());
                all.add(Fault::stated(name, shown, text));
            }
            Some(true) => {}
            Some(false) => {
                let text = format!("should be a multiple of {text}");
                all.add(Fault::invalid(name, new.clone(), &text));
            }
        }
    }
    let bounds = [
        (
            &checks.minimum,
            checks.exclusive_minimum,
            "Minimum boundary",
            Ordering::Less,
        ),
        (
            &checks.maximum,
            checks.exclusive_maximum,
            "Maximum boundary",
            Ordering::Greater,
        ),
    ];
    for (bound, exclusive, what, beyond) in bounds {
        let Some(bound) = bound else { continue };
        let pair = whole(&mut all, what, bound);
        let order = match pair {
            Some((number, bound)) => number.cmp(&bound),
            None => float(number).total_cmp(&float(bound)),
        };
        if order == beyond || (exclusive && order.is_eq()) {
            let relation = if beyond.is_lt() {
                "greater than"
            } else {
                "less than"
            };
            let or_equal = if exclusive { "" } else { " or equal to" };
            let text = format!("should be {relation}{or_equal} {}", text_of(pair, bound));
            all.add(Fault::invalid(name, new.clone(), &text));
        }
    }
    all
}

fn float(number: &Number) -> f64 {
    number.as_f64().unwrap_or_default()
}

#[allow(clippy::cast_possible_truncation, reason = "the fraction is what is to go")]
fn truncated(bound: &Number) -> Option<i64> {
    bound.as_i64().or_else(|| bound.as_f64().map(|n| n as i64))
}

/// `None` when the factor is not positive.
fn is_multiple(number: f64, factor: f64) -> Option<bool> {
    if factor <= 0.0 {
        return None;
    }
    let quotient = if factor < 1.0 {
        1.0 / factor * number
    } else {
        number / factor
    };
    // As close to whole as kube-openapi's swag asks for.
    let whole = quotient.round();
    Some(quotient == whole || (quotient - whole).abs() <= 1e-9 * quotient.abs().max(whole.abs()))
}

/// A fault when the number is not representable in the type and format of the schema.
fn in_range(schema: &Schema, format: &str, what: &str, number: &Number, name: &str) -> Option<Fault> {
    let type_ = if is_integer(schema) {
        let fits = match (number.as_i64(), number.as_f64()) {
            (Some(n), _) => format != "int32" || i32::try_from(n).is_ok(),
            (None, Some(n)) if number.is_f64() => {
                let most = if format == "int32" {
                    f64::from(i32::MAX)
                } else {
                    9.2e18
                };
                n.fract() == 0.0 && n.abs() <= most
            }
            _ => false,
        };
        if fits {
            return None;
        }
        "integer"
    } else {
        let single = number.as_f64().is_some_and(|n| n.abs() <= f64::from(f32::MAX));
        if schema.type_ != Some(Type::Number) || format != "float" || single {
            return None;
        }
        "number"
    };
    let of = match (type_, format) {
        ("integer", "int32" | "int64") | ("number", "float" | "double") => format!("with format {format}"),
        _ => "(default format)".to_owned(),
    };
    Some(Fault::general(format!(
        "{what} value must be of type {type_} {of} in {name}"
    )))
}
