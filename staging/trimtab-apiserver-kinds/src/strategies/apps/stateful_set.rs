//! StatefulSets, and the ControllerRevisions that remember their templates.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::deployment::{not_decremented, part_counts, with_available};
use super::template::{
    default_template, required_selector, runs_for_ever, selected_template, spec, template_warnings,
    validate_template,
};
use crate::strategies::checks::{
    all_non_negative, default_text, default_to, immutable, int, invalid_for, items, items_mut, non_negative,
    object, one_of, text,
};
use crate::strategies::core::storage::{default_claim_spec, validate_claim_spec};
use crate::strategies::rules::{Rules, carry_over};

pub(super) const STATEFUL_SET: Rules = Rules {
    generation: true,
    name: names::dns1123_label,
    default,
    prepare_create: |_, set| {
        drop_max_unavailable(set);
        default_to(object(set, "status"), "availableReplicas", 0);
    },
    prepare_update: |new, old| {
        if old["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"].is_null() {
            drop_max_unavailable(new);
        }
    },
    validate: |set| validate(set, false),
    validate_update: Some(validate_update),
    validate_status: |new, old| {
        let fields = [
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ];
        let parts = [
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
        ];
        let errors = part_counts(new, &fields, &parts);
        let mut errors = with_available(new, errors, "cannot be greater than status.readyReplicas");
        errors.extend(not_decremented(new, old));
        errors
    },
    warnings: |set, old| {
        let warning = "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
                       recommended";
        let negative = int(&set["spec"]["revisionHistoryLimit"]) < 0;
        let mut warnings = template_warnings(set, old);
        warnings.extend(negative.then(|| warning.to_owned()));
        warnings
    },
    ..Rules::ORDINARY
};

pub(super) const CONTROLLER_REVISION: Rules = Rules {
    validate: |revision| {
        let at = FieldPath::new("data");
        let mut errors = non_negative(&revision["revision"], &FieldPath::new("revision"));
        match &revision["data"] {
            Value::Object(_) => {}
            Value::Null => errors.push(FieldError::required(&at, "data is mandatory")),
            _ => errors.push(FieldError::required(&at, "data must be a valid JSON object")),
        }
        errors
    },
    validate_update: Some(|new, old| {
        let mut errors = non_negative(&new["revision"], &FieldPath::new("revision"));
        errors.extend(immutable(&new["data"], &old["data"], &FieldPath::new("data")));
        errors
    }),
    ..Rules::NO_STATUS
};

fn default(set: &mut Value) {
    default_to(object(set, "status"), "availableReplicas", 0);
    let spec = object(set, "spec");
    default_template(object(spec, "template"));
    default_text(spec, "podManagementPolicy", "OrderedReady");
    let strategy = object(spec, "updateStrategy");
    if text(&strategy["type"]).is_empty() {
        strategy["type"] = "RollingUpdate".into();
        object(strategy, "rollingUpdate");
    }
    if text(&strategy["type"]) == "RollingUpdate"
        && let Some(rolling) = strategy
            .get_mut("rollingUpdate")
            .filter(|rolling| rolling.is_object())
    {
        default_to(rolling, "partition", 0);
    }
    let retention = object(spec, "persistentVolumeClaimRetentionPolicy");
    default_text(retention, "whenDeleted", "Retain");
    default_text(retention, "whenScaled", "Retain");
    default_to(spec, "replicas", 1);
    default_to(spec, "revisionHistoryLimit", 10);
    for claim in items_mut(spec, "volumeClaimTemplates") {
        claim["apiVersion"] = "v1".into();
        claim["kind"] = "PersistentVolumeClaim".into();
        default_claim_spec(object(claim, "spec"));
        default_text(object(claim, "status"), "phase", "Pending");
    }
}

/// Kubernetes 1.36 has this behind a feature gate that is off.
fn drop_max_unavailable(set: &mut Value) {
    let rolling = set.pointer_mut("/spec/updateStrategy/rollingUpdate");
    if let Some(rolling) = rolling.and_then(Value::as_object_mut) {
        rolling.remove("maxUnavailable");
    }
}

