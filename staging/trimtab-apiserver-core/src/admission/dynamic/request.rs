//! `AdmissionRequest` of admission.k8s.io: a request as webhooks and expressions see it.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::GroupVersionKind;

use super::matching::Sight;
use crate::registry::hooks::Attributes;

/// The request, without its objects and without an identifier: what conditions see of it.
pub(crate) fn request(attributes: &Attributes, sight: &Sight) -> Value {
    let kind = |gvk: &GroupVersionKind| json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
    let (seen, own) = (&sight.resource, &attributes.resource);
    let user = &attributes.user;
    let mut request = json!({
        "kind": kind(&sight.kind),
        "resource": {"group": seen.group, "version": seen.version, "resource": seen.plural},
        "requestKind": kind(&attributes.kind()),
        "requestResource": {"group": own.group, "version": own.version, "resource": own.plural},
        "operation": attributes.operation.as_str(),
        "userInfo": {},
        "dryRun": attributes.dry_run,
        "options": attributes.options,
    });
    for (field, text) in [
        ("subResource", &attributes.subresource),
        ("requestSubResource", &attributes.subresource),
        ("name", &attributes.name),
        ("namespace", &attributes.namespace),
    ] {
        if !text.is_empty() {
            request[field] = text.as_str().into();
        }
    }
    for (field, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            request["userInfo"][field] = text.as_str().into();
        }
    }
    if !user.groups.is_empty() {
        request["userInfo"]["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        request["userInfo"]["extra"] = json!(user.extra);
    }
    request
}
