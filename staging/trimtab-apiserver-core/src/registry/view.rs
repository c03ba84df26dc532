//! Which objects a list or a watch shows: those that match its selectors.

use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::selector::{FieldSelector, LabelSelector};
use trimtab_apiserver_kinds::resource::Resource;

use super::item::Item;
use super::meta;

/// The selectors of a list or a watch, with what is needed to apply them.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    resource: Arc<Resource>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Filter {
    pub(crate) fn new(resource: Arc<Resource>, labels: LabelSelector, fields: FieldSelector) -> Self {
        Self {
            resource,
            labels,
            fields,
        }
    }

    /// Whether everything matches.
    pub(crate) fn is_open(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels.matches(&object["metadata"]["labels"])
            && self.fields.matches(|field| match field {
                "metadata.name" => Some(meta::name(object).to_owned()),
                "metadata.namespace" => Some(meta::namespace(object).to_owned()),
                field => self.resource.strategy.selectable(object, field),
            })
    }

    /// Whether a stored object matches; `None` if it has to be decoded to know.
    pub(crate) fn matches_stored(&self, item: &Item) -> Option<bool> {
        if !self.labels.is_empty() {
            let labels = item.labels()?;
            if !self.labels.matches_with(|key| labels.get(key)) {
                return Some(false);
            }
        }
        if self.fields.is_empty() {
            return Some(true);
        }
        let all = self.fields.terms.iter().map(|term| {
            let value = match term.field.as_str() {
                "metadata.name" => item.name(),
                "metadata.namespace" => item.namespace(),
                _ => None,
            };
            value.map(|value| (value == term.value) == term.equal)
        });
        all.into_iter().try_fold(true, |all, one| Some(one? && all))
    }
}
