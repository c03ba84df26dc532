//! How deep an expression is, found out without parsing it: the parser and the interpreter take a frame of the stack for
//! each level, and a stack that overflows ends the process.

/// So many brackets and conditional operators may be inside each other.
const MOST_BRACKETS: usize = 40;
/// So deep may the tree of an expression be; cel-go's `maxRecursionDepth`.
pub(super) const MOST_LEVELS: usize = 250;

/// What is inside one pair of brackets, up to where the scan is.
#[derive(Debug, Default)]
struct Level {
    /// Operators that join what is beside them: as many levels, at most.
    joins: usize,
    /// Operators in the part that the scan is in, and what is deepest in its brackets.
    part: usize,
    inside: usize,
    /// The deepest part so far.
    deepest: usize,
    /// Conditional operators that are open.
    conditions: usize,
}

impl Level {
    fn end_part(&mut self) {
        self.deepest = self.deepest.max(self.part + self.inside);
        (self.part, self.inside) = (0, 0);
    }

    fn depth(mut self) -> usize {
        self.end_part();
        self.joins + self.deepest
    }
}

/// Whether an expression could be deeper than a stack is: its depth is never taken for less than it is.
pub(super) fn is_too_deep(expression: &str) -> bool {
    let bytes = expression.as_bytes();
    let mut levels = vec![Level::default()];
    let mut nested = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let level_count = levels.len();
        let Some(level) = levels.last_mut() else { break };
        at += 1;
        match byte {
            b'"' | b'\'' => at = after_text(bytes, at - 1),
            b'/' if bytes.get(at) == Some(&b'/') => {
                let end = bytes[at..].iter().position(|byte| *byte == b'\n');
                at = end.map_or(bytes.len(), |end| at + end);
            }
            b'(' | b'[' | b'{' => {
                level.part += 1;
                levels.push(Level::default());
                nested += 1;
            }
            b')' | b']' | b'}' if level_count > 1 => {
                let ended = levels.pop().unwrap_or_default();
                nested -= 1 + ended.conditions;
                let depth = ended.depth();
                if let Some(around) = levels.last_mut() {
                    around.inside = around.inside.max(depth);
                }
            }
            b'&' | b'|' if bytes.get(at) == Some(&byte) => {
                at += 1;
                level.end_part();
                level.joins += 1;
            }
            b'?' => {
                level.end_part();
                level.joins += 1;
                level.conditions += 1;
                nested += 1;
            }
            b',' | b':' => level.end_part(),
            b'+' | b'-' | b'*' | b'/' | b'%' | b'=' | b'!' | b'<' | b'>' | b'.' => level.part += 1,
            // The operator `in`, as far as this is concerned.
            b' ' if bytes[at..].starts_with(b"in ") => level.part += 1,
            _ => {}
        }
        if nested > MOST_BRACKETS {
            return true;
        }
    }
    let mut depth = 0;
    while let Some(mut level) = levels.pop() {
        level.inside = level.inside.max(depth);
        depth = level.depth();
    }
    depth > MOST_LEVELS
}

/// Where the text ends that begins at a quote.
fn after_text(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let raw = start > 0 && matches!(bytes[start - 1], b'r' | b'R');
    let triple = bytes[start..].starts_with(&[quote; 3]);
    let end: &[u8] = if triple { &[quote; 3] } else { &[quote] };
    let mut at = start + end.len();
    while at < bytes.len() && !bytes[at..].starts_with(end) {
        at += if bytes[at] == b'\\' && !raw { 2 } else { 1 };
    }
    (at + end.len()).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_as_deep_as_its_deepest_part() {
        let many = |text: &str, times: usize| text.repeat(times);
        for (expression, deep) in [
            (
                "self.a == 'x' && self.b.all(c, c.d > 1 || c in ['y'])".to_owned(),
                false,
            ),
            (many("self.spec.a == 'b' && ", 100) + "true", false),
            (many("0.5, ", 1000), false),
            (format!("'{}' == \"\"", many("(", 1000)), false),
            (format!("r'\\' == '{}'", many(".", 1000)), false),
            (format!("'''{}''' == '\\'('", many("'(", 1000)), false),
            (format!("true // {}\n && true", many("(", 1000)), false),
            (many("(a) + ", 100) + "1", false),
            (many("(", 40) + "1" + &many(")", 40), false),
            (many("(", 41) + "1" + &many(")", 41), true),
            (many("a ? b : ", 41) + "c", true),
            (many("!", 251) + "a", true),
            ("a".to_owned() + &many(".b", 251), true),
            ("a".to_owned() + &many("[0]", 251), true),
            ("a".to_owned() + &many(" && a", 251), true),
            ("a".to_owned() + &many(" in a", 251), true),
            (
                many("(a + ", 30) + &many("a + ", 230) + "1" + &many(")", 30),
                true,
            ),
            (many(")", 1000), false),
        ] {
            let start: String = expression.chars().take(20).collect();
            assert_eq!(is_too_deep(&expression), deep, "{start}… of {}", expression.len());
        }
    }
}
