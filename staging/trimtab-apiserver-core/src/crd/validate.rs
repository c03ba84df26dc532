//! What is wrong with a CustomResourceDefinition: its name, group, names, versions, conversion, status.
//!
//! kube-apiserver checks an internal form in which what all versions share is said once, at the top of the spec; its
//! errors name fields of that form, and so do these: `spec.validation` rather than `spec.versions[0].schema`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};
use trimtab_apiserver_kinds::webhook_client::{validate_service, validate_url};

use super::validate_version as version;
use super::view::{flag, is_true, items, schema, text, texts, versions};
use crate::webhook::tls;

/// The annotation by which groups of the community are approved.
const APPROVED: &str = "api-approved.kubernetes.io";

/// What all versions have in common, and so is part of the spec in the internal form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    pub(super) schema: bool,
    pub(super) subresources: bool,
    pub(super) columns: bool,
    pub(super) selectable: bool,
}

impl Shared {
    pub(super) fn of(spec: &Value) -> Self {
        let all = versions(spec);
        let same = |field: &str| all.windows(2).all(|pair| same(&pair[0][field], &pair[1][field]));
        Self {
            schema: same("schema"),
            subresources: same("subresources"),
            columns: same("additionalPrinterColumns"),
            selectable: same("selectableFields"),
        }
    }
}

/// Whether two values are equal when an empty list is as good as none.
fn same(a: &Value, b: &Value) -> bool {
    let nothing = |v: &Value| v.is_null() || v.as_array().is_some_and(Vec::is_empty);
    a == b || (nothing(a) && nothing(b))
}

/// A value with its fields named as the server's own types name them, as errors quote it.
pub(super) fn internal(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().map(internal).collect(),
        Value::Object(fields) => {
            let capital = |key: &String| {
                let mut chars = key.chars();
                chars
                    .next()
                    .map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
            };
            let fields: Map<String, Value> = fields.iter().map(|(k, v)| (capital(k), internal(v))).collect();
            Value::Object(fields)
        }
        other => other.clone(),
    }
}

/// What is wrong with a definition that is created, or updated from `old`.
pub(super) fn definition(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &new["spec"];
    if old.is_none() {
        let wanted = format!("{}.{}", text(&spec["names"], "plural"), text(spec, "group"));
        let name = text(&new["metadata"], "name");
        if name != wanted && !name.is_empty() {
            let at = FieldPath::new("metadata").child("name");
            let why = "must be spec.names.plural+\".\"+spec.group";
            errors.push(FieldError::invalid(&at, name, why));
        }
    }
    errors.extend(of_spec(spec, old.map(|old| &old["spec"]), Bundle::of(old)));
    if let Some(old) = old {
        errors.extend(immutable(spec, &old["spec"], is_true(old, "Established")));
    }
    errors.extend(status(new));
    errors.extend(stored_versions(new));
    errors.extend(approval(new, old));
    if flag(spec, "preserveUnknownFields")
        && !old.is_some_and(|old| flag(&old["spec"], "preserveUnknownFields"))
    {
        let at = FieldPath::new("spec").child("preserveUnknownFields");
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema \
            instead";
        errors.push(FieldError::invalid(&at, true, why));
    }
    errors
}

/// What is wrong with the status.
pub(super) fn status(definition: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("status").child("acceptedNames");
    of_names(&definition["status"]["acceptedNames"], &at)
}

