//! Which resources the collector watches, and how their watches feed the graph.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::core::{ApiResource, ObjectMeta};
use tokio::sync::Notify;
use trimtab_client_cache::Form;
use trimtab_client_cache::cached::AnyObject;
use trimtab_client_cache::informer::{Change, Handling, InformerFactory, MetadataRegistration, Selection};

use super::collector::{Collector, references};
use super::decide::deletion;
use super::graph::{Coordinates, Kind, Observed};
use super::slim::Slim;
use crate::resources::{Resource, Resources};

/// What a resource must offer to be collected.
const VERBS: [&str; 3] = ["delete", "list", "watch"];
/// Resources that come and go in masses and own nothing.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];
/// Kinds whose objects change what is served.
const SERVING: [(&str, &str); 2] = [
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apiregistration.k8s.io", "APIService"),
];

/// The watches. Dropping them ends all.
pub(super) struct Monitors {
    collector: Arc<Collector>,
    informers: InformerFactory,
    /// Told when an object changes that changes what is served.
    serving_changed: Arc<Notify>,
    /// By version and plural. In order: how often one waits for all of them must not depend on chance.
    running: BTreeMap<(String, String), (ApiResource, MetadataRegistration)>,
}

impl Monitors {
    pub(super) fn new(
        collector: Arc<Collector>,
        informers: InformerFactory,
        serving_changed: Arc<Notify>,
    ) -> Self {
        Self {
            collector,
            informers,
            serving_changed,
            running: BTreeMap::new(),
        }
    }

    /// Watches what is served now, and no more what is not.
    pub(super) async fn follow(&mut self, resources: Arc<Resources>) {
        let ignored = |resource: &&Resource| {
            let ApiResource { group, plural, .. } = &resource.api;
            !IGNORED.contains(&(group, plural))
        };
        let wanted: Vec<_> = resources
            .preferred(&VERBS)
            .filter(ignored)
            .map(|resource| resource.api.clone())
            .collect();
        // A server that does not answer has not lost its objects.
        let keep = |api: &ApiResource| wanted.contains(api) || resources.has_failed(&api.api_version);
        let (kept, gone) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|(_, (api, _))| keep(api));
        self.running = kept;
        let gone: BTreeMap<_, (ApiResource, MetadataRegistration)> = gone;
        for (api, registration) in gone.into_values() {
            registration.leave().await;
            tracing::info!(
                api_version = api.api_version,
                kind = api.kind,
                "no longer watched"
            );
            let kind = Kind {
                api_version: api.api_version,
                kind: api.kind,
            };
            self.collector.change(|graph| graph.forget_kind(&kind));
        }
        self.collector.set_resources(resources);
        for api in wanted {
            let id = (api.api_version.clone(), api.plural.clone());
            if !self.running.contains_key(&id) {
                tracing::debug!(api_version = api.api_version, kind = api.kind, "watching");
                let registration = self.watch(&api);
                self.running.insert(id, (api, registration));
            }
        }
    }

    /// Waits until every watch has told of all that there was, at most for this long. False: some have not.
    pub(super) async fn synced_within(&self, longest: Duration) -> bool {
        let synced = async {
            for (_, registration) in self.running.values() {
                registration.synced().await;
            }
        };
        tokio::time::timeout(longest, synced).await.is_ok()
    }

    fn watch(&self, api: &ApiResource) -> MetadataRegistration {
        // What others watch costs no second watch. What is left is looked at once, when it changes.
        let selection = Selection::all()
            .without_bookkeeping()
            .without(["metadata", "annotations"])
            .without(["metadata", "labels"])
            .form(Form::Compact { hot: 0 });
        let informer = self.informers.metadata_of(api, selection);
        let kind = Arc::new(Kind {
            api_version: api.api_version.clone(),
            kind: api.kind.clone(),
        });
        let collector = self.collector.clone();
        let serving = SERVING
            .contains(&(&api.group, &api.kind))
            .then(|| self.serving_changed.clone());
        informer.add_handler_with(Handling::named(super::NAME), move |change, object| {
            tell(&collector, &kind, change, object);
            if let Some(serving_changed) = &serving {
                serving_changed.notify_one();
            }
        })
    }
}

fn tell(collector: &Collector, kind: &Arc<Kind>, change: Change, object: AnyObject<'_>) {
    if matches!(change, Change::Deleted { .. }) {
        return collector.change(|graph| graph.vanish(&object.uid()));
    }
    let Ok(Some(slim)) = object.read::<Slim>(["metadata"]) else {
        return;
    };
    let metadata = ObjectMeta::from(slim);
    let Some(uid) = metadata.uid.as_deref() else {
        return;
    };
    let namespace: Arc<str> = metadata.namespace.as_deref().unwrap_or_default().into();
    let observed = Observed {
        references: references(&metadata, &namespace),
        at: Coordinates {
            kind: kind.clone(),
            namespace,
            name: metadata.name.as_deref().unwrap_or_default().into(),
            uid: uid.into(),
        },
        deletion: deletion(&metadata),
    };
    collector.change(|graph| graph.observe(observed));
}
