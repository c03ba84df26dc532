//! Templates of stages: as much of Go's text templates as stages are written with.
//!
//! Actions: `if`, `else if`, `else`, `range` (also with variables), `with`, `break`, `define` and `template`, variables, comments,
//! trimmed spaces. Functions: see [`Function`]; KWOK's for addresses are answered by the simulation. What is not known is an
//! error when the file is read.

mod parse;

use std::collections::BTreeMap;

use serde_json::Value;

/// A template that has been read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    body: Vec<Node>,
    defined: BTreeMap<String, Vec<Node>>,
}

/// What only the simulation knows.
pub(crate) trait World {
    /// The time in, as objects have it.
    fn now(&self) -> String;
    /// The address of a node.
    fn node_address(&self, node: &str) -> String;
    /// The address of the pod that the template is about.
    fn pod_address(&self) -> String;
    /// The name of the node that the template is about.
    fn node_name(&self) -> String;
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Print(Pipeline),
    /// The name, and whether it is new.
    Set(String, Pipeline),
    If(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range {
        names: Vec<String>,
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Template(String, Option<Pipeline>),
    Break,
}

/// Commands, each of which is given what the one before gave.
#[derive(Clone, Debug, PartialEq)]
struct Pipeline(Vec<Command>);

#[derive(Clone, Debug, PartialEq)]
enum Command {
    Call(Function, Vec<Operand>),
    Value(Operand),
}

#[derive(Clone, Debug, PartialEq)]
struct Operand {
    from: Source,
    fields: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Source {
    Dot,
    Variable(String),
    Literal(Value),
    Inner(Box<Pipeline>),
}

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Now,
    Quote,
    Yaml,
    NodeAddress,
    PodAddress,
    NodeName,
    Version,
    Or,
    And,
    Not,
    Equal,
    Different,
    Index,
    Length,
    Dict,
    Increment,
}

impl Function {
    const ALL: [(&str, Self); 20] = [
        ("Now", Self::Now),
        ("Quote", Self::Quote),
        ("quote", Self::Quote),
        ("YAML", Self::Yaml),
        ("NodeIPWith", Self::NodeAddress),
        ("NodeIP", Self::NodeAddress),
        ("PodIPWith", Self::PodAddress),
        ("PodIP", Self::PodAddress),
        ("NodeName", Self::NodeName),
        ("Version", Self::Version),
        ("or", Self::Or),
        ("and", Self::And),
        ("not", Self::Not),
        ("eq", Self::Equal),
        ("ne", Self::Different),
        ("index", Self::Index),
        ("len", Self::Length),
        ("dict", Self::Dict),
        ("add1", Self::Increment),
        ("StartTime", Self::Now),
    ];

    fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, function)| *function)
    }
}

/// Where a template is while it is written out.
struct Scope<'a> {
    template: &'a Template,
    world: &'a dyn World,
    root: &'a Value,
    variables: Vec<(String, Value)>,
    out: String,
    depth: usize,
}

/// How deep templates may call each other.
const DEEPEST: usize = 32;

/// How a part ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
}

impl Template {
    /// # Errors
    /// What of the text is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        parse::template(text)
    }

    /// The text for an object.
    ///
    /// # Errors
    /// What of the object is not as the template wants it.
    pub(crate) fn render(&self, object: &Value, world: &dyn World) -> Result<String, String> {
        let mut scope = Scope {
            template: self,
            world,
            root: object,
            variables: Vec::new(),
            out: String::new(),
            depth: 0,
        };
        scope.write(&self.body, object)?;
        Ok(scope.out)
    }
}