fn of_spec(spec: &Value, old: Option<&Value>, bundle: Bundle) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    let group = text(spec, "group");
    let group_errors = names::dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(&at.child("group"), ""));
    } else if !group_errors.is_empty() {
        errors.push(FieldError::invalid(
            &at.child("group"),
            group,
            group_errors.join(","),
        ));
    } else if !group.contains('.') {
        let why = "should be a domain with at least one dot";
        errors.push(FieldError::invalid(&at.child("group"), group, why));
    }
    errors.extend(one_of(
        &at.child("scope"),
        text(spec, "scope"),
        &["Cluster", "Namespaced"],
    ));

    let shared = Shared::of(spec);
    let all = versions(spec);
    let has_schemas = shared.schema && all.first().is_some_and(|v| schema(v).is_some());
    if !has_schemas {
        for (i, _) in all.iter().enumerate().filter(|(_, v)| schema(v).is_none()) {
            let at = at
                .child("versions")
                .index(i)
                .child("schema")
                .child("openAPIV3Schema");
            errors.push(FieldError::required(&at, ""));
        }
    }
    let version_name = |errors: &mut Vec<FieldError>, at: FieldPath, name: &str| {
        let wrong = names::dns1035_label(name);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(&at, name, wrong.join(",")));
        }
    };
    for (i, of_version) in all.iter().enumerate() {
        let at = at.child("versions").index(i);
        version_name(&mut errors, at.child("name"), text(of_version, "name"));
        let before = old.and_then(|old| versions(old).iter().find(|v| v["name"] == of_version["name"]));
        errors.extend(version::own(of_version, before, shared, &at));
    }
    let mut known: Vec<&str> = Vec::new();
    let unique = all.iter().all(|v| {
        let new = !known.contains(&text(v, "name"));
        known.push(text(v, "name"));
        new
    });
    let of_versions =
        |why: &str| FieldError::invalid(&at.child("versions"), internal(&spec["versions"]), why);
    if !unique {
        errors.push(of_versions("must contain unique version names"));
    }
    if all.iter().filter(|v| flag(v, "storage")).count() != 1 {
        errors.push(of_versions(
            "must have exactly one version marked as storage version",
        ));
    }
    if let Some(first) = all.first().filter(|v| !text(v, "name").is_empty()) {
        version_name(&mut errors, at.child("version"), text(first, "name"));
    }
    let names = &spec["names"];
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(names, field).is_empty() {
            errors.push(FieldError::required(&at.child("names").child(field), ""));
        }
    }
    errors.extend(of_names(names, &at.child("names")));
    if let Some(first) = all.first() {
        let before = old.and_then(|old| versions(old).iter().find(|v| v["name"] == first["name"]));
        errors.extend(version::shared(spec, first, before, shared, &at));
    }
    let (converts, at_conversion) = (&spec["conversion"], at.child("conversion"));
    if text(converts, "strategy") != "None" && flag(spec, "preserveUnknownFields") {
        let why = "must be None if spec.preserveUnknownFields is true";
        let strategy = text(converts, "strategy");
        errors.push(FieldError::invalid(
            &at_conversion.child("strategy"),
            strategy,
            why,
        ));
    }
    errors.extend(conversion(converts, &at_conversion, bundle));
    errors
}

/// A required word out of a few.
fn one_of(at: &FieldPath, value: &str, accepted: &[&str]) -> Option<FieldError> {
    if value.is_empty() {
        return Some(FieldError::required(at, ""));
    }
    (!accepted.contains(&value)).then(|| FieldError::not_supported(at, value, accepted))
}

fn of_names(of: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut label = |at: FieldPath, name: &str, lower: &str, before: &str| {
        let wrong = names::dns1035_label(lower);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(
                &at,
                name,
                format!("{before}{}", wrong.join(",")),
            ));
        }
    };
    for field in ["plural", "singular"] {
        let name = text(of, field);
        if !name.is_empty() {
            label(at.child(field), name, name, "");
        }
    }
    for field in ["kind", "listKind"] {
        let name = text(of, field);
        if !name.is_empty() {
            let before = "may have mixed case, but should otherwise match: ";
            label(at.child(field), name, &name.to_lowercase(), before);
        }
    }
    for (i, name) in texts(of, "shortNames").iter().enumerate() {
        label(at.child("shortNames").index(i), name, name, "");
    }
    for (i, name) in texts(of, "categories").iter().enumerate() {
        label(at.child("categories").index(i), name, name, "");
    }
    let list_kind = text(of, "listKind");
    if !list_kind.is_empty() && list_kind == text(of, "kind") {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&at.child("listKind"), list_kind, why));
    }
    errors
}

/// What is wrong with how objects are converted between versions.
fn conversion(of: &Value, at: &FieldPath, bundle: Bundle) -> Vec<FieldError> {
    let strategy = text(of, "strategy");
    let mut errors: Vec<FieldError> = one_of(&at.child("strategy"), strategy, &["None", "Webhook"])
        .into_iter()
        .collect();
    let webhook = &of["webhook"];
    let client = webhook.get("clientConfig").filter(|c| !c.is_null());
    let reviews = texts(webhook, "conversionReviewVersions");
    if strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            errors.push(FieldError::forbidden(&at.child("webhookClientConfig"), why));
        }
        if !reviews.is_empty() {
            errors.push(FieldError::forbidden(&at.child("conversionReviewVersions"), why));
        }
        return errors;
    }
    match client {
        None => {
            let why = "required when strategy is set to Webhook";
            errors.push(FieldError::required(&at.child("webhookClientConfig"), why));
        }
        Some(client) if client["url"].is_null() == client["service"].is_null() => {
            let why = "exactly one of url or service is required";
            errors.push(FieldError::required(&at.child("webhookClientConfig"), why));
        }
        Some(client) => {
            let at = at.child("webhookClientConfig");
            match client["url"].as_str() {
                Some(url) => errors.extend(validate_url(url, &at.child("url"))),
                None => errors.extend(validate_service(&client["service"], &at.child("service"))),
            }
        }
    }
    if let (Bundle::Checked, Some(why)) = (bundle, client.and_then(bundle_fault)) {
        let at = at.child("webhookClientConfig").child("caBundle");
        let value = webhook["clientConfig"]["caBundle"].clone();
        errors.push(FieldError::invalid(&at, value, why));
    }
    let at_reviews = at.child("conversionReviewVersions");
    if reviews.is_empty() {
        errors.push(FieldError::required(&at_reviews, ""));
        return errors;
    }
    for (i, version) in reviews.iter().enumerate() {
        let at = at_reviews.index(i);
        if reviews[..i].contains(version) {
            errors.push(FieldError::invalid(&at, version.as_str(), "duplicate version"));
            continue;
        }
        let wrong = names::dns1035_label(version).into_iter();
        errors.extend(wrong.map(|why| FieldError::invalid(&at, version.as_str(), why)));
    }
    if !reviews.iter().any(|v| v == "v1" || v == "v1beta1") {
        let why = "must include at least one of v1, v1beta1";
        errors.push(FieldError::invalid(&at_reviews, reviews, why));
    }
    errors
}

