//! Getting in: TLS with client certificates, users with passwords, tokens that expire.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{sleep, timeout};
use trimtab_apiserver_storage::{
    Error, EtcdConfig, EtcdCredentials, EtcdStore, EtcdTls, RangeRequest, Store, WatchRequest,
};

use super::{Etcd, Settings, USUAL, versions};
use crate::example::{put, run};

/// Longer than anything here takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// etcd with authentication, whose tokens live for one second; root may do everything, `app` what is below `/app`.
async fn with_users(version: &str) -> Etcd {
    let settings = Settings {
        flags: vec!["--auth-token-ttl=1".to_owned()],
        ..Settings::default()
    };
    let etcd = Etcd::start(version, 1, settings);
    // It is there once it answers.
    EtcdStore::connect(EtcdConfig::new(etcd.urls()))
        .await
        .expect("connects");
    for command in [
        &["user", "add", "root:secret"][..],
        &["role", "add", "root"],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "app:word"],
        &["role", "add", "app"],
        &[
            "role",
            "grant-permission",
            "app",
            "--prefix=true",
            "readwrite",
            "/app/",
        ],
        &["user", "grant-role", "app", "app"],
        &["auth", "enable"],
    ] {
        etcd.ctl(command).expect("etcdctl does it");
    }
    etcd
}

fn config(etcd: &Etcd, user: &str, password: &str) -> EtcdConfig {
    let mut config = EtcdConfig::new(etcd.urls());
    config.credentials = Some(EtcdCredentials {
        user: user.to_owned(),
        password: password.to_owned(),
    });
    config.root = Some(("/registry".to_owned(), "/app".to_owned()));
    config.progress_interval = Duration::from_millis(100);
    config
}

#[tokio::test]
async fn tokens_that_expire_are_renewed_under_calls_and_watches() {
    for version in versions() {
        let etcd = with_users(version).await;
        let store = EtcdStore::connect(config(&etcd, "app", "word"))
            .await
            .expect("logs in");
        let mut watch = store
            .watch(WatchRequest::prefix("/registry/"))
            .await
            .expect("watches");
        for n in 0..3 {
            let revision = run(&store, [put("/registry/a", &n.to_string())]).await;
            loop {
                let next = timeout(PATIENCE, watch.next()).await.expect("comes");
                let batch = next.expect("goes on").expect("no error");
                if let Some(event) = batch.events.first() {
                    assert_eq!(event.kv.mod_revision, revision, "{version}");
                    break;
                }
            }
            store
                .range(RangeRequest::key("/registry/a"))
                .await
                .expect("reads");
            // It is another process's clock by which the token expires, so there is nothing to be waited for.
            sleep(Duration::from_millis(2500)).await;
        }
    }
}

#[tokio::test]
async fn who_may_not_is_told_what_is_missing() {
    for version in versions() {
        let etcd = with_users(version).await;
        let anonymous = EtcdStore::connect(EtcdConfig::new(etcd.urls())).await;
        let error = anonymous.expect_err("needs a user").to_string();
        assert!(error.contains("a user and a password"), "{version}: {error}");
        let wrong = EtcdStore::connect(config(&etcd, "app", "wrong")).await;
        let error = wrong.expect_err("the password is wrong").to_string();
        assert!(
            error.contains("check the user and the password"),
            "{version}: {error}"
        );
        let mut elsewhere = config(&etcd, "app", "word");
        elsewhere.root = Some(("/registry".to_owned(), "/other".to_owned()));
        let error = EtcdStore::connect(elsewhere)
            .await
            .expect_err("has no role")
            .to_string();
        assert!(error.contains("needs a role"), "{version}: {error}");
    }
}

#[tokio::test]
async fn credentials_that_etcd_does_not_ask_for_are_no_harm() {
    for version in versions() {
        let etcd = Etcd::start(version, 1, Settings::default());
        let store = EtcdStore::connect(config(&etcd, "app", "word"))
            .await
            .expect("connects");
        run(&store, [put("/registry/a", "1")]).await;
    }
}

/// An authority and certificates of it, in files.
struct Certificates {
    dir: tempfile::TempDir,
    ca: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Certificates {
    fn new() -> Self {
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
    fn issue(&self, name: &str, address: Option<&str>) -> (String, String) {
        let names: Vec<String> = address.into_iter().map(str::to_owned).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("parameters");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.dir.path(), name)
    }

    /// The files of a serving certificate, and of the authority of clients.
    fn serving(&self) -> [PathBuf; 3] {
        let (certificate, key) = self.issue("etcd", Some("127.0.0.1"));
        std::fs::write(self.path("etcd.crt"), certificate).expect("a file");
        std::fs::write(self.path("etcd.key"), key).expect("a file");
        ["etcd.crt", "etcd.key", "ca.crt"].map(|name| self.path(name))
    }
}

#[tokio::test]
async fn tls_recognises_both_sides() {
    for version in versions() {
        let certificates = Certificates::new();
        let settings = Settings {
            tls: Some(certificates.serving()),
            ..Settings::default()
        };
        let etcd = Etcd::start(version, 1, settings);
        let mut config = EtcdConfig::new(etcd.urls());
        config.tls = EtcdTls {
            ca: Some(certificates.ca.clone()),
            identity: Some(certificates.issue("api", None)),
        };
        let store = EtcdStore::connect(config.clone()).await.expect("connects");
        assert_eq!(run(&store, [put("a", "1")]).await, 2);

        config.tls.ca = Some(Certificates::new().ca);
        let stranger = EtcdStore::connect(config.clone()).await;
        let error = stranger.expect_err("is not to be believed").to_string();
        assert!(error.contains("certificate"), "{version}: {error}");
        config.tls.ca = Some("nonsense".to_owned());
        let refused = EtcdStore::connect(config.clone()).await;
        let error = refused.expect_err("is no certificate").to_string();
        assert!(error.contains("no certificate (PEM)"), "{version}: {error}");
        if version != USUAL {
            continue; // what follows takes as long as a member is waited for
        }
        config.tls = EtcdTls {
            ca: Some(certificates.ca.clone()),
            identity: None,
        };
        let refused = EtcdStore::connect(config).await;
        assert!(
            matches!(refused, Err(Error::Io(_))),
            "{version}: we have to show a certificate"
        );
    }
}
