//! Bounds and ranges of numbers.

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
    if let Some(factor) = &checks.multiple_of {
        fits("MultipleOf", factor).into_iter().for_each(|f| all.add(f));
        match is_multiple(number, factor) {
            None => {
                let text = format!(
                    "factor MultipleOf declared for {name} must be positive: {}",
                    bound_text(number, factor)
                );
                all.add(Fault::stated(name, factor.clone(), text));
            }
            Some(true) => {}
            Some(false) => {
                let text = format!("should be a multiple of {}", bound_text(number, factor));
                all.add(Fault::invalid(name, new.clone(), &text));
            }
        }
    }
    let bounds = [
        (
            &checks.minimum,
            checks.exclusive_minimum,
            "Minimum boundary",
            "greater than",
        ),
        (
            &checks.maximum,
            checks.exclusive_maximum,
            "Maximum boundary",
            "less than",
        ),
    ];
    for (bound, exclusive, what, relation) in bounds {
        let Some(bound) = bound else { continue };
        fits(what, bound).into_iter().for_each(|f| all.add(f));
        let order = compare(number, bound);
        let beyond = if relation == "less than" {
            order.is_gt()
        } else {
            order.is_lt()
        };
        if beyond || (exclusive && order.is_eq()) {
            let or_equal = if exclusive { "" } else { " or equal to" };
            let text = format!("should be {relation}{or_equal} {}", bound_text(number, bound));
            all.add(Fault::invalid(name, new.clone(), &text));
        }
    }
    all
}

/// Whole numbers are compared as such, against bounds that lose their fraction.
fn compare(number: &Number, bound: &Number) -> std::cmp::Ordering {
    match (number.as_i64(), truncated(bound)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => float(number).total_cmp(&float(bound)),
    }
}

fn bound_text(number: &Number, bound: &Number) -> String {
    match truncated(bound).filter(|_| number.is_i64()) {
        Some(bound) => bound.to_string(),
        None => go::float(float(bound)),
    }
}

fn float(number: &Number) -> f64 {
    number.as_f64().unwrap_or_default()
}

#[allow(clippy::cast_possible_truncation, reason = "the fraction is what is to go")]
fn truncated(bound: &Number) -> Option<i64> {
    bound.as_i64().or_else(|| bound.as_f64().map(|n| n as i64))
}

/// `None` when the factor is not positive.
fn is_multiple(number: &Number, factor: &Number) -> Option<bool> {
    if let (Some(number), Some(factor)) = (number.as_i64(), truncated(factor)) {
        return (factor > 0).then(|| number % factor == 0);
    }
    let (number, factor) = (float(number), float(factor));
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
    let of = match format {
        "" => "(default format)".to_owned(),
        format => format!("with format {format}"),
    };
    Some(Fault::general(format!(
        "{what} value must be of type {type_} {of} in {name}"
    )))
}
