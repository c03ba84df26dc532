//! The row of a pod: its state in one word is gathered from all its containers.

use serde_json::{Value, json};

use super::format::{NONE, age, condition, items, number, seconds, text, text_or};

/// The cells of a pod.
pub(super) fn pod(pod: &Value, now: i64) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, super::human_duration(now - last))
        }
        _ => summary.restarts.to_string(),
    };
    let (spec, status) = (&pod["spec"], &pod["status"]);
    vec![
        pod["metadata"]["name"].clone(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(text(&pod["metadata"]["creationTimestamp"]), now).into(),
        text_or(&status["podIPs"][0]["ip"], NONE).into(),
        text_or(&spec["nodeName"], NONE).into(),
        text_or(&status["nominatedNodeName"], NONE).into(),
        readiness_gates(pod).into(),
    ]
}

/// What a row of a finished pod says about it beyond its cells.
pub(super) fn conditions(pod: &Value) -> Vec<Value> {
    let completed = |reason: &str, message: &str| {
        vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
    };
    match text(&pod["status"]["phase"]) {
        "Succeeded" => completed("Succeeded", "The pod has completed successfully."),
        "Failed" => completed("Failed", "The pod failed."),
        _ => Vec::new(),
    }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(&pod["spec"]["readinessGates"]);
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let open = gates
        .iter()
        .filter(|gate| condition(pod, text(&gate["conditionType"])) == Some("True"));
    format!("{}/{}", open.count(), gates.len())
}

#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    /// In seconds since the epoch.
    last_restart: Option<i64>,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let mut summary = Self {
            reason: text_or(&status["reason"], text(&status["phase"])).to_owned(),
            total: items(&spec["containers"]).len(),
            ..Self::default()
        };
        let gated = |c: &Value| text(&c["type"]) == "PodScheduled" && text(&c["reason"]) == "SchedulingGated";
        if items(&status["conditions"]).iter().any(gated) {
            "SchedulingGated".clone_into(&mut summary.reason);
        }
        let sidecars = Self::sidecars(pod);
        summary.total += sidecars.len();
        let (initializing, sidecar_restarts) = summary.init_containers(pod, &sidecars);
        if !initializing || condition(pod, "Initialized") == Some("True") {
            (summary.restarts, summary.last_restart) = sidecar_restarts;
            summary.containers(pod);
        }
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            if text(&status["reason"]) == "NodeLost" {
                "Unknown".clone_into(&mut summary.reason);
            } else if !matches!(text(&status["phase"]), "Succeeded" | "Failed") {
                "Terminating".clone_into(&mut summary.reason);
            }
        }
        summary
    }

    /// The names of the init containers that run on beside the others.
    fn sidecars(pod: &Value) -> Vec<&str> {
        items(&pod["spec"]["initContainers"])
            .iter()
            .filter(|c| text(&c["restartPolicy"]) == "Always")
            .map(|c| text(&c["name"]))
            .collect()
    }

    fn restarted(&mut self, container: &Value) {
        self.restarts += number(&container["restartCount"]);
        let last = seconds(&container["lastState"]["terminated"]["finishedAt"]);
        self.last_restart = self.last_restart.max(last);
    }

    /// Whether an init container is not done; and the restarts of sidecars among those looked at.
    fn init_containers(&mut self, pod: &Value, sidecars: &[&str]) -> (bool, (i64, Option<i64>)) {
        let mut of_sidecars = Self::default();
        let total = items(&pod["spec"]["initContainers"]).len();
        let mut initializing = false;
        for (i, container) in items(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
            let sidecar = sidecars.contains(&text(&container["name"]));
            self.restarted(container);
            if sidecar {
                of_sidecars.restarted(container);
            }
            let (terminated, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]);
            if terminated.is_object() && number(&terminated["exitCode"]) == 0 {
                continue;
            }
            if sidecar && container["started"] == true {
                self.ready += usize::from(container["ready"] == true);
                continue;
            }
            self.reason = if terminated.is_object() {
                format!("Init:{}", ended(terminated))
            } else if !matches!(text(&waiting["reason"]), "" | "PodInitializing") {
                format!("Init:{}", text(&waiting["reason"]))
            } else {
                format!("Init:{i}/{total}")
            };
            initializing = true;
            break;
        }
        (initializing, (of_sidecars.restarts, of_sidecars.last_restart))
    }

    fn containers(&mut self, pod: &Value) {
        let (mut running, mut error) = (false, String::new());
        for container in items(&pod["status"]["containerStatuses"]).iter().rev() {
            self.restarted(container);
            let state = &container["state"];
            let terminated = &state["terminated"];
            if !text(&state["waiting"]["reason"]).is_empty() {
                text(&state["waiting"]["reason"]).clone_into(&mut self.reason);
            } else if terminated.is_object() {
                self.reason = ended(terminated);
                if number(&terminated["exitCode"]) != 0 {
                    error.clone_from(&self.reason);
                }
            } else if container["ready"] == true && state["running"].is_object() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            if running && condition(pod, "Ready") == Some("True") {
                "Running".clone_into(&mut self.reason);
            } else if !error.is_empty() {
                self.reason = error;
            } else if running {
                "NotReady".clone_into(&mut self.reason);
            }
        }
    }
}

/// Why a container has ended.
fn ended(terminated: &Value) -> String {
    match (text(&terminated["reason"]), number(&terminated["signal"])) {
        ("", 0) => format!("ExitCode:{}", number(&terminated["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_pod_is_gathered_from_its_containers() {
        let now = 1_000_000_000;
        let running = json!({"name": "a", "ready": true, "state": {"running": {}}});
        let crashed = json!({"name": "a", "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2001-09-09T01:41:40Z"}}});
        let cases = [
            (
                "no status",
                json!({"phase": "Pending"}),
                json!(["0/2", "Pending", "0"]),
            ),
            (
                "running",
                json!({"phase": "Running", "containerStatuses": [running, running]}),
                json!(["2/2", "Running", "0"]),
            ),
            (
                "crashing",
                json!({"phase": "Running", "containerStatuses": [crashed, running]}),
                json!(["1/2", "CrashLoopBackOff", "3 (5m ago)"]),
            ),
            (
                "failed by signal",
                json!({"phase": "Failed", "containerStatuses": [
                    {"state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
                json!(["0/2", "Signal:9", "0"]),
            ),
            (
                "one completed, one runs and is not ready",
                json!({"phase": "Running", "containerStatuses": [
                    {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}, running]}),
                json!(["1/2", "NotReady", "0"]),
            ),
            (
                "init container waits",
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "restartCount": 1, "state": {"waiting": {"reason": "PodInitializing"}}}]}),
                json!(["0/2", "Init:0/1", "1"]),
            ),
            (
                "gated",
                json!({"phase": "Pending", "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
                json!(["0/2", "SchedulingGated", "0"]),
            ),
        ];
        for (name, status, expected) in cases {
            let object = json!({"metadata": {"name": "p"}, "status": status,
                "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
            assert_eq!(json!(pod(&object, now)[1..4]), expected, "{name}");
        }
        let dying = json!({"metadata": {"name": "p", "deletionTimestamp": "2001-09-09T01:41:40Z"},
            "status": {"phase": "Running"}});
        assert_eq!(pod(&dying, now)[2], "Terminating");
    }
}
