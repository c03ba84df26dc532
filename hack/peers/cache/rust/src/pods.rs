//! The objects: Pods as a cluster has them, about 7.7 KB of JSON each, of which 3.1 KB are managed fields.

use serde_json::{Value, json};

pub const NAMESPACES: usize = 100;

/// How much the objects have in common.
#[derive(Clone, Copy, PartialEq)]
pub enum Data {
    /// A thousand templates with their replicas.
    Templates,
    /// Only the structure.
    Distinct,
}

impl Data {
    pub fn named(name: &str) -> crate::Result<Self> {
        match name {
            "templates" => Ok(Self::Templates),
            "distinct" => Ok(Self::Distinct),
            _ => Err(format!("no data {name}; there are: templates, distinct").into()),
        }
    }
}

pub fn namespace(number: usize) -> String {
    format!("bench-{:03}", number % NAMESPACES)
}

pub fn name(number: usize) -> String {
    format!(
        "app-{:04}-{:010x}-{:05}",
        number % 1000,
        digest(number % 1000, 0) >> 24,
        number
    )
}

fn digest(number: usize, salt: u64) -> u64 {
    let mut hash = (number as u64).wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for _ in 0..3 {
        hash ^= hash >> 31;
        hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    }
    hash ^ (hash >> 32)
}

fn long_digest(number: usize, salt: u64) -> String {
    (0..4)
        .map(|part| format!("{:016x}", digest(number, salt * 4 + part)))
        .collect()
}

fn time(number: usize, plus: usize) -> String {
    let second = digest(number, 77) as usize % 2_000_000 + plus;
    let (day, rest) = (second / 86_400, second % 86_400);
    format!(
        "2026-10-{:02}T{:02}:{:02}:{:02}Z",
        day + 1,
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// What a controller creates.
pub fn pod(number: usize, data: Data) -> Value {
    let template = if data == Data::Templates {
        number % 1000
    } else {
        number
    };
    let word = |salt: u64| format!("{:012x}", digest(template, salt) >> 16);
    let env: Vec<_> = (0..4)
        .map(|at| json!({"name": format!("SETTING_{at}"), "value": format!("{}-{}", word(at + 10), at)}))
        .chain([json!({"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}})])
        .collect();
    let probe = json!({
        "httpGet": {"path": format!("/healthz/{}", word(1)), "port": 8080, "scheme": "HTTP"},
        "initialDelaySeconds": 5, "periodSeconds": 10, "timeoutSeconds": 2, "successThreshold": 1, "failureThreshold": 3,
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name(number), "namespace": namespace(number),
            "labels": {
                "app.kubernetes.io/name": format!("app-{template}"), "app.kubernetes.io/instance": word(2),
                "pod-template-hash": word(3), "team": format!("team-{}", template % 40),
            },
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "checksum/config": long_digest(template, 5)},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("app-{template}-{}", word(3)),
                "uid": format!("{:08x}-1111-4222-8333-{:012x}", digest(template, 6) as u32, digest(template, 7) >> 16),
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "containers": [
                {
                    "name": "app", "image": format!("registry.example.com/team-{}/app-{}:{}", template % 40, template, word(4)),
                    "imagePullPolicy": "IfNotPresent", "args": ["--listen=:8080", format!("--config=/etc/app/{}.yaml", word(8)), "--verbose"],
                    "env": env, "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                    "readinessProbe": probe,
                    "resources": {"requests": {"cpu": "100m", "memory": format!("{}Mi", 64 + template % 64)}, "limits": {"memory": "512Mi"}},
                    "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}, {"name": "tmp", "mountPath": "/tmp"}],
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                },
                {
                    "name": "proxy", "image": "registry.example.com/mesh/proxy:1.27.3", "imagePullPolicy": "IfNotPresent",
                    "args": ["proxy", "sidecar", "--domain", "$(POD_NAMESPACE).svc.cluster.local"],
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                },
            ],
            "volumes": [
                {"name": "config", "configMap": {"name": format!("app-{template}-config"), "defaultMode": 420}},
                {"name": "tmp", "emptyDir": {}},
            ],
            "nodeName": format!("node-{:04}", digest(number, 9) % 500), "serviceAccountName": "default",
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
        },
    })
}

/// What a kubelet says about it.
pub fn status(number: usize, data: Data) -> Value {
    let spec = pod(number, data)["spec"].clone();
    let condition = |kind: &str, plus| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": time(number, plus)});
    let container = |at: usize| {
        let container = &spec["containers"][at];
        json!({
            "name": container["name"], "image": container["image"], "ready": true, "started": true, "restartCount": 0,
            "imageID": format!("registry.example.com/image@sha256:{}", long_digest(if at == 0 { number % 1000 } else { 0 }, 20)),
            "containerID": format!("containerd://{}", long_digest(number, 30 + at as u64)),
            "state": {"running": {"startedAt": time(number, 3)}}, "lastState": {},
        })
    };
    let address = digest(number, 40);
    let pod_ip = format!(
        "10.{}.{}.{}",
        address as u8,
        (address >> 8) as u8,
        (address >> 16) as u8
    );
    let host = digest(number, 9) % 500;
    json!({
        "phase": "Running", "qosClass": "Burstable", "startTime": time(number, 0),
        "hostIP": format!("192.168.{}.{}", host / 250, host % 250), "podIP": pod_ip, "podIPs": [{"ip": pod_ip}],
        "conditions": [condition("PodReadyToStartContainers", 2), condition("Initialized", 0), condition("Ready", 4), condition("ContainersReady", 4), condition("PodScheduled", 0)],
        "containerStatuses": [container(0), container(1)],
    })
}
