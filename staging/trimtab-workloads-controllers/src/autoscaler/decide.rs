//! How many pods there are to be, by what they use: the sum of kube-controller-manager's rules, without I/O.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingRules, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
};
use trimtab_apimachinery_meta::Quantity;

use crate::workload::clock::later;

/// How far usage may be from its target without consequence. kube-controller-manager's figure.
const TOLERANCE: f64 = 0.1;
/// For how long the highest recommendation counts before there are fewer pods. kube-controller-manager's figure.
const DOWN_WINDOW: i32 = 300;

/// A pod, as far as it counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) ready: bool,
    /// What it uses, in thousandths, by name.
    pub(super) usage: BTreeMap<String, i64>,
    /// What its containers ask for, in thousandths, by name; without those that do not all ask.
    pub(super) requests: BTreeMap<String, i64>,
    /// The first container that does not ask, by what it does not ask for.
    pub(super) modest: BTreeMap<String, String>,
}

/// What was recommended and done before.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    pub(super) recommendations: Vec<(Timestamp, i32)>,
    /// By how many pods it was changed.
    pub(super) changes: Vec<(Timestamp, i32)>,
}

/// What a metric says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) name: String,
    /// What people are told that it is, such as "cpu resource".
    pub(super) words: String,
    /// The type of the metric.
    pub(super) resource: bool,
    pub(super) replicas: i32,
    /// The mean, in thousandths.
    pub(super) average: i64,
    pub(super) utilization: Option<i32>,
}

/// Why a metric says nothing: the reason of the condition, and the words.
pub(super) type NoReading = (&'static str, String);

/// What comes of a recommendation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Limited {
    pub(super) replicas: i32,
    /// What was recommended lately, if that counts instead: the reason and the words.
    pub(super) stabilized: Option<(&'static str, &'static str)>,
    /// Whether it was limited, the reason and the words.
    pub(super) limit: (bool, &'static str, &'static str),
}

