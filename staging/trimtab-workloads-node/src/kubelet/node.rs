//! What a simulated kubelet says of its node: the Node object, its conditions, and the Lease by which it is known to live.

use std::collections::BTreeMap;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::fleet::{node_address, pod_cidr};
use crate::Options;
use crate::clock::{micros, seconds};

/// Where leases of nodes are.
pub(crate) const LEASES: &str = "kube-node-lease";
/// How many heartbeats a lease is good for. The kubelet's figure.
const LEASE_BEATS: u32 = 4;
/// Tells simulated nodes from others.
pub(crate) const SIMULATED: &str = "trimtab.dev/simulated";
/// The release whose kubelet is simulated.
const VERSION: &str = "v1.36.3";

/// The name of the node with this number.
pub(crate) fn name(index: u32) -> String {
    format!("node-{index}")
}

/// The node with this number, as its kubelet registers it.
pub(crate) fn node(index: u32, options: &Options, now: Timestamp) -> Node {
    let name = name(index);
    let mut labels: BTreeMap<String, String> = [
        ("beta.kubernetes.io/arch", "amd64"),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "amd64"),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/hostname", name.as_str()),
        (SIMULATED, "true"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let zones = options.zones.len();
    if zones > 0 {
        let zone = usize::try_from(index).unwrap_or_default() % zones;
        labels.insert("topology.kubernetes.io/region".to_owned(), "simulated".to_owned());
        labels.insert(
            "topology.kubernetes.io/zone".to_owned(),
            options.zones[zone].clone(),
        );
    }
    let cidr = pod_cidr(index);
    Node {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels),
            annotations: Some(
                [(
                    "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
                    "true".to_owned(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: Some(cidr.clone()),
            pod_cidrs: Some(vec![cidr]),
            provider_id: Some(format!("simulated://{name}")),
            ..NodeSpec::default()
        }),
        status: Some(status(index, options, now)),
    }
}

fn status(index: u32, options: &Options, now: Timestamp) -> NodeStatus {
    let capacity = &options.capacity;
    let amounts: BTreeMap<String, Quantity> = [
        ("cpu", capacity.cpu.clone()),
        ("ephemeral-storage", capacity.ephemeral_storage.clone()),
        ("hugepages-1Gi", "0".to_owned()),
        ("hugepages-2Mi", "0".to_owned()),
        ("memory", capacity.memory.clone()),
        ("pods", capacity.pods.to_string()),
    ]
    .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
    .into();
    let address = |type_: &str, address: String| NodeAddress {
        type_: type_.to_owned(),
        address,
    };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", node_address(index).to_string()),
            address("Hostname", name(index)),
        ]),
        allocatable: Some(amounts.clone()),
        capacity: Some(amounts),
        conditions: Some(conditions(now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: 10250 }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: "amd64".to_owned(),
            boot_id: format!("boot-{index}"),
            container_runtime_version: "simulated://0".to_owned(),
            kernel_version: "simulated".to_owned(),
            kubelet_version: VERSION.to_owned(),
            machine_id: format!("machine-{index}"),
            operating_system: "linux".to_owned(),
            os_image: "simulated".to_owned(),
            system_uuid: format!("system-{index}"),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

/// The conditions of a node that is well, in the kubelet's order: readiness is the last.
pub(crate) fn conditions(now: Timestamp) -> Vec<NodeCondition> {
    [
        (
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        (
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        (
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ]
    .map(|(type_, status, reason, message)| NodeCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(seconds(now)),
        last_transition_time: Some(seconds(now)),
    })
    .to_vec()
}

/// The conditions of a node that was told to be unwell, or is well again; transitions are now where the truth changes.
pub(crate) fn conditions_after(
    before: &[NodeCondition],
    unready: Option<&str>,
    now: Timestamp,
) -> Vec<NodeCondition> {
    let mut new = conditions(now);
    for condition in &mut new {
        if let Some(why) = unready.filter(|_| condition.type_ == "Ready") {
            condition.status = "False".to_owned();
            condition.reason = Some("KubeletNotReady".to_owned());
            condition.message = Some(why.to_owned());
        }
        let old = before.iter().find(|old| old.type_ == condition.type_);
        if let Some(old) = old.filter(|old| old.status == condition.status) {
            condition
                .last_transition_time
                .clone_from(&old.last_transition_time);
        }
    }
    let others = before
        .iter()
        .filter(|old| new.iter().all(|own| own.type_ != old.type_));
    others.cloned().chain(new.clone()).collect()
}

/// The lease of a node, held from now on.
pub(crate) fn lease(node: &str, uid: Option<&str>, now: Timestamp, heartbeat: Duration) -> Lease {
    let owner = |uid: &str| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    };
    Lease {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            namespace: Some(LEASES.to_owned()),
            owner_references: uid.map(|uid| vec![owner(uid)]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            lease_duration_seconds: i32::try_from((LEASE_BEATS * heartbeat).as_secs()).ok(),
            renew_time: Some(micros(now)),
            ..LeaseSpec::default()
        }),
    }
}
