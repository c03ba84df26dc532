//! Checks an expression against the schema it is about, before there are values: names, fields, operators.
//!
//! What is not known here (the results of most functions, for one) passes; it shows when the rule is evaluated.

use std::collections::HashMap;

use cel::Program;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, StructExpr, operators,
};

use super::requests::patches;
use super::types::Kind;

/// Functions by what they return; nothing where that differs.
const FUNCTIONS: [(&str, &str); 9] = [
    (
        "int",
        "size int getFullYear getMonth getDayOfYear getDayOfMonth getDate getDayOfWeek getHours getMinutes \
     getSeconds getMilliseconds indexOf lastIndexOf sign compareTo asInteger family prefixLength major minor patch",
    ),
    (
        "bool",
        "contains startsWith endsWith matches bool isSorted isURL isQuantity isGreaterThan isLessThan \
     isInteger isIP isCanonical isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast \
     isGlobalUnicast isCIDR containsIP containsCIDR equivalent intersects hasValue isSemver",
    ),
    (
        "",
        "semver named validate dns1123Label dns1123Subdomain dns1035Label qualifiedName dns1123LabelPrefix dns1123SubdomainPrefix \
     dns1035LabelPrefix labelValue uri uuid byte date datetime type dyn split reverse sum min max findAll url getQuery quantity add sub ip cidr masked none of \
     ofNonZeroValue value or orValue optMap optFlatMap sortBy first last slice distinct sort flatten range \
         @sortByAssociatedKeys",
    ),
    ("uint", "uint"),
    ("double", "double asApproximateFloat"),
    (
        "string",
        "string charAt join lowerAscii upperAscii trim replace substring format quote find getScheme getHost \
     getHostname getPort getEscapedPath",
    ),
    ("bytes", "bytes"),
    ("google.protobuf.Timestamp", "timestamp"),
    ("google.protobuf.Duration", "duration"),
];

/// What expressions about requests may call besides: the functions of authorizers.
const OF_AUTHORIZERS: [(&str, &str); 4] = [
    ("bool", "allowed errored"),
    ("string", "error reason"),
    ("kubernetes.authorization.Decision", "check"),
    (
        "",
        "fieldSelector group labelSelector name namespace path resource serviceAccount subresource",
    ),
];

/// What mutations may call besides.
const OF_PATCHES: [(&str, &str); 1] = [("string", "escapeKey")];

/// Names of types, and what functions with qualified names begin with.
const NAMES: &str = "bool bytes cidr double duration dyn format google int ip kubernetes list map net null_type optional \
     optional_type sets string strings timestamp type uint";

/// Whether a name is one of a list of names.
fn listed(names: &str, name: &str) -> bool {
    names.split_whitespace().any(|known| known == name)
}

/// The type of a program's result, and of all parts of it by their numbers; or the texts of what is wrong with it, one per
/// fault.
pub(super) fn check(program: &Program, variables: &[(&str, Kind)]) -> Result<(Kind, Kinds), String> {
    check_with(program, variables, Vec::new(), false)
}

/// The types of a program's parts, by their numbers.
pub(super) type Kinds = HashMap<u64, Kind>;

/// As [`check`], for expressions about requests, which may ask authorizers and make patches.
pub(super) fn check_request(
    program: &Program,
    variables: &[(&str, Kind)],
    authorizers: bool,
    patches: bool,
) -> Result<Kind, String> {
    let mut further = Vec::new();
    if authorizers {
        further.extend(&OF_AUTHORIZERS);
    }
    if patches {
        further.extend(&OF_PATCHES);
    }
    check_with(program, variables, further, patches).map(|(kind, _)| kind)
}

/// Whether an expression is a variable that may be anything, or something in one: then it is known to be of any type,
/// rather than not known of which.
pub(super) fn is_plainly_dyn(expression: &IdedExpr, variables: &[&str]) -> bool {
    let is = |expression: &IdedExpr| is_plainly_dyn(expression, variables);
    match &expression.expr {
        Expr::Ident(name) => variables.contains(&name.as_str()),
        Expr::Select(select) => !select.test && is(&select.operand),
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [container, _]) => {
                is(container)
            }
            (operators::CONDITIONAL, [_, then, otherwise]) => is(then) || is(otherwise),
            ("orValue" | "value", _) => call.target.as_ref().is_some_and(|optional| is(optional)),
            _ => false,
        },
        _ => false,
    }
}

