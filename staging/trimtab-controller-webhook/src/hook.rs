//! One webhook of a program: what it is about, what answers, and how the API server is to treat it.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{MatchCondition, RuleWithOperations};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::admission::{
    Defaulter, Defaults, DeletionValidator, Deletions, Erased, Handler, Operation, Reviewed, Validates,
    Validator, erase,
};

/// How long the API server waits for an answer; its own default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One admission webhook.
///
/// Made for a type by [`Hook::defaulting`], [`Hook::validating`] and [`Hook::validating_deletion`], whose paths are
/// controller-runtime's: `/mutate-GROUP-VERSION-KIND`, `/validate-…`. Its name among those of the configuration is
/// made of the same, as `default.v1.websites.example.com`.
#[derive(Clone)]
#[must_use = "a webhook is served and declared when it is among those of `Webhooks`"]
pub struct Hook {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) mutates: bool,
    pub(crate) rules: Vec<RuleWithOperations>,
    pub(crate) handler: Erased,
    pub(crate) policy: FailurePolicy,
    pub(crate) timeout: Duration,
    pub(crate) objects: Option<LabelSelector>,
    pub(crate) namespaces: Option<LabelSelector>,
    pub(crate) conditions: Vec<MatchCondition>,
    pub(crate) again: bool,
}

/// What the API server does when the webhook does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// It refuses the operation. Kubernetes' default.
    #[default]
    Fail,
    /// It goes on as if the webhook was not there.
    Ignore,
}

/// A rule for these operations on `K`s, subresources left out.
pub fn rule<K: Reviewed>(operations: impl IntoIterator<Item = Operation>) -> RuleWithOperations {
    let kind = K::DynamicType::default();
    let operations = operations.into_iter().map(|operation| operation.to_string());
    RuleWithOperations {
        api_groups: Some(vec![K::group(&kind).into_owned()]),
        api_versions: Some(vec![K::version(&kind).into_owned()]),
        operations: Some(operations.collect()),
        resources: Some(vec![K::plural(&kind).into_owned()]),
        scope: None,
    }
}

impl Hook {
    /// Completes `K`s that are created or updated.
    pub fn defaulting<K: Reviewed>(defaulter: impl Defaulter<K>) -> Self {
        let changes = [Operation::Create, Operation::Update];
        Self::typed::<K>(
            ["default", "mutate"],
            &changes,
            true,
            Defaults::<K, _>::new(defaulter),
        )
    }

    /// Validates `K`s that are created or updated.
    pub fn validating<K: Reviewed>(validator: impl Validator<K>) -> Self {
        let changes = [Operation::Create, Operation::Update];
        Self::typed::<K>(
            ["validate", "validate"],
            &changes,
            false,
            Validates::<K, _>::new(validator),
        )
    }

    /// Validates deletions of `K`s.
    pub fn validating_deletion<K: Reviewed>(validator: impl DeletionValidator<K>) -> Self {
        Self::typed::<K>(
            ["validate-deletion", "validate-deletion"],
            &[Operation::Delete],
            false,
            Deletions::<K, _>::new(validator),
        )
    }

    /// A mutating webhook over objects as they are sent. `name` has at least two dots in it, as
    /// `sidecars.injector.example.com`; the path is `/mutate-` and the name with dashes.
    pub fn mutating_handler(
        name: impl Into<String>,
        rules: impl IntoIterator<Item = RuleWithOperations>,
        handler: impl Handler,
    ) -> Self {
        Self::plain("mutate", name.into(), rules.into_iter().collect(), true, handler)
    }

    /// A validating webhook over objects as they are sent. As [`Hook::mutating_handler`], with the path `/validate-…`.
    pub fn validating_handler(
        name: impl Into<String>,
        rules: impl IntoIterator<Item = RuleWithOperations>,
        handler: impl Handler,
    ) -> Self {
        Self::plain(
            "validate",
            name.into(),
            rules.into_iter().collect(),
            false,
            handler,
        )
    }

    fn typed<K: Reviewed>(
        [does, path]: [&str; 2],
        operations: &[Operation],
        mutates: bool,
        handler: impl Handler,
    ) -> Self {
        let kind = K::DynamicType::default();
        let (group, version, plural) = (K::group(&kind), K::version(&kind), K::plural(&kind));
        let kind = K::kind(&kind).to_lowercase();
        let domain = if group.is_empty() { "core" } else { &group };
        let rules = vec![rule::<K>(operations.iter().copied())];
        Self {
            path: format!("/{path}-{}-{version}-{kind}", group.replace('.', "-")),
            ..Self::plain(
                path,
                format!("{does}.{version}.{plural}.{domain}"),
                rules,
                mutates,
                handler,
            )
        }
    }

    fn plain(
        does: &str,
        name: String,
        rules: Vec<RuleWithOperations>,
        mutates: bool,
        handler: impl Handler,
    ) -> Self {
        Self {
            path: format!("/{does}-{}", name.replace('.', "-")),
            name,
            mutates,
            rules,
            handler: erase(handler),
            policy: FailurePolicy::default(),
            timeout: TIMEOUT,
            objects: None,
            namespaces: None,
            conditions: Vec::new(),
            again: false,
        }
    }

    /// Another name in the configuration. It needs at least two dots, and is told to clients who are refused.
    pub fn named(self, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { name, ..self }
    }

    /// Another path, which begins with a slash.
    pub fn at(self, path: impl Into<String>) -> Self {
        let path = path.into();
        Self { path, ..self }
    }

    /// Other rules for when it is asked. A webhook for a type answers 400 for other kinds.
    pub fn rules(self, rules: impl IntoIterator<Item = RuleWithOperations>) -> Self {
        Self {
            rules: rules.into_iter().collect(),
            ..self
        }
    }

    /// What happens when it does not answer. The default is [`FailurePolicy::Fail`].
    pub fn failure_policy(self, policy: FailurePolicy) -> Self {
        Self { policy, ..self }
    }

    /// How long the API server waits, in whole seconds from 1 to 30. The default is 10 seconds.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Asks about objects with such labels only, be it before or after a change. Whoever may set labels may thus go
    /// past it.
    pub fn object_selector(self, selector: LabelSelector) -> Self {
        Self {
            objects: Some(selector),
            ..self
        }
    }

    /// Asks about objects in namespaces with such labels only, and about those without namespace.
    pub fn namespace_selector(self, selector: LabelSelector) -> Self {
        Self {
            namespaces: Some(selector),
            ..self
        }
    }

    /// Asks only if this CEL expression is true, too. `name` tells it from other conditions.
    pub fn match_condition(mut self, name: impl Into<String>, expression: impl Into<String>) -> Self {
        self.conditions.push(MatchCondition {
            name: name.into(),
            expression: expression.into(),
        });
        self
    }

    /// Asks again when other webhooks have changed the object since. For mutating webhooks; others see the last form
    /// anyway.
    pub fn reinvoked_if_needed(self) -> Self {
        Self { again: true, ..self }
    }
}

impl FailurePolicy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "Fail",
            Self::Ignore => "Ignore",
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("name", &self.name)
            .field("path", &self.path)
            .field("mutates", &self.mutates)
            .finish_non_exhaustive()
    }
}
