//! What happens to a changed object before it is stored: it must be based on the stored one, takes over what may not
//! change, and is validated.

use serde_json::Value;
use trimtab_apimachinery_meta::{ApiError, FieldError, FieldPath, GroupKind, StatusReason};

use super::storage::Stored;
use super::{Call, meta, metadata_rules};

impl Call<'_> {
    /// The new state must be based on the stored one, if it says what it is based on.
    pub(super) fn check_version(&self, new: &mut Value, stored: &Stored) -> Result<(), ApiError> {
        let resource = self.resource.group_resource();
        let uid = meta::text(new, "uid");
        let stored_uid = meta::text(&stored.object, "uid");
        if !uid.is_empty() && uid != stored_uid && self.request.info.verb == "update" {
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
                 failed: UID in precondition: {uid}, UID in object meta: {stored_uid}",
                self.key(self.name())
            );
            return Err(ApiError::conflict(&resource, self.name(), why));
        }
        let text = meta::text(new, "resourceVersion");
        let version: u64 = if text.is_empty() {
            0
        } else {
            text.parse().map_err(|_| {
                let text = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
                ApiError::new(500, StatusReason::Unknown, text)
            })?
        };
        if version == 0 {
            if !self.resource.strategy.allow_unconditional_update() {
                let at = FieldPath::new("metadata").child("resourceVersion");
                let error = FieldError::invalid(&at, 0, "must be specified for an update");
                let kind = GroupKind::new(&resource.group, &resource.resource);
                return Err(ApiError::invalid(&kind, self.name(), &[error]));
            }
        } else if version != stored.revision {
            return Err(ApiError::modified(&resource, self.name()));
        }
        meta::set(new, "resourceVersion", stored.revision.to_string());
        Ok(())
    }

    /// Takes over what an update may not change, counts generations, and validates.
    pub(super) fn before_update(&mut self, new: &mut Value, old: &Value) -> Result<(), ApiError> {
        let (resource, context) = (self.resource.clone(), self.context());
        meta::copy(new, old, "generation");
        resource.strategy.prepare_update(&context, new, old);
        if resource.strategy.has_generation() && resource.strategy.spec_changed(new, old) {
            meta::set(new, "generation", meta::generation(old) + 1);
        }
        if meta::text(new, "uid").is_empty() {
            meta::copy(new, old, "uid");
        }
        meta::copy(new, old, "creationTimestamp");
        meta::set(new, "selfLink", "");
        if meta::is_deleting(old) {
            meta::copy(new, old, "deletionTimestamp");
        }
        if new["metadata"]["deletionGracePeriodSeconds"].is_null() {
            meta::copy(new, old, "deletionGracePeriodSeconds");
        }
        // Metadata is looked at for all kinds, and again for this one: each error is a cause twice.
        let errors = metadata_rules::validate_update(&resource, new, old);
        let mut all = errors.clone();
        all.extend(errors);
        all.extend(resource.strategy.validate_update(&context, new, old));
        if !all.is_empty() {
            return Err(ApiError::invalid(&resource.group_kind(), meta::name(new), &all));
        }
        self.warnings
            .extend(resource.strategy.warnings(&context, new, Some(old)));
        Ok(())
    }
}