fn validate(set: &Value, update: bool) -> Vec<FieldError> {
    let of = &set["spec"];
    let mut errors = Vec::new();
    let policy = text(&of["podManagementPolicy"]);
    if !matches!(policy, "OrderedReady" | "Parallel") {
        let why = "must be 'OrderedReady' or 'Parallel'";
        let at = spec().child("podManagementPolicy");
        errors.push(FieldError::invalid(&at, policy, why));
    }
    errors.extend(update_strategy(&of["updateStrategy"]));
    let at = spec().child("persistentVolumeClaimRetentionPolicy");
    for when in ["whenDeleted", "whenScaled"] {
        let retention = &of["persistentVolumeClaimRetentionPolicy"][when];
        errors.extend(one_of(retention, &["Retain", "Delete"], &at.child(when)));
    }
    if !update {
        for (i, claim) in items(&of["volumeClaimTemplates"]).iter().enumerate() {
            let at = spec().child("volumeClaimTemplates").index(i).child("spec");
            errors.extend(validate_claim_spec(&claim["spec"], &at));
        }
    }
    errors.extend(all_non_negative(of, &["replicas", "minReadySeconds"], &spec()));
    errors.extend(non_negative(
        &of["ordinals"]["start"],
        &spec().child("ordinals.start"),
    ));
    let service = &of["serviceName"];
    if !update && !text(service).is_empty() {
        let messages = names::dns1123_label(text(service));
        errors.extend(invalid_for(messages, service, &spec().child("serviceName")));
    }
    errors.extend(required_selector(&of["selector"], "statefulset"));
    match selected_template(set, "") {
        Err(senseless) => errors.push(senseless),
        Ok(unselected) => {
            errors.extend(unselected);
            errors.extend(validate_template(&with_claims(of), &spec().child("template")));
        }
    }
    errors.extend(runs_for_ever(set, "StatefulSet"));
    errors
}

/// The template with the volumes that will be made of the claim templates, and without what each pod will get of its
/// own.
fn with_claims(spec: &Value) -> Value {
    let mut template = spec["template"].clone();
    let Some(pod) = template.get_mut("spec").and_then(Value::as_object_mut) else {
        return template;
    };
    pod.remove("subdomain");
    pod.remove("hostname");
    let claims: Vec<&str> = items(&spec["volumeClaimTemplates"])
        .iter()
        .map(|claim| text(&claim["metadata"]["name"]))
        .collect();
    if claims.is_empty() {
        return template;
    }
    let of_claim = |name: &&str| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
    let mut volumes: Vec<Value> = claims.iter().map(of_claim).collect();
    let others = items(pod.get("volumes").unwrap_or(&Value::Null)).iter();
    volumes.extend(others.filter(|v| !claims.contains(&text(&v["name"]))).cloned());
    pod.insert("volumes".to_owned(), volumes.into());
    template
}

fn update_strategy(strategy: &Value) -> Vec<FieldError> {
    let at = spec().child("updateStrategy");
    let rolling = &strategy["rollingUpdate"];
    match text(&strategy["type"]) {
        "RollingUpdate" => non_negative(
            &rolling["partition"],
            &at.child("rollingUpdate").child("partition"),
        ),
        "OnDelete" if rolling.is_null() => Vec::new(),
        "OnDelete" => {
            let shown =
                json!({"Partition": int(&rolling["partition"]), "MaxUnavailable": rolling["maxUnavailable"]});
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            vec![FieldError::invalid(&at.child("rollingUpdate"), shown, why)]
        }
        other => {
            let shown = json!({"Type": other, "RollingUpdate": rolling});
            vec![FieldError::invalid(
                &at,
                shown,
                "must be 'RollingUpdate' or 'OnDelete'",
            )]
        }
    }
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    const FREE: [&str; 7] = [
        "replicas",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "ordinals",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
    ];
    let mut errors = validate(new, true);
    let mut rest = new["spec"].clone();
    for field in FREE {
        carry_over(&mut rest, &old["spec"], field);
    }
    if rest != old["spec"] {
        errors.push(FieldError::forbidden(
            &spec(),
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    fn set(spec: Value) -> Value {
        let mut object = json!({"metadata": {"name": "s"}, "spec": {"selector": {"matchLabels": {"app": "x"}},
            "serviceName": "s", "template": {"metadata": {"labels": {"app": "x"}},
                "spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]}}}});
        for (field, value) in spec.as_object().into_iter().flatten() {
            object["spec"][field] = value.clone();
        }
        default(&mut object);
        object
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let object = set(json!({"volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": {}}]}));
        let spec = &object["spec"];
        assert_eq!(
            spec["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
        );
        assert_eq!(
            spec["volumeClaimTemplates"],
            json!([{"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "v"}, "spec": {"resources": {}, "volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}])
        );
        let object = set(json!({"updateStrategy": {"type": "OnDelete"}}));
        assert_eq!(object["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
        assert!(object["spec"].get("volumeClaimTemplates").is_none());
    }

    #[test]
    fn little_may_change() {
        let old = set(json!({}));
        let cases = [
            (
                json!({"replicas": 3, "minReadySeconds": 2, "ordinals": {"start": 1}}),
                0,
            ),
            (json!({"serviceName": "other"}), 1),
            (json!({"podManagementPolicy": "Parallel"}), 1),
        ];
        for (change, count) in cases {
            let errors = validate_update(&set(change.clone()), &old);
            assert_eq!(errors.len(), count, "{change}: {:?}", told(&errors));
        }
    }
}
