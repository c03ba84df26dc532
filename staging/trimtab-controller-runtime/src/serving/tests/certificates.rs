//! Which certificate is shown, and when another is.

use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use super::super::{CertificateError, Certificates, Route, Router, text};
use super::kit::{Answer, Authority, get, over, over_2};

fn hello() -> Router {
    let version =
        |request: http::Request<bytes::Bytes>| async move { text(200, format!("{:?}", request.version())) };
    Router::new().route("/", Route::get(version)).expect("a new path")
}

/// The certificate that a new connection is shown, DER; none: there was no handshake.
async fn shown(authority: &Authority, certificates: &Certificates) -> Option<Vec<u8>> {
    let stream = authority.connect(certificates, b"h2", hello()).await.ok()?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    shown.map(|der| der.to_vec())
}

fn write(dir: &Path, (certificate, key): &(String, String)) {
    std::fs::write(dir.join("tls.crt"), certificate).expect("a file");
    std::fs::write(dir.join("tls.key"), key).expect("a file");
}

#[tokio::test(start_paused = true)]
async fn both_versions_of_http_are_spoken() {
    let authority = Authority::new();
    let certificates = Certificates::new();
    let (certificate, key) = authority.issue();
    assert!(
        certificates
            .replace(certificate.as_bytes(), key.as_bytes())
            .expect("a pair")
    );

    let stream = authority
        .connect(&certificates, b"h2", hello())
        .await
        .expect("a handshake");
    let response = over_2(stream).await.send_request(get("https://localhost/")).await;
    assert_eq!(
        Answer::received(response.expect("an answer")).await,
        Answer::new(200, "HTTP/2.0")
    );
    let stream = authority
        .connect(&certificates, b"http/1.1", hello())
        .await
        .expect("a handshake");
    let response = over(stream).await.send_request(get("/")).await;
    assert_eq!(
        Answer::received(response.expect("an answer")).await,
        Answer::new(200, "HTTP/1.1")
    );
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_handed_over_is_for_the_next_handshake() {
    let authority = Authority::new();
    let certificates = Certificates::new();
    assert!(certificates.is_empty());
    assert_eq!(
        shown(&authority, &certificates).await,
        None,
        "there is none to show"
    );

    let (first, second) = (authority.issue(), authority.issue());
    let show = |pair: &(String, String)| certificates.replace(pair.0.as_bytes(), pair.1.as_bytes());
    assert!(show(&first).expect("a pair"));
    let at_first = shown(&authority, &certificates).await;
    assert!(at_first.is_some() && at_first == certificates.current());
    assert!(!show(&first).expect("a pair"), "the same again");

    let refused = certificates.replace(second.0.as_bytes(), first.1.as_bytes());
    assert!(matches!(refused, Err(CertificateError::Mismatch { .. })));
    assert_eq!(shown(&authority, &certificates).await, at_first);

    assert!(show(&second).expect("a pair"));
    let at_last = shown(&authority, &certificates).await;
    assert!(at_last.is_some() && at_last != at_first);
}

#[tokio::test(start_paused = true)]
async fn files_are_looked_at_and_bad_ones_change_nothing() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().expect("a folder");
    let (first, second) = (authority.issue(), authority.issue());
    write(dir.path(), &first);
    let (crt, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let certificates = Certificates::from_files(&crt, &key).await.expect("files");
    let at_first = shown(&authority, &certificates).await;
    assert!(at_first.is_some());

    let looking = certificates.clone();
    let looking = tokio::spawn(async move { looking.keep_fresh().await });
    let bad = [
        (second.0.clone(), first.1.clone()), // half written
        ("nonsense".to_owned(), second.1.clone()),
        (second.0.clone(), String::new()),
    ];
    for pair in bad {
        write(dir.path(), &pair);
        sleep(Duration::from_secs(11)).await;
        assert_eq!(shown(&authority, &certificates).await, at_first, "{}", pair.0);
    }
    std::fs::remove_file(&crt).expect("it is there");
    sleep(Duration::from_secs(11)).await;
    assert_eq!(shown(&authority, &certificates).await, at_first, "no file");

    write(dir.path(), &second);
    sleep(Duration::from_secs(11)).await;
    let at_last = shown(&authority, &certificates).await;
    assert!(at_last.is_some() && at_last != at_first);
    looking.abort();

    // Whoever knows that they have changed need not wait.
    write(dir.path(), &first);
    assert!(certificates.reload().await.expect("good files"));
    assert_eq!(shown(&authority, &certificates).await, at_first);
    assert!(!certificates.reload().await.expect("good files"), "the same");
    let without = Certificates::new().reload().await;
    assert!(!without.expect("there are no files"));
}

#[tokio::test]
async fn errors_name_the_file() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().expect("a folder");
    let (crt, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let pair = authority.issue();
    let other = authority.issue();
    let cases = [
        (None, "tls.crt: No such file"),
        (
            Some(("", pair.1.as_str())),
            "tls.crt holds no usable PEM certificate",
        ),
        (
            Some((pair.0.as_str(), "")),
            "tls.key holds no usable PEM private key",
        ),
        (
            Some((pair.0.as_str(), other.1.as_str())),
            "does not belong to the certificate in",
        ),
    ];
    for (files, says) in cases {
        if let Some((certificate, key)) = files {
            write(dir.path(), &(certificate.to_owned(), key.to_owned()));
        }
        let error = Certificates::from_files(&crt, &key)
            .await
            .expect_err("unusable files")
            .to_string();
        assert!(error.contains(says), "{error}");
    }
}
