//! One request on its way past policies: which concern it, and what their expressions see of it.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use trimtab_apimachinery_meta::ApiError;
use trimtab_apimachinery_schema::structural::{
    Activation, Authorizer, COST_OF_CONDITIONS, EvaluationError, Inputs, Output,
};
use trimtab_apiserver_kinds::resource::Resource;

use super::params;
use super::policy::{Binding, MatchResources, Policy};
use crate::admission::dynamic::versions::{self, Shown};
use crate::admission::dynamic::{self, Asking, Namespace, Sight, Surroundings};
use crate::registry::Resources;
use crate::registry::hooks::Attributes;

/// A request on its way past policies.
#[derive(Debug)]
pub(super) struct Passage<'a> {
    pub(super) around: &'a Surroundings,
    pub(super) attributes: &'a Attributes,
    pub(super) resources: Arc<Resources>,
    namespace: Namespace<'a>,
    authorizer: OnceLock<Arc<dyn Authorizer>>,
}

/// A request as the expressions of one policy see it.
#[derive(Debug)]
pub(super) struct View<'v> {
    pub(super) shown: Shown<'v>,
    request: Value,
}

impl<'a> Passage<'a> {
    pub(super) fn new(around: &'a Surroundings, attributes: &'a Attributes) -> Self {
        Self {
            around,
            attributes,
            resources: around.resources.snapshot(),
            namespace: Namespace::new(&*around.reader, attributes),
            authorizer: OnceLock::new(),
        }
    }

    /// How what is said of resources sees the request; `None` when it is not about it.
    ///
    /// # Errors
    ///
    /// A text that says why that cannot be known.
    pub(super) async fn sight(
        &self,
        of: &MatchResources,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<Option<Sight>, String> {
        let attributes = self.attributes;
        let sight = if of.rules.is_empty() {
            Some(Sight::own(attributes))
        } else {
            dynamic::sight(&of.rules, of.equivalents, attributes, &self.resources)
        };
        let Some(sight) = sight else {
            return Ok(None);
        };
        if dynamic::sight(&of.excluded, of.equivalents, attributes, &self.resources).is_some() {
            return Ok(None);
        }
        if let Ok(objects) = &of.objects
            && !dynamic::objects_match(objects, attributes, object, old)
        {
            return Ok(None);
        }
        let namespaces = of.namespaces.as_ref().map_err(Clone::clone)?;
        let matches = self.namespace.matches(namespaces, object).await;
        if !matches.map_err(|error| error.to_string())? {
            return Ok(None);
        }
        of.objects.as_ref().map_err(Clone::clone)?;
        Ok(Some(sight))
    }

    /// How a policy sees the request, and the resource of its params; `None` when it is not about it.
    ///
    /// # Errors
    ///
    /// A text that says why that cannot be known.
    pub(super) async fn concerned(
        &self,
        policy: &Policy,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<Option<(Sight, Option<Arc<Resource>>)>, String> {
        let Some(sight) = self.sight(&policy.constraints, object, old).await? else {
            return Ok(None);
        };
        let resource = policy.params.as_ref().map(|kind| params::resource(kind, self));
        Ok(Some((sight, resource.transpose()?)))
    }

    /// What a binding has its policy evaluated with, each by itself; nothing when it is not about the request.
    ///
    /// # Errors
    ///
    /// A text that says why that cannot be known, or params cannot be had.
    pub(super) async fn brought(
        &self,
        binding: &Binding,
        resource: Option<&Arc<Resource>>,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<Vec<Option<Value>>, String> {
        if let Some(resources) = &binding.resources
            && self.sight(resources, object, old).await?.is_none()
        {
            return Ok(Vec::new());
        }
        params::collect(resource, binding.params.as_ref(), self).await
    }

    /// The request as expressions see it whose policy has this sight of it.
    ///
    /// # Errors
    ///
    /// When the objects cannot be converted.
    pub(super) async fn view<'v>(
        &self,
        sight: &Sight,
        object: Option<&'v Value>,
        old: Option<&'v Value>,
    ) -> Result<View<'v>, ApiError> {
        Ok(View {
            shown: versions::show(&self.resources, self.attributes, sight, object, old).await?,
            request: dynamic::request(self.attributes, sight),
        })
    }

    /// The namespace of the object, as expressions see it; null when it is in none.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is not there.
    pub(super) async fn namespace_object(&self) -> Result<Value, ApiError> {
        const METADATA: [&str; 12] = [
            "name",
            "generateName",
            "namespace",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "labels",
            "annotations",
            "finalizers",
        ];
        let Some(namespace) = self.namespace.object().await? else {
            return Ok(Value::Null);
        };
        let metadata = METADATA
            .iter()
            .filter_map(|field| Some(((*field).to_owned(), namespace["metadata"].get(field)?.clone())));
        let mut shown = Map::new();
        shown.insert("metadata".to_owned(), Value::Object(metadata.collect()));
        for field in ["spec", "status"] {
            let value = namespace.get(field).cloned();
            shown.insert(
                field.to_owned(),
                value.unwrap_or_else(|| Value::Object(Map::new())),
            );
        }
        Ok(Value::Object(shown))
    }

    /// What names stand for in the expressions of a policy.
    pub(super) fn inputs<'i>(
        &'i self,
        view: &'i View<'_>,
        params: &'i Value,
        namespace: &'i Value,
    ) -> Inputs<'i> {
        let or_null = |object: &'i Option<Cow<'_, Value>>| object.as_deref().unwrap_or(&Value::Null);
        Inputs {
            object: or_null(&view.shown.object),
            old_object: or_null(&view.shown.old),
            request: &view.request,
            params,
            namespace,
            authorizer: self.authorizer.get_or_init(|| {
                Arc::new(Asking {
                    authorizer: self.around.authorizer.clone(),
                    user: self.attributes.user.clone(),
                })
            }),
        }
    }

    /// Whether all match conditions of a policy hold. One that does not, decides; only then do those count that cannot be
    /// evaluated.
    ///
    /// # Errors
    ///
    /// A text that says why that cannot be known, unless the policy may fail.
    pub(super) fn conditions_hold(&self, policy: &Policy, inputs: Inputs<'_>) -> Result<bool, String> {
        if policy.conditions.is_empty() {
            return Ok(true);
        }
        // Which namespace it is does not concern them.
        let inputs = Inputs {
            namespace: &Value::Null,
            ..inputs
        };
        let activation = Activation::new(&policy.composition, inputs);
        let mut budget = COST_OF_CONDITIONS;
        let mut faults = Vec::new();
        for condition in &policy.conditions {
            match activation.evaluate(condition, &mut budget) {
                Ok(Output::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(error @ EvaluationError::OutOfBudget) => {
                    faults = vec![error.to_string()];
                    break;
                }
                Err(error) => faults.push(error.to_string()),
            }
        }
        match faults.as_slice() {
            [] => Ok(true),
            _ if policy.may_fail => Ok(false),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}
