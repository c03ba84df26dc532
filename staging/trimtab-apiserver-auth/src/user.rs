//! Users, and what they ask to do.

use std::collections::BTreeMap;

/// Who a request comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The name, as `system:serviceaccount:default:builder`.
    pub name: String,
    /// An identifier that outlives the name; may be empty.
    pub uid: String,
    /// The groups, as `system:masters`.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a request asks to do, as authorizers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or for other paths the
    /// HTTP method in lower case.
    pub verb: String,
    /// The API group; empty for core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The resource; empty for other paths.
    pub resource: String,
    /// The subresource, if any.
    pub subresource: String,
    /// The namespace, if any.
    pub namespace: String,
    /// The object's name, if one is named.
    pub name: String,
    /// Whether this is about a resource, or a path like `/metrics`.
    pub is_resource: bool,
    /// The path.
    pub path: String,
}

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Yes, or not that we know.
    pub allowed: bool,
    /// Why, for people; may be empty.
    pub reason: String,
}

/// The user of requests that say nothing about who they come from.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of everyone who has said who they are.
pub const AUTHENTICATED_GROUP: &str = "system:authenticated";
/// The group of everyone who has not.
pub const UNAUTHENTICATED_GROUP: &str = "system:unauthenticated";
/// The group that may do everything, whatever the roles say.
pub const MASTERS_GROUP: &str = "system:masters";

impl UserInfo {
    /// The user of requests without credentials.
    pub fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED_GROUP.to_owned()],
            ..Self::default()
        }
    }

    /// A service account as the user that its tokens are of, in the groups of service accounts.
    pub fn of_service_account(namespace: &str, name: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
            ],
            ..Self::default()
        }
    }

    /// The same user as a member of `system:authenticated`, unless it is anonymous or a member already.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        let known = |g: &String| g == AUTHENTICATED_GROUP || g == UNAUTHENTICATED_GROUP;
        if self.name != ANONYMOUS && !self.groups.iter().any(known) {
            self.groups.push(AUTHENTICATED_GROUP.to_owned());
        }
        self
    }

    /// Whether the user belongs to `group`.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Namespace and name, when the user is a service account.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }
}

impl Attributes {
    /// What is refused, in kube-apiserver's words: `User "alice" cannot get resource "pods" in API group "" in the
    /// namespace "x"`.
    pub fn refusal(&self, user: &UserInfo) -> String {
        if !self.is_resource {
            return format!("User {:?} cannot {} path {:?}", user.name, self.verb, self.path);
        }
        let mut resource = self.resource.clone();
        if !self.subresource.is_empty() {
            resource = format!("{resource}/{}", self.subresource);
        }
        let scope = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", self.namespace)
        };
        format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {scope}",
            user.name, self.verb, self.group
        )
    }
}

impl Decision {
    /// Yes, because of `reason`.
    pub fn allow(reason: impl Into<String>) -> Self {
        Self {
            allowed: true,
            reason: reason.into(),
        }
    }

    /// Not that we know; `reason` says what went wrong while finding out, if anything did.
    pub fn deny(reason: impl Into<String>) -> Self {
        Self {
            allowed: false,
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_kube_apiserver_writes_them() {
        let alice = UserInfo {
            name: "alice".into(),
            ..UserInfo::default()
        };
        let pods = Attributes {
            verb: "get".into(),
            resource: "pods".into(),
            subresource: "log".into(),
            namespace: "x".into(),
            is_resource: true,
            ..Attributes::default()
        };
        let path = Attributes {
            verb: "get".into(),
            path: "/metrics".into(),
            ..Attributes::default()
        };
        let cases = [
            (
                &pods,
                r#"User "alice" cannot get resource "pods/log" in API group "" in the namespace "x""#,
            ),
            (&path, r#"User "alice" cannot get path "/metrics""#),
        ];
        for (attributes, text) in cases {
            assert_eq!(attributes.refusal(&alice), text);
        }
    }

    #[test]
    fn only_the_unknown_are_not_authenticated() {
        let alice = UserInfo {
            name: "alice".into(),
            ..UserInfo::default()
        };
        assert!(alice.clone().authenticated().is_in(AUTHENTICATED_GROUP));
        assert_eq!(alice.clone().authenticated().authenticated().groups.len(), 1);
        assert!(!UserInfo::anonymous().authenticated().is_in(AUTHENTICATED_GROUP));
    }
}
