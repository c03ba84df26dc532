//! The format of stages.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::StageError;
use super::path::Path;
use super::template::Template;

/// A stage that has been read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stage {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) terms: Vec<Term>,
    pub(super) weight: i64,
    pub(super) weight_from: Option<Path>,
    pub(super) delay: Option<Time>,
    /// Up to when, by chance.
    pub(super) jitter: Option<Time>,
    pub(super) acts: Vec<Planned>,
}

/// What must hold of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Term {
    pub(super) path: Path,
    pub(super) operator: Operator,
    pub(super) values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// A span of time, or where to find it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Time {
    pub(super) fixed: Option<Duration>,
    pub(super) from: Option<Path>,
}

/// What a stage does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Planned {
    Event {
        warning: bool,
        reason: String,
        message: Template,
    },
    Finalizers {
        add: Vec<String>,
        remove: Vec<String>,
        empty: bool,
    },
    Delete,
    Patch {
        root: String,
        subresource: String,
        strategic: bool,
        template: Template,
    },
}

// === As it is written ===

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    resource_ref: ResourceRef,
    selector: Option<Selector>,
    #[serde(default)]
    weight: i64,
    weight_from: Option<Expression>,
    delay: Option<Delay>,
    next: Option<Next>,
    #[serde(default)]
    steps: Vec<Next>,
    #[serde(default, rename = "immediateNextStage")]
    _immediately: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ResourceRef {
    #[serde(default)]
    api_group: String,
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Selector {
    match_labels: BTreeMap<String, String>,
    match_annotations: BTreeMap<String, String>,
    match_expressions: Vec<Requirement>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Requirement {
    key: Option<String>,
    operator: Option<Operator>,
    values: Vec<String>,
    jq: Option<Box<Requirement>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Expression {
    expression_from: Option<String>,
    jq: Option<Jq>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jq {
    expression: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Delay {
    duration_milliseconds: Option<u64>,
    duration_from: Option<Expression>,
    jitter_duration_milliseconds: Option<u64>,
    jitter_duration_from: Option<Expression>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Next {
    event: Option<Event>,
    finalizers: Option<Finalizers>,
    delete: bool,
    status_template: Option<String>,
    status_subresource: Option<String>,
    status_patch_as: Option<String>,
    patches: Vec<Patch>,
    patch: Option<Patch>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Event {
    r#type: String,
    reason: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Finalizers {
    add: Vec<Item>,
    remove: Vec<Item>,
    empty: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    value: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Patch {
    root: String,
    subresource: String,
    r#type: String,
    template: String,
}

// === Reading ===

/// Reads the stage that is the `number`th of its file.
pub(super) fn stage(text: &str, number: usize) -> Result<Stage, StageError> {
    // Its first line: what follows is a picture of the text.
    let unreadable = |why: String| StageError {
        name: number.to_string(),
        why: why.lines().next().unwrap_or_default().to_owned(),
    };
    let value: Value = serde_saphyr::from_str(text).map_err(|why| unreadable(why.to_string()))?;
    let document: Document = serde_json::from_value(value).map_err(|why| unreadable(why.to_string()))?;
    let name = document.metadata.name.clone();
    read(document).map_err(|why| StageError { name, why })
}

fn read(document: Document) -> Result<Stage, String> {
    if !document.api_version.starts_with("kwok.x-k8s.io/") || document.kind != "Stage" {
        let (version, kind) = (document.api_version, document.kind);
        return Err(format!("{version} {kind} is not kwok.x-k8s.io/v1alpha1 Stage"));
    }
    let spec = document.spec;
    let resource = spec.resource_ref;
    if !matches!(resource.api_group.as_str(), "" | "v1") || !matches!(resource.kind.as_str(), "Pod" | "Node")
    {
        return Err(format!(
            "resourceRef: there are stages of pods and nodes, not of {} {}",
            resource.api_group, resource.kind
        ));
    }
    // As in KWOK: no selector selects nothing.
    let terms = match spec.selector {
        Some(selector) => terms(selector)?,
        None => vec![Term {
            path: Path::parse(".metadata.name")?,
            operator: Operator::DoesNotExist,
            values: Vec::new(),
        }],
    };
    let (delay, jitter) = match spec.delay {
        Some(delay) => (
            time(delay.duration_milliseconds, delay.duration_from)?,
            time(delay.jitter_duration_milliseconds, delay.jitter_duration_from)?,
        ),
        None => (None, None),
    };
    let mut acts = Vec::new();
    for next in spec.next.into_iter().chain(spec.steps) {
        planned(next, &mut acts)?;
    }
    Ok(Stage {
        name: document.metadata.name,
        kind: resource.kind,
        terms,
        weight: spec.weight,
        weight_from: spec.weight_from.map(expression).transpose()?,
        delay,
        jitter,
        acts,
    })
}

fn terms(selector: Selector) -> Result<Vec<Term>, String> {
    let mut terms = Vec::new();
    let maps = [
        ("labels", selector.match_labels),
        ("annotations", selector.match_annotations),
    ];
    for (field, map) in maps {
        for (key, value) in map {
            terms.push(Term {
                path: Path::parse(&format!(".metadata.{field}[\"{key}\"]"))?,
                operator: Operator::In,
                values: vec![value],
            });
        }
    }
    for requirement in selector.match_expressions {
        let (key, operator, values) = match requirement.jq {
            Some(inner) => (inner.key, inner.operator, inner.values),
            None => (requirement.key, requirement.operator, requirement.values),
        };
        terms.push(Term {
            path: Path::parse(&key.ok_or("matchExpressions: a key is missing")?)?,
            operator: operator.ok_or("matchExpressions: an operator is missing")?,
            values,
        });
    }
    Ok(terms)
}

fn expression(expression: Expression) -> Result<Path, String> {
    let text = expression
        .expression_from
        .or(expression.jq.map(|jq| jq.expression));
    Path::parse(&text.ok_or("an expression is missing")?)
}

fn time(fixed: Option<u64>, from: Option<Expression>) -> Result<Option<Time>, String> {
    if fixed.is_none() && from.is_none() {
        return Ok(None);
    }
    Ok(Some(Time {
        fixed: fixed.map(Duration::from_millis),
        from: from.map(expression).transpose()?,
    }))
}

/// In KWOK's order: the event, the finalizers, then deletion or patches.
fn planned(next: Next, acts: &mut Vec<Planned>) -> Result<(), String> {
    if let Some(event) = next.event {
        acts.push(Planned::Event {
            warning: event.r#type == "Warning",
            reason: event.reason,
            message: Template::parse(&event.message)?,
        });
    }
    if let Some(finalizers) = next.finalizers {
        let values = |items: Vec<Item>| items.into_iter().map(|item| item.value).collect();
        acts.push(Planned::Finalizers {
            add: values(finalizers.add),
            remove: values(finalizers.remove),
            empty: finalizers.empty,
        });
    }
    let of_status = next.status_template.map(|template| Patch {
        root: "status".to_owned(),
        subresource: next.status_subresource.unwrap_or_else(|| "status".to_owned()),
        r#type: next.status_patch_as.unwrap_or_default(),
        template,
    });
    for patch in of_status.into_iter().chain(next.patches).chain(next.patch) {
        let strategic = match patch.r#type.as_str() {
            "" | "merge" => false,
            "strategic" => true,
            other => {
                return Err(format!(
                    "patch type {other:?} is not supported; merge and strategic are"
                ));
            }
        };
        acts.push(Planned::Patch {
            root: patch.root,
            subresource: patch.subresource,
            strategic,
            template: Template::parse(&patch.template)?,
        });
    }
    if next.delete {
        acts.push(Planned::Delete);
    }
    Ok(())
}
