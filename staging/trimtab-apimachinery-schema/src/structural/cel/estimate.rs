//! What a rule may cost at most, found out before there are values: from the sizes that a schema allows, and by how cel-go and
//! kube-apiserver estimate what operators and functions cost.
//!
//! Of what is not known here as well as cel-go's checker knows it, the least is assumed: nothing is refused that
//! kube-apiserver takes.

use std::collections::HashMap;
use std::sync::Arc;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::declared::{Declared, Parts};
use super::types::Kind;

/// What a character costs that is looked at (`StringTraversalCostFactor`).
const TEXT: f64 = 0.1;
/// What a character of a pattern costs (`RegexStringLengthCostFactor`).
const PATTERN: f64 = 0.25;
/// The longest pattern of a format (`MaxNameFormatRegexSize`).
const FORMAT: f64 = 128.0;

/// The cost of an expression about a value of this size, at most; its parts are of these kinds, by their numbers.
pub(super) fn cost(expression: &IdedExpr, about: &Arc<Declared>, kinds: &HashMap<u64, Kind>) -> u64 {
    let mut estimator = Estimator {
        about,
        kinds,
        scope: Vec::new(),
    };
    estimator.cost(expression).0
}

/// How many characters or elements something has.
#[derive(Clone, Copy, Debug)]
struct Size {
    min: u64,
    max: u64,
}

impl Size {
    const UNKNOWN: Self = Self {
        min: 0,
        max: u64::MAX,
    };
    const ONE: Self = Self { min: 1, max: 1 };

    fn up_to(max: u64) -> Self {
        Self { min: 0, max }
    }

    fn exactly(size: usize) -> Self {
        let size = size as u64;
        Self { min: size, max: size }
    }

    fn add(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    fn times(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// What kind of value something is, as far as that matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sort {
    /// Characters or bytes.
    Text,
    Scalar,
    List,
    Map,
    Fields,
    /// Nobody knows.
    #[default]
    Unsure,
}

impl Sort {
    fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Simple("string" | "bytes") => Self::Text,
            Kind::Simple(name) if matches!(*name, "int" | "uint" | "double" | "bool") => Self::Scalar,
            Kind::Simple(name) if name.starts_with("google.protobuf.") => Self::Scalar,
            Kind::List(_) => Self::List,
            Kind::Map(_) => Self::Map,
            Kind::Fields(..) | Kind::Metadata | Kind::Record(_) | Kind::Struct(_) => Self::Fields,
            _ => Self::Unsure,
        }
    }
}

/// What is known of an expression's value.
#[derive(Clone, Debug, Default)]
struct Part {
    sort: Sort,
    /// What the schema says of it.
    declared: Option<Arc<Declared>>,
    /// What the expression says of it.
    size: Option<Size>,
    /// The size of what is in it, if the expression says that.
    entry: Option<Size>,
    /// What its elements are, if it is a list.
    elements: Sort,
}

impl Part {
    fn size(&self) -> Size {
        let declared = self.declared.as_ref().map(|declared| Size::up_to(declared.most));
        self.size.or(declared).unwrap_or(match self.sort {
            Sort::Scalar | Sort::Unsure => Size::ONE,
            _ => Size::UNKNOWN,
        })
    }

    /// The size of the elements of a list.
    fn element_size(&self) -> Size {
        let element = self.declared.as_ref().and_then(|declared| declared.element());
        match (element, self.elements) {
            (Some(element), _) => Size::up_to(element.most),
            (None, Sort::Scalar | Sort::Unsure) => Size::ONE,
            (None, _) => Size::UNKNOWN,
        }
    }
}

/// What going through something costs.
fn going(size: u64, factor: f64) -> u64 {
    // Large numbers are what they are about; a cast that saturates is what is wanted.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "as cel-go does it, in floating point"
    )]
    let cost = (size as f64 * factor).ceil() as u64;
    cost
}

struct Estimator<'a> {
    /// What `self` is.
    about: &'a Arc<Declared>,
    kinds: &'a HashMap<u64, Kind>,
    /// Variables of loops, the innermost last.
    scope: Vec<(String, Part)>,
}

