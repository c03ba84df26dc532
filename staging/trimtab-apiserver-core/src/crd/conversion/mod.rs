//! Conversion: objects of one version of a custom resource become those of another, by another name for the version and
//! nothing else, or by the definition's own server. Either way what the other version does not know is dropped. `review` is
//! what is said to a server; what it answers is checked as kube-apiserver checks it.

mod review;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;
use trimtab_apimachinery_meta::{ApiError, StatusReason};

use self::review::Version;
use super::resource;
use super::schema::Compiled;
use super::view::{text, texts};
use crate::registry::codec::Converter;
use crate::registry::deadline_exceeded;
use crate::webhook::{self, Clients, Target};

/// Who converts the objects of this definition, if its versions differ in more than their names.
pub(super) fn of(definition: &Value, clients: &Arc<Clients>) -> Option<Arc<dyn Converter>> {
    let conversion = &definition["spec"]["conversion"];
    let webhook = &conversion["webhook"];
    let how = if text(conversion, "strategy") == "Webhook" {
        How::Webhook(Box::new(Webhook {
            target: Target::read(&webhook["clientConfig"]),
            versions: texts(webhook, "conversionReviewVersions"),
            clients: clients.clone(),
        }))
    } else {
        let mut schemas = definition["spec"]["versions"]
            .as_array()?
            .iter()
            .map(|version| &version["schema"]);
        let first = schemas.next()?;
        schemas.any(|schema| schema != first).then_some(How::Renaming)?
    };
    let schemas = resource::schemas(definition);
    Some(Arc::new(Conversion { schemas, how }))
}

/// Converts the objects of one definition.
#[derive(Debug)]
struct Conversion {
    /// The schemas of all versions, by `apiVersion`.
    schemas: Arc<BTreeMap<String, Arc<Compiled>>>,
    how: How,
}

/// What is done to objects.
#[derive(Debug)]
enum How {
    /// They are said to be of the other version.
    Renaming,
    Webhook(Box<Webhook>),
}

/// Converts by asking a webhook.
#[derive(Debug)]
struct Webhook {
    target: Result<Target, String>,
    /// Versions of `ConversionReview` that it understands, the best first.
    versions: Vec<String>,
    clients: Arc<Clients>,
}

#[async_trait]
impl Converter for Conversion {
    fn complete(&self, object: &mut Value) {
        if let Some(schema) = self.schemas.get(text(object, "apiVersion")) {
            schema.default(object);
            schema.prune(object);
        }
    }

    async fn convert(
        &self,
        mut objects: Vec<Value>,
        api_version: &str,
        deadline: Option<Instant>,
    ) -> Result<Vec<Value>, ApiError> {
        let places: Vec<usize> = (0..objects.len())
            .filter(|&i| text(&objects[i], "apiVersion") != api_version)
            .collect();
        let Some(&first) = places.first() else {
            return Ok(objects);
        };
        let Some(schema) = self.schemas.get(api_version) else {
            let why = format!("request to convert CR to an invalid group/version: {api_version}");
            return Err(failed(why));
        };
        for &place in &places {
            let said = text(&objects[place], "apiVersion");
            if !self.schemas.contains_key(said) {
                let why = format!("request to convert CR from an invalid group/version: {said}");
                return Err(failed(why));
            }
        }
        match &self.how {
            How::Renaming => {
                for &place in &places {
                    objects[place]["apiVersion"] = api_version.into();
                }
            }
            How::Webhook(webhook) => {
                let of = review::kind(&objects[first]);
                let originals: Vec<&Value> = places.iter().map(|&place| &objects[place]).collect();
                let converted = webhook.ask(&of, &originals, api_version, deadline).await?;
                let checked = review::check(&of, &originals, converted, api_version).map_err(failed)?;
                for (&place, object) in places.iter().zip(checked) {
                    objects[place] = object;
                }
            }
        }
        for place in places {
            schema.prune(&mut objects[place]);
        }
        Ok(objects)
    }
}

impl Webhook {
    /// Has objects converted; answers what comes back, unchecked but for being as many.
    async fn ask(
        &self,
        of: &str,
        objects: &[&Value],
        api_version: &str,
        deadline: Option<Instant>,
    ) -> Result<Vec<Value>, ApiError> {
        let version = Version::choose(&self.versions)
            .ok_or_else(|| failed("no supported conversion review versions".to_owned()))?;
        let target = self.target.as_ref().map_err(|why| failed(why.clone()))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let review = review::review(version, &uid, objects, api_version);
        let end = webhook::end(webhook::LONGEST, deadline);
        let answer = self.clients.post(target, &review, end).await;
        let answer = answer.map_err(|error| {
            if webhook::is_over(deadline) {
                return deadline_exceeded();
            }
            failed(format!("conversion webhook for {of} failed: {error}"))
        })?;
        review::read(&answer, version, &uid)
            .map_err(|why| failed(format!("conversion webhook for {of} failed: {why}")))
    }
}

/// 500 without a reason, as kube-apiserver answers when its storage cannot be read.
fn failed(why: String) -> ApiError {
    ApiError::new(500, StatusReason::Unknown, why)
}
