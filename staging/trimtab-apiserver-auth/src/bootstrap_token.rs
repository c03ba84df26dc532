//! Bootstrap tokens: by what a machine that wants to join a cluster says that it may ask. Each is in a Secret of the
//! namespace `kube-system`; looking for that is the caller's business.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use crate::UserInfo;

/// The namespace of the Secrets.
pub const NAMESPACE: &str = "kube-system";
const KIND: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";
/// What names of more groups begin with, and how long what follows may be.
const GROUP_PREFIX: &str = "system:bootstrappers:";
const GROUP_LENGTH: usize = 256;

/// A token taken apart. Its debug form does not show the secret part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BootstrapToken<'a> {
    /// Six letters and digits, by which the Secret is found.
    pub id: &'a str,
    secret: &'a str,
}

impl std::fmt::Debug for BootstrapToken<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BootstrapToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl<'a> BootstrapToken<'a> {
    /// Takes `abcdef.0123456789abcdef` apart; `None` when the text has another form.
    pub fn parse(token: &'a str) -> Option<Self> {
        let (id, secret) = token.split_once('.')?;
        let fits = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
        };
        (fits(id, 6) && fits(secret, 16)).then_some(Self { id, secret })
    }

    /// The name of the Secret in which the token is, if there is one.
    pub fn secret_name(&self) -> String {
        format!("bootstrap-token-{}", self.id)
    }

    /// Whom the token stands for, by the Secret of that name.
    ///
    /// # Errors
    ///
    /// Why it stands for nobody, for the log; it never holds the token.
    pub fn user(&self, secret: &Value, now: Timestamp) -> Result<UserInfo, &'static str> {
        let data = |key: &str| {
            let text = secret["data"][key].as_str().unwrap_or_default();
            STANDARD.decode(text).unwrap_or_default()
        };
        if !secret["metadata"]["deletionTimestamp"].is_null() {
            return Err("the bootstrap token is being deleted");
        }
        if secret["type"] != KIND {
            return Err("the secret of the bootstrap token is of another type");
        }
        if !is_same(&data("token-secret"), self.secret.as_bytes()) || data("token-id") != self.id.as_bytes() {
            return Err("the bootstrap token is wrong");
        }
        let expiration = data("expiration");
        if !expiration.is_empty() {
            let end = std::str::from_utf8(&expiration).ok();
            let end = end.and_then(|end| end.parse::<Timestamp>().ok());
            if end.is_none_or(|end| end <= now) {
                return Err("the bootstrap token has expired");
            }
        }
        if data("usage-bootstrap-authentication") != b"true" {
            return Err("the bootstrap token is not for authentication");
        }
        let mut groups = BTreeSet::from([GROUP.to_owned()]);
        let more = String::from_utf8(data("auth-extra-groups")).map_err(|_| "the groups are no text")?;
        for group in more.split(',').filter(|_| !more.is_empty()) {
            if !is_group(group) {
                return Err("the bootstrap token has groups that are not those of bootstrappers");
            }
            groups.insert(group.to_owned());
        }
        Ok(UserInfo {
            name: format!("system:bootstrap:{}", self.id),
            groups: groups.into_iter().collect(),
            ..UserInfo::default()
        })
    }
}

fn is_group(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.strip_prefix(GROUP_PREFIX).is_some_and(|rest| {
        rest.len() <= GROUP_LENGTH
            && rest.bytes().all(|b| letter(b) || b == b':' || b == b'-')
            && rest.bytes().last().is_some_and(letter)
    })
}

/// Compares in a time that does not tell where the difference is.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(change: Value) -> Value {
        let mut data = json!({
            "token-id": "abcdef",
            "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true",
        });
        for (key, value) in change.as_object().into_iter().flatten() {
            data[key] = value.clone();
        }
        let fields = data.as_object().cloned().unwrap_or_default();
        let encoded: serde_json::Map<String, Value> = fields
            .into_iter()
            .map(|(key, value)| {
                let text = value.as_str().unwrap_or_default().to_owned();
                (key, STANDARD.encode(text).into())
            })
            .collect();
        json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": KIND, "data": encoded})
    }

    #[test]
    fn a_token_has_two_parts() {
        let token = BootstrapToken::parse("abcdef.0123456789abcdef").expect("a token");
        assert_eq!(token.secret_name(), "bootstrap-token-abcdef");
        assert!(!format!("{token:?}").contains("0123"));
        for text in [
            "",
            "abcdef",
            "abcdef.0123456789abcde",
            "abcde.0123456789abcdef",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcdef.x",
            "abcdef.0123456789abcde/",
        ] {
            assert_eq!(BootstrapToken::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_token_stands_for_a_bootstrapper_while_its_secret_says_so() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().expect("a time");
        let token = BootstrapToken::parse("abcdef.0123456789abcdef").expect("a token");
        let groups = |change: Value| token.user(&secret(change), now).map(|user| user.groups);
        let user = token.user(&secret(json!({})), now).expect("a user");
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, ["system:bootstrappers"]);
        let more = json!({"auth-extra-groups": "system:bootstrappers:b,system:bootstrappers:a-1:x"});
        assert_eq!(
            groups(more).expect("a user"),
            [
                "system:bootstrappers",
                "system:bootstrappers:a-1:x",
                "system:bootstrappers:b"
            ]
        );
        for (change, good) in [
            (json!({"expiration": "2030-01-01T00:00:01Z"}), true),
            (json!({"expiration": "2030-01-01T00:00:00Z"}), false),
            (json!({"expiration": "soon"}), false),
            (json!({"token-secret": "0123456789abcdeg"}), false),
            (json!({"token-secret": ""}), false),
            (json!({"token-id": "abcdeg"}), false),
            (json!({"usage-bootstrap-authentication": "false"}), false),
            (json!({"usage-bootstrap-authentication": ""}), false),
            (json!({"auth-extra-groups": "system:masters"}), false),
            (json!({"auth-extra-groups": "system:bootstrappers:"}), false),
            (json!({"auth-extra-groups": "system:bootstrappers:a,"}), false),
            (json!({"auth-extra-groups": "system:bootstrappers:A"}), false),
        ] {
            assert_eq!(groups(change.clone()).is_ok(), good, "{change}");
        }
        let mut other = secret(json!({}));
        other["type"] = json!("Opaque");
        assert!(token.user(&other, now).is_err());
        let mut going = secret(json!({}));
        going["metadata"]["deletionTimestamp"] = json!("2029-12-31T00:00:00Z");
        assert!(token.user(&going, now).is_err());
    }
}
