//! Stage files, read and played.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::clock::later;

struct Nowhere;

impl World for Nowhere {
    fn now(&self) -> String {
        "2030-01-01T00:00:00Z".to_owned()
    }
    fn node_address(&self, _: &str) -> String {
        "172.16.0.1".to_owned()
    }
    fn pod_address(&self) -> String {
        "10.128.0.1".to_owned()
    }
    fn node_name(&self) -> String {
        "node-0".to_owned()
    }
}

const FILE: &str = r#"
# Two stages of pods.
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: pod-ready
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchLabels: {app: web}
    matchExpressions:
    - {key: '.metadata.deletionTimestamp', operator: DoesNotExist}
    - {key: '.status.podIP', operator: DoesNotExist}
  delay:
    durationMilliseconds: 2000
    durationFrom:
      expressionFrom: '.metadata.annotations["example.com/delay"]'
  next:
    event: {type: Normal, reason: Started, message: "on {{ NodeName }}"}
    statusTemplate: |
      {{ $now := Now }}
      conditions:
      - {type: Ready, status: "True", lastTransitionTime: {{ $now | Quote }}}
      containerStatuses:
      {{ range .spec.containers }}
      - name: {{ .name | Quote }}
        ready: true
      {{ end }}
      podIP: {{ PodIPWith .spec.nodeName | Quote }}
      phase: Running
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: pod-complete
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: '.status.conditions.[] | select( .type == "Ready" ) | .status', operator: In, values: ["True"]}
    - jq: {key: '.metadata.ownerReferences[].kind', operator: In, values: [Job]}
  steps:
  - finalizers: {add: [{value: example.com/a}], remove: [{value: example.com/b}]}
  - patch: {root: status, subresource: status, type: strategic, template: "phase: Succeeded"}
  - delete: true
"#;

fn start() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().expect("a time")
}

fn next(stages: &Stages, object: &serde_json::Value, chosen: Option<Pick>, now: Timestamp) -> Step {
    let mut random = fastrand::Rng::with_seed(1);
    pick(stages, "Pod", object, chosen, now, &mut random, &Nowhere).expect("the templates fit")
}

#[test]
fn an_object_goes_through_its_stages() {
    let stages = Stages::parse(FILE).expect("stages");
    assert!(stages.are_for("Pod") && !stages.are_for("Node"));
    let mut pod = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"nodeName": "node-0",
        "containers": [{"name": "a"}]}, "status": {}});
    let Step::Wait(chosen) = next(&stages, &pod, None, start()) else {
        panic!("it waits first");
    };
    assert_eq!(chosen.due, later(start(), Duration::from_secs(2)));
    // It stays with what was chosen, whatever changes meanwhile that does not matter.
    let sooner = later(start(), Duration::from_secs(1));
    assert_eq!(
        next(&stages, &pod, Some(chosen.clone()), sooner),
        Step::Wait(chosen.clone())
    );
    let Step::Do(acts) = next(&stages, &pod, Some(chosen.clone()), chosen.due) else {
        panic!("its time has come");
    };
    let [
        Act::Note(note),
        Act::Patch {
            subresource,
            strategic: false,
            change,
        },
    ] = &acts[..]
    else {
        panic!("{acts:?}");
    };
    assert_eq!(
        (note.message.as_str(), subresource.as_str()),
        ("on node-0", "status")
    );
    assert_eq!(
        *change,
        json!({"status": {
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z"}],
            "containerStatuses": [{"name": "a", "ready": true}],
            "podIP": "10.128.0.1",
            "phase": "Running",
        }})
    );
    pod["status"] = change["status"].clone();
    assert_eq!(next(&stages, &pod, None, start()), Step::Nothing);
    pod["metadata"]["ownerReferences"] = json!([{"kind": "Job"}]);
    pod["metadata"]["finalizers"] = json!(["example.com/b", "example.com/c"]);
    let Step::Do(acts) = next(&stages, &pod, None, start()) else {
        panic!("there is no delay");
    };
    let finalizers = json!(["example.com/c", "example.com/a"]);
    assert!(matches!(&acts[0], Act::Patch { change, .. } if change["metadata"]["finalizers"] == finalizers));
    assert!(
        matches!(&acts[1], Act::Patch { strategic: true, change, .. } if change["status"]["phase"] == "Succeeded")
    );
    assert_eq!(acts[2], Act::Delete);
}

#[test]
fn delays_and_weights_come_from_the_object_too() {
    let stages = Stages::parse(FILE).expect("stages");
    for (said, seconds) in [("5s", 5), ("2030-01-01T00:01:00Z", 60), ("nonsense", 2)] {
        let pod = json!({"metadata": {"labels": {"app": "web"}, "annotations": {"example.com/delay": said}}});
        let Step::Wait(chosen) = next(&stages, &pod, None, start()) else {
            panic!("it waits");
        };
        assert_eq!(chosen.due, later(start(), Duration::from_secs(seconds)), "{said}");
    }
    let two = |weights: [i64; 2]| {
        let stage = |name: &str, weight: i64| {
            format!(
                "apiVersion: kwok.x-k8s.io/v1alpha1\nkind: Stage\nmetadata: {{name: {name}}}\nspec:\n  resourceRef: {{kind: Pod}}\n  \
                 selector: {{}}\n  weight: {weight}\n  next: {{event: {{reason: {name}}}}}\n"
            )
        };
        let text = format!("{}---\n{}", stage("a", weights[0]), stage("b", weights[1]));
        let stages = Stages::parse(&text).expect("stages");
        let mut random = fastrand::Rng::with_seed(3);
        let mut counts = [0; 2];
        for _ in 0..1000 {
            let step = pick(&stages, "Pod", &json!({}), None, start(), &mut random, &Nowhere);
            let Ok(Step::Do(acts)) = step else {
                panic!("{step:?}")
            };
            let Act::Note(note) = &acts[0] else {
                panic!("{acts:?}")
            };
            counts[usize::from(note.reason == "b")] += 1;
        }
        counts
    };
    let [a, b] = two([1, 9]);
    assert!((50..200).contains(&a) && b > 800, "{a} {b}");
    let [a, b] = two([0, 0]);
    assert!(a > 400 && b > 400, "{a} {b}");
    assert_eq!(two([0, 5]), [0, 1000]);
}

#[test]
fn what_is_not_understood_is_named() {
    for (from, to, named) in [
        ("steps:", "impersonation: {}\n  steps:", "impersonation"),
        ("kind: Pod}", "kind: Service}", "Service"),
        ("kind: Stage", "kind: Attach", "Attach"),
        ("{{ NodeName }}", "{{ Nonsense }}", "Nonsense"),
        ("'.status.podIP'", "'.status | keys'", "keys"),
        ("type: strategic", "type: json", "json"),
        ("durationMilliseconds", "durationSeconds", "durationSeconds"),
    ] {
        let text = FILE.replacen(from, to, 1);
        let error = Stages::parse(&text).expect_err(named).to_string();
        assert!(error.contains(named), "{error}");
    }
}
