//! Certificates that the server makes for itself: an authority, a serving certificate, an admin's client certificate.
//!
//! They are kept in a folder and used again as long as they fit; private keys are readable by their owner only.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

/// How long an authority lasts, in days; as kubeadm's.
const CA_DAYS: i64 = 3650;
/// How long the other certificates last, in days; as kubeadm's.
const LEAF_DAYS: i64 = 365;
/// A certificate with fewer days left is made anew.
const RENEW_DAYS: i64 = 30;

/// A certificate and its key, both PEM. The debug form does not show the key.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS#8.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Certificates that cannot be made or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not hold what its name says.
    #[error("{path} cannot be used: {why}; remove it to have a new one made")]
    Unusable {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Make(String),
}

impl From<rcgen::Error> for CertError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error.to_string())
    }
}

/// The authority of one server.
#[derive(Debug)]
pub struct Authority {
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate is for.
#[derive(Clone, Debug)]
enum Purpose {
    Serving(Vec<String>),
    Client {
        name: String,
        group: String,
    },
    /// One of several that serve and call each other.
    Peer {
        name: String,
        names: Vec<String>,
    },
}

impl Authority {
    /// Makes a new authority, kept nowhere.
    ///
    /// # Errors
    ///
    /// [`CertError::Make`].
    pub fn generate() -> Result<Self, CertError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "trimtab-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::CrlSign,
        ];
        valid_for(&mut params, CA_DAYS);
        let certificate = params.self_signed(&key)?;
        let pair = Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        };
        Ok(Self {
            pair,
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority kept in `dir` (`ca.crt`, `ca.key`), made when it is missing or about to expire.
    ///
    /// # Errors
    ///
    /// When files cannot be read, written or used.
    pub fn open(dir: &Path) -> Result<Self, CertError> {
        Self::open_named(dir, "ca")
    }

    /// As [`Authority::open`], in files of another name, as `front-proxy-ca`.
    ///
    /// # Errors
    ///
    /// As of [`Authority::open`].
    pub fn open_named(dir: &Path, name: &str) -> Result<Self, CertError> {
        let (crt, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        if let (Some(certificate), Some(key_pem)) = (read(&crt)?, read(&key)?) {
            let unusable = |path: &Path, why: String| CertError::Unusable {
                path: path.display().to_string(),
                why,
            };
            if days_left(&certificate).map_err(|why| unusable(&crt, why))? > RENEW_DAYS {
                let pair = KeyPair::from_pem(&key_pem).map_err(|e| unusable(&key, e.to_string()))?;
                let issuer = Issuer::from_ca_cert_pem(&certificate, pair)
                    .map_err(|e| unusable(&crt, e.to_string()))?;
                return Ok(Self {
                    pair: Pair {
                        certificate,
                        key: key_pem,
                    },
                    issuer,
                });
            }
        }
        let authority = Self::generate()?;
        write(&crt, &authority.pair.certificate, 0o644)?;
        write(&key, &authority.pair.key, 0o600)?;
        Ok(authority)
    }

    /// The authority's certificate, PEM: what clients trust.
    pub fn certificate(&self) -> &str {
        &self.pair.certificate
    }

    /// A serving certificate for `names`, host names and IP addresses alike.
    ///
    /// # Errors
    ///
    /// [`CertError::Make`].
    pub fn serving(&self, names: &[String]) -> Result<Pair, CertError> {
        self.issue(&Purpose::Serving(names.to_vec()))
    }

    /// A client certificate for a user, a member of one group (which may be empty for none).
    ///
    /// # Errors
    ///
    /// [`CertError::Make`].
    pub fn client(&self, name: &str, group: &str) -> Result<Pair, CertError> {
        self.issue(&Purpose::Client {
            name: name.to_owned(),
            group: group.to_owned(),
        })
    }

    /// The serving certificate kept in `dir` (`apiserver.crt`, `apiserver.key`), made when it is missing, about to
    /// expire, of another authority, or does not name all of `names`.
    ///
    /// # Errors
    ///
    /// When files cannot be read or written.
    pub fn open_serving(&self, dir: &Path, names: &[String]) -> Result<Pair, CertError> {
        let fits = |certificate: &str| names_all(certificate, names);
        self.open_pair(dir, "apiserver", fits, || self.serving(names))
    }

    /// The client certificate for a user without groups that is kept in `dir`, in files named after the user; made when it is
    /// missing, about to expire, or of another authority.
    ///
    /// # Errors
    ///
    /// When files cannot be read or written.
    pub fn open_client(&self, dir: &Path, name: &str) -> Result<Pair, CertError> {
        self.open_pair(dir, name, |_| true, || self.client(name, ""))
    }

    /// A certificate by which the member `name` of a cluster serves under `names` and calls the others, kept in `dir` in files
    /// named after the member; made when it is missing, about to expire, of another authority, or does not name all of `names`.
    ///
    /// # Errors
    ///
    /// When files cannot be read or written.
    pub fn open_peer(&self, dir: &Path, name: &str, names: &[String]) -> Result<Pair, CertError> {
        let fits = |certificate: &str| names_all(certificate, names);
        self.open_pair(dir, name, fits, || {
            self.issue(&Purpose::Peer {
                name: name.to_owned(),
                names: names.to_vec(),
            })
        })
    }

    fn open_pair(
        &self,
        dir: &Path,
        file: &str,
        fits: impl Fn(&str) -> bool,
        make: impl FnOnce() -> Result<Pair, CertError>,
    ) -> Result<Pair, CertError> {
        let (crt, key) = (dir.join(format!("{file}.crt")), dir.join(format!("{file}.key")));
        if let (Some(certificate), Some(key)) = (read(&crt)?, read(&key)?)
            && days_left(&certificate).is_ok_and(|days| days > RENEW_DAYS)
            && self.issued(&certificate)
            && fits(&certificate)
        {
            return Ok(Pair { certificate, key });
        }
        let pair = make()?;
        write(&crt, &pair.certificate, 0o644)?;
        write(&key, &pair.key, 0o600)?;
        Ok(pair)
    }

    fn issue(&self, purpose: &Purpose) -> Result<Pair, CertError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.use_authority_key_identifier_extension = true;
        match purpose {
            Purpose::Serving(names) => {
                params
                    .distinguished_name
                    .push(DnType::CommonName, "trimtab-apiserver");
                params.subject_alt_names = names.iter().map(|n| san(n)).collect::<Result<_, _>>()?;
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }
            Purpose::Client { name, group } => {
                if !group.is_empty() {
                    params
                        .distinguished_name
                        .push(DnType::OrganizationName, group.as_str());
                }
                params.distinguished_name.push(DnType::CommonName, name.as_str());
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
            Purpose::Peer { name, names } => {
                params.distinguished_name.push(DnType::CommonName, name.as_str());
                params.subject_alt_names = names.iter().map(|n| san(n)).collect::<Result<_, _>>()?;
                params.extended_key_usages = vec![
                    ExtendedKeyUsagePurpose::ServerAuth,
                    ExtendedKeyUsagePurpose::ClientAuth,
                ];
            }
        }
        valid_for(&mut params, LEAF_DAYS);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    fn issued(&self, certificate: &str) -> bool {
        let (Some(leaf), Some(ca)) = (der(certificate), der(&self.pair.certificate)) else {
            return false;
        };
        let (Ok((_, leaf)), Ok((_, ca))) = (
            x509_parser::parse_x509_certificate(&leaf),
            x509_parser::parse_x509_certificate(&ca),
        ) else {
            return false;
        };
        leaf.verify_signature(Some(ca.public_key())).is_ok()
    }
}

/// The names that a server on this machine goes by, inside a cluster and on loopback; `service` is the address of
/// the `kubernetes` Service.
pub fn default_serving_names(service: Option<IpAddr>) -> Vec<String> {
    let fixed = [
        "localhost",
        "127.0.0.1",
        "::1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    fixed
        .iter()
        .map(|n| (*n).to_owned())
        .chain(service.map(|ip| ip.to_string()))
        .collect()
}

fn san(name: &str) -> Result<SanType, CertError> {
    match name.parse::<IpAddr>() {
        Ok(ip) => Ok(SanType::IpAddress(ip)),
        Err(_) => Ok(SanType::DnsName(name.try_into()?)),
    }
}

fn valid_for(params: &mut CertificateParams, days: i64) {
    // Clocks differ: a certificate is valid from an hour ago.
    let now = std::time::SystemTime::now();
    let hour = std::time::Duration::from_secs(3600);
    params.not_before = (now - hour).into();
    params.not_after = (now + hour * 24 * u32::try_from(days).unwrap_or(u32::MAX)).into();
}

fn der(pem: &str) -> Option<Vec<u8>> {
    use rustls_pki_types::pem::PemObject as _;
    rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes())
        .ok()
        .map(|der| der.to_vec())
}

fn days_left(certificate: &str) -> Result<i64, String> {
    let der = der(certificate).ok_or("not a PEM certificate")?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|e| e.to_string())?;
    Ok(parsed
        .validity()
        .time_to_expiration()
        .map_or(0, |left| left.whole_days()))
}

fn names_all(certificate: &str, names: &[String]) -> bool {
    let Some(der) = der(certificate) else { return false };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&der) else {
        return false;
    };
    let Ok(Some(extension)) = parsed.subject_alternative_name() else {
        return false;
    };
    let held: Vec<String> = extension
        .value
        .general_names
        .iter()
        .filter_map(general_name)
        .collect();
    names.iter().all(|n| held.contains(n))
}

fn general_name(name: &x509_parser::extensions::GeneralName<'_>) -> Option<String> {
    use x509_parser::extensions::GeneralName;
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|b| IpAddr::from(b).to_string()),
            16 => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|b| IpAddr::from(b).to_string()),
            _ => None,
        },
        _ => None,
    }
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> CertError + use<> {
    let path = path.display().to_string();
    move |source| CertError::File { path, source }
}

