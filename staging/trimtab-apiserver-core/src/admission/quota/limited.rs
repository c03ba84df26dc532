//! What needs a quota that covers it: without one it is not there for the taking, but refused.

use std::collections::BTreeSet;

use serde_json::Value;
use trimtab_apimachinery_meta::quota::{Amounts, Counted};

use crate::registry::hooks::Attributes;

/// What is limited by default, as a `ResourceQuotaConfiguration` of apiserver.config.k8s.io/v1 has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limited(Vec<LimitedResource>);

#[derive(Clone, Debug, PartialEq)]
struct LimitedResource {
    group: String,
    plural: String,
    /// What is in the names of amounts that are limited.
    contains: Vec<String>,
    /// The scopes whose objects are limited, as terms of a scope selector.
    scopes: Vec<Value>,
}

impl Limited {
    /// Reads a `ResourceQuotaConfiguration`, or a `Configuration` of resourcequota.admission.k8s.io.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where.
    pub fn read(config: &Value) -> Result<Self, String> {
        let of = |field: &str| config[field].as_str().unwrap_or_default();
        match (of("apiVersion"), of("kind")) {
            ("apiserver.config.k8s.io/v1", "ResourceQuotaConfiguration")
            | (
                "resourcequota.admission.k8s.io/v1beta1" | "resourcequota.admission.k8s.io/v1alpha1",
                "Configuration",
            ) => {}
            (version, kind) => {
                return Err(format!(
                    "want a ResourceQuotaConfiguration of apiserver.config.k8s.io/v1, found {kind:?} of {version:?}"
                ));
            }
        }
        let limited = config["limitedResources"].as_array();
        let read = |(n, limited): (usize, &Value)| {
            let text = |field: &str| limited[field].as_str().unwrap_or_default().to_owned();
            let plural = text("resource");
            if plural.is_empty() {
                return Err(format!("limitedResources[{n}].resource: Required value"));
            }
            let contains = limited["matchContains"].as_array();
            let contains = contains.into_iter().flatten().filter_map(Value::as_str);
            Ok(LimitedResource {
                group: text("apiGroup"),
                plural,
                contains: contains.map(str::to_owned).collect(),
                scopes: limited["matchScopes"].as_array().cloned().unwrap_or_default(),
            })
        };
        let limited = limited.into_iter().flatten().enumerate().map(read);
        limited.collect::<Result<_, _>>().map(Self)
    }

    /// Whether anything may be limited in requests like this.
    pub(super) fn concerns(&self, attributes: &Attributes) -> bool {
        let resource = &attributes.resource;
        let has_scopes = resource.group.is_empty()
            && matches!(resource.plural.as_str(), "pods" | "persistentvolumeclaims");
        self.0
            .iter()
            .any(|limited| limited.is_of(attributes) || (has_scopes && !limited.scopes.is_empty()))
    }

    /// The limited amounts that an object uses, which no quota of those names covers.
    pub(super) fn uncovered<'a>(
        &self,
        attributes: &Attributes,
        usage: &'a Amounts,
        covered: &BTreeSet<String>,
    ) -> Vec<&'a str> {
        let limited: Vec<&LimitedResource> = self.0.iter().filter(|l| l.is_of(attributes)).collect();
        let is_limited = |name: &str| {
            limited
                .iter()
                .any(|limited| limited.contains.iter().any(|part| name.contains(part)))
        };
        usage
            .iter()
            .filter(|(_, amount)| !amount.is_zero() && !amount.is_negative())
            .map(|(name, _)| name.as_str())
            .filter(|name| is_limited(name) && !covered.contains(*name))
            .collect()
    }

    /// The limited scopes that an object is in, which no quota of those scopes covers, as errors write them.
    pub(super) fn uncovered_scopes(
        &self,
        counted: &Counted,
        object: &Value,
        covered: &BTreeSet<String>,
    ) -> Vec<String> {
        let text = |term: &Value, field: &str| term[field].as_str().unwrap_or_default().to_owned();
        self.0
            .iter()
            .flat_map(|limited| &limited.scopes)
            .filter(|term| counted.is_in_scope(term, object) && !covered.contains(&text(term, "scopeName")))
            .map(|term| {
                let values = term["values"].as_array().into_iter().flatten();
                let values: Vec<&str> = values.filter_map(Value::as_str).collect();
                format!(
                    "{{{} {} [{}]}}",
                    text(term, "scopeName"),
                    text(term, "operator"),
                    values.join(" ")
                )
            })
            .collect()
    }
}

impl LimitedResource {
    fn is_of(&self, attributes: &Attributes) -> bool {
        attributes.resource.group == self.group && attributes.resource.plural == self.plural
    }
}
