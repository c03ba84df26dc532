//! The flags about who sends a request: service account tokens, bootstrap tokens, authenticating proxies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use trimtab_apiserver_auth::service_account::Issuer;

use super::{OptionsError, read};
use crate::auth::FrontProxy;
use crate::registry::duration;

/// Tokens may be made to last this long, and no less or more; in seconds, as kube-apiserver has it.
const LASTING: std::ops::RangeInclusive<i64> = 3600..=1 << 32;

/// Who sends a request.
#[derive(Clone, Debug, Default, Args)]
pub struct AuthenticationOptions {
    /// Whether bootstrap tokens are believed: Secrets of type bootstrap.kubernetes.io/token in kube-system
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub enable_bootstrap_token_auth: bool,

    /// Who issues service account tokens [default: the Service kubernetes.default.svc]; given several times, the first issues,
    /// and tokens of all are believed
    #[arg(long, value_name = "URL")]
    pub service_account_issuer: Vec<String>,

    /// The private key that signs service account tokens (PEM; RSA, or ECDSA on P-256 or P-384) [default: one in --cert-dir]
    #[arg(long, value_name = "FILE")]
    pub service_account_signing_key_file: Option<PathBuf>,

    /// More keys by which service account tokens are believed (PEM; private, public or certificates)
    #[arg(long, value_name = "FILE")]
    pub service_account_key_file: Vec<PathBuf>,

    /// Where others find the keys of service account tokens, instead of here
    #[arg(long, value_name = "URL")]
    pub service_account_jwks_uri: Option<String>,

    /// How long service account tokens may last at most, as 24h
    #[arg(long, value_name = "DURATION", value_parser = lasting)]
    pub service_account_max_token_expiration: Option<Duration>,

    /// The audiences of this server, one of which tokens must be for [default: the issuers]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub api_audiences: Vec<String>,

    /// The authority of authenticating proxies (PEM), which say in headers who asks
    #[arg(long, value_name = "FILE")]
    pub requestheader_client_ca_file: Option<PathBuf>,

    /// The common names of authenticating proxies [default: any]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub requestheader_allowed_names: Vec<String>,

    /// Headers in which proxies say the user's name, as X-Remote-User
    #[arg(long, value_delimiter = ',', value_name = "HEADERS")]
    pub requestheader_username_headers: Vec<String>,

    /// Headers in which proxies say the user's UID, as X-Remote-Uid
    #[arg(long, value_delimiter = ',', value_name = "HEADERS")]
    pub requestheader_uid_headers: Vec<String>,

    /// Headers in which proxies say the user's groups, as X-Remote-Group
    #[arg(long, value_delimiter = ',', value_name = "HEADERS")]
    pub requestheader_group_headers: Vec<String>,

    /// What headers begin with in which proxies say more about the user, as X-Remote-Extra-
    #[arg(long, value_delimiter = ',', value_name = "PREFIXES")]
    pub requestheader_extra_headers_prefix: Vec<String>,
}

fn lasting(text: &str) -> Result<Duration, String> {
    let wrong = "the service-account-max-token-expiration must be between 1 hour and 2^32 seconds";
    let lasting = duration(text).filter(|_| !text.starts_with('-'));
    let lasting = lasting.ok_or("a duration is wanted, as 90m, 24h or 1h30m")?;
    let seconds = i64::try_from(lasting.as_secs()).map_err(|_| wrong)?;
    if LASTING.contains(&seconds) {
        Ok(lasting)
    } else {
        Err(wrong.to_owned())
    }
}

fn senseless(why: impl Into<String>) -> OptionsError {
    OptionsError::Authentication(why.into())
}