/// What one metric recommends.
pub(super) fn read(metric: &MetricSpec, pods: &[Sample], current: i32) -> Result<Reading, NoReading> {
    let (name, target, resource) = match (&*metric.type_, &metric.resource, &metric.pods) {
        ("Resource", Some(resource), _) => (&resource.name, &resource.target, true),
        ("Pods", _, Some(pods)) => (&pods.metric.name, &pods.target, false),
        (other, ..) => {
            let message = format!("invalid metric source: metrics of type {other:?} are not simulated");
            return Err(("InvalidMetricSourceType", message));
        }
    };
    let by_request = target.average_utilization.filter(|_| resource);
    let sort = if by_request.is_some() {
        "utilization"
    } else {
        "usage"
    };
    let failed = |why: String| match resource {
        true => (
            "FailedGetResourceMetric",
            format!("failed to get {name} {sort}: {why}"),
        ),
        false => (
            "FailedGetPodsMetric",
            format!("failed to get pods metric value: {why}"),
        ),
    };
    let measured: Vec<&Sample> = pods.iter().filter(|pod| pod.usage.contains_key(name)).collect();
    if measured.is_empty() {
        let what = if resource { "resource" } else { "metric" };
        let api = if resource { "resource" } else { "custom" };
        return Err(failed(format!(
            "unable to get metrics for {what} {name}: no metrics returned from {api} metrics API"
        )));
    }
    let per_pod = |pod: &Sample| -> Result<i64, NoReading> {
        match by_request {
            None => Ok(average(target)),
            Some(percent) => match pod.requests.get(name) {
                Some(request) => Ok(request * i64::from(percent) / 100),
                None => Err(failed(format!(
                    "missing request for {name} in container {} of Pod {}",
                    pod.modest.get(name).map_or("", |container| container),
                    pod.name
                ))),
            },
        }
    };
    let mut wanted = 0.0;
    let (mut used, mut counted) = (0.0, 0);
    for pod in pods.iter().filter(|pod| pod.ready) {
        let Some(usage) = pod.usage.get(name) else {
            continue;
        };
        used += *usage as f64;
        wanted += per_pod(pod)? as f64;
        counted += 1;
    }
    let mut total = measured.iter().map(|pod| pod.usage[name]).sum::<i64>();
    total /= i64::try_from(measured.len()).unwrap_or(1).max(1);
    let requested: i64 = measured.iter().filter_map(|pod| pod.requests.get(name)).sum();
    let all: i64 = measured.iter().map(|pod| pod.usage[name]).sum();
    let utilization = by_request
        .filter(|_| requested > 0)
        .map(|_| (all * 100 / requested) as i32);
    let ratio = if wanted > 0.0 { used / wanted } else { 1.0 };
    // What is not measured or not ready is taken for what speaks against a change.
    let (mut full_used, mut full_wanted, mut full_count) = (used, wanted, counted);
    for pod in pods
        .iter()
        .filter(|pod| !pod.ready || !pod.usage.contains_key(name))
    {
        let share = per_pod(pod)? as f64;
        if ratio < 1.0 && !pod.usage.contains_key(name) {
            full_used += share;
        } else if ratio <= 1.0 {
            continue;
        }
        full_wanted += share;
        full_count += 1;
    }
    let full = if full_wanted > 0.0 {
        full_used / full_wanted
    } else {
        1.0
    };
    let turned = (ratio < 1.0 && full > 1.0) || (ratio > 1.0 && full < 1.0);
    let replicas = if (1.0 - full).abs() <= TOLERANCE || turned || counted == 0 {
        current
    } else {
        let replicas = (full * f64::from(full_count)).ceil() as i32;
        match full < 1.0 {
            true => replicas.min(current),
            false => replicas.max(current),
        }
    };
    let words = match (resource, by_request) {
        (true, Some(_)) => format!("{name} resource utilization (percentage of request)"),
        (true, None) => format!("{name} resource"),
        (false, _) => format!("pods metric {name}"),
    };
    Ok(Reading {
        name: name.clone(),
        words,
        resource,
        replicas,
        average: total,
        utilization,
    })
}

fn average(target: &MetricTarget) -> i64 {
    let value = target
        .average_value
        .as_ref()
        .and_then(|value| value.0.parse::<Quantity>().ok());
    value.map_or(0, Quantity::milli_value)
}

/// The number of pods, after what was recommended lately and what the rules allow.
pub(super) fn limit(
    spec: &HorizontalPodAutoscalerSpec,
    current: i32,
    recommended: i32,
    past: &mut Past,
    now: Timestamp,
) -> Limited {
    let behavior = spec.behavior.as_ref();
    let up = behavior.and_then(|behavior| behavior.scale_up.as_ref());
    let down = behavior.and_then(|behavior| behavior.scale_down.as_ref());
    let window = |rules: Option<&HPAScalingRules>, default: i32| {
        let seconds = rules
            .and_then(|rules| rules.stabilization_window_seconds)
            .unwrap_or(default);
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    };
    let (up_window, down_window) = (window(up, 0), window(down, DOWN_WINDOW));
    past.recommendations.push((now, recommended));
    let longest = up_window.max(down_window);
    past.recommendations.retain(|(at, _)| later(*at, longest) >= now);
    let within = |window: Duration| {
        past.recommendations
            .iter()
            .filter(move |(at, _)| later(*at, window) >= now)
            .map(|(_, count)| *count)
    };
    let least = within(up_window).min().unwrap_or(recommended);
    let most = within(down_window).max().unwrap_or(recommended);
    let minimum = spec.min_replicas.unwrap_or(1);
    // Without behaviour, the highest recommendation counts, and the limits are those of old.
    let (desired, fastest, slowest) = match behavior {
        Some(_) => (
            current.max(least).min(most),
            rate(up, current, past, now, true),
            rate(down, current, past, now, false),
        ),
        None => (most, current.saturating_mul(2).max(4), minimum),
    };
    let stabilized = match desired.cmp(&recommended) {
        Ordering::Equal => None,
        Ordering::Greater => Some((
            "ScaleDownStabilized",
            "recent recommendations were higher than current one, applying the highest recent recommendation",
        )),
        Ordering::Less => Some((
            "ScaleUpStabilized",
            "recent recommendations were lower than current one, applying the lowest recent recommendation",
        )),
    };
    let (top, why_top) = match fastest < spec.max_replicas {
        true => (
            fastest,
            (
                "ScaleUpLimit",
                "the desired replica count is increasing faster than the maximum scale rate",
            ),
        ),
        false => (
            spec.max_replicas,
            (
                "TooManyReplicas",
                "the desired replica count is more than the maximum replica count",
            ),
        ),
    };
    let (bottom, why_bottom) = match slowest > minimum {
        true => (
            slowest,
            (
                "ScaleDownLimit",
                "the desired replica count is decreasing faster than the maximum scale rate",
            ),
        ),
        false => (
            minimum,
            (
                "TooFewReplicas",
                "the desired replica count is less than the minimum replica count",
            ),
        ),
    };
    let why_between = (
        "DesiredWithinRange",
        "the desired count is within the acceptable range",
    );
    let (replicas, (reason, words)) = match desired {
        desired if desired > top => (top, why_top),
        desired if desired < bottom => (bottom, why_bottom),
        desired => (desired, why_between),
    };
    Limited {
        replicas,
        stabilized,
        limit: (replicas != desired, reason, words),
    }
}

