//! Label selectors and field selectors: their text form, and what they match.
//!
//! A label selector is parsed by the grammar of `k8s.io/apimachinery/pkg/labels`, with its error texts; the
//! `LabelSelector` object (`matchLabels`, `matchExpressions`) reads into the same form.

use std::fmt;

use serde_json::Value;

use crate::names;

/// What a requirement asks of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label is there with one of these values.
    In(Vec<String>),
    /// The label is absent, or has none of these values.
    NotIn(Vec<String>),
    /// The label is there.
    Exists,
    /// The label is absent.
    NotExists,
    /// The label is a whole number greater than this.
    GreaterThan(i64),
    /// The label is a whole number less than this.
    LessThan(i64),
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What is asked of it.
    pub operator: Operator,
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
            Operator::NotIn(values) => value.is_none_or(|v| values.iter().all(|w| w != v)),
            Operator::Exists => value.is_some(),
            Operator::NotExists => value.is_none(),
            Operator::GreaterThan(bound) => number().is_some_and(|n| n > *bound),
            Operator::LessThan(bound) => number().is_some_and(|n| n < *bound),
        }
    }
}

/// A selector that cannot be understood, in an API server's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// A set of conditions on labels, all of which must hold. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Parses the text form: `a=b,c!=d,e in (f,g),h,!i`.
    ///
    /// # Errors
    ///
    /// Says what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let unable = |e: String| SelectorError(format!("unable to parse requirement: {e}"));
        let mut requirements = Parser::new(text).parse().map_err(|e| match e {
            ParseError::Requirement(e) => unable(e),
            ParseError::Other(e) => SelectorError(e),
        })?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// Reads a `LabelSelector` object. A null or absent selector matches nothing and gives `None`; an empty one
    /// matches everything.
    ///
    /// # Errors
    ///
    /// An operator that is none of `In`, `NotIn`, `Exists` and `DoesNotExist`.
    pub fn from_object(object: &Value) -> Result<Option<Self>, SelectorError> {
        if object.is_null() {
            return Ok(None);
        }
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let mut requirements = Vec::new();
        for (key, value) in object["matchLabels"].as_object().into_iter().flatten() {
            requirements.push(Requirement {
                key: key.clone(),
                operator: Operator::In(vec![text(value)]),
            });
        }
        for expression in object["matchExpressions"].as_array().into_iter().flatten() {
            let values = || {
                expression["values"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(text)
                    .collect()
            };
            let operator = match expression["operator"].as_str().unwrap_or_default() {
                "In" => Operator::In(values()),
                "NotIn" => Operator::NotIn(values()),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::NotExists,
                other => {
                    return Err(SelectorError(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            requirements.push(Requirement {
                key: text(&expression["key"]),
                operator,
            });
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Some(Self { requirements }))
    }

    /// Whether there are no conditions.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The conditions, in the order of their keys.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether labels match, given as a lookup.
    pub fn matches_with<T: AsRef<str>>(&self, label: impl Fn(&str) -> Option<T>) -> bool {
        let holds = |r: &Requirement| r.matches(label(&r.key).as_ref().map(T::as_ref));
        self.requirements.iter().all(holds)
    }

    /// Whether `metadata.labels`, a JSON object or null, match.
    pub fn matches(&self, labels: &Value) -> bool {
        self.matches_with(|key| labels.get(key).and_then(Value::as_str))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Requirement { key, operator }) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let sorted = |values: &[String]| {
                let mut values = values.to_vec();
                values.sort();
                values.join(",")
            };
            match operator {
                Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0])?,
                Operator::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", values[0])?,
                Operator::In(values) => write!(f, "{key} in ({})", sorted(values))?,
                Operator::NotIn(values) => write!(f, "{key} notin ({})", sorted(values))?,
                Operator::Exists => f.write_str(key)?,
                Operator::NotExists => write!(f, "!{key}")?,
                Operator::GreaterThan(bound) => write!(f, "{key}>{bound}")?,
                Operator::LessThan(bound) => write!(f, "{key}<{bound}")?,
            }
        }
        Ok(())
    }
}

enum ParseError {
    Requirement(String),
    Other(String),
}

/// Splits the text into words, operators and punctuation.
fn tokens(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let special = |c: u8| matches!(c, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<');
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            c if c.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'=' | b'!' if bytes.get(at + 1) == Some(&b'=') => at += 2,
            c if special(c) => at += 1,
            _ => {
                while at < bytes.len() && !special(bytes[at]) && !bytes[at].is_ascii_whitespace() {
                    at += 1;
                }
            }
        }
        out.push(&text[start..at]);
    }
    out
}

