//! Ways into the cluster: ingresses get the default class, and services may be kept from addresses that are not theirs.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;

use super::{Reader, creates, forbidden, is};
use crate::registry::hooks::{Admission, Attributes, Operation};
use crate::registry::meta;

const GROUP: &str = "networking.k8s.io";
const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// Where ingresses named their class before there was a field for it.
const OLD_FIELD: &str = "kubernetes.io/ingress.class";

/// Gives new ingresses without a class the default one, if there is one.
#[derive(Debug)]
pub struct DefaultIngressClass {
    reader: Arc<dyn Reader>,
}

impl DefaultIngressClass {
    /// The plugin, which finds ingress classes by `reader`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader }
    }
}

#[async_trait]
impl Admission for DefaultIngressClass {
    fn concerns(&self, attributes: &Attributes) -> bool {
        creates(attributes, GROUP, "ingresses")
    }

    async fn mutate(
        &self,
        _: &Attributes,
        ingress: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let named = !ingress["spec"]["ingressClassName"].is_null()
            || !ingress["metadata"]["annotations"][OLD_FIELD].is_null();
        if named || !ingress["spec"].is_object() {
            return Ok(());
        }
        let classes = self.reader.list(GROUP, "ingressclasses", "").await?;
        // Of several defaults the newest counts, then the first by name.
        let newest = classes
            .iter()
            .filter(|class| class["metadata"]["annotations"][IS_DEFAULT] == "true")
            .min_by_key(|class| {
                let created = meta::text(class, "creationTimestamp").to_owned();
                (std::cmp::Reverse(created), meta::name(class).to_owned())
            });
        if let Some(class) = newest {
            ingress["spec"]["ingressClassName"] = json!(meta::name(class));
        }
        Ok(())
    }
}

/// Keeps services from external addresses that they do not have already.
#[derive(Clone, Copy, Debug)]
pub struct DenyExternalIps;

#[async_trait]
impl Admission for DenyExternalIps {
    fn concerns(&self, attributes: &Attributes) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update)
            && is(attributes, "", "services")
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        service: Option<&Value>,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        fn addresses(service: &Value) -> &[Value] {
            service["spec"]["externalIPs"]
                .as_array()
                .map_or(&[], Vec::as_slice)
        }
        let had = old.map_or(&[][..], addresses);
        match service {
            Some(service) if addresses(service).iter().any(|ip| !had.contains(ip)) => {
                let why = "Use of external IPs is denied by admission control";
                Err(forbidden(attributes, Some(service), why))
            }
            _ => Ok(()),
        }
    }
}
