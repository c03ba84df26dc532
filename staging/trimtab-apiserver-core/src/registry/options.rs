//! The options that a request's query carries, read and checked.

use trimtab_apimachinery_meta::selector::{FieldSelector, LabelSelector};
use trimtab_apimachinery_meta::{ApiError, FieldError, FieldPath, GroupKind};
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::Revision;

use super::continue_token::ContinueToken;
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

/// Which revision a list is read at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadAt {
    /// The current one.
    Latest,
    /// The current one, which must have come this far.
    NotOlderThan(Revision),
    /// This one.
    Exactly(Revision),
}

/// The options of a list, a watch or a deletecollection.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
    pub(crate) limit: usize,
    pub(crate) token: Option<ContinueToken>,
    /// What `resourceVersion` says; `None` when it is absent.
    pub(crate) version: Option<Revision>,
    pub(crate) read_at: ReadAt,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) timeout_seconds: Option<u64>,
}

impl ListOptions {
    pub(crate) fn read(request: &ApiRequest, resource: &Resource, watch: bool) -> Result<Self, ApiError> {
        let limit = number(request, "limit")?.unwrap_or_default();
        let timeout = number(request, "timeoutSeconds")?;
        let bad =
            |e: trimtab_apimachinery_meta::selector::SelectorError| ApiError::bad_request(e.to_string());
        let labels = LabelSelector::parse(request.param("labelSelector").unwrap_or_default()).map_err(bad)?;
        let fields = FieldSelector::parse(request.param("fieldSelector").unwrap_or_default()).map_err(bad)?;
        let version = request.param("resourceVersion").unwrap_or_default();
        let matching = request.param("resourceVersionMatch").unwrap_or_default();
        let token = request.param("continue").unwrap_or_default();
        let send_initial_events = flag(request, "sendInitialEvents");
        let errors = if watch {
            check_watch(matching, token, send_initial_events)
        } else {
            check_list(matching, version, token, send_initial_events)
        };
        if !errors.is_empty() {
            return Err(invalid("ListOptions", &errors));
        }
        check_fields(&fields, resource)?;
        let version = parse_version(version).map_err(|text| {
            let text = if watch {
                text
            } else {
                format!("invalid resource version: {text}")
            };
            ApiError::bad_request(text)
        })?;
        let token = match token {
            "" => None,
            _ if version.is_some_and(|v| v != 0) => {
                let text = "specifying resource version is not allowed when using continue";
                return Err(ApiError::bad_request(text));
            }
            text => Some(
                ContinueToken::decode(text)
                    .map_err(|e| ApiError::bad_request(format!("continue key is not valid: {e}")))?,
            ),
        };
        let limit = usize::try_from(limit).unwrap_or_default();
        let read_at = match (version, matching) {
            (None | Some(0), _) => ReadAt::Latest,
            (Some(v), "Exact") => ReadAt::Exactly(v),
            (Some(v), "") if limit > 0 => ReadAt::Exactly(v),
            (Some(v), _) => ReadAt::NotOlderThan(v),
        };
        Ok(Self {
            labels,
            fields,
            limit,
            token,
            version,
            read_at,
            bookmarks: flag(request, "allowWatchBookmarks").unwrap_or_default(),
            send_initial_events,
            timeout_seconds: timeout.and_then(|t| u64::try_from(t).ok()).filter(|t| *t > 0),
        })
    }
}

/// A resource version; the error is the text that kube-apiserver answers with.
pub(crate) fn parse_version(text: &str) -> Result<Option<Revision>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        )
    })
}

fn check_watch(matching: &str, token: &str, send_initial_events: Option<bool>) -> Vec<FieldError> {
    let at = FieldPath::new("resourceVersionMatch");
    let mut errors = Vec::new();
    let mut forbid = |why: &str| errors.push(FieldError::forbidden(&at, why));
    if send_initial_events.is_some() && matching != "NotOlderThan" {
        forbid("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if !matching.is_empty() {
        if send_initial_events.is_none() {
            forbid("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
        }
        if matching != "NotOlderThan" {
            errors.push(FieldError::not_supported(&at, matching, &["NotOlderThan"]));
        }
        if !token.is_empty() {
            errors.push(FieldError::forbidden(
                &at,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
    }
    errors
}

fn check_list(
    matching: &str,
    version: &str,
    token: &str,
    send_initial_events: Option<bool>,
) -> Vec<FieldError> {
    let at = FieldPath::new("resourceVersionMatch");
    let mut errors = Vec::new();
    if !matching.is_empty() {
        if version.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(&at, why));
        }
        if !token.is_empty() {
            errors.push(FieldError::forbidden(
                &at,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported(
                &at,
                matching,
                &["Exact", "NotOlderThan", ""],
            ));
        }
        if matching == "Exact" && version == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(&at, why));
        }
    }
    if send_initial_events.is_some() {
        let at = FieldPath::new("sendInitialEvents");
        errors.push(FieldError::forbidden(
            &at,
            "sendInitialEvents is forbidden for list",
        ));
    }
    errors
}

fn check_fields(fields: &FieldSelector, resource: &Resource) -> Result<(), ApiError> {
    let known = resource.strategy.selectable_fields();
    for term in &fields.terms {
        let field = term.field.as_str();
        if matches!(field, "metadata.name" | "metadata.namespace") || known.contains(&field) {
            continue;
        }
        return Err(ApiError::bad_request(if known.is_empty() && !resource.custom {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        } else {
            format!("field label not supported: {field}")
        }));
    }
    Ok(())
}
