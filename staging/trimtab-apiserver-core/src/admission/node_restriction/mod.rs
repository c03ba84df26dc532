//! Node restriction: a kubelet changes its own node, the pods on it, and what belongs to those.

mod labels;
mod references;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use trimtab_apimachinery_meta::{ApiError, GroupResource};
use trimtab_apiserver_auth::{Attributes as Question, UserInfo};

use super::certificates::subject;
use super::{Reader, forbidden};
use crate::auth::Authorizer;
use crate::registry::hooks::{Admission, Attributes, Operation};
use crate::registry::meta;

const NODES_GROUP: &str = "system:nodes";
const NODE_USER: &str = "system:node:";
const LEASES: &str = "kube-node-lease";
const MIRROR: &str = "kubernetes.io/config.mirror";
const KUBELET_SIGNERS: [&str; 2] = [
    "kubernetes.io/kubelet-serving",
    "kubernetes.io/kube-apiserver-client-kubelet",
];

/// Restricts kubelets to what is theirs. Kubelets are the users `system:node:NAME` of the group `system:nodes`.
#[derive(Debug)]
pub struct NodeRestriction {
    reader: Arc<dyn Reader>,
    authorizer: Arc<dyn Authorizer>,
}

/// What a kubelet asks for.
struct Request<'a> {
    node: &'a str,
    attributes: &'a Attributes,
    object: &'a Value,
    old: &'a Value,
}

/// The node that a user is the kubelet of.
fn node_of(user: &UserInfo) -> Option<&str> {
    let node = user.name.strip_prefix(NODE_USER)?;
    user.is_in(NODES_GROUP).then_some(node)
}

impl NodeRestriction {
    /// The plugin, which finds pods, nodes and volumes by `reader`, and asks `authorizer` who may have tokens for which
    /// audiences.
    pub fn new(reader: Arc<dyn Reader>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { reader, authorizer }
    }

    async fn check(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        let Some(node) = node_of(&attributes.user) else {
            return Ok(());
        };
        let request = Request {
            node,
            attributes,
            object: object.unwrap_or(&Value::Null),
            old: old.unwrap_or(&Value::Null),
        };
        if node.is_empty() {
            let user = &attributes.user.name;
            return request.refuse(format!("could not determine node from user {user:?}"));
        }
        let resource = &attributes.resource;
        let below = attributes.subresource.as_str();
        match (resource.group.as_str(), resource.plural.as_str()) {
            ("", "pods") => match below {
                "" => self.pod(&request).await,
                "status" => request.pod_status(),
                "eviction" => self.eviction(&request).await,
                _ => request.refuse(format!(
                    "unexpected pod subresource {below:?}, only 'status' and 'eviction' are allowed"
                )),
            },
            ("", "nodes") => request.node(),
            ("", "persistentvolumeclaims") if below == "status" => request.claim_status(),
            ("", "persistentvolumeclaims") => request.refuse("may only update PVC status"),
            ("", "serviceaccounts") if below == "token" => self.token(&request).await,
            ("coordination.k8s.io", "leases") => request.lease(),
            ("storage.k8s.io", "csinodes") => request.own("CSINode"),
            ("resource.k8s.io", "resourceslices") => request.slice(),
            ("certificates.k8s.io", "certificatesigningrequests") => request.certificate(),
            _ => Ok(()),
        }
    }

    async fn existing(&self, plural: &str, namespace: &str, name: &str) -> Result<Value, ApiError> {
        let found = self.reader.get("", plural, namespace, name).await?;
        found.ok_or_else(|| ApiError::not_found(&GroupResource::new("", plural), name))
    }

