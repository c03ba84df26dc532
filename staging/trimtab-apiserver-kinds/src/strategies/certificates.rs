//! CertificateSigningRequests: what is asked for never changes, and what is decided is not taken back.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::apps::template::spec;
use super::checks::{default_to, int, items, items_mut, object, one_of, text};
use super::rules::{Part, Rules, carry_over};
use crate::strategy::RequestContext;

/// What keys may be used for.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The rules of a kind of `certificates.k8s.io`.
pub(super) fn rules(kind: &str) -> Option<Rules> {
    (kind == "CertificateSigningRequest").then_some(Rules {
        name: names::path_segment,
        requester: true,
        prepare_create: |ctx, request| {
            let spec = object(request, "spec");
            for field in ["uid", "groups", "extra"] {
                carry_over(spec, &ctx.requester, field);
            }
            spec["username"] = ctx.user.as_str().into();
        },
        prepare_update: |new, old| carry_over(new, old, "spec"),
        parts: &[
            Part {
                name: "status",
                prepare: prepare_status,
                validate: |new, old| {
                    let mut errors = validate(new);
                    errors.extend(kept(new, old));
                    errors.extend(not_decided(new, old));
                    errors.extend(certificate_kept(new, old));
                    errors
                },
            },
            Part {
                name: "approval",
                prepare: prepare_approval,
                validate: |new, old| {
                    let mut errors = validate(new);
                    errors.extend(kept(new, old));
                    errors
                },
            },
        ],
        validate,
        validate_update: Some(|new, old| {
            let mut errors = validate(new);
            errors.extend(kept(new, old));
            errors.extend(not_decided(new, old));
            errors
        }),
        selectable: &["spec.signerName"],
        select: |request, field| {
            (field == "spec.signerName").then(|| text(&request["spec"]["signerName"]).to_owned())
        },
        ..Rules::ORDINARY
    })
}

fn conditions<'r>(request: &'r Value, type_: &str) -> Vec<&'r Value> {
    let all = items(&request["status"]["conditions"]).iter();
    all.filter(|c| text(&c["type"]) == type_).collect()
}

/// Puts the old conditions of a type in the place of as many new ones.
fn preserve(new: &mut Value, old: &Value, type_: &str) {
    let was = conditions(old, type_);
    if was.len() != conditions(new, type_).len() {
        return;
    }
    let status = object(new, "status");
    let places = items_mut(status, "conditions").filter(|c| text(&c["type"]) == type_);
    for (place, was) in places.zip(was) {
        *place = was.clone();
    }
}

fn validate(request: &Value) -> Vec<FieldError> {
    const LEAST_SECONDS: i64 = 600;
    let of = &request["spec"];
    let mut errors = Vec::new();
    if let Err(why) = is_request(text(&of["request"])) {
        let at = spec().child("request");
        errors.push(FieldError::invalid(&at, of["request"].clone(), why));
    }
    let (usages, at) = (items(&of["usages"]), spec().child("usages"));
    if usages.is_empty() {
        errors.push(FieldError::required(&at, ""));
    }
    for (i, usage) in usages.iter().enumerate() {
        errors.extend(one_of(usage, &USAGES, &at.index(i)));
    }
    for (i, usage) in usages.iter().enumerate() {
        if usages.iter().take(i).any(|earlier| earlier == usage) {
            errors.push(FieldError::duplicate(&at.index(i), usage.clone()));
        }
    }
    errors.extend(signer(text(&of["signerName"]), &spec().child("signerName")));
    let seconds = &of["expirationSeconds"];
    if !seconds.is_null() && int(seconds) < LEAST_SECONDS {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        let at = spec().child("expirationSeconds");
        errors.push(FieldError::invalid(&at, seconds.clone(), why));
    }
    errors.extend(validate_conditions(request));
    errors
}

