//! Configuration: `ConfigMap`s, `Secret`s, `ServiceAccount`s.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use super::words::config_key;
use crate::strategies::checks::{default_text, immutable, invalid_for, is_empty, items_mut, object, text};
use crate::strategies::rules::{Rules, carry_over};

/// How many bytes the values of one object may have: 1 MiB.
const MAX_SIZE: usize = 1024 * 1024;

pub(super) const CONFIG_MAP: Rules = Rules {
    validate: validate_config_map,
    validate_update: Some(|new, old| {
        let mut errors = frozen(new, old, &["data", "binaryData"]);
        errors.extend(validate_config_map(new));
        errors
    }),
    ..Rules::NO_STATUS
};

pub(super) const SECRET: Rules = Rules {
    default: default_secret,
    validate: validate_secret,
    validate_update: Some(|new, old| {
        let mut errors = immutable(&new["type"], &old["type"], &FieldPath::new("type"));
        errors.extend(frozen(new, old, &["data"]));
        errors.extend(validate_secret(new));
        errors
    }),
    prepare_update: |new, old| {
        if text(&new["type"]).is_empty() {
            carry_over(new, old, "type");
        }
    },
    warnings: |secret, _| no_key_pair(secret).into_iter().collect(),
    selectable: &["type"],
    select: |secret, field| (field == "type").then(|| text(&secret["type"]).to_owned()),
    ..Rules::NO_STATUS
};

pub(super) const SERVICE_ACCOUNT: Rules = Rules {
    prepare_create: |_, account| names_of_secrets(account),
    prepare_update: |account, _| names_of_secrets(account),
    ..Rules::NO_STATUS
};

/// An account's secrets are in its namespace: nothing but their names is kept.
fn names_of_secrets(account: &mut Value) {
    for secret in items_mut(account, "secrets") {
        if let Some(secret) = secret.as_object_mut() {
            secret.retain(|field, _| field == "name");
        }
    }
}

/// The entries of an object.
fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn decoded(value: &Value) -> Vec<u8> {
    STANDARD.decode(text(value)).unwrap_or_default()
}

fn keys(list: &Value, at: &FieldPath) -> Vec<FieldError> {
    entries(list)
        .flat_map(|(key, _)| invalid_for(config_key(key), &key.as_str().into(), &at.key(key)))
        .collect()
}

fn validate_config_map(map: &Value) -> Vec<FieldError> {
    let (data, binary) = (&map["data"], &map["binaryData"]);
    let at = FieldPath::new("data");
    let mut errors = Vec::new();
    for (key, _) in entries(data) {
        let at = at.key(key);
        errors.extend(invalid_for(config_key(key), &key.as_str().into(), &at));
        if binary.get(key).is_some() {
            let why = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(&at, key.as_str(), why));
        }
    }
    errors.extend(keys(binary, &FieldPath::new("binaryData")));
    let size: usize = entries(data).map(|(_, v)| text(v).len()).sum();
    let binary: usize = entries(binary).map(|(_, v)| decoded(v).len()).sum();
    if size + binary > MAX_SIZE {
        // Kubernetes names the whole object so.
        errors.push(FieldError::too_long(&FieldPath::new("[]"), MAX_SIZE));
    }
    errors
}

/// What may not change once an object says that it is immutable.
fn frozen(new: &Value, old: &Value, parts: &[&str]) -> Vec<FieldError> {
    if old["immutable"] != true {
        return Vec::new();
    }
    let mut changed = Vec::new();
    if new["immutable"] != true {
        changed.push("immutable");
    }
    let differ =
        |part: &&&str| new[**part] != old[**part] && !(is_empty(&new[**part]) && is_empty(&old[**part]));
    changed.extend(parts.iter().filter(differ));
    let why = "field is immutable when `immutable` is set";
    let errors = changed
        .into_iter()
        .map(|part| FieldError::forbidden(&FieldPath::new(part), why));
    errors.collect()
}

/// Texts are written for the user's convenience, and kept as bytes.
fn default_secret(secret: &mut Value) {
    if let Some(Value::Object(texts)) = secret.as_object_mut().and_then(|s| s.remove("stringData")) {
        let data = object(secret, "data");
        for (key, value) in texts {
            data[key] = STANDARD.encode(text(&value)).into();
        }
    }
    default_text(secret, "type", "Opaque");
}

fn validate_secret(secret: &Value) -> Vec<FieldError> {
    let data = &secret["data"];
    let at = FieldPath::new("data");
    let mut errors = keys(data, &at);
    let size: usize = entries(data).map(|(_, v)| decoded(v).len()).sum();
    if size > MAX_SIZE {
        errors.push(FieldError::too_long(&at, MAX_SIZE));
    }
    let required = |key: &str| FieldError::required(&at.key(key), "");
    match text(&secret["type"]) {
        "kubernetes.io/service-account-token" => {
            let name = "kubernetes.io/service-account.name";
            if text(&secret["metadata"]["annotations"][name]).is_empty() {
                let at = FieldPath::new("metadata").child("annotations").key(name);
                errors.push(FieldError::required(&at, ""));
            }
        }
        "kubernetes.io/dockercfg" => errors.extend(json_object(data, ".dockercfg", &at)),
        "kubernetes.io/dockerconfigjson" => errors.extend(json_object(data, ".dockerconfigjson", &at)),
        "kubernetes.io/basic-auth" => {
            let keys = ["username", "password"];
            if keys.iter().all(|key| data.get(key).is_none()) {
                errors.extend(keys.map(required));
            }
        }
        "kubernetes.io/ssh-auth" if decoded(&data["ssh-privatekey"]).is_empty() => {
            errors.push(required("ssh-privatekey"));
        }
        "kubernetes.io/tls" => {
            let missing = ["tls.crt", "tls.key"]
                .into_iter()
                .filter(|key| data.get(key).is_none());
            errors.extend(missing.map(required));
        }
        _ => {}
    }
    errors
}