    async fn pod(&self, request: &Request<'_>) -> Result<(), ApiError> {
        let (node, operation) = (request.node, request.attributes.operation);
        match operation {
            Operation::Create => self.new_pod(request).await,
            Operation::Delete if !request.runs(request.old) => request.refuse(format!(
                "node {node:?} can only delete pods with spec.nodeName set to itself"
            )),
            Operation::Delete => Ok(()),
            _ => request.refuse(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                operation.as_str()
            )),
        }
    }

    async fn new_pod(&self, request: &Request<'_>) -> Result<(), ApiError> {
        let (node, pod) = (request.node, request.object);
        if pod["metadata"]["annotations"][MIRROR].is_null() {
            return request.refuse(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        if !request.runs(pod) {
            return request.refuse(format!(
                "node {node:?} can only create pods with spec.nodeName set to itself"
            ));
        }
        let owners = pod["metadata"]["ownerReferences"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let [owner] = owners else {
            let what = if owners.is_empty() { "an" } else { "a single" };
            return request.refuse(format!(
                "node {node:?} can only create pods with {what} owner reference set to itself"
            ));
        };
        if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
            return request.refuse(format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            ));
        }
        if owner["controller"] != true {
            return request.refuse(format!(
                "node {node:?} can only create pods with a controller owner reference set to itself"
            ));
        }
        if owner["blockOwnerDeletion"] == true {
            return request.refuse(format!(
                "node {node:?} must not set blockOwnerDeletion on an owner reference"
            ));
        }
        let stored = self.existing("nodes", "", node).await?;
        let (wanted, found) = (
            owner["uid"].as_str().unwrap_or_default(),
            meta::text(&stored, "uid"),
        );
        if wanted != found {
            return request.refuse(format!("node {node} UID mismatch: expected {wanted} got {found}"));
        }
        match references::of_pod(pod) {
            Err(why) => request.refuse(format!("error checking mirror pod for API references: {why}")),
            Ok(Some(what)) => {
                request.refuse(format!("node {node:?} can not create pods that reference {what}"))
            }
            Ok(None) => Ok(()),
        }
    }

    async fn eviction(&self, request: &Request<'_>) -> Result<(), ApiError> {
        let (node, attributes) = (request.node, request.attributes);
        if attributes.operation != Operation::Create {
            let operation = attributes.operation.as_str();
            return request.refuse(format!("unexpected operation {operation}"));
        }
        let name = if attributes.name.is_empty() {
            meta::name(request.object)
        } else {
            attributes.name.as_str()
        };
        if name.is_empty() {
            return request.refuse("could not determine pod from request data");
        }
        let pod = self.existing("pods", &attributes.namespace, name).await?;
        if request.runs(&pod) {
            return Ok(());
        }
        request.refuse(format!(
            "node {node} can only evict pods with spec.nodeName set to itself"
        ))
    }

    /// Tokens are for pods on the node, and for audiences that those pods have volumes for.
    async fn token(&self, request: &Request<'_>) -> Result<(), ApiError> {
        if request.attributes.operation != Operation::Create {
            return Ok(());
        }
        let bound = &request.object["spec"]["boundObjectRef"];
        let text = |field: &str| bound[field].as_str().unwrap_or_default();
        if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
            return request.refuse("node requested token not bound to a pod");
        }
        let uid = text("uid");
        if uid.is_empty() {
            return request.refuse("node requested token with a pod binding without a uid");
        }
        let namespace = &request.attributes.namespace;
        let pod = self.existing("pods", namespace, text("name")).await?;
        if meta::text(&pod, "uid") != uid {
            return request.refuse(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            ));
        }
        if !request.runs(&pod) {
            return request.refuse("node requested token bound to a pod scheduled on a different node");
        }
        let audiences = request.object["spec"]["audiences"].as_array();
        let audience = match audiences.map_or(&[][..], Vec::as_slice) {
            [] => "",
            [one] => one.as_str().unwrap_or_default(),
            _ => return request.refuse("node may only request 0 or 1 audiences"),
        };
        if self.has_volume_for(&pod, audience).await? {
            return Ok(());
        }
        let user = &request.attributes.user;
        let question = Question {
            verb: "request-serviceaccounts-token-audience".to_owned(),
            namespace: namespace.clone(),
            version: "v1".to_owned(),
            resource: audience.to_owned(),
            name: request.attributes.name.clone(),
            is_resource: true,
            ..Question::default()
        };
        if self.authorizer.authorize(user, &question).allowed {
            return Ok(());
        }
        request.refuse(format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            user.name
        ))
    }

    /// Whether a pod has a volume in which there is a token for an audience, or whose driver wants one.
    async fn has_volume_for(&self, pod: &Value, audience: &str) -> Result<bool, ApiError> {
        let namespace = meta::namespace(pod);
        for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
            let sources = volume["projected"]["sources"].as_array();
            let is_for = |source: &Value| {
                let token = &source["serviceAccountToken"];
                token.is_object() && token["audience"].as_str().unwrap_or_default() == audience
            };
            if sources.into_iter().flatten().any(is_for) {
                return Ok(true);
            }
            let driver = if volume["ephemeral"]["volumeClaimTemplate"].is_object() {
                let volume = volume["name"].as_str().unwrap_or_default();
                let claim = format!("{}-{volume}", meta::name(pod));
                self.driver_of(namespace, &claim).await?
            } else if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
                self.driver_of(namespace, claim).await?
            } else {
                volume["csi"]["driver"].as_str().map(str::to_owned)
            };
            let Some(driver) = driver else { continue };
            let driver = self
                .reader
                .get("storage.k8s.io", "csidrivers", "", &driver)
                .await?;
            let wanted = driver
                .as_ref()
                .and_then(|d| d["spec"]["tokenRequests"].as_array());
            let is_for = |r: &Value| r["audience"].as_str().unwrap_or_default() == audience;
            if wanted.into_iter().flatten().any(is_for) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The driver of the volume that a claim is bound to.
    async fn driver_of(&self, namespace: &str, claim: &str) -> Result<Option<String>, ApiError> {
        let claim = self
            .reader
            .get("", "persistentvolumeclaims", namespace, claim)
            .await?;
        let name = claim
            .as_ref()
            .and_then(|claim| claim["spec"]["volumeName"].as_str());
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let volume = self.reader.get("", "persistentvolumes", "", name).await?;
        let driver = volume.as_ref().and_then(|v| v["spec"]["csi"]["driver"].as_str());
        Ok(driver.map(str::to_owned))
    }
}

