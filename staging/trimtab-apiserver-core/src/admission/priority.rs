//! Priorities: a pod's priority comes from its priority class, and from nowhere else.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;

use super::{Reader, forbidden, is};
use crate::registry::hooks::{Admission, Attributes, Operation};

const GROUP: &str = "scheduling.k8s.io";
/// The classes that are there without having been made, and their priorities.
const SYSTEM: [(&str, i64); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];
const PREEMPT: &str = "PreemptLowerPriority";

/// Resolves the priority of new pods, and keeps at most one priority class the default.
#[derive(Debug)]
pub struct Priority {
    reader: Arc<dyn Reader>,
}

/// What a class says of its pods.
struct Class {
    name: String,
    value: i64,
    preemption: String,
}

impl Class {
    fn of(object: &Value) -> Self {
        Self {
            name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            value: object["value"].as_i64().unwrap_or_default(),
            preemption: object["preemptionPolicy"].as_str().unwrap_or(PREEMPT).to_owned(),
        }
    }
}

impl Priority {
    /// The plugin, which finds priority classes by `reader`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader }
    }

    /// The default class: of several the lowest.
    async fn default_class(&self) -> Result<Option<Class>, ApiError> {
        let classes = self.reader.list(GROUP, "priorityclasses", "").await?;
        let defaults = classes
            .iter()
            .filter(|c| c["globalDefault"] == true)
            .map(Class::of);
        Ok(defaults.min_by_key(|class| class.value))
    }

    async fn class(&self, name: &str) -> Result<Option<Class>, ApiError> {
        if let Some(object) = self.reader.get(GROUP, "priorityclasses", "", name).await? {
            return Ok(Some(Class::of(&object)));
        }
        let system = SYSTEM.into_iter().find(|(system, _)| *system == name);
        Ok(system.map(|(name, value)| Class {
            name: name.to_owned(),
            value,
            preemption: PREEMPT.to_owned(),
        }))
    }

    async fn admit_pod(&self, attributes: &Attributes, pod: &mut Value) -> Result<(), ApiError> {
        let name = pod["spec"]["priorityClassName"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let class = if name.is_empty() {
            let none = Class {
                name: String::new(),
                value: 0,
                preemption: PREEMPT.to_owned(),
            };
            self.default_class().await?.unwrap_or(none)
        } else {
            let why = || {
                forbidden(
                    attributes,
                    Some(pod),
                    format!("no PriorityClass with name {name} was found"),
                )
            };
            self.class(&name).await?.ok_or_else(why)?
        };
        let spec = &pod["spec"];
        if let Some(given) = spec["priority"].as_i64().filter(|given| *given != class.value) {
            let why = format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
                 controller computed {} from the given PriorityClass name",
                class.value
            );
            return Err(forbidden(attributes, Some(pod), why));
        }
        if let Some(given) = spec["preemptionPolicy"]
            .as_str()
            .filter(|given| *given != class.preemption)
        {
            let why = format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
                 controller computed {} from the given PriorityClass name",
                class.preemption
            );
            return Err(forbidden(attributes, Some(pod), why));
        }
        let spec = &mut pod["spec"];
        if !class.name.is_empty() {
            spec["priorityClassName"] = json!(class.name);
        }
        spec["priority"] = json!(class.value);
        spec["preemptionPolicy"] = json!(class.preemption);
        Ok(())
    }
}

#[async_trait]
impl Admission for Priority {
    fn concerns(&self, attributes: &Attributes) -> bool {
        is(attributes, "", "pods") || is(attributes, GROUP, "priorityclasses")
    }

    async fn mutate(
        &self,
        attributes: &Attributes,
        pod: &mut Value,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        if !is(attributes, "", "pods") || !pod["spec"].is_object() {
            return Ok(());
        }
        if attributes.operation == Operation::Create {
            return self.admit_pod(attributes, pod).await;
        }
        // An update that says nothing keeps what was filled in.
        for field in ["priority", "preemptionPolicy"] {
            let before = old.map_or(&Value::Null, |old| &old["spec"][field]);
            if pod["spec"].get(field).is_none_or(Value::is_null) && !before.is_null() {
                pod["spec"][field] = before.clone();
            }
        }
        Ok(())
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let Some(class) = object.filter(|_| is(attributes, GROUP, "priorityclasses")) else {
            return Ok(());
        };
        if class["globalDefault"] != true {
            return Ok(());
        }
        match self.default_class().await? {
            Some(other) if other.name != attributes.name => {
                let why = format!(
                    "PriorityClass {} is already marked as default. Only one default can exist",
                    other.name
                );
                Err(forbidden(attributes, object, why))
            }
            _ => Ok(()),
        }
    }
}
