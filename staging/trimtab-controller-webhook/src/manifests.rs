//! What tells the API server of the webhooks: configurations, and the conversion part of definitions.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, ServiceReference, ValidatingWebhook,
    ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::WebhookError;
use crate::hook::Hook;
use crate::target::{self, Target};
use crate::webhooks::{CONVERT, Webhooks};

/// How long the API server has to apply a manifest.
const PATIENCE: Duration = Duration::from_secs(30);

/// The declarations of a program's webhooks, to be printed or applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifests {
    /// The mutating webhooks, if there are any.
    pub mutating: Option<MutatingWebhookConfiguration>,
    /// The validating webhooks, if there are any.
    pub validating: Option<ValidatingWebhookConfiguration>,
    /// For each kind that is converted, what its definition has to say.
    pub conversions: Vec<Conversions>,
}

/// How the objects of a CustomResourceDefinition are converted.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversions {
    /// The definition's name, as `websites.example.com`.
    pub definition: String,
    /// Its `spec.conversion`.
    pub conversion: apiextensions::CustomResourceConversion,
}

impl Manifests {
    pub(crate) fn new(webhooks: &Webhooks, target: &Target) -> Result<Self, WebhookError> {
        for hook in webhooks.hooks() {
            check(hook)?;
        }
        let metadata = || ObjectMeta {
            name: Some(webhooks.name().to_owned()),
            ..ObjectMeta::default()
        };
        let (mutating, validating): (Vec<&Hook>, Vec<&Hook>) =
            webhooks.hooks().iter().partition(|hook| hook.mutates);
        let mutating = mutating.into_iter().map(|hook| mutating_webhook(hook, target));
        let validating = validating
            .into_iter()
            .map(|hook| validating_webhook(hook, target));
        let (mutating, validating): (Vec<_>, Vec<_>) = (mutating.collect(), validating.collect());
        let conversions = webhooks.definitions().into_iter().map(|definition| Conversions {
            definition,
            conversion: conversion(target),
        });
        Ok(Self {
            mutating: (!mutating.is_empty()).then(|| MutatingWebhookConfiguration {
                metadata: metadata(),
                webhooks: Some(mutating),
            }),
            validating: (!validating.is_empty()).then(|| ValidatingWebhookConfiguration {
                metadata: metadata(),
                webhooks: Some(validating),
            }),
            conversions: conversions.collect(),
        })
    }

    /// Has the API server trust the authorities in this PEM text, and no others, when it calls.
    ///
    /// Leave it out where certificates are injected, by a [`Provisioner`](crate::Provisioner) or cert-manager: what is not in a
    /// manifest is not taken away.
    #[must_use]
    pub fn with_ca_bundle(mut self, pem: &str) -> Self {
        let bundle = || Some(ByteString(pem.as_bytes().to_vec()));
        let mutating = self
            .mutating
            .iter_mut()
            .filter_map(|c| c.webhooks.as_mut())
            .flatten();
        mutating.for_each(|webhook| webhook.client_config.ca_bundle = bundle());
        let validating = self
            .validating
            .iter_mut()
            .filter_map(|c| c.webhooks.as_mut())
            .flatten();
        validating.for_each(|webhook| webhook.client_config.ca_bundle = bundle());
        let conversions = self
            .conversions
            .iter_mut()
            .filter_map(|c| c.conversion.webhook.as_mut());
        for config in conversions.filter_map(|webhook| webhook.client_config.as_mut()) {
            config.ca_bundle = bundle();
        }
        self
    }

    /// All of it as YAML documents. Those of definitions have the conversion alone, for
    /// `kubectl apply --server-side` over the definition, or for kustomize.
    ///
    /// # Errors
    /// [`WebhookError::Encode`].
    pub fn to_yaml(&self) -> Result<String, WebhookError> {
        let encode = |error: &dyn std::fmt::Display| WebhookError::Encode(error.to_string());
        let mut documents: Vec<Value> = Vec::new();
        if let Some(mutating) = &self.mutating {
            documents.push(serde_json::to_value(mutating).map_err(|e| encode(&e))?);
        }
        if let Some(validating) = &self.validating {
            documents.push(serde_json::to_value(validating).map_err(|e| encode(&e))?);
        }
        for conversion in &self.conversions {
            documents.push(conversion.partial().map_err(|e| encode(&e))?);
        }
        let mut text = String::new();
        for document in documents {
            text.push_str("---\n");
            text.push_str(&serde_saphyr::to_string(&document).map_err(|e| encode(&e))?);
            if !text.ends_with('\n') {
                text.push('\n');
            }
        }
        Ok(text)
    }

    /// Applies all of it by server-side apply, as the field manager `manager`, over what others have written. The
    /// definitions of converted kinds must be there.
    ///
    /// # Errors
    /// [`WebhookError::Apply`] for the first that is refused, [`WebhookError::Late`] for the first that is not answered
    /// within 30 seconds; what was applied before stays.
    pub async fn apply(&self, client: &Client, manager: &str) -> Result<(), WebhookError> {
        let params = PatchParams::apply(manager).force();
        if let Some(mutating) = &self.mutating {
            apply(client, &params, mutating, mutating).await?;
        }
        if let Some(validating) = &self.validating {
            apply(client, &params, validating, validating).await?;
        }
        for conversion in &self.conversions {
            let definition = apiextensions::CustomResourceDefinition {
                metadata: ObjectMeta {
                    name: Some(conversion.definition.clone()),
                    ..ObjectMeta::default()
                },
                ..Default::default()
            };
            let partial = conversion
                .partial()
                .map_err(|error| WebhookError::Encode(error.to_string()))?;
            apply(client, &params, &definition, &partial).await?;
        }
        Ok(())
    }
}

