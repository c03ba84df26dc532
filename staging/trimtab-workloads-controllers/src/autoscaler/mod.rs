//! The controller of autoscalers: as many pods as bring what they use to what they should use, by simulated metrics.
//!
//! A pod says what it uses in annotations, `metrics.trimtab.dev/cpu: 250m`; `kubectl annotate` plays the load.

mod decide;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition,
    HorizontalPodAutoscalerStatus, MetricIdentifier, MetricStatus, MetricValueStatus, PodsMetricStatus,
    ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::{Container, Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use serde_json::json;
use trimtab_apimachinery_meta::{LabelSelector, ObjectKey, Quantity};
use trimtab_client_cache::Cached;
use trimtab_client_coordination::events::Note;
use trimtab_controller_runtime::source::{Source, Watch};
use trimtab_controller_runtime::{Manager, Next, Reconcile, Reconciled, Result, Turn};

use crate::workload::clock::Clock;
use crate::workload::pods::facts;
use crate::workload::template;
use crate::workload::words::words_of;
use decide::{Past, Reading, Sample, limit, read};

/// The controller's name.
pub(crate) const NAME: &str = "horizontal-pod-autoscaler-controller";

/// How many are worked on at once. kube-controller-manager's figure.
const WORKERS: usize = 5;
/// How often each is looked at. kube-controller-manager's figure.
const PERIOD: Duration = Duration::from_secs(15);
/// What a pod's annotations of usage begin with.
const USAGE: &str = "metrics.trimtab.dev/";

/// Describes the controller.
pub(crate) fn describe(manager: &Manager, options: &crate::Options) -> Result<()> {
    manager
        .controller::<HorizontalPodAutoscaler, _>(Autoscalers {
            clock: options.clock,
            past: Mutex::default(),
        })
        .named(NAME)
        .reporting_as("horizontal-pod-autoscaler")
        .source(seen::<Pod>())
        .source(seen::<Deployment>())
        .source(seen::<ReplicaSet>())
        .source(seen::<StatefulSet>())
        .source(seen::<ReplicationController>())
        .writes::<Deployment>()
        .writes::<ReplicaSet>()
        .writes::<StatefulSet>()
        .writes::<ReplicationController>()
        .ignore_status()
        .workers(WORKERS)
        .start()
        .map(drop)
}

/// Watches what is read when it is time to.
fn seen<T: Reconciled>() -> Source<ObjectKey> {
    Source::watch_cached(Watch::<T>::new(), |_| Vec::new())
}

struct Autoscalers {
    clock: Clock,
    past: Mutex<HashMap<ObjectKey, Past>>,
}

/// What is scaled.
struct Scaled {
    replicas: i32,
    selector: LabelSelector,
}

impl Reconcile<HorizontalPodAutoscaler> for Autoscalers {
    async fn reconcile(&self, turn: &mut Turn<HorizontalPodAutoscaler>) -> Result<Next> {
        let key = turn.key().clone();
        let Some(autoscaler) = turn.latest().filter(|_| !turn.is_deleting()) else {
            self.past.lock().remove(&key);
            return Ok(Next::Done);
        };
        let spec = &autoscaler.spec;
        let now = self.clock.now();
        let mut status = Status::of(&autoscaler, now);
        let Some(scaled) = scaled(turn, &spec.scale_target_ref)? else {
            let message = "the HPA controller was unable to get the target's current scale";
            turn.event(Note::warning("FailedGetScale", "Scale", message));
            status.say("AbleToScale", false, "FailedGetScale", message);
            return status.put(turn, &autoscaler);
        };
        let current = scaled.replicas;
        status.new.current_replicas = Some(current);
        status.say(
            "AbleToScale",
            true,
            "SucceededGetScale",
            "the HPA controller was able to get the target's current scale",
        );
        let minimum = spec.min_replicas.unwrap_or(1);
        if current == 0 && minimum != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            status.say("ScalingActive", false, "ScalingDisabled", message);
            status.new.desired_replicas = 0;
            return status.put(turn, &autoscaler);
        }
        let samples = samples(turn, &scaled.selector)?;
        let metrics = spec.metrics.as_deref().unwrap_or_default();
        let read: Vec<_> = metrics
            .iter()
            .map(|metric| read(metric, &samples, current))
            .collect();
        let readings: Vec<&Reading> = read.iter().filter_map(|reading| reading.as_ref().ok()).collect();
        let failed = read.iter().find_map(|reading| reading.as_ref().err());
        let highest = readings.iter().max_by_key(|reading| reading.replicas);
        // Where something is not known there may be more pods, but not fewer.
        let usable = highest.filter(|highest| failed.is_none() || highest.replicas > current);
        let desired = if current > spec.max_replicas {
            status.say(
                "ScalingActive",
                true,
                "ValidMetricFound",
                "the HPA was able to compute the replica count",
            );
            spec.max_replicas
        } else if current < minimum {
            minimum
        } else if let Some(highest) = usable {
            let what = if highest.resource {
                "resource utilization"
            } else {
                "metric"
            };
            let message = format!(
                "the HPA was able to successfully calculate a replica count from {} {what}",
                highest.name
            );
            status.say("ScalingActive", true, "ValidMetricFound", &message);
            let mut all = self.past.lock();
            let past = all.entry(key.clone()).or_default();
            let (desired, (limited, reason, message)) = limit(spec, current, highest.replicas, past, now);
            status.say("ScalingLimited", limited, reason, &message);
            desired
        } else {
            if let Some((reason, message)) = failed {
                turn.event(Note::warning(*reason, "Measure", message.clone()));
                let message = format!("the HPA was unable to compute the replica count: {message}");
                status.say("ScalingActive", false, reason, &message);
            }
            current
        };
        status.new.desired_replicas = desired;
        status.new.current_metrics =
            (!readings.is_empty()).then(|| readings.iter().map(|reading| said(reading)).collect());
        if desired != current {
            match scale(turn, &spec.scale_target_ref, desired).await {
                Ok(()) => {
                    let why = if desired > current { "above" } else { "below" };
                    let name = highest.map(|highest| highest.name.clone()).unwrap_or_default();
                    let message = format!("New size: {desired}; reason: {name} {why} target");
                    turn.event(Note::normal("SuccessfulRescale", "Scale", message));
                    let message =
                        format!("the HPA controller was able to update the target scale to {desired}");
                    status.say("AbleToScale", true, "SucceededRescale", &message);
                    status.new.last_scale_time = Some(Time(now));
                    let mut all = self.past.lock();
                    let past = all.entry(key).or_default();
                    past.changes
                        .retain(|(at, _)| now.duration_since(*at).as_secs() < 3600);
                    past.changes.push((now, desired - current));
                }
                Err(error) => {
                    let message = format!("New size: {desired}; error: {}", words_of(&error));
                    turn.event(Note::warning("FailedRescale", "Scale", message.clone()));
                    status.say("AbleToScale", false, "FailedUpdateScale", &message);
                }
            }
        } else {
            status.say(
                "AbleToScale",
                true,
                "ReadyForNewScale",
                "recommended size matches current size",
            );
        }
        status.put(turn, &autoscaler)
    }
}

