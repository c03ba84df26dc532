//! Keeping in an annotation what a version cannot express, until the version that can is back.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert::ConversionError;

/// Keeps `what` in the annotation `key`, as JSON.
///
/// Called with the hub, before it becomes a spoke, for the fields that the spoke lacks:
///
/// ```
/// # use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
/// # use trimtab_controller_webhook::{ConversionError, keep_in_annotation, restore_from_annotation};
/// # #[derive(Debug, PartialEq)]
/// # struct Hub { metadata: ObjectMeta, text: String, color: String }
/// # struct Old { metadata: ObjectMeta, text: String }
/// const COLOR: &str = "websites.example.com/color";
///
/// fn from_hub(mut hub: Hub) -> Result<Old, ConversionError> {
///     keep_in_annotation(&mut hub.metadata, COLOR, &hub.color)?;
///     Ok(Old { metadata: hub.metadata, text: hub.text })
/// }
///
/// fn into_hub(mut old: Old) -> Result<Hub, ConversionError> {
///     let color = restore_from_annotation(&mut old.metadata, COLOR).unwrap_or_else(|| "white".to_owned());
///     Ok(Hub { metadata: old.metadata, text: old.text, color })
/// }
/// # let hub = || Hub { metadata: ObjectMeta::default(), text: "a".to_owned(), color: "red".to_owned() };
/// # assert_eq!(into_hub(from_hub(hub()).unwrap()).unwrap(), hub());
/// ```
///
/// Keep what the spoke lacks and nothing else: whoever edits the spoke edits what it shows, and what is restored over that
/// is a lost update. All annotations of an object have 256 KiB together. The annotation is an ordinary one, which users
/// see and may remove; it must be on no other version than the one that needs it, so [`restore_from_annotation`] takes it
/// away.
///
/// # Errors
/// When `what` cannot be written as JSON.
pub fn keep_in_annotation<T: Serialize>(
    metadata: &mut ObjectMeta,
    key: &str,
    what: &T,
) -> Result<(), ConversionError> {
    let text = serde_json::to_string(what)?;
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(key.to_owned(), text);
    Ok(())
}

/// Takes what was kept in the annotation `key` out of it. None: nothing was, or somebody has written something else
/// there, which is taken away, too: a conversion must not fail because of what a user did to an annotation.
pub fn restore_from_annotation<T: DeserializeOwned>(metadata: &mut ObjectMeta, key: &str) -> Option<T> {
    let annotations = metadata.annotations.as_mut()?;
    let text = annotations.remove(key)?;
    if annotations.is_empty() {
        metadata.annotations = None;
    }
    serde_json::from_str(&text).ok()
}