impl Estimator<'_> {
    fn cost(&mut self, expression: &IdedExpr) -> (u64, Part) {
        let kind = self.kinds.get(&expression.id);
        let mut part = Part {
            sort: kind.map(Sort::of).unwrap_or_default(),
            elements: match kind {
                Some(Kind::List(element)) => Sort::of(element),
                _ => Sort::Unsure,
            },
            ..Part::default()
        };
        let cost = match &expression.expr {
            Expr::Unspecified => 0,
            Expr::Literal(literal) => {
                part.size = Some(match literal {
                    LiteralValue::String(text) => Size::exactly(text.inner().chars().count()),
                    LiteralValue::Bytes(bytes) => Size::exactly(bytes.inner().len()),
                    _ => Size::ONE,
                });
                0
            }
            Expr::Ident(name) => {
                let local = self.scope.iter().rev().find(|(known, _)| known == name);
                if let Some((_, local)) = local {
                    (part.declared, part.size) = (local.declared.clone(), local.size);
                    part.entry = local.entry;
                } else if matches!(name.as_str(), "self" | "oldSelf") {
                    part.declared = Some(self.about.clone());
                }
                1
            }
            Expr::Select(select) => {
                let (cost, of) = self.cost(&select.operand);
                if select.test {
                    return (cost, part);
                }
                part.declared = of.declared.and_then(|declared| declared.field(&select.field));
                cost + u64::from(of.sort != Sort::Scalar && of.sort != Sort::Text)
            }
            Expr::Call(call) => return self.call(call, part),
            Expr::List(list) => {
                let parts: Vec<_> = list.elements.iter().map(|element| self.cost(element)).collect();
                part.size = Some(Size::exactly(parts.len()));
                part.entry = parts.iter().map(|(_, part)| part.size()).reduce(Size::or);
                parts
                    .iter()
                    .fold(10u64, |sum, (cost, _)| sum.saturating_add(*cost))
            }
            Expr::Map(map) => {
                part.size = Some(Size::exactly(map.entries.len()));
                map.entries
                    .iter()
                    .fold(30u64, |sum, entry| sum.saturating_add(self.entry(&entry.expr)))
            }
            Expr::Struct(made) => made
                .entries
                .iter()
                .fold(40u64, |sum, entry| sum.saturating_add(self.entry(&entry.expr))),
            Expr::Comprehension(comprehension) => return self.comprehension(comprehension, part),
        };
        (cost, part)
    }

    fn entry(&mut self, entry: &EntryExpr) -> u64 {
        match entry {
            EntryExpr::StructField(field) => self.cost(&field.value).0,
            EntryExpr::MapEntry(entry) => {
                let key = self.cost(&entry.key).0;
                key.saturating_add(self.cost(&entry.value).0)
            }
        }
    }

    fn comprehension(&mut self, loop_: &ComprehensionExpr, mut part: Part) -> (u64, Part) {
        let (once, range) = self.cost(&loop_.iter_range);
        let (begin, init) = self.cost(&loop_.accu_init);
        let once = once.saturating_add(begin);
        let accumulated = Part {
            size: Some(init.size()),
            declared: None,
            ..init
        };
        let is_binding = matches!(&loop_.iter_range.expr, Expr::List(list) if list.elements.is_empty())
            && !loop_.accu_var.starts_with('@');
        self.scope.push((loop_.accu_var.clone(), accumulated));
        if is_binding {
            let (cost, of) = self.cost(&loop_.result);
            self.scope.pop();
            return (once.saturating_add(cost), of);
        }
        // What is gone through that the schema does not know counts as what the rule is about.
        let key = || Some(Arc::new(Declared::default()));
        let of_range = match &range.declared {
            None => Some(self.about.clone()),
            Some(declared) => match &declared.parts {
                Parts::Elements(element) => Some(element.clone()),
                Parts::Values(_) => key(),
                _ => None,
            },
        };
        let (first, second) = match (&loop_.iter_var2, &range.declared) {
            (None, _) => (of_range, None),
            (Some(_), Some(declared)) => (key(), declared.element()),
            (Some(_), None) => (key(), Some(self.about.clone())),
        };
        let local = |declared| Part {
            declared,
            ..Part::default()
        };
        self.scope.push((loop_.iter_var.clone(), local(first)));
        if let Some(name) = &loop_.iter_var2 {
            self.scope.push((name.clone(), local(second)));
        }
        let (condition, _) = self.cost(&loop_.loop_cond);
        let (step, stepped) = self.cost(&loop_.loop_step);
        self.scope.pop();
        if loop_.iter_var2.is_some() {
            self.scope.pop();
        }
        let (end, _) = self.cost(&loop_.result);
        self.scope.pop();
        let turns = range.size();
        let turn = condition.saturating_add(step);
        match &loop_.accu_init.expr {
            Expr::Literal(_) => part.size = Some(Size::ONE),
            Expr::List(_) | Expr::Map(_) => {
                part.size = Some(turns);
                part.entry = stepped.entry;
            }
            _ => {}
        }
        let all = turns.max.saturating_mul(turn);
        (once.saturating_add(end).saturating_add(all), part)
    }

    fn call(&mut self, call: &CallExpr, mut part: Part) -> (u64, Part) {
        let arguments: Vec<(u64, Part)> = call.args.iter().map(|argument| self.cost(argument)).collect();
        let sum = arguments
            .iter()
            .fold(0u64, |sum, (cost, _)| sum.saturating_add(*cost));
        let name = call.func_name.as_str();
        if let ("dyn", [(_, of)]) = (name, arguments.as_slice()) {
            let copy = Part {
                sort: part.sort,
                ..of.clone()
            };
            return (sum.saturating_add(1), copy);
        }
        // The first part of a function's name is no value.
        let target = call.target.as_ref().filter(|target| {
            !matches!(&target.expr, Expr::Ident(name)
                if matches!(name.as_str(), "sets" | "ip" | "format" | "optional" | "net"))
        });
        let of_sets = call.target.is_some() && target.is_none() && name != "isCanonical";
        let target = target.map(|target| self.cost(target));
        let parts: Vec<&Part> = arguments.iter().map(|(_, part)| part).collect();
        let own = match (name, arguments.as_slice()) {
            (operators::CONDITIONAL, [(condition, _), (a, then), (b, otherwise)]) => {
                part.size = Some(then.size().or(otherwise.size()));
                part.entry = then.entry.zip(otherwise.entry).map(|(a, b)| a.or(b));
                return (condition.saturating_add(*a.max(b)), part);
            }
            (operators::LOGICAL_AND | operators::LOGICAL_OR, _) => 0,
            _ => own(
                name,
                target.as_ref().map(|(_, part)| part),
                &parts,
                of_sets,
                call,
                &mut part,
            ),
        };
        let cost = target.map_or(0, |(cost, _)| cost);
        (cost.saturating_add(own).saturating_add(sum), part)
    }
}

