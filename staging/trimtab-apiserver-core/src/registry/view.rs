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
    /// What of a stored object says all that the fields ask for beyond its name and namespace; empty when that is not
    /// known.
    parts: Vec<[String; 2]>,
}

impl Filter {
    pub(crate) fn new(resource: Arc<Resource>, labels: LabelSelector, fields: FieldSelector) -> Self {
        Self {
            parts: parts(&resource, &fields),
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
        let mut part = None;
        for term in &self.fields.terms {
            let matches = match term.field.as_str() {
                "metadata.name" => item.name()? == term.value,
                "metadata.namespace" => item.namespace()? == term.value,
                _ if self.parts.is_empty() => return None,
                field => {
                    if part.is_none() {
                        part = Some(item.parts(&self.parts)?);
                    }
                    let value = self.resource.strategy.selectable(part.as_ref()?, field);
                    value.unwrap_or_default() == term.value
                }
            };
            if matches != term.equal {
                return Some(false);
            }
        }
        Some(true)
    }
}

fn parts(resource: &Resource, fields: &FieldSelector) -> Vec<[String; 2]> {
    if resource.conversion.is_some() || resource.custom {
        // They are stored in another form, or may be.
        return Vec::new();
    }
    let mut parts = Vec::new();
    for term in &fields.terms {
        if matches!(term.field.as_str(), "metadata.name" | "metadata.namespace") {
            continue;
        }
        let from = resource.strategy.selectable_from(&term.field);
        if from.is_empty() {
            return Vec::new();
        }
        parts.extend(from.into_iter().map(|part| part.map(str::to_owned)));
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use trimtab_apiserver_storage::KeyValue;

    use super::*;

    fn pods() -> Arc<Resource> {
        let all = trimtab_apiserver_kinds::builtin::all();
        let pods = all.into_iter().find(|r| r.group.is_empty() && r.kind == "Pod");
        pods.unwrap_or_else(|| panic!("pods are built in"))
    }

    fn item(text: String) -> Item {
        Item::new(KeyValue {
            key: "/registry/pods/ns/a".into(),
            value: text.into(),
            create_revision: 1,
            mod_revision: 1,
        })
    }

    proptest! {
        /// A part of a pod says of every field what the whole pod says.
        #[test]
        fn parts_say_what_the_whole_says(
            words in proptest::collection::vec(proptest::option::of("[ab]"), 9),
            host_network in proptest::option::of(any::<bool>()),
            ips in proptest::collection::vec("[ab]", 0..3),
            value in "[ab]|true|false|", equal: bool, twice: bool,
        ) {
            let pods = pods();
            let mut pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"},
                "spec": {"hostNetwork": host_network}, "status": {"podIPs": []}});
            let fields = pods.strategy.selectable_fields();
            for (field, word) in fields.iter().zip(&words) {
                if let (Some((part, name)), Some(word)) = (field.split_once('.'), word)
                    && name != "hostNetwork"
                {
                    pod[part][name] = word.as_str().into();
                }
            }
            pod["status"]["podIPs"] = ips.iter().map(|ip| json!({"ip": ip})).collect();
            let mut text = format!(
                "{{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{},\"spec\":{},\"status\":{}",
                pod["metadata"], pod["spec"], pod["status"]
            );
            if twice {
                // The last counts.
                pod["spec"] = json!({"node\u{0}": 1});
                text += ",\"spec\":{\"node\\u0000\":1}";
            }
            let item = item(text + "}");
            for field in fields {
                let selector = format!("{field}{}{value}", if equal { "=" } else { "!=" });
                let selector = FieldSelector::parse(&selector).unwrap();
                let filter = Filter::new(pods.clone(), LabelSelector::default(), selector);
                prop_assert_eq!(filter.matches_stored(&item), Some(filter.matches(&pod)), "{}", field);
            }
        }
    }
}
