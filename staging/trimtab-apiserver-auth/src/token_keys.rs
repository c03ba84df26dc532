//! Keys of service account tokens: what signs them, by what they are believed, and how that is published.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use rustls::SignatureScheme;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::{PemObject, SectionKind};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

/// How tokens are signed, by the kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// A key on P-256.
    Es256,
    /// A key on P-384.
    Es384,
    /// An RSA key.
    Rs256,
}

/// A key by which tokens are believed.
#[derive(Clone, Debug)]
pub(crate) struct PublicKey {
    /// The hash of the key, as kube-apiserver names keys.
    pub(crate) id: String,
    pub(crate) algorithm: Algorithm,
    bytes: Vec<u8>,
    /// The parts of the key by their names in a JSON web key.
    parts: Value,
}

/// A key that signs tokens.
pub(crate) struct SigningKey {
    key: Arc<dyn rustls::sign::SigningKey>,
    pub(crate) public: PublicKey,
}

// === impl Algorithm ===

impl Algorithm {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Rs256 => "RS256",
        }
    }

    fn scheme(self) -> SignatureScheme {
        match self {
            Self::Es256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            Self::Es384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            Self::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Es256 => &ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &ECDSA_P384_SHA384_FIXED,
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

// === impl PublicKey ===

impl PublicKey {
    /// Reads a key in its X.509 form (SubjectPublicKeyInfo, DER).
    fn from_spki(der: &[u8]) -> Result<Self, String> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|e| e.to_string())?;
        let bytes = info.subject_public_key.data.to_vec();
        let (algorithm, parts) = match info.parsed().map_err(|e| e.to_string())? {
            Parsed::EC(point) => {
                // An uncompressed point: one byte of 4, then both coordinates.
                let size = point.data().len() / 2;
                let (algorithm, curve) = match size {
                    32 => (Algorithm::Es256, "P-256"),
                    48 => (Algorithm::Es384, "P-384"),
                    _ => return Err("only the curves P-256 and P-384 are known".to_owned()),
                };
                let (x, y) = point.data().get(1..).unwrap_or_default().split_at(size);
                let parts = json!({"kty": "EC", "crv": curve, "x": BASE64.encode(x), "y": BASE64.encode(y)});
                (algorithm, parts)
            }
            Parsed::RSA(rsa) => {
                let bare = |number: &[u8]| {
                    let start = number.iter().position(|b| *b != 0).unwrap_or_default();
                    BASE64.encode(number.get(start..).unwrap_or_default())
                };
                let parts = json!({"kty": "RSA", "n": bare(rsa.modulus), "e": bare(rsa.exponent)});
                (Algorithm::Rs256, parts)
            }
            _ => return Err("only RSA and ECDSA keys are known".to_owned()),
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        Ok(Self {
            id: BASE64.encode(digest),
            algorithm,
            bytes,
            parts,
        })
    }

    /// All keys of a PEM text: public keys, those of certificates, and those that belong to private ones.
    pub(crate) fn all_from_pem(pem: &[u8]) -> Result<Vec<Self>, String> {
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section.map_err(|e| e.to_string())?;
            keys.push(match kind {
                SectionKind::PublicKey => Self::from_spki(&der)?,
                SectionKind::Certificate => {
                    let (_, certificate) =
                        x509_parser::parse_x509_certificate(&der).map_err(|e| e.to_string())?;
                    Self::from_spki(certificate.public_key().raw)?
                }
                SectionKind::PrivateKey => SigningKey::from_der(&PrivateKeyDer::Pkcs8(der.into()))?.public,
                SectionKind::RsaPrivateKey => SigningKey::from_der(&PrivateKeyDer::Pkcs1(der.into()))?.public,
                SectionKind::EcPrivateKey => SigningKey::from_der(&PrivateKeyDer::Sec1(der.into()))?.public,
                _ => continue,
            });
        }
        if keys.is_empty() {
            return Err("data does not contain any valid RSA or ECDSA public keys".to_owned());
        }
        Ok(keys)
    }

    /// Whether the key's owner has signed this.
    pub(crate) fn has_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(self.algorithm.verification(), &self.bytes);
        key.verify(signed, signature).is_ok()
    }

    /// The key as a JSON web key.
    pub(crate) fn published(&self) -> Value {
        let mut key = self.parts.clone();
        key["use"] = json!("sig");
        key["kid"] = json!(self.id);
        key["alg"] = json!(self.algorithm.name());
        key
    }
}

// === impl SigningKey ===

