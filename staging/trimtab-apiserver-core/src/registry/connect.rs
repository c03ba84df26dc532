//! Subresources that reach through an object to something that runs: logs, exec, port forwarding, proxies.
//!
//! Nothing runs behind this server, so all that can be said is why not.

use serde_json::Value;
use trimtab_apimachinery_meta::{ApiError, StatusReason};

use super::{Answer, Call, storage};

impl Call<'_> {
    /// Any request to one of these subresources.
    pub(super) async fn connect(&mut self) -> Result<Answer, ApiError> {
        let name = self.name();
        let stored = storage::get(self.store(), &self.resource, &self.key(name)).await?;
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
}
