//! What the tests of all programs share: what people do, what was done by whom, what is, and what was at each moment.

pub(crate) mod acts;
pub(crate) mod history;
pub(crate) mod ledger;
pub(crate) mod scenario;
pub(crate) mod state;
pub(crate) mod transport;
pub(crate) mod workloads;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::ObjectMeta;

/// Metadata of an object in the namespace `default`, or of one without a namespace.
pub(crate) fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

pub(crate) fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: named(name),
        ..ConfigMap::default()
    }
}

/// A Secret with a password.
pub(crate) fn secret(name: &str, password: &str) -> Secret {
    Secret {
        metadata: named(name),
        string_data: Some([("password".to_owned(), password.to_owned())].into()),
        ..Secret::default()
    }
}

pub(crate) fn namespace(name: &str, labels: &[(&str, &str)]) -> Namespace {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let mut namespace = Namespace {
        metadata: named(name),
        ..Namespace::default()
    };
    namespace.metadata.labels = Some(labels.collect());
    namespace
}

/// A condition's status and reason.
pub(crate) fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<(&'a str, &'a str)> {
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((&found.status, &found.reason))
}