/// A status in the making.
struct Status {
    new: HorizontalPodAutoscalerStatus,
    now: Timestamp,
}

impl Status {
    fn of(autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Self {
        let mut new = autoscaler.status.clone().unwrap_or_default();
        new.observed_generation = autoscaler.metadata.generation;
        new.current_metrics = None;
        Self { new, now }
    }

    fn say(&mut self, type_: &str, holds: bool, reason: &str, message: &str) {
        let conditions = self.new.conditions.get_or_insert_default();
        let status = if holds { "True" } else { "False" };
        let before = conditions.iter().position(|condition| condition.type_ == type_);
        let since = before.and_then(|at| {
            let before = &conditions[at];
            before
                .last_transition_time
                .clone()
                .filter(|_| before.status == status)
        });
        let new = HorizontalPodAutoscalerCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: since.or(Some(Time(self.now))),
        };
        match before {
            Some(at) => conditions[at] = new,
            None => conditions.push(new),
        }
    }

    fn put(
        self,
        turn: &mut Turn<HorizontalPodAutoscaler>,
        autoscaler: &HorizontalPodAutoscaler,
    ) -> Result<Next> {
        turn.put_status(autoscaler.status.as_ref(), &self.new)?;
        Ok(Next::After(PERIOD))
    }
}

