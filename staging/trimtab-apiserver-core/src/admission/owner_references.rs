//! Owner references: who may have an object collected along with another, or have that wait for it.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use trimtab_apimachinery_meta::{ApiError, GroupVersion};
use trimtab_apiserver_auth::Attributes as Question;

use super::forbidden;
use crate::auth::Authorizer;
use crate::registry::ResourceTable;
use crate::registry::hooks::{Admission, Attributes, Operation};

/// Lets those change owner references who could delete the object, and have owners wait for it who may set the owner's
/// finalizers.
#[derive(Debug)]
pub struct OwnerPermissions {
    authorizer: Arc<dyn Authorizer>,
    resources: Arc<ResourceTable>,
}

impl OwnerPermissions {
    /// The plugin, which asks `authorizer` who may, about what `resources` has.
    pub fn new(authorizer: Arc<dyn Authorizer>, resources: Arc<ResourceTable>) -> Self {
        Self {
            authorizer,
            resources,
        }
    }

    /// Asks whether the user may; answers why not.
    fn may(&self, attributes: &Attributes, question: Question) -> Result<(), String> {
        let question = Question {
            is_resource: true,
            ..question
        };
        let decision = self.authorizer.authorize(&attributes.user, &question);
        if decision.allowed {
            Ok(())
        } else {
            // As kube-apiserver writes it: the reason, and that nothing went wrong.
            Err(format!("{}, <nil>", decision.reason))
        }
    }
}

fn owners(object: &Value) -> &[Value] {
    object["metadata"]["ownerReferences"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

#[async_trait]
impl Admission for OwnerPermissions {
    fn concerns(&self, attributes: &Attributes) -> bool {
        let resource = &attributes.resource;
        let of_pods = resource.group.is_empty() && resource.plural == "pods";
        matches!(attributes.operation, Operation::Create | Operation::Update)
            && !(of_pods && attributes.subresource == "status")
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let Some(object) = object else { return Ok(()) };
        let (new, before) = (owners(object), old.map_or(&[][..], owners));
        if new == before {
            return Ok(());
        }
        let refused = |why: String| Err(forbidden(attributes, Some(object), why));
        let resource = &attributes.resource;
        if attributes.operation != Operation::Create {
            let delete = Question {
                verb: "delete".to_owned(),
                namespace: attributes.namespace.clone(),
                group: resource.group.clone(),
                version: resource.version.clone(),
                resource: resource.plural.clone(),
                subresource: attributes.subresource.clone(),
                name: attributes.name.clone(),
                ..Question::default()
            };
            if let Err(why) = self.may(attributes, delete) {
                return refused(format!(
                    "cannot set an ownerRef on a resource you can't delete: {why}"
                ));
            }
        }
        let blocks = |owner: &Value| owner["blockOwnerDeletion"] == true;
        let blocked = |owner: &Value| before.iter().any(|b| b["uid"] == owner["uid"] && blocks(b));
        let blocking: Vec<&Value> = new.iter().filter(|o| blocks(o) && !blocked(o)).collect();
        if blocking.is_empty() {
            return Ok(());
        }
        let finalizers = Question {
            verb: "update".to_owned(),
            subresource: "finalizers".to_owned(),
            ..Question::default()
        };
        let everything = Question {
            group: "*".to_owned(),
            version: "*".to_owned(),
            resource: "*".to_owned(),
            name: "*".to_owned(),
            ..finalizers.clone()
        };
        if self.may(attributes, everything).is_ok() {
            return Ok(());
        }
        let resources = self.resources.snapshot();
        for owner in blocking {
            let text = |field: &str| owner[field].as_str().unwrap_or_default();
            let (version, kind) = (text("apiVersion"), text("kind"));
            let parsed: Option<GroupVersion> = version.parse().ok();
            let found = parsed
                .as_ref()
                .and_then(|gv| resources.by_kind(&gv.group, &gv.version, kind));
            let Some(found) = found else {
                return refused(format!(
                    "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {version} \
                     Kind {kind}: no matches for kind {kind:?} in version {version:?}"
                ));
            };
            let question = Question {
                group: found.group.clone(),
                version: found.version.clone(),
                resource: found.plural.clone(),
                name: text("name").to_owned(),
                namespace: if found.namespaced() {
                    attributes.namespace.clone()
                } else {
                    String::new()
                },
                ..finalizers.clone()
            };
            if let Err(why) = self.may(attributes, question) {
                return refused(format!(
                    "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers \
                     on: {why}"
                ));
            }
        }
        Ok(())
    }
}
