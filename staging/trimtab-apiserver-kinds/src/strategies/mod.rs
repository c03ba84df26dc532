//! What is special about each built-in kind.

mod standard;

use std::sync::Arc;

use trimtab_apimachinery_meta::GroupVersionKind;

use crate::resource::Column;
use crate::strategy::Strategy;

/// The strategy of a built-in kind.
pub(crate) fn strategy(gvk: &GroupVersionKind) -> Arc<dyn Strategy> {
    Arc::new(standard::Standard::of(gvk))
}

/// The columns of a built-in kind's table.
pub(crate) fn columns(_: &GroupVersionKind) -> Vec<Column> {
    let column = |name: &str, type_: &str, format: &str, description: &str| Column {
        name: name.to_owned(),
        type_: type_.to_owned(),
        format: format.to_owned(),
        description: description.to_owned(),
        priority: 0,
        json_path: None,
    };
    vec![
        column("Name", "string", "name", "Name of the object"),
        column("Created At", "date", "", "When the object was created"),
    ]
}

/// The warning that requests for a deprecated version carry.
pub(crate) fn deprecation(gvk: &GroupVersionKind) -> Option<String> {
    (gvk.group.is_empty() && gvk.kind == "Endpoints")
        .then(|| "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned())
}
