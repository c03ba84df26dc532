//! The StorageClass by which claims have volumes without anybody who makes them.

use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::SIMULATED;

/// The class of claims that name none.
const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

/// Makes the default StorageClass, `standard`, by which claims that name none have simulated volumes at once, which are
/// deleted with the claims. A cluster that has a default class, or one of this name, is left as it is.
///
/// The volumes are made by the `persistentvolume-binder-controller`.
///
/// # Errors
///
/// Those of the requests. Cancelling it leaves the class made or not.
pub async fn install_storage_class(client: &Client) -> kube::Result<()> {
    let classes: Api<StorageClass> = Api::all(client.clone());
    let there = classes.list(&ListParams::default()).await?;
    let is_default = |class: &StorageClass| class.annotations().get(DEFAULT).is_some_and(|is| is == "true");
    if there.iter().any(is_default) {
        return Ok(());
    }
    let class = json!({
        "metadata": {"name": "standard", "annotations": {DEFAULT: "true"}},
        "provisioner": SIMULATED,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    });
    let class = serde_json::from_value(class).map_err(kube::Error::SerdeError)?;
    match classes.create(&PostParams::default(), &class).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        made => made.map(drop),
    }
}