/// Whether the authorities of a webhook must make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bundle {
    Checked,
    /// Not yet, or not any more: others fill them in later, or they made none before.
    Unchecked,
}

impl Bundle {
    /// Once a definition is established, what made sense has to go on making sense.
    fn of(old: Option<&Value>) -> Self {
        match old.filter(|old| is_true(old, "Established")) {
            Some(old) if bundle_fault(&old["spec"]["conversion"]["webhook"]["clientConfig"]).is_none() => {
                Self::Checked
            }
            _ => Self::Unchecked,
        }
    }
}

/// What is wrong with the authorities in a `clientConfig`; nothing when there are none.
fn bundle_fault(client: &Value) -> Option<String> {
    let encoded = client["caBundle"].as_str().filter(|text| !text.is_empty())?;
    match STANDARD.decode(encoded) {
        Ok(bundle) => tls::authorities(&bundle).err(),
        Err(error) => Some(format!("unable to load root certificates: {error}")),
    }
}

/// What may not change: the group and the plural name never, kind and scope not once objects may exist.
fn immutable(spec: &Value, old: &Value, established: bool) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let always = [
        ("/group", at.child("group")),
        ("/names/plural", at.child("names").child("plural")),
    ];
    let once = [
        ("/scope", at.child("scope")),
        ("/names/kind", at.child("names").child("kind")),
    ];
    once.iter()
        .filter(|_| established)
        .chain(&always)
        .filter(|(pointer, _)| spec.pointer(pointer) != old.pointer(pointer))
        .map(|(pointer, at)| {
            let value = spec.pointer(pointer).cloned().unwrap_or_default();
            FieldError::invalid(at, value, "field is immutable")
        })
        .collect()
}

/// Every version in which objects may be stored must be there to read them.
fn stored_versions(definition: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("status").child("storedVersions");
    let stored = texts(&definition["status"], "storedVersions");
    if stored.is_empty() {
        let none = definition["status"]["storedVersions"].clone();
        return vec![FieldError::invalid(
            &at,
            none,
            "must have at least one stored version",
        )];
    }
    let mut errors = Vec::new();
    let all = versions(&definition["spec"]);
    for version in all.iter().filter(|v| flag(v, "storage")) {
        let name = text(version, "name");
        if !stored.iter().any(|s| s == name) {
            let why = format!("must have the storage version {name}");
            errors.push(FieldError::invalid(&at, stored.clone(), why));
        }
    }
    for (i, name) in stored.iter().enumerate() {
        if !all.iter().any(|v| text(v, "name") == name) {
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {name} and removes \
                 {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(&at.index(i), name.as_str(), why));
        }
    }
    errors
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Approval {
    Missing,
    Bypassed,
    Approved,
    Invalid,
}

fn approval_of(definition: &Value) -> Approval {
    match text(&definition["metadata"]["annotations"], APPROVED) {
        "" => Approval::Missing,
        text if text.starts_with("unapproved") => Approval::Bypassed,
        text => match text.parse::<http::Uri>() {
            Ok(uri) if uri.scheme().is_some() && uri.host().is_some_and(|h| !h.is_empty()) => {
                Approval::Approved
            }
            _ => Approval::Invalid,
        },
    }
}

/// Groups of the community want to be approved, or to say that they are not.
fn approval(new: &Value, old: Option<&Value>) -> Option<FieldError> {
    let group = text(&new["spec"], "group");
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|domain| {
        group
            .strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    let state = approval_of(new);
    if !protected || old.is_some_and(|old| approval_of(old) == state) {
        return None;
    }
    let at = FieldPath::new("metadata").child("annotations").key(APPROVED);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match state {
        Approval::Approved | Approval::Bypassed => None,
        Approval::Missing => {
            let why = format!("protected groups must have approval annotation {APPROVED:?}, {see}");
            Some(FieldError::required(&at, why))
        }
        Approval::Invalid => {
            let why = format!(
                "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting \
                 with \"unapproved\", {see}"
            );
            let value = text(&new["metadata"]["annotations"], APPROVED);
            Some(FieldError::invalid(&at, value, why))
        }
    }
}

/// Whether any version has its own path for the status.
pub(super) fn any_status(spec: &Value) -> bool {
    items(spec, "versions").any(|v| !v["subresources"]["status"].is_null())
}
