//! Objects in the version that a webhook or policy wants, and back again.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::resource::Resource;

use super::matching::Sight;
use crate::registry::decode::Decoder;
use crate::registry::hooks::Attributes;
use crate::registry::options::FieldValidation;
use crate::registry::{Resources, storage};

/// The objects of a request as they are shown.
#[derive(Clone, Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) object: Option<Cow<'a, Value>>,
    pub(crate) old: Option<Cow<'a, Value>>,
}

/// The objects of a request in the version of `sight`.
///
/// # Errors
///
/// When they cannot be converted.
pub(crate) async fn show<'a>(
    resources: &Resources,
    attributes: &Attributes,
    sight: &Sight,
    object: Option<&'a Value>,
    old: Option<&'a Value>,
) -> Result<Shown<'a>, ApiError> {
    let mut shown = [None, None];
    for (shown, object) in shown.iter_mut().zip([object, old]) {
        if let Some(object) = object {
            let (from, to) = (&attributes.resource, &sight.resource);
            *shown = Some(convert(resources, from, to, attributes, object).await?);
        }
    }
    let [object, old] = shown;
    Ok(Shown { object, old })
}

/// An object of `from` as one of `to`. What is of a kind of its own, as `Scale`, is the same in all versions.
///
/// # Errors
///
/// 500 when others have to convert it and cannot.
pub(crate) async fn convert<'a>(
    resources: &Resources,
    from: &Resource,
    to: &Arc<Resource>,
    attributes: &Attributes,
    object: &'a Value,
) -> Result<Cow<'a, Value>, ApiError> {
    if is_same(from, to) || !is_own(attributes) {
        return Ok(Cow::Borrowed(object));
    }
    if let Some(converter) = resources.converter(to) {
        let converted = converter
            .convert(vec![object.clone()], &to.api_version(), attributes.deadline)
            .await;
        return match converted {
            Ok(converted) => Ok(Cow::Owned(converted.into_iter().next().unwrap_or_default())),
            Err(error) if error.code == 504 => Err(error),
            Err(error) => Err(ApiError::internal(error)),
        };
    }
    let stored = from
        .conversion
        .map_or_else(|| object.clone(), |conversion| (conversion.to_stored)(object));
    let mut converted = match to.conversion {
        Some(conversion) => (conversion.from_stored)(stored),
        None => stored,
    };
    storage::stamp(to, &mut converted);
    Ok(Cow::Owned(converted))
}

fn is_same(a: &Resource, b: &Resource) -> bool {
    (&a.group, &a.version) == (&b.group, &b.version)
}

/// Whether the request's objects are of the resource's own kind.
pub(crate) fn is_own(attributes: &Attributes) -> bool {
    attributes.kind() == attributes.resource.gvk()
}

/// An object that has been patched, as a decoder reads it: without what its kind does not know.
///
/// # Errors
///
/// A text that says what does not fit the kind.
pub(crate) fn decode(resource: &Resource, resources: &Resources, patched: &Value) -> Result<Value, String> {
    decoder(resource, resources, FieldValidation::Ignore).object(patched, &mut Vec::new())
}

/// As [`decode`], of an object that must have nothing that its kind does not know.
///
/// # Errors
///
/// A text that says what does not fit the kind, or is not known to it.
pub(crate) fn decode_strictly(
    resource: &Resource,
    resources: &Resources,
    patched: &Value,
) -> Result<Value, String> {
    decoder(resource, resources, FieldValidation::Strict).object(patched, &mut Vec::new())
}

fn decoder<'d>(resource: &'d Resource, resources: &'d Resources, validation: FieldValidation) -> Decoder<'d> {
    Decoder {
        resource,
        resources,
        validation,
    }
}