/// What a function costs beside its arguments; what is known of its result is noted.
fn own(
    name: &str,
    target: Option<&Part>,
    arguments: &[&Part],
    of_sets: bool,
    call: &CallExpr,
    result: &mut Part,
) -> u64 {
    use operators::{ADD, EQUALS, GREATER, GREATER_EQUALS, IN, INDEX, LESS, LESS_EQUALS, NOT_EQUALS};
    let first = arguments.first().map_or(Size::up_to(0), |part| part.size());
    match (name, target, arguments) {
        ("contains" | "intersects", _, [a, b]) if of_sets => a.size().times(b.size()).max.saturating_add(1),
        ("equivalent", _, [a, b]) if of_sets => {
            a.size().times(b.size()).max.saturating_mul(2).saturating_add(1)
        }
        (EQUALS | NOT_EQUALS, _, [a, b]) => going(a.size().max.min(b.size().max), TEXT),
        (LESS | LESS_EQUALS | GREATER | GREATER_EQUALS, _, [a, b])
            if a.sort == Sort::Text || b.sort == Sort::Text =>
        {
            going(a.size().max.min(b.size().max), TEXT)
        }
        (ADD, _, [a, b])
            if [a.sort, b.sort]
                .iter()
                .any(|sort| matches!(sort, Sort::Text | Sort::List)) =>
        {
            let size = a.size().add(b.size());
            result.size = Some(size);
            result.entry = a.entry.zip(b.entry).map(|(a, b)| a.or(b)).or(a.entry).or(b.entry);
            match a.sort == Sort::List || b.sort == Sort::List {
                true => 1,
                false => going(size.max, TEXT),
            }
        }
        (IN, _, [_, b]) if b.sort == Sort::List => b.size().max,
        (INDEX, _, [of, _]) => {
            result.declared = of.declared.as_ref().and_then(|declared| declared.element());
            result.size = of.entry;
            1
        }
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(target), _) => {
            if target.sort == Sort::Text {
                return going(target.size().max, TEXT);
            }
            let text = match target.elements {
                Sort::Text => going(target.element_size().max, TEXT),
                _ => 0,
            };
            target.size().max.saturating_mul(text.saturating_add(1))
        }
        ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(target), _) => {
            result.size = Some(target.size());
            going(target.size().max, TEXT)
        }
        ("replace", Some(target), [from, to, ..]) => {
            result.size = Some(replaced(target.size(), from.size(), to.size()));
            going(target.size().max, 2.0 * TEXT)
        }
        ("split", Some(target), _) => {
            let most = match call.args.get(1).map(|limit| &limit.expr) {
                Some(Expr::Literal(LiteralValue::Int(limit))) => {
                    u64::try_from(*limit.inner()).unwrap_or(u64::MAX)
                }
                _ => target.size().max,
            };
            result.size = Some(Size::up_to(most));
            going(target.size().max, 2.0 * TEXT)
        }
        ("join", Some(target), _) => {
            let list = target.size();
            let between = Size {
                min: list.min.saturating_sub(1),
                max: list.max.saturating_sub(1),
            };
            let size = list.times(target.element_size()).add(first.times(between));
            result.size = Some(size);
            going(size.max, TEXT)
        }
        ("matches" | "find" | "findAll", Some(target), [_, ..]) => {
            if name != "matches" {
                result.size = Some(Size::up_to(target.size().max));
            }
            let text = going(target.size().max.saturating_add(1), TEXT);
            text.saturating_mul(going(first.max, PATTERN))
        }
        ("contains", Some(target), [_]) => {
            going(target.size().max, TEXT).saturating_mul(going(first.max, TEXT))
        }
        ("startsWith" | "endsWith", _, [_]) => going(first.max, TEXT),
        ("url", None, [_]) => {
            result.size = Some(first);
            going(first.max, TEXT)
        }
        ("isCanonical", _, [_]) => going(first.max, 2.0 * TEXT),
        (
            "ip" | "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver",
            None,
            [_, ..],
        ) => going(first.max, TEXT),
        ("validate", Some(_), [_]) => going(going(first.max, TEXT), FORMAT * PATTERN),
        ("containsIP" | "containsCIDR", Some(_), [of]) => {
            let compare = if name == "containsIP" { 4 } else { 7 };
            let read = if of.sort == Sort::Text {
                going(first.max, TEXT)
            } else {
                0
            };
            read.saturating_add(compare)
        }
        ("bytes", None, [of]) if of.sort == Sort::Text => {
            result.size = Some(Size {
                min: first.min,
                max: first.max.saturating_mul(4),
            });
            going(first.max, TEXT)
        }
        _ => 1,
    }
}

/// How long a text is in which another has been replaced.
fn replaced(text: Size, from: Size, to: Size) -> Size {
    let (mut count, mut kept) = (Size::up_to(0), Size::up_to(0));
    if from.min == 0 {
        count.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if to.max <= from.min {
        kept.max = text.max;
    } else {
        count.max = text.max.div_ceil(from.min);
    }
    if from.max == 0 {
        count.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if from.max <= to.min {
        kept.min = text.min;
    } else {
        count.min = text.min.div_ceil(from.max);
    }
    count.times(to).add(kept)
}