struct Parser<'a> {
    tokens: Vec<&'a str>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            tokens: tokens(text),
            at: 0,
        }
    }

    /// The next token; empty at the end.
    fn peek(&self) -> &'a str {
        self.tokens.get(self.at).copied().unwrap_or_default()
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn parse(mut self) -> Result<Vec<Requirement>, ParseError> {
        let mut out = Vec::new();
        while !self.peek().is_empty() {
            if !is_word(self.peek()) && self.peek() != "!" {
                let found = self.peek();
                return Err(ParseError::Other(format!(
                    "found '{found}', expected: !, identifier, or 'end of string'"
                )));
            }
            out.push(self.requirement().map_err(ParseError::Requirement)?);
            match self.next() {
                "" => break,
                "," => {
                    let after = self.peek();
                    if !is_word(after) && after != "!" {
                        let text = format!("found '{after}', expected: identifier after ','");
                        return Err(ParseError::Other(text));
                    }
                }
                found => {
                    return Err(ParseError::Other(format!(
                        "found '{found}', expected: ',' or 'end of string'"
                    )));
                }
            }
        }
        Ok(out)
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek() == "!";
        if negated {
            self.at += 1;
        }
        let key = self.next();
        if !is_word(key) {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let errors = names::qualified_name(key);
        if !errors.is_empty() {
            return Err(format!("<nil>: Invalid value: {key:?}: {}", errors.join("; ")));
        }
        let key = key.to_owned();
        if negated {
            return Ok(Requirement {
                key,
                operator: Operator::NotExists,
            });
        }
        let operator = match self.peek() {
            "" | "," => {
                return Ok(Requirement {
                    key,
                    operator: Operator::Exists,
                });
            }
            _ => self.next(),
        };
        let number = |value: &str| {
            let why = "for 'Gt', 'Lt' operators, the value must be an integer";
            value
                .parse::<i64>()
                .map_err(|_| format!("values[0][{key}]: Invalid value: {value:?}: {why}"))
        };
        let operator = match operator {
            "=" | "==" => Operator::In(vec![self.exact_value(&key)?]),
            "!=" => Operator::NotIn(vec![self.exact_value(&key)?]),
            "in" => Operator::In(self.values(&key)?),
            "notin" => Operator::NotIn(self.values(&key)?),
            ">" => Operator::GreaterThan(number(&self.exact_value(&key)?)?),
            "<" => Operator::LessThan(number(&self.exact_value(&key)?)?),
            found => return Err(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        Ok(Requirement { key, operator })
    }

    fn exact_value(&mut self, key: &str) -> Result<String, String> {
        match self.peek() {
            "" | "," => Ok(String::new()),
            value if is_word(value) => {
                self.at += 1;
                checked(key, 0, value)
            }
            found => Err(format!("found '{found}', expected: identifier")),
        }
    }

    fn values(&mut self, key: &str) -> Result<Vec<String>, String> {
        let open = self.next();
        if open != "(" {
            return Err(format!("found '{open}', expected: '('"));
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                ")" => {
                    values.push(String::new());
                    break;
                }
                "," => values.push(String::new()),
                value if is_word(value) => {
                    values.push(checked(key, values.len(), value)?);
                    match self.next() {
                        ")" => break,
                        "," if self.peek() == ")" => {}
                        "," => {}
                        found => return Err(format!("found '{found}', expected: ',' or ')'")),
                    }
                }
                found => return Err(format!("found '{found}', expected: ',', ')' or identifier")),
            }
        }
        values.sort();
        values.dedup();
        Ok(values)
    }
}

fn is_word(token: &str) -> bool {
    !matches!(token, "" | "=" | "==" | "!=" | "!" | "(" | ")" | "," | ">" | "<")
}

fn checked(key: &str, index: usize, value: &str) -> Result<String, String> {
    let errors = names::label_value(value);
    if errors.is_empty() {
        return Ok(value.to_owned());
    }
    Err(format!(
        "values[{index}][{key}]: Invalid value: {value:?}: {}",
        errors.join("; ")
    ))
}

/// One condition on one field: equal, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// The field's path, as `metadata.name`.
    pub field: String,
    /// The value compared with.
    pub value: String,
    /// Whether the field must be equal, rather than different.
    pub equal: bool,
}

