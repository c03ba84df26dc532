//! Impersonation: `Impersonate-User` and its kin, each part allowed by itself.
//!
//! There are several modes of it. In the constrained ones a rule says as whom one may do what: `impersonate:MODE` on the
//! user and `impersonate-on:MODE:VERB` on what is asked for. The oldest, `impersonate` on the user, is about any request.
//! One that allows it is enough.

use std::collections::HashMap;

use http::HeaderMap;
use parking_lot::Mutex;
use trimtab_apimachinery_meta::{ApiError, GroupResource, names};
use trimtab_apiserver_auth::user::{ANONYMOUS, AUTHENTICATED_GROUP, MASTERS_GROUP, UNAUTHENTICATED_GROUP};
use trimtab_apiserver_auth::{Attributes, UserInfo};

use crate::auth::Authorizer;

/// The key by which a service account's token says on which node it is used.
const NODE_OF_TOKEN: &str = "authentication.kubernetes.io/node-name";
/// So many groups or extras are first asked about all at once; kube-apiserver's `manyAuthorizationChecksInLoop`.
const MANY: usize = 4;
/// Of so many users it is known which mode was theirs; kube-apiserver's.
const REMEMBERED: usize = 10_000;

/// As whom a request is made.
#[derive(Debug)]
pub(crate) struct Impersonated {
    pub(crate) user: UserInfo,
    /// The verb by which a constrained mode allowed it.
    pub(crate) constraint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Plain,
}

/// In the order in which they are tried.
const MODES: [Mode; 5] = [
    Mode::AssociatedNode,
    Mode::ArbitraryNode,
    Mode::ServiceAccount,
    Mode::UserInfo,
    Mode::Plain,
];

/// Decides who may be taken for whom.
#[derive(Debug, Default)]
pub(super) struct Impersonation {
    /// The mode that allowed it last, by who asked: it is tried first, and says why when none does.
    last: Mutex<HashMap<String, Mode>>,
}

impl Impersonation {
    /// The user as whom the request is made, if its headers ask for another.
    ///
    /// # Errors
    ///
    /// 400 when headers ask for groups, a UID or extras without a user; 403 when `user` may not be who they ask for.
    pub(super) fn of(
        &self,
        headers: &HeaderMap,
        user: &UserInfo,
        request: &Attributes,
        authorizer: &dyn Authorizer,
    ) -> Result<Option<Impersonated>, ApiError> {
        let wanted = wanted(headers);
        if wanted == UserInfo::default() {
            return Ok(None);
        }
        if wanted.name.is_empty() {
            return Err(ApiError::bad_request(format!(
                "requested {} without impersonating a user name",
                go_debug(&wanted)
            )));
        }
        let last = self.last.lock().get(&user.name).copied();
        let others = MODES.into_iter().filter(|mode| Some(*mode) != last);
        let mut first = None;
        for mode in last.into_iter().chain(others) {
            if !mode.is_for(&wanted, user) {
                continue;
            }
            let asking = Asking {
                mode,
                user,
                authorizer,
            };
            match asking.allowed(&wanted, request) {
                Ok(impersonated) => {
                    if last != Some(mode) {
                        self.remember(&user.name, mode);
                    }
                    return Ok(Some(impersonated));
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        // The plain mode is for everybody, and has said why not.
        Err(first.unwrap_or_else(|| ApiError::internal("all impersonation modes failed")))
    }

    fn remember(&self, name: &str, mode: Mode) {
        let mut last = self.last.lock();
        if last.len() >= REMEMBERED {
            last.clear();
        }
        last.insert(name.to_owned(), mode);
    }
}

impl Mode {
    fn name(self) -> Option<&'static str> {
        match self {
            Self::AssociatedNode => Some("associated-node"),
            Self::ArbitraryNode => Some("arbitrary-node"),
            Self::ServiceAccount => Some("serviceaccount"),
            Self::UserInfo => Some("user-info"),
            Self::Plain => None,
        }
    }

    /// The verb on the user's parts.
    fn verb(self) -> String {
        self.name()
            .map_or_else(|| "impersonate".to_owned(), |mode| format!("impersonate:{mode}"))
    }

    /// Whether the mode is about such users.
    fn is_for(self, wanted: &UserInfo, user: &UserInfo) -> bool {
        let bare = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node(&wanted.name);
        match self {
            Self::AssociatedNode => {
                let on = user.extra.get(NODE_OF_TOKEN).map(Vec::as_slice);
                let here = node.is_some_and(|node| matches!(on, Some([name]) if name == node));
                bare && here && user.service_account().is_some()
            }
            Self::ArbitraryNode => bare && node.is_some(),
            Self::ServiceAccount => bare && wanted.service_account().is_some(),
            Self::UserInfo => node.is_none() && wanted.service_account().is_none(),
            Self::Plain => true,
        }
    }
}

/// The name of the node that a user is.
fn node(name: &str) -> Option<&str> {
    let node = name.strip_prefix("system:node:")?;
    names::dns1123_subdomain(node).is_empty().then_some(node)
}

/// One user who asks in one mode.
struct Asking<'a> {
    mode: Mode,
    user: &'a UserInfo,
    authorizer: &'a dyn Authorizer,
}

impl Asking<'_> {
    fn check(&self, attributes: &Attributes) -> Result<(), ApiError> {
        let decision = self.authorizer.authorize(self.user, attributes);
        if decision.allowed {
            return Ok(());
        }
        let why = attributes.refusal(self.user);
        let why = match decision.reason.as_str() {
            "" => why,
            reason => format!("{why}: {reason}"),
        };
        Err(refused(attributes, why))
    }

