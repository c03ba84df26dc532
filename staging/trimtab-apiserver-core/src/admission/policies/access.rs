//! Who may write policies and bindings with params: those who may read the params, which expressions could otherwise tell them.

use async_trait::async_trait;
use serde_json::Value;
use trimtab_apimachinery_meta::{ApiError, FieldError, FieldPath};
use trimtab_apiserver_auth::user::MASTERS_GROUP;
use trimtab_apiserver_auth::{Attributes as Asked, UserInfo};

use super::policy::{ParamKind, ParamRef};
use crate::admission::dynamic::Surroundings;
use crate::registry::hooks::{Admission, Attributes, Operation};
use crate::registry::meta;

const GROUP: &str = "admissionregistration.k8s.io";

/// Refuses policies and bindings whose writer may not read their params.
#[derive(Clone, Debug)]
pub(crate) struct ParamAccess(pub(crate) Surroundings);

#[async_trait]
impl Admission for ParamAccess {
    async fn validate(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let resource = &attributes.resource;
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        let concerns = resource.group == GROUP && writes && attributes.subresource.is_empty();
        let Some(object) = object.filter(|_| concerns) else {
            return Ok(());
        };
        let same = |field: &str| old.is_some_and(|old| old["spec"][field] == object["spec"][field]);
        let (field, refusal) = match resource.kind.as_str() {
            "MutatingAdmissionPolicy" | "ValidatingAdmissionPolicy" if !same("paramKind") => {
                ("paramKind", self.refuse_policy(attributes, object))
            }
            "MutatingAdmissionPolicyBinding" | "ValidatingAdmissionPolicyBinding"
                if !(same("paramRef") && same("policyName")) =>
            {
                ("paramRef", self.refuse_binding(attributes, object).await?)
            }
            _ => return Ok(()),
        };
        let Some(why) = refusal.filter(|_| !attributes.user.is_in(MASTERS_GROUP)) else {
            return Ok(());
        };
        let at = FieldPath::new("spec").child(field);
        let error = FieldError::forbidden(&at, why);
        Err(ApiError::invalid(
            &resource.group_kind(),
            meta::name(object),
            &[error],
        ))
    }
}

/// The resource that somebody must be allowed to read; stars where it is not known.
struct Asking {
    group: String,
    version: String,
    resource: String,
    /// Whether there is such a resource.
    is_known: bool,
}

impl ParamAccess {
    fn resolve(&self, kind: &ParamKind) -> Asking {
        let resources = self.0.resources.snapshot();
        let found = resources.by_kind(&kind.group, &kind.version, &kind.kind);
        Asking {
            group: kind.group.clone(),
            version: kind.version.clone(),
            resource: found.map_or("*", |resource| &resource.plural).to_owned(),
            is_known: found.is_some(),
        }
    }

    fn may(&self, user: &UserInfo, verb: &str, of: Asking, namespace: &str, name: &str) -> bool {
        let asked = Asked {
            verb: verb.to_owned(),
            group: of.group,
            version: of.version,
            resource: of.resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            is_resource: true,
            ..Asked::default()
        };
        self.0.authorizer.authorize(user, &asked).allowed
    }

    /// Why the policy may not be written, if it may not.
    fn refuse_policy(&self, attributes: &Attributes, policy: &Value) -> Option<String> {
        let kind = ParamKind::of(policy)?;
        let user = &attributes.user;
        if self.may(user, "get", self.resolve(&kind), "*", "*") {
            return None;
        }
        let stated = &policy["spec"]["paramKind"];
        let text = |field: &str| stated[field].as_str().unwrap_or_default();
        Some(format!(
            "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={}, apiVersion={})",
            in_go(user),
            text("kind"),
            text("apiVersion")
        ))
    }

    /// Why the binding may not be written, if it may not.
    async fn refuse_binding(
        &self,
        attributes: &Attributes,
        binding: &Value,
    ) -> Result<Option<String>, ApiError> {
        let Some(reference) = ParamRef::of(binding) else {
            return Ok(None);
        };
        let policies = match attributes.resource.kind.as_str() {
            "MutatingAdmissionPolicyBinding" => "mutatingadmissionpolicies",
            _ => "validatingadmissionpolicies",
        };
        let name = binding["spec"]["policyName"].as_str().unwrap_or_default();
        let policy = self.0.reader.get(GROUP, policies, "", name).await?;
        let kind = policy.as_ref().and_then(ParamKind::of);
        let asking = kind.as_ref().map(|kind| self.resolve(kind));
        let is_known = asking.as_ref().is_none_or(|asking| asking.is_known);
        let star = || "*".to_owned();
        let asking = asking.unwrap_or_else(|| Asking {
            group: star(),
            version: star(),
            resource: star(),
            is_known: false,
        });
        let verb = if reference.name.is_empty() { "list" } else { "get" };
        if self.may(
            &attributes.user,
            verb,
            asking,
            &reference.namespace,
            &reference.name,
        ) {
            return Ok(None);
        }
        let user = in_go(&attributes.user);
        let lacks = format!("user {user} does not have \"{verb}\" permission");
        Ok(Some(match (policy, kind) {
            (None, _) => format!(
                "unable to get policy {name} to determine minimum required permissions and {lacks} for all groups, versions and \
                 resources"
            ),
            (_, Some(kind)) if !is_known => format!(
                "unable to resolve paramKind {kind} to determine minimum required permissions and {lacks} for all groups, \
                 versions and resources"
            ),
            _ => format!("{lacks} on the object referenced by paramRef"),
        }))
    }
}

/// A user as Go prints one.
fn in_go(user: &UserInfo) -> String {
    let extra: Vec<String> = user
        .extra
        .iter()
        .map(|(key, values)| format!("{key}:[{}]", values.join(" ")))
        .collect();
    format!(
        "&{{{} {} [{}] map[{}]}}",
        user.name,
        user.uid,
        user.groups.join(" "),
        extra.join(" ")
    )
}
