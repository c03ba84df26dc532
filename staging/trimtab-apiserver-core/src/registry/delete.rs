//! Deleting objects: at once, after a grace period, or when the last finalizer is gone.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use trimtab_apimachinery_meta::{ApiError, GroupResource};
use trimtab_apiserver_kinds::strategy::Deletion;
use trimtab_apiserver_storage::{Compare, Txn};

use super::delete_options::{DeleteOptions, Propagation};
use super::hooks::{Attributes, Operation};
use super::storage::Stored;
use super::{Answer, Call, meta, storage};
use crate::crd;

/// Deletes are decided again as often as the object changes meanwhile, up to this many times.
const ATTEMPTS: usize = 32;

/// What is to be done with a stored object that shall be deleted.
enum Step {
    /// Remove it.
    Remove,
    /// Store it like this, since something still holds it.
    Mark(Value),
    /// Store it like this, then remove it: others see the mark before it goes.
    MarkAndRemove(Value),
    /// Nothing: it is being deleted already, and something holds it.
    Leave,
    /// Nothing, and nobody need be asked: its grace period goes on, or it waits for its content to go.
    Wait,
}

/// How a delete ended.
pub(super) enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Value),
    /// The object is marked, and still there.
    Marked(Value),
}

impl Call<'_> {
    /// DELETE of one object.
    pub(super) async fn delete(&mut self) -> Result<Answer, ApiError> {
        let options = DeleteOptions::read(&self.request)?;
        let name = self.name().to_owned();
        let attributes = self.delete_attributes(&name, &options);
        self.warn_of_dependents(&options);
        match self.delete_object(&name, &options, Some(attributes)).await? {
            Deleted::Gone(object) if !self.answers_deleted_object() => {
                Ok(Answer::Plain(200, self.gone(&object)))
            }
            Deleted::Gone(object) => Ok(Answer::Object(200, object)),
            Deleted::Marked(object) => {
                let code = if options.orphan_dependents == Some(false) {
                    202
                } else {
                    200
                };
                Ok(Answer::Object(code, object))
            }
        }
    }

    /// Warns of what becomes of dependents when the request does not say that.
    pub(super) fn warn_of_dependents(&mut self, options: &DeleteOptions) {
        if options.dependents().is_none()
            && let Some(warning) = self.resource.strategy.deletion_warning()
        {
            self.warnings.push(warning.to_owned());
        }
    }

    /// The `Status` that says that the object is gone.
    fn gone(&self, object: &Value) -> Value {
        let mut details = json!({"name": meta::name(object), "kind": self.resource.plural});
        if !self.resource.group.is_empty() {
            details["group"] = self.resource.group.as_str().into();
        }
        if !meta::text(object, "uid").is_empty() {
            details["uid"] = object["metadata"]["uid"].clone();
        }
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
    }

    /// Some kinds answer a delete with the object rather than a status.
    fn answers_deleted_object(&self) -> bool {
        let of_core = [
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "podtemplates",
            "resourcequotas",
            "serviceaccounts",
            "services",
        ];
        let of_storage = [
            "csidrivers",
            "csinodes",
            "storageclasses",
            "volumeattachments",
            "volumeattributesclasses",
        ];
        let plural = self.resource.plural.as_str();
        match self.resource.group.as_str() {
            "" => of_core.contains(&plural),
            "storage.k8s.io" => of_storage.contains(&plural),
            _ => false,
        }
    }

    /// What admission is told of a delete; the name is empty when a collection is deleted.
    pub(super) fn delete_attributes(&self, name: &str, options: &DeleteOptions) -> Attributes {
        self.attributes(Operation::Delete, name, options.dry_run, options.to_value())
    }

    /// Deletes the object of that name as far as can be now. Without `attributes` admission is not asked.
    pub(super) async fn delete_object(
        &mut self,
        name: &str,
        options: &DeleteOptions,
        attributes: Option<Attributes>,
    ) -> Result<Deleted, ApiError> {
        let mut warnings = Vec::new();
        let deleted = self.delete_one(name, options, attributes, &mut warnings).await;
        self.warnings.append(&mut warnings);
        deleted
    }

    /// The same, where several are deleted at once: what there is to warn of is added to `warnings`.
    pub(super) async fn delete_one(
        &self,
        name: &str,
        options: &DeleteOptions,
        mut attributes: Option<Attributes>,
        warnings: &mut Vec<String>,
    ) -> Result<Deleted, ApiError> {
        let hooks = self.hooks.clone();
        let key = self.key(name);
        for _ in 0..ATTEMPTS {
            let Some(stored) = self.stored(name).await? else {
                return Err(self.not_found(name));
            };
            self.check_preconditions(&stored.object, options)?;
            let step = self.next_step(&stored.object, options);
            if let (Some(attributes), false) = (&mut attributes, matches!(step, Step::Wait)) {
                if let Deletion::Graceful(seconds) = self
                    .resource
                    .strategy
                    .deletion(&stored.object, options.grace_seconds)
                {
                    attributes.options["gracePeriodSeconds"] = seconds.into();
                }
                hooks
                    .admission
                    .validate(attributes, None, Some(&stored.object), warnings)
                    .await?;
            }
            let (mark, remove) = match step {
                Step::Leave | Step::Wait => return Ok(Deleted::Marked(stored.object)),
                Step::Remove => (None, true),
                Step::Mark(object) => (Some(object), false),
                Step::MarkAndRemove(object) => (Some(object), true),
            };
            if options.dry_run {
                let last = mark.unwrap_or(stored.object);
                return Ok(if remove {
                    Deleted::Gone(last)
                } else {
                    Deleted::Marked(last)
                });
            }
            let stored = match mark {
                None => stored,
                Some(object) => match self.store_mark(&key, object, &stored).await? {
                    Some(marked) => marked,
                    None => continue,
                },
            };
            if !remove {
                return Ok(Deleted::Marked(stored.object));
            }
            if let Some(revision) = self.remove(&key, &stored).await? {
                let mut last = stored.object;
                if self.answers_deleted_object() {
                    meta::set(&mut last, "resourceVersion", revision.to_string());
                }
                return Ok(Deleted::Gone(last));
            }
        }
        Err(ApiError::modified(&self.resource.group_resource(), name))
    }

    fn check_preconditions(&self, object: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
        // Named by kind here, as nowhere else.
        let kind = GroupResource::new(&self.resource.group, &self.resource.kind);
        let conflict = |why: String| ApiError::conflict(&kind, meta::name(object), why);
        let uid = meta::text(object, "uid");
        if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
            return Err(conflict(format!(
                "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might \
                 have been deleted and then recreated"
            )));
        }
        let version = meta::text(object, "resourceVersion");
        if let Some(wanted) = options
            .resource_version
            .as_deref()
            .filter(|wanted| *wanted != version)
        {
            return Err(conflict(format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
                 ({version}). The object might have been modified"
            )));
        }
        Ok(())
    }

    fn next_step(&self, object: &Value, options: &DeleteOptions) -> Step {
        if self.is_namespaces() {
            return self.next_step_of_namespace(object, options);
        }
        if crd::is_definitions(&self.resource) && !meta::is_deleting(object) {
            return self.first_step_of_definition(object);
        }
        let mut marked = object.clone();
        let orphans = self.resource.strategy.orphans();
        let changed = set_dependents_finalizer(&mut marked, options, orphans);
        let held = !meta::finalizers(&marked).is_empty();
        let graceful = match self.resource.strategy.deletion(object, options.grace_seconds) {
            Deletion::Immediate => None,
            Deletion::Graceful(seconds) => Some(seconds),
        };
        let before = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
        match graceful {
            Some(seconds) if !meta::is_deleting(object) => {
                self.mark(&mut marked, seconds);
                if held || seconds > 0 {
                    Step::Mark(marked)
                } else {
                    Step::MarkAndRemove(marked)
                }
            }
            // A period that has begun can only be shortened.
            Some(_) if before.is_some() => {
                let before = before.unwrap_or_default();
                match options.grace_seconds.filter(|seconds| *seconds < before) {
                    None if before == 0 && !held => Step::Remove,
                    None => Step::Wait,
                    Some(seconds) => {
                        shorten(&mut marked, before, seconds);
                        if held || seconds > 0 {
                            Step::Mark(marked)
                        } else {
                            Step::MarkAndRemove(marked)
                        }
                    }
                }
            }
            _ if !held => Step::Remove,
            _ => {
                let first = !meta::is_deleting(object);
                if first {
                    self.mark(&mut marked, 0);
                } else {
                    meta::set(&mut marked, "deletionGracePeriodSeconds", 0);
                }
                if first || changed || marked != *object {
                    Step::Mark(marked)
                } else {
                    Step::Leave
                }
            }
        }
    }

    /// A namespace is marked, and its content deleted by others, until its spec holds no finalizers.
    fn next_step_of_namespace(&self, object: &Value, options: &DeleteOptions) -> Step {
        if meta::is_deleting(object) {
            let held = self.held_by_spec(object) || !meta::finalizers(object).is_empty();
            return if held { Step::Wait } else { Step::Remove };
        }
        let mut marked = object.clone();
        if options.dependents() == Some(Propagation::Orphan) {
            set_dependents_finalizer(&mut marked, options, false);
        }
        meta::set(&mut marked, "deletionTimestamp", self.timestamp());
        marked["status"]["phase"] = "Terminating".into();
        Step::Mark(marked)
    }

    /// A definition is marked, and goes when its objects are gone.
    fn first_step_of_definition(&self, object: &Value) -> Step {
        let mut marked = object.clone();
        meta::set(&mut marked, "deletionTimestamp", self.timestamp());
        crd::begin_deletion(&mut marked, &self.timestamp());
        Step::Mark(marked)
    }

    /// Says in the object that it is being deleted, `seconds` from now.
    fn mark(&self, object: &mut Value, seconds: i64) {
        let at = self.now + SignedDuration::from_secs(seconds);
        meta::set(
            object,
            "deletionTimestamp",
            at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        );
        meta::set(object, "deletionGracePeriodSeconds", seconds);
        if meta::generation(object) > 0 {
            meta::set(object, "generation", meta::generation(object) + 1);
        }
    }

    async fn store_mark(
        &self,
        key: &str,
        object: Value,
        stored: &Stored,
    ) -> Result<Option<Stored>, ApiError> {
        let (op, bytes) = self.codec.put(key, &object).await?;
        let txn = Txn {
            compare: vec![Compare::ModRevision(key.to_owned().into(), stored.revision)],
            success: vec![op],
            failure: Vec::new(),
        };
        let response = self.store().txn(txn).await.map_err(|e| storage::error(&e))?;
        if !response.succeeded {
            return Ok(None);
        }
        let object = self
            .codec
            .restored(object, &bytes, Some(response.revision))
            .await?;
        Ok(Some(Stored {
            object,
            bytes,
            revision: response.revision,
        }))
    }
}