impl AuthenticationOptions {
    /// The issuer of service account tokens, if it is another than the server makes by itself; `dir` is where that would keep
    /// its key.
    pub(super) fn issuer(&self, dir: Option<&Path>) -> Result<Option<Issuer>, OptionsError> {
        let names = &self.service_account_issuer;
        for (n, name) in names.iter().enumerate() {
            if name.is_empty() {
                return Err(senseless("service-account-issuer should not be an empty string"));
            }
            if name.contains(':') && name.parse::<http::Uri>().is_err() {
                return Err(senseless(format!(
                    "service-account-issuer {name:?} contained a ':' but was not a valid URL"
                )));
            }
            if names[..n].contains(name) {
                return Err(senseless(format!(
                    "service-account-issuer {name:?} is already specified"
                )));
            }
        }
        if let Some(url) = self
            .service_account_jwks_uri
            .as_ref()
            .filter(|url| !url.starts_with("https://"))
        {
            return Err(senseless(format!(
                "service-account-jwks-uri requires https scheme, parsed as: {url}"
            )));
        }
        let asked_for = !names.is_empty()
            || !self.api_audiences.is_empty()
            || !self.service_account_key_file.is_empty()
            || self.service_account_signing_key_file.is_some()
            || self.service_account_jwks_uri.is_some()
            || self.service_account_max_token_expiration.is_some();
        if !asked_for {
            return Ok(None);
        }
        let unusable =
            |flag: &str, file: &Path, why: String| senseless(format!("{flag} {}: {why}", file.display()));
        let mut issuer = match (&self.service_account_signing_key_file, dir) {
            (Some(file), _) => {
                let flag = "--service-account-signing-key-file";
                Issuer::from_pem(&read(flag, file)?).map_err(|why| unusable(flag, file, why))?
            }
            (None, Some(dir)) => Issuer::open(dir).map_err(|e| senseless(e.to_string()))?,
            (None, None) => Issuer::generate().map_err(|e| senseless(e.to_string()))?,
        };
        for file in &self.service_account_key_file {
            let flag = "--service-account-key-file";
            issuer = issuer
                .believing(&read(flag, file)?)
                .map_err(|why| unusable(flag, file, why))?;
        }
        let lasting = self.service_account_max_token_expiration;
        let seconds = lasting.map(|lasting| i64::try_from(lasting.as_secs()).unwrap_or(i64::MAX));
        Ok(Some(
            issuer
                .named(names)
                .for_audiences(&self.api_audiences)
                .publishing_keys_at(self.service_account_jwks_uri.clone())
                .lasting(seconds),
        ))
    }

    /// The authenticating proxies that are believed; `client_ca` is the authority of other clients.
    pub(super) fn front_proxy(&self, client_ca: Option<&str>) -> Result<Option<FrontProxy>, OptionsError> {
        for (flag, names) in [
            (
                "requestheader-username-headers",
                &self.requestheader_username_headers,
            ),
            ("requestheader-group-headers", &self.requestheader_group_headers),
            (
                "requestheader-extra-headers-prefix",
                &self.requestheader_extra_headers_prefix,
            ),
            ("requestheader-allowed-names", &self.requestheader_allowed_names),
            ("requestheader-uid-headers", &self.requestheader_uid_headers),
        ] {
            if names.iter().any(|name| name.trim().is_empty()) {
                return Err(senseless(format!("empty value in {flag:?}")));
            }
        }
        let Some(file) = &self.requestheader_client_ca_file else {
            return Ok(None);
        };
        let authorities = read("--requestheader-client-ca-file", file)?;
        let certificates = |pem: &str| -> Vec<CertificateDer<'static>> {
            let all = CertificateDer::pem_slice_iter(pem.as_bytes());
            all.filter_map(Result::ok).collect()
        };
        let proxies = certificates(&authorities);
        let clients = client_ca.map(certificates).unwrap_or_default();
        let overlap = clients.iter().any(|client| proxies.contains(client));
        if overlap && self.requestheader_allowed_names.is_empty() {
            return Err(senseless(
                "--requestheader-client-ca-file and --client-ca-file contain overlapping certificates; \
                 --requestheader-allowed-names must be specified to ensure regular client certificates cannot set \
                 authenticating proxy headers for arbitrary users",
            ));
        }
        let trimmed = |names: &[String]| names.iter().map(|name| name.trim().to_owned()).collect();
        Ok(Some(FrontProxy {
            authorities,
            allowed_names: self.requestheader_allowed_names.clone(),
            username_headers: trimmed(&self.requestheader_username_headers),
            uid_headers: trimmed(&self.requestheader_uid_headers),
            group_headers: trimmed(&self.requestheader_group_headers),
            extra_prefixes: trimmed(&self.requestheader_extra_headers_prefix),
        }))
    }
}

