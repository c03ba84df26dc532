//! Semantic versions, as `semver('1.2.3')`.

use std::cmp::Ordering;

use cel::common::types::{CelBool, CelInt, CelString};
use cel::{DeclarationError, Env, ExecutionError};

use version::Semver;

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    cel::add_overload!(env, fn semver: (CelString) -> Result<Semver>)?;
    cel::add_overload!(env, fn semver_normalized: (CelString, CelBool) -> Result<Semver>, name = "semver")?;
    cel::add_overload!(env, fn is_semver: (CelString) -> CelBool)?;
    cel::add_overload!(env, fn is_semver_normalized: (CelString, CelBool) -> CelBool, name = "isSemver")?;
    cel::add_member_overload!(env, fn major: (Semver) -> CelInt)?;
    cel::add_member_overload!(env, fn minor: (Semver) -> CelInt)?;
    cel::add_member_overload!(env, fn patch: (Semver) -> CelInt)?;
    cel::add_member_overload!(env, fn semver_is_greater_than: (Semver, Semver) -> CelBool, name = "isGreaterThan")?;
    cel::add_member_overload!(env, fn semver_is_less_than: (Semver, Semver) -> CelBool, name = "isLessThan")?;
    cel::add_member_overload!(env, fn semver_compare_to: (Semver, Semver) -> CelInt, name = "compareTo")
}

mod version {
    use super::super::opaque;

    /// A version among CEL's values.
    #[derive(Clone, Debug)]
    pub(super) struct Semver {
        /// Major, minor, patch.
        pub(super) numbers: [u64; 3],
        /// The parts of the pre-release; empty for none.
        pub(super) pre: Vec<Part>,
    }

    /// Numbers come before texts.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub(super) enum Part {
        Number(u64),
        Text(String),
    }

    impl PartialEq for Semver {
        fn eq(&self, other: &Self) -> bool {
            super::compare(self, other).is_eq()
        }
    }

    opaque!(Semver, "kubernetes.Semver");
}

use version::Part;

/// What comes first is less; a pre-release comes before its release, and builds do not count.
fn compare(a: &Semver, b: &Semver) -> Ordering {
    a.numbers
        .cmp(&b.numbers)
        .then_with(|| match (a.pre.is_empty(), b.pre.is_empty()) {
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => a.pre.cmp(&b.pre),
        })
}

fn parse(text: &str) -> Result<Semver, String> {
    if text.is_empty() {
        return Err("Version string empty".to_owned());
    }
    let (text, build) = match text.split_once('+') {
        Some((text, build)) => (text, Some(build)),
        None => (text, None),
    };
    // The first dash after the two dots begins the pre-release.
    let parts: Vec<&str> = text.splitn(3, '.').collect();
    let [major, minor, rest] = parts.as_slice() else {
        return Err("No Major.Minor.Patch elements found".to_owned());
    };
    let (patch, pre) = match rest.split_once('-') {
        Some((patch, pre)) => (patch, Some(pre)),
        None => (*rest, None),
    };
    let mut numbers = [0; 3];
    for ((number, text), what) in numbers
        .iter_mut()
        .zip([major, minor, patch])
        .zip(["Major", "Minor", "Patch"])
    {
        *number = parse_number(text, what)?;
    }
    let pre = pre.map_or_else(|| Ok(Vec::new()), |pre| pre.split('.').map(parse_part).collect())?;
    for part in build.into_iter().flat_map(|build| build.split('.')) {
        if part.is_empty() {
            return Err("Build meta data is empty".to_owned());
        }
        if !part.bytes().all(is_letter) {
            return Err(format!("Invalid character(s) found in build meta data {part:?}"));
        }
    }
    Ok(Semver { numbers, pre })
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

fn parse_number(text: &str, what: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        let what = what.to_lowercase();
        return Err(format!("Invalid character(s) found in {what} number {text:?}"));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{what} number must not contain leading zeroes {text:?}"));
    }
    text.parse()
        .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"))
}

fn parse_part(text: &str) -> Result<Part, String> {
    if text.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        if text.len() > 1 && text.starts_with('0') {
            return Err(format!(
                "Numeric PreRelease version must not contain leading zeroes {text:?}"
            ));
        }
        let number = text.parse();
        return number
            .map(Part::Number)
            .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"));
    }
    if text.bytes().all(is_letter) {
        Ok(Part::Text(text.to_owned()))
    } else {
        Err(format!("Invalid character(s) found in prerelease {text:?}"))
    }
}

/// The version of a text that may begin with `v`, leave out its last numbers, and have zeros before them.
fn parse_normalized(text: &str) -> Result<Semver, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text
        .splitn(3, '.')
        .map(|part| {
            let trimmed = part.trim_start_matches('0');
            if part.len() < 2 || trimmed.starts_with(|c: char| c.is_ascii_digit()) {
                if part.len() < 2 {
                    part.to_owned()
                } else {
                    trimmed.to_owned()
                }
            } else {
                format!("0{trimmed}")
            }
        })
        .collect();
    if parts.len() < 3 {
        if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
            return Err("short version cannot contain PreRelease/Build meta data".to_owned());
        }
        parts.resize(3, "0".to_owned());
    }
    parse(&parts.join("."))
}

fn read(text: &CelString<'_>, normalize: bool) -> Result<Semver, String> {
    if normalize {
        parse_normalized(text.inner())
    } else {
        parse(text.inner())
    }
}

fn semver(text: &CelString<'_>) -> Result<Semver, ExecutionError> {
    semver_normalized(text, &CelBool::from(false))
}

fn semver_normalized(text: &CelString<'_>, normalize: &CelBool) -> Result<Semver, ExecutionError> {
    read(text, *normalize.inner()).map_err(|why| ExecutionError::function_error("semver", why))
}

fn is_semver(text: &CelString<'_>) -> CelBool {
    CelBool::from(read(text, false).is_ok())
}

fn is_semver_normalized(text: &CelString<'_>, normalize: &CelBool) -> CelBool {
    CelBool::from(read(text, *normalize.inner()).is_ok())
}

fn number(this: &Semver, place: usize) -> CelInt {
    let number = this.numbers.get(place).copied().unwrap_or_default();
    CelInt::from(i64::try_from(number).unwrap_or(i64::MAX))
}

fn major(this: &Semver) -> CelInt {
    number(this, 0)
}

fn minor(this: &Semver) -> CelInt {
    number(this, 1)
}

fn patch(this: &Semver) -> CelInt {
    number(this, 2)
}

fn semver_is_greater_than(this: &Semver, other: &Semver) -> CelBool {
    CelBool::from(compare(this, other).is_gt())
}

fn semver_is_less_than(this: &Semver, other: &Semver) -> CelBool {
    CelBool::from(compare(this, other).is_lt())
}

fn semver_compare_to(this: &Semver, other: &Semver) -> CelInt {
    CelInt::from(compare(this, other) as i64)
}
