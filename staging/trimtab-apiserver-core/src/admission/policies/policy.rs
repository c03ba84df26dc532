//! Policies and bindings as their objects describe them: rules read, expressions compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use trimtab_apimachinery_meta::LabelSelector;
use trimtab_apimachinery_schema::structural::{Composition, Declarations, Expression, Returns};

use crate::admission::dynamic::{Kinds, Rule, selector, texts, wants_equivalents};
use crate::registry::meta;

/// What a policy, or what binds it, is about.
#[derive(Debug)]
pub(super) struct MatchResources {
    pub(super) rules: Vec<Rule>,
    pub(super) excluded: Vec<Rule>,
    pub(super) equivalents: bool,
    pub(super) namespaces: Result<LabelSelector, String>,
    pub(super) objects: Result<LabelSelector, String>,
}

/// The kind of a policy's params.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParamKind {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
}

/// What validating and mutating policies have in common.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) constraints: MatchResources,
    pub(super) conditions: Vec<Expression>,
    pub(super) composition: Composition,
    pub(super) params: Option<ParamKind>,
    /// Whether the request goes on when it cannot be evaluated.
    pub(super) may_fail: bool,
}

/// One validation of a policy.
#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: Expression,
    /// What to say, as it is.
    pub(super) message: String,
    /// What to say, to be computed.
    pub(super) message_expression: Option<Expression>,
    /// Why the request is refused, as status reasons; empty when nothing is said.
    pub(super) reason: String,
}

/// What a ValidatingAdmissionPolicy does.
#[derive(Debug)]
pub(super) struct Validations {
    pub(super) validations: Vec<Validation>,
    /// Keys and values of audit annotations.
    pub(super) annotations: Vec<(String, Expression)>,
}

/// What a MutatingAdmissionPolicy does.
#[derive(Debug)]
pub(super) struct Mutations {
    pub(super) mutations: Vec<Expression>,
    /// Whether it wants to be asked again when others have changed the object after it.
    pub(super) again: bool,
}

/// The params that a binding brings.
#[derive(Debug)]
pub(super) struct ParamRef {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) selector: Option<Result<LabelSelector, String>>,
    /// Whether it refuses when there are none.
    pub(super) must_be_there: bool,
}

/// What binds a policy.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) policy: String,
    /// `None` for all that the policy is about.
    pub(super) resources: Option<MatchResources>,
    pub(super) params: Option<ParamRef>,
    /// `Deny`, `Warn`, `Audit`; none of mutating policies.
    pub(super) actions: Vec<String>,
}

/// A policy with what it does and what binds it; those that nothing binds do nothing.
#[derive(Debug)]
pub(super) struct Bound<D> {
    pub(super) policy: Arc<(Policy, D)>,
    pub(super) bindings: Vec<Arc<Binding>>,
}

/// A policy or a binding.
#[derive(Debug)]
pub(super) enum Either<D> {
    Policy(Arc<(Policy, D)>),
    Binding(Arc<Binding>),
}

/// ValidatingAdmissionPolicies and what binds them.
#[derive(Debug)]
pub(super) struct Validating;

/// MutatingAdmissionPolicies and what binds them.
#[derive(Debug)]
pub(super) struct Mutating;

impl Kinds for Validating {
    const PLURALS: &'static [&'static str] =
        &["validatingadmissionpolicies", "validatingadmissionpolicybindings"];
    type One = Either<Validations>;
    type All = Vec<Bound<Validations>>;

    fn read(kind: usize, object: &Value) -> Self::One {
        if kind > 0 {
            return Either::Binding(Arc::new(Binding::read(object)));
        }
        let policy = Policy::read(object);
        let does = Validations::read(&object["spec"], &policy.composition);
        Either::Policy(Arc::new((policy, does)))
    }

    fn all(of: &[BTreeMap<Bytes, Self::One>]) -> Self::All {
        bind(of)
    }
}

impl Kinds for Mutating {
    const PLURALS: &'static [&'static str] =
        &["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"];
    type One = Either<Mutations>;
    type All = Vec<Bound<Mutations>>;

    fn read(kind: usize, object: &Value) -> Self::One {
        if kind > 0 {
            return Either::Binding(Arc::new(Binding::read(object)));
        }
        let policy = Policy::read(object);
        let does = Mutations::read(&object["spec"], &policy.composition);
        Either::Policy(Arc::new((policy, does)))
    }

    fn all(of: &[BTreeMap<Bytes, Self::One>]) -> Self::All {
        bind(of)
    }
}

