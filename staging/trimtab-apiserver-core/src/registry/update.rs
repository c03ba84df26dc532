//! Changing objects: PUT, and the road that all changes of one object take.

use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apimachinery_schema::apply::keep_times;
use trimtab_apiserver_storage::{Compare, Op, Txn};

use super::codec::Written;
use super::create::join;
use super::hooks::{Allocation, Attributes, Operation};
use super::options::WriteOptions;
use super::storage::Stored;
use super::{Answer, Call, meta, storage};

/// How often a change is tried again because the object changed meanwhile.
const ATTEMPTS: usize = 32;

/// What the object shall become.
pub(super) trait Change: Send + Sync {
    /// The new state, from the stored one: decoded, pruned, not defaulted. `warnings` is for the client.
    fn apply(&self, current: Option<&Value>, warnings: &mut Vec<String>) -> Result<Value, ApiError>;

    /// Whether the change makes the object if there is none; `by_kind` is whether updates of the kind do.
    fn creates(&self, by_kind: bool) -> bool {
        by_kind
    }

    /// Whether the new state says who owns which field, so that nothing need be tracked.
    fn tracks(&self) -> bool {
        false
    }

    /// Whether admission has seen the request already, in another form, and has nothing to say of what it does.
    fn is_admitted(&self) -> bool {
        false
    }

    /// What admission is shown of an object, if not the object itself: the scale of one that is scaled.
    fn shown(&self, object: &Value) -> Result<Option<Value>, ApiError> {
        let _ = object;
        Ok(None)
    }

    /// Takes over what admission has made of what it was [shown](Change::shown).
    fn take(&self, object: &mut Value, shown: &Value) -> Result<(), ApiError> {
        let _ = (object, shown);
        Ok(())
    }
}

/// PUT: the body is the new state.
struct Replace(Value);

impl Change for Replace {
    fn apply(&self, _: Option<&Value>, _: &mut Vec<String>) -> Result<Value, ApiError> {
        Ok(self.0.clone())
    }
}

/// How a change ended.
enum Outcome {
    Done(Written),
    /// The object changed meanwhile.
    Again,
}