#[cfg(test)]
mod tests {
    use trimtab_apiserver_auth::certs::Authority;

    use super::*;

    fn text(error: Option<OptionsError>) -> String {
        error.map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn nothing_asked_for_is_nothing_changed() {
        let options = AuthenticationOptions::default();
        assert!(options.issuer(None).expect("fine").is_none());
        assert!(options.front_proxy(None).expect("fine").is_none());
    }

    #[test]
    fn issuers_are_checked_in_kube_apiservers_words() {
        let named = |names: &[&str], url: Option<&str>| AuthenticationOptions {
            service_account_issuer: names.iter().map(|name| (*name).to_owned()).collect(),
            service_account_jwks_uri: url.map(str::to_owned),
            ..AuthenticationOptions::default()
        };
        for (options, wanted) in [
            (named(&["https://a", "b"], None), ""),
            (
                named(&[""], None),
                "service-account-issuer should not be an empty string",
            ),
            (
                named(&["a", "a"], None),
                "service-account-issuer \"a\" is already specified",
            ),
            (
                named(&["a:b c"], None),
                "service-account-issuer \"a:b c\" contained a ':' but was not a valid URL",
            ),
            (
                named(&[], Some("http://keys")),
                "service-account-jwks-uri requires https scheme, parsed as: http://keys",
            ),
        ] {
            assert_eq!(text(options.issuer(None).err()), wanted);
        }
        for (lasts, good) in [
            ("1h", true),
            ("59m", false),
            ("24h", true),
            ("2000000h", false),
            ("x", false),
        ] {
            assert_eq!(lasting(lasts).is_ok(), good, "{lasts}");
        }
    }

    #[test]
    fn keys_come_from_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let key = || rcgen::KeyPair::generate().expect("a key");
        let (signing, other) = (key(), key());
        let options = AuthenticationOptions {
            service_account_signing_key_file: Some(file("sa.key", &signing.serialize_pem())),
            service_account_key_file: vec![file("sa.pub", &other.public_key_pem())],
            api_audiences: vec!["api".to_owned()],
            service_account_max_token_expiration: Some(Duration::from_secs(7200)),
            ..AuthenticationOptions::default()
        };
        let issuer = options.issuer(None).expect("usable").expect("asked for");
        assert_eq!(issuer.key_set()["keys"].as_array().map(Vec::len), Some(2));
        assert_eq!(issuer.audiences(), ["api"]);
        assert_eq!(issuer.max_seconds(), Some(7200));
        let bad = AuthenticationOptions {
            service_account_key_file: vec![file("bad", "nonsense")],
            ..options.clone()
        };
        assert!(text(bad.issuer(None).err()).contains("does not contain any valid"));
        let missing = AuthenticationOptions {
            service_account_key_file: vec![dir.path().join("none")],
            ..options
        };
        assert!(text(missing.issuer(None).err()).starts_with("--service-account-key-file"));
    }

    #[test]
    fn proxies_need_names_where_clients_have_their_authority() {
        let dir = tempfile::tempdir().expect("a folder");
        let authority = Authority::generate().expect("made");
        let file = dir.path().join("ca.crt");
        std::fs::write(&file, authority.certificate()).expect("written");
        let options = |names: &[&str]| AuthenticationOptions {
            requestheader_client_ca_file: Some(file.clone()),
            requestheader_allowed_names: names.iter().map(|name| (*name).to_owned()).collect(),
            requestheader_username_headers: vec![" X-Remote-User ".to_owned()],
            ..AuthenticationOptions::default()
        };
        let proxy = options(&[])
            .front_proxy(None)
            .expect("usable")
            .expect("asked for");
        assert_eq!(proxy.username_headers, ["X-Remote-User"]);
        let clients = Some(authority.certificate());
        assert!(text(options(&[]).front_proxy(clients).err()).contains("overlapping certificates"));
        assert!(options(&["front"]).front_proxy(clients).is_ok());
        let empty = text(options(&[" "]).front_proxy(None).err());
        assert_eq!(empty, "empty value in \"requestheader-allowed-names\"");
    }
}
