//! Stored objects as they are served, written from their bytes.

use std::io::Write as _;

use serde_json::Value;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::Revision;

use super::Item;

/// Writes objects of one served version of a resource.
#[derive(Clone, Debug)]
pub(crate) struct Renderer {
    /// `{"kind":…,"apiVersion":…,`
    head: Vec<u8>,
}

/// How an object that is nothing but metadata begins.
const PARTIAL: &[u8] = br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","#;

impl Renderer {
    /// For objects of this version. Whether an object's bytes are enough says the codec.
    pub(crate) fn new(resource: &Resource) -> Self {
        let kind = Value::from(resource.kind.as_str());
        let api_version = Value::from(resource.api_version());
        Self {
            head: format!("{{\"kind\":{kind},\"apiVersion\":{api_version},").into_bytes(),
        }
    }

    /// Writes the object whole, as of this resource version. Answers whether it could; nothing is written if not.
    pub(crate) fn object(&self, item: &Item, version: Revision, out: &mut Vec<u8>) -> bool {
        write(&self.head, item, version, false, out)
    }

    /// Writes it as an item of a list, which says itself what kind its items are. Answers whether it could.
    pub(crate) fn list_item(item: &Item, out: &mut Vec<u8>) -> bool {
        write(b"{", item, item.revision, false, out)
    }

    /// Writes its metadata as `PartialObjectMetadata`. Answers whether it could.
    pub(crate) fn partial(item: &Item, version: Revision, out: &mut Vec<u8>) -> bool {
        write(PARTIAL, item, version, true, out)
    }
}

fn write(head: &[u8], item: &Item, version: Revision, metadata_only: bool, out: &mut Vec<u8>) -> bool {
    let Some(layout) = &item.layout else {
        return false;
    };
    // Both braces are there: the layout is of an object.
    let start = layout.metadata.start as usize + 1;
    let end = if metadata_only {
        layout.metadata.end
    } else {
        layout.end
    };
    let Some(rest) = item.value.get(start..end as usize) else {
        return false;
    };
    out.reserve(head.len() + rest.len() + 64);
    out.extend_from_slice(head);
    out.extend_from_slice(b"\"metadata\":{\"resourceVersion\":\"");
    // Writing to memory cannot fail.
    let _ = write!(out, "{version}");
    out.push(b'"');
    if !rest.trim_ascii_start().starts_with(b"}") {
        out.push(b',');
    }
    out.extend_from_slice(rest);
    if metadata_only {
        out.push(b'}');
    }
    true
}