/// That there is no certificate or no key where both should be, in the words of Go's `tls.X509KeyPair`.
fn no_key_pair(secret: &Value) -> Option<String> {
    if secret["type"] != "kubernetes.io/tls" {
        return None;
    }
    let lacks = |key: &str| {
        let begin = b"-----BEGIN ";
        !decoded(&secret["data"][key])
            .windows(begin.len())
            .any(|bytes| bytes == begin)
    };
    let (_, what) = [("tls.crt", "certificate"), ("tls.key", "key")]
        .into_iter()
        .find(|(key, _)| lacks(key))?;
    Some(format!("tls: failed to find any PEM data in {what} input"))
}

/// A key under which there is JSON, an object.
fn json_object(data: &Value, key: &str, at: &FieldPath) -> Option<FieldError> {
    let at = at.key(key);
    let Some(value) = data.get(key) else {
        return Some(FieldError::required(&at, ""));
    };
    let bytes = decoded(value);
    let why = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return None,
        Ok(other) => {
            let found = match other {
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                _ => "array",
            };
            format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}")
        }
        Err(fault) => syntax(&bytes, &fault),
    };
    Some(FieldError::invalid(&at, "<secret contents redacted>", why))
}

/// What Go says of JSON that is none; precise at the end of the text and for its first value.
fn syntax(bytes: &[u8], fault: &serde_json::Error) -> String {
    if fault.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let whole = String::from_utf8_lossy(bytes);
    let line = whole
        .lines()
        .nth(fault.line().saturating_sub(1))
        .unwrap_or_default();
    let found = line
        .chars()
        .nth(fault.column().saturating_sub(1))
        .unwrap_or('\u{fffd}');
    let before: String = line.chars().take(fault.column().saturating_sub(1)).collect();
    let started = |word: &&str| (1..word.len()).rev().find(|n| before.ends_with(&word[..*n]));
    if fault.to_string().starts_with("expected ident")
        && let Some((word, read)) = ["null", "true", "false"]
            .iter()
            .find_map(|word| Some((word, started(word)?)))
    {
        let wanted = word.chars().nth(read).unwrap_or_default();
        return format!("invalid character {found:?} in literal {word} (expecting {wanted:?})");
    }
    format!("invalid character {found:?} looking for beginning of value")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn keys_sizes_and_types_are_checked() {
        let key = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
                   'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
        let bad_key = format!("data[a/b]: Invalid value: \"a/b\": {key}");
        type Check = fn(&Value) -> Vec<FieldError>;
        let cases: [(Check, Value, &[&str]); 9] = [
            (validate_config_map, json!({"data": {"a": "b"}}), &[]),
            (validate_config_map, json!({"data": {"a/b": ""}}), &[&bad_key]),
            (
                validate_config_map,
                json!({"data": {"a": ""}, "binaryData": {"a": ""}}),
                &["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"],
            ),
            (
                validate_config_map,
                json!({"data": {"a": "x".repeat(MAX_SIZE + 1)}}),
                &["[]: Too long: may not be more than 1048576 bytes"],
            ),
            (
                validate_secret,
                json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}),
                &["data[tls.key]: Required value"],
            ),
            (
                validate_secret,
                json!({"type": "kubernetes.io/basic-auth"}),
                &["data[username]: Required value", "data[password]: Required value"],
            ),
            (
                validate_secret,
                json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "bm8="}}),
                &[
                    "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character 'o' in \
                   literal null (expecting 'u')",
                ],
            ),
            (
                validate_secret,
                json!({"type": "kubernetes.io/service-account-token"}),
                &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
            (validate_secret, json!({"type": "mine"}), &[]),
        ];
        for (check, object, expected) in cases {
            let shown = object.to_string();
            assert_eq!(
                told(&check(&object)),
                expected,
                "{}",
                &shown[..shown.len().min(99)]
            );
        }
    }

    #[test]
    fn texts_become_bytes_and_immutable_stays() {
        let mut secret = json!({"data": {"a": "YQ==", "b": "Yg=="}, "stringData": {"a": "z"}});
        default_secret(&mut secret);
        assert_eq!(
            secret,
            json!({"data": {"a": "eg==", "b": "Yg=="}, "type": "Opaque"})
        );
        let errors = frozen(
            &json!({"data": {"a": "b"}}),
            &json!({"immutable": true}),
            &["data"],
        );
        let expected = [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set",
        ];
        assert_eq!(told(&errors), expected);
    }
}
