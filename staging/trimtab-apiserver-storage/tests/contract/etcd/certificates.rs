//! Certificates for etcd and its clients, made for one test.

use std::path::PathBuf;

/// An authority and certificates of it, in files.
pub(crate) struct Certificates {
    dir: tempfile::TempDir,
    /// The authority's certificate.
    pub(crate) ca: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).expect("a certificate").pem();
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("ca.crt"), &ca).expect("a file");
        Self {
            dir,
            ca,
            issuer: rcgen::Issuer::new(params, key),
        }
    }

    /// A certificate for a name, with its key.
    pub(crate) fn issue(&self, name: &str, address: Option<&str>) -> (String, String) {
        let names: Vec<String> = address.into_iter().map(str::to_owned).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("parameters");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// Where a file of theirs is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The files of a serving certificate, and of the authority of clients.
    pub(crate) fn serving(&self) -> [PathBuf; 3] {
        let (certificate, key) = self.issue("etcd", Some("127.0.0.1"));
        std::fs::write(self.path("etcd.crt"), certificate).expect("a file");
        std::fs::write(self.path("etcd.key"), key).expect("a file");
        ["etcd.crt", "etcd.key", "ca.crt"].map(|name| self.path(name))
    }
}
