//! Pods.

mod update;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::pod_spec::{
    containers, default_pod_only, default_pod_spec, merge_label_keys, pod_spec_warnings, validate_pod_spec,
};
use super::resources::qos_class;
use crate::schema_ref::SchemaRef;
use crate::strategies::checks::{int, is_empty, items, object, text};
use crate::strategies::fill::{fill_object, fill_zeros};
use crate::strategies::rules::carry_over;
use crate::strategy::{Deletion, RequestContext, Strategy};

/// The strategy of pods.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) schema: SchemaRef,
}

const SELECTABLE: [&str; 8] = [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
];

/// What is wrong with a pod, new or changed; its metadata is looked at elsewhere.
fn validate(pod: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let spec = &pod["spec"];
    let mut errors = validate_pod_spec(spec, &at);
    if text(&spec["serviceAccountName"]).is_empty() {
        for (i, volume) in items(&spec["volumes"]).iter().enumerate() {
            for (j, source) in items(&volume["projected"]["sources"]).iter().enumerate() {
                if source["serviceAccountToken"].is_object() {
                    let at = at
                        .child("volumes")
                        .index(i)
                        .child("projected")
                        .child("sources")
                        .index(j);
                    let why = "must not be specified when serviceAccountName is not set";
                    errors.push(FieldError::forbidden(&at.child("serviceAccountToken"), why));
                }
            }
        }
    }
    // The claims of such volumes are named after the pod and the volume.
    let name = text(&pod["metadata"]["name"]);
    for (i, volume) in items(&spec["volumes"]).iter().enumerate() {
        let template = &volume["ephemeral"]["volumeClaimTemplate"];
        let claim = format!("{name}-{}", text(&volume["name"]));
        for why in names::dns1123_subdomain(&claim)
            .iter()
            .filter(|_| template.is_object() && !name.is_empty())
        {
            let at = at.child("volumes").index(i).child("name");
            errors.push(FieldError::invalid(
                &at,
                volume["name"].clone(),
                format!("PVC name {claim:?}: {why}"),
            ));
        }
    }
    for list in ["containers", "initContainers"] {
        for (i, container) in items(&spec[list]).iter().enumerate() {
            errors.extend(containers::no_blanks(container, &at.child(list).index(i)));
        }
    }
    errors
}

/// Takes over all of the old object but some fields of the new one's spec, and what users may write of metadata.
fn keep_all_but(new: &mut Value, old: &Value, fields: &[&str]) {
    let mut whole = old.clone();
    for field in fields {
        carry_over(object(&mut whole, "spec"), &new["spec"], field);
    }
    whole["metadata"]["managedFields"] = new["metadata"]["managedFields"].clone();
    whole["metadata"]["resourceVersion"] = new["metadata"]["resourceVersion"].clone();
    *new = whole;
}

/// Does not let a client forget which generation a status is about.
fn keep_observed_generations(new: &mut Value, old: &Value) {
    let fill = |new: &mut Value, old: &Value| {
        if int(&new["observedGeneration"]) == 0 && int(&old["observedGeneration"]) != 0 {
            new["observedGeneration"] = old["observedGeneration"].clone();
        }
    };
    fill(&mut new["status"], &old["status"]);
    let mut before: Vec<&Value> = items(&old["status"]["conditions"]).iter().collect();
    for condition in new["status"]["conditions"].as_array_mut().into_iter().flatten() {
        if let Some(found) = before.iter().position(|c| c["type"] == condition["type"]) {
            fill(condition, before.remove(found));
        }
    }
    if new["status"]["conditions"].is_null() {
        carry_over(&mut new["status"], &json!({}), "conditions");
    }
}

impl Strategy for Pod {
    fn default(&self, pod: &mut Value) {
        let spec = object(pod, "spec");
        default_pod_only(spec);
        default_pod_spec(spec);
        let status = object(pod, "status");
        // Who writes only the one address means it to be the first of all.
        let (one, all) = (&status["podIP"], &status["podIPs"]);
        if all.is_null() && !text(one).is_empty() {
            status["podIPs"] = json!([{"ip": one}]);
        } else if let Some(first) = items(all).first().map(|first| first["ip"].clone())
            && first != *one
        {
            match text(one) {
                "" => status["podIP"] = first,
                one => status["podIPs"] = json!([{"ip": one}]),
            }
        }
        fill_zeros(&self.schema, pod);
    }

    fn prepare_create(&self, ctx: &RequestContext, pod: &mut Value) {
        merge_label_keys(pod);
        let mut status = json!({"phase": "Pending", "qosClass": qos_class(&pod["spec"])});
        if !is_empty(&pod["spec"]["schedulingGates"]) {
            status["conditions"] = json!([{"type": "PodScheduled", "status": "False", "lastProbeTime": null,
                "lastTransitionTime": ctx.now, "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates"}]);
        }
        pod["status"] = status;
        fill_object(&self.schema, pod);
    }

