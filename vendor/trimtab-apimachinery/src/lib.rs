//! What Kubernetes objects have in common: keys, selectors, quantities, conditions, errors, schemas, patches.
//!
//! Pure functions over values: nothing here does I/O or is async.
//!
//! ```
//! use trimtab_apimachinery::{ObjectKey, Quantity};
//!
//! let key: ObjectKey = "default/hello".parse()?;
//! assert_eq!((&*key.namespace, &*key.name), ("default", "hello"));
//! assert!("1500m".parse::<Quantity>()? > "1".parse()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[doc(inline)]
pub use trimtab_apimachinery_meta::{
    ApiError, FieldError, FieldErrorKind, FieldPath, FieldSelector, GroupKind, GroupResource, GroupVersion,
    GroupVersionKind, GroupVersionResource, LabelSelector, ObjectKey, Quantity, StatusReason,
};

/// Conditions, by the exact rules of `SetStatusCondition`; summaries, validation, and merging beside other writers.
#[doc(inline)]
pub use trimtab_apimachinery_meta::conditions;

/// Errors as the API server words them.
#[doc(inline)]
pub use trimtab_apimachinery_meta::errors;

/// Field paths and what is wrong there.
#[doc(inline)]
pub use trimtab_apimachinery_meta::field;

/// Finalizers.
#[doc(inline)]
pub use trimtab_apimachinery_meta::finalizers;

/// What managed fields tell of an apply.
#[doc(inline)]
pub use trimtab_apimachinery_meta::managed_fields;

/// Rules of names.
#[doc(inline)]
pub use trimtab_apimachinery_meta::names;

/// Owner references, and the claims of controllers that select their objects by labels.
#[doc(inline)]
pub use trimtab_apimachinery_meta::owner;

/// Status phases as declared state machines: the trait, and what its derive takes and gives.
///
/// ```
/// use trimtab_apimachinery::Phase;
///
/// #[derive(Phase)]
/// enum Door {
///     #[phase(initial, to(Open))]
///     Closed,
///     #[phase(to(Closed))]
///     Open,
/// }
/// assert!(Door::legal(None, &Door::Open).is_err());
/// ```
#[doc(inline)]
pub use trimtab_apimachinery_meta::phase;

#[doc(no_inline)]
pub use trimtab_apimachinery_meta::phase::Phase;

#[doc(inline)]
pub use trimtab_apimachinery_derive::Phase;

/// What `trimtab` exports in place of this crate's own: derives whose code has its paths.
#[doc(hidden)]
pub mod __trimtab {
    pub use trimtab_apimachinery_derive::TrimtabPhase as Phase;
}

/// Quantities.
#[doc(inline)]
pub use trimtab_apimachinery_meta::quantity;

/// Comparing resource versions.
#[doc(inline)]
pub use trimtab_apimachinery_meta::resource_version;

/// Label and field selectors.
#[doc(inline)]
pub use trimtab_apimachinery_meta::selector;

/// Structural schemas.
#[doc(inline)]
pub use trimtab_apimachinery_schema::schema;

/// Custom resources' schemas at work: pruning, defaulting, validation, CEL rules.
#[doc(inline)]
pub use trimtab_apimachinery_schema::structural;

/// JSON, merge and strategic merge patches.
#[doc(inline)]
pub use trimtab_apimachinery_schema::patch;

/// Server-side apply and managed fields.
#[doc(inline)]
pub use trimtab_apimachinery_schema::apply;
