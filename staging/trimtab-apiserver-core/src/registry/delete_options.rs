//! The options of a delete: from the body if there is one, else from the query.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{ApiError, FieldError, FieldPath};

use super::options::{dry_run, flag, invalid, number, query_values};
use super::{json_syntax, yaml};
use crate::api::{ApiRequest, BodyFormat};

/// What happens to the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They are deleted first.
    Foreground,
    /// They are deleted some time after.
    Background,
    /// They stay, without an owner.
    Orphan,
}

impl Propagation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Foreground => "Foreground",
            Self::Background => "Background",
            Self::Orphan => "Orphan",
        }
    }
}

/// How to delete.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    /// Never negative.
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    /// The older way to say it.
    pub(crate) orphan_dependents: Option<bool>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

impl DeleteOptions {
    pub(crate) fn read(request: &ApiRequest) -> Result<Self, ApiError> {
        if request.body.is_empty() {
            return Self::checked(
                query_values(request, "dryRun").collect(),
                number(request, "gracePeriodSeconds")?,
                request.param("propagationPolicy"),
                flag(request, "orphanDependents"),
                &Value::Null,
            );
        }
        let text = String::from_utf8_lossy(&request.body);
        let body: Value = if request.body_format == BodyFormat::Yaml {
            yaml::to_value(&text).map_err(ApiError::bad_request)?
        } else {
            serde_json::from_str(&text).map_err(|_| {
                let why = json_syntax::fault(&text);
                ApiError::bad_request(format!("couldn't get version/kind; json parse error: {why}"))
            })?
        };
        Self::from_object(&body)
    }

    /// Reads a `DeleteOptions` object, or null.
    pub(crate) fn from_object(body: &Value) -> Result<Self, ApiError> {
        let kind = body["kind"].as_str().unwrap_or("DeleteOptions");
        if kind != "DeleteOptions" {
            let version = body["apiVersion"].as_str().unwrap_or("v1");
            let text = format!("decoded object cannot be converted to DeleteOptions: {version}, {kind}");
            return Err(ApiError::bad_request(text));
        }
        Self::checked(
            body["dryRun"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect(),
            body["gracePeriodSeconds"].as_i64(),
            body["propagationPolicy"].as_str(),
            body["orphanDependents"].as_bool(),
            &body["preconditions"],
        )
    }

    fn checked(
        dry: Vec<&str>,
        grace_seconds: Option<i64>,
        policy: Option<&str>,
        orphan_dependents: Option<bool>,
        preconditions: &Value,
    ) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let at = FieldPath::new("propagationPolicy");
        if let (Some(policy), Some(_)) = (policy, orphan_dependents) {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&at, policy, why));
        }
        let propagation = match policy {
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Background") => Some(Propagation::Background),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported(&at, other, &supported));
                None
            }
            None => None,
        };
        let dry_run = dry_run(dry.into_iter(), &mut errors);
        if !errors.is_empty() {
            return Err(invalid("DeleteOptions", &errors));
        }
        let text = |name: &str| preconditions[name].as_str().map(str::to_owned);
        Ok(Self {
            dry_run,
            // A negative period has always meant the shortest one that is not zero.
            grace_seconds: grace_seconds.map(|s| if s < 0 { 1 } else { s }),
            propagation,
            orphan_dependents,
            uid: text("uid"),
            resource_version: text("resourceVersion"),
        })
    }

    /// The same as a `DeleteOptions` object.
    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        let mut preconditions = serde_json::Map::new();
        for (field, text) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(text) = text {
                preconditions.insert(field.to_owned(), text.as_str().into());
            }
        }
        if !preconditions.is_empty() {
            value["preconditions"] = preconditions.into();
        }
        if let Some(seconds) = self.grace_seconds {
            value["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(orphan) = self.orphan_dependents {
            value["orphanDependents"] = orphan.into();
        }
        if let Some(propagation) = self.propagation {
            value["propagationPolicy"] = propagation.as_str().into();
        }
        if self.dry_run {
            value["dryRun"] = json!(["All"]);
        }
        value
    }

    /// What the request says of dependents, in either way; `None` when it leaves it to the object.
    pub(crate) fn dependents(&self) -> Option<Propagation> {
        match self.orphan_dependents {
            Some(true) => Some(Propagation::Orphan),
            Some(false) => Some(Propagation::Background),
            None => self.propagation,
        }
    }
}