    fn validate_create(&self, _: &RequestContext, pod: &Value) -> Vec<FieldError> {
        let mut errors = validate(pod);
        let at = FieldPath::new("spec");
        let spec = &pod["spec"];
        if !is_empty(&spec["ephemeralContainers"]) {
            let why = "cannot be set on create";
            errors.push(FieldError::forbidden(&at.child("ephemeralContainers"), why));
        }
        if !is_empty(&spec["nodeName"]) && !is_empty(&spec["schedulingGates"]) {
            let why = "cannot be set until all schedulingGates have been cleared";
            errors.push(FieldError::forbidden(&at.child("nodeName"), why));
        }
        errors
    }

    fn prepare_update(&self, ctx: &RequestContext, new: &mut Value, old: &Value) {
        match ctx.subresource.as_str() {
            "status" => {
                carry_over(new, old, "spec");
                for field in ["deletionTimestamp", "ownerReferences"] {
                    carry_over(&mut new["metadata"], &old["metadata"], field);
                }
                if text(&new["status"]["qosClass"]).is_empty() {
                    carry_over(object(new, "status"), &old["status"], "qosClass");
                }
                keep_observed_generations(new, old);
            }
            "ephemeralcontainers" => keep_all_but(new, old, &["ephemeralContainers"]),
            "resize" => update::prepare_resize(new, old),
            // What these change is decided by the server.
            "binding" | "eviction" => {}
            _ => carry_over(new, old, "status"),
        }
        fill_object(&self.schema, new);
    }

    fn validate_update(&self, ctx: &RequestContext, new: &Value, old: &Value) -> Vec<FieldError> {
        match ctx.subresource.as_str() {
            "status" => update::validate_status(new, old),
            "ephemeralcontainers" => update::validate_ephemeral_containers(new, old),
            "resize" => update::validate_resize(new, old),
            "binding" | "eviction" => Vec::new(),
            _ => update::validate_update(new, old),
        }
    }

    fn warnings(&self, _: &RequestContext, new: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some() {
            return Vec::new();
        }
        let messages = names::dns1123_label(text(&new["metadata"]["name"]));
        let mut warnings = Vec::new();
        if !messages.is_empty() {
            warnings.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label \
                 is recommended: [{}]",
                messages.join(" ")
            ));
        }
        warnings.extend(pod_spec_warnings(&new["spec"], &FieldPath::new("spec")));
        warnings
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns1123_subdomain(if prefix { name.trim_end_matches('-') } else { name })
    }

    fn spec_changed(&self, new: &Value, old: &Value) -> bool {
        // That a pod is given its node is no change of what is wanted; nobody else changes it.
        let mut new = new["spec"].clone();
        carry_over(&mut new, &old["spec"], "nodeName");
        new != old["spec"]
    }

    fn deletion(&self, pod: &Value, grace_seconds: Option<i64>) -> Deletion {
        let wanted = grace_seconds.unwrap_or_else(|| int(&pod["spec"]["terminationGracePeriodSeconds"]));
        // Nobody runs what is not scheduled or has ended, so there is nothing to wait for.
        let idle = text(&pod["spec"]["nodeName"]).is_empty()
            || matches!(text(&pod["status"]["phase"]), "Failed" | "Succeeded");
        Deletion::Graceful(match wanted {
            _ if idle => 0,
            negative if negative < 0 => 1,
            seconds => seconds,
        })
    }

    fn selectable(&self, pod: &Value, field: &str) -> Option<String> {
        if !SELECTABLE.contains(&field) {
            return None;
        }
        Some(match field {
            "spec.hostNetwork" => (pod["spec"]["hostNetwork"] == true).to_string(),
            "status.podIP" => match items(&pod["status"]["podIPs"]).first() {
                Some(first) => text(&first["ip"]).to_owned(),
                None => text(&pod["status"]["podIP"]).to_owned(),
            },
            other => {
                let (part, name) = other.split_once('.')?;
                text(&pod[part][name]).to_owned()
            }
        })
    }

    fn selectable_fields(&self) -> &[&str] {
        &SELECTABLE
    }

    fn selectable_from<'f>(&self, field: &'f str) -> Vec<[&'f str; 2]> {
        let Some((part, name)) = field.split_once('.') else {
            return Vec::new();
        };
        if field == "status.podIP" {
            return vec![[part, name], [part, "podIPs"]];
        }
        vec![[part, name]]
    }
}