/// That the request is a PEM block of the right type, in base64 as bytes are. Its contents are not looked into.
fn is_request(encoded: &str) -> Result<(), &'static str> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded);
    let pem = bytes
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_default();
    if pem.contains("-----BEGIN CERTIFICATE REQUEST-----")
        && pem.contains("-----END CERTIFICATE REQUEST-----")
    {
        Ok(())
    } else {
        Err("PEM block type must be CERTIFICATE REQUEST")
    }
}

fn signer(name: &str, at: &FieldPath) -> Vec<FieldError> {
    const LEGACY: &str = "kubernetes.io/legacy-unknown";
    if name.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    if name == LEGACY {
        let why = "the legacy signerName is not allowed via this API version";
        return vec![FieldError::invalid(at, name, why)];
    }
    let Some((domain, path)) = name.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return vec![FieldError::invalid(at, name, why)];
    };
    let mut errors = Vec::new();
    if domain.len() > names::SUBDOMAIN_MAX {
        errors.push(FieldError::too_long(at, names::SUBDOMAIN_MAX));
    }
    errors.extend(labels_of(domain, names::dns1123_label, at));
    if domain.split('.').count() < 2 {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(at, domain, why));
    }
    errors.extend(labels_of(path, names::dns1123_subdomain, at));
    errors
}

/// What is wrong with the first wrong label of a name.
fn labels_of(name: &str, rule: fn(&str) -> Vec<String>, at: &FieldPath) -> Vec<FieldError> {
    let wrong = name
        .split('.')
        .map(|label| (label, rule(label)))
        .find(|(_, e)| !e.is_empty());
    let (label, messages) = wrong.unwrap_or_default();
    messages
        .into_iter()
        .map(|m| FieldError::invalid(at, name, format!("validating label {label:?}: {m}")))
        .collect()
}

fn validate_conditions(request: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("status").child("conditions");
    let all = items(&request["status"]["conditions"]);
    let mut errors = Vec::new();
    for (i, condition) in all.iter().enumerate() {
        let (type_, status) = (text(&condition["type"]), &condition["status"]);
        if type_.is_empty() {
            errors.push(FieldError::required(&at.index(i).child("type"), ""));
        }
        let allowed: &[&str] = if matches!(type_, "Approved" | "Denied" | "Failed") {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        if text(status).is_empty() {
            errors.push(FieldError::required(&at.index(i).child("status"), ""));
        } else {
            errors.extend(one_of(status, allowed, &at.index(i).child("status")));
        }
        let earlier = |wanted: &str| all.iter().take(i).any(|c| text(&c["type"]) == wanted);
        if (type_ == "Approved" && earlier("Denied")) || (type_ == "Denied" && earlier("Approved")) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(&at, type_, why));
        }
        if earlier(type_) {
            errors.push(FieldError::duplicate(&at.index(i).child("type"), type_));
        }
    }
    errors
}

/// What is decided stays decided.
fn kept(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("status").child("conditions");
    let removed = |type_: &&str| conditions(new, type_).len() < conditions(old, type_).len();
    let types = ["Approved", "Denied", "Failed"].into_iter().filter(removed);
    let told = types.map(|type_| {
        FieldError::forbidden(
            &at,
            format!("updates may not remove a condition of type {type_:?}"),
        )
    });
    told.collect()
}

/// Only approvers decide.
fn not_decided(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("status").child("conditions");
    let added = |type_: &&str| conditions(new, type_).len() > conditions(old, type_).len();
    let types = ["Approved", "Denied"].into_iter().filter(added);
    let told = types.map(|type_| {
        FieldError::forbidden(&at, format!("updates may not add a condition of type {type_:?}"))
    });
    told.collect()
}

fn certificate_kept(new: &Value, old: &Value) -> Option<FieldError> {
    let (certificate, was) = (&new["status"]["certificate"], &old["status"]["certificate"]);
    let at = FieldPath::new("status").child("certificate");
    let why = "updates may not modify existing certificate content";
    (certificate != was && !text(was).is_empty()).then(|| FieldError::forbidden(&at, why))
}

