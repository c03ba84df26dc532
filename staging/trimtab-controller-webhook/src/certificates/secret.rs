//! Where certificates are kept: in this process alone, or in a Secret that replicas share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use parking_lot::Mutex;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_controller_runtime::rbac::Rule;

use super::error::ProvisionError;
use super::material::{Material, split};

/// The kind of Secret that has `tls.crt` and `tls.key`, as other programs know it.
const TYPE: &str = "kubernetes.io/tls";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";

/// Where certificates are kept. Clones are the same place.
#[derive(Clone)]
pub(super) enum Place {
    Memory(Arc<Mutex<Option<Material>>>),
    Secret { client: Client, key: ObjectKey },
}

/// What was found there: the certificates, if there are any, and the Secret around them.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) material: Option<Material>,
    secret: Option<Secret>,
}

impl Place {
    pub(super) async fn read(&self) -> Result<Found, ProvisionError> {
        let (client, key) = match self {
            Self::Memory(material) => {
                return Ok(Found {
                    material: material.lock().clone(),
                    secret: None,
                });
            }
            Self::Secret { client, key } => (client, key),
        };
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &key.namespace);
        let found = secrets.get_opt(&key.name).await;
        let Some(secret) = found.map_err(ProvisionError::api(format!("the Secret {key} cannot be read")))?
        else {
            return Ok(Found::default());
        };
        let data = secret.data.clone().unwrap_or_default();
        let is_ours = data.is_empty() || data.contains_key(AUTHORITY_KEY);
        if !is_ours {
            return Err(ProvisionError::Foreign(key.to_string()));
        }
        Ok(Found {
            material: (!data.is_empty()).then(|| material_of(&data)),
            secret: Some(secret),
        })
    }

    /// What keeping certificates there needs to be allowed.
    pub(super) fn rules(&self) -> Vec<Rule> {
        match self {
            Self::Memory(_) => Vec::new(),
            // To create tells no name.
            Self::Secret { key, .. } => vec![
                Rule::new("", "secrets", ["create"], true),
                Rule::new("", "secrets", ["get", "update"], true).named(&*key.name),
            ],
        }
    }

    /// Writes in the place of what was found. False: somebody else has written in between.
    pub(super) async fn write(&self, found: Found, material: &Material) -> Result<bool, ProvisionError> {
        let (client, key) = match self {
            Self::Memory(place) => {
                *place.lock() = Some(material.clone());
                return Ok(true);
            }
            Self::Secret { client, key } => (client, key),
        };
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &key.namespace);
        let params = PostParams::default();
        let written = match found.secret {
            None => {
                let secret = Secret {
                    metadata: ObjectMeta {
                        name: Some(key.name.clone()),
                        namespace: Some(key.namespace.clone()),
                        ..ObjectMeta::default()
                    },
                    type_: Some(TYPE.to_owned()),
                    data: Some(data_of(material)),
                    ..Secret::default()
                };
                secrets.create(&params, &secret).await
            }
            // At the version that was found.
            Some(mut secret) => {
                secret.data.get_or_insert_default().extend(data_of(material));
                secrets.replace(&key.name, &params, &secret).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            // Created, changed or deleted by somebody else.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(cause) => Err(ProvisionError::api(format!("the Secret {key} cannot be written"))(cause)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(_) => f.write_str("in memory"),
            Self::Secret { key, .. } => key.fmt(f),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn material_of(data: &BTreeMap<String, ByteString>) -> Material {
    let text = |key: &str| {
        let bytes = data.get(key).map(|bytes| bytes.0.as_slice()).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    Material {
        authorities: split(&text(AUTHORITIES)),
        authority_key: text(AUTHORITY_KEY),
        certificate: text(CERTIFICATE),
        key: text(KEY),
    }
}

fn data_of(material: &Material) -> BTreeMap<String, ByteString> {
    let entry = |key: &str, text: &str| (key.to_owned(), ByteString(text.as_bytes().to_vec()));
    BTreeMap::from([
        entry(AUTHORITIES, &material.bundle()),
        entry(AUTHORITY_KEY, &material.authority_key),
        entry(CERTIFICATE, &material.certificate),
        entry(KEY, &material.key),
    ])
}
