//! Type checking: the status of ValidatingAdmissionPolicies tells of expressions that do not fit the kinds that they are about.
//!
//! Such expressions are no errors, since a policy may be about kinds that are not there yet; they are warned of in
//! `status.typeChecking`, once for each generation, as kube-controller-manager does it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apimachinery_schema::Schema;
use trimtab_apimachinery_schema::structural::{Composition, Declarations, Returns};
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{EventKind, KeyValue, RangeRequest, WatchRequest};

use super::policy::ParamKind;
use crate::admission::dynamic::Rule;
use crate::api::{ApiRequest, BodyFormat};
use crate::registry::{Registry, Resources, keys, meta, storage};

/// Who writes the status.
const MANAGER: &str = "validatingadmissionpolicy-status";
const GROUP: &str = "admissionregistration.k8s.io";
const PLURAL: &str = "validatingadmissionpolicies";
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// At most as many kinds are looked at for one rule; as kube-apiserver.
const MOST_KINDS: usize = 10;

/// Starts to keep the status of policies; the task ends when `stop` is cancelled.
pub(crate) fn start(registry: Arc<Registry>, stop: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = run(&registry) => {}
        }
    })
}

async fn run(registry: &Registry) {
    loop {
        if let Err(error) = follow(registry).await {
            tracing::warn!(%error, "cannot keep the status of admission policies; trying again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Brings the status of all policies up to date, and keeps it so until something fails.
async fn follow(registry: &Registry) -> Result<(), ApiError> {
    let table = registry.resources().snapshot();
    let Some(policies) = table.any_version(GROUP, PLURAL) else {
        return Ok(());
    };
    let (store, prefix) = (registry.store(), keys::resource_prefix(policies));
    let failed = |error| storage::error(&error);
    let range = store
        .range(RangeRequest::prefix(prefix.clone()))
        .await
        .map_err(failed)?;
    let watch = WatchRequest::prefix(prefix).from(range.revision + 1);
    let mut changes = store.watch(watch).await.map_err(failed)?;
    let mut due: BTreeMap<Bytes, KeyValue> = range.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
    loop {
        // What could not be written stays, until it can be or is of another day.
        for (key, kv) in std::mem::take(&mut due) {
            if let Err(error) = check(registry, policies, &kv).await {
                tracing::warn!(%error, "cannot write the status of an admission policy; trying again");
                due.insert(key, kv);
            }
        }
        let batch = tokio::select! {
            biased;
            batch = changes.next() => batch,
            () = tokio::time::sleep(PAUSE), if !due.is_empty() => continue,
        };
        let Some(batch) = batch else {
            return Ok(());
        };
        for event in batch.map_err(failed)?.events {
            due.remove(&event.kv.key);
            if event.kind == EventKind::Put {
                due.insert(event.kv.key.clone(), event.kv);
            }
        }
    }
}

async fn check(registry: &Registry, policies: &Resource, kv: &KeyValue) -> Result<(), ApiError> {
    let policy = match storage::stored(policies, kv.clone()) {
        Ok(stored) => stored.object,
        Err(error) => {
            tracing::error!(%error, "a stored admission policy cannot be read");
            return Ok(());
        }
    };
    let generation = meta::generation(&policy);
    let observed = policy["status"]["observedGeneration"]
        .as_i64()
        .unwrap_or_default();
    if generation <= observed {
        return Ok(());
    }
    let warnings = warnings(&policy, &registry.resources().snapshot());
    match write(registry, &policy, generation, warnings).await {
        // It has gone, and there is nothing more to say.
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

async fn write(
    registry: &Registry,
    policy: &Value,
    generation: i64,
    warnings: Vec<Value>,
) -> Result<(), ApiError> {
    let mut checking = json!({});
    if !warnings.is_empty() {
        checking["expressionWarnings"] = warnings.into();
    }
    let applied = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": meta::name(policy)},
        "status": {"observedGeneration": generation, "typeChecking": checking},
    });
    let mut request = ApiRequest::own("patch", "PATCH", MANAGER);
    GROUP.clone_into(&mut request.info.group);
    "v1".clone_into(&mut request.info.version);
    PLURAL.clone_into(&mut request.info.resource);
    "status".clone_into(&mut request.info.subresource);
    meta::name(policy).clone_into(&mut request.info.name);
    request.query = [("fieldManager", MANAGER), ("force", "true")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    request.body_format = BodyFormat::ApplyPatch;
    request.body = applied.to_string().into();
    registry.handle(request).await.map(drop)
}

/// What does not fit, as `ExpressionWarning`s.
pub(super) fn warnings(policy: &Value, resources: &Resources) -> Vec<Value> {
    let kinds = kinds(policy, resources);
    let params = ParamKind::of(policy);
    let params_schema = params
        .as_ref()
        .and_then(|kind| resources.by_kind(&kind.group, &kind.version, &kind.kind))
        .map(|resource| resource.schema.get().clone());
    let mut warnings = Vec::new();
    let validations = policy["spec"]["validations"].as_array();
    for (i, validation) in validations.into_iter().flatten().enumerate() {
        for field in ["expression", "messageExpression"] {
            let expression = validation[field].as_str().unwrap_or_default();
            if expression.is_empty() {
                continue;
            }
            let faults: Vec<String> = kinds
                .iter()
                .filter_map(|kind| {
                    let params = params.as_ref().map(|_| params_schema.as_ref());
                    let fault = fault(policy, expression, kind.schema.get(), params)?;
                    let gvk = kind.gvk();
                    Some(format!(
                        "{}/{}, Kind={}: {fault}\n",
                        gvk.group, gvk.version, gvk.kind
                    ))
                })
                .collect();
            if !faults.is_empty() {
                warnings.push(json!({
                    "fieldRef": format!("spec.validations[{i}].{field}"),
                    "warning": faults.join("\n"),
                }));
            }
        }
    }
    warnings
}

/// What is wrong with an expression of a policy about objects of this schema. `params` is whether there are any, and if
/// it is known of which schema.
fn fault(
    policy: &Value,
    expression: &str,
    object: &Arc<Schema>,
    params: Option<Option<&Arc<Schema>>>,
) -> Option<String> {
    let names = Declarations::default()
        .with_params(params.is_some())
        .with_schemas(object, params.flatten());
    let mut composition = Composition::new(names.with_variables());
    for variable in policy["spec"]["variables"].as_array().into_iter().flatten() {
        let text = |field: &str| variable[field].as_str().unwrap_or_default();
        composition.add_variable(text("name"), text("expression"));
    }
    let compiled = composition.compile(expression, Returns::Anything);
    let fault = compiled.fault()?;
    Some(
        fault
            .strip_prefix("compilation failed: ")
            .unwrap_or(fault)
            .to_owned(),
    )
}

/// The kinds that a policy names, in the order of group, version and kind; none where it names all of something.
fn kinds(policy: &Value, resources: &Resources) -> Vec<Arc<Resource>> {
    let mut found: Vec<Arc<Resource>> = Vec::new();
    for rule in Rule::read_all(&policy["spec"]["matchConstraints"]["resourceRules"]) {
        let has_star = |list: &[String]| list.iter().any(|item| item.contains('*'));
        if has_star(&rule.groups) || has_star(&rule.versions) {
            continue;
        }
        let sorted = |list: Vec<String>| list.into_iter().collect::<BTreeSet<_>>();
        let (groups, versions) = (sorted(rule.groups), sorted(rule.versions));
        let plurals = sorted(rule.resources);
        let plain: Vec<&String> = plurals
            .iter()
            .filter(|plural| !plural.contains(['*', '/']))
            .collect();
        let named = groups
            .iter()
            .flat_map(|group| versions.iter().map(move |version| (group, version)))
            .flat_map(|(group, version)| plain.iter().map(move |plural| (group, version, *plural)));
        let named = named.filter_map(|(group, version, plural)| resources.get(group, version, plural));
        let before = found.len();
        found.extend(named.take(MOST_KINDS).cloned());
        if found.len() - before == MOST_KINDS {
            break;
        }
    }
    let key = |resource: &Arc<Resource>| {
        let gvk = resource.gvk();
        (gvk.group, gvk.version, gvk.kind)
    };
    found.sort_by_key(key);
    found.dedup_by_key(|resource| key(resource));
    found
}
