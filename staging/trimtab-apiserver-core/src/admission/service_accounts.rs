//! Service accounts: every pod has one, which must exist, and its containers find a token for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;

use super::{Reader, creates, forbidden};
use crate::ambient::Entropy;
use crate::registry::hooks::{Admission, Attributes};

const DEFAULT: &str = "default";
/// Where containers look for their token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// How long a token in a pod lives, in seconds; renewed by whoever runs the pod. An hour and a bit, as Kubernetes has
/// it, so that such tokens can be told from those that were asked for with an hour.
const TOKEN_SECONDS: u64 = 3607;
/// The default account of a new namespace is made by a controller, which may need a moment.
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// Gives each new pod a service account, its pull secrets and a token volume.
#[derive(Debug)]
pub struct ServiceAccounts {
    reader: Arc<dyn Reader>,
    entropy: Entropy,
}

impl ServiceAccounts {
    /// The plugin, which finds service accounts by `reader`, and names volumes by `entropy`.
    pub fn new(reader: Arc<dyn Reader>, entropy: Entropy) -> Self {
        Self { reader, entropy }
    }

    async fn account(&self, namespace: &str, name: &str) -> Result<Option<Value>, ApiError> {
        let attempts = if name == DEFAULT { ATTEMPTS } else { 1 };
        for attempt in 0..attempts {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let found = self.reader.get("", "serviceaccounts", namespace, name).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Admission for ServiceAccounts {
    fn concerns(&self, attributes: &Attributes) -> bool {
        creates(attributes, "", "pods")
    }

    async fn mutate(
        &self,
        attributes: &Attributes,
        pod: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        if !pod["spec"].is_object() {
            return Ok(());
        }
        if !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null() {
            return check_mirror(attributes, pod);
        }
        let name = pod["spec"]["serviceAccountName"]
            .as_str()
            .filter(|n| !n.is_empty())
            .unwrap_or(DEFAULT)
            .to_owned();
        let namespace = &attributes.namespace;
        let Some(account) = self.account(namespace, &name).await? else {
            let why = format!(
                "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
            );
            return Err(forbidden(attributes, Some(pod), why));
        };
        let spec = &mut pod["spec"];
        spec["serviceAccountName"] = json!(name);
        spec["serviceAccount"] = json!(name);
        let automount = [
            &spec["automountServiceAccountToken"],
            &account["automountServiceAccountToken"],
        ]
        .into_iter()
        .find_map(Value::as_bool)
        .unwrap_or(true);
        if automount {
            mount_token(spec, &self.entropy);
        }
        let secrets = &account["imagePullSecrets"];
        if is_empty(&spec["imagePullSecrets"]) && !is_empty(secrets) {
            spec["imagePullSecrets"] = secrets.clone();
        }
        Ok(())
    }
}

/// Mirror pods stand for pods that run already; nothing may be added to them.
fn check_mirror(attributes: &Attributes, pod: &Value) -> Result<(), ApiError> {
    if pod["spec"]["serviceAccountName"]
        .as_str()
        .is_some_and(|name| !name.is_empty())
    {
        return Err(forbidden(
            attributes,
            Some(pod),
            "a mirror pod may not reference service accounts",
        ));
    }
    Ok(())
}

/// Mounts the token volume in every container that has nothing at its path, and adds the volume if need be.
fn mount_token(spec: &mut Value, entropy: &Entropy) {
    let volumes = spec["volumes"].as_array();
    let existing = volumes
        .into_iter()
        .flatten()
        .filter_map(|v| v["name"].as_str())
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let volume = existing
        .clone()
        .unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", entropy.suffix()));
    let mut needed = false;
    for kind in ["initContainers", "containers"] {
        let containers = spec.get_mut(kind).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mut mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
            if mounts.iter().all(|mount| mount["mountPath"] != MOUNT_PATH) && container.is_object() {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
                container["volumeMounts"] = Value::Array(mounts);
                needed = true;
            }
        }
    }
    if needed && existing.is_none() {
        let mut volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
        volumes.push(token_volume(&volume));
        spec["volumes"] = Value::Array(volumes);
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]}},
            ],
        },
    })
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}
