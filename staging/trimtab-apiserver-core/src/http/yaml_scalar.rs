//! How one text is written in YAML: plain, quoted, or as a block, so that it reads back as text and as the same one.

use std::sync::LazyLock;

use regex::Regex;

/// Columns after which a line is folded at the next space.
const WIDTH: usize = 80;

/// Where a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before a colon: on one line.
    Key,
    /// Anywhere else; further lines are at `indent`.
    Value {
        /// Spaces.
        indent: usize,
    },
}

/// What plain text would be taken for something else: YAML 1.1's numbers, base 60 and dates among them.
static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let forms = [
        r"[-+]?(0|0[0-7_]+|[1-9][0-9_]*|0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+)",
        r"[-+]?[0-9_]*\.?[0-9_]+([eE][-+]?[0-9]+)?",
        r"[0-9_]+\.([eE][-+]?[0-9]+)?",
        r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?",
        r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]+)?(Z|[-+][0-9]{2}:[0-9]{2})?)?",
    ];
    Regex::new(&format!("^(?:{})$", forms.join("|"))).ok()
});

/// Words that are not text.
const WORDS: [&str; 35] = [
    "", "~", "null", "Null", "NULL", "y", "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO", "true",
    "True", "TRUE", "false", "False", "FALSE", "on", "On", "ON", "off", "Off", "OFF", ".nan", ".NaN", ".NAN",
    ".inf", ".Inf", ".INF", "-.inf", "+.inf",
];

/// Writes a text.
pub(crate) fn write(out: &mut String, text: &str, place: Place) {
    let is_other = WORDS.contains(&text)
        || NUMBER.as_ref().is_none_or(|number| {
            text.starts_with(['-', '+', '.']) | text.starts_with(|c: char| c.is_ascii_digit())
                && number.is_match(text)
        });
    let special = text.chars().any(|c| c != '\n' && !is_printable(c));
    let (starts_blank, ends_blank) = (text.starts_with([' ', '\n']), text.ends_with([' ', '\n']));
    match place {
        Place::Value { indent }
            if text.contains('\n') && !special && !text.contains(" \n") && !text.ends_with(' ') =>
        {
            block(out, text, indent);
        }
        _ if text.contains('\n') || special || is_other => double(out, text, place),
        _ if starts_blank || ends_blank || has_indicators(text) => single(out, text, place),
        _ => folded(out, text, place, |out, c| out.push(c)),
    }
}

/// Whether plain text would mean more than itself.
fn has_indicators(text: &str) -> bool {
    let ends_word = |rest: &str| rest.is_empty() || rest.starts_with(' ');
    if text.starts_with("---") || text.starts_with("...") || text.contains(" #") {
        return true;
    }
    let mut chars = text.chars();
    let first = match chars.next() {
        Some(
            '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`',
        ) => true,
        Some('-' | '?' | ':') => ends_word(chars.as_str()),
        _ => false,
    };
    first
        || text
            .match_indices(':')
            .any(|(at, _)| at > 0 && ends_word(text.get(at + 1..).unwrap_or_default()))
}

/// A literal block; the sign after the bar says how it ends.
fn block(out: &mut String, text: &str, indent: usize) {
    out.push('|');
    if text.starts_with([' ', '\n']) {
        out.push('2');
    }
    if !text.ends_with('\n') {
        out.push('-');
    } else if text.ends_with("\n\n") || text == "\n" {
        out.push('+');
    }
    let lines = text.strip_suffix('\n').unwrap_or(text);
    for line in lines.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str(line);
        }
    }
}

fn single(out: &mut String, text: &str, place: Place) {
    out.push('\'');
    folded(out, text, place, |out, c| {
        if c == '\'' {
            out.push('\'');
        }
        out.push(c);
    });
    out.push('\'');
}

fn double(out: &mut String, text: &str, place: Place) {
    out.push('"');
    folded(out, text, place, |out, c| match c {
        '\0' => out.push_str("\\0"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\x0b' => out.push_str("\\v"),
        '\x0c' => out.push_str("\\f"),
        '\r' => out.push_str("\\r"),
        '\x1b' => out.push_str("\\e"),
        '"' | '\\' => out.extend(['\\', c]),
        '\u{85}' => out.push_str("\\N"),
        '\u{2028}' => out.push_str("\\L"),
        '\u{2029}' => out.push_str("\\P"),
        c if is_printable(c) => out.push(c),
        c => {
            let code = u32::from(c);
            out.push_str(&match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            });
        }
    });
    out.push('"');
}

/// Writes characters; a single space beyond the width becomes the end of a line, where that is possible.
fn folded(out: &mut String, text: &str, place: Place, mut put: impl FnMut(&mut String, char)) {
    let Place::Value { indent } = place else {
        text.chars().for_each(|c| put(out, c));
        return;
    };
    let start = out.rfind('\n').map_or(0, |at| at + 1);
    let mut column = out.get(start..).unwrap_or_default().chars().count();
    let mut after_space = false;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, c)| *c);
        let inside = at > 0 && next.is_some();
        if c == ' ' && inside && !after_space && column > WIDTH && next != Some(' ') {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else {
            let before = out.len();
            put(out, c);
            column += out.get(before..).unwrap_or_default().chars().count();
        }
        after_space = c == ' ';
    }
}

/// What need not be escaped; characters beyond the first plane must be.
fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}
