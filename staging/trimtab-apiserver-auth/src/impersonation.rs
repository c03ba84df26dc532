//! Impersonation: acting as somebody else, by `Impersonate-*` headers, for those who may.

use std::collections::BTreeMap;

use crate::user::{ANONYMOUS, AUTHENTICATED_GROUP, UNAUTHENTICATED_GROUP};
use crate::{Attributes, UserInfo};

/// Who a request wants to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonation {
    wanted: UserInfo,
}

impl Impersonation {
    /// Reads the headers of a request; names in lower case. `None` when they ask for nothing.
    ///
    /// # Errors
    ///
    /// The message of the answer 400: something is asked for without a user's name.
    pub fn from_headers<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Option<Self>, String> {
        let mut wanted = UserInfo::default();
        for (name, value) in headers {
            match name.strip_prefix("impersonate-") {
                Some("user") => value.clone_into(&mut wanted.name),
                Some("uid") => value.clone_into(&mut wanted.uid),
                Some("group") => wanted.groups.push(value.to_owned()),
                Some(rest) => {
                    if let Some(key) = rest.strip_prefix("extra-") {
                        wanted
                            .extra
                            .entry(unescape(key))
                            .or_default()
                            .push(value.to_owned());
                    }
                }
                None => {}
            }
        }
        if !wanted.name.is_empty() {
            return Ok(Some(Self { wanted }));
        }
        if wanted == UserInfo::default() {
            return Ok(None);
        }
        Err(format!(
            "requested {} without impersonating a user name",
            go_syntax(&wanted)
        ))
    }

    /// What the requester must be allowed to do, all of it.
    pub fn checks(&self) -> Vec<Attributes> {
        let check = |group: &str, resource: &str| Attributes {
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            is_resource: true,
            ..Attributes::default()
        };
        let user = &self.wanted;
        let mut checks = vec![match user.service_account() {
            Some((namespace, name)) => Attributes {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                ..check("", "serviceaccounts")
            },
            None => Attributes {
                name: user.name.clone(),
                ..check("", "users")
            },
        }];
        checks.extend(user.groups.iter().map(|g| Attributes {
            name: g.clone(),
            ..check("", "groups")
        }));
        const GROUP: &str = "authentication.k8s.io";
        for (key, values) in &user.extra {
            checks.extend(values.iter().map(|value| Attributes {
                subresource: key.clone(),
                name: value.clone(),
                ..check(GROUP, "userextras")
            }));
        }
        if !user.uid.is_empty() {
            checks.push(Attributes {
                name: user.uid.clone(),
                ..check(GROUP, "uids")
            });
        }
        checks
    }

    /// The user that the request becomes, in the groups that go without saying.
    pub fn into_user(self) -> UserInfo {
        let mut user = self.wanted;
        if user.groups.is_empty()
            && let Some((namespace, _)) = user.service_account()
        {
            let own = format!("system:serviceaccounts:{namespace}");
            user.groups = vec!["system:serviceaccounts".to_owned(), own];
        }
        let implied = if user.name == ANONYMOUS {
            UNAUTHENTICATED_GROUP
        } else {
            AUTHENTICATED_GROUP
        };
        if !user.is_in(AUTHENTICATED_GROUP) && !user.is_in(UNAUTHENTICATED_GROUP) {
            user.groups.push(implied.to_owned());
        }
        user
    }
}

/// Undoes percent encoding; what is not properly encoded stays as it is.
fn unescape(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(decoded) if byte == b'%' => {
                out.push(decoded);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

/// The user as kube-apiserver's message shows it.
fn go_syntax(user: &UserInfo) -> String {
    let list = |values: &[String]| {
        let quoted: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
        format!("[]string{{{}}}", quoted.join(", "))
    };
    let groups = if user.groups.is_empty() {
        "[]string(nil)".to_owned()
    } else {
        list(&user.groups)
    };
    let extra = |extra: &BTreeMap<String, Vec<String>>| {
        let pairs: Vec<String> = extra.iter().map(|(k, v)| format!("{k:?}:{}", list(v))).collect();
        format!("map[string][]string{{{}}}", pairs.join(", "))
    };
    let extra = if user.extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        extra(&user.extra)
    };
    format!(
        "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{groups}, Extra:{extra}}}",
        user.name, user.uid
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)]) -> Result<Option<Impersonation>, String> {
        Impersonation::from_headers(headers.iter().copied())
    }

    #[test]
    fn headers_become_a_user_and_what_it_takes() {
        let asked = read(&[
            ("impersonate-user", "bob"),
            ("impersonate-group", "g1"),
            ("impersonate-extra-example.com%2fkey", "v"),
            ("impersonate-uid", "u-1"),
            ("accept", "*/*"),
        ]);
        let asked = asked.unwrap().unwrap();
        let checks: Vec<String> = asked
            .checks()
            .iter()
            .map(|c| format!("{} {} {} {}", c.group, c.resource, c.subresource, c.name))
            .collect();
        let group = "authentication.k8s.io";
        assert_eq!(
            checks,
            [
                " users  bob".to_owned(),
                " groups  g1".to_owned(),
                format!("{group} userextras example.com/key v"),
                format!("{group} uids  u-1"),
            ]
        );
        let user = asked.into_user();
        assert_eq!(user.groups, ["g1", "system:authenticated"]);
        assert_eq!(user.extra["example.com/key"], ["v"]);
    }

    #[test]
    fn a_service_account_is_checked_as_one_and_gets_its_groups() {
        let asked = read(&[("impersonate-user", "system:serviceaccount:x:robot")])
            .unwrap()
            .unwrap();
        let check = &asked.checks()[0];
        assert_eq!(
            (&*check.resource, &*check.namespace, &*check.name),
            ("serviceaccounts", "x", "robot")
        );
        let groups = [
            "system:serviceaccounts",
            "system:serviceaccounts:x",
            "system:authenticated",
        ];
        assert_eq!(asked.into_user().groups, groups);
    }

    #[test]
    fn nothing_is_nothing_and_a_group_alone_is_an_error() {
        assert_eq!(read(&[("accept", "*/*")]), Ok(None));
        let error = read(&[("impersonate-group", "g")]).unwrap_err();
        assert_eq!(
            error,
            "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"g\"}, \
             Extra:map[string][]string(nil)} without impersonating a user name"
        );
    }
}
