//! The default storage class: claims that name none get it.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;

use super::{Reader, creates};
use crate::registry::hooks::{Admission, Attributes};
use crate::registry::meta;

const IS_DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// Where claims named their class before there was a field for it.
const OLD_FIELD: &str = "volume.beta.kubernetes.io/storage-class";

/// Gives new volume claims without a storage class the default one, if there is one.
#[derive(Debug)]
pub struct DefaultStorageClass {
    reader: Arc<dyn Reader>,
}

impl DefaultStorageClass {
    /// The plugin, which finds storage classes by `reader`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader }
    }
}

#[async_trait]
impl Admission for DefaultStorageClass {
    fn concerns(&self, attributes: &Attributes) -> bool {
        creates(attributes, "", "persistentvolumeclaims")
    }

    async fn mutate(
        &self,
        _: &Attributes,
        claim: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let named = |claim: &Value| {
            claim["spec"]["storageClassName"].is_string()
                || claim["metadata"]["annotations"][OLD_FIELD].is_string()
        };
        if !claim["spec"].is_object() || named(claim) {
            return Ok(());
        }
        let classes = self.reader.list("storage.k8s.io", "storageclasses", "").await?;
        let is_default = |class: &&Value| {
            IS_DEFAULT
                .iter()
                .any(|key| class["metadata"]["annotations"][key] == "true")
        };
        // Of several defaults the newest counts, then the first by name.
        let newest = classes.iter().filter(is_default).min_by_key(|class| {
            (
                std::cmp::Reverse(meta::text(class, "creationTimestamp").to_owned()),
                meta::name(class).to_owned(),
            )
        });
        if let Some(class) = newest {
            claim["spec"]["storageClassName"] = json!(meta::name(class));
        }
        Ok(())
    }
}
