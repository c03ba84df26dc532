//! Impersonation: `Impersonate-User` and its kin, each part allowed by itself.

use http::HeaderMap;
use trimtab_apimachinery_meta::{ApiError, GroupResource};
use trimtab_apiserver_auth::user::{ANONYMOUS, AUTHENTICATED_GROUP, UNAUTHENTICATED_GROUP};
use trimtab_apiserver_auth::{Attributes, UserInfo};

use crate::auth::Authorizer;

/// The user as whom the request is made, if its headers ask for another.
///
/// # Errors
///
/// 400 when headers ask for groups, a UID or extras without a user; 403 when `user` may not be who they ask for.
pub(crate) fn impersonate(
    headers: &HeaderMap,
    user: &UserInfo,
    authorizer: &dyn Authorizer,
) -> Result<Option<UserInfo>, ApiError> {
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
    let check = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let attributes = Attributes {
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            is_resource: true,
            path: String::new(),
        };
        if authorizer.authorize(user, &attributes).allowed {
            return Ok(());
        }
        let why = attributes.refusal(user);
        Err(ApiError::forbidden(
            &GroupResource::new(group, resource),
            name,
            why,
        ))
    };
    let mut impersonated = wanted.clone();
    if let Some((namespace, name)) = wanted.service_account() {
        check("", "serviceaccounts", "", namespace, name)?;
        if impersonated.groups.is_empty() {
            impersonated.groups = UserInfo::of_service_account(namespace, name).groups;
        }
    } else {
        check("", "users", "", "", &wanted.name)?;
    }
    for group in &wanted.groups {
        check("", "groups", "", "", group)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            check("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    if !wanted.uid.is_empty() {
        check("authentication.k8s.io", "uids", "", "", &wanted.uid)?;
    }
    let group = if impersonated.name == ANONYMOUS {
        UNAUTHENTICATED_GROUP
    } else {
        AUTHENTICATED_GROUP
    };
    if !impersonated.is_in(AUTHENTICATED_GROUP) && !impersonated.is_in(UNAUTHENTICATED_GROUP) {
        impersonated.groups.push(group.to_owned());
    }
    Ok(Some(impersonated))
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
