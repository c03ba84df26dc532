//! Volumes and claims: they stay while they are used, and grow only where that can be done.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::{ApiError, quota};

use super::{Reader, forbidden, is};
use crate::registry::hooks::{Admission, Attributes, Operation};

/// What holds new objects of a resource until a controller sees that nobody uses them.
fn finalizer(attributes: &Attributes) -> Option<&'static str> {
    let resource = &attributes.resource;
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "persistentvolumes") => Some("kubernetes.io/pv-protection"),
        ("", "persistentvolumeclaims") => Some("kubernetes.io/pvc-protection"),
        ("storage.k8s.io", "volumeattributesclasses") => Some("kubernetes.io/vac-protection"),
        _ => None,
    }
}

/// Gives new volumes, claims and attributes classes the finalizers by which they outlast their use.
#[derive(Clone, Copy, Debug)]
pub struct StorageProtection;

#[async_trait]
impl Admission for StorageProtection {
    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Create
            && attributes.subresource.is_empty()
            && finalizer(attributes).is_some()
    }

    async fn mutate(
        &self,
        attributes: &Attributes,
        object: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let Some(finalizer) = finalizer(attributes) else {
            return Ok(());
        };
        match &mut object["metadata"]["finalizers"] {
            Value::Array(all) if all.iter().any(|f| f == finalizer) => {}
            Value::Array(all) => all.push(json!(finalizer)),
            none => *none = json!([finalizer]),
        }
        Ok(())
    }
}

/// Lets claims grow that are bound, and whose storage class says that volumes can.
#[derive(Debug)]
pub struct ClaimResize {
    reader: Arc<dyn Reader>,
}

impl ClaimResize {
    /// The plugin, which finds storage classes by `reader`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader }
    }
}

#[async_trait]
impl Admission for ClaimResize {
    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Update && is(attributes, "", "persistentvolumeclaims")
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        claim: Option<&Value>,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let Some((claim, old)) = claim.zip(old) else {
            return Ok(());
        };
        let size = |claim: &Value| {
            let requests = quota::amounts(&claim["spec"]["resources"]["requests"]);
            requests.get("storage").copied().unwrap_or_default()
        };
        if size(claim) <= size(old) {
            return Ok(());
        }
        if old["status"]["phase"] != "Bound" {
            let why = "Only bound persistent volume claims can be expanded";
            return Err(forbidden(attributes, Some(claim), why));
        }
        let class = class_of(claim);
        if !class.is_empty() && class == class_of(old) {
            let class = self.reader.get("storage.k8s.io", "storageclasses", "", class);
            if class
                .await?
                .is_some_and(|class| class["allowVolumeExpansion"] == true)
            {
                return Ok(());
            }
        }
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                   support resize";
        Err(forbidden(attributes, Some(claim), why))
    }
}

fn class_of(claim: &Value) -> &str {
    let old_field = &claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    [old_field, &claim["spec"]["storageClassName"]]
        .into_iter()
        .find_map(Value::as_str)
        .unwrap_or_default()
}
