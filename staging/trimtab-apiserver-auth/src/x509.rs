//! Client certificates: who they say their holder is, and who requests for them would have it be. That certificates are
//! genuine is TLS's business.

use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::UserInfo;

/// A certificate that names no user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The bytes are not an X.509 certificate.
    #[error("the client certificate cannot be read: {0}")]
    Unreadable(String),
    /// The subject has no common name.
    #[error("the client certificate has no common name")]
    NoCommonName,
    /// The text is not a certificate request in PEM.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    NoRequest,
    /// The request cannot be read.
    #[error("{0}")]
    UnreadableRequest(String),
}

/// Whom a certificate request is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedSubject {
    /// The name; empty if there is none.
    pub common_name: String,
    /// The groups.
    pub organizations: Vec<String>,
}

/// The user that a verified client certificate (DER) names: the common name is the name, each organization a group.
///
/// # Errors
///
/// When the certificate cannot be read or has no common name.
pub fn user_from_certificate(der: &[u8]) -> Result<UserInfo, CertificateError> {
    let (_, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|e| CertificateError::Unreadable(e.to_string()))?;
    let subject = certificate.subject();
    let name = subject
        .iter_common_name()
        .next()
        .and_then(|cn| cn.as_str().ok())
        .unwrap_or_default();
    if name.is_empty() {
        return Err(CertificateError::NoCommonName);
    }
    let groups = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .map(str::to_owned);
    Ok(UserInfo {
        name: name.to_owned(),
        groups: groups.collect(),
        ..UserInfo::default()
    })
}

/// Whom a certificate request (PEM) is for.
///
/// # Errors
///
/// When it is no request, or cannot be read.
pub fn requested_subject(pem: &[u8]) -> Result<RequestedSubject, CertificateError> {
    let der = CertificateSigningRequestDer::from_pem_slice(pem).map_err(|_| CertificateError::NoRequest)?;
    let (_, request) = X509CertificationRequest::from_der(&der)
        .map_err(|e| CertificateError::UnreadableRequest(e.to_string()))?;
    let subject = &request.certification_request_info.subject;
    let name = subject.iter_common_name().next().and_then(|cn| cn.as_str().ok());
    let organizations = subject.iter_organization().filter_map(|o| o.as_str().ok());
    Ok(RequestedSubject {
        common_name: name.unwrap_or_default().to_owned(),
        organizations: organizations.map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn a_request_says_whom_it_is_for() {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "system:node:n");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:nodes");
        let key = KeyPair::generate().expect("a key");
        let request = params.serialize_request(&key).expect("a request");
        let pem = request.pem().expect("PEM");
        let wanted = RequestedSubject {
            common_name: "system:node:n".to_owned(),
            organizations: vec!["system:nodes".to_owned()],
        };
        assert_eq!(requested_subject(pem.as_bytes()).expect("a subject"), wanted);
        let error = requested_subject(b"nonsense").expect_err("refused");
        assert_eq!(error.to_string(), "PEM block type must be CERTIFICATE REQUEST");
    }
}