impl Call<'_> {
    /// PUT of an object or of its subresource.
    pub(super) async fn put(&mut self) -> Result<Answer, ApiError> {
        let options = WriteOptions::read(&self.request, "UpdateOptions")?;
        let mut object = self.decode_body(&options)?;
        self.check_name(&mut object)?;
        self.place(&mut object)?;
        let (code, written) = self.change(&Replace(object), &options).await?;
        Ok(Answer::written(code, written))
    }

    /// The object must have the name that the URL has.
    pub(super) fn check_name(&self, object: &mut Value) -> Result<(), ApiError> {
        let wanted = self.name();
        match meta::name(object) {
            name if name == wanted => Ok(()),
            "" => Err(ApiError::bad_request(format!(
                "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
            ))),
            name => Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({wanted})"
            ))),
        }
    }

    /// Changes the object that the request names; answers the status code and what is stored.
    pub(super) async fn change(
        &mut self,
        change: &dyn Change,
        options: &WriteOptions,
    ) -> Result<(u16, Written), ApiError> {
        let key = self.key(self.name());
        let before = self.warnings.len();
        for _ in 0..ATTEMPTS {
            self.warnings.truncate(before);
            let Some(stored) = self.stored(self.name()).await? else {
                return self
                    .create_by_change(change, options)
                    .await
                    .map(|written| (201, written));
            };
            match self.try_change(&key, stored, change, options).await? {
                Outcome::Done(written) => return Ok((200, written)),
                Outcome::Again => {}
            }
        }
        Err(ApiError::modified(&self.resource.group_resource(), self.name()))
    }

    async fn create_by_change(
        &mut self,
        change: &dyn Change,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let on_object = self.request.info.subresource.is_empty();
        if !(on_object && change.creates(self.resource.strategy.allow_create_on_update())) {
            return Err(self.not_found(self.name()));
        }
        let mut object = change.apply(None, &mut self.warnings)?;
        if !meta::text(&object, "uid").is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                meta::text(&object, "uid")
            );
            return Err(ApiError::conflict(
                &self.resource.group_resource(),
                self.name(),
                why,
            ));
        }
        self.check_name(&mut object)?;
        self.place(&mut object)?;
        self.resource.strategy.default(&mut object);
        self.dedup_owners(&mut object);
        self.create_object(object, options, change.tracks()).await
    }

    async fn try_change(
        &mut self,
        key: &str,
        stored: Stored,
        change: &dyn Change,
        options: &WriteOptions,
    ) -> Result<Outcome, ApiError> {
        let hooks = self.hooks.clone();
        let old = &stored.object;
        let mut new = change.apply(Some(old), &mut self.warnings)?;
        self.check_name(&mut new)?;
        self.place(&mut new)?;
        self.resource.strategy.default(&mut new);
        self.dedup_owners(&mut new);
        if !change.tracks() {
            self.track(&mut new, Some(old), options);
        }
        let attributes = self.attributes(
            Operation::Update,
            self.name(),
            options.dry_run,
            self.options("UpdateOptions", options.dry_run),
        );
        self.mutate_change(change, &attributes, &mut new, old).await?;
        self.dedup_owners(&mut new);
        self.check_version(&mut new, &stored)?;
        let allocation = hooks
            .allocators
            .allocate(&attributes, &mut new, Some(old))
            .await?;
        self.before_update(&mut new, old)?;
        keep_times(old, &mut new);
        self.validate_change(change, &attributes, &new, old).await?;
        let charge = if hooks.accounts.concerns(&attributes) {
            hooks.accounts.charge(&attributes, &new, Some(old)).await?
        } else {
            None
        };
        if self.ends_by_update(&new, old) {
            return self.remove_updated(key, &stored, new, options.dry_run).await;
        }
        let (put, bytes) = self.codec.put(key, &new).await?;
        if options.dry_run {
            let new = self.codec.restored(new, &bytes, None).await?;
            return Ok(Outcome::Done(Written::Value(new)));
        }
        if bytes == stored.bytes {
            return Ok(Outcome::Done(Written::Value(stored.object)));
        }
        let mut txn = Txn {
            compare: vec![Compare::ModRevision(key.to_owned().into(), stored.revision)],
            success: vec![put],
            failure: Vec::new(),
        };
        let allocations = [allocation, charge];
        join(&allocations, &mut txn);
        let response = self.store().txn(txn).await.map_err(|e| storage::error(&e))?;
        if response.succeeded {
            allocations.into_iter().flatten().for_each(Allocation::committed);
            let key = key.to_owned();
            let written = self.codec.written(new, key, bytes, response.revision).await?;
            return Ok(Outcome::Done(written));
        }
        Ok(Outcome::Again)
    }

    /// Shows the change to admission, which may change it further.
    async fn mutate_change(
        &mut self,
        change: &dyn Change,
        attributes: &Attributes,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        if change.is_admitted() {
            return Ok(());
        }
        let admission = self.hooks.admission.clone();
        let Some(mut shown) = change.shown(new)? else {
            return admission
                .mutate(attributes, new, Some(old), &mut self.warnings)
                .await;
        };
        let before = change.shown(old)?;
        admission
            .mutate(attributes, &mut shown, before.as_ref(), &mut self.warnings)
            .await?;
        change.take(new, &shown)
    }

    /// Asks admission for its last word on the change.
    async fn validate_change(
        &mut self,
        change: &dyn Change,
        attributes: &Attributes,
        new: &Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        if change.is_admitted() {
            return Ok(());
        }
        let admission = self.hooks.admission.clone();
        let shown = change.shown(new)?;
        let before = if shown.is_some() { change.shown(old)? } else { None };
        let (new, old) = (shown.as_ref().unwrap_or(new), before.as_ref().unwrap_or(old));
        admission
            .validate(attributes, Some(new), Some(old), &mut self.warnings)
            .await
    }

    /// Whether this update takes away the last thing that kept a deleted object.
    fn ends_by_update(&self, new: &Value, old: &Value) -> bool {
        meta::is_deleting(old)
            && meta::finalizers(new).is_empty()
            && old["metadata"]["deletionGracePeriodSeconds"]
                .as_i64()
                .unwrap_or_default()
                == 0
            && !self.held_by_spec(new)
    }

    /// Namespaces have finalizers of another sort: in their spec.
    pub(super) fn held_by_spec(&self, object: &Value) -> bool {
        self.is_namespaces()
            && object["spec"]["finalizers"]
                .as_array()
                .is_some_and(|f| !f.is_empty())
    }

    async fn remove_updated(
        &self,
        key: &str,
        stored: &Stored,
        new: Value,
        dry_run: bool,
    ) -> Result<Outcome, ApiError> {
        if dry_run || self.remove(key, stored).await?.is_some() {
            return Ok(Outcome::Done(Written::Value(new)));
        }
        Ok(Outcome::Again)
    }

    /// Removes the object from the store if it is still as it was; the revision of that, if so.
    pub(super) async fn remove(&self, key: &str, stored: &Stored) -> Result<Option<u64>, ApiError> {
        let allocators = &self.hooks.allocators;
        let mut success = vec![Op::Delete {
            key: key.to_owned().into(),
        }];
        success.extend(allocators.release(&self.resource, &stored.object));
        let compare = vec![Compare::ModRevision(key.to_owned().into(), stored.revision)];
        let txn = Txn {
            compare,
            success,
            failure: Vec::new(),
        };
        let response = self.store().txn(txn).await.map_err(|e| storage::error(&e))?;
        if !response.succeeded {
            return Ok(None);
        }
        allocators.released(&self.resource, &stored.object);
        Ok(Some(response.revision))
    }

    pub(super) fn is_namespaces(&self) -> bool {
        self.resource.group.is_empty() && self.resource.plural == "namespaces"
    }
}
