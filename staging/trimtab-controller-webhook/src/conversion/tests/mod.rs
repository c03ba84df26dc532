//! Tests of conversion: single objects, reviews, and what survives a way there and back.

mod convert;
mod reviews;
mod survive;

use serde_json::Value;

use super::Conversion;
use crate::tests::websites::{Website, v1alpha1, v1beta1};

pub(super) fn websites() -> Conversion<Website> {
    Conversion::hub()
        .spoke::<v1beta1::Website>()
        .spoke::<v1alpha1::Website>()
}

/// The clause's checker, *Identity kept*: nothing of the metadata differs but labels and annotations.
pub(super) fn check_identity_kept(sent: &Value, converted: &Value) {
    let bare = |object: &Value| {
        let mut metadata = object["metadata"].clone();
        for key in ["labels", "annotations"] {
            metadata.as_object_mut().expect("an object").remove(key);
        }
        metadata
    };
    assert_eq!(
        bare(sent),
        bare(converted),
        "Identity kept: {sent} became {converted}"
    );
    assert_eq!(sent["kind"], converted["kind"]);
}