/// Moves the end of a grace period to `seconds` after its beginning.
fn shorten(object: &mut Value, before: i64, seconds: i64) {
    if let Ok(end) = meta::text(object, "deletionTimestamp").parse::<Timestamp>() {
        let end = end + SignedDuration::from_secs(seconds - before);
        meta::set(
            object,
            "deletionTimestamp",
            end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        );
    }
    meta::set(object, "deletionGracePeriodSeconds", seconds);
}

/// Adds or takes away the finalizers by which the garbage collector knows what to do with dependents; `orphans` says whether
/// they are left alone if nobody says anything.
fn set_dependents_finalizer(object: &mut Value, options: &DeleteOptions, orphans: bool) -> bool {
    let before: Vec<String> = meta::finalizers(object).into_iter().map(str::to_owned).collect();
    let has = |name: &str| before.iter().any(|f| f == name);
    let wanted = options.dependents().or(match () {
        () if has(meta::ORPHAN) => Some(Propagation::Orphan),
        () if has(meta::FOREGROUND) => Some(Propagation::Foreground),
        () if orphans => Some(Propagation::Orphan),
        () => None,
    });
    let mut after: Vec<&str> = before
        .iter()
        .map(String::as_str)
        .filter(|f| ![meta::ORPHAN, meta::FOREGROUND].contains(f))
        .collect();
    match wanted {
        Some(Propagation::Orphan) => after.push(meta::ORPHAN),
        Some(Propagation::Foreground) => after.push(meta::FOREGROUND),
        Some(Propagation::Background) | None => {}
    }
    let same = after.len() == before.len() && after.iter().all(|f| has(f));
    if same {
        return false;
    }
    let after = if after.is_empty() {
        Value::Null
    } else {
        json!(after)
    };
    meta::set(object, "finalizers", after);
    true
}
