//! DaemonSets.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use super::deployment::not_decremented;
use super::template::{
    default_template, runs_for_ever, selected_template, spec, template_warnings, validate_template,
};
use crate::strategies::checks::{
    all_non_negative, at_most_100_percent, default_text, default_to, immutable_selector, int_or_percent,
    int_or_percent_value, label_selector, object, selects_everything, text,
};
use crate::strategies::rules::Rules;

/// Where the generation of the template is kept, since v1 has no field for it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(super) const DAEMON_SET: Rules = Rules {
    generation: true,
    default,
    prepare_create: |_, set| {
        if template_generation(set) < 1 {
            set_template_generation(set, 1);
        }
    },
    prepare_update: |new, old| {
        let changed = new["spec"]["template"] != old["spec"]["template"];
        set_template_generation(new, template_generation(old) + i64::from(changed));
    },
    prepare_status: |new, old| set_template_generation(new, template_generation(old)),
    validate,
    validate_update: Some(|new, old| {
        let at = spec().child("selector");
        let mut errors = immutable_selector(&new["spec"]["selector"], &old["spec"]["selector"], &at);
        errors.extend(validate(new));
        errors
    }),
    validate_status: |new, old| {
        let fields = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        let mut errors = all_non_negative(&new["status"], &fields, &FieldPath::new("status"));
        errors.extend(not_decremented(new, old));
        errors
    },
    warnings: template_warnings,
    ..Rules::ORDINARY
};

fn template_generation(set: &Value) -> i64 {
    let annotation = text(&set["metadata"]["annotations"][TEMPLATE_GENERATION]);
    annotation.parse().unwrap_or_default()
}

fn set_template_generation(set: &mut Value, generation: i64) {
    object(object(set, "metadata"), "annotations")[TEMPLATE_GENERATION] = generation.to_string().into();
}

fn default(set: &mut Value) {
    set_template_generation(set, template_generation(set));
    let spec = object(set, "spec");
    default_template(object(spec, "template"));
    let strategy = object(spec, "updateStrategy");
    default_text(strategy, "type", "RollingUpdate");
    if text(&strategy["type"]) == "RollingUpdate" {
        let rolling = object(strategy, "rollingUpdate");
        default_to(rolling, "maxUnavailable", 1);
        default_to(rolling, "maxSurge", 0);
    }
    default_to(spec, "revisionHistoryLimit", 10);
}

fn validate(set: &Value) -> Vec<FieldError> {
    let of = &set["spec"];
    let mut errors = label_selector(&of["selector"], &spec().child("selector"));
    errors.extend(selected_template(set, "").unwrap_or_default());
    if !of["selector"].is_null() && selects_everything(&of["selector"]) {
        errors.push(FieldError::invalid(
            &spec().child("selector"),
            of["selector"].clone(),
            "empty selector is invalid for daemonset",
        ));
    }
    errors.extend(validate_template(&of["template"], &spec().child("template")));
    errors.extend(runs_for_ever(set, "DaemonSet"));
    errors.extend(all_non_negative(of, &["minReadySeconds"], &spec()));
    if template_generation(set) < 0 {
        errors.push(FieldError::invalid(
            &spec().child("templateGeneration"),
            template_generation(set),
            "must be greater than or equal to 0",
        ));
    }
    errors.extend(update_strategy(&of["updateStrategy"]));
    errors.extend(all_non_negative(of, &["revisionHistoryLimit"], &spec()));
    errors
}

fn update_strategy(strategy: &Value) -> Vec<FieldError> {
    let at = spec().child("updateStrategy");
    let rolling = &strategy["rollingUpdate"];
    match text(&strategy["type"]) {
        "OnDelete" => return Vec::new(),
        "RollingUpdate" => {}
        other => {
            let shown = json!({"Type": other, "RollingUpdate": rolling});
            return vec![FieldError::not_supported(
                &at,
                shown,
                &["RollingUpdate", "OnDelete"],
            )];
        }
    }
    let (most_down, most_up) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
    let at = at.child("rollingUpdate");
    let (at_down, at_up) = (at.child("maxUnavailable"), at.child("maxSurge"));
    let mut errors = int_or_percent(most_down, &at_down);
    errors.extend(int_or_percent(most_up, &at_up));
    errors.extend(at_most_100_percent(most_down, &at_down));
    errors.extend(at_most_100_percent(most_up, &at_up));
    match (int_or_percent_value(most_down), int_or_percent_value(most_up)) {
        (0, 0) => errors.push(FieldError::required(&at_down, "cannot be 0 when maxSurge is 0")),
        (0, _) | (_, 0) => {}
        _ => errors.push(FieldError::invalid(
            &at_up,
            most_up.clone(),
            "may not be set when maxUnavailable is non-zero",
        )),
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn changes_of_the_template_are_counted() {
        let mut old = json!({"metadata": {}, "spec": {"template": {"spec": {"hostNetwork": true}}}});
        default(&mut old);
        assert_eq!(template_generation(&old), 0);
        set_template_generation(&mut old, 1);
        let mut new = old.clone();
        new["spec"]["revisionHistoryLimit"] = 3.into();
        (DAEMON_SET.prepare_update)(&mut new, &old);
        assert_eq!(template_generation(&new), 1);
        new["spec"]["template"]["spec"]["hostNetwork"] = false.into();
        (DAEMON_SET.prepare_update)(&mut new, &old);
        assert_eq!(template_generation(&new), 2);
    }

    #[test]
    fn one_of_surge_and_unavailability_is_wanted() {
        let cases = [
            (json!(1), json!(0), vec![]),
            (json!(0), json!("10%"), vec![]),
            (
                json!(0),
                json!("0%"),
                vec![
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
                ],
            ),
            (
                json!(1),
                json!(2),
                vec![
                    "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 2: may not be set when \
                    maxUnavailable is non-zero",
                ],
            ),
        ];
        for (down, up, expected) in cases {
            let strategy =
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": down, "maxSurge": up}});
            assert_eq!(told(&update_strategy(&strategy)), expected, "{strategy}");
        }
    }
}
