//! What is special about each built-in kind.

mod standard;

use std::sync::Arc;

use trimtab_apimachinery_meta::GroupVersionKind;

use crate::strategy::Strategy;

/// The strategy of a built-in kind.
pub(crate) fn strategy(gvk: &GroupVersionKind) -> Arc<dyn Strategy> {
    Arc::new(standard::Standard::of(gvk))
}

/// The warning that requests for a deprecated version carry.
pub(crate) fn deprecation(gvk: &GroupVersionKind) -> Option<String> {
    (gvk.group.is_empty() && gvk.kind == "Endpoints")
        .then(|| "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned())
}