impl Scope<'_> {
    fn write(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        let outer = self.variables.len();
        let flow = self.write_open(nodes, dot);
        self.variables.truncate(outer);
        flow
    }

    fn write_open(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    self.out.push_str(text);
                    Flow::On
                }
                Node::Print(pipeline) => {
                    let value = self.value(pipeline, dot)?;
                    self.out.push_str(&text(&value));
                    Flow::On
                }
                Node::Set(name, pipeline) => {
                    let (name, new) = match name.strip_prefix('+') {
                        Some(name) => (name, true),
                        None => (name.as_str(), false),
                    };
                    let value = self.value(pipeline, dot)?;
                    let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
                    match known.filter(|_| !new) {
                        Some((_, known)) => *known = value,
                        None => self.variables.push((name.to_owned(), value)),
                    }
                    Flow::On
                }
                Node::If(condition, then, otherwise) => {
                    let holds = truth(&self.value(condition, dot)?);
                    self.write(if holds { then } else { otherwise }, dot)?
                }
                Node::With(pipeline, then, otherwise) => {
                    let value = self.value(pipeline, dot)?;
                    match truth(&value) {
                        true => self.write(then, &value)?,
                        false => self.write(otherwise, dot)?,
                    }
                }
                Node::Range {
                    names,
                    over,
                    body,
                    otherwise,
                } => {
                    let over = self.value(over, dot)?;
                    self.range(names, &over, body, otherwise, dot)?
                }
                Node::Template(name, given) => {
                    let value = match given {
                        Some(given) => self.value(given, dot)?,
                        None => Value::Null,
                    };
                    self.call(name, &value)?
                }
                Node::Break => Flow::Break,
            };
            if flow == Flow::Break {
                return Ok(Flow::Break);
            }
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        names: &[String],
        over: &Value,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, String> {
        let items: Vec<(Value, Value)> = match over {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(at, item)| (at.into(), item.clone()))
                .collect(),
            Value::Object(items) => items
                .iter()
                .map(|(key, item)| (key.clone().into(), item.clone()))
                .collect(),
            _ => Vec::new(),
        };
        if items.is_empty() {
            return self.write(otherwise, dot);
        }
        for (key, item) in items {
            let outer = self.variables.len();
            match names {
                [one] => self.variables.push((one.clone(), item.clone())),
                [at, one, ..] => {
                    self.variables.push((at.clone(), key));
                    self.variables.push((one.clone(), item.clone()));
                }
                [] => {}
            }
            let flow = self.write(body, &item);
            self.variables.truncate(outer);
            if flow? == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn call(&mut self, name: &str, value: &Value) -> Result<Flow, String> {
        let template = self.template;
        let Some(body) = template.defined.get(name) else {
            return Err(format!("template {name:?} is not defined"));
        };
        if self.depth >= DEEPEST {
            return Err(format!("template {name:?} calls itself without end"));
        }
        self.depth += 1;
        let outer = std::mem::take(&mut self.variables);
        let flow = self.write(body, value);
        self.variables = outer;
        self.depth -= 1;
        flow.map(|_| Flow::On)
    }

    fn value(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut given = None;
        for command in &pipeline.0 {
            given = Some(match command {
                Command::Value(operand) => self.operand(operand, dot)?,
                Command::Call(function, operands) => {
                    let mut arguments = Vec::new();
                    for operand in operands {
                        arguments.push(self.operand(operand, dot)?);
                    }
                    arguments.extend(given);
                    self.apply(*function, &arguments)?
                }
            });
        }
        Ok(given.unwrap_or_default())
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        let inner;
        let mut value = match &operand.from {
            Source::Dot => dot,
            Source::Variable(name) if name.is_empty() => self.root,
            Source::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                let known = known.ok_or_else(|| format!("variable ${name} is not set"))?;
                &known.1
            }
            Source::Literal(value) => value,
            Source::Inner(pipeline) => {
                inner = self.value(pipeline, dot)?;
                &inner
            }
        };
        for field in &operand.fields {
            value = value.get(field).unwrap_or(&Value::Null);
        }
        Ok(value.clone())
    }

    fn apply(&self, function: Function, arguments: &[Value]) -> Result<Value, String> {
        let argument = |at: usize| arguments.get(at).cloned().unwrap_or_default();
        Ok(match function {
            Function::Now => self.world.now().into(),
            Function::Quote => Value::from(text(&argument(0))).to_string().into(),
            // JSON is YAML too.
            Function::Yaml => {
                let indent = usize::try_from(argument(1).as_u64().unwrap_or_default()).unwrap_or_default();
                format!("{}{}", "  ".repeat(indent.min(DEEPEST)), argument(0)).into()
            }
            Function::NodeAddress => self
                .world
                .node_address(argument(0).as_str().unwrap_or_default())
                .into(),
            Function::PodAddress => self.world.pod_address().into(),
            Function::NodeName => self.world.node_name().into(),
            Function::Version => env!("CARGO_PKG_VERSION").into(),
            Function::Or => {
                let first = arguments.iter().find(|value| truth(value)).or(arguments.last());
                first.cloned().unwrap_or_default()
            }
            Function::And => {
                let first = arguments.iter().find(|value| !truth(value)).or(arguments.last());
                first.cloned().unwrap_or_default()
            }
            Function::Not => (!truth(&argument(0))).into(),
            Function::Equal => arguments.iter().skip(1).any(|other| *other == argument(0)).into(),
            Function::Different => (argument(0) != argument(1)).into(),
            Function::Index => {
                let mut value = argument(0);
                for key in arguments.iter().skip(1) {
                    value = match (key.as_str(), key.as_u64().map(usize::try_from)) {
                        (Some(key), _) => value.get(key).cloned().unwrap_or_default(),
                        (None, Some(Ok(at))) => value.get(at).cloned().unwrap_or_default(),
                        _ => return Err(format!("{key} is no index")),
                    };
                }
                value
            }
            Function::Length => match argument(0) {
                Value::Array(items) => items.len(),
                Value::Object(items) => items.len(),
                Value::String(text) => text.len(),
                _ => 0,
            }
            .into(),
            Function::Dict => {
                let pairs = arguments.chunks(2);
                let pairs = pairs.map(|pair| (text(&pair[0]), pair.get(1).cloned().unwrap_or_default()));
                Value::Object(pairs.collect())
            }
            Function::Increment => (argument(0).as_i64().unwrap_or_default().saturating_add(1)).into(),
        })
    }
}

