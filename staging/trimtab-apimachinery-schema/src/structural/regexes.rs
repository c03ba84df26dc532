//! Regular expressions as Go reads them, and what it says of broken ones.

use regex::{Regex, RegexBuilder};

/// Compiles a pattern of Go's dialect. The error is Go's text for it.
///
/// The dialects differ in what Perl classes contain (ASCII only in Go), in nested classes and set operations (unknown
/// to Go) and in braces that are no repetition (literal in Go).
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&translate(pattern))
        .size_limit(64 << 20)
        .build()
        .map_err(|error| format!("error parsing regexp: {}", explain(pattern, &error)))
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern.chars();
    // Inside a class: how many characters of it were read.
    let mut class: Option<usize> = None;
    while let Some(c) = rest.next() {
        let position = class;
        if let Some(read) = &mut class {
            *read += 1;
        }
        match (c, position) {
            ('\\', _) => match rest.next() {
                Some(escaped) => escape(escaped, position.is_some(), &mut out),
                None => out.push('\\'),
            },
            ('[', None) => {
                out.push('[');
                class = Some(0);
                if rest.as_str().starts_with('^') {
                    rest.next();
                    out.push('^');
                }
            }
            ('[', Some(_)) => match rest
                .as_str()
                .find(":]")
                .filter(|_| rest.as_str().starts_with(':'))
            {
                Some(end) => {
                    let (name, after) = rest.as_str().split_at(end + 2);
                    out.push('[');
                    out.push_str(name);
                    rest = after.chars();
                }
                None => out.push_str("\\["),
            },
            // A bracket that comes first is an element, in both dialects.
            (']', Some(0)) => out.push_str("\\]"),
            (']', Some(_)) => {
                out.push(']');
                class = None;
            }
            ('&' | '~', Some(_)) => {
                out.push('\\');
                out.push(c);
            }
            ('{', None) if !repeats(rest.as_str()) => out.push_str("\\{"),
            _ => out.push(c),
        }
    }
    out
}

fn escape(escaped: char, in_class: bool, out: &mut String) {
    let plain = match escaped {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => r"\t\n\x0C\r ",
        'D' => "^0-9",
        'W' => "^0-9A-Za-z_",
        'S' => r"^\t\n\x0C\r ",
        'b' if !in_class => {
            out.push_str(r"(?-u:\b)");
            return;
        }
        _ => {
            out.push('\\');
            out.push(escaped);
            return;
        }
    };
    if in_class && !plain.starts_with('^') {
        out.push_str(plain);
    } else {
        out.push('[');
        out.push_str(plain);
        out.push(']');
    }
}

/// Whether what follows an opening brace makes it a repetition: `3}`, `3,}` or `3,5}`.
fn repeats(rest: &str) -> bool {
    let Some((counts, _)) = rest.split_once('}') else {
        return false;
    };
    let (least, most) = counts.split_once(',').unwrap_or((counts, "0"));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

/// Go's words for what is wrong, as far as they can be told from ours.
fn explain(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let fault = text.rsplit("error: ").next().unwrap_or_default().trim();
    // The line of carets below the pattern shows where.
    let carets = text.lines().find(|line| line.trim_start().starts_with('^'));
    let shown = text.lines().nth(1).unwrap_or_default();
    let at = |fallback: &'static str| -> String {
        let Some(carets) = carets else {
            return fallback.to_owned();
        };
        let start = carets.chars().take_while(|c| *c == ' ').count();
        let length = carets.trim().chars().count();
        shown.chars().skip(start).take(length).collect()
    };
    match fault {
        "unclosed group" => format!("missing closing ): `{pattern}`"),
        "unopened group" => format!("unexpected ): `{pattern}`"),
        "unclosed character class" => {
            let from = pattern.rfind('[').map_or(pattern, |i| &pattern[i..]);
            format!("missing closing ]: `{from}`")
        }
        "repetition operator missing expression" => {
            format!("missing argument to repetition operator: `{}`", at("*"))
        }
        "incomplete escape sequence, reached end of pattern prematurely" => {
            "trailing backslash at end of expression: ``".to_owned()
        }
        "unrecognized escape sequence" | "backreferences are not supported" => {
            format!("invalid escape sequence: `{}`", at("\\"))
        }
        "look-around, including look-ahead and look-behind, is not supported" => {
            format!("invalid or unsupported Perl syntax: `{}`", at("(?="))
        }
        _ if fault.starts_with("invalid character class range") => {
            format!("invalid character class range: `{}`", at("z-a"))
        }
        _ if fault.starts_with("invalid repetition count range") => {
            format!("invalid repeat count: `{}`", at("{"))
        }
        _ if text.contains("exceeds size limit") => "expression too large".to_owned(),
        _ => format!("{fault}: `{pattern}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        let cases = [
            (r"^\d+$", "12", "١٢"),
            (r"^\w$", "a", "é"),
            (r"^[\w-]+$", "a-b", "a b"),
            (r"^[^\s]+$", "ab", "a b"),
            (r"^[\D]$", "a", "1"),
            (r"^[[a]$", "[", "b"),
            (r"^[]a]$", "]", "b"),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^[[:alpha:]]$", "x", "1"),
            (r"^a{,2}$", "a{,2}", "aa"),
            (r"^a{2}$", "aa", "a"),
            (r"\bx\b", "a x", "ax"),
            (r"^\/$", "/", "\\"),
        ];
        for (pattern, good, bad) in cases {
            let regex = compile(pattern).unwrap();
            assert!(regex.is_match(good), "{pattern} {good}");
            assert!(!regex.is_match(bad), "{pattern} {bad}");
        }
    }

    #[test]
    fn broken_patterns_are_reported_in_the_words_of_go() {
        let cases = [
            ("(", "missing closing ): `(`"),
            ("a)", "unexpected ): `a)`"),
            ("a[b", "missing closing ]: `[b`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            (r"\y", r"invalid escape sequence: `\y`"),
        ];
        for (pattern, text) in cases {
            assert_eq!(
                compile(pattern).unwrap_err(),
                format!("error parsing regexp: {text}"),
                "{pattern}"
            );
        }
    }
}
