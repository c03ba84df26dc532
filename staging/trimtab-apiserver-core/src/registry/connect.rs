//! Subresources that reach through an object to something that runs: logs, exec, port forwarding, proxies.
//!
//! Nothing runs behind this server, so all that can be said is why not: after admission has had its say.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{ApiError, StatusReason};

use super::hooks::Operation;
use super::{Answer, Call, options};

/// Options that are flags, and whether they hold when nothing is said.
const STREAMS: [(&str, bool); 4] = [
    ("stdin", false),
    ("stdout", true),
    ("stderr", true),
    ("tty", false),
];

impl Call<'_> {
    /// Any request to one of these subresources.
    pub(super) async fn connect(&mut self) -> Result<Answer, ApiError> {
        if self.request.info.subresource != "log" {
            self.admit_connection().await?;
        }
        let name = self.name();
        let stored = self.stored(name).await?;
        let object = stored.ok_or_else(|| self.not_found(name))?.object;
        let subresource = self.request.info.subresource.as_str();
        let scheduled = object["spec"]["nodeName"]
            .as_str()
            .is_some_and(|node| !node.is_empty());
        if self.resource.plural == "pods" && !scheduled {
            return match subresource {
                // A pod that has not been scheduled has no output yet.
                "log" => Ok(Answer::Plain(204, Value::Null)),
                _ => Err(ApiError::bad_request(format!(
                    "pod {name} does not have a host assigned"
                ))),
            };
        }
        let what = format!(
            "{}/{subresource} is not implemented: no kubelet runs behind this server",
            self.resource.plural
        );
        Err(ApiError::new(
            501,
            StatusReason::Other("NotImplemented".to_owned()),
            what,
        ))
    }

    async fn admit_connection(&mut self) -> Result<(), ApiError> {
        if self.request.param("dryRun").is_some_and(|v| !v.is_empty()) {
            return Err(ApiError::bad_request("dryRun is not supported"));
        }
        let attributes = self.attributes(Operation::Connect, self.name(), false, Value::Null);
        let mut options = self.connection_options()?;
        self.admit(&attributes, &mut options).await
    }

    /// The request's options as an object: `PodExecOptions` and its like.
    fn connection_options(&self) -> Result<Value, ApiError> {
        let info = &self.request.info;
        let kind = self.resource.subresource(&info.subresource).map(|s| &s.gvk.kind);
        let mut object = json!({"kind": kind, "apiVersion": "v1"});
        let values = |name| {
            let given = options::query_values(&self.request, name);
            given.map(str::to_owned).collect::<Vec<_>>()
        };
        match info.subresource.as_str() {
            "attach" | "exec" => {
                for (name, usual) in STREAMS {
                    if options::flag(&self.request, name).unwrap_or(usual) {
                        object[name] = true.into();
                    }
                }
                if let Some(container) = self.request.param("container") {
                    object["container"] = container.into();
                }
                if info.subresource == "exec" {
                    object["command"] = json!(values("command"));
                }
            }
            "portforward" => {
                let ports = values("ports");
                let ports = ports.iter().flat_map(|list| list.split(','));
                let ports: Result<Vec<i32>, _> = ports.map(str::parse).collect();
                let ports = ports.map_err(|error| ApiError::bad_request(format!("ports: {error}")))?;
                if !ports.is_empty() {
                    object["ports"] = json!(ports);
                }
            }
            _ => {
                let before = format!("/{}/proxy", info.name);
                let below = info.path.split_once(&before).map_or("", |(_, below)| below);
                if !below.is_empty() {
                    object["path"] = below.into();
                }
            }
        }
        Ok(object)
    }
}