    fn part(&self, group: &str, resource: &str, name: &str) -> Attributes {
        Attributes {
            verb: self.mode.verb(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            is_resource: true,
            ..Attributes::default()
        }
    }

    fn allowed(&self, wanted: &UserInfo, request: &Attributes) -> Result<Impersonated, ApiError> {
        let constrained = self.mode.name();
        if let Some(mode) = constrained {
            let verb = format!("impersonate-on:{mode}:{}", request.verb);
            self.check(&Attributes {
                verb,
                ..request.clone()
            })?;
        }
        let mut user = wanted.clone();
        self.check_name(wanted, &mut user)?;
        if !wanted.uid.is_empty() {
            self.check(&self.part("authentication.k8s.io", "uids", &wanted.uid))?;
        }
        self.check_groups(&wanted.groups)?;
        self.check_extra(wanted)?;
        let group = if user.name == ANONYMOUS {
            Some(UNAUTHENTICATED_GROUP)
        } else {
            (!user.is_in(UNAUTHENTICATED_GROUP)).then_some(AUTHENTICATED_GROUP)
        };
        user.groups
            .extend(group.filter(|group| !user.is_in(group)).map(str::to_owned));
        let constraint = constrained.map(|_| self.mode.verb());
        Ok(Impersonated { user, constraint })
    }

    /// The group of the users and groups of this mode.
    fn group(&self) -> &'static str {
        match self.mode {
            Mode::Plain => "",
            _ => "authentication.k8s.io",
        }
    }

    fn check_name(&self, wanted: &UserInfo, user: &mut UserInfo) -> Result<(), ApiError> {
        let mut asked = self.part(self.group(), "users", &wanted.name);
        if let Some((namespace, name)) = wanted.service_account() {
            asked.resource = "serviceaccounts".to_owned();
            asked.namespace = namespace.to_owned();
            asked.name = name.to_owned();
            if wanted.groups.is_empty() {
                user.groups = UserInfo::of_service_account(namespace, name).groups;
            }
        } else if let Some(node) = node(&wanted.name).filter(|_| self.mode != Mode::Plain) {
            asked.resource = "nodes".to_owned();
            // Whoever may be the node that it is on may be it on all.
            asked.name = if self.mode == Mode::AssociatedNode {
                "*"
            } else {
                node
            }
            .to_owned();
            user.groups = vec!["system:nodes".to_owned()];
        }
        self.check(&asked)
    }

    fn check_groups(&self, groups: &[String]) -> Result<(), ApiError> {
        let asked = |name: &str| self.part(self.group(), "groups", name);
        if self.mode != Mode::Plain {
            for (group, name) in [("", "empty string"), (MASTERS_GROUP, MASTERS_GROUP)] {
                if groups.iter().any(|wanted| wanted == group) {
                    let asked = asked(group);
                    let why = format!("impersonating the {name} group is not allowed");
                    return Err(refused(&asked, format!("{}: {why}", asked.refusal(self.user))));
                }
            }
            if groups.len() >= MANY && self.check(&asked("*")).is_ok() {
                return Ok(());
            }
        }
        groups.iter().try_for_each(|group| self.check(&asked(group)))
    }

    fn check_extra(&self, wanted: &UserInfo) -> Result<(), ApiError> {
        let asked = |key: &str, value: &str| Attributes {
            subresource: key.to_owned(),
            ..self.part("authentication.k8s.io", "userextras", value)
        };
        if self.mode != Mode::Plain {
            if wanted.extra.values().flatten().any(String::is_empty) {
                let asked = asked("", "");
                let why = "impersonating the empty string value in extra is not allowed";
                return Err(refused(&asked, format!("{}: {why}", asked.refusal(self.user))));
            }
            let values: usize = wanted.extra.values().map(Vec::len).sum();
            if values >= MANY && self.check(&asked("*", "*")).is_ok() {
                return Ok(());
            }
        }
        let mut each = wanted
            .extra
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |value| (key, value)));
        each.try_for_each(|(key, value)| self.check(&asked(key, value)))
    }
}

fn refused(attributes: &Attributes, why: String) -> ApiError {
    let resource = GroupResource::new(&attributes.group, &attributes.resource);
    ApiError::forbidden(&resource, &attributes.name, why)
}

fn wanted(headers: &HeaderMap) -> UserInfo {
    let all = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .map(str::to_owned)
            .collect()
    };
    let first = |name: &str| all(name).into_iter().next().unwrap_or_default();
    let mut user = UserInfo {
        name: first("impersonate-user"),
        uid: first("impersonate-uid"),
        groups: all("impersonate-group"),
        ..UserInfo::default()
    };
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix("impersonate-extra-") {
            let key = percent_encoding::percent_decode_str(key)
                .decode_utf8_lossy()
                .into_owned();
            user.extra.insert(key, all(name.as_str()));
        }
    }
    user
}

/// The user as Go prints its struct, which is what kube-apiserver's message shows.
fn go_debug(user: &UserInfo) -> String {
    let groups = if user.groups.is_empty() {
        "[]string(nil)".to_owned()
    } else {
        let quoted: Vec<String> = user.groups.iter().map(|g| format!("{g:?}")).collect();
        format!("[]string{{{}}}", quoted.join(", "))
    };
    let extra = if user.extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        let entries: Vec<String> = user
            .extra
            .iter()
            .map(|(k, vs)| {
                let quoted: Vec<String> = vs.iter().map(|v| format!("{v:?}")).collect();
                format!("{k:?}:[]string{{{}}}", quoted.join(", "))
            })
            .collect();
        format!("map[string][]string{{{}}}", entries.join(", "))
    };
    format!(
        "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{groups}, Extra:{extra}}}",
        user.name, user.uid
    )
}