impl SigningKey {
    /// The first private key of a PEM text.
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|e| e.to_string())?;
        Self::from_der(&der)
    }

    fn from_der(der: &PrivateKeyDer<'_>) -> Result<Self, String> {
        let key = rustls::crypto::ring::sign::any_supported_type(der).map_err(|e| e.to_string())?;
        let public = key.public_key().ok_or("the key does not say its public part")?;
        let public = PublicKey::from_spki(&public)?;
        Ok(Self { key, public })
    }

    /// Signs, in the form that tokens have.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let algorithm = self.public.algorithm;
        let signer = self.key.choose_scheme(&[algorithm.scheme()]);
        let signer = signer.ok_or_else(|| format!("the key cannot sign by {}", algorithm.name()))?;
        let signature = signer.sign(message).map_err(|e| e.to_string())?;
        match algorithm {
            Algorithm::Rs256 => Ok(signature),
            Algorithm::Es256 => fixed(&signature, 32),
            Algorithm::Es384 => fixed(&signature, 48),
        }
        .map_err(str::to_owned)
    }
}

/// An ECDSA signature of two numbers in DER as two numbers of so many bytes.
fn fixed(der: &[u8], size: usize) -> Result<Vec<u8>, &'static str> {
    const WRONG: &str = "the signature has another form than expected";
    // A sequence, whose length fits one byte for these curves, of two integers.
    let mut rest = match der {
        [0x30, length, rest @ ..] if usize::from(*length) == rest.len() => rest,
        _ => return Err(WRONG),
    };
    let mut fixed = Vec::with_capacity(2 * size);
    for _ in 0..2 {
        let [0x02, length, after @ ..] = rest else {
            return Err(WRONG);
        };
        let (number, after) = after.split_at_checked(usize::from(*length)).ok_or(WRONG)?;
        let start = number.iter().position(|b| *b != 0).unwrap_or(number.len());
        let number = &number[start..];
        let padding = size.checked_sub(number.len()).ok_or(WRONG)?;
        fixed.extend(std::iter::repeat_n(0, padding));
        fixed.extend(number);
        rest = after;
    }
    Ok(fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_signs_its_public_part_believes() {
        for (algorithm, name) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, "ES256"),
            (&rcgen::PKCS_ECDSA_P384_SHA384, "ES384"),
        ] {
            let pair = rcgen::KeyPair::generate_for(algorithm).expect("a key");
            let key = SigningKey::from_pem(pair.serialize_pem().as_bytes()).expect("signs");
            assert_eq!(key.public.algorithm.name(), name);
            let public = PublicKey::all_from_pem(pair.public_key_pem().as_bytes()).expect("a key");
            assert_eq!(public[0].id, key.public.id);
            // The numbers of signatures are of various lengths.
            for n in 0..64u8 {
                let signature = key.sign(&[n]).expect("signs");
                assert!(public[0].has_signed(&[n], &signature), "{name} {n}");
                assert!(!public[0].has_signed(&[n, n], &signature), "{name} {n}");
            }
        }
    }

    #[test]
    fn signatures_of_short_numbers_are_filled_up() {
        let der = [0x30, 0x07, 0x02, 0x01, 0x05, 0x02, 0x02, 0x00, 0x81];
        assert_eq!(fixed(&der, 3).expect("two numbers"), [0, 0, 5, 0, 0, 0x81]);
        for wrong in [&der[..8], &[0x30, 0x00], &[0x31, 0x00], &[]] {
            assert!(fixed(wrong, 3).is_err(), "{wrong:?}");
        }
        assert!(fixed(&[0x30, 0x04, 0x02, 0x02, 0x01, 0x01], 1).is_err());
    }

    /// An RSA key of 2048 bits, made for this test alone.
    const RSA: &str = include_str!("testdata/rsa.pem");

    #[test]
    fn rsa_keys_sign_too() {
        let key = SigningKey::from_pem(RSA.as_bytes()).expect("signs");
        assert_eq!(key.public.algorithm, Algorithm::Rs256);
        let signature = key.sign(b"m").expect("signs");
        assert!(key.public.has_signed(b"m", &signature));
        let published = key.public.published();
        assert_eq!(
            (&published["kty"], &published["e"], &published["alg"]),
            (&json!("RSA"), &json!("AQAB"), &json!("RS256"))
        );
    }

    #[test]
    fn a_text_without_keys_is_refused() {
        for text in ["", "nonsense", "-----BEGIN X-----\n-----END X-----\n"] {
            assert!(PublicKey::all_from_pem(text.as_bytes()).is_err(), "{text}");
        }
    }
}
