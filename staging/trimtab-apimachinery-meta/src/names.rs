//! What names, label keys and label values may look like; the messages are those that an API server answers with.
//!
//! Each check returns what is wrong, in words; nothing when all is well. The limits and patterns are those of
//! RFC 1035, RFC 1123 and `k8s.io/apimachinery/pkg/util/validation`.

/// The longest DNS label, and the longest name part of a label key, in bytes.
pub const LABEL_MAX: usize = 63;
/// The longest DNS subdomain, in bytes.
pub const SUBDOMAIN_MAX: usize = 253;

const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
    used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const DNS_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
    must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
    or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS_SUBDOMAIN_UNDERSCORES: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used \
    for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const CONDITION_REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a \
    string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or \
    'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is \
    '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

fn lower_or_digit(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Whether `text` is one or more of `inner`, the first and last of `ends`.
fn shaped(text: &str, ends: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => ends(first) && ends(last) && bytes.iter().all(|&c| inner(c)),
        _ => false,
    }
}

fn is_label(text: &str) -> bool {
    shaped(text, lower_or_digit, |c| lower_or_digit(c) || c == b'-')
}

fn is_qualified_part(text: &str) -> bool {
    shaped(
        text,
        |c| c.is_ascii_alphanumeric(),
        |c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'),
    )
}

/// The words for the same limit are those of the check: newer ones count bytes aloud.
fn too_long(max: usize, unit: &str) -> String {
    format!("must be no more than {max} {unit}")
}

fn check(text: &str, max: usize, fits: bool, otherwise: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > max {
        errors.push(too_long(max, "characters"));
    }
    if !fits {
        errors.push(otherwise.to_owned());
    }
    errors
}

/// What is wrong with `text` as a DNS label of RFC 1123.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let dots = text.split('.').all(is_label);
    let otherwise = if dots { "must not contain dots" } else { DNS_LABEL };
    check(text, LABEL_MAX, is_label(text), otherwise)
}

/// What is wrong with `text` as a DNS subdomain of RFC 1123: the name of most objects.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    check(text, SUBDOMAIN_MAX, text.split('.').all(is_label), DNS_SUBDOMAIN)
}

/// What is wrong with `text` as a DNS subdomain whose words may hold and begin with underscores, as search paths may.
pub fn dns1123_subdomain_with_underscores(text: &str) -> Vec<String> {
    let word = |word: &str| {
        let word = word.strip_prefix('_').unwrap_or(word);
        shaped(word, lower_or_digit, |c| {
            lower_or_digit(c) || matches!(c, b'-' | b'_')
        })
    };
    check(
        text,
        SUBDOMAIN_MAX,
        text.split('.').all(word),
        DNS_SUBDOMAIN_UNDERSCORES,
    )
}

/// What is wrong with `text` as a DNS label of RFC 1035: it begins with a letter.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let fits = is_label(text) && text.as_bytes()[0].is_ascii_lowercase();
    check(text, LABEL_MAX, fits, DNS_1035)
}

/// What is wrong with `text` as a qualified name, as label keys are: `name` or `prefix/name`.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let mut parts = text.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(
                    dns1123_subdomain(prefix)
                        .into_iter()
                        .map(|e| format!("prefix part {}", e.replace("253 characters", "253 bytes"))),
                );
            }
            name
        }
        _ => {
            let form = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            errors.push(format!("a valid label key {QUALIFIED} {form}"));
            return errors;
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        errors.push(format!("name part {}", too_long(LABEL_MAX, "bytes")));
    }
    if !is_qualified_part(name) {
        errors.push(format!("name part {QUALIFIED}"));
    }
    errors
}

/// What is wrong with `text` as a label's value.
pub fn label_value(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_MAX {
        errors.push(too_long(LABEL_MAX, "bytes"));
    }
    if !text.is_empty() && !is_qualified_part(text) {
        errors.push(LABEL_VALUE.to_owned());
    }
    errors
}

/// What is wrong with the form of `text` as the reason of a condition: one CamelCase word, of any length. The empty text
/// has it wrong.
pub fn condition_reason(text: &str) -> Vec<String> {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let fits = text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && text.as_bytes().last().copied().is_some_and(word)
        && text.bytes().all(|c| word(c) || matches!(c, b',' | b':'));
    if fits {
        Vec::new()
    } else {
        vec![CONDITION_REASON.to_owned()]
    }
}

/// What is wrong with `text` as one segment of a URL's path, which every name must be.
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ['/', '%']
        .iter()
        .filter(|c| text.contains(**c))
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_accepts_and_refuses() {
        type Rule = fn(&str) -> Vec<String>;
        let long = "a".repeat(64);
        let longest = "a".repeat(253);
        let cases: &[(&str, Rule, &[&str], &[&str])] = &[
            (
                "label",
                dns1123_label,
                &["a", "1a", "a-b"],
                &["", "-a", "a-", "a.b", "A", &long],
            ),
            (
                "subdomain",
                dns1123_subdomain,
                &["a", "a.b-c", "1.2", &longest],
                &["", "a..b", ".a", "a_b"],
            ),
            ("1035", dns1035_label, &["a", "a1"], &["", "1a", "a-"]),
            (
                "qualified",
                qualified_name,
                &["a", "A.b_c", "x.io/a"],
                &["", "a/", "/a", "a/b/c", "X/a", "-a", &long],
            ),
            (
                "value",
                label_value,
                &["", "a", "A.b_c"],
                &["-a", "a b", "a/b", &long],
            ),
            (
                "reason",
                condition_reason,
                &["A", "MY_NAME", "A:b,c_", &longest],
                &["", "1a", "_a", "a:", "a b", "a-b"],
            ),
            (
                "segment",
                path_segment,
                &["a", "...", ""],
                &[".", "..", "a/b", "a%b"],
            ),
        ];
        for (name, rule, good, bad) in cases {
            for text in *good {
                assert!(rule(text).is_empty(), "{name} refuses {text:?}: {:?}", rule(text));
            }
            for text in *bad {
                assert!(!rule(text).is_empty(), "{name} accepts {text:?}");
            }
        }
    }
}