/// As it is printed.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Fixed;

    impl World for Fixed {
        fn now(&self) -> String {
            "2030-01-01T00:00:00Z".to_owned()
        }
        fn node_address(&self, node: &str) -> String {
            format!("address of {node}")
        }
        fn pod_address(&self) -> String {
            "10.0.0.1".to_owned()
        }
        fn node_name(&self) -> String {
            "n".to_owned()
        }
    }

    #[test]
    fn templates_are_written_out_as_in_go() {
        let object = json!({"spec": {"nodeName": "n", "containers": [{"name": "a", "image": "x"}, {"name": "b"}], "none": []},
            "labels": {"k": "v"}, "count": 3});
        for (template, expected) in [
            ("plain", "plain"),
            ("{{ .spec.nodeName | Quote }}", "\"n\""),
            ("a {{- /* gone */ -}} b", "ab"),
            ("{{ range .spec.containers }}{{ .name }},{{ end }}", "a,b,"),
            (
                "{{ range $i, $c := .spec.containers }}{{ $i }}{{ $c.name }}{{ end }}",
                "0a1b",
            ),
            ("{{ range .spec.none }}x{{ else }}none{{ end }}", "none"),
            ("{{ range .spec.containers }}{{ .name }}{{ break }}{{ end }}", "a"),
            ("{{ with .spec }}{{ .nodeName }}{{ $.count }}{{ end }}", "n3"),
            (
                "{{ if eq .count 3 4 }}three{{ else if .spec }}other{{ else }}x{{ end }}",
                "three",
            ),
            (
                "{{ if not (eq .count 3) }}x{{ else if ne .count 4 }}other{{ end }}",
                "other",
            ),
            ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
            (
                "{{ (index .spec.containers 1).name }}{{ index .labels \"k\" }}",
                "bv",
            ),
            (
                "{{ or .spec.missing \"usual\" }}{{ len .spec.containers }}",
                "usual2",
            ),
            (
                "{{ PodIPWith .spec.nodeName (or .x false) \"\" | Quote }}",
                "\"10.0.0.1\"",
            ),
            (
                "{{ NodeIPWith .spec.nodeName }} {{ Now }}",
                "address of n 2030-01-01T00:00:00Z",
            ),
            (
                "{{ define \"t\" }}<{{ .a }}>{{ end }}{{ template \"t\" dict \"a\" .count }}",
                "<3>",
            ),
            ("{{ YAML .labels 1 }}", "  {\"k\":\"v\"}"),
            ("{{ add1 (or .spec.none 1) }}", "2"),
        ] {
            let parsed = Template::parse(template).unwrap_or_else(|error| panic!("{template}: {error}"));
            assert_eq!(
                parsed.render(&object, &Fixed).as_deref(),
                Ok(expected),
                "{template}"
            );
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (template, expected) in [
            ("{{ nonsense .a }}", "nonsense"),
            ("{{ range .a }}", "end"),
            ("{{ end }}", "end"),
            ("{{ .a", "}}"),
            ("{{ .a | }}", "nothing"),
        ] {
            let error = Template::parse(template).expect_err(template);
            assert!(error.contains(expected), "{template}: {error}");
        }
        let endless = Template::parse("{{ define \"t\" }}{{ template \"t\" }}{{ end }}{{ template \"t\" }}");
        assert!(
            endless
                .expect("it can be read")
                .render(&json!({}), &Fixed)
                .is_err()
        );
    }
}
