//! Params: the objects by which a binding tells a policy what it is to check or to set.

use std::sync::Arc;

use serde_json::Value;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::RangeRequest;

use super::passage::Passage;
use super::policy::{ParamKind, ParamRef};
use crate::registry::codec::Codec;
use crate::registry::keys;

/// The resource whose objects are params of that kind, in that version.
///
/// # Errors
///
/// A text that says that there is none.
pub(super) fn resource(kind: &ParamKind, passage: &Passage<'_>) -> Result<Arc<Resource>, String> {
    let found = passage.resources.by_kind(&kind.group, &kind.version, &kind.kind);
    found
        .cloned()
        .ok_or_else(|| format!("failed to find resource referenced by paramKind: '{kind}'"))
}

/// What a policy is to be evaluated with, each by itself: `None` for without params.
///
/// # Errors
///
/// A text in kube-apiserver's words when params cannot be had, or must be there and are not.
pub(super) async fn collect(
    resource: Option<&Arc<Resource>>,
    reference: Option<&ParamRef>,
    passage: &Passage<'_>,
) -> Result<Vec<Option<Value>>, String> {
    let (Some(resource), Some(reference)) = (resource, reference) else {
        return Ok(vec![None]);
    };
    let namespace = match (resource.namespaced(), reference.namespace.as_str()) {
        (true, "") if passage.attributes.namespace.is_empty() => {
            let why =
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(why.to_owned());
        }
        (true, "") => passage.attributes.namespace.as_str(),
        (true, namespace) => namespace,
        (false, "") => "",
        (false, _) => {
            return Err(
                "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned(),
            );
        }
    };
    let (store, deadline) = (&*passage.around.store, passage.attributes.deadline);
    let codec = Codec::new(&passage.resources, resource.clone(), deadline);
    let found: Vec<Value> = if !reference.name.is_empty() {
        let key = keys::object_key(resource, namespace, &reference.name);
        let found = codec.get(store, &key).await.map_err(|error| error.to_string())?;
        found.into_iter().map(|stored| stored.object).collect()
    } else if let Some(selector) = &reference.selector {
        let selector = selector.as_ref().map_err(Clone::clone)?;
        let range = RangeRequest::prefix(keys::collection_prefix(resource, namespace));
        let kvs = store.range(range).await.map_err(|error| error.to_string())?.kvs;
        let all = codec.decode_all(kvs).await.map_err(|error| error.to_string())?;
        let objects = all.into_iter().map(|stored| stored.object);
        objects
            .filter(|object| selector.matches(&object["metadata"]["labels"]))
            .collect()
    } else {
        return Err("one of name or selector must be provided".to_owned());
    };
    if found.is_empty() && reference.must_be_there {
        let why = "no params found for policy binding with `Deny` parameterNotFoundAction";
        return Err(why.to_owned());
    }
    Ok(found.into_iter().map(Some).collect())
}
