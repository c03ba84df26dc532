//! Quantities: amounts of resources, as `250m` of CPU or `1.5Gi` of memory.
//!
//! A quantity is a decimal number with at most nine digits after the point and a suffix: decimal (`n`, `u`, `m`, none,
//! `k`, `M`, `G`, `T`, `P`, `E`), binary (`Ki`, `Mi`, `Gi`, `Ti`, `Pi`, `Ei`), or a power of ten (`e3`). Two
//! quantities are equal when their amounts are, whatever their suffixes.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

/// Parts of one: the finest amount there is.
const NANO: i128 = 1_000_000_000;
/// The largest amount; larger ones are cut to it.
const MAX: i128 = i64::MAX as i128 * NANO;

/// The family of suffixes that a quantity is written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Powers of 1000: `m`, `k`, `M`, …
    #[default]
    Decimal,
    /// Powers of 1024: `Ki`, `Mi`, …
    Binary,
    /// `e3`, `e6`, …
    Exponent,
}

/// An amount of a resource.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// A text that is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct InvalidQuantity;

const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    /// A whole amount.
    pub fn whole(amount: i64) -> Self {
        Self {
            nanos: i128::from(amount) * NANO,
            format: Format::Decimal,
        }
    }

    /// Thousandths, as CPU is counted.
    pub fn milli(amount: i64) -> Self {
        Self {
            nanos: i128::from(amount) * (NANO / 1000),
            format: Format::Decimal,
        }
    }

    /// The amount, rounded up.
    pub fn value(self) -> i64 {
        self.scaled(NANO)
    }

    /// The amount in thousandths, rounded up; cut to the largest number there is.
    pub fn milli_value(self) -> i64 {
        self.scaled(NANO / 1000)
    }

    fn scaled(self, unit: i128) -> i64 {
        i64::try_from(divide_up(self.nanos, unit)).unwrap_or(if self.nanos < 0 { i64::MIN } else { i64::MAX })
    }

    /// Whether the amount is zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether the amount is below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// How the quantity is written.
    pub fn format(self) -> Format {
        self.format
    }
}

/// Division that rounds away from zero.
fn divide_up(a: i128, b: i128) -> i128 {
    let (quotient, rest) = (a / b, a % b);
    quotient + rest.signum()
}

impl FromStr for Quantity {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(InvalidQuantity);
        }
        let (format, base, exponent) = read_suffix(suffix)?;
        let nanos = amount(whole, fraction, base, exponent);
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }
}

fn read_suffix(suffix: &str) -> Result<(Format, i128, i32), InvalidQuantity> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((Format::Decimal, 10, *exponent));
    }
    if let Some(power) = BINARY.iter().position(|s| *s == suffix) {
        return Ok((Format::Binary, 2, 10 * (power as i32 + 1)));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(InvalidQuantity)?;
    exponent
        .parse()
        .map(|exponent| (Format::Exponent, 10, exponent))
        .map_err(|_| InvalidQuantity)
}

/// `whole.fraction * base^exponent` in nanos, rounded up and cut.
fn amount(whole: &str, fraction: &str, base: i128, exponent: i32) -> i128 {
    // Beyond these, digits change nothing: the amount is cut at 19 digits, and rounded up at 9 behind the point.
    let digits: String = whole
        .trim_start_matches('0')
        .chars()
        .chain(fraction.chars())
        .collect();
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return 0;
    }
    let kept = &significant[..significant.len().min(30)];
    let dropped = &significant[kept.len()..];
    let mantissa: i128 = kept.parse().unwrap_or(i128::MAX);
    let mut power = dropped.len() as i32 - fraction.len() as i32 + 9;
    let mut value = mantissa;
    if base == 2 {
        // At most 2^60 * 10^30 does not fit; what is that large is cut in any case.
        value = value.checked_mul(1 << exponent).unwrap_or(i128::MAX);
    } else {
        power = power.saturating_add(exponent);
    }
    if power >= 0 {
        let factor = 10i128.checked_pow(power.unsigned_abs());
        return factor
            .and_then(|f| value.checked_mul(f))
            .map_or(MAX, |v| v.min(MAX));
    }
    let divisor = 10i128.checked_pow(power.unsigned_abs());
    let rest = i128::from(dropped.bytes().any(|b| b != b'0'));
    match divisor {
        Some(divisor) => (divide_up(value, divisor) + if value % divisor == 0 { rest } else { 0 }).min(MAX),
        None => 1,
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, and the largest suffix that needs none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos / NANO;
        if self.format == Format::Binary && self.nanos % NANO == 0 && whole.abs() >= 1024 {
            let (mut value, mut power) = (whole, 0);
            while value % 1024 == 0 && power < BINARY.len() {
                value /= 1024;
                power += 1;
            }
            return match power {
                0 => write!(f, "{value}"),
                power => write!(f, "{value}{}", BINARY[power - 1]),
            };
        }
        let (mut value, mut step) = (self.nanos, 0);
        while value % 1000 == 0 && step + 1 < DECIMAL.len() {
            value /= 1000;
            step += 1;
        }
        let (suffix, exponent) = DECIMAL[step];
        match (self.format, exponent) {
            (Format::Exponent, 0) => write!(f, "{value}"),
            (Format::Exponent, exponent) => write!(f, "{value}e{exponent}"),
            _ => write!(f, "{value}{suffix}"),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Sums are written as the first operand is, unless that is zero.
impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let format = if self.nanos == 0 {
            other.format
        } else {
            self.format
        };
        Self {
            nanos: (self.nanos + other.nanos).clamp(-MAX, MAX),
            format,
        }
    }
}

/// Differences are written as sums are.
impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + Self {
            nanos: -other.nanos,
            ..other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn quantities_are_written_canonically() {
        let cases = [
            ("0", "0"),
            ("0Gi", "0"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("0.1", "100m"),
            (".5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1000Ki", "1000Ki"),
            ("0.5Ki", "512"),
            ("0.5Mi", "512Ki"),
            ("1500", "1500"),
            ("1000000", "1M"),
            ("1e3", "1e3"),
            ("1E", "1E"),
            ("12e-1", "1200e-3"),
            ("-3k", "-3k"),
            ("+2", "2"),
            ("0.0000000001", "1n"),
            ("9999999999999999999999", "9223372036854775807"),
            ("1Ei", "1Ei"),
        ];
        for (text, canonical) in cases {
            assert_eq!(quantity(text).to_string(), canonical, "{text}");
            assert_eq!(quantity(canonical), quantity(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "", "x", "1x", "1.2.3", "1 Gi", "Gi", "-", "1e", "1ki", "1mi", "--1", ".",
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(InvalidQuantity), "{text:?}");
        }
    }

    #[test]
    fn amounts_compare_add_and_round_up() {
        assert_eq!(quantity("1Gi"), quantity("1073741824"));
        assert!(quantity("999m") < quantity("1"));
        assert_eq!(quantity("1.5").value(), 2);
        assert_eq!(quantity("-1.5").value(), -2);
        assert_eq!(quantity("1.5").milli_value(), 1500);
        assert_eq!(
            (quantity("0") + quantity("1Gi") + quantity("512Mi")).to_string(),
            "1536Mi"
        );
        assert_eq!((quantity("1") - quantity("250m")).to_string(), "750m");
    }
}
