//! The revisions of StatefulSets and DaemonSets: which template is the newest, which ones there were, and which are forgotten.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::ResourceExt as _;
use kube::api::Api;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::LabelSelector;
use trimtab_client_cache::Cached;
use trimtab_controller_runtime::{Error, Reconciled, Result, Turn};

use super::template::{self, Sum};
use super::words::{is_ending, is_taken};
use crate::live::patiently;

/// One revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Revision {
    pub(crate) name: String,
    pub(crate) number: i64,
    pub(crate) template: PodTemplateSpec,
    fingerprint: Box<str>,
    /// The label that DaemonSets' pods have of it.
    pub(crate) hash: String,
}

/// What is to be done about the newest template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Newest {
    /// It is the last revision, at this place.
    Last(usize),
    /// It was one before: the revision at this place becomes the last one, under this number.
    Again(usize, i64),
    /// There is none yet; it is given this number.
    Missing(i64),
}

/// The revision of a state, read when it is asked for first.
pub(crate) fn revision_of(cached: &Cached<ControllerRevision>) -> Arc<Revision> {
    cached.derived(|cached| {
        cached
            .decode_once()
            .map(|revision| read(&revision))
            .unwrap_or_default()
    })
}

fn read(revision: &ControllerRevision) -> Revision {
    let data = revision.data.as_ref().map(|data| &data.0);
    let template = data.and_then(|data| data.pointer("/spec/template")).cloned();
    let template: PodTemplateSpec = template
        .and_then(|template| serde_json::from_value(template).ok())
        .unwrap_or_default();
    let labels = revision.metadata.labels.as_ref();
    Revision {
        name: revision.metadata.name.clone().unwrap_or_default(),
        number: revision.revision,
        fingerprint: template::fingerprint(&template),
        template,
        hash: labels
            .and_then(|labels| labels.get(super::pods::REVISION))
            .cloned()
            .unwrap_or_default(),
    }
}

/// The revisions of an owner, once the newest template has one.
pub(crate) enum Settled {
    /// They are known.
    Known {
        /// Those that there were, in the order of their numbers.
        all: Vec<Cached<ControllerRevision>>,
        /// The newest template's.
        newest: Arc<Revision>,
    },
    /// The name that the newest would have is taken; another one is to be tried.
    Taken,
}

/// Claims the revisions of the turn's object, and sees to it that the template has one that is the last: by `make`, which is
/// given its number, if there is none.
///
/// # Errors
/// As of [`Turn::claim`] and of [`Turn::create`]; terminal where the namespace is on its way out.
pub(crate) async fn settle<K: Reconciled>(
    turn: &mut Turn<K>,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    make: impl FnOnce(i64) -> Option<ControllerRevision> + Send,
) -> Result<Settled> {
    let mut all = turn.claim_cached::<ControllerRevision>(selector).await?;
    all.sort_by_cached_key(|cached| (revision_of(cached).number, cached.name().to_owned()));
    let known: Vec<_> = all.iter().map(revision_of).collect();
    let newest = match newest(&known, template) {
        Newest::Last(at) => known[at].clone(),
        Newest::Again(at, number) => {
            let patch = json!({ "revision": number });
            turn.merge_all(vec![(all[at].clone(), patch)]).await.failure?;
            known[at].clone()
        }
        Newest::Missing(number) => {
            let Some(revision) = make(number) else {
                return Ok(Settled::Taken);
            };
            match turn.create(&revision).await {
                Ok(made) => Arc::new(read(&made)),
                Err(error) if is_taken(&error) => match same(turn, &revision, template).await? {
                    Some(there) => there,
                    None => return Ok(Settled::Taken),
                },
                Err(error) if is_ending(&error) => return Err(Error::terminal(error)),
                Err(error) => return Err(error),
            }
        }
    };
    Ok(Settled::Known { all, newest })
}

/// The revision that has this one's name already, if it is of the same template: made by a process before, or beside, and not
/// seen yet.
async fn same<K: Reconciled>(
    turn: &Turn<K>,
    revision: &ControllerRevision,
    template: &PodTemplateSpec,
) -> Result<Option<Arc<Revision>>> {
    let (namespace, name) = (revision.namespace().unwrap_or_default(), revision.name_any());
    let api: Api<ControllerRevision> = Api::namespaced(turn.client().clone(), &namespace);
    let there = patiently(api.get_opt(&name)).await.map_err(Error::other)?;
    let there = there.map(|there| read(&there));
    let fingerprint = template::fingerprint(template);
    Ok(there
        .filter(|there| there.fingerprint == fingerprint)
        .map(Arc::new))
}