impl Conversions {
    /// The definition with nothing but its name and conversion.
    fn partial(&self) -> Result<Value, serde_json::Error> {
        Ok(json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.definition},
            "spec": {"conversion": serde_json::to_value(&self.conversion)?},
        }))
    }
}

/// Applies `what` to the object that has the name of `named`.
async fn apply<K>(
    client: &Client,
    params: &PatchParams,
    named: &K,
    what: &impl Serialize,
) -> Result<(), WebhookError>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>,
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let name = named.meta().name.as_deref().unwrap_or_default();
    let what_is = || format!("the {} {name}", K::kind(&()));
    let applied = async {
        let body = serde_json::to_value(what).map_err(kube::Error::SerdeError)?;
        let api: Api<K> = Api::all(client.clone());
        api.patch(name, params, &Patch::Apply(body)).await
    };
    match tokio::time::timeout(PATIENCE, applied).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(cause)) => Err(WebhookError::Apply {
            what: what_is(),
            cause: Box::new(cause),
        }),
        Err(_) => Err(WebhookError::Late {
            what: what_is(),
            patience: PATIENCE,
        }),
    }
}

/// Finds what the API server would refuse, and what is said more clearly here.
fn check(hook: &Hook) -> Result<(), WebhookError> {
    let wrong = |why: String| {
        Err(WebhookError::Undeclarable {
            webhook: hook.name.clone(),
            why,
        })
    };
    if hook.name.split('.').filter(|label| !label.is_empty()).count() < 3 {
        return wrong("its name needs three parts, as validate.websites.example.com".to_owned());
    }
    let seconds = Duration::from_secs(1)..=Duration::from_secs(30);
    if !seconds.contains(&hook.timeout) || hook.timeout.subsec_nanos() != 0 {
        return wrong(format!(
            "its timeout is {:?}, and not a whole number of seconds from 1 to 30",
            hook.timeout
        ));
    }
    if hook.rules.is_empty() {
        return wrong("it has no rules, so that it is never asked".to_owned());
    }
    let names: BTreeSet<&String> = hook.conditions.iter().map(|condition| &condition.name).collect();
    if names.len() != hook.conditions.len() {
        return wrong("two of its conditions have the same name".to_owned());
    }
    if hook.again && !hook.mutates {
        return wrong("it is validating, and asked last anyway: leave out reinvoked_if_needed".to_owned());
    }
    Ok(())
}

fn mutating_webhook(hook: &Hook, target: &Target) -> MutatingWebhook {
    MutatingWebhook {
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client_config(target, &hook.path),
        failure_policy: Some(hook.policy.as_str().to_owned()),
        match_conditions: (!hook.conditions.is_empty()).then(|| hook.conditions.clone()),
        match_policy: Some("Equivalent".to_owned()),
        name: hook.name.clone(),
        namespace_selector: hook.namespaces.clone(),
        object_selector: hook.objects.clone(),
        reinvocation_policy: Some(if hook.again { "IfNeeded" } else { "Never" }.to_owned()),
        rules: Some(hook.rules.clone()),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(seconds(hook.timeout)),
    }
}

fn validating_webhook(hook: &Hook, target: &Target) -> ValidatingWebhook {
    ValidatingWebhook {
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client_config(target, &hook.path),
        failure_policy: Some(hook.policy.as_str().to_owned()),
        match_conditions: (!hook.conditions.is_empty()).then(|| hook.conditions.clone()),
        match_policy: Some("Equivalent".to_owned()),
        name: hook.name.clone(),
        namespace_selector: hook.namespaces.clone(),
        object_selector: hook.objects.clone(),
        rules: Some(hook.rules.clone()),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(seconds(hook.timeout)),
    }
}

fn conversion(target: &Target) -> apiextensions::CustomResourceConversion {
    let (service, url) = match target.client(CONVERT) {
        target::Client::Service {
            namespace,
            name,
            path,
            port,
        } => {
            let service = apiextensions::ServiceReference {
                namespace,
                name,
                path: Some(path),
                port: Some(port),
            };
            (Some(service), None)
        }
        target::Client::Url(url) => (None, Some(url)),
    };
    apiextensions::CustomResourceConversion {
        strategy: "Webhook".to_owned(),
        webhook: Some(apiextensions::WebhookConversion {
            client_config: Some(apiextensions::WebhookClientConfig {
                ca_bundle: None,
                service,
                url,
            }),
            conversion_review_versions: vec!["v1".to_owned()],
        }),
    }
}

fn client_config(target: &Target, path: &str) -> WebhookClientConfig {
    let (service, url) = match target.client(path) {
        target::Client::Service {
            namespace,
            name,
            path,
            port,
        } => {
            let service = ServiceReference {
                namespace,
                name,
                path: Some(path),
                port: Some(port),
            };
            (Some(service), None)
        }
        target::Client::Url(url) => (None, Some(url)),
    };
    WebhookClientConfig {
        ca_bundle: None,
        service,
        url,
    }
}

/// Checked to be 30 at most.
fn seconds(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX)
}