fn check_with(
    program: &Program,
    variables: &[(&str, Kind)],
    further: Vec<&'static (&'static str, &'static str)>,
    patches: bool,
) -> Result<(Kind, Kinds), String> {
    let mut checker = Checker {
        program,
        kinds: Kinds::new(),
        further,
        patches,
        scope: variables
            .iter()
            .map(|(name, kind)| ((*name).to_owned(), kind.clone()))
            .collect(),
        faults: Vec::new(),
    };
    let kind = checker.kind(program.expression());
    if checker.faults.is_empty() {
        Ok((kind, checker.kinds))
    } else {
        let mut faults = checker.faults;
        faults.sort_by_key(|(place, _)| *place);
        let texts: Vec<_> = faults.into_iter().map(|(_, text)| text).collect();
        Err(texts.join("\n"))
    }
}

struct Checker<'a> {
    program: &'a Program,
    kinds: Kinds,
    /// Functions besides those that all expressions may call.
    further: Vec<&'static (&'static str, &'static str)>,
    /// Whether patches may be made.
    patches: bool,
    /// Variables, the innermost last.
    scope: Vec<(String, Kind)>,
    /// What is wrong, and where.
    faults: Vec<((usize, usize), String)>,
}

impl Checker<'_> {
    fn kind(&mut self, expression: &IdedExpr) -> Kind {
        let kind = self.find_kind(expression);
        self.kinds.insert(expression.id, kind.clone());
        kind
    }

    fn find_kind(&mut self, expression: &IdedExpr) -> Kind {
        match &expression.expr {
            Expr::Unspecified => Kind::Dyn,
            Expr::Literal(literal) => literal_kind(literal),
            Expr::Ident(name) => self.identifier(expression.id, name),
            Expr::Select(select) => {
                let operand = self.kind(&select.operand);
                let kind = self.field(expression.id, &operand, &select.field);
                if select.test { Kind::Simple("bool") } else { kind }
            }
            Expr::Call(call) => self.call(expression.id, call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::List(list) => {
                let mut element: Option<Kind> = None;
                for item in &list.elements {
                    let kind = self.kind(item);
                    element = Some(self.same(element, kind, item.id));
                }
                Kind::List(Box::new(element.unwrap_or(Kind::Dyn).atom()))
            }
            Expr::Map(map) => {
                let mut of_texts = !map.entries.is_empty();
                let mut values: Option<Kind> = None;
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        of_texts &= self.kind(&entry.key).simple() == Some("string");
                        let kind = self.kind(&entry.value);
                        values = Some(self.same(values, kind, entry.value.id));
                    }
                }
                if of_texts {
                    Kind::Map(Box::new(Kind::Dyn))
                } else {
                    Kind::Dyn
                }
            }
            Expr::Struct(made) => self.structure(expression.id, made),
        }
    }

    /// `Object{…}` and `JSONPatch{…}`, of whose fields only the latter's are known.
    fn structure(&mut self, id: u64, made: &StructExpr) -> Kind {
        let name = made.type_name.as_str();
        if !(self.patches && patches::is_type(name)) {
            self.fault(id, &format!("undeclared reference to '{name}' (in container '')"));
            return Kind::Dyn;
        }
        for entry in &made.entries {
            let EntryExpr::StructField(field) = &entry.expr else {
                continue;
            };
            let kind = self.kind(&field.value);
            if name != patches::JSON_PATCH {
                continue;
            }
            let at = entry.id;
            let wanted = match field.field.as_str() {
                "value" => continue,
                "from" | "op" | "path" => "string",
                _ => "",
            };
            let fits = match &kind {
                Kind::Simple(name) => *name == wanted,
                Kind::Dyn => !wanted.is_empty(),
                _ => false,
            };
            if !fits {
                let got = kind.describe();
                let text = format!(
                    "expected type of field '{}' is '{wanted}' but provided type is '{got}'",
                    field.field
                );
                self.fault(at, &text);
            }
        }
        Kind::Struct(name.into())
    }

    /// The type of the elements of a list, or the values of a map, with one more: all must be of one type.
    fn same(&mut self, before: Option<Kind>, next: Kind, id: u64) -> Kind {
        let Some(before) = before else { return next };
        if before.differs(&next) {
            let (wanted, found) = (before.describe(), next.describe());
            self.fault(id, &format!("expected type '{wanted}' but found '{found}'"));
        }
        before.or(&next)
    }

    fn identifier(&mut self, id: u64, name: &str) -> Kind {
        let found = self.scope.iter().rev().find(|(known, _)| known == name);
        if let Some((_, kind)) = found {
            return kind.clone();
        }
        if !listed(NAMES, name) {
            self.fault(id, &format!("undeclared reference to '{name}' (in container '')"));
        }
        Kind::Dyn
    }

    fn field(&mut self, id: u64, operand: &Kind, name: &str) -> Kind {
        if !operand.has_fields() {
            let type_ = operand.describe();
            self.fault(id, &format!("type '{type_}' does not support field selection"));
            return Kind::Dyn;
        }
        operand.field(name).unwrap_or_else(|| {
            self.fault(id, &format!("undefined field '{name}'"));
            Kind::Dyn
        })
    }

    fn call(&mut self, id: u64, call: &CallExpr) -> Kind {
        let name = call.func_name.as_str();
        let target = call.target.as_ref().map(|target| self.kind(target));
        if let (operators::OPT_SELECT, [operand, field]) = (name, call.args.as_slice()) {
            let operand = self.kind(operand);
            if let Expr::Literal(LiteralValue::String(field)) = &field.expr {
                self.field(id, &operand, field.inner());
            }
            return Kind::Dyn;
        }
        let kinds: Vec<_> = call.args.iter().map(|argument| self.kind(argument)).collect();
        if matches!(name, operators::LOGICAL_AND | operators::LOGICAL_OR) {
            for (operand, kind) in call.args.iter().zip(&kinds) {
                if !matches!(kind, Kind::Dyn | Kind::Simple("bool")) {
                    let text = format!("expected type 'bool' but found '{}'", kind.describe());
                    self.fault(operand.id, &text);
                }
            }
            return Kind::Simple("bool");
        }
        match (name, kinds.as_slice()) {
            (operators::INDEX, [container, _]) => container.element(),
            (operators::OPT_INDEX, _) => Kind::Dyn,
            (operators::CONDITIONAL, [condition, then, otherwise]) => {
                if then.differs(otherwise) {
                    self.no_overload(id, name, &[condition, then, otherwise]);
                }
                then.clone().or(otherwise)
            }
            (operators::NEGATE, [operand]) => operand.clone(),
            (operators::LOGICAL_NOT, [operand]) => {
                if !matches!(operand, Kind::Dyn | Kind::Simple("bool")) {
                    self.no_overload(id, name, &[operand]);
                }
                Kind::Simple("bool")
            }
            (_, [a, b]) if name.starts_with('_') => self.operator(id, name, a, b),
            _ if name.starts_with('@') && name != "@sortByAssociatedKeys" => Kind::Simple("bool"),
            _ => self.function(id, name, target.as_ref(), &kinds),
        }
    }

    fn function(&mut self, id: u64, name: &str, target: Option<&Kind>, arguments: &[Kind]) -> Kind {
        let last = name.rsplit('.').next().unwrap_or(name);
        if let Some(target) = target
            && !(target.receives(last) && takes(last, arguments))
        {
            let arguments: Vec<_> = arguments.iter().map(Kind::describe).collect();
            let signature = format!("{}.({})", target.describe(), arguments.join(", "));
            self.fault(
                id,
                &format!("found no matching overload for '{name}' applied to '{signature}'"),
            );
        }
        let mut functions = FUNCTIONS.iter().chain(self.further.iter().copied());
        match functions.find(|(_, names)| listed(names, last)) {
            Some(("", _)) => Kind::Dyn,
            Some((result, _)) => Kind::Simple(result),
            None => {
                self.fault(id, &format!("undeclared reference to '{name}' (in container '')"));
                Kind::Dyn
            }
        }
    }

    /// Operators want operands that go together; only types without parts are judged.
    fn operator(&mut self, id: u64, name: &str, a: &Kind, b: &Kind) -> Kind {
        use operators::{
            ADD, EQUALS, GREATER, GREATER_EQUALS, LESS, LESS_EQUALS, LOGICAL_AND, LOGICAL_OR, NOT_EQUALS,
        };
        let compares = matches!(name, LESS | LESS_EQUALS | GREATER | GREATER_EQUALS);
        let equates = matches!(name, EQUALS | NOT_EQUALS);
        let boolean = compares || equates || matches!(name, LOGICAL_AND | LOGICAL_OR);
        let known = |kind: &Kind| !matches!(kind, Kind::Dyn);
        if known(a) && known(b) && (a.simple().is_some() != b.simple().is_some()) && name != operators::IN {
            let null = |kind: &Kind| kind.simple() == Some("null");
            let nullable = (null(a) && b.is_nullable()) || (null(b) && a.is_nullable());
            if !(equates && nullable) {
                self.no_overload(id, name, &[a, b]);
            }
        }
        if let (ADD, Kind::List(first), Kind::List(second)) = (name, a, b) {
            return Kind::List(Box::new((**first).clone().or(second)));
        }
        if let (Some(first), Some(second)) = (a.simple(), b.simple()) {
            let number = |name: &str| matches!(name, "int" | "uint" | "double");
            let moment = |name: &str| name.starts_with("google.protobuf.");
            let fits = match name {
                // Judged one by one, where they are.
                LOGICAL_AND | LOGICAL_OR => true,
                _ if compares => first == second || (number(first) && number(second)),
                _ if equates => {
                    first == second
                        || (first == "null" && moment(second))
                        || (second == "null" && moment(first))
                }
                ADD => (first == second && first != "bool") || (moment(first) && moment(second)),
                _ => (first == second && number(first)) || (moment(first) && moment(second)),
            };
            if !fits {
                self.no_overload(id, name, &[a, b]);
            } else if !boolean && first == second && !moment(first) {
                return a.clone();
            }
        }
        if boolean { Kind::Simple("bool") } else { Kind::Dyn }
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Kind {
        let range = self.kind(&comprehension.iter_range);
        if let Some(type_) = range.simple() {
            let text = format!(
                "expression of type '{type_}' cannot be range of a comprehension (must be list, map, or dynamic)"
            );
            self.fault(comprehension.iter_range.id, &text);
        }
        let start = match self.kind(&comprehension.accu_init) {
            Kind::List(_) => Kind::Dyn,
            other => other,
        };
        let outer = self.scope.len();
        self.scope.push((comprehension.accu_var.clone(), start));
        match &comprehension.iter_var2 {
            Some(second) => {
                // Of lists, the first of two variables is the index.
                let first = if matches!(range, Kind::Map(_)) {
                    "string"
                } else {
                    "int"
                };
                self.scope
                    .push((comprehension.iter_var.clone(), Kind::Simple(first)));
                self.scope.push((second.clone(), range.element()));
            }
            None => self
                .scope
                .push((comprehension.iter_var.clone(), range.iterated())),
        }
        self.kind(&comprehension.loop_cond);
        self.kind(&comprehension.loop_step);
        self.scope.truncate(outer + 1);
        let result = self.kind(&comprehension.result);
        self.scope.truncate(outer);
        result
    }

    fn no_overload(&mut self, id: u64, name: &str, operands: &[&Kind]) {
        let operands: Vec<_> = operands.iter().map(|operand| operand.describe()).collect();
        let operands = operands.join(", ");
        self.fault(
            id,
            &format!("found no matching overload for '{name}' applied to '({operands})'"),
        );
    }

    fn fault(&mut self, id: u64, text: &str) {
        let info = self.program.source_info();
        let offset = info.offset_for(id).map_or(0, |(start, _)| start as usize);
        let before: String = info.source.chars().take(offset).collect();
        let line = before.matches('\n').count();
        let column = before.chars().rev().take_while(|c| *c != '\n').count();
        let source = info.source.lines().nth(line).unwrap_or_default();
        let fault = format!(
            "ERROR: <input>:{}:{}: {text}\n | {source}\n | {}^",
            line + 1,
            column + 1,
            ".".repeat(column)
        );
        let fault = ((line, column), fault);
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

/// Whether a method takes those arguments, as far as that is the same for all its overloads.
fn takes(method: &str, arguments: &[Kind]) -> bool {
    match method {
        "startsWith" | "endsWith" | "contains" | "matches" | "find" => {
            matches!(arguments, [Kind::Dyn | Kind::Simple("string")] | [_, _, ..])
        }
        _ => true,
    }
}

fn literal_kind(literal: &LiteralValue) -> Kind {
    Kind::Simple(match literal {
        LiteralValue::Boolean(_) => "bool",
        LiteralValue::Bytes(_) => "bytes",
        LiteralValue::Double(_) => "double",
        LiteralValue::Int(_) => "int",
        LiteralValue::Null => "null",
        LiteralValue::String(_) => "string",
        LiteralValue::UInt(_) => "uint",
    })
}