/// What a reading is in the status.
fn said(reading: &Reading) -> MetricStatus {
    let current = MetricValueStatus {
        average_value: Some(Amount(Quantity::milli(reading.average).to_string())),
        average_utilization: reading.utilization,
        value: None,
    };
    let name = reading.name.clone();
    match reading.resource {
        true => MetricStatus {
            type_: "Resource".to_owned(),
            resource: Some(ResourceMetricStatus { name, current }),
            ..MetricStatus::default()
        },
        false => MetricStatus {
            type_: "Pods".to_owned(),
            pods: Some(PodsMetricStatus {
                metric: MetricIdentifier { name, selector: None },
                current,
            }),
            ..MetricStatus::default()
        },
    }
}

/// What the pods use and ask for.
fn samples(turn: &Turn<HorizontalPodAutoscaler>, selector: &LabelSelector) -> Result<Vec<Sample>> {
    let pods = turn.store::<Pod>()?.list_in(&turn.key().namespace);
    let counted = pods
        .iter()
        .filter(|pod| pod.belonging().is_selected_by(selector) && facts(pod).is_active());
    Ok(counted.map(sample).collect())
}

fn sample(pod: &Cached<Pod>) -> Sample {
    let milli = |text: &str| text.parse::<Quantity>().ok().map(Quantity::milli_value);
    let annotations: Option<BTreeMap<String, String>> = pod.read(["metadata", "annotations"]).ok().flatten();
    let usage = annotations
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.strip_prefix(USAGE)?.to_owned(), milli(&value)?)));
    let containers: Vec<Container> = pod
        .read(["spec", "containers"])
        .ok()
        .flatten()
        .unwrap_or_default();
    let asked = |name: &str| -> Option<i64> {
        let each = containers.iter().map(|container| {
            let requests = container.resources.as_ref()?.requests.as_ref()?;
            milli(&requests.get(name)?.0)
        });
        each.sum()
    };
    let requests = ["cpu", "memory"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), asked(name)?)));
    Sample {
        ready: facts(pod).is_ready(),
        usage: usage.collect(),
        requests: requests.collect(),
    }
}

/// The target, if it is there and of a kind that is known.
fn scaled(
    turn: &Turn<HorizontalPodAutoscaler>,
    target: &CrossVersionObjectReference,
) -> Result<Option<Scaled>> {
    match &*target.kind {
        "Deployment" => of::<Deployment>(turn, target),
        "ReplicaSet" => of::<ReplicaSet>(turn, target),
        "StatefulSet" => of::<StatefulSet>(turn, target),
        "ReplicationController" => of::<ReplicationController>(turn, target),
        _ => Ok(None),
    }
}

fn key_of(turn: &Turn<HorizontalPodAutoscaler>, target: &CrossVersionObjectReference) -> ObjectKey {
    ObjectKey {
        namespace: turn.key().namespace.clone(),
        name: target.name.clone(),
    }
}

fn of<T: Reconciled>(
    turn: &Turn<HorizontalPodAutoscaler>,
    target: &CrossVersionObjectReference,
) -> Result<Option<Scaled>> {
    let Some(object) = turn.store::<T>()?.get(&key_of(turn, target)) else {
        return Ok(None);
    };
    let selector = match target.kind == "ReplicationController" {
        true => object
            .read(["spec", "selector"])?
            .as_ref()
            .and_then(template::exactly),
        false => object
            .read(["spec", "selector"])?
            .as_ref()
            .and_then(template::selector),
    };
    let replicas = object.read(["spec", "replicas"])?.unwrap_or(1);
    Ok(selector
        .filter(|selector| !selector.is_empty())
        .map(|selector| Scaled { replicas, selector }))
}

/// Gives the target another size.
async fn scale(
    turn: &mut Turn<HorizontalPodAutoscaler>,
    target: &CrossVersionObjectReference,
    replicas: i32,
) -> Result<()> {
    match &*target.kind {
        "Deployment" => resize::<Deployment>(turn, target, replicas).await,
        "ReplicaSet" => resize::<ReplicaSet>(turn, target, replicas).await,
        "StatefulSet" => resize::<StatefulSet>(turn, target, replicas).await,
        _ => resize::<ReplicationController>(turn, target, replicas).await,
    }
}

async fn resize<T: Reconciled>(
    turn: &mut Turn<HorizontalPodAutoscaler>,
    target: &CrossVersionObjectReference,
    replicas: i32,
) -> Result<()> {
    let Some(object) = turn.store::<T>()?.get(&key_of(turn, target)) else {
        return Ok(());
    };
    let patch = json!({"spec": {"replicas": replicas}});
    turn.merge_all(vec![(object, patch)]).await.failure
}
