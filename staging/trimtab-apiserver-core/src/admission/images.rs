//! Images: they are always pulled, so that nobody uses one that somebody else was allowed to pull.

use std::collections::BTreeSet;

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::{ApiError, FieldError, FieldPath};

use super::{forbidden, is};
use crate::registry::hooks::{Admission, Attributes, Operation};

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Has all images of new pods pulled, and those of pods that get other images.
#[derive(Clone, Copy, Debug)]
pub struct AlwaysPullImages;

#[async_trait]
impl Admission for AlwaysPullImages {
    fn concerns(&self, attributes: &Attributes) -> bool {
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        writes && is(attributes, "", "pods")
    }

    async fn mutate(
        &self,
        _: &Attributes,
        pod: &mut Value,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        if old.is_some_and(|old| !has_new_image(pod, old)) {
            return Ok(());
        }
        for list in LISTS {
            let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten().filter(|c| c.is_object()) {
                container["imagePullPolicy"] = json!("Always");
            }
        }
        let volumes = pod["spec"].get_mut("volumes").and_then(Value::as_array_mut);
        for volume in volumes.into_iter().flatten() {
            if let Some(image) = volume.get_mut("image").filter(|image| image.is_object()) {
                image["pullPolicy"] = json!("Always");
            }
        }
        Ok(())
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        pod: Option<&Value>,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let Some(pod) = pod.filter(|pod| old.is_none_or(|old| has_new_image(pod, old))) else {
            return Ok(());
        };
        let spec = FieldPath::new("spec");
        let mut faults = Vec::new();
        let mut check = |path: FieldPath, policy: &Value| {
            if policy != "Always" {
                let policy = policy.as_str().unwrap_or_default();
                faults.push(FieldError::not_supported(&path, policy, &["Always"]).to_string());
            }
        };
        for list in LISTS {
            for (n, container) in elements(pod, list).enumerate() {
                let path = spec.child(list).index(n).child("imagePullPolicy");
                check(path, &container["imagePullPolicy"]);
            }
        }
        for (n, volume) in elements(pod, "volumes").enumerate() {
            if volume["image"].is_object() {
                let path = spec.child("volumes").index(n).child("image").child("pullPolicy");
                check(path, &volume["image"]["pullPolicy"]);
            }
        }
        match faults.as_slice() {
            [] => Ok(()),
            [one] => Err(forbidden(attributes, Some(pod), one)),
            many => Err(forbidden(attributes, Some(pod), format!("[{}]", many.join(", ")))),
        }
    }
}

fn elements<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    pod["spec"][list].as_array().into_iter().flatten()
}

fn images(pod: &Value) -> BTreeSet<&str> {
    LISTS
        .into_iter()
        .flat_map(|list| elements(pod, list))
        .filter_map(|container| container["image"].as_str())
        .collect()
}

fn has_new_image(pod: &Value, old: &Value) -> bool {
    !images(pod).is_subset(&images(old))
}
