//! What certificates say, and what TLS makes of them.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::super::material::{Material, split};
use super::super::rotation::{Lifetimes, advance};

pub(super) const BEGIN: Timestamp = Timestamp::constant(2_000_000_000, 0);

pub(super) fn names() -> Vec<String> {
    ["w.web.svc", "127.0.0.1", "::1"].map(str::to_owned).to_vec()
}

/// What a client that trusts these authorities says of a certificate, as TLS libraries do.
pub(super) fn verify(
    bundle: &str,
    certificate: &str,
    name: &str,
    now: Timestamp,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(root.expect("PEM")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .expect("roots");
    let leaf = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let seconds = u64::try_from(now.as_second()).expect("after 1970");
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    verifier
        .verify_server_cert(&leaf, &[], &name, &[], now)
        .map(|_| ())
}

#[test]
fn certificates_are_what_clients_want() {
    let material = Material::new(&names(), &Lifetimes::default(), BEGIN).expect("certificates");
    let (bundle, certificate) = (material.bundle(), material.certificate.clone());
    let at = |hours: i64, name: &str| {
        let now = BEGIN + SignedDuration::from_hours(hours);
        verify(&bundle, &certificate, name, now)
    };
    for name in names() {
        assert_eq!(at(0, &name), Ok(()), "{name}");
    }
    assert_eq!(at(-1, "w.web.svc"), Ok(()), "other clocks are behind");
    assert_eq!(at(24 * 90 - 1, "w.web.svc"), Ok(()));
    let wrong = [
        (-2, "w.web.svc"),
        (24 * 90 + 1, "w.web.svc"),
        (0, "other.web.svc"),
    ];
    for (hours, name) in wrong {
        assert!(at(hours, name).is_err(), "{hours} {name}");
    }
    let other = Material::new(&names(), &Lifetimes::default(), BEGIN).expect("certificates");
    let foreign = verify(&other.bundle(), &certificate, "w.web.svc", BEGIN);
    assert!(matches!(
        foreign,
        Err(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        ))
    ));
}

#[test]
fn they_are_read_as_they_were_made() {
    let lifetimes = Lifetimes::default();
    let mut material = Material::new(&names(), &lifetimes, BEGIN).expect("certificates");
    let facts = material.facts().expect("facts");
    assert_eq!(facts.certificate.names, names().into_iter().collect());
    assert_eq!(facts.certificate.issuer, Some(0));
    assert_eq!(facts.certificate.life.until, BEGIN + lifetimes.serving);
    assert_eq!(facts.authorities.len(), 1);
    assert_eq!(facts.authorities[0].until, BEGIN + lifetimes.authority);
    assert_eq!(facts.authorities[0].from, BEGIN - SignedDuration::from_hours(1));

    let old = material.bundle();
    let late = BEGIN + SignedDuration::from_hours(24 * 300);
    material.add_authority(&lifetimes, late).expect("an authority");
    assert_eq!(material.facts().expect("facts").certificate.issuer, Some(1));
    assert!(material.bundle().ends_with(&old) && material.bundle().len() > old.len());
    assert_eq!(split(&material.bundle()), material.authorities);

    // A certificate ends with its authority at the latest.
    let mut last = Material::new(&names(), &lifetimes, BEGIN).expect("certificates");
    last.issue(&names(), &lifetimes, late).expect("a certificate");
    let facts = last.facts().expect("facts");
    assert_eq!(facts.certificate.life.until, facts.authorities[0].until);
}

#[test]
fn damaged_ones_are_found_out_and_made_anew() {
    let lifetimes = Lifetimes::default();
    let good = Material::new(&names(), &lifetimes, BEGIN).expect("certificates");
    let other = Material::new(&names(), &lifetimes, BEGIN).expect("certificates");
    let change = |change: fn(&mut Material, Material)| {
        let mut material = good.clone();
        change(&mut material, other.clone());
        material
    };
    let damaged = [
        (
            change(|m, _| m.certificate.clear()),
            "the serving certificate: there is no certificate",
        ),
        (
            change(|m, _| m.key.clear()),
            "the serving certificate: the serving key cannot be read",
        ),
        (
            change(|m, o| m.key = o.key),
            "the serving certificate: the serving key is another's",
        ),
        (
            change(|m, o| m.authority_key = o.authority_key),
            "authority 0: its key is another's",
        ),
        (
            change(|m, _| m.authorities[0] = "nonsense".to_owned()),
            "authority 0: there is no certificate",
        ),
    ];
    for (material, says) in damaged {
        assert_eq!(material.facts().expect_err("it is damaged"), says);
        let mended = advance(Some(&material), &names(), &lifetimes, BEGIN, true);
        let mended = mended.expect("no failure").expect("something new");
        assert_ne!(mended.bundle(), good.bundle(), "{says}");
        assert!(mended.facts().is_ok());
    }
    // One that is whole, but of another authority, is issued anew by the same.
    let strange = Material {
        certificate: other.certificate.clone(),
        key: other.key.clone(),
        ..good.clone()
    };
    let mended = advance(Some(&strange), &names(), &lifetimes, BEGIN, true).expect("no failure");
    assert_eq!(mended.expect("something new").bundle(), good.bundle());
    let well = advance(Some(&good), &names(), &lifetimes, BEGIN, true).expect("no failure");
    assert_eq!(well, None);
}

#[test]
fn names_that_no_certificate_can_have_are_told() {
    let names = ["w.web.svc".to_owned(), "b\u{fc}cher.example.com".to_owned()];
    let error = Material::new(&names, &Lifetimes::default(), BEGIN).expect_err("no such name");
    assert!(
        error.to_string().contains("w.web.svc, b\u{fc}cher.example.com"),
        "{error}"
    );
    let long = format!("{}.svc", "a".repeat(63));
    assert!(Material::new(&[long], &Lifetimes::default(), BEGIN).is_ok());
}

#[test]
fn keys_are_not_shown() {
    let material = Material::new(&names(), &Lifetimes::default(), BEGIN).expect("certificates");
    let shown = format!("{material:?}");
    assert!(shown.contains("BEGIN CERTIFICATE") && !shown.contains("PRIVATE"));
}
