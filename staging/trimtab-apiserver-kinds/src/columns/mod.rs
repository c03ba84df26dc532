//! Tables of built-in kinds: their columns, as data, and the cells of an object's row.

mod cluster;
mod core;
mod format;
mod pods;
mod workloads;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;
use trimtab_apimachinery_meta::GroupVersionKind;

pub use self::format::{age, human_duration};
use crate::resource::Column;

/// Columns by kind, as they stand in `definitions.txt`.
static DEFINITIONS: LazyLock<BTreeMap<&str, Vec<Column>>> =
    LazyLock::new(|| read(include_str!("definitions.txt")));

/// Reads blocks of `[Kind]` and lines of heading, `type[:format]`, priority and description, with tabs between.
fn read(text: &'static str) -> BTreeMap<&'static str, Vec<Column>> {
    let mut found: BTreeMap<&str, Vec<Column>> = BTreeMap::new();
    let mut shared: BTreeMap<&str, &str> = BTreeMap::new();
    let mut kind = "";
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            kind = name;
            continue;
        }
        let mut parts = line.splitn(4, '\t');
        let mut next = || parts.next().unwrap_or_default();
        let (name, type_) = (next(), next());
        if name.starts_with('@') {
            shared.insert(name, type_);
            continue;
        }
        let (priority, description) = (next(), next());
        let (type_, format) = type_.split_once(':').unwrap_or((type_, ""));
        let description = shared.get(description).copied().unwrap_or(description);
        found.entry(kind).or_default().push(Column {
            name: name.to_owned(),
            type_: type_.to_owned(),
            format: format.to_owned(),
            description: description.replace("\\n", "\n"),
            priority: priority.parse().unwrap_or_default(),
            json_path: None,
        });
    }
    found
}

/// The columns of a built-in kind's table.
pub(crate) fn columns(gvk: &GroupVersionKind) -> Vec<Column> {
    let own = DEFINITIONS.get(gvk.kind.as_str());
    own.or_else(|| DEFINITIONS.get("*")).cloned().unwrap_or_default()
}

/// An object, and when it is looked at.
#[derive(Clone, Copy)]
struct Row<'o> {
    object: &'o Value,
    spec: &'o Value,
    status: &'o Value,
    /// In seconds since the epoch.
    now: i64,
}

impl<'o> Row<'o> {
    fn of(object: &'o Value, now: i64) -> Self {
        let (spec, status) = (&object["spec"], &object["status"]);
        Self {
            object,
            spec,
            status,
            now,
        }
    }

    fn name(self) -> Value {
        self.object["metadata"]["name"].clone()
    }

    fn age(self) -> Value {
        let created = &self.object["metadata"]["creationTimestamp"];
        age(created.as_str().unwrap_or_default(), self.now).into()
    }
}

/// The cells of an object of a built-in kind, one for each of its columns.
pub(crate) fn cells(kind: &str, object: &Value, now: i64) -> Vec<Value> {
    let cells = match kind {
        "Pod" => return pods::pod(object, now),
        "PodTemplate" => core::pod_template,
        "ReplicationController" => workloads::replication_controller,
        "Service" => core::service,
        "Endpoints" => core::endpoints,
        "Node" => core::node,
        "Event" => core::event,
        "Namespace" => core::namespace,
        "Secret" => core::secret,
        "ConfigMap" => core::config_map,
        "ServiceAccount" => core::plain,
        "PersistentVolume" => core::persistent_volume,
        "PersistentVolumeClaim" => core::persistent_volume_claim,
        "ComponentStatus" => core::component_status,
        "ResourceQuota" => core::resource_quota,
        "Deployment" => workloads::deployment,
        "ReplicaSet" => workloads::replica_set,
        "StatefulSet" => workloads::stateful_set,
        "DaemonSet" => workloads::daemon_set,
        "ControllerRevision" => workloads::controller_revision,
        "Job" => workloads::job,
        "CronJob" => workloads::cron_job,
        "PodDisruptionBudget" => workloads::pod_disruption_budget,
        "HorizontalPodAutoscaler" => workloads::autoscaler,
        "Ingress" => cluster::ingress,
        "IngressClass" => cluster::ingress_class,
        "NetworkPolicy" => cluster::network_policy,
        "ServiceCIDR" => cluster::service_cidr,
        "IPAddress" => cluster::ip_address,
        "EndpointSlice" => cluster::endpoint_slice,
        "RoleBinding" | "ClusterRoleBinding" => cluster::role_binding,
        "CertificateSigningRequest" => cluster::certificate_signing_request,
        "Lease" => cluster::lease,
        "PriorityClass" => cluster::priority_class,
        "RuntimeClass" => cluster::runtime_class,
        "StorageClass" => cluster::storage_class,
        "VolumeAttributesClass" => cluster::volume_attributes_class,
        "VolumeAttachment" => cluster::volume_attachment,
        "CSINode" => cluster::csi_node,
        "CSIDriver" => cluster::csi_driver,
        "APIService" => cluster::api_service,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => cluster::webhooks,
        "MutatingAdmissionPolicy" => |row: Row<'_>| cluster::admission_policy(row, "mutations"),
        "ValidatingAdmissionPolicy" => |row: Row<'_>| cluster::admission_policy(row, "validations"),
        "MutatingAdmissionPolicyBinding" | "ValidatingAdmissionPolicyBinding" => {
            cluster::admission_policy_binding
        }
        "FlowSchema" => cluster::flow_schema,
        "PriorityLevelConfiguration" => cluster::priority_level,
        _ => created_at,
    };
    cells(Row::of(object, now))
}

/// What an object's row says about it beyond its cells, as conditions of the row.
pub(crate) fn conditions(kind: &str, object: &Value) -> Vec<Value> {
    if kind == "Pod" {
        pods::conditions(object)
    } else {
        Vec::new()
    }
}

/// Of a kind without a printer of its own: name and time of creation.
fn created_at(row: Row<'_>) -> Vec<Value> {
    vec![row.name(), row.object["metadata"]["creationTimestamp"].clone()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn there_is_a_cell_for_each_column() {
        let empty = json!({"metadata": {"name": "a"}});
        for resource in crate::builtin::all() {
            let columns = &resource.columns;
            let name_at = columns.iter().position(|c| c.name == "Name").unwrap_or(99);
            let cells = cells(&resource.kind, &empty, 0);
            // Kubernetes computes a cell too many for this one.
            let more = usize::from(resource.kind == "IPAddress");
            assert_eq!(cells.len(), columns.len() + more, "{}", resource.kind);
            assert_eq!(cells.get(name_at), Some(&json!("a")), "{}", resource.kind);
        }
    }

    #[test]
    fn columns_are_read_with_what_they_share() {
        let columns = read("@name\tThe\\nname\n\n[A]\nName\tstring:name\t0\t@name\nIP\tstring\t1\tAn IP\n");
        let column = |name: &str, format: &str, description: &str, priority| Column {
            name: name.to_owned(),
            type_: "string".to_owned(),
            format: format.to_owned(),
            description: description.to_owned(),
            priority,
            json_path: None,
        };
        let expected = vec![
            column("Name", "name", "The\nname", 0),
            column("IP", "", "An IP", 1),
        ];
        assert_eq!(columns.get("A"), Some(&expected));
    }
}
