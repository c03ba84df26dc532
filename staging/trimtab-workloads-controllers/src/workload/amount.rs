//! Amounts that are given as a number or as a part of a whole.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How a part of a whole is made a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    Up,
    Down,
}

/// The amount, of a whole. `None` if it is neither a number nor a percentage.
pub(crate) fn of(amount: &IntOrString, whole: i32, round: Round) -> Option<i32> {
    let text = match amount {
        IntOrString::Int(number) => return Some(*number),
        IntOrString::String(text) => text,
    };
    let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
    let product = i64::from(whole).checked_mul(percent)?;
    let amount = match round {
        Round::Up => product.saturating_add(99).div_euclid(100),
        Round::Down => product.div_euclid(100),
    };
    i32::try_from(amount).ok()
}

/// How many pods may be too many and how many too few while a workload of `whole` pods is updated. Where rounding leaves
/// neither, one may be too few, or nothing would ever move.
pub(crate) fn fence(
    surge: Option<&IntOrString>,
    unavailable: Option<&IntOrString>,
    whole: i32,
) -> (i32, i32) {
    let amount = |amount: Option<&IntOrString>, round| {
        amount
            .and_then(|amount| of(amount, whole, round))
            .unwrap_or_default()
            .max(0)
    };
    match (amount(surge, Round::Up), amount(unavailable, Round::Down)) {
        (0, 0) => (0, 1),
        both => both,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_rounded_so_that_something_moves() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        let cases = [
            (percent("1%"), percent("0%"), 2, (1, 0)),
            (percent("0%"), percent("1%"), 2, (0, 1)),
            (percent("25%"), percent("25%"), 10, (3, 2)),
            (IntOrString::Int(3), IntOrString::Int(0), 10, (3, 0)),
            (percent("nonsense"), percent("x%"), 10, (0, 1)),
        ];
        for (surge, unavailable, whole, expected) in cases {
            assert_eq!(fence(Some(&surge), Some(&unavailable), whole), expected);
        }
        assert_eq!(fence(None, None, 5), (0, 1));
    }
}