/// The most, or the fewest, pods that policies allow now.
fn rate(rules: Option<&HPAScalingRules>, current: i32, past: &Past, now: Timestamp, up: bool) -> i32 {
    let disabled = rules.and_then(|rules| rules.select_policy.as_deref()) == Some("Disabled");
    if disabled {
        return current;
    }
    let given = rules.and_then(|rules| rules.policies.as_ref()).map(|policies| {
        let policies = policies
            .iter()
            .map(|policy| (policy.type_ == "Percent", policy.value, policy.period_seconds));
        policies.collect::<Vec<_>>()
    });
    let default = if up {
        vec![(true, 100, 15), (false, 4, 15)]
    } else {
        vec![(true, 100, 15)]
    };
    let limits = given
        .unwrap_or(default)
        .into_iter()
        .map(|(percent, value, period)| {
            let period = Duration::from_secs(u64::try_from(period).unwrap_or_default());
            let recent = past
                .changes
                .iter()
                .filter(|(at, _)| later(*at, period) > now)
                .map(|(_, change)| *change);
            let changed: i32 = recent.filter(|change| (*change > 0) == up).sum();
            let before = current - changed;
            let step = match percent {
                true if up => (f64::from(before) * f64::from(value) / 100.0).ceil() as i32,
                true => (f64::from(before) * f64::from(value) / 100.0).floor() as i32,
                false => value,
            };
            if up {
                before.saturating_add(step)
            } else {
                before.saturating_sub(step)
            }
        });
    let least_change = rules.and_then(|rules| rules.select_policy.as_deref()) == Some("Min");
    let limit = match up != least_change {
        true => limits.max(),
        false => limits.min(),
    };
    limit.unwrap_or(current)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn pod(ready: bool, cpu: Option<i64>) -> Sample {
        Sample {
            ready,
            usage: cpu.map(|cpu| ("cpu".to_owned(), cpu)).into_iter().collect(),
            requests: [("cpu".to_owned(), 1000)].into(),
            ..Sample::default()
        }
    }

    fn cpu(target: Value) -> MetricSpec {
        serde_json::from_value(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}))
            .expect("a metric")
    }

    #[test]
    fn as_many_as_bring_usage_to_its_target() {
        let half = json!({"type": "Utilization", "averageUtilization": 50});
        let value = json!({"type": "AverageValue", "averageValue": "200m"});
        let same = |count: usize, cpu: i64| vec![pod(true, Some(cpu)); count];
        let with = |mut pods: Vec<Sample>, more: Sample| {
            pods.push(more);
            pods
        };
        #[rustfmt::skip]
        let cases = [
            ("twice as much", &half, same(3, 1000), 3, 6),
            ("half as much", &half, same(4, 250), 4, 2),
            ("near enough", &half, same(3, 540), 3, 3),
            ("rounded up", &half, same(3, 600), 3, 4),
            ("by value", &value, same(3, 400), 3, 6),
            ("one that is not ready yet uses nothing", &half, with(same(3, 1000), pod(false, Some(0))), 4, 6),
            ("which may be enough to wait", &half, with(same(3, 700), pod(false, Some(0))), 4, 4),
            ("one of which nothing is known may use all", &half, with(same(3, 250), pod(true, None)), 4, 3),
        ];
        for (why, target, pods, current, expected) in cases {
            let reading = read(&cpu(target.clone()), &pods, current).expect("a reading");
            assert_eq!(reading.replicas, expected, "{why}");
        }
        let reading = read(&cpu(half.clone()), &same(2, 300), 2).expect("a reading");
        assert_eq!((reading.average, reading.utilization), (300, Some(30)));
        assert_eq!(
            read(&cpu(half), &[pod(true, None)], 1).map_err(|(reason, _)| reason),
            Err("FailedGetResourceMetric")
        );
    }

    #[test]
    fn changes_are_limited_and_lasting() {
        let spec = |more: Value| -> HorizontalPodAutoscalerSpec {
            let mut object = json!({"minReplicas": 2, "maxReplicas": 20, "scaleTargetRef": {"kind": "Deployment", "name": "web"}});
            for (field, value) in more.as_object().into_iter().flatten() {
                object[field] = value.clone();
            }
            serde_json::from_value(object).expect("a spec")
        };
        let careful = json!({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}});
        let never =
            json!({"behavior": {"scaleDown": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0}}});
        let at_once = json!({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}});
        #[rustfmt::skip]
        let cases = [
            ("as recommended", json!({}), 5, 8, vec![], vec![], 8, "DesiredWithinRange"),
            ("at most", json!({}), 15, 30, vec![], vec![], 20, "TooManyReplicas"),
            ("at least", at_once.clone(), 3, 1, vec![], vec![], 2, "TooFewReplicas"),
            ("twice or up to four", json!({}), 1, 15, vec![], vec![], 4, "ScaleUpLimit"),
            ("twice or four more at a time", json!({"behavior": {}}), 1, 15, vec![], vec![], 5, "ScaleUpLimit"),
            ("from where it began", json!({"behavior": {}}), 5, 15, vec![], vec![(95, 4)], 5, "ScaleUpLimit"),
            ("as was recommended lately", json!({}), 8, 3, vec![(50, 6)], vec![], 6, "DesiredWithinRange"),
            ("even if it is fewer now", json!({}), 4, 3, vec![(50, 6)], vec![], 6, "DesiredWithinRange"),
            ("unless there is behaviour", json!({"behavior": {}}), 4, 3, vec![(50, 6)], vec![], 4, "DesiredWithinRange"),
            ("or long ago", json!({}), 8, 3, vec![(-250, 6)], vec![], 3, "DesiredWithinRange"),
            ("one by one", careful, 8, 3, vec![], vec![], 7, "ScaleDownLimit"),
            ("never fewer", never, 8, 3, vec![], vec![], 8, "ScaleDownLimit"),
        ];
        for (why, more, current, recommended, recommendations, changes, expected, reason) in cases {
            let times = |list: Vec<(i64, i32)>| {
                list.into_iter()
                    .map(|(seconds, count)| (at(seconds), count))
                    .collect()
            };
            let mut past = Past {
                recommendations: times(recommendations),
                changes: times(changes),
            };
            let found = limit(&spec(more), current, recommended, &mut past, at(100));
            assert_eq!((found.replicas, found.limit.1), (expected, reason), "{why}");
            assert_eq!(found.limit.0, reason != "DesiredWithinRange", "{why}");
        }
    }
}
