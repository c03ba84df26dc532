//! What there is of certificates and keys: how it is made, and what it says.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::error::ProvisionError;
use super::rotation::{Certificate, Facts, Life, Lifetimes};

/// Clocks differ: certificates are valid from an hour ago.
pub(super) const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

/// Authorities and a serving certificate, all PEM. The debug form shows no keys.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Material {
    /// The certificates of authorities that are trusted, the newest first.
    pub(super) authorities: Vec<String>,
    /// The key of the newest.
    pub(super) authority_key: String,
    /// The serving certificate.
    pub(super) certificate: String,
    /// Its key.
    pub(super) key: String,
}

impl Material {
    /// Everything new.
    pub(super) fn new(
        names: &[String],
        lifetimes: &Lifetimes,
        now: Timestamp,
    ) -> Result<Self, ProvisionError> {
        let (authority, authority_key) = authority(lifetimes, now)?;
        let mut material = Self {
            authorities: vec![authority],
            authority_key,
            certificate: String::new(),
            key: String::new(),
        };
        material.issue(names, lifetimes, now)?;
        Ok(material)
    }

    /// A new authority beside those that there are.
    pub(super) fn add_authority(
        &mut self,
        lifetimes: &Lifetimes,
        now: Timestamp,
    ) -> Result<(), ProvisionError> {
        let (authority, key) = authority(lifetimes, now)?;
        self.authorities.insert(0, authority);
        self.authority_key = key;
        Ok(())
    }

    /// A new serving certificate, of the newest authority, which ends with it at the latest.
    pub(super) fn issue(
        &mut self,
        names: &[String],
        lifetimes: &Lifetimes,
        now: Timestamp,
    ) -> Result<(), ProvisionError> {
        let failed = |cause| ProvisionError::Make {
            names: names.join(", "),
            cause,
        };
        let newest = self.authorities.first().map(String::as_str).unwrap_or_default();
        let ends = Parsed::of(newest, |parsed| Ok(life(parsed)?.until)).map_err(ProvisionError::Unusable)?;
        let authority_key = KeyPair::from_pem(&self.authority_key).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(newest, authority_key).map_err(failed)?;
        let mut params = CertificateParams::default();
        let name = names.first().map(String::as_str).unwrap_or_default();
        // A common name has 64 characters at most, and nobody looks at it.
        if name.len() <= 64 {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse::<IpAddr>() {
                Ok(address) => Ok(SanType::IpAddress(address)),
                Err(_) => Ok(SanType::DnsName(name.as_str().try_into()?)),
            })
            .collect::<Result<_, rcgen::Error>>()
            .map_err(failed)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now, lifetimes.serving, Some(ends))?;
        let key = KeyPair::generate().map_err(failed)?;
        self.certificate = params.signed_by(&key, &issuer).map_err(failed)?.pem();
        self.key = key.serialize_pem();
        Ok(())
    }

    /// The authorities, as one text.
    pub(super) fn bundle(&self) -> String {
        self.authorities.concat()
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// What cannot be used of it. No text of it is quoted.
    pub(super) fn facts(&self) -> Result<Facts, String> {
        let mut facts = Facts {
            authorities: Vec::new(),
            certificate: Parsed::of(&self.certificate, |parsed| {
                belongs(&self.key, parsed).map_err(|why| format!("the serving key {why}"))?;
                Ok(Certificate {
                    life: life(parsed)?,
                    names: names(parsed)?,
                    issuer: None,
                })
            })
            .map_err(|why| format!("the serving certificate: {why}"))?,
        };
        let leaf = der(&self.certificate)?;
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).map_err(|error| error.to_string())?;
        for (place, authority) in self.authorities.iter().enumerate() {
            Parsed::of(authority, |parsed| {
                if place == 0 {
                    belongs(&self.authority_key, parsed).map_err(|why| format!("its key {why}"))?;
                }
                if facts.certificate.issuer.is_none()
                    && leaf.verify_signature(Some(parsed.public_key())).is_ok()
                {
                    facts.certificate.issuer = Some(place);
                }
                facts.authorities.push(life(parsed)?);
                Ok(())
            })
            .map_err(|why| format!("authority {place}: {why}"))?;
        }
        Ok(facts)
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("authorities", &self.authorities)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// The certificates in a PEM text, one text each.
pub(super) fn split(bundle: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let mut certificates = Vec::new();
    let mut rest = bundle;
    while let Some(end) = rest.find(END) {
        let (certificate, after) = rest.split_at(end + END.len());
        certificates.push(format!("{}\n", certificate.trim_start()));
        rest = after;
    }
    certificates
}

/// Until when a certificate is valid, DER.
pub(crate) fn expiry(certificate: &[u8]) -> Result<Timestamp, String> {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    let (_, parsed) = parsed.map_err(|error| format!("the certificate of the webhooks is none: {error}"))?;
    Ok(life(&parsed)?.until)
}

/// A new authority: its certificate and key.
fn authority(lifetimes: &Lifetimes, now: Timestamp) -> Result<(String, String), ProvisionError> {
    // Authorities in one bundle have different names, which makes it easier to find the right one.
    let name = format!("trimtab-webhook-ca-{}", now.as_second());
    let failed = |cause| ProvisionError::Make {
        names: name.clone(),
        cause,
    };
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name.as_str());
    // It can issue certificates, but none that can.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    valid(&mut params, now, lifetimes.authority, None)?;
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Valid from an hour ago, for a while from now, and not beyond `end`.
fn valid(
    params: &mut CertificateParams,
    now: Timestamp,
    lasts: SignedDuration,
    end: Option<Timestamp>,
) -> Result<(), ProvisionError> {
    let wrong = |_| ProvisionError::Time(now);
    let from = now.checked_sub(BACKDATED).map_err(wrong)?;
    let until = now.checked_add(lasts).map_err(wrong)?;
    let until = end.map_or(until, |end| until.min(end));
    params.not_before = SystemTime::from(from).into();
    params.not_after = SystemTime::from(until).into();
    Ok(())
}

/// A certificate that is looked at.
struct Parsed;

impl Parsed {
    fn of<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> Result<T, String>) -> Result<T, String> {
        let der = der(pem)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|error| error.to_string())?;
        look(&parsed)
    }
}

fn der(pem: &str) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| "there is no certificate".to_owned())
}

fn life(certificate: &X509Certificate<'_>) -> Result<Life, String> {
    let validity = certificate.validity();
    let at = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp()).map_err(|error| error.to_string())
    };
    Ok(Life {
        from: at(validity.not_before)?,
        until: at(validity.not_after)?,
    })
}

/// Whether the key is that of the certificate; if not, what is wrong with it.
fn belongs(key: &str, certificate: &X509Certificate<'_>) -> Result<(), &'static str> {
    let key = KeyPair::from_pem(key).map_err(|_| "cannot be read")?;
    if key.subject_public_key_info() == certificate.public_key().raw {
        Ok(())
    } else {
        Err("is another's")
    }
}

fn names(certificate: &X509Certificate<'_>) -> Result<BTreeSet<String>, String> {
    let extension = certificate
        .subject_alternative_name()
        .map_err(|error| error.to_string())?;
    let Some(extension) = extension else {
        return Ok(BTreeSet::new());
    };
    let names = extension.value.general_names.iter();
    Ok(names.filter_map(name).collect())
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let short = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = short.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}
