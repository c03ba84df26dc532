//! The plugin that refuses everything.

use async_trait::async_trait;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;

use super::forbidden;
use crate::registry::hooks::{Admission, Attributes};

/// Refuses every write and connection: for tests of what happens then.
#[derive(Clone, Copy, Debug)]
pub struct AlwaysDeny;

#[async_trait]
impl Admission for AlwaysDeny {
    async fn mutate(
        &self,
        attributes: &Attributes,
        object: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        Err(refusal(attributes, Some(object)))
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        Err(refusal(attributes, object))
    }
}

fn refusal(attributes: &Attributes, object: Option<&Value>) -> ApiError {
    forbidden(
        attributes,
        object,
        "admission control is denying all modifications",
    )
}
