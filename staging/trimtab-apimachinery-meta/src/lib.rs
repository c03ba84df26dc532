//! Kubernetes object metadata without I/O: what every other crate of the house agrees on.
//!
//! Depend on the facade `trimtab-apimachinery` instead of this crate; its paths are the stable ones.
//!
//! The crate owns names and rules, never bytes on a wire: object keys, group/version/kind, selectors,
//! quantities, quotas, placement, owner references, finalizers, managed fields, conditions, phases, resource versions, name validation and API errors.
//! It has no async code and does no I/O.

pub mod conditions;
pub mod errors;
pub mod field;
pub mod finalizers;
pub mod key;
pub mod managed_fields;
pub mod names;
pub mod owner;
pub mod phase;
pub mod placement;
pub mod quantity;
pub mod quota;
pub mod resource_version;
pub mod selector;

pub use errors::{ApiError, StatusReason};
pub use field::{FieldError, FieldErrorKind, FieldPath};
pub use key::{GroupKind, GroupResource, ObjectKey};
#[doc(inline)]
pub use kube_core::gvk::{GroupVersion, GroupVersionKind, GroupVersionResource};
pub use quantity::Quantity;
pub use selector::{FieldSelector, LabelSelector};
