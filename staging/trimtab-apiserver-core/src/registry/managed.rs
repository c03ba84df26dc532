//! Keeping `metadata.managedFields`: which write counts as whose, and which fields a request cannot own.

use serde_json::Value;
use trimtab_apimachinery_schema::apply::{Reset, Write, check_managed_fields, track_update};

use super::options::WriteOptions;
use super::{Call, meta};

impl Call<'_> {
    /// Writes down who owns which field of `new` after a change by `options.manager`.
    pub(super) fn track(&self, new: &mut Value, old: Option<&Value>, options: &WriteOptions) {
        track_update(&self.resource.schema, old, new, &self.write(options));
        if self.request.info.subresource == "scale" {
            undate_scale(new);
        }
    }

    /// What this request is, for the tracking of ownership.
    pub(super) fn write(&self, options: &WriteOptions) -> Write {
        let subresource = self.request.info.subresource.clone();
        Write {
            manager: options.manager.clone(),
            api_version: self.resource.api_version(),
            kind: self.resource.kind.clone(),
            reset: self.reset(&subresource),
            subresource,
            now: self.timestamp(),
            force: options.force,
            custom: self.resource.custom,
        }
    }

    /// The fields that the kind resets on this kind of write.
    fn reset(&self, subresource: &str) -> Reset {
        let paths = |all: &[&[&str]]| -> Vec<Vec<String>> {
            all.iter()
                .map(|path| path.iter().map(|&field| field.to_owned()).collect())
                .collect()
        };
        let resource = &self.resource;
        let is = |group: &str, plural: &str| resource.group == group && resource.plural == plural;
        match subresource {
            // Who asks for a certificate owns nothing of the request, which never changes.
            "" if is("certificates.k8s.io", "certificatesigningrequests") => {
                Reset::These(paths(&[&["spec"], &["status"]]))
            }
            "" | "finalize" if resource.subresource("status").is_some() => Reset::field("status"),
            "status" if resource.custom => Reset::AllBut(paths(&[&["status"]])),
            "status" if is("", "pods") => Reset::These(paths(&[
                &["spec"],
                &["metadata", "deletionTimestamp"],
                &["metadata", "ownerReferences"],
            ])),
            "status" if is("apps", "deployments") => {
                Reset::These(paths(&[&["spec"], &["metadata", "labels"]]))
            }
            "status" => Reset::field("spec"),
            "ephemeralcontainers" => Reset::AllBut(paths(&[&["spec", "ephemeralContainers"]])),
            _ => Reset::Nothing,
        }
    }
}

/// Takes back what others have made of an object's managed fields, `before`, if that makes no sense.
pub(crate) fn keep_ownership(object: &mut Value, before: Value, warnings: &mut Vec<String>) {
    let entries = &object["metadata"]["managedFields"];
    if *entries == before {
        return;
    }
    if let Err(why) = check_managed_fields(entries) {
        warnings.push(format!(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated \
             mutating admission controller; please fix your requests: {why}"
        ));
        meta::set(object, "managedFields", before);
    }
}

/// Scale requests leave no time in their entry.
fn undate_scale(object: &mut Value) {
    let entries = object
        .pointer_mut("/metadata/managedFields")
        .and_then(Value::as_array_mut);
    for entry in entries.into_iter().flatten().filter_map(Value::as_object_mut) {
        if entry.get("subresource").is_some_and(|s| s == "scale")
            && entry.get("operation").is_some_and(|o| o == "Update")
        {
            entry.remove("time");
        }
    }
}
