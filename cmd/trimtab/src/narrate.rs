//! Tells on standard output what happens: one line for each object that comes, changes or goes, and for each event.

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::Client;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::core::PartialObjectMeta;
use tokio_util::sync::CancellationToken;
use trimtab::client::cache::{Cached, Delta, InformerFactory, Selection};

/// The kinds that people make and look at. Pods and the like only follow from them.
const KINDS: [(&str, &str, &str); 9] = [
    ("", "v1", "Namespace"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "StatefulSet"),
    ("batch", "v1", "Job"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ("samples.example.com", "v1", "Website"),
];

type Metadata = PartialObjectMeta<DynamicObject>;

/// Prints until `stop`. What was there when it began is not news.
pub(crate) async fn run(client: Client, stop: CancellationToken) {
    let informers = InformerFactory::new(client);
    let mut seats = Vec::new();
    for (group, version, kind) in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let informer = informers.informer_of::<Metadata>(&resource, Selection::all());
        seats.push(informer.add_handler(move |delta| {
            if let Some((what, who)) = change(&delta) {
                tell(what, &format!("{}/{}", kind.to_lowercase(), delta.key()), &who);
            }
        }));
    }
    let events = informers.informer::<Event>(Selection::all());
    let _events = events.add_handler(|delta| match &delta {
        Delta::Added {
            object,
            initial: false,
        }
        | Delta::Updated { new: object, .. } => {
            // The cache says what cannot be decoded.
            if let Ok(event) = object.decode_once() {
                tell_event(&event);
            }
        }
        _ => {}
    });
    stop.cancelled().await;
}

fn tell(what: &str, object: &str, more: &str) {
    let now = jiff::Zoned::now().strftime("%H:%M:%S");
    println!("{now} {what:<9} {object}  {more}");
}

fn tell_event(event: &Event) {
    let about = event.regarding.clone().unwrap_or_default();
    let key = [about.namespace, about.name]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("/");
    let object = format!("{}/{key}", about.kind.unwrap_or_default().to_lowercase());
    let times = event
        .series
        .as_ref()
        .map(|series| format!(" (x{})", series.count));
    let reason = event.reason.as_deref().unwrap_or_default();
    let note = event.note.as_deref().unwrap_or_default();
    tell(
        "event",
        &object,
        &format!("{reason}: {note}{}", times.unwrap_or_default()),
    );
}

/// What is worth a line, and who did it: that an object came, that it changed beyond its status, that its deletion
/// began or ended.
fn change(delta: &Delta<Metadata>) -> Option<(&'static str, String)> {
    match delta {
        Delta::Added { initial: true, .. } => None,
        Delta::Added { object, .. } => Some(("created", by(&managers(object), None)?)),
        Delta::Updated { old, new } if new.is_deleting() => {
            (!old.is_deleting()).then(|| ("deleting", String::new()))
        }
        Delta::Updated { old, new } => Some(("changed", by(&managers(new), Some(&managers(old)))?)),
        Delta::Deleted { .. } => Some(("deleted", String::new())),
        _ => None,
    }
}

fn managers(object: &Cached<Metadata>) -> Vec<ManagedFieldsEntry> {
    let entries = object.read(["metadata", "managedFields"]);
    entries.unwrap_or_default().unwrap_or_default()
}

/// Whose entries of the managed fields are new, status aside.
fn by(new: &[ManagedFieldsEntry], old: Option<&[ManagedFieldsEntry]>) -> Option<String> {
    let before = old.unwrap_or_default();
    let changed = new
        .iter()
        .filter(|entry| entry.subresource.as_deref() != Some("status") && !before.contains(entry));
    let who: Vec<&str> = changed.filter_map(|entry| entry.manager.as_deref()).collect();
    match (who.is_empty(), old) {
        (true, Some(_)) => None,
        (true, None) => Some(String::new()),
        (false, _) => Some(format!("by {}", who.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use trimtab::client::cache::Form;
    use trimtab::client::cache::cached::Codec;

    use super::*;

    fn object(entries: Value, deleting: bool) -> Cached<Metadata> {
        let deletion = if deleting {
            json!("2026-01-01T00:00:00Z")
        } else {
            Value::Null
        };
        let object =
            json!({"metadata": {"name": "a", "managedFields": entries, "deletionTimestamp": deletion}});
        let kind = ApiResource::erase::<Event>(&());
        let mut codec = Codec::new(&kind, Form::default());
        codec
            .encode_json(object.to_string().as_bytes())
            .expect("an object")
    }

    #[test]
    fn only_what_people_care_about_is_told() {
        let kubectl = json!([{"manager": "kubectl"}]);
        let status = json!([{"manager": "kubectl"}, {"manager": "controller", "subresource": "status"}]);
        let edited = json!([{"manager": "kubectl"}, {"manager": "kubectl-edit"}]);
        let updated = |old: &Value, new: &Value, deleting| Delta::Updated {
            old: object(old.clone(), false),
            new: object(new.clone(), deleting),
        };
        let cases = [
            (
                Delta::Added {
                    object: object(kubectl.clone(), false),
                    initial: true,
                },
                None,
            ),
            (
                Delta::Added {
                    object: object(kubectl.clone(), false),
                    initial: false,
                },
                Some(("created", "by kubectl")),
            ),
            (updated(&kubectl, &status, false), None),
            (
                updated(&kubectl, &edited, false),
                Some(("changed", "by kubectl-edit")),
            ),
            (updated(&edited, &kubectl, false), None),
            (updated(&kubectl, &kubectl, true), Some(("deleting", ""))),
            (
                Delta::Deleted {
                    last: object(kubectl.clone(), true),
                    observed: true,
                },
                Some(("deleted", "")),
            ),
        ];
        for (delta, expected) in cases {
            assert_eq!(
                change(&delta).as_ref().map(|(what, who)| (*what, who.as_str())),
                expected,
                "{delta:?}"
            );
        }
    }
}
