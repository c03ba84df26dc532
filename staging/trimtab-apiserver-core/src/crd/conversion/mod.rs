//! Conversion by webhooks: objects of one version of a custom resource become those of another by the definition's own
//! server. `review` is what is said to it; what it answers is checked as kube-apiserver checks it.

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

/// Who converts the objects of this definition, if that is a webhook.
pub(super) fn of(definition: &Value, clients: &Arc<Clients>) -> Option<Arc<dyn Converter>> {
    let conversion = &definition["spec"]["conversion"];
    if text(conversion, "strategy") != "Webhook" {
        return None;
    }
    let webhook = &conversion["webhook"];
    Some(Arc::new(ByWebhook {
        schemas: resource::schemas(definition),
        target: Target::read(&webhook["clientConfig"]),
        versions: texts(webhook, "conversionReviewVersions"),
        clients: clients.clone(),
    }))
}

/// Converts by asking a webhook.
#[derive(Debug)]
struct ByWebhook {
    /// The schemas of all versions, by `apiVersion`.
    schemas: Arc<BTreeMap<String, Arc<Compiled>>>,
    target: Result<Target, String>,
    /// Versions of `ConversionReview` that it understands, the best first.
    versions: Vec<String>,
    clients: Arc<Clients>,
}

#[async_trait]
impl Converter for ByWebhook {
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
        let of = review::kind(&objects[first]);
        let originals: Vec<&Value> = places.iter().map(|&place| &objects[place]).collect();
        let converted = self.ask(&of, &originals, api_version, deadline).await?;
        let checked = review::check(&of, &originals, converted, api_version).map_err(failed)?;
        for (place, mut object) in places.into_iter().zip(checked) {
            schema.prune(&mut object);
            objects[place] = object;
        }
        Ok(objects)
    }
}

impl ByWebhook {
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
