//! The `token` subresource of service accounts: issues a token, bound to an object if so wished.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};
use trimtab_apimachinery_meta::{ApiError, GroupKind, GroupResource};
use trimtab_apiserver_auth::service_account::{Bound, Issuer, ObjectRef};

use super::{body, identity_reviews};
use crate::admission::Reader;
use crate::api::{ApiRequest, ApiResponse};
use crate::registry::hooks::VirtualResource;
use crate::registry::{Creation, Registry, meta};

const KIND: &str = "TokenRequest";
/// In seconds: what a token lasts when nothing is said, and the least and the most that may be asked for.
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

/// Issues tokens for service accounts.
#[derive(Debug)]
pub(super) struct TokenRequest {
    pub(super) issuer: Arc<Issuer>,
    pub(super) reader: Arc<dyn Reader>,
}

impl TokenRequest {
    async fn get(&self, plural: &str, namespace: &str, name: &str) -> Result<Value, ApiError> {
        let found = self.reader.get("", plural, namespace, name).await?;
        found.ok_or_else(|| ApiError::not_found(&GroupResource::new("", plural), name))
    }

    /// Looks up what the token is to be bound to.
    async fn bind(&self, wanted: &Value, bound: &mut Bound) -> Result<(), ApiError> {
        let text = |field: &str| wanted[field].as_str().unwrap_or_default();
        let (name, namespace) = (text("name"), bound.namespace.clone());
        // The version does not matter, only the group.
        let version = text("apiVersion");
        let object = match (if version.contains('/') { version } else { "v1" }, text("kind")) {
            ("v1", "Pod") => {
                let pod = self.get("pods", &namespace, name).await?;
                let account = &bound.serviceaccount.name;
                if pod["spec"]["serviceAccountName"].as_str() != Some(account) {
                    let why = "pod running with different serviceaccount name.";
                    return Err(ApiError::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to {why}"
                    )));
                }
                bound.pod = Some(reference(&pod));
                if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
                    let found = self.reader.get("", "nodes", "", node).await?;
                    let nameless = || ObjectRef {
                        name: node.to_owned(),
                        ..ObjectRef::default()
                    };
                    bound.node = Some(found.as_ref().map_or_else(nameless, reference));
                }
                pod
            }
            ("v1", "Secret") => {
                let secret = self.get("secrets", &namespace, name).await?;
                bound.secret = Some(reference(&secret));
                secret
            }
            ("v1", "Node") => {
                let node = self.get("nodes", "", name).await?;
                bound.node = Some(reference(&node));
                node
            }
            (_, kind) => {
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                let text = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
                return Err(ApiError::bad_request(text));
            }
        };
        let uid = text("uid");
        if !uid.is_empty() && uid != meta::text(&object, "uid") {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            );
            return Err(ApiError::conflict(
                &GroupResource::new("", text("kind")),
                name,
                why,
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl VirtualResource for TokenRequest {
    async fn handle(&self, registry: &Registry, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let mut object = body::read(&request, identity_reviews::GROUP, KIND)?;
        let mut creation = Creation::new(registry, &request)?;
        creation.mutate(&mut object).await?;
        let (namespace, name) = (request.info.namespace.as_str(), request.info.name.as_str());
        for (field, own, what) in [("name", name, "name"), ("namespace", namespace, "namespace")] {
            let given = meta::text(&object, field);
            if !given.is_empty() && given != own {
                let path = FieldPath::new("metadata").child(field);
                let why = format!("must match the service account {what} if specified");
                return Err(invalid(name, &[FieldError::invalid(&path, given, why)]));
            }
        }
        let account = self.get("serviceaccounts", namespace, name).await?;
        let seconds = object["spec"]["expirationSeconds"]
            .as_i64()
            .unwrap_or(DEFAULT_SECONDS);
        let path = FieldPath::new("spec").child("expirationSeconds");
        let out_of_range = match seconds {
            ..MIN_SECONDS => Some("may not specify a duration less than 10 minutes"),
            MIN_SECONDS..=MAX_SECONDS => None,
            _ => Some("may not specify a duration larger than 2^32 seconds"),
        };
        if let Some(why) = out_of_range {
            return Err(invalid("", &[FieldError::invalid(&path, seconds, why)]));
        }
        object["spec"]["expirationSeconds"] = json!(seconds);
        let asked = object["spec"].clone();
        let mut audiences = body::texts(&asked["audiences"]);
        if audiences.is_empty() {
            audiences = self.issuer.audiences().to_vec();
        }
        let mut shown = object.clone();
        shown["spec"]["audiences"] = json!(audiences);
        meta::set(&mut shown, "name", name);
        meta::set(&mut shown, "namespace", namespace);
        let mut warnings = creation.validate(&shown).await?;
        let mut seconds = seconds;
        if let Some(most) = self.issuer.max_seconds().filter(|most| *most < seconds) {
            warnings.push(format!(
                "requested expiration of {seconds} seconds shortened to {most} seconds"
            ));
            seconds = most;
            object["spec"]["expirationSeconds"] = json!(seconds);
        }
        let mut bound = Bound {
            namespace: namespace.to_owned(),
            serviceaccount: reference(&account),
            ..Bound::default()
        };
        match asked.get("boundObjectRef") {
            Some(wanted) => self.bind(wanted, &mut bound).await?,
            None => object["spec"]["boundObjectRef"] = Value::Null,
        }
        let now = registry.now();
        let token = self
            .issuer
            .issue(bound, &audiences, now.as_second(), seconds)
            .map_err(ApiError::internal)?;
        object["spec"]["audiences"] = json!(audiences);
        let end = Timestamp::from_second(now.as_second() + seconds).unwrap_or(now);
        object["status"] = json!({"token": token, "expirationTimestamp": body::time(end)});
        for (field, value) in [
            ("name", name),
            ("namespace", namespace),
            ("uid", meta::text(&account, "uid")),
            ("creationTimestamp", &body::time(now)),
        ] {
            meta::set(&mut object, field, value);
        }
        body::track(&request, &mut object, &asked, now);
        Ok(ApiResponse::Value {
            code: 201,
            value: object,
            warnings,
        })
    }
}

fn reference(object: &Value) -> ObjectRef {
    ObjectRef {
        name: meta::name(object).to_owned(),
        uid: meta::text(object, "uid").to_owned(),
    }
}

fn invalid(name: &str, errors: &[FieldError]) -> ApiError {
    ApiError::invalid(&GroupKind::new(identity_reviews::GROUP, KIND), name, errors)
}
