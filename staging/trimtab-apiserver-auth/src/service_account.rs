//! Service account tokens: JSON web tokens that the server issues, signs and believes.
//!
//! Whether the account, and what a token is bound to, still exist is for the caller to find out: the claims say what
//! to look for.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::UserInfo;
use crate::certs::{self, CertError};
use crate::token_keys::{PublicKey, SigningKey};

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

/// Issues tokens with one key, and checks tokens by that and others. The debug form does not show it.
pub struct Issuer {
    key: SigningKey,
    /// The keys by which tokens are believed, the issuer's own first.
    keys: Vec<PublicKey>,
    /// Whose tokens are believed; the first is who issues.
    issuers: Vec<String>,
    audiences: Vec<String>,
    keys_url: Option<String>,
    max_seconds: Option<i64>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("issuers", &self.issuers)
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
        Self::from_pem(&new_key()?).map_err(CertError::Make)
    }

    /// An issuer with the key in `dir`, which is made, readable by its owner only, if it is not there.
    ///
    /// # Errors
    ///
    /// When the key cannot be read, written or used.
    pub fn open(dir: &Path) -> Result<Self, CertError> {
        let path = dir.join(KEY_FILE);
        match std::fs::read_to_string(&path) {
            Ok(pem) => Self::from_pem(&pem).map_err(|why| CertError::Unusable {
                path: path.display().to_string(),
                why,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let pem = new_key()?;
                certs::write(&path, &pem, 0o600)?;
                Self::from_pem(&pem).map_err(CertError::Make)
            }
            Err(source) => Err(CertError::File {
                path: path.display().to_string(),
                source,
            }),
        }
    }

    /// An issuer with this key: RSA, or ECDSA on P-256 or P-384, in PEM.
    ///
    /// # Errors
    ///
    /// Why the key cannot be used.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let key =
            SigningKey::from_pem(pem.as_bytes()).map_err(|why| format!("service account key: {why}"))?;
        Ok(Self {
            keys: vec![key.public.clone()],
            key,
            issuers: vec![DEFAULT_ISSUER.to_owned()],
            audiences: vec![DEFAULT_ISSUER.to_owned()],
            keys_url: None,
            max_seconds: None,
        })
    }

    /// The same issuer, which believes tokens that were signed by these keys, too: public or private keys, or certificates,
    /// in PEM.
    ///
    /// # Errors
    ///
    /// Why a key cannot be used, or that there is none.
    pub fn believing(mut self, pem: &str) -> Result<Self, String> {
        for key in PublicKey::all_from_pem(pem.as_bytes())? {
            if self.keys.iter().all(|known| known.id != key.id) {
                self.keys.push(key);
            }
        }
        Ok(self)
    }

    /// The same issuer under the first of these names, which believes tokens of all of them; they are its audiences as long
    /// as no others are set. No names change nothing.
    #[must_use]
    pub fn named(mut self, issuers: &[String]) -> Self {
        if !issuers.is_empty() {
            self.issuers = issuers.to_vec();
            self.audiences = issuers.to_vec();
        }
        self
    }

    /// The same issuer with these audiences; none change nothing.
    #[must_use]
    pub fn for_audiences(mut self, audiences: &[String]) -> Self {
        if !audiences.is_empty() {
            self.audiences = audiences.to_vec();
        }
        self
    }

    /// The same issuer, whose keys others find at this URL.
    #[must_use]
    pub fn publishing_keys_at(mut self, url: Option<String>) -> Self {
        self.keys_url = url;
        self
    }

    /// The same issuer, whose tokens last no longer than so many seconds.
    #[must_use]
    pub fn lasting(mut self, max_seconds: Option<i64>) -> Self {
        self.max_seconds = max_seconds;
        self
    }

    /// How long tokens may last, in seconds.
    pub fn max_seconds(&self) -> Option<i64> {
        self.max_seconds
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
            iss: self.issuers.first().cloned().unwrap_or_default(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: format!(
                "system:serviceaccount:{}:{}",
                bound.namespace, bound.serviceaccount.name
            ),
            bound,
            nbf: now,
        };
        let unsigned = |e: &dyn std::fmt::Display| CertError::Make(format!("token: {e}"));
        let public = &self.key.public;
        let head = json!({"alg": public.algorithm.name(), "kid": public.id}).to_string();
        let body = serde_json::to_vec(&claims).map_err(|e| unsigned(&e))?;
        let signed = format!("{}.{}", BASE64.encode(head), BASE64.encode(body));
        let signature = self.key.sign(signed.as_bytes()).map_err(|e| unsigned(&e))?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }

    /// Whether this issuer could have issued the token: other tokens are other authenticators' business.
    pub fn is_ours(&self, token: &str) -> bool {
        decode(token).is_some_and(|(_, claims, _, _)| self.issuers.contains(&claims.iss))
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
        if !self.issuers.contains(&claims.iss) {
            return Err("not a token of ours");
        }
        let text = |field: &str| header.get(field).and_then(Value::as_str);
        let (algorithm, id) = (text("alg"), text("kid"));
        // The key that the token names, if we have it; otherwise any.
        let named = self.keys.iter().any(|key| Some(key.id.as_str()) == id);
        let mut candidates = self
            .keys
            .iter()
            .filter(|key| Some(key.algorithm.name()) == algorithm && (!named || Some(key.id.as_str()) == id));
        if !candidates.any(|key| key.has_signed(signed.as_bytes(), &signature)) {
            return Err("the signature is wrong");
        }
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

    /// The public keys as a JSON web key set: what `/openid/v1/jwks` serves.
    pub fn key_set(&self) -> Value {
        json!({"keys": self.keys.iter().map(PublicKey::published).collect::<Vec<_>>()})
    }

    /// What `/.well-known/openid-configuration` serves; `server` is the server's URL.
    pub fn discovery(&self, server: &str) -> Value {
        let mut algorithms: Vec<&str> = self.keys.iter().map(|key| key.algorithm.name()).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        let keys_url = self.keys_url.clone();
        json!({
            "issuer": self.issuers.first(),
            "jwks_uri": keys_url.unwrap_or_else(|| format!("{server}/openid/v1/jwks")),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        })
    }

    /// Whether others can find the keys by the issuer's name: whether that is an https URL.
    pub fn is_discoverable(&self) -> bool {
        let name = self.issuers.first().map(String::as_str).unwrap_or_default();
        name.starts_with("https://") && !name.contains(['?', '#'])
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
    fn tokens_of_other_keys_and_names_are_believed_where_that_is_said() {
        let old_key = new_key().unwrap();
        let old = Issuer::from_pem(&old_key)
            .unwrap()
            .named(&["https://old".to_owned()]);
        let token = old.issue(bound(), &[], 1000, 600).unwrap();
        let names = ["https://new".to_owned(), "https://old".to_owned()];
        let alone = || Issuer::generate().unwrap().named(&names);
        assert!(alone().verify(&token, &[], 1000).is_err(), "another key");
        let new = alone().believing(&old_key).unwrap();
        assert!(new.verify(&token, &[], 1000).is_ok());
        assert!(new.is_ours(&token));
        let again = new.believing(&old_key).unwrap();
        assert_eq!(again.key_set()["keys"].as_array().map(Vec::len), Some(2));
        let elsewhere = again.for_audiences(&["api".to_owned()]);
        assert!(elsewhere.verify(&token, &[], 1000).is_err(), "another audience");
        let own = elsewhere.issue(bound(), &[], 1000, 600).unwrap();
        let (claims, audiences) = elsewhere.verify(&own, &[], 1000).unwrap();
        assert_eq!(
            (claims.iss.as_str(), audiences),
            ("https://new", vec!["api".to_owned()])
        );
        let nameless = elsewhere
            .named(&["https://new".to_owned()])
            .for_audiences(&["https://old".to_owned()]);
        assert!(nameless.verify(&token, &[], 1000).is_err(), "another name");
    }

    #[test]
    fn discovery_says_where_the_keys_are() {
        let issuer = || Issuer::generate().unwrap();
        let found = issuer().discovery("https://server");
        assert_eq!(
            (&found["issuer"], &found["jwks_uri"]),
            (&json!(DEFAULT_ISSUER), &json!("https://server/openid/v1/jwks"))
        );
        let elsewhere = issuer().publishing_keys_at(Some("https://keys".to_owned()));
        assert_eq!(elsewhere.discovery("https://server")["jwks_uri"], "https://keys");
        for (name, wanted) in [
            ("https://a/b", true),
            ("kubernetes/serviceaccount", false),
            ("http://a", false),
        ] {
            assert_eq!(
                issuer().named(&[name.to_owned()]).is_discoverable(),
                wanted,
                "{name}"
            );
        }
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
