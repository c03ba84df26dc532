//! Note: something to remember, kept in this server's own data file and not in the API server's store.
#![allow(unreachable_pub)] // of what the derive makes

use kube::{CustomResource, CustomResourceExt as _, KubeSchema};
use serde::{Deserialize, Serialize};
use trimtab_apiserver::extension::{Definition, DefinitionError};

/// What is to be remembered
#[derive(CustomResource, Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "samples.trimtab.dev",
    version = "v1",
    kind = "Note",
    namespaced,
    doc = "Something to remember, kept beside the cluster's own store",
    printcolumn(name = "Text", type_ = "string", json_path = ".spec.text")
)]
#[serde(rename_all = "camelCase")]
pub struct NoteSpec {
    /// What it says.
    #[schemars(length(min = 1, max = 140))]
    pub text: String,
    /// How much it matters.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 5))]
    pub weight: i32,
}

fn one() -> i32 {
    1
}

/// The resource.
pub(crate) fn definition() -> Result<Definition, DefinitionError> {
    Definition::of(&Note::crd())
}
