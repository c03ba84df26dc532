//! Reads templates.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Command, Function, Node, Operand, Pipeline, Source, Template};

/// A piece of a template: text, or what is between braces.
enum Piece {
    Text(String),
    Action(String),
}

pub(super) fn template(text: &str) -> Result<Template, String> {
    let pieces = pieces(text)?;
    let mut reader = Reader {
        pieces: pieces.into_iter(),
        defined: BTreeMap::new(),
    };
    let (body, end) = reader.block()?;
    match end {
        None => Ok(Template {
            body,
            defined: reader.defined,
        }),
        Some(end) => Err(format!("{{{{ {end} }}}} does not belong to anything")),
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}").ok_or("an action does not end with }}")?;
        let mut before = if trim { before.trim_start() } else { before };
        let mut action = action;
        if let Some(inner) = action.strip_prefix("- ") {
            before = before.trim_end();
            action = inner;
        }
        trim = false;
        if let Some(inner) = action.strip_suffix(" -") {
            trim = true;
            action = inner;
        }
        pieces.push(Piece::Text(before.to_owned()));
        let action = action.trim();
        if !action.starts_with("/*") {
            pieces.push(Piece::Action(action.to_owned()));
        }
        rest = after;
    }
    pieces.push(Piece::Text(
        if trim { rest.trim_start() } else { rest }.to_owned(),
    ));
    Ok(pieces)
}

struct Reader {
    pieces: std::vec::IntoIter<Piece>,
    defined: BTreeMap<String, Vec<Node>>,
}

impl Reader {
    /// All until an action that ends the block, and that action.
    fn block(&mut self) -> Result<(Vec<Node>, Option<String>), String> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let action = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(action) => action,
            };
            let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((&action, ""));
            match word {
                "end" | "else" => return Ok((nodes, Some(action))),
                "if" => nodes.push(self.conditional(rest)?),
                "with" => {
                    let value = pipeline(rest)?;
                    let (then, otherwise) = self.branches()?;
                    nodes.push(Node::With(value, then, otherwise));
                }
                "range" => {
                    let (names, over) = variables(rest);
                    let over = pipeline(over)?;
                    let (body, otherwise) = self.branches()?;
                    nodes.push(Node::Range {
                        names,
                        over,
                        body,
                        otherwise,
                    });
                }
                "define" => {
                    let name = quoted(rest)?;
                    let (body, end) = self.block()?;
                    if end.as_deref() != Some("end") {
                        return Err(format!("define {name:?} has no end"));
                    }
                    self.defined.insert(name, body);
                }
                "template" => {
                    let rest = rest.trim();
                    let end = rest.get(1..).and_then(|inner| inner.find('"')).map(|at| at + 2);
                    let (name, given) = rest.split_at(end.ok_or("a template has no name")?);
                    let given = given.trim();
                    let given = (!given.is_empty()).then(|| pipeline(given)).transpose()?;
                    nodes.push(Node::Template(quoted(name)?, given));
                }
                "break" => nodes.push(Node::Break),
                _ => nodes.push(statement(&action)?),
            }
        }
        Ok((nodes, None))
    }

    fn conditional(&mut self, condition: &str) -> Result<Node, String> {
        let condition = pipeline(condition)?;
        let (then, end) = self.block()?;
        let otherwise = self.otherwise(end)?;
        Ok(Node::If(condition, then, otherwise))
    }

    fn branches(&mut self) -> Result<(Vec<Node>, Vec<Node>), String> {
        let (then, end) = self.block()?;
        Ok((then, self.otherwise(end)?))
    }

    fn otherwise(&mut self, end: Option<String>) -> Result<Vec<Node>, String> {
        match end.as_deref() {
            Some("end") => Ok(Vec::new()),
            Some("else") => match self.block()? {
                (nodes, Some(end)) if end == "end" => Ok(nodes),
                _ => Err("an else has no end".to_owned()),
            },
            Some(other) => {
                let condition = other.strip_prefix("else").map(str::trim_start);
                let condition = condition.and_then(|rest| rest.strip_prefix("if "));
                let condition = condition.ok_or_else(|| format!("{{{{ {other} }}}} is not understood"))?;
                Ok(vec![self.conditional(condition)?])
            }
            None => Err("an if, a with or a range has no end".to_owned()),
        }
    }
}

fn quoted(text: &str) -> Result<String, String> {
    serde_json::from_str(text.trim()).map_err(|_| format!("{text:?} is no text in quotes"))
}

/// `$i, $x := PIPELINE`
fn variables(text: &str) -> (Vec<String>, &str) {
    match text.split_once(":=") {
        Some((names, over)) if names.trim_start().starts_with('$') => {
            let names = names
                .split(',')
                .map(|name| name.trim().trim_start_matches('$').to_owned());
            (names.collect(), over)
        }
        _ => (Vec::new(), text),
    }
}

