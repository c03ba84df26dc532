//! Certificates of members: made where they are asked for, looked at, and seen from outside.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use trimtab_apiserver_auth::Anyone;
use trimtab_apiserver_auth::certs::Authority;

use crate::error::{Error, Result};
use crate::stage::{Files, host_and_port};

/// How long a member may take to show its certificate.
const LOOK: Duration = Duration::from_secs(3);

/// One member's certificate.
pub(crate) struct Wanted {
    pub(crate) member: String,
    /// By which names and addresses it is called.
    pub(crate) names: Vec<String>,
    /// What the member's own files are like: the key is given to their owner.
    pub(crate) like: std::path::PathBuf,
}

/// Makes what is missing in `dir`, or only looks when `make` is off. Answers with a line for each certificate.
pub(crate) fn prepare(dir: &Path, wanted: &[Wanted], make: bool) -> Result<Vec<String>> {
    if make {
        let (ca, key) = (dir.join("ca.crt"), dir.join("ca.key"));
        if ca.exists() && !key.exists() {
            return Err(Error::Usage(format!(
                "{} is of an authority whose key is not here, so it cannot sign: put the members' certificates there, or name \
                 another directory",
                ca.display()
            )));
        }
        let authority = Authority::open(dir)?;
        authority.open_client(dir, "client")?;
        for one in wanted {
            authority.open_peer(dir, &one.member, &one.names)?;
        }
    }
    let mut lines = Vec::new();
    for one in wanted {
        let files = Files {
            dir,
            member: &one.member,
        };
        for path in files.all() {
            let text = std::fs::read(&path).map_err(Error::file(&path))?;
            own_as(&path, &one.like)?;
            if path.extension().is_some_and(|end| end == "crt") {
                lines.push(format!("{}: until {}", path.display(), expiry_pem(&path, &text)?));
            }
        }
    }
    lines.sort();
    lines.dedup();
    Ok(lines)
}

/// Gives a file, or a directory with all that is in it, to the owner of another.
pub(crate) fn own_as(path: &Path, like: &Path) -> Result<()> {
    let Ok(like) = std::fs::metadata(like) else {
        return Ok(()); // nothing to go by
    };
    own_by(path, like.uid(), like.gid())
}

fn own_by(path: &Path, user: u32, group: u32) -> Result<()> {
    let found = std::fs::symlink_metadata(path).map_err(Error::file(path))?;
    if found.uid() != user {
        chown(path, Some(user), Some(group)).map_err(Error::file(path))?;
    }
    if found.is_dir() {
        for entry in std::fs::read_dir(path).map_err(Error::file(path))? {
            own_by(&entry.map_err(Error::file(path))?.path(), user, group)?;
        }
    }
    Ok(())
}

fn expiry_pem(path: &Path, text: &[u8]) -> Result<String> {
    let der = CertificateDer::from_pem_slice(text).ok();
    let until = der.and_then(|der| expiry(&der));
    until.ok_or_else(|| Error::Usage(format!("{} has no certificate (PEM) in it", path.display())))
}

fn expiry(der: &[u8]) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    let until = Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()?;
    let left = parsed
        .validity()
        .time_to_expiration()
        .map_or(0, |left| left.whole_days());
    Some(format!("{} ({left} days)", until.strftime("%Y-%m-%d")))
}

/// Until when the certificate is good that is shown at an https URL, whoever it is of.
pub(crate) async fn shown_at(url: &str) -> Option<String> {
    let (host, port) = host_and_port(url)?;
    let provider = Arc::new(ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone::new(provider)))
        .with_no_client_auth();
    let bare = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(bare.clone()).ok()?;
    let look = async {
        let stream = TcpStream::connect((bare.as_str(), port.unwrap_or(443)))
            .await
            .ok()?;
        // It is only looked at, and nothing is said to who shows it. Members that want a certificate of ours say so after they have shown theirs.
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .ok()?;
        let shown = stream.get_ref().1.peer_certificates()?.first()?.clone();
        expiry(&shown)
    };
    timeout(LOOK, look).await.ok().flatten()
}
