//! Making the authorities known to the API server: `caBundle` of the entries that point to this program.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, header::CONTENT_TYPE};
use kube::Client;
use serde_json::{Value, json};
use trimtab_controller_runtime::rbac::Rule;

use super::error::ProvisionError;
use crate::target::Target;

const ADMISSION: &str = "admissionregistration.k8s.io";
const EXTENSIONS: &str = "apiextensions.k8s.io";
/// How often an object that others write at the same time is tried.
const TRIES: usize = 5;

/// Where the authorities are to be made known.
#[derive(Clone)]
pub(super) struct Injection {
    client: Client,
    target: Target,
    objects: Vec<Place>,
}

/// A configuration or definition.
#[derive(Clone)]
struct Place {
    group: &'static str,
    resource: &'static str,
    name: String,
}

impl Injection {
    /// For the configurations with this name, and these definitions.
    pub(super) fn new(
        client: Client,
        target: Target,
        name: &str,
        kinds: Kinds,
        definitions: &[String],
    ) -> Self {
        let place = |group, resource, name: &str| Place {
            group,
            resource,
            name: name.to_owned(),
        };
        let mutating = place(ADMISSION, "mutatingwebhookconfigurations", name);
        let validating = place(ADMISSION, "validatingwebhookconfigurations", name);
        let mut objects = Vec::new();
        objects.extend(kinds.mutating.then_some(mutating));
        objects.extend(kinds.validating.then_some(validating));
        let definitions = definitions.iter();
        objects.extend(definitions.map(|name| place(EXTENSIONS, "customresourcedefinitions", name)));
        Self {
            client,
            target,
            objects,
        }
    }

    /// Makes these authorities known wherever they are not. What is not there (yet) is left out.
    pub(super) async fn inject(&self, bundle: &str) -> Result<(), ProvisionError> {
        for object in &self.objects {
            self.inject_into(&object.path(), bundle).await?;
        }
        Ok(())
    }

    /// What that needs to be allowed.
    pub(super) fn rules(&self) -> impl Iterator<Item = Rule> {
        let places = self.objects.iter();
        places
            .map(|place| Rule::new(place.group, place.resource, ["get", "patch"], false).named(&*place.name))
    }

    async fn inject_into(&self, path: &str, bundle: &str) -> Result<(), ProvisionError> {
        let mut conflict = None;
        for _ in 0..TRIES {
            let object = match self.get(path).await {
                Ok(object) => object,
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    tracing::debug!(path, "there is nothing to inject authorities into");
                    return Ok(());
                }
                Err(cause) => return Err(ProvisionError::api(format!("{path} cannot be read"))(cause)),
            };
            let patch = patch(&object, &self.target, bundle);
            if patch.is_empty() {
                return Ok(());
            }
            match self.patch(path, &patch).await {
                Ok(()) => {
                    tracing::info!(path, "injected the authorities of webhooks");
                    return Ok(());
                }
                // Somebody else has written: look again.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    conflict = Some(kube::Error::Api(status));
                }
                Err(cause) => return Err(ProvisionError::api(format!("{path} cannot be patched"))(cause)),
            }
        }
        match conflict {
            Some(cause) => Err(ProvisionError::api(format!("{path} cannot be patched"))(cause)),
            None => Ok(()),
        }
    }

    async fn get(&self, path: &str) -> Result<Value, kube::Error> {
        let request = Request::get(path).body(Vec::new());
        self.client
            .request(request.map_err(kube::Error::HttpError)?)
            .await
    }

    async fn patch(&self, path: &str, patch: &[Value]) -> Result<(), kube::Error> {
        let body = serde_json::to_vec(patch).map_err(kube::Error::SerdeError)?;
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(path)
            .header(CONTENT_TYPE, "application/json-patch+json")
            .body(body);
        let request = request.map_err(kube::Error::HttpError)?;
        self.client.request::<Value>(request).await.map(|_| ())
    }
}

impl Place {
    /// Where it is in the API.
    fn path(&self) -> String {
        let Self {
            group,
            resource,
            name,
        } = self;
        format!("/apis/{group}/v1/{resource}/{name}")
    }
}

/// Which configurations there are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kinds {
    pub(super) mutating: bool,
    pub(super) validating: bool,
}

/// The JSON patch that makes the authorities known in a configuration or definition; empty if they are. It holds for
/// the object as it was seen only.
fn patch(object: &Value, target: &Target, bundle: &str) -> Vec<Value> {
    let encoded = Value::String(STANDARD.encode(bundle));
    let mut places = Vec::new();
    for (place, webhook) in object["webhooks"].as_array().into_iter().flatten().enumerate() {
        places.push((
            format!("/webhooks/{place}/clientConfig"),
            &webhook["clientConfig"],
        ));
    }
    let conversion = &object["spec"]["conversion"]["webhook"]["clientConfig"];
    places.push(("/spec/conversion/webhook/clientConfig".to_owned(), conversion));
    let mut patch: Vec<Value> = places
        .into_iter()
        .filter(|(_, config)| target.is_meant_by(config) && config["caBundle"] != encoded)
        .map(|(place, _)| json!({"op": "add", "path": format!("{place}/caBundle"), "value": encoded}))
        .collect();
    if !patch.is_empty() {
        let version = &object["metadata"]["resourceVersion"];
        patch.push(json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version}));
    }
    patch
}