/// An update of the status takes it all but the decisions.
fn prepare_status(ctx: &RequestContext, new: &mut Value, old: &Value) {
    carry_over(new, old, "spec");
    for type_ in ["Approved", "Denied"] {
        preserve(new, old, type_);
    }
    stamp(ctx, new, old);
}

/// An approval takes the conditions alone.
fn prepare_approval(ctx: &RequestContext, new: &mut Value, old: &Value) {
    stamp(ctx, new, old);
    let decided = new["status"]["conditions"].clone();
    carry_over(new, old, "spec");
    carry_over(new, old, "status");
    if !decided.is_null() {
        object(new, "status")["conditions"] = decided;
    }
}

/// Says when conditions were written, and since when they are as they are.
fn stamp(ctx: &RequestContext, new: &mut Value, old: &Value) {
    for condition in items_mut(object(new, "status"), "conditions") {
        default_to(condition, "lastUpdateTime", ctx.now.as_str());
        let was = conditions(old, text(&condition["type"]))
            .into_iter()
            .find(|was| was["status"] == condition["status"] && !was["lastTransitionTime"].is_null());
        let since = was.map_or_else(
            || ctx.now.as_str().into(),
            |was| was["lastTransitionTime"].clone(),
        );
        default_to(condition, "lastTransitionTime", since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;
    use serde_json::json;

    #[test]
    fn errors_are_told_in_the_words_of_kubernetes() {
        // "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"
        let pem = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg==";
        let cases: [(Value, &[&str]); 2] = [
            (
                json!({"request": pem, "usages": ["client auth"], "signerName": "a.b/c"}),
                &[],
            ),
            (
                json!({"request": "eA==", "usages": ["x", "x"], "signerName": "a", "expirationSeconds": 1}),
                &[
                    "spec.request: Invalid value: \"eA==\": PEM block type must be CERTIFICATE REQUEST",
                    "spec.usages[0]: Unsupported value: \"x\"",
                    "spec.usages[1]: Unsupported value: \"x\"",
                    "spec.usages[1]: Duplicate value: \"x\"",
                    "spec.signerName: Invalid value: \"a\": must be a fully qualified domain and path of the form \
                     'example.com/signer-name'",
                    "spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)",
                ],
            ),
        ];
        for (spec, expected) in cases {
            let errors: Vec<String> = told(&validate(&json!({"spec": spec})))
                .into_iter()
                .map(|e| e.split(": supported").next().unwrap_or_default().to_owned())
                .collect();
            assert_eq!(errors, expected, "{spec}");
        }
    }

    #[test]
    fn decisions_are_made_once_and_by_approvers() {
        let request = |types: &[&str]| {
            let conditions: Vec<Value> = types
                .iter()
                .map(|t| json!({"type": t, "status": "True"}))
                .collect();
            json!({"spec": {"signerName": "a.b/c"}, "status": {"conditions": conditions, "certificate": "x"}})
        };
        let context = RequestContext {
            now: "2001-09-09T01:46:40Z".to_owned(),
            namespace: String::new(),
            subresource: "approval".to_owned(),
            user: String::new(),
            requester: Value::Null,
        };
        let mut new = json!({"spec": {}, "status": {"conditions": [{"type": "Approved", "status": "True"}]}});
        prepare_approval(&context, &mut new, &request(&[]));
        assert_eq!(new["spec"]["signerName"], "a.b/c");
        assert_eq!(new["status"]["certificate"], "x");
        assert_eq!(
            new["status"]["conditions"][0]["lastTransitionTime"],
            "2001-09-09T01:46:40Z"
        );
        let expected = ["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""];
        assert_eq!(
            told(&not_decided(&request(&["Approved"]), &request(&[]))),
            expected
        );
        let expected =
            ["status.conditions: Forbidden: updates may not remove a condition of type \"Denied\""];
        assert_eq!(told(&kept(&request(&[]), &request(&["Denied"]))), expected);
    }
}
