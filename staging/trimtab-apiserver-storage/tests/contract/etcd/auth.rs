//! Getting in: TLS with client certificates, users with passwords, tokens that expire.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::{sleep, timeout};
use trimtab_apiserver_storage::{
    Error, EtcdConfig, EtcdCredentials, EtcdStore, EtcdTls, RangeRequest, Store, WatchRequest,
};

use super::{Certificates, Etcd, Settings, USUAL, versions};
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
