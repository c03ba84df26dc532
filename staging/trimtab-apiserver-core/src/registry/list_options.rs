//! The options of lists, watches and deletes of collections.

use trimtab_apimachinery_meta::selector::{FieldSelector, LabelSelector};
use trimtab_apimachinery_meta::{ApiError, FieldError, FieldPath};
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::Revision;

use super::continue_token::ContinueToken;
use super::options::{flag, invalid, number};
use crate::api::ApiRequest;

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
        // What may be old comes from the cache, which has no pages.
        let limit = if version == Some(0) && token.is_none() {
            0
        } else {
            limit
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

impl ListOptions {
    /// Whether nothing is left out.
    pub(crate) fn is_open(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
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
    // Custom resources answer for each field by itself.
    let custom = |field: &str| {
        resource.custom
            && resource
                .strategy
                .selectable(&serde_json::Value::Null, field)
                .is_some()
    };
    for term in &fields.terms {
        let field = term.field.as_str();
        if matches!(field, "metadata.name" | "metadata.namespace") || known.contains(&field) || custom(field)
        {
            continue;
        }
        return Err(ApiError::bad_request(if known.is_empty() && !resource.custom {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        } else if resource.kind == "Job" {
            format!("field label {field:?} not supported for Job")
        } else {
            format!("field label not supported: {field}")
        }));
    }
    Ok(())
}