/// An assignment, or something that is printed.
fn statement(action: &str) -> Result<Node, String> {
    if action.starts_with('$') {
        let (target, new, value) = match (action.split_once(":="), action.split_once(" = ")) {
            (Some((target, value)), _) => (target, "+", value),
            (None, Some((target, value))) => (target, "", value),
            (None, None) => return Ok(Node::Print(pipeline(action)?)),
        };
        let name = target.trim().trim_start_matches('$');
        if name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            return Ok(Node::Set(format!("{new}{name}"), pipeline(value)?));
        }
    }
    Ok(Node::Print(pipeline(action)?))
}

// === Expressions ===

fn pipeline(text: &str) -> Result<Pipeline, String> {
    let tokens = tokens(text)?;
    let mut at = 0;
    let found = commands(&tokens, &mut at)?;
    match tokens.get(at) {
        None => Ok(found),
        Some(token) => Err(format!("{token} is not expected in {text:?}")),
    }
}

/// Parentheses, bars and words.
fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' | '|' => 1,
            '"' => {
                let mut escaped = false;
                let end = rest[1..].find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                });
                end.ok_or_else(|| format!("a text in {text:?} has no end"))? + 2
            }
            '`' => {
                rest[1..]
                    .find('`')
                    .ok_or_else(|| format!("a text in {text:?} has no end"))?
                    + 2
            }
            _ => rest
                .find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '|'))
                .unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token.to_owned());
        rest = after.trim_start();
    }
    Ok(tokens)
}

fn commands(tokens: &[String], at: &mut usize) -> Result<Pipeline, String> {
    let mut commands = Vec::new();
    loop {
        commands.push(command(tokens, at)?);
        match tokens.get(*at).map(String::as_str) {
            Some("|") => *at += 1,
            _ => return Ok(Pipeline(commands)),
        }
    }
}

fn command(tokens: &[String], at: &mut usize) -> Result<Command, String> {
    let first = tokens.get(*at).map(String::as_str);
    let Some(first) = first.filter(|first| !matches!(*first, "|" | ")")) else {
        return Err("an expression has nothing in it".to_owned());
    };
    let is_word = first.starts_with(|c: char| c.is_ascii_alphabetic());
    if is_word && !matches!(first, "true" | "false" | "nil") {
        let function = Function::named(first).ok_or_else(|| {
            let known: Vec<&str> = Function::ALL.iter().map(|(name, _)| *name).collect();
            format!(
                "function {first} is not supported; these are: {}",
                known.join(", ")
            )
        })?;
        *at += 1;
        let mut operands = Vec::new();
        while tokens
            .get(*at)
            .is_some_and(|token| !matches!(token.as_str(), "|" | ")"))
        {
            // A function that takes nothing may be an argument by its name.
            operands.push(operand(tokens, at)?);
        }
        return Ok(Command::Call(function, operands));
    }
    Ok(Command::Value(operand(tokens, at)?))
}

fn operand(tokens: &[String], at: &mut usize) -> Result<Operand, String> {
    let token = tokens[*at].clone();
    *at += 1;
    let fields = |path: &str| -> Vec<String> {
        path.split('.')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    };
    if token == "(" {
        let inner = commands(tokens, at)?;
        if tokens.get(*at).map(String::as_str) != Some(")") {
            return Err("a parenthesis is not closed".to_owned());
        }
        *at += 1;
        // `(…).name` comes as two tokens.
        let path = tokens
            .get(*at)
            .filter(|token| token.starts_with('.') && token.len() > 1);
        let found = path.map_or_else(Vec::new, |path| fields(path));
        *at += usize::from(!found.is_empty());
        return Ok(Operand {
            from: Source::Inner(Box::new(inner)),
            fields: found,
        });
    }
    if let Some(path) = token.strip_prefix('.') {
        return Ok(Operand {
            from: Source::Dot,
            fields: fields(path),
        });
    }
    if let Some(rest) = token.strip_prefix('$') {
        let (name, path) = rest.split_once('.').unwrap_or((rest, ""));
        return Ok(Operand {
            from: Source::Variable(name.to_owned()),
            fields: fields(path),
        });
    }
    let literal = match token.as_str() {
        "nil" => Value::Null,
        raw if raw.starts_with('`') => raw.trim_matches('`').into(),
        other => match serde_json::from_str(other) {
            Ok(value) => value,
            Err(_) => {
                let call = Function::named(other).map(|function| Command::Call(function, Vec::new()));
                let call = call.ok_or_else(|| format!("{other} is not understood"))?;
                return Ok(Operand {
                    from: Source::Inner(Box::new(Pipeline(vec![call]))),
                    fields: Vec::new(),
                });
            }
        },
    };
    Ok(Operand {
        from: Source::Literal(literal),
        fields: Vec::new(),
    })
}
