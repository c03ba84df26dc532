//! From the bytes of lists and events to objects. One object that cannot be decoded does not stop the others.

use std::any::TypeId;
use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use trimtab_apimachinery_meta::ObjectKey;

use super::failure::Failure;
use crate::Object;

/// One line of a watch, its object still as text.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// One page of a list, its items still as text.
#[derive(Deserialize)]
pub(super) struct Page<'a> {
    #[serde(default)]
    pub(super) metadata: PageMeta,
    #[serde(borrow, default)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMeta {
    #[serde(default)]
    pub(super) resource_version: String,
    #[serde(rename = "continue", default)]
    pub(super) continue_token: Option<String>,
}

/// The part of an object that names it: all that is read of bookmarks and of objects that cannot be decoded.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(super) struct Named {
    pub(super) metadata: NameMeta,
}

#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NameMeta {
    namespace: String,
    name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

impl Named {
    pub(super) fn key(&self) -> ObjectKey {
        ObjectKey {
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone(),
        }
    }
}

/// An object that cannot be decoded.
#[derive(Debug)]
pub(super) struct Undecodable {
    pub(super) named: Named,
    pub(super) why: serde_json::Error,
}

/// Decodes objects of one kind.
#[derive(Debug)]
pub(super) struct Decoder {
    /// What the items of a list are, for forms that must be told: a list says it once for all of its items.
    item_type: Option<String>,
}

impl Decoder {
    pub(super) fn new<K: Object>(kind: &K::DynamicType) -> Self {
        let knows_its_type = TypeId::of::<K::DynamicType>() == TypeId::of::<()>() || K::metadata_api();
        let item_type = || {
            let (api_version, kind) = (K::api_version(kind), K::kind(kind));
            format!("{{\"apiVersion\":\"{api_version}\",\"kind\":\"{kind}\",")
        };
        Self {
            item_type: (!knows_its_type).then(item_type),
        }
    }

    /// Decodes the object of an event.
    ///
    /// The outer error is a text that names no object at all.
    pub(super) fn object<K: Object>(&self, text: &RawValue) -> Result<Result<K, Undecodable>, Failure> {
        Self::decode(text.get())
    }

    /// Decodes an item of a list.
    pub(super) fn item<K: Object>(&self, text: &RawValue) -> Result<Result<K, Undecodable>, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Typed {
            kind: Option<IgnoredAny>,
        }
        if let Some(prefix) = &self.item_type
            && let Some(fields) = text.get().trim_start().strip_prefix('{')
            && serde_json::from_str::<Typed>(text.get()).is_ok_and(|typed| typed.kind.is_none())
            && !fields.trim_start().starts_with('}')
        {
            return Self::decode(&format!("{prefix}{fields}"));
        }
        Self::decode(text.get())
    }

    fn decode<K: Object>(text: &str) -> Result<Result<K, Undecodable>, Failure> {
        match serde_json::from_str(text) {
            Ok(object) => Ok(Ok(object)),
            Err(why) => match serde_json::from_str::<Named>(text) {
                Ok(named) if !named.metadata.name.is_empty() => Ok(Err(Undecodable { named, why })),
                _ => Err(Failure::Malformed(why.to_string())),
            },
        }
    }
}
