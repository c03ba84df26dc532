//! The options of writes that a request's query carries, and how such options are read.

use trimtab_apimachinery_meta::{ApiError, FieldError, FieldPath, GroupKind};

use crate::api::{ApiRequest, BodyFormat};

const META: &str = "meta.k8s.io";
const MANAGER_MAX: usize = 128;

/// What to do about fields that are unknown or there twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Drop them in silence.
    Ignore,
    /// Drop them, and warn.
    #[default]
    Warn,
    /// Refuse the object.
    Strict,
}

/// The options of a create, update or patch.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    /// Who becomes the owner of the fields: the field manager asked for, or the client's name.
    pub(crate) manager: String,
    pub(crate) field_validation: FieldValidation,
    /// Whether an apply takes what belongs to others.
    pub(crate) force: bool,
}

/// Whether a query parameter is there and says yes: `watch`, `watch=`, `watch=1`, but not `watch=0` or `watch=false`.
pub(crate) fn flag(request: &ApiRequest, name: &str) -> Option<bool> {
    request
        .param(name)
        .map(|v| !matches!(v, "0" | "false" | "False" | "FALSE"))
}

/// A whole number in the query.
pub(crate) fn number(request: &ApiRequest, name: &str) -> Result<Option<i64>, ApiError> {
    request
        .param(name)
        .map_or(Ok(None), |text| match text.parse::<i64>() {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(ApiError::bad_request(format!(
                "strconv.ParseInt: parsing {text:?}: invalid syntax"
            ))),
        })
}

/// 422 about an options object.
pub(crate) fn invalid(kind: &str, errors: &[FieldError]) -> ApiError {
    ApiError::invalid(&GroupKind::new(META, kind), "", errors)
}

/// The values of `dryRun`, checked into `errors`; whether this is a dry run.
pub(crate) fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Vec<FieldError>) -> bool {
    let values: Vec<&str> = values.collect();
    if values.iter().any(|v| *v != "All") {
        errors.push(FieldError::not_supported(
            &FieldPath::new("dryRun"),
            values.clone(),
            &["All"],
        ));
    }
    !values.is_empty()
}

pub(crate) fn query_values<'a>(request: &'a ApiRequest, name: &'a str) -> impl Iterator<Item = &'a str> {
    request
        .query
        .iter()
        .filter(move |(k, _)| k == name)
        .map(|(_, v)| v.as_str())
}

impl WriteOptions {
    /// Reads the options of a write; `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub(crate) fn read(request: &ApiRequest, kind: &str) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let asked = request.param("fieldManager").unwrap_or_default();
        let apply = request.body_format == BodyFormat::ApplyPatch;
        let at_manager = FieldPath::new("fieldManager");
        if kind == "PatchOptions" {
            if apply && asked.is_empty() {
                errors.push(FieldError::required(&at_manager, "is required for apply patch"));
            }
            if !apply && request.param("force").is_some() {
                let why = "may not be specified for non-apply patch";
                errors.push(FieldError::forbidden(&FieldPath::new("force"), why));
            }
        }
        if asked.len() > MANAGER_MAX {
            errors.push(FieldError::too_long(&at_manager, MANAGER_MAX));
        }
        if let Some((i, c)) = asked.char_indices().find(|(_, c)| c.is_control()) {
            let why = format!("invalid character U+{:04X} (at position {i})", u32::from(c));
            errors.push(FieldError::invalid(&at_manager, asked, why));
        }
        let dry_run = dry_run(query_values(request, "dryRun"), &mut errors);
        let field_validation = match request.param("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            "Ignore" => FieldValidation::Ignore,
            other => {
                let at = FieldPath::new("fieldValidation");
                errors.push(FieldError::not_supported(
                    &at,
                    other,
                    &["", "Ignore", "Strict", "Warn"],
                ));
                FieldValidation::Warn
            }
        };
        if !errors.is_empty() {
            return Err(invalid(kind, &errors));
        }
        let manager = if asked.is_empty() {
            client_name(&request.user_agent)
        } else {
            asked.to_owned()
        };
        Ok(Self {
            dry_run,
            manager,
            field_validation,
            force: flag(request, "force").unwrap_or_default(),
        })
    }
}

/// The part of a user agent before the slash: who owns the fields when nobody is named.
fn client_name(user_agent: &str) -> String {
    let mut name = String::new();
    for c in user_agent
        .split('/')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
    {
        if name.len() + c.len_utf8() > MANAGER_MAX {
            break;
        }
        name.push(c);
    }
    if name.is_empty() {
        "unknown".to_owned()
    } else {
        name
    }
}