/// The revision of an owner's template, whose label tells it by its hash.
pub(crate) fn revision<K: Reconciled>(
    owner: &K,
    template: &PodTemplateSpec,
    number: i64,
    name: String,
    (label, hash): (&str, String),
    data: Value,
) -> Option<ControllerRevision> {
    let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone());
    let mut labels = labels.unwrap_or_default();
    labels.insert(label.to_owned(), hash);
    Some(ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![template::owner_of(owner)?]),
            ..ObjectMeta::default()
        },
        revision: number,
        data: Some(RawExtension(data)),
    })
}

/// Finds the newest template among revisions, which are in the order of their numbers.
pub(crate) fn newest(revisions: &[Arc<Revision>], template: &PodTemplateSpec) -> Newest {
    let fingerprint = template::fingerprint(template);
    let next = revisions.last().map_or(0, |last| last.number) + 1;
    match revisions
        .iter()
        .rposition(|revision| revision.fingerprint == fingerprint)
    {
        Some(at) if at + 1 == revisions.len() => Newest::Last(at),
        Some(at) => Newest::Again(at, next),
        None => Newest::Missing(next),
    }
}

/// The places of those revisions that nobody needs, beyond the limit: the oldest.
pub(crate) fn surplus(
    revisions: &[Arc<Revision>],
    is_live: impl Fn(&Revision) -> bool,
    limit: i32,
) -> Vec<usize> {
    let Ok(limit) = usize::try_from(limit) else {
        return Vec::new();
    };
    let dead: Vec<_> = (0..revisions.len())
        .filter(|at| !is_live(&revisions[*at]))
        .collect();
    let excess = dead.len().saturating_sub(limit);
    dead.into_iter().take(excess).collect()
}

/// What a revision remembers: the patch that brings the template back.
pub(crate) fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    for list in ["containers", "initContainers"] {
        let containers = template
            .pointer_mut(&format!("/spec/{list}"))
            .and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            // Go writes them always, and names are made of what it writes.
            if container["resources"].is_null() {
                container["resources"] = json!({});
            }
        }
    }
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The short name of what a revision remembers, as kube-controller-manager computes it: FNV-1 of Go's JSON and of how often
/// the name was taken.
pub(crate) fn hash(data: &Value, collisions: i32) -> String {
    let mut text = String::new();
    write(data, &mut text);
    let mut sum = Sum::default();
    sum.add(text.as_bytes());
    sum.add(collisions.to_string().as_bytes());
    sum.text()
}

/// JSON as Go writes maps: keys in order, and what means something in HTML escaped.
fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (at, (key, value)) in fields.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                escape(key, text);
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Value::String(string) => escape(string, text),
        other => text.push_str(&other.to_string()),
    }
}

fn escape(string: &str, text: &mut String) {
    for character in Value::from(string).to_string().chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "image": image}]}}))
            .expect("a template")
    }

    fn revision(image: &str, number: i64) -> Arc<Revision> {
        let template = template(image);
        Arc::new(Revision {
            name: format!("r{number}"),
            number,
            fingerprint: template::fingerprint(&template),
            template,
            hash: String::new(),
        })
    }

    #[test]
    fn templates_are_found_among_revisions() {
        let there = [revision("a", 1), revision("b", 2), revision("c", 5)];
        assert_eq!(newest(&there, &template("c")), Newest::Last(2));
        assert_eq!(newest(&there, &template("a")), Newest::Again(0, 6));
        assert_eq!(newest(&there, &template("d")), Newest::Missing(6));
        assert_eq!(newest(&[], &template("d")), Newest::Missing(1));
        let live = |revision: &Revision| revision.number == 5;
        assert_eq!(surplus(&there, live, 1), [0]);
        assert_eq!(surplus(&there, live, 0), [0, 1]);
        assert!(surplus(&there, live, 2).is_empty());
    }

    #[test]
    fn revisions_remember_templates_as_go_writes_them() {
        let mut text = String::new();
        write(&data(&template("<b>")), &mut text);
        assert_eq!(
            text,
            r#"{"spec":{"template":{"$patch":"replace","spec":{"containers":[{"image":"\u003cb\u003e","name":"c","resources":{}}]}}}}"#
        );
        assert_ne!(hash(&data(&template("a")), 0), hash(&data(&template("a")), 1));
    }
}
