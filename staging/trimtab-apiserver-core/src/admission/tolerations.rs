//! Tolerations: a pod stays five minutes on a node that is not ready or cannot be reached; and how tolerations are put
//! together.

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;

use super::is;
use crate::registry::hooks::{Admission, Attributes};

/// How long a pod tolerates the loss of its node, in seconds.
const SECONDS: u64 = 300;
const NODE_LOSS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Adds tolerations of node loss to pods that say nothing about it.
#[derive(Clone, Copy, Debug)]
pub struct DefaultTolerations;

#[async_trait]
impl Admission for DefaultTolerations {
    fn concerns(&self, attributes: &Attributes) -> bool {
        is(attributes, "", "pods")
    }

    async fn mutate(
        &self,
        _: &Attributes,
        pod: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
            return Ok(());
        };
        let mut tolerations = spec
            .get("tolerations")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let of = |toleration: &Value, field: &str| toleration[field].as_str().unwrap_or_default().to_owned();
        let tolerated = |taint: &str| {
            tolerations.iter().any(|t| {
                let (key, effect) = (of(t, "key"), of(t, "effect"));
                (key == taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
            })
        };
        let missing: Vec<_> = NODE_LOSS.into_iter().filter(|taint| !tolerated(taint)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        tolerations.extend(missing.into_iter().map(
            |key| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}),
        ));
        spec.insert("tolerations".to_owned(), Value::Array(tolerations));
        Ok(())
    }
}

/// Tolerations without those that others cover; of equal ones the first.
pub(super) fn merge(all: &[Value]) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::new();
    for (n, toleration) in all.iter().enumerate() {
        let before = merged.iter().any(|other| covers(other, toleration));
        let after = all[n + 1..]
            .iter()
            .any(|other| other != toleration && covers(other, toleration));
        if !before && !after {
            merged.push(toleration.clone());
        }
    }
    merged
}

/// Whether one toleration tolerates all that another does.
pub(super) fn covers(wide: &Value, narrow: &Value) -> bool {
    let of = |toleration: &Value, field: &str| toleration[field].as_str().unwrap_or_default().to_owned();
    let (key, operator, effect) = (of(wide, "key"), of(wide, "operator"), of(wide, "effect"));
    if wide == narrow {
        return true;
    }
    if of(narrow, "key") != key && !(key.is_empty() && operator == "Exists") {
        return false;
    }
    if of(narrow, "effect") != effect && !effect.is_empty() {
        return false;
    }
    let seconds = |toleration: &Value| toleration["tolerationSeconds"].as_i64();
    if effect == "NoExecute"
        && let Some(most) = seconds(wide)
        && seconds(narrow).is_none_or(|seconds| seconds > most)
    {
        return false;
    }
    match operator.as_str() {
        "Exists" => true,
        "Equal" | "" => of(narrow, "operator") == "Equal" && of(narrow, "value") == of(wide, "value"),
        _ => false,
    }
}
