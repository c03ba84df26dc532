//! Pods made after a template, and the names that tell templates apart.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as Selector, ObjectMeta, OwnerReference};
use serde::Serialize;
use serde_json::Value;
use trimtab_apimachinery_meta::LabelSelector;
use trimtab_controller_runtime::Reconciled;

/// The label by which a Deployment tells its ReplicaSets and their pods apart.
pub(crate) const HASH: &str = "pod-template-hash";
/// How long the part of a generated name before the server's own may be; Kubernetes' figure.
const PREFIX: usize = 253;
/// How many characters the server adds to it.
const SUFFIX: usize = 5;

/// A pod after the template, for its controller, whose name the server chooses.
pub(crate) fn pod(
    owner_name: &str,
    namespace: Option<&str>,
    template: &PodTemplateSpec,
    owner: OwnerReference,
) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix(owner_name)),
            namespace: namespace.map(str::to_owned),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// What the names of an owner's pods begin with.
fn prefix(owner: &str) -> String {
    let most = PREFIX - SUFFIX - 1;
    let mut name = owner.to_owned();
    name.truncate(
        (0..=most.min(name.len()))
            .rev()
            .find(|at| name.is_char_boundary(*at))
            .unwrap_or_default(),
    );
    name.push('-');
    name
}

/// Everything a selector says, as a matcher; `None` if it says something that cannot be.
pub(crate) fn selector(selector: &Selector) -> Option<LabelSelector> {
    let value = serde_json::to_value(selector).ok()?;
    LabelSelector::from_object(&value).ok().flatten()
}

/// The matcher of plain labels.
pub(crate) fn exactly(labels: &BTreeMap<String, String>) -> Option<LabelSelector> {
    let value = serde_json::json!({ "matchLabels": labels });
    LabelSelector::from_object(&value).ok().flatten()
}

/// The text by which templates are compared, without the label that is a Deployment's own: what says the same has the same
/// text, whether what is empty is left out or not.
pub(crate) fn fingerprint(template: &PodTemplateSpec) -> Box<str> {
    let mut value = serde_json::to_value(template).unwrap_or_default();
    if let Some(labels) = value
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(HASH);
    }
    without_empty(&mut value);
    value.to_string().into()
}

/// Leaves out lists and maps of no consequence. An empty object may well have one, such as `emptyDir: {}`.
fn without_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(without_empty);
            fields.retain(|name, value| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(fields) => {
                    !fields.is_empty()
                        || !matches!(&**name, "labels" | "annotations" | "nodeSelector" | "metadata")
                }
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(without_empty),
        _ => {}
    }
}

/// The short name of a template among those of one owner: FNV-1a of what it says and of how often that name was taken
/// before, in the alphabet of Kubernetes' names. Kubernetes hashes Go's own rendering of the template, so that its names are
/// other ones; what users rely on is that equal templates have equal names, and different ones different names.
pub(crate) fn hash(template: &impl Serialize, collisions: Option<i32>) -> String {
    let mut sum = Sum::default();
    let value = serde_json::to_value(template).unwrap_or_default();
    sum.add_a(value.to_string().as_bytes());
    if let Some(collisions) = collisions {
        sum.add_a(&i64::from(collisions).to_le_bytes());
    }
    sum.text()
}

/// 32 bits of FNV.
pub(super) struct Sum(u32);

impl Default for Sum {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Sum {
    const PRIME: u32 = 0x0100_0193;

    /// FNV-1.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(Self::PRIME) ^ u32::from(*byte);
        }
    }

    /// FNV-1a.
    fn add_a(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(Self::PRIME);
        }
    }

    /// The sum as names have it.
    pub(super) fn text(&self) -> String {
        safe(&self.0.to_string())
    }
}

/// The text in characters that make no words, as apimachinery's `SafeEncodeString` has it.
fn safe(text: &str) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let letter = |byte: u8| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]);
    text.bytes().map(letter).collect()
}

/// The reference of an owner to be put into what it makes. `None` for one that was not read from a server.
pub(crate) fn owner_of<K: Reconciled>(owner: &K) -> Option<OwnerReference> {
    trimtab_apimachinery_meta::owner::controller_reference_to(owner).ok()
}

/// An owner's name, of so many characters at most, and one more part.
pub(crate) fn named(owner: &str, most: usize, part: &str) -> String {
    let owner: String = owner.chars().take(most).collect();
    format!("{owner}-{part}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).expect("a template")
    }

    #[test]
    fn templates_that_say_the_same_have_one_fingerprint_and_one_hash() {
        let plain =
            template(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}));
        let spelt = template(
            json!({"metadata": {"labels": {"a": "b", HASH: "x"}, "annotations": {}},
            "spec": {"containers": [{"name": "c", "env": []}], "tolerations": []}}),
        );
        let other = template(json!({"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c"}], "volumes": [{"name": "v", "emptyDir": {}}]}}));
        assert_eq!(fingerprint(&plain), fingerprint(&spelt));
        assert_ne!(fingerprint(&plain), fingerprint(&other));
        assert!(fingerprint(&other).contains("emptyDir"));
        assert_eq!(hash(&plain, None), hash(&plain.clone(), None));
        assert_ne!(hash(&plain, None), hash(&plain, Some(1)));
        assert_ne!(hash(&plain, None), hash(&other, None));
        // A name that was given once is given for ever.
        assert_eq!(hash(&json!("a"), Some(2)), "6fbd5d8484");
    }

    #[test]
    fn hashes_are_in_kubernetes_alphabet() {
        assert_eq!(safe("0123456789"), "456789bcdf");
    }

    #[test]
    fn long_owners_leave_room_for_the_servers_part() {
        assert_eq!(prefix("web"), "web-");
        assert_eq!(prefix(&"x".repeat(300)).len() + SUFFIX, PREFIX);
    }
}
