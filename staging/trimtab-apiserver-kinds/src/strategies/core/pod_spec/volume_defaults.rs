//! What is filled in in a pod's volumes.

use serde_json::{Value, json};

use super::defaults::{default_field_ref, pull_policy};
use crate::strategies::checks::{default_text, default_to, text};
use crate::strategies::core::storage::default_claim_spec;
use crate::strategies::fields::each_mut;

/// Permissions of files that are made of objects: `0644`.
const FILE_MODE: i64 = 0o644;

/// Fills in what a volume leaves out; one that has no source is an empty directory.
pub(super) fn default_volume(volume: &mut Value) {
    let Some(fields) = volume.as_object_mut() else {
        return;
    };
    if !fields
        .iter()
        .any(|(name, source)| name != "name" && !source.is_null())
    {
        fields.insert("emptyDir".to_owned(), json!({}));
    }
    let sources = fields.iter_mut().filter(|(_, source)| source.is_object());
    for (kind, source) in sources {
        default_source(kind, source);
    }
}

fn default_source(kind: &str, source: &mut Value) {
    match kind {
        "image" => {
            let policy = pull_policy(text(&source["reference"]));
            default_text(source, "pullPolicy", policy);
        }
        "hostPath" => default_to(source, "type", ""),
        "secret" | "configMap" => default_to(source, "defaultMode", FILE_MODE),
        "downwardAPI" => {
            default_to(source, "defaultMode", FILE_MODE);
            default_items(source);
        }
        "projected" => {
            default_to(source, "defaultMode", FILE_MODE);
            for part in each_mut(source, "sources") {
                // Kubernetes 1.36 has these behind a feature gate that is off.
                if let Some(part) = part.as_object_mut() {
                    part.remove("clusterTrustBundle");
                }
                if let Some(api) = part.get_mut("downwardAPI") {
                    default_items(api);
                }
                if let Some(token) = part.get_mut("serviceAccountToken").filter(|t| t.is_object()) {
                    default_to(token, "expirationSeconds", 3600);
                }
            }
        }
        "iscsi" => default_text(source, "iscsiInterface", "default"),
        "rbd" => {
            default_text(source, "pool", "rbd");
            default_text(source, "user", "admin");
            default_text(source, "keyring", "/etc/ceph/keyring");
        }
        "azureDisk" => {
            default_to(source, "cachingMode", "ReadWrite");
            default_to(source, "fsType", "ext4");
            default_to(source, "readOnly", false);
            default_to(source, "kind", "Shared");
        }
        "scaleIO" => {
            default_text(source, "storageMode", "ThinProvisioned");
            default_text(source, "fsType", "xfs");
        }
        "ephemeral" => {
            if let Some(spec) = source.pointer_mut("/volumeClaimTemplate/spec") {
                default_claim_spec(spec);
            }
        }
        _ => {}
    }
}

fn default_items(source: &mut Value) {
    for item in each_mut(source, "items") {
        default_field_ref(item);
    }
}
