//! How two states of an object differ, for users to read.

use serde_json::Value;

/// How many lines around a difference are shown.
const CONTEXT: usize = 3;

/// The lines that differ, with some around them, as a unified diff has them.
pub(super) fn difference(was: &Value, is: &Value) -> String {
    let lines = |value: &Value| -> Vec<String> {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let (old, new) = (lines(was), lines(is));
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - same;
    let both = old.iter().rev().zip(new.iter().rev());
    let end = both.take(rest).take_while(|(a, b)| a == b).count();
    let (from, tail) = (same.saturating_sub(CONTEXT), end.min(CONTEXT));
    let (gone, come) = (old.len() - end - same, new.len() - end - same);
    let around = same - from + tail;
    let start = from + 1;
    let mut out = format!("@@ -{start},{} +{start},{} @@\n", gone + around, come + around);
    let parts = [
        (' ', &old, from, same - from),
        ('-', &old, same, gone),
        ('+', &new, same, come),
        (' ', &old, same + gone, tail),
    ];
    for (mark, lines, first, count) in parts {
        for line in lines.iter().skip(first).take(count) {
            out.push(mark);
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}
