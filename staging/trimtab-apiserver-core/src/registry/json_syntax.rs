//! What is wrong with a text that is not JSON, in the words of Go's decoder, which clients of Kubernetes know.

/// Says what is wrong; empty when the text is one JSON value.
pub(crate) fn fault(text: &str) -> String {
    let mut scanner = Scanner { text, at: 0 };
    match scanner.document() {
        Ok(()) => String::new(),
        Err(Fault::End) => "unexpected end of JSON input".to_owned(),
        Err(Fault::Found(c, context)) => format!("invalid character {} {context}", quoted(c)),
    }
}

/// A character as Go prints it in these errors.
fn quoted(c: char) -> String {
    match c {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        c if c.is_control() => format!("'{}'", c.escape_default()),
        c => format!("'{c}'"),
    }
}

enum Fault {
    /// The text ends too early.
    End,
    /// This character, and what was looked for.
    Found(char, String),
}

type Scan = Result<(), Fault>;

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// Objects and lists may be this deep: deeper ones are stopped by whoever reads them.
const DEEPEST: usize = 10_000;

impl Scanner<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Result<char, Fault> {
        let c = self.peek().ok_or(Fault::End)?;
        self.at += c.len_utf8();
        Ok(c)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\r' | '\n')) {
            self.at += 1;
        }
    }

    fn found<T>(c: char, context: &str) -> Result<T, Fault> {
        Err(Fault::Found(c, context.to_owned()))
    }

    fn document(&mut self) -> Scan {
        // What is open: true for an object, false for a list.
        let mut open: Vec<bool> = Vec::new();
        loop {
            let value_ended = self.value_or_opening(&mut open)?;
            if !value_ended {
                continue;
            }
            loop {
                self.skip_space();
                let Some(&object) = open.last() else {
                    return match self.peek() {
                        None => Ok(()),
                        Some(c) => Self::found(c, "after top-level value"),
                    };
                };
                match (object, self.next()?) {
                    (true, '}') | (false, ']') => {
                        open.pop();
                    }
                    (true, ',') => {
                        self.skip_space();
                        self.key()?;
                        break;
                    }
                    (false, ',') => break,
                    (true, c) => return Self::found(c, "after object key:value pair"),
                    (false, c) => return Self::found(c, "after array element"),
                }
            }
        }
    }

    /// Reads a value, or the opening of an object or list that has something in it; whether a value has ended.
    fn value_or_opening(&mut self, open: &mut Vec<bool>) -> Result<bool, Fault> {
        self.skip_space();
        if open.len() > DEEPEST {
            return Self::found(self.peek().ok_or(Fault::End)?, "exceeded max depth");
        }
        match self.next()? {
            '{' => {
                self.skip_space();
                if self.peek() == Some('}') {
                    self.at += 1;
                    return Ok(true);
                }
                self.key()?;
                open.push(true);
                Ok(false)
            }
            '[' => {
                self.skip_space();
                if self.peek() == Some(']') {
                    self.at += 1;
                    return Ok(true);
                }
                open.push(false);
                Ok(false)
            }
            '"' => self.string().map(|()| true),
            't' => self.literal("true").map(|()| true),
            'f' => self.literal("false").map(|()| true),
            'n' => self.literal("null").map(|()| true),
            c @ ('-' | '0'..='9') => self.number(c).map(|()| true),
            c => Self::found(c, "looking for beginning of value"),
        }
    }

    fn key(&mut self) -> Scan {
        match self.next()? {
            '"' => self.string()?,
            c => return Self::found(c, "looking for beginning of object key string"),
        }
        self.skip_space();
        match self.next()? {
            ':' => Ok(()),
            c => Self::found(c, "after object key"),
        }
    }

    fn string(&mut self) -> Scan {
        loop {
            match self.next()? {
                '"' => return Ok(()),
                '\\' => match self.next()? {
                    'b' | 'f' | 'n' | 'r' | 't' | '\\' | '/' | '"' => {}
                    'u' => {
                        for _ in 0..4 {
                            match self.next()? {
                                c if c.is_ascii_hexdigit() => {}
                                c => return Self::found(c, "in \\u hexadecimal character escape"),
                            }
                        }
                    }
                    c => return Self::found(c, "in string escape code"),
                },
                c if c < ' ' => return Self::found(c, "in string literal"),
                _ => {}
            }
        }
    }

    /// The rest of a word whose first letter has been read.
    fn literal(&mut self, word: &str) -> Scan {
        for expected in word.chars().skip(1) {
            let c = self.next()?;
            if c != expected {
                return Self::found(c, &format!("in literal {word} (expecting '{expected}')"));
            }
        }
        Ok(())
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some('0'..='9')) {
            self.at += 1;
        }
    }

    fn digit(&mut self, context: &str) -> Scan {
        match self.next()? {
            '0'..='9' => Ok(()),
            c => Self::found(c, context),
        }
    }

    /// The rest of a number whose first character has been read.
    fn number(&mut self, first: char) -> Scan {
        let first = if first == '-' {
            let after = self.peek().ok_or(Fault::End)?;
            self.digit("in numeric literal")?;
            after
        } else {
            first
        };
        if first != '0' {
            self.digits();
        }
        if self.peek() == Some('.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            self.at += 1;
            if matches!(self.peek(), Some('+' | '-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn faults_are_told_as_go_tells_them() {
        let cases = [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            (
                "not json",
                "invalid character 'o' in literal null (expecting 'u')",
            ),
            (
                "{nope",
                "invalid character 'n' looking for beginning of object key string",
            ),
            (
                "{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{} x", "invalid character 'x' after top-level value"),
            (
                "1.x",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            (" {\"a\": [1, -0.5e+3, {}, [], \"\\u00e9\", true, null]} ", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(fault(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_fault_is_found_exactly_when_a_parser_finds_one(text in r#"[\[\]{},:"0-9a\\ntrue.\-]{0,12}"#) {
            let parsed: Result<serde_json::Value, _> = serde_json::from_str(&text);
            // A number too large for a float is well-formed all the same.
            let well_formed = parsed.as_ref().map_or_else(|e| e.to_string().contains("out of range"), |_| true);
            prop_assert_eq!(fault(&text).is_empty(), well_formed, "{:?} {:?}", text, parsed);
        }
    }
}
