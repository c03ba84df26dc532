//! `pods/eviction`: a delete that heeds disruption budgets.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{ApiError, GroupResource, LabelSelector, StatusReason};
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{Compare, Op, Txn};

use super::binding::created;
use super::delete_options::DeleteOptions;
use super::hooks::Operation;
use super::options::WriteOptions;
use super::update::Change;
use super::{Answer, Call, keys, meta, storage, yaml};

/// How often the budget is tried again because it changed meanwhile.
const ATTEMPTS: usize = 20;

/// The condition that says why a pod goes.
struct Announce {
    /// What the pod has to be.
    uid: Option<String>,
    revision: Option<String>,
    now: String,
}

impl Change for Announce {
    fn apply(&self, current: Option<&Value>, _: &mut Vec<String>) -> Result<Value, ApiError> {
        let mut pod = current.cloned().unwrap_or_default();
        let kept = |wanted: &Option<String>, field: &str, name: &str, how: &str| {
            let found = meta::text(&pod, field);
            match wanted {
                Some(wanted) if wanted != found => {
                    let why = format!(
                        "the {name} in the precondition ({wanted}) does not match the {name} in record ({found}). The \
                         object might have been {how}"
                    );
                    Err(ApiError::conflict(
                        &GroupResource::new("", "Pod"),
                        meta::name(&pod),
                        why,
                    ))
                }
                _ => Ok(()),
            }
        };
        kept(&self.uid, "uid", "UID", "deleted and then recreated")?;
        kept(&self.revision, "resourceVersion", "ResourceVersion", "modified")?;
        let mut condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "lastProbeTime": null,
            "lastTransitionTime": self.now,
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        });
        let conditions = &mut pod["status"]["conditions"];
        if !conditions.is_array() {
            *conditions = json!([]);
        }
        let conditions = conditions.as_array_mut().into_iter().flatten();
        let before = conditions
            .into_iter()
            .find(|before| before["type"] == condition["type"]);
        match before {
            Some(before) => {
                if before["status"] == condition["status"] {
                    condition["lastTransitionTime"] = before["lastTransitionTime"].take();
                }
                *before = condition;
            }
            None => pod["status"]["conditions"]
                .as_array_mut()
                .into_iter()
                .for_each(|all| all.push(condition.take())),
        }
        Ok(pod)
    }

    fn tracks(&self) -> bool {
        // As the server's own, which owns no fields.
        true
    }

    fn is_admitted(&self) -> bool {
        true
    }
}