/// A set of conditions on fields, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// The conditions, in the order given.
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Parses the text form: `a=b,c!=d`. In values `\`, `,` and `=` are escaped by `\`.
    ///
    /// # Errors
    ///
    /// Says which term cannot be understood.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for term in split_terms(text).into_iter().filter(|t| !t.is_empty()) {
            let Some((field, operator, value)) = split_term(term) else {
                return Err(SelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                )));
            };
            terms.push(FieldTerm {
                field: field.to_owned(),
                value: unescape(value)?,
                equal: operator != "!=",
            });
        }
        Ok(Self { terms })
    }

    /// Whether there are no conditions.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that `field` must have, if the selector says so.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|t| t.equal && t.field == field)
            .map(|t| t.value.as_str())
    }

    /// Whether fields match, given as a lookup; an unknown field is empty.
    pub fn matches(&self, lookup: impl Fn(&str) -> Option<String>) -> bool {
        self.terms
            .iter()
            .all(|t| (lookup(&t.field).unwrap_or_default() == t.value) == t.equal)
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn split_term(term: &str) -> Option<(&str, &'static str, &str)> {
    term.char_indices().find_map(|(i, _)| {
        let rest = &term[i..];
        let operator = ["!=", "==", "="].into_iter().find(|o| rest.starts_with(o))?;
        Some((&term[..i], operator, &rest[operator.len()..]))
    })
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => {
                    let text = format!("invalid field selector: invalid escape sequence: \\{c}");
                    return Err(SelectorError(text));
                }
                None => {
                    return Err(SelectorError(
                        "invalid field selector: invalid escape sequence: \\".to_owned(),
                    ));
                }
            },
            ',' | '=' => {
                let text = format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                );
                return Err(SelectorError(text));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn label_selectors_match_as_their_text_says() {
        let labels = json!({"a": "b", "n": "5", "x.io/k": "v"});
        let cases = [
            ("", true),
            ("a=b", true),
            ("a==b", true),
            ("a!=b", false),
            ("c!=b", true),
            ("a", true),
            ("!a", false),
            ("!c,a", true),
            ("a in (b, c)", true),
            ("a notin (b)", false),
            ("c notin (b)", true),
            ("a in ()", false),
            ("n>4,n<6", true),
            ("a>4", false),
            ("x.io/k=v", true),
            ("c=", false),
        ];
        for (text, matches) in cases {
            let selector = LabelSelector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(selector.matches(&labels), matches, "{text}");
            assert_eq!(
                LabelSelector::parse(&selector.to_string()).as_ref(),
                Ok(&selector),
                "{text} round trip"
            );
        }
    }

    #[test]
    fn bad_label_selectors_are_refused_in_the_servers_words() {
        let cases = [
            (
                "a===b",
                "unable to parse requirement: found '=', expected: identifier",
            ),
            (
                "bad key=x",
                "unable to parse requirement: found 'key', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "t in (x",
                "unable to parse requirement: found '', expected: ',' or ')'",
            ),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
        ];
        for (text, error) in cases {
            assert_eq!(
                LabelSelector::parse(text).map_err(|e| e.to_string()),
                Err(error.to_owned())
            );
        }
    }

    #[test]
    fn selector_objects_read_into_the_same_form() {
        let object = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["d", "e"]}, {"key": "f", "operator": "DoesNotExist"}]});
        let selector = LabelSelector::from_object(&object).map(|s| s.map(|s| s.to_string()));
        assert_eq!(selector, Ok(Some("a=b,c in (d,e),!f".to_owned())));
        assert_eq!(LabelSelector::from_object(&Value::Null), Ok(None));
    }

    #[test]
    fn field_selectors_parse_and_match() {
        let lookup = |f: &str| (f == "metadata.name").then(|| "a,b".to_owned());
        for (text, matches) in [
            ("metadata.name=a\\,b", true),
            ("metadata.name!=x", true),
            ("x=", true),
            ("x=y", false),
        ] {
            assert_eq!(
                FieldSelector::parse(text).map(|s| s.matches(lookup)),
                Ok(matches),
                "{text}"
            );
        }
        let cases = [
            (
                "metadata.name",
                "invalid selector: 'metadata.name'; can't understand 'metadata.name'",
            ),
            (
                "metadata.name=a=b",
                "invalid field selector: unescaped character in value: 61",
            ),
        ];
        for (text, error) in cases {
            assert_eq!(
                FieldSelector::parse(text).map_err(|e| e.to_string()),
                Err(error.to_owned())
            );
        }
    }
}
