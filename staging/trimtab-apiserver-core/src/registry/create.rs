//! Making objects.

use serde_json::Value;
use trimtab_apimachinery_meta::{ApiError, StatusReason};
use trimtab_apiserver_storage::{Compare, Op, Txn};

use super::codec::Written;
use super::decode::Decoder;
use super::hooks::{Allocation, Operation};
use super::options::WriteOptions;
use super::{Answer, Call, meta, metadata_rules, storage};

/// How often a generated name is generated anew when it is taken, and an allocation is made anew when it is lost.
const ATTEMPTS: usize = 8;

impl Call<'_> {
    /// POST to a collection.
    pub(super) async fn create(&mut self) -> Result<Answer, ApiError> {
        let options = WriteOptions::read(&self.request, "CreateOptions")?;
        let mut object = self.decode_body(&options)?;
        self.place(&mut object)?;
        self.resource.strategy.default(&mut object);
        self.dedup_owners(&mut object);
        let created = self.create_object(object, &options, false).await?;
        Ok(Answer::written(201, created))
    }

    pub(super) fn decode_body(&mut self, options: &WriteOptions) -> Result<Value, ApiError> {
        let resources = self.registry.resources.snapshot();
        let decoder = Decoder {
            resource: &self.resource,
            resources: &resources,
            validation: options.field_validation,
        };
        decoder.body(self.request.body_format, &self.request.body, &mut self.warnings)
    }

    /// Puts the object in the request's namespace; it may not name another.
    pub(super) fn place(&self, object: &mut Value) -> Result<(), ApiError> {
        if !self.resource.namespaced() {
            meta::set(object, "namespace", "");
            return Ok(());
        }
        match meta::namespace(object) {
            "" => meta::set(object, "namespace", self.namespace.as_str()),
            same if same == self.namespace => {}
            _ => {
                let text =
                    "the namespace of the provided object does not match the namespace sent on the request";
                return Err(ApiError::bad_request(text));
            }
        }
        Ok(())
    }

    /// Creates an object that is decoded, defaulted and in its place; answers what is stored. If it is `tracked`, it
    /// says already who owns which field.
    pub(super) async fn create_object(
        &mut self,
        mut object: Value,
        options: &WriteOptions,
        tracked: bool,
    ) -> Result<Written, ApiError> {
        let hooks = self.hooks.clone();
        let mut attributes = self.attributes(
            Operation::Create,
            meta::name(&object),
            options.dry_run,
            self.options("CreateOptions", options.dry_run),
        );
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            meta::set(&mut object, field, Value::Null);
        }
        if !tracked {
            self.track(&mut object, None, options);
        }
        hooks
            .admission
            .mutate(&attributes, &mut object, None, &mut self.warnings)
            .await?;
        self.place(&mut object)?;
        self.dedup_owners(&mut object);
        let generates = meta::name(&object).is_empty() && !meta::text(&object, "generateName").is_empty();
        let counted = hooks.accounts.concerns(&attributes);
        let may_be_again = generates || counted || hooks.allocators.concerns(&attributes);
        for attempt in 1.. {
            let mut new = if may_be_again {
                object.clone()
            } else {
                std::mem::take(&mut object)
            };
            meta::set(&mut new, "creationTimestamp", self.timestamp());
            meta::set(&mut new, "uid", self.registry.ambient.entropy.uid());
            if generates {
                let name = generate_name(
                    meta::text(&new, "generateName"),
                    &self.registry.ambient.entropy.suffix(),
                );
                meta::set(&mut new, "name", name);
            }
            if self.resource.plural == "limitranges" && meta::name(&new).is_empty() {
                meta::set(&mut new, "name", self.registry.ambient.entropy.uid());
            }
            meta::name(&new).clone_into(&mut attributes.name);
            let allocation = hooks.allocators.allocate(&attributes, &mut new, None).await?;
            self.before_create(&mut new)?;
            hooks
                .admission
                .validate(&attributes, Some(&new), None, &mut self.warnings)
                .await?;
            if !matches!(meta::text(&new, "resourceVersion"), "" | "0") {
                let text = "resourceVersion should not be set on objects to be created";
                return Err(ApiError::new(500, StatusReason::Unknown, text));
            }
            meta::set(&mut new, "resourceVersion", "");
            let charge = if counted {
                hooks.accounts.charge(&attributes, &new, None).await?
            } else {
                None
            };
            match self.store_new(new, [allocation, charge], options.dry_run).await? {
                Stored::Yes(object) => return Ok(object),
                Stored::NameTaken(_) if generates && attempt < ATTEMPTS => {}
                Stored::NameTaken(name) => {
                    return Err(ApiError::already_exists(&self.resource.group_resource(), &name));
                }
                Stored::AllocationLost if may_be_again && attempt < ATTEMPTS => {}
                Stored::AllocationLost => return Err(allocation_lost()),
            }
        }
        unreachable!("the loop ends by an answer")
    }

    /// Resets what the creator may not set, and validates.
    fn before_create(&mut self, new: &mut Value) -> Result<(), ApiError> {
        let (resource, context) = (self.resource.clone(), self.context());
        resource.strategy.prepare_create(&context, new);
        if resource.strategy.has_generation() {
            meta::set(new, "generation", 1);
        }
        let mut errors = metadata_rules::validate(&resource, new);
        errors.extend(resource.strategy.validate_create(&context, new));
        if !errors.is_empty() {
            return Err(ApiError::invalid(
                &resource.group_kind(),
                meta::name(new),
                &errors,
            ));
        }
        self.warnings
            .extend(resource.strategy.warnings(&context, new, None));
        Ok(())
    }

    async fn store_new(
        &self,
        new: Value,
        allocations: Allocations,
        dry_run: bool,
    ) -> Result<Stored, ApiError> {
        let name = meta::name(&new).to_owned();
        let key = self.key(&name);
        if dry_run {
            let stored = self.codec.encode(&new).await?;
            if self.stored(&name).await?.is_some() {
                return Ok(Stored::NameTaken(name));
            }
            let new = self.codec.restored(new, &stored, None).await?;
            return Ok(Stored::Yes(Written::Value(new)));
        }
        let (put, stored) = self.codec.put(&key, &new).await?;
        let mut txn = Txn {
            compare: vec![Compare::ModRevision(key.clone().into(), 0)],
            success: vec![put],
            failure: vec![Op::Get {
                key: key.clone().into(),
            }],
        };
        join(&allocations, &mut txn);
        let response = self.store().txn(txn).await.map_err(|e| storage::error(&e))?;
        if response.succeeded {
            allocations.into_iter().flatten().for_each(Allocation::committed);
            let written = self.codec.written(new, key, stored, response.revision).await?;
            return Ok(Stored::Yes(written));
        }
        let taken = response.kvs.first().is_some_and(Option::is_some);
        Ok(if taken {
            Stored::NameTaken(name)
        } else {
            Stored::AllocationLost
        })
    }
}

/// What is written along with an object: what has been allocated for it, and what it has been counted as.
pub(super) type Allocations = [Option<Box<dyn Allocation>>; 2];

/// Makes allocations a part of a transaction.
pub(super) fn join(allocations: &Allocations, txn: &mut Txn) {
    for allocation in allocations.iter().flatten() {
        txn.compare.extend(allocation.conditions());
        txn.success.extend(allocation.changes());
    }
}

enum Stored {
    Yes(Written),
    NameTaken(String),
    AllocationLost,
}

fn allocation_lost() -> ApiError {
    ApiError::new(
        500,
        StatusReason::ServerTimeout,
        "the allocation was taken by others again and again; try again",
    )
}

/// The prefix, shortened if need be, with a random suffix.
fn generate_name(prefix: &str, suffix: &str) -> String {
    let mut end = prefix.len().min(63 - suffix.len());
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &prefix[..end])
}