/// Puts policies and their bindings together, both in the order of their names.
fn bind<D>(of: &[BTreeMap<Bytes, Either<D>>]) -> Vec<Bound<D>> {
    let mut bindings: BTreeMap<&str, Vec<Arc<Binding>>> = BTreeMap::new();
    let all = || of.iter().flat_map(BTreeMap::values);
    for either in all() {
        if let Either::Binding(binding) = either {
            bindings.entry(&binding.policy).or_default().push(binding.clone());
        }
    }
    let mut bound = Vec::new();
    for either in all() {
        if let Either::Policy(policy) = either
            && let Some(bindings) = bindings.remove(policy.0.name.as_str())
        {
            let policy = policy.clone();
            bound.push(Bound { policy, bindings });
        }
    }
    bound
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

fn items<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value[field].as_array().into_iter().flatten()
}

// === impl MatchResources ===

impl MatchResources {
    fn read(resources: &Value) -> Self {
        Self {
            rules: Rule::read_all(&resources["resourceRules"]),
            excluded: Rule::read_all(&resources["excludeResourceRules"]),
            equivalents: wants_equivalents(resources),
            namespaces: selector(resources, "namespaceSelector"),
            objects: selector(resources, "objectSelector"),
        }
    }
}

// === impl ParamKind ===

impl ParamKind {
    fn read(kind: &Value) -> Self {
        let api_version = text(kind, "apiVersion");
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: text(kind, "kind").to_owned(),
        }
    }

    /// The kind of the params of a policy that is stored or about to be, if it has any.
    pub(super) fn of(policy: &Value) -> Option<Self> {
        let kind = &policy["spec"]["paramKind"];
        kind.is_object().then(|| Self::read(kind))
    }
}

impl std::fmt::Display for ParamKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

// === impl Policy ===

impl Policy {
    fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let params = ParamKind::of(object);
        let names = Declarations::default().with_params(params.is_some());
        let mut composition = Composition::new(names.with_variables());
        for variable in items(spec, "variables") {
            // What does not compile fails when it is looked at.
            composition.add_variable(text(variable, "name"), text(variable, "expression"));
        }
        let conditions = items(spec, "matchConditions")
            .map(|condition| composition.compile(text(condition, "expression"), Returns::Bool))
            .collect();
        Self {
            name: meta::name(object).to_owned(),
            constraints: MatchResources::read(&spec["matchConstraints"]),
            conditions,
            composition,
            params,
            may_fail: text(spec, "failurePolicy") == "Ignore",
        }
    }
}

impl Validations {
    fn read(spec: &Value, composition: &Composition) -> Self {
        let validation = |validation: &Value| {
            let message = text(validation, "messageExpression");
            Validation {
                expression: composition.compile(text(validation, "expression"), Returns::Bool),
                message: text(validation, "message").trim().to_owned(),
                message_expression: (!message.is_empty()).then(|| {
                    composition.compile_with(message, Returns::Text, Declarations::without_authorizer)
                }),
                reason: text(validation, "reason").to_owned(),
            }
        };
        let annotation = |annotation: &Value| {
            let value = text(annotation, "valueExpression").trim();
            let value = composition.compile(value, Returns::TextOrNull);
            (text(annotation, "key").to_owned(), value)
        };
        Self {
            validations: items(spec, "validations").map(validation).collect(),
            annotations: items(spec, "auditAnnotations").map(annotation).collect(),
        }
    }
}

impl Mutations {
    fn read(spec: &Value, composition: &Composition) -> Self {
        let mutation = |mutation: &Value| {
            let (field, returns) = match text(mutation, "patchType") {
                "JSONPatch" => ("jsonPatch", Returns::Patches),
                _ => ("applyConfiguration", Returns::Object),
            };
            let expression = text(&mutation[field], "expression").trim();
            composition.compile_with(expression, returns, Declarations::with_patches)
        };
        Self {
            mutations: items(spec, "mutations").map(mutation).collect(),
            again: text(spec, "reinvocationPolicy") == "IfNeeded",
        }
    }
}

// === impl Binding ===

impl Binding {
    fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let resources = &spec["matchResources"];
        Self {
            name: meta::name(object).to_owned(),
            policy: text(spec, "policyName").to_owned(),
            resources: resources.is_object().then(|| MatchResources::read(resources)),
            params: ParamRef::of(object),
            actions: texts(spec, "validationActions"),
        }
    }
}

impl ParamRef {
    /// What a binding that is stored, or about to be, says of params.
    pub(super) fn of(binding: &Value) -> Option<Self> {
        let reference = &binding["spec"]["paramRef"];
        reference.is_object().then(|| Self {
            name: text(reference, "name").to_owned(),
            namespace: text(reference, "namespace").to_owned(),
            selector: reference["selector"]
                .is_object()
                .then(|| selector(reference, "selector")),
            must_be_there: text(reference, "parameterNotFoundAction") == "Deny",
        })
    }
}
