//! Service account tokens: JSON web tokens that the server issues, signs and believes.
//!
//! Whether the account, and what a token is bound to, still exist is for the caller to find out: the claims say what
//! to look for.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::UserInfo;
use crate::certs::{self, CertError};

/// Who issues tokens, and for whom by default, unless something else is configured.
pub const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc";
/// A clock may be wrong by this many seconds.
const LEEWAY: i64 = 10;
const KEY_FILE: &str = "service-account.key";

/// An object by name and identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// The name.
    pub name: String,
    /// The UID.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// What a token says about Kubernetes objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The account's namespace.
    pub namespace: String,
    /// The account.
    pub serviceaccount: ObjectRef,
    /// The pod that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ObjectRef>,
    /// The secret that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectRef>,
    /// The node that the token is bound to, or that its pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<ObjectRef>,
}

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who may accept it.
    pub aud: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// When it was issued.
    pub iat: i64,
    /// Who issued it.
    pub iss: String,
    /// Its identity.
    #[serde(default)]
    pub jti: String,
    /// The objects that it is about.
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
    /// When it begins.
    pub nbf: i64,
    /// Whom it stands for, as `system:serviceaccount:default:builder`.
    pub sub: String,
}

impl Claims {
    /// The user that the token stands for.
    pub fn user(&self) -> UserInfo {
        let Bound {
            namespace,
            serviceaccount,
            pod,
            node,
            ..
        } = &self.bound;
        let mut user = UserInfo {
            uid: serviceaccount.uid.clone(),
            ..UserInfo::of_service_account(namespace, &serviceaccount.name)
        };
        let mut extra = |key: &str, value: String| {
            user.extra
                .insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        };
        if !self.jti.is_empty() {
            extra("credential-id", format!("JTI={}", self.jti));
        }
        for (kind, object) in [("pod", pod), ("node", node)] {
            if let Some(object) = object {
                extra(&format!("{kind}-name"), object.name.clone());
                extra(&format!("{kind}-uid"), object.uid.clone());
            }
        }
        user
    }
}

/// Issues and checks tokens with one key. The debug form does not show it.
pub struct Issuer {
    key: EcdsaKeyPair,
    random: SystemRandom,
    key_id: String,
    issuer: String,
    audiences: Vec<String>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl Issuer {
    /// An issuer with a new key, which is kept nowhere.
    ///
    /// # Errors
    ///
    /// [`CertError::Make`].
    pub fn generate() -> Result<Self, CertError> {
        Self::from_pem(&new_key()?)
    }

    /// An issuer with the key in `dir`, which is made, readable by its owner only, if it is not there.
    ///
    /// # Errors
    ///
    /// When the key cannot be read, written or used.
    pub fn open(dir: &Path) -> Result<Self, CertError> {
        let path = dir.join(KEY_FILE);
        match std::fs::read_to_string(&path) {
            Ok(pem) => Self::from_pem(&pem).map_err(|error| CertError::Unusable {
                path: path.display().to_string(),
                why: error.to_string(),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let pem = new_key()?;
                certs::write(&path, &pem, 0o600)?;
                Self::from_pem(&pem)
            }
            Err(source) => Err(CertError::File {
                path: path.display().to_string(),
                source,
            }),
        }
    }

    fn from_pem(pem: &str) -> Result<Self, CertError> {
        let unusable = |why: String| CertError::Make(format!("service account key: {why}"));
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| unusable(e.to_string()))?;
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der(), &random)
            .map_err(|e| unusable(e.to_string()))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        let issuer = DEFAULT_ISSUER.to_owned();
        Ok(Self {
            key,
            random,
            key_id: BASE64.encode(digest),
            audiences: vec![issuer.clone()],
            issuer,
        })
    }

    /// The audiences of this server: tokens without others are for them, and requests must bring one of them.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Issues a token.
    ///
    /// `now` and `seconds` are in seconds; `seconds` is how long the token is good for. An empty `audiences` means
    /// those of this server.
    ///
    /// # Errors
    ///
    /// When there is no randomness to sign with.
    pub fn issue(
        &self,
        bound: Bound,
        audiences: &[String],
        now: i64,
        seconds: i64,
    ) -> Result<String, CertError> {
        let claims = Claims {
            aud: if audiences.is_empty() {
                self.audiences.clone()
            } else {
                audiences.to_vec()
            },
            exp: now.saturating_add(seconds),
            iat: now,
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: format!(
                "system:serviceaccount:{}:{}",
                bound.namespace, bound.serviceaccount.name
            ),
            bound,
            nbf: now,
        };
        let unsigned = |e: &dyn std::fmt::Display| CertError::Make(format!("token: {e}"));
        let head = json!({"alg": "ES256", "kid": self.key_id}).to_string();
        let body = serde_json::to_vec(&claims).map_err(|e| unsigned(&e))?;
        let signed = format!("{}.{}", BASE64.encode(head), BASE64.encode(body));
        let signature = self
            .key
            .sign(&self.random, signed.as_bytes())
            .map_err(|e| unsigned(&e))?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }

