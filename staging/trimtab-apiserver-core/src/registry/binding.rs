//! `pods/binding`, and `bindings`, the old way: a pod is given its node.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{ApiError, FieldError, FieldPath, GroupKind, GroupResource};

use super::hooks::Operation;
use super::options::WriteOptions;
use super::update::Change;
use super::{Answer, Call, meta, yaml};

struct Bind {
    binding: Value,
    node: String,
    now: String,
}

impl Change for Bind {
    fn apply(&self, current: Option<&Value>, _: &mut Vec<String>) -> Result<Value, ApiError> {
        let mut pod = current.cloned().unwrap_or_default();
        let name = meta::name(&pod).to_owned();
        let conflict = |why: String| ApiError::conflict(&GroupResource::new("", "pods/binding"), &name, why);
        if meta::is_deleting(&pod) {
            return Err(conflict(format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            )));
        }
        if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
            return Err(conflict(format!(
                "pod {name} is already assigned to node {node:?}"
            )));
        }
        if pod["spec"]["schedulingGates"]
            .as_array()
            .is_some_and(|gates| !gates.is_empty())
        {
            return Err(conflict(format!(
                "pod {name} has non-empty .spec.schedulingGates"
            )));
        }
        pod["spec"]["nodeName"] = self.node.as_str().into();
        for part in ["annotations", "labels"] {
            for (key, value) in self.binding["metadata"][part].as_object().into_iter().flatten() {
                pod["metadata"][part][key.as_str()] = value.clone();
            }
        }
        let scheduled = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": self.now});
        match &mut pod["status"]["conditions"] {
            Value::Array(all) => {
                all.retain(|c| c["type"] != "PodScheduled");
                all.push(scheduled);
            }
            none => *none = json!([scheduled]),
        }
        Ok(pod)
    }

    fn tracks(&self) -> bool {
        // A binding owns no fields.
        true
    }

    fn is_admitted(&self) -> bool {
        true
    }
}

impl Call<'_> {
    /// POST to `pods/binding`.
    pub(super) async fn bind(&mut self) -> Result<Answer, ApiError> {
        let options = WriteOptions::read(&self.request, "CreateOptions")?;
        let mut binding = self.read_binding()?;
        if meta::name(&binding) != self.name() {
            return Err(ApiError::bad_request(
                "name in URL does not match name in Binding object",
            ));
        }
        let node = self.admit_binding(&mut binding, &options).await?;
        self.give_node(binding, node, &options).await
    }

    /// POST to `bindings`: the pod is named by the object alone.
    pub(super) async fn bind_named(&mut self) -> Result<Answer, ApiError> {
        let options = WriteOptions::read(&self.request, "CreateOptions")?;
        let mut binding = self.read_binding()?;
        let mut request = self.request.clone();
        meta::name(&binding).clone_into(&mut request.info.name);
        if request.info.name.is_empty() {
            return Err(ApiError::bad_request("Name parameter required."));
        }
        request.info.resource = "pods".to_owned();
        request.info.subresource = "binding".to_owned();
        let node = self.admit_binding(&mut binding, &options).await?;
        let pods = self.registry.resources.get("", "v1", "pods");
        let pods = pods.ok_or_else(ApiError::unknown_resource)?;
        let mut call = Call::new(self.registry, request, pods)?;
        call.give_node(binding, node, &options).await
    }

    fn read_binding(&self) -> Result<Value, ApiError> {
        let text = String::from_utf8_lossy(&self.request.body);
        let mut binding = yaml::to_value(&text).map_err(ApiError::bad_request)?;
        self.place(&mut binding)?;
        binding["kind"] = "Binding".into();
        binding["apiVersion"] = "v1".into();
        Ok(binding)
    }

    /// Has a binding admitted; answers the name of the node.
    async fn admit_binding(
        &mut self,
        binding: &mut Value,
        options: &WriteOptions,
    ) -> Result<String, ApiError> {
        let attributes = self.attributes(
            Operation::Create,
            meta::name(binding),
            options.dry_run,
            self.options("CreateOptions", options.dry_run),
        );
        let admission = self.hooks.admission.clone();
        admission
            .mutate(&attributes, binding, None, &mut self.warnings)
            .await?;
        let target = |field: &str| binding["target"][field].as_str().unwrap_or_default();
        let mut errors = Vec::new();
        let at = FieldPath::new("target");
        if !matches!(target("kind"), "" | "Node") {
            errors.push(FieldError::not_supported(
                &at.child("kind"),
                target("kind"),
                &["Node", "<empty>"],
            ));
        }
        if target("name").is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid(
                &GroupKind::new("", "Binding"),
                meta::name(binding),
                &errors,
            ));
        }
        let node = target("name").to_owned();
        admission
            .validate(&attributes, Some(binding), None, &mut self.warnings)
            .await?;
        Ok(node)
    }

    /// Gives the pod that the request names its node.
    async fn give_node(
        &mut self,
        binding: Value,
        node: String,
        options: &WriteOptions,
    ) -> Result<Answer, ApiError> {
        let change = Bind {
            node,
            now: self.timestamp(),
            binding,
        };
        self.change(&change, options).await?;
        Ok(Answer::Plain(201, created()))
    }
}

/// The `Status` that says that something has been done.
pub(super) fn created() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}
