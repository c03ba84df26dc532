//! Client certificates: who they say their holder is. That they are genuine is TLS's business.

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
