//! Certificate requests: who may approve them, who may sign them, and what nobody may ask for.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_auth::user::MASTERS_GROUP;
use trimtab_apiserver_auth::x509::{RequestedSubject, requested_subject};
use trimtab_apiserver_auth::{Attributes as Question, UserInfo};

use super::{creates, forbidden};
use crate::auth::Authorizer;
use crate::registry::hooks::{Admission, Attributes, Operation};

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Whether the request changes this subresource of a certificate request.
fn changes(attributes: &Attributes, subresource: &str) -> bool {
    attributes.operation == Operation::Update
        && attributes.subresource == subresource
        && attributes.resource.group == GROUP
        && attributes.resource.plural == "certificatesigningrequests"
}

/// Whether a user may do something with all requests to a signer, or to all signers of its domain.
fn may(authorizer: &dyn Authorizer, user: &UserInfo, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    [signer.to_owned(), format!("{domain}/*")]
        .into_iter()
        .any(|name| {
            let question = Question {
                verb: verb.to_owned(),
                group: GROUP.to_owned(),
                version: "*".to_owned(),
                resource: "signers".to_owned(),
                name,
                is_resource: true,
                ..Question::default()
            };
            authorizer.authorize(user, &question).allowed
        })
}

fn signer(request: &Value) -> &str {
    request["spec"]["signerName"].as_str().unwrap_or_default()
}

/// What the request for a certificate asks for in its name.
pub(super) fn subject(request: &Value) -> Result<RequestedSubject, String> {
    let text = request["spec"]["request"].as_str().unwrap_or_default();
    let pem = STANDARD.decode(text).map_err(|e| e.to_string())?;
    requested_subject(&pem).map_err(|e| e.to_string())
}

/// Lets those approve or deny who may do so for the request's signer.
#[derive(Debug)]
pub struct CertificateApproval {
    authorizer: Arc<dyn Authorizer>,
}

impl CertificateApproval {
    /// The plugin, which asks `authorizer` who may.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }
}

#[async_trait]
impl Admission for CertificateApproval {
    fn concerns(&self, attributes: &Attributes) -> bool {
        changes(attributes, "approval")
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let signer = old.map(signer).unwrap_or_default();
        if may(&*self.authorizer, &attributes.user, "approve", signer) {
            return Ok(());
        }
        let why = format!("user not permitted to approve requests with signerName {signer:?}");
        Err(forbidden(attributes, object, why))
    }
}

/// Lets those issue certificates, or say that they cannot, who may sign for the request's signer.
#[derive(Debug)]
pub struct CertificateSigning {
    authorizer: Arc<dyn Authorizer>,
}

impl CertificateSigning {
    /// The plugin, which asks `authorizer` who may.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }
}

#[async_trait]
impl Admission for CertificateSigning {
    fn concerns(&self, attributes: &Attributes) -> bool {
        changes(attributes, "status")
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let Some((new, old)) = object.zip(old) else {
            return Ok(());
        };
        let conditions = |request: &Value| {
            let conditions = request["status"]["conditions"].as_array();
            conditions.cloned().unwrap_or_default()
        };
        let same = new["status"]["certificate"] == old["status"]["certificate"]
            && conditions(new) == conditions(old);
        if same || may(&*self.authorizer, &attributes.user, "sign", signer(old)) {
            return Ok(());
        }
        let why = format!(
            "user not permitted to sign requests with signerName {:?}",
            signer(old)
        );
        Err(forbidden(attributes, object, why))
    }
}

/// Refuses requests for client certificates of `system:masters`, who may do everything.
#[derive(Clone, Copy, Debug)]
pub struct CertificateSubject;

#[async_trait]
impl Admission for CertificateSubject {
    fn concerns(&self, attributes: &Attributes) -> bool {
        creates(attributes, GROUP, "certificatesigningrequests")
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        request: Option<&Value>,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let Some(request) = request.filter(|request| signer(request) == CLIENT_SIGNER) else {
            return Ok(());
        };
        let refused = |why: String| Err(forbidden(attributes, Some(request), why));
        match subject(request) {
            Err(why) => refused(format!("failed to parse CSR: {why}")),
            Ok(subject) if subject.organizations.iter().any(|o| o == MASTERS_GROUP) => refused(format!(
                "use of {CLIENT_SIGNER} signer with {MASTERS_GROUP} group is not allowed"
            )),
            Ok(_) => Ok(()),
        }
    }
}