#[async_trait]
impl Admission for NodeRestriction {
    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.operation != Operation::Connect && node_of(&attributes.user).is_some()
    }

    async fn mutate(
        &self,
        attributes: &Attributes,
        object: &mut Value,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        self.check(attributes, Some(object), old).await
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        // What is made or changed has been looked at before others could change it.
        if attributes.operation == Operation::Delete {
            self.check(attributes, object, old).await
        } else {
            Ok(())
        }
    }
}

// === impl Request ===

impl Request<'_> {
    fn refuse(&self, why: impl std::fmt::Display) -> Result<(), ApiError> {
        let object = if self.object.is_null() {
            self.old
        } else {
            self.object
        };
        Err(forbidden(self.attributes, Some(object), why))
    }

    /// Whether a pod runs on the node.
    fn runs(&self, pod: &Value) -> bool {
        pod["spec"]["nodeName"] == self.node
    }

    fn pod_status(&self) -> Result<(), ApiError> {
        let (node, operation) = (self.node, self.attributes.operation);
        if operation != Operation::Update {
            return self.refuse(format!("unexpected operation {:?}", operation.as_str()));
        }
        if !self.runs(self.old) {
            return self.refuse(format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            ));
        }
        let none = Value::Object(serde_json::Map::new());
        let labels = |pod: &Value| match &pod["metadata"]["labels"] {
            Value::Null => none.clone(),
            labels => labels.clone(),
        };
        if labels(self.old) != labels(self.object) {
            return self.refuse(format!("node {node:?} cannot update labels through pod status"));
        }
        let claims = |pod: &Value| -> Vec<(Value, Value)> {
            let claims = pod["status"]["resourceClaimStatuses"].as_array();
            let claims = claims.into_iter().flatten();
            claims
                .map(|claim| (claim["name"].clone(), claim["resourceClaimName"].clone()))
                .collect()
        };
        if claims(self.old) != claims(self.object) {
            return self.refuse(format!("node {node:?} cannot update resource claim statues"));
        }
        let extended = |pod: &Value| pod["status"]["extendedResourceClaimStatus"].clone();
        if extended(self.old) != extended(self.object) {
            return self.refuse(format!(
                "node {node:?} cannot update extended resource claim status"
            ));
        }
        Ok(())
    }

    fn node(&self) -> Result<(), ApiError> {
        let (node, attributes) = (self.node, self.attributes);
        let asked = attributes.name.as_str();
        if asked != node {
            return self.refuse(format!("node {node:?} is not allowed to modify node {asked:?}"));
        }
        let config = |node: &Value| node["spec"]["configSource"].clone();
        match attributes.operation {
            Operation::Create => {
                if !config(self.object).is_null() {
                    return self.refuse(format!(
                        "node {node:?} is not allowed to create pods with a non-nil configSource"
                    ));
                }
                let labels = labels::forbidden(self.object, &Value::Null);
                if !labels.is_empty() {
                    return self.refuse(format!(
                        "node {node:?} is not allowed to set the following labels: {}",
                        labels.join(", ")
                    ));
                }
            }
            Operation::Update => {
                if !config(self.object).is_null() && config(self.object) != config(self.old) {
                    return self.refuse(format!(
                        "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                    ));
                }
                let list = |node: &Value, at: &str| {
                    let list = node.pointer(at).and_then(Value::as_array);
                    list.cloned().unwrap_or_default()
                };
                for (at, what) in [
                    ("/spec/taints", "taints"),
                    ("/metadata/ownerReferences", "ownerReferences"),
                ] {
                    if list(self.object, at) != list(self.old, at) {
                        return self.refuse(format!("node {node:?} is not allowed to modify {what}"));
                    }
                }
                let labels = labels::forbidden(self.object, self.old);
                if !labels.is_empty() {
                    let labels = labels.join(", ");
                    return self.refuse(format!("is not allowed to modify labels: {labels}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn claim_status(&self) -> Result<(), ApiError> {
        let operation = self.attributes.operation;
        if operation != Operation::Update {
            return self.refuse(format!("unexpected operation {:?}", operation.as_str()));
        }
        let rest = |claim: &Value| {
            let mut claim = claim.clone();
            for (part, fields) in [
                ("metadata", &["resourceVersion", "managedFields"][..]),
                (
                    "status",
                    &[
                        "capacity",
                        "conditions",
                        "allocatedResources",
                        "allocatedResourceStatuses",
                    ],
                ),
            ] {
                let of = claim.get_mut(part).and_then(Value::as_object_mut);
                if let Some(of) = of {
                    fields.iter().for_each(|field| drop(of.remove(*field)));
                }
            }
            claim
        };
        if rest(self.object) == rest(self.old) {
            return Ok(());
        }
        self.refuse(format!(
            "node {:?} is not allowed to update fields other than status.quantity and status.conditions",
            self.node
        ))
    }

    fn lease(&self) -> Result<(), ApiError> {
        if self.attributes.namespace != LEASES {
            return self.refuse(format!(
                "can only access leases in the {LEASES:?} system namespace"
            ));
        }
        self.own("node lease")
    }

    /// What is called like the node is the node's.
    fn own(&self, what: &str) -> Result<(), ApiError> {
        let name = match self.attributes.operation {
            Operation::Create => meta::name(self.object),
            _ => self.attributes.name.as_str(),
        };
        if name == self.node {
            return Ok(());
        }
        self.refuse(format!(
            "can only access {what} with the same name as the requesting node"
        ))
    }

    fn slice(&self) -> Result<(), ApiError> {
        let (slice, what) = match self.attributes.operation {
            Operation::Create => (self.object, "create"),
            Operation::Delete => (self.old, "delete"),
            _ => return Ok(()),
        };
        if self.runs(slice) {
            return Ok(());
        }
        self.refuse(format!(
            "can only {what} ResourceSlice with the same NodeName as the requesting node"
        ))
    }

    fn certificate(&self) -> Result<(), ApiError> {
        let signer = self.object["spec"]["signerName"].as_str().unwrap_or_default();
        if self.attributes.operation != Operation::Create || !KUBELET_SIGNERS.contains(&signer) {
            return Ok(());
        }
        let node = self.node;
        match subject(self.object) {
            Err(why) => self.refuse(format!("unable to parse csr: {why}")),
            Ok(subject) if subject.common_name != format!("{NODE_USER}{node}") => {
                self.refuse(format!("can only create a node CSR with CN={NODE_USER}{node}"))
            }
            Ok(_) => Ok(()),
        }
    }
}
