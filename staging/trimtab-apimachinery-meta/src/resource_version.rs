//! Resource versions: the order of writes to one server, as text.
//!
//! A resource version is a decimal number of any length without leading zeros. Versions of one resource are comparable;
//! a larger one is later. `0` and the empty text are no versions of objects: in requests they mean "any" and "latest".

use std::cmp::Ordering;

/// A text that is not the version of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid resource version: {0:?}")]
pub struct InvalidResourceVersion(pub String);

fn checked(text: &str) -> Result<&str, InvalidResourceVersion> {
    let valid = !text.is_empty() && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    if valid {
        Ok(text)
    } else {
        Err(InvalidResourceVersion(text.to_owned()))
    }
}

/// Which of two versions is later. Works for numbers of any length.
///
/// # Errors
/// One of the two is not a version.
pub fn compare(a: &str, b: &str) -> Result<Ordering, InvalidResourceVersion> {
    let (a, b) = (checked(a)?, checked(b)?);
    Ok(a.len().cmp(&b.len()).then_with(|| a.cmp(b)))
}

/// The version as a number.
///
/// # Errors
/// The text is not a version, or larger than a server with 64-bit versions can have written.
pub fn parse(text: &str) -> Result<u64, InvalidResourceVersion> {
    checked(text)?
        .parse()
        .map_err(|_| InvalidResourceVersion(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(compare("9", "10"), Ok(Ordering::Less));
        assert_eq!(compare("10", "10"), Ok(Ordering::Equal));
        assert_eq!(
            compare("100000000000000000000000", "99999999999999999999999"),
            Ok(Ordering::Greater)
        );
        for wrong in ["", "0", "01", "-1", "1x", "+1"] {
            assert!(compare(wrong, "1").is_err() && parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse("18446744073709551615"), Ok(u64::MAX));
        assert!(parse("18446744073709551616").is_err());
    }
}
