//! Which nodes a pod may run on, as far as it says so itself: demands on labels, and tolerations of taints.

/// What a taint of a node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taint<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its value; empty when it has none.
    pub value: &'a str,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: &'a str,
}

/// Which taints a pod does not mind. What is not said is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toleration<'a> {
    /// The key of those taints; empty for all.
    pub key: &'a str,
    /// `Exists`, or `Equal`, which is meant when it is empty.
    pub operator: &'a str,
    /// With `Equal`, the value of those taints.
    pub value: &'a str,
    /// The effect of those taints; empty for all.
    pub effect: &'a str,
}

impl Toleration<'_> {
    /// Whether it is for a taint. One with an operator that is not known is for none.
    pub fn tolerates(&self, taint: &Taint<'_>) -> bool {
        let is_for = |wanted: &str, there: &str| wanted.is_empty() || wanted == there;
        is_for(self.effect, taint.effect)
            && is_for(self.key, taint.key)
            && match self.operator {
                "Exists" => true,
                "" | "Equal" => self.value == taint.value,
                _ => false,
            }
    }
}

/// Whether a demand of node affinity holds of a label or field, which is `found` to be this or not to be there. `operator` is one
/// of `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt` and `Lt`; none else holds.
pub fn demand_holds(operator: &str, values: &[String], found: Option<&str>) -> bool {
    let listed = || found.is_some_and(|found| values.iter().any(|value| value == found));
    let compared = |is: fn(&i64, &i64) -> bool| {
        let number = |text: &str| text.parse::<i64>().ok();
        let wanted = values.first().and_then(|value| number(value));
        found
            .and_then(number)
            .zip(wanted)
            .is_some_and(|(found, wanted)| is(&found, &wanted))
    };
    match operator {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compared(i64::gt),
        "Lt" => compared(i64::lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_are_for_taints() {
        let taint = Taint {
            key: "k",
            value: "v",
            effect: "NoSchedule",
        };
        // Key, operator, value, effect; whether it is for the taint.
        for (key, operator, value, effect, expected) in [
            ("", "Exists", "", "", true),
            ("k", "Exists", "", "NoSchedule", true),
            ("k", "Exists", "", "NoExecute", false),
            ("l", "Exists", "", "", false),
            ("k", "", "v", "", true),
            ("k", "Equal", "v", "NoSchedule", true),
            ("k", "Equal", "w", "", false),
            ("k", "Lt", "v", "", false),
        ] {
            let toleration = Toleration {
                key,
                operator,
                value,
                effect,
            };
            assert_eq!(toleration.tolerates(&taint), expected, "{toleration:?}");
        }
    }

    #[test]
    fn demands_hold_or_not() {
        for (operator, values, found, expected) in [
            ("In", &["a", "b"][..], Some("a"), true),
            ("In", &["a"], Some("c"), false),
            ("In", &["a"], None, false),
            ("NotIn", &["a"], Some("a"), false),
            ("NotIn", &["a"], None, true),
            ("Exists", &[], Some(""), true),
            ("Exists", &[], None, false),
            ("DoesNotExist", &[], Some(""), false),
            ("DoesNotExist", &[], None, true),
            ("Gt", &["4"], Some("5"), true),
            ("Gt", &["5"], Some("5"), false),
            ("Lt", &["5"], Some("5"), false),
            ("Lt", &["5"], Some("-6"), true),
            ("Lt", &["5"], Some("four"), false),
            ("Lt", &["5"], None, false),
            ("Is", &["a"], Some("a"), false),
        ] {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            let holds = demand_holds(operator, &values, found);
            assert_eq!(holds, expected, "{operator} {values:?} {found:?}");
        }
    }
}