impl Call<'_> {
    /// POST to `pods/eviction`.
    pub(super) async fn evict(&mut self) -> Result<Answer, ApiError> {
        let text = String::from_utf8_lossy(&self.request.body);
        let mut eviction = yaml::to_value(&text).map_err(ApiError::bad_request)?;
        self.place(&mut eviction)?;
        eviction["kind"] = "Eviction".into();
        eviction["apiVersion"] = "policy/v1".into();
        let name = self.name().to_owned();
        let dry_run = self.request.param("dryRun") == Some("All");
        let attributes = self.attributes(
            Operation::Create,
            &name,
            dry_run,
            self.options("CreateOptions", dry_run),
        );
        let admission = self.hooks.admission.clone();
        admission
            .mutate(&attributes, &mut eviction, None, &mut self.warnings)
            .await?;
        if meta::name(&eviction) != name {
            return Err(ApiError::bad_request(
                "name in URL does not match name in Eviction object",
            ));
        }
        let mut options = DeleteOptions::from_object(&eviction["deleteOptions"])?;
        options.dry_run |= dry_run;
        admission
            .validate(&attributes, Some(&eviction), None, &mut self.warnings)
            .await?;
        let stored = self.stored(&name).await?;
        let pod = stored.ok_or_else(|| self.not_found(&name))?.object;
        if !budget_is_irrelevant(&pod) {
            self.heed_budget(&pod, options.dry_run).await?;
        }
        // The eviction has been admitted; what it does is not asked about once more.
        if !options.dry_run {
            self.announce(&mut options).await?;
        }
        self.delete_object(&name, &options, None).await?;
        Ok(Answer::Plain(201, created()))
    }

    /// Says on the pod that it is being evicted. Options that want one revision want the new one afterwards.
    async fn announce(&mut self, options: &mut DeleteOptions) -> Result<(), ApiError> {
        let change = Announce {
            uid: options.uid.clone().filter(|uid| !uid.is_empty()),
            revision: options
                .resource_version
                .clone()
                .filter(|revision| !revision.is_empty()),
            now: self.timestamp(),
        };
        let write = WriteOptions::read(&self.request, "CreateOptions")?;
        let (_, written) = self.change(&change, &write).await?;
        if change.revision.is_some() {
            let pod = written.value(&self.codec)?;
            options.resource_version = Some(meta::text(&pod, "resourceVersion").to_owned());
        }
        Ok(())
    }

    /// Takes one disruption off the budget that covers the pod.
    async fn heed_budget(&self, pod: &Value, dry_run: bool) -> Result<(), ApiError> {
        let Some(resource) = self
            .registry
            .resources
            .get("policy", "v1", "poddisruptionbudgets")
        else {
            return Ok(());
        };
        for _ in 0..ATTEMPTS {
            let budgets = self
                .registry
                .list_objects(&resource, &self.namespace, &LabelSelector::default())
                .await?;
            let covers = |budget: &&Value| {
                let selector = LabelSelector::from_object(&budget["spec"]["selector"])
                    .ok()
                    .flatten();
                selector.is_some_and(|s| s.matches(&pod["metadata"]["labels"]))
            };
            let mut covering = budgets.iter().filter(covers);
            let Some(budget) = covering.next() else {
                return Ok(());
            };
            if covering.next().is_some() {
                return Err(ApiError::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
            if disturbs_nothing(pod, budget) {
                return Ok(());
            }
            let Some(next) = spend(pod, budget, &self.timestamp())? else {
                return Ok(());
            };
            if dry_run || self.store_budget(&resource, next).await? {
                return Ok(());
            }
        }
        Err(ApiError::new(
            500,
            StatusReason::ServerTimeout,
            "couldn't update PodDisruptionBudget due to conflicts; try again",
        ))
    }

    async fn store_budget(&self, resource: &Resource, budget: Value) -> Result<bool, ApiError> {
        let key = keys::object_key(resource, &self.namespace, meta::name(&budget));
        let revision = meta::text(&budget, "resourceVersion").parse().unwrap_or_default();
        let put = Op::Put {
            key: key.clone().into(),
            value: storage::encode(resource, &budget),
            ttl: None,
        };
        let txn = Txn {
            compare: vec![Compare::ModRevision(key.into(), revision)],
            success: vec![put],
            failure: Vec::new(),
        };
        let response = self.store().txn(txn).await.map_err(|e| storage::error(&e))?;
        Ok(response.succeeded)
    }
}

/// Pods that do not run, or are going anyway, count for no budget.
fn budget_is_irrelevant(pod: &Value) -> bool {
    meta::is_deleting(pod)
        || matches!(
            pod["status"]["phase"].as_str().unwrap_or_default(),
            "Succeeded" | "Failed" | "Pending"
        )
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// A pod that is not ready may go when the others suffice, or when the budget says so.
fn disturbs_nothing(pod: &Value, budget: &Value) -> bool {
    if is_ready(pod) {
        return false;
    }
    if budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" {
        return true;
    }
    let count = |field: &str| budget["status"][field].as_i64().unwrap_or_default();
    count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0
}

/// The budget with one disruption less.
fn spend(pod: &Value, budget: &Value, now: &str) -> Result<Option<Value>, ApiError> {
    const SENTENCE: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
    let name = meta::name(budget);
    let count = |field: &str| budget["status"][field].as_i64().unwrap_or_default();
    let too_many = |why: String| {
        ApiError::new(429, StatusReason::TooManyRequests, SENTENCE).with_cause("DisruptionBudget", why, "")
    };
    if count("observedGeneration") < meta::generation(budget) {
        let mut error = too_many(format!(
            "The disruption budget {name} is still being processed by the server."
        ));
        error.retry_after = Some(std::time::Duration::from_secs(10));
        return Err(error);
    }
    if count("disruptionsAllowed") <= 0 {
        return Err(too_many(format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            count("desiredHealthy"),
            count("currentHealthy")
        )));
    }
    let mut next = budget.clone();
    next["status"]["disruptionsAllowed"] = (count("disruptionsAllowed") - 1).into();
    if !next["status"]["disruptedPods"].is_object() {
        next["status"]["disruptedPods"] = json!({});
    }
    next["status"]["disruptedPods"][meta::name(pod)] = now.into();
    Ok(Some(next))
}