fn read(path: &Path) -> Result<Option<String>, CertError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(file_error(path)(e)),
    }
}

/// Writes a file with the given permissions, in one step: whoever reads it sees the old text or the new.
///
/// # Errors
///
/// [`CertError::File`].
pub fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let dir = path.parent().unwrap_or(Path::new("."));
    if !dir.as_os_str().is_empty() {
        std::fs::create_dir_all(dir).map_err(file_error(dir))?;
    }
    let mut temporary = PathBuf::from(path).into_os_string();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let result = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&temporary, path));
    result.map_err(file_error(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::user_from_certificate;

    #[test]
    fn a_client_certificate_names_its_user() {
        let authority = Authority::generate().unwrap();
        let pair = authority.client("admin", "system:masters").unwrap();
        let user = user_from_certificate(&der(&pair.certificate).unwrap()).unwrap();
        assert_eq!(user.name, "admin");
        assert_eq!(user.groups, ["system:masters"]);
        assert!(authority.issued(&pair.certificate));
        assert!(!Authority::generate().unwrap().issued(&pair.certificate));
    }

    #[test]
    fn what_is_kept_is_used_again_while_it_fits() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let names = default_serving_names(Some(IpAddr::from([10, 0, 0, 1])));
        let first = Authority::open(dir.path()).unwrap();
        let serving = first.open_serving(dir.path(), &names).unwrap();
        let again = Authority::open(dir.path()).unwrap();
        assert_eq!(again.certificate(), first.certificate());
        assert_eq!(
            again.open_serving(dir.path(), &names).unwrap().certificate,
            serving.certificate
        );
        let more = [names, vec!["api.example.com".to_owned()]].concat();
        assert_ne!(
            again.open_serving(dir.path(), &more).unwrap().certificate,
            serving.certificate
        );
        let peer = again.open_peer(dir.path(), "m0", &more).unwrap();
        let client = again.open_client(dir.path(), "client").unwrap();
        assert_eq!(
            again.open_peer(dir.path(), "m0", &more[1..]).unwrap().certificate,
            peer.certificate
        );
        assert_eq!(
            again.open_client(dir.path(), "client").unwrap().certificate,
            client.certificate
        );
        for key in ["ca.key", "apiserver.key", "m0.key", "client.key"] {
            let mode = std::fs::metadata(dir.path().join(key))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
    }

    #[test]
    fn a_damaged_authority_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        Authority::open(dir.path()).unwrap();
        std::fs::write(dir.path().join("ca.crt"), "nonsense").unwrap();
        let error = Authority::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("ca.crt") && error.contains("remove it"), "{error}");
    }
}
