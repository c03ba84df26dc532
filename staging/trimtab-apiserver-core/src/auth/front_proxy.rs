//! Requests through an authenticating proxy: it shows a certificate, and says in headers who asks.

use std::collections::BTreeMap;

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use trimtab_apiserver_auth::UserInfo;

/// Which proxies are believed, and in which headers they say who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrontProxy {
    /// The authorities that proxies' certificates are of (PEM).
    pub authorities: String,
    /// The common names of proxies; if empty, any.
    pub allowed_names: Vec<String>,
    /// Where the name is: the first of these headers that is there.
    pub username_headers: Vec<String>,
    /// Where the UID is.
    pub uid_headers: Vec<String>,
    /// Where the groups are: all values of all of these headers.
    pub group_headers: Vec<String>,
    /// What headers begin with that hold more about the user; the rest of their names, decoded, says what.
    pub extra_prefixes: Vec<String>,
}

/// Whom a server believes by the certificates that are shown to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// The authorities of clients' certificates (PEM); may be empty.
    pub clients: String,
    /// Its front proxy, if it has one.
    pub proxy: Option<FrontProxy>,
}

impl FrontProxy {
    /// Whether it is read who asks in this header (lower case).
    pub(crate) fn reads(&self, header: &str) -> bool {
        let named = [&self.username_headers, &self.uid_headers, &self.group_headers];
        named
            .into_iter()
            .flatten()
            .any(|name| name.eq_ignore_ascii_case(header))
            || self
                .extra_prefixes
                .iter()
                .any(|prefix| header.starts_with(&prefix.to_ascii_lowercase()))
    }

    /// Who asks, according to the proxy with this common name; `None` when it is not believed, or does not say.
    pub(crate) fn user(&self, proxy: &str, headers: &HeaderMap) -> Option<UserInfo> {
        if !self.allowed_names.is_empty() && !self.allowed_names.iter().any(|name| name == proxy) {
            return None;
        }
        let first = |names: &[String]| -> String {
            let values = names
                .iter()
                .filter_map(|name| headers.get(name.as_str())?.to_str().ok());
            let mut values = values.filter(|value| !value.is_empty());
            values.next().unwrap_or_default().to_owned()
        };
        let name = first(&self.username_headers);
        if name.is_empty() {
            return None;
        }
        let groups = self
            .group_headers
            .iter()
            .flat_map(|name| headers.get_all(name.as_str()))
            .filter_map(|value| value.to_str().ok())
            .filter(|value| !value.is_empty());
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in &self.extra_prefixes {
            // Names of headers come in lower case.
            let prefix = prefix.to_ascii_lowercase();
            for (header, value) in headers {
                if let Some(key) = header.as_str().strip_prefix(&prefix)
                    && let Ok(value) = value.to_str()
                {
                    let key = percent_decode_str(key)
                        .decode_utf8()
                        .map_or_else(|_| key.to_owned(), |key| key.into_owned());
                    extra.entry(key).or_default().push(value.to_owned());
                }
            }
        }
        Some(UserInfo {
            name,
            uid: first(&self.uid_headers),
            groups: groups.map(str::to_owned).collect(),
            extra,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy() -> FrontProxy {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        FrontProxy {
            authorities: String::new(),
            allowed_names: names(&["front"]),
            username_headers: names(&["X-Remote-User", "X-User"]),
            uid_headers: names(&["X-Remote-Uid"]),
            group_headers: names(&["X-Remote-Group", "X-Group"]),
            extra_prefixes: names(&["X-Remote-Extra-"]),
        }
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            let name = http::HeaderName::from_static(name);
            (name, value.parse().expect("a value"))
        };
        all.iter().map(pair).collect()
    }

    #[test]
    fn a_proxy_says_who_asks() {
        let asked = headers(&[
            ("x-user", "other"),
            ("x-remote-user", "alice"),
            ("x-remote-uid", "u1"),
            ("x-remote-group", "devs"),
            ("x-remote-group", "ops"),
            ("x-group", "more"),
            ("x-remote-extra-example.com%2fscopes", "a"),
            ("x-remote-extra-example.com%2fscopes", "b"),
            ("x-else", "c"),
        ]);
        let user = proxy().user("front", &asked).expect("a user");
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("alice", "u1"));
        assert_eq!(user.groups, ["devs", "ops", "more"]);
        assert_eq!(
            user.extra,
            BTreeMap::from([(
                "example.com/scopes".to_owned(),
                vec!["a".to_owned(), "b".to_owned()]
            )])
        );
        assert_eq!(proxy().user("other", &asked), None);
        let any = FrontProxy {
            allowed_names: Vec::new(),
            ..proxy()
        };
        assert!(any.user("other", &asked).is_some());
        let second = headers(&[("x-remote-user", ""), ("x-user", "bob")]);
        assert_eq!(proxy().user("front", &second).expect("a user").name, "bob");
        assert_eq!(proxy().user("front", &headers(&[("x-remote-group", "g")])), None);
        for (header, reads) in [("x-user", true), ("x-remote-extra-a", true), ("x-else", false)] {
            assert_eq!(proxy().reads(header), reads, "{header}");
        }
    }
}
