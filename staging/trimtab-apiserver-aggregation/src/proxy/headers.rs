//! The headers of a request that is passed on, and of its answer.

use std::net::IpAddr;

use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use trimtab_apiserver_auth::UserInfo;

/// What concerns one connection only, and ends with it.
const OF_CONNECTIONS: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What keys of extras are escaped to be in names of headers: all but what names may have, and the sign of escapes. From client-go's
/// `headerKeyEscape`.
const IN_NAMES: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const REMOTE_GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Whether a request asks for another protocol on its connection.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    let asks = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    asks && headers.contains_key(UPGRADE)
}

/// Takes away what concerns the connection that a message came by. What it is upgraded to stays if `upgrades`.
pub(crate) fn end_connection(headers: &mut HeaderMap, upgrades: bool) {
    let kept = upgrades.then(|| headers.get(UPGRADE).cloned()).flatten();
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in OF_CONNECTIONS {
        headers.remove(name);
    }
    if let Some(protocol) = kept {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Says who asks. What else says so is gone by now.
///
/// # Errors
///
/// A text that says what cannot be said in a header.
pub(crate) fn say_who(headers: &mut HeaderMap, user: &UserInfo) -> Result<(), String> {
    let value = |text: &str| {
        HeaderValue::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} cannot be in a header"))
    };
    headers.insert(USER, value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert(UID, value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append(REMOTE_GROUP, value(group)?);
    }
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", utf8_percent_encode(key, IN_NAMES)).to_ascii_lowercase();
        let name: HeaderName = name.parse().map_err(|_| format!("{key:?} cannot be a header"))?;
        for text in values {
            headers.append(name.clone(), value(text)?);
        }
    }
    Ok(())
}

/// Says where a request has come from, and as which.
pub(crate) fn say_where(headers: &mut HeaderMap, path: &str, address: Option<IpAddr>, audit_id: &str) {
    headers.remove(HOST);
    if let Ok(path) = HeaderValue::from_str(path) {
        headers.insert(FORWARDED_URI, path);
    }
    if let Ok(id) = HeaderValue::from_str(audit_id) {
        headers.insert(AUDIT_ID, id);
    }
    let Some(address) = address else { return };
    let before = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut all: Vec<String> = before.map(str::to_owned).collect();
    all.push(address.to_string());
    if let Ok(all) = HeaderValue::from_str(&all.join(", ")) {
        headers.insert(FORWARDED_FOR, all);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        all.iter().map(pair).collect()
    }

    #[test]
    fn connections_end_here_unless_they_become_something_else() {
        let asked = [
            ("connection", "Upgrade, x-private"),
            ("upgrade", "websocket"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("accept", "*/*"),
        ];
        let asked = headers(&asked);
        assert!(wants_upgrade(&asked));
        assert!(!wants_upgrade(&headers(&[("upgrade", "websocket")])));
        assert!(!wants_upgrade(&headers(&[("connection", "upgrade")])));
        let mut kept = asked.clone();
        end_connection(&mut kept, true);
        let wanted = [
            ("accept", "*/*"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
        ];
        assert_eq!(kept, headers(&wanted));
        let mut ended = asked;
        end_connection(&mut ended, false);
        assert_eq!(ended, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn who_asks_is_said_as_client_go_says_it() {
        let user = UserInfo {
            name: "jürgen".to_owned(),
            uid: "u".to_owned(),
            groups: vec!["a".to_owned(), "b".to_owned()],
            extra: BTreeMap::from([(
                "example.com/Scopes".to_owned(),
                vec!["x".to_owned(), "y".to_owned()],
            )]),
        };
        let mut said = HeaderMap::new();
        say_who(&mut said, &user).expect("can be said");
        assert_eq!(said["x-remote-user"].as_bytes(), "jürgen".as_bytes());
        assert_eq!(said["x-remote-uid"], "u");
        let all = |name: &str| -> Vec<String> {
            let values = said.get_all(name).iter();
            values.map(|v| v.to_str().expect("ASCII").to_owned()).collect()
        };
        assert_eq!(all("x-remote-group"), ["a", "b"]);
        assert_eq!(all("x-remote-extra-example.com%2fscopes"), ["x", "y"]);
        let unspeakable = UserInfo {
            name: "a\nb".to_owned(),
            ..UserInfo::default()
        };
        assert!(say_who(&mut HeaderMap::new(), &unspeakable).is_err());
    }

    #[test]
    fn where_it_comes_from_is_added_to_what_was_said_before() {
        let mut said = headers(&[("host", "us"), ("x-forwarded-for", "10.0.0.1")]);
        say_where(&mut said, "/apis/g/v1", Some(IpAddr::from([127, 0, 0, 1])), "id");
        let wanted = [
            ("x-forwarded-for", "10.0.0.1, 127.0.0.1"),
            ("x-forwarded-uri", "/apis/g/v1"),
            ("audit-id", "id"),
        ];
        assert_eq!(said, headers(&wanted));
    }
}
