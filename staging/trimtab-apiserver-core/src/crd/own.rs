//! Resources that a program defines for itself, in the form in which clusters have custom resources defined.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;
use trimtab_apimachinery_meta::{ApiError, StatusReason};
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_kinds::strategy::Strategy as _;

use super::schema::Compiled;
use super::view::text;
use super::{definition, resource, validate};
use crate::registry::ResourceTable;
use crate::registry::codec::Converter;

/// Turns objects of one version of a resource into those of another.
pub trait Convert: fmt::Debug + Send + Sync {
    /// The object in that version (`GROUP/VERSION`); it is of another one. Its metadata stays as it is.
    ///
    /// # Errors
    ///
    /// A text that says why it cannot be converted.
    fn convert(&self, object: Value, api_version: &str) -> Result<Value, String>;
}

/// Adds the served versions of a definition (a `CustomResourceDefinition` of apiextensions.k8s.io/v1) to a table, with all that such
/// resources have. `verbs` are those that it has; all unless given.
///
/// # Errors
///
/// A text that says what is wrong with the definition.
pub fn define(
    table: &ResourceTable,
    definition: &Value,
    verbs: Option<&[&str]>,
    convert: Option<Arc<dyn Convert>>,
) -> Result<Vec<Arc<Resource>>, String> {
    let mut definition = definition.clone();
    definition::Definitions.default(&mut definition);
    let faults = validate::definition(&definition, None);
    if !faults.is_empty() {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        return Err(faults.join("; "));
    }
    definition["status"]["acceptedNames"] = definition["spec"]["names"].clone();
    let mut served = resource::served(&definition);
    if let Some(verbs) = verbs {
        for resource in &mut served {
            let resource = Arc::make_mut(resource);
            resource.verbs.retain(|verb| verbs.contains(&verb.as_str()));
            if !verbs.contains(&"update") {
                resource.subresources.clear();
            }
        }
    }
    let converter = convert.map(|convert| -> Arc<dyn Converter> {
        Arc::new(Own {
            schemas: resource::schemas(&definition),
            convert,
        })
    });
    let (group, names) = (text(&definition["spec"], "group"), &definition["spec"]["names"]);
    table.replace(group, text(names, "plural"), served.clone(), converter);
    Ok(served)
}

/// Converts by a function.
#[derive(Debug)]
struct Own {
    /// The schemas of all versions, by `apiVersion`.
    schemas: Arc<BTreeMap<String, Arc<Compiled>>>,
    convert: Arc<dyn Convert>,
}

#[async_trait]
impl Converter for Own {
    fn complete(&self, object: &mut Value) {
        if let Some(schema) = self.schemas.get(text(object, "apiVersion")) {
            schema.default(object);
            schema.prune(object);
        }
    }

    async fn convert(
        &self,
        objects: Vec<Value>,
        api_version: &str,
        _: Option<Instant>,
    ) -> Result<Vec<Value>, ApiError> {
        let failed = |why: String| ApiError::new(500, StatusReason::Unknown, why);
        let schema = self.schemas.get(api_version);
        let schema = schema.ok_or_else(|| failed(format!("there is no version {api_version}")))?;
        let convert = |object: Value| {
            if text(&object, "apiVersion") == api_version {
                return Ok(object);
            }
            let metadata = object["metadata"].clone();
            let mut converted = self.convert.convert(object, api_version).map_err(failed)?;
            converted["apiVersion"] = api_version.into();
            converted["metadata"] = metadata;
            schema.prune(&mut converted);
            Ok(converted)
        };
        objects.into_iter().map(convert).collect()
    }
}
