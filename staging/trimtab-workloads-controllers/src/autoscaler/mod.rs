//! The controller of autoscalers: as many pods as bring what they use to what they should use, by simulated metrics.
//!
//! A pod says what it uses in annotations, `metrics.trimtab.dev/cpu: 250m`; `kubectl annotate` plays the load.

mod decide;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition,
    HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus, MetricIdentifier, MetricStatus,
    MetricValueStatus, PodsMetricStatus, ResourceMetricStatus,
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
        let scaled = match scaled(turn, &spec.scale_target_ref)? {
            Ok(scaled) => scaled,
            Err(why) => {
                turn.event(Note::warning("FailedGetScale", "Scale", why.clone()));
                let message =
                    format!("the HPA controller was unable to get the target's current scale: {why}");
                status.say("AbleToScale", false, "FailedGetScale", &message);
                return status.put(turn, &autoscaler);
            }
        };
        let current = scaled.replicas;
        status.new.current_replicas = Some(current);
        status.say(
            "AbleToScale",
            true,
            "SucceededGetScale",
            "the HPA controller was able to get the target's current scale",
        );
        // What there was when it was first looked at counts as recommended, so that a restart takes nothing away.
        self.past.lock().entry(key.clone()).or_insert_with(|| Past {
            recommendations: vec![(now, current)],
            changes: Vec::new(),
        });
        let minimum = spec.min_replicas.unwrap_or(1);
        if current == 0 && minimum != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            status.say("ScalingActive", false, "ScalingDisabled", message);
            status.new.desired_replicas = 0;
            return status.put(turn, &autoscaler);
        }
        let (desired, why) = if current > spec.max_replicas {
            let why = "Current number of replicas above Spec.MaxReplicas";
            (spec.max_replicas, why.to_owned())
        } else if current < minimum {
            (
                minimum,
                "Current number of replicas below Spec.MinReplicas".to_owned(),
            )
        } else {
            let samples = samples(turn, &scaled.selector)?;
            match self.measured(turn, spec, &samples, current, &mut status) {
                Some(measured) => measured,
                None => return status.put(turn, &autoscaler),
            }
        };
        status.new.desired_replicas = desired;
        if desired != current {
            match scale(turn, &spec.scale_target_ref, desired).await {
                Ok(()) => {
                    let message = format!("New size: {desired}; reason: {why}");
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
                    let error = words_of(&error);
                    let message = format!("New size: {desired}; reason: {why}; error: {error}");
                    turn.event(Note::warning("FailedRescale", "Scale", message));
                    let message =
                        format!("the HPA controller was unable to update the target scale: {error}");
                    status.say("AbleToScale", false, "FailedUpdateScale", &message);
                }
            }
        }
        status.put(turn, &autoscaler)
    }
}

impl Autoscalers {
    /// How many pods the metrics call for, and why; `None` if they do not say.
    fn measured(
        &self,
        turn: &Turn<HorizontalPodAutoscaler>,
        spec: &HorizontalPodAutoscalerSpec,
        samples: &[Sample],
        current: i32,
        status: &mut Status,
    ) -> Option<(i32, String)> {
        let metrics = spec.metrics.as_deref().unwrap_or_default();
        let read: Vec<_> = metrics
            .iter()
            .map(|metric| read(metric, samples, current))
            .collect();
        let told = read
            .iter()
            .map(|reading| reading.as_ref().map(said).unwrap_or_default());
        status.new.current_metrics = Some(told.collect()).filter(|told: &Vec<_>| !told.is_empty());
        for (reason, message) in read.iter().filter_map(|reading| reading.as_ref().err()) {
            turn.event(Note::warning(*reason, "Measure", message.clone()));
        }
        let failed: Vec<_> = (0..read.len()).filter(|at| read[*at].is_err()).collect();
        let readings = read.iter().filter_map(|reading| reading.as_ref().ok());
        // Of those that say the same, the first is named.
        let highest = readings.rev().max_by_key(|reading| reading.replicas);
        // Where something is not known there may be more pods, but not fewer.
        let usable = highest.filter(|highest| failed.is_empty() || highest.replicas >= current);
        let Some(highest) = usable else {
            let first = failed.first()?;
            let (reason, message) = read[*first].as_ref().err()?;
            let unable = format!("the HPA was unable to compute the replica count: {message}");
            status.say("ScalingActive", false, reason, &unable);
            let (of, what) = (metrics.len(), &metrics[*first]);
            let what = match &what.resource {
                Some(resource) => format!("failed to get {} resource metric value: ", resource.name),
                None => String::new(),
            };
            let message = format!(
                "invalid metrics ({} invalid out of {of}), first error is: {what}{message}",
                failed.len()
            );
            turn.event(Note::warning("FailedComputeMetricsReplicas", "Measure", message));
            return None;
        };
        let message = format!(
            "the HPA was able to successfully calculate a replica count from {}",
            highest.words
        );
        status.say("ScalingActive", true, "ValidMetricFound", &message);
        let mut all = self.past.lock();
        let past = all.entry(turn.key().clone()).or_default();
        let limited = limit(spec, current, highest.replicas, past, status.now);
        let same = ("ReadyForNewScale", "recommended size matches current size");
        let (reason, message) = limited.stabilized.unwrap_or(same);
        status.say("AbleToScale", true, reason, message);
        let (is_limited, reason, message) = limited.limit;
        status.say("ScalingLimited", is_limited, reason, message);
        let why = match highest.replicas.cmp(&current) {
            Ordering::Greater => format!("{} above target", highest.words),
            Ordering::Less => "All metrics below target".to_owned(),
            Ordering::Equal => String::new(),
        };
        Some((limited.replicas, why))
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
    let modest = ["cpu", "memory"].into_iter().filter_map(|name| {
        let asks = |container: &&Container| {
            let requests = container
                .resources
                .as_ref()
                .and_then(|resources| resources.requests.as_ref());
            requests.is_none_or(|requests| !requests.contains_key(name))
        };
        Some((name.to_owned(), containers.iter().find(asks)?.name.clone()))
    });
    Sample {
        name: pod.name().to_owned(),
        modest: modest.collect(),
        ready: facts(pod).is_ready(),
        usage: usage.collect(),
        requests: requests.collect(),
    }
}

/// The target, or why it cannot be had: it has to be there and of a kind that is known.
fn scaled(
    turn: &Turn<HorizontalPodAutoscaler>,
    target: &CrossVersionObjectReference,
) -> Result<Result<Scaled, String>> {
    let (found, kind) = match &*target.kind {
        "Deployment" => (of::<Deployment>(turn, target)?, "deployments.apps"),
        "ReplicaSet" => (of::<ReplicaSet>(turn, target)?, "replicasets.apps"),
        "StatefulSet" => (of::<StatefulSet>(turn, target)?, "statefulsets.apps"),
        "ReplicationController" => (
            of::<ReplicationController>(turn, target)?,
            "replicationcontrollers",
        ),
        other => {
            let why = format!("the scale of {other} is not asked for");
            return Ok(Err(why));
        }
    };
    Ok(found.ok_or_else(|| format!("{kind} \"{}\" not found", target.name)))
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