    /// Whether this issuer could have issued the token: other tokens are other authenticators' business.
    pub fn is_ours(&self, token: &str) -> bool {
        decode(token).is_some_and(|(_, claims, _, _)| claims.iss == self.issuer)
    }

    /// Believes a token, or not. `audiences` are those one of which the token must name; empty for this server's.
    /// Answers with the claims and which of the audiences the token is for.
    ///
    /// # Errors
    ///
    /// What is wrong with the token, for the log; it never holds the token.
    pub fn verify(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
    ) -> Result<(Claims, Vec<String>), &'static str> {
        let (header, claims, signed, signature) = decode(token).ok_or("not a token of ours")?;
        if header.get("alg").and_then(Value::as_str) != Some("ES256") || claims.iss != self.issuer {
            return Err("not a token of ours");
        }
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        key.verify(signed.as_bytes(), &signature)
            .map_err(|_| "the signature is wrong")?;
        if now.saturating_sub(LEEWAY) > claims.exp {
            return Err("the token has expired");
        }
        if now.saturating_add(LEEWAY) < claims.nbf {
            return Err("the token is not valid yet");
        }
        let wanted = if audiences.is_empty() {
            &self.audiences
        } else {
            audiences
        };
        let matching: Vec<String> = wanted
            .iter()
            .filter(|a| claims.aud.contains(a))
            .cloned()
            .collect();
        if matching.is_empty() {
            return Err("the token is for another audience");
        }
        Ok((claims, matching))
    }

    /// The public key as a JSON web key set: what `/openid/v1/jwks` serves.
    pub fn key_set(&self) -> Value {
        // An uncompressed point: one byte of 4, then both coordinates.
        let point = self.key.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": BASE64.encode(x), "y": BASE64.encode(y),
        }]})
    }

    /// What `/.well-known/openid-configuration` serves; `server` is the server's URL.
    pub fn discovery(&self, server: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{server}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}

fn new_key() -> Result<String, CertError> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
    key.map(|key| key.serialize_pem())
        .map_err(|e| CertError::Make(e.to_string()))
}

/// Header, claims, what is signed, signature.
fn decode(token: &str) -> Option<(Value, Claims, &str, Vec<u8>)> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, body) = signed.split_once('.')?;
    let header = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
    let claims = serde_json::from_slice(&BASE64.decode(body).ok()?).ok()?;
    Some((header, claims, signed, BASE64.decode(signature).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> Bound {
        let serviceaccount = ObjectRef {
            name: "robot".into(),
            uid: "u1".into(),
        };
        let pod = Some(ObjectRef {
            name: "p".into(),
            uid: "u2".into(),
        });
        Bound {
            namespace: "x".into(),
            serviceaccount,
            pod,
            ..Bound::default()
        }
    }

    #[test]
    fn a_token_is_believed_by_who_issued_it_while_it_lasts_and_by_its_audience() {
        let (issuer, other) = (Issuer::generate().unwrap(), Issuer::generate().unwrap());
        let token = issuer.issue(bound(), &[], 1000, 600).unwrap();
        let elsewhere = issuer.issue(bound(), &["vault".to_owned()], 1000, 600).unwrap();
        let mut forged = token.clone();
        forged.replace_range(token.len() - 4.., "AAAA");
        let vault = ["vault".to_owned()];
        let cases: [(&Issuer, &str, &[String], i64, bool); 9] = [
            (&issuer, &token, &[], 1000, true),
            (&issuer, &token, &[], 1600, true),
            (&issuer, &token, &[], 1700, false),
            (&issuer, &token, &[], 900, false),
            (&issuer, &token, &vault, 1000, false),
            (&issuer, &elsewhere, &vault, 1000, true),
            (&issuer, &elsewhere, &[], 1000, false),
            (&issuer, &forged, &[], 1000, false),
            (&other, &token, &[], 1000, false),
        ];
        for (n, (issuer, token, audiences, now, good)) in cases.into_iter().enumerate() {
            assert_eq!(issuer.verify(token, audiences, now).is_ok(), good, "case {n}");
        }
        assert!(issuer.verify("nonsense", &[], 1000).is_err());
    }

    #[test]
    fn a_token_says_who_and_from_where() {
        let issuer = Issuer::generate().unwrap();
        let token = issuer.issue(bound(), &[], 0, 600).unwrap();
        let user = issuer.verify(&token, &[], 0).unwrap().0.user();
        assert_eq!(user.name, "system:serviceaccount:x:robot");
        assert_eq!(
            user.groups,
            ["system:serviceaccounts", "system:serviceaccounts:x"]
        );
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    }

    #[test]
    fn the_key_stays_the_same_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let token = Issuer::open(dir.path())
            .unwrap()
            .issue(bound(), &[], 0, 600)
            .unwrap();
        assert!(Issuer::open(dir.path()).unwrap().verify(&token, &[], 0).is_ok());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(dir.path().join(KEY_FILE))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
