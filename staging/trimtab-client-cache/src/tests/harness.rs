//! Informers under watch: handlers that check what they are told, and stores that are compared with the server.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;
use trimtab_apimachinery_meta::{LabelSelector, resource_version};

use super::clauses::{self, Monotonic, Ordered, Synced, Verdict, View, complete, view};
use super::server::Server;
use crate::Delta;
use crate::informer::{self, Deltas, Registration, Selection, SharedInformer};
use crate::reflector::Config;

/// Long enough for all that is ready to run, on paused time.
const MOMENT: Duration = Duration::from_millis(1);

/// Lets everything run that can without time passing.
pub(super) async fn settle() {
    tokio::time::sleep(MOMENT).await;
}

pub(super) fn start(server: &Server, config: Config) -> SharedInformer<ConfigMap> {
    start_selected(server, config, Selection::all())
}

pub(super) fn start_selected(server: &Server, config: Config, which: Selection) -> SharedInformer<ConfigMap> {
    SharedInformer::start(server.client(), &(), which, &config)
}

/// By pages only.
pub(super) fn paged() -> Config {
    Config {
        streamed_lists: false,
        page_size: 2,
        ..Config::default()
    }
}

/// Waits until the informer has everything that the server has.
pub(super) async fn caught_up(server: &Server, informer: &SharedInformer<ConfigMap>) {
    for _ in 0..3600 {
        let (at, now) = (informer.store().resource_version(), server.state().world.version);
        if resource_version::parse(&at).is_ok_and(|at| at == now) {
            return settle().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!(
        "not caught up with {} in an hour: {:?}",
        server.state().world.version,
        informer.status()
    );
}

/// What a handler has been told, checked on the way.
#[derive(Default)]
pub(super) struct Told {
    pub(super) ordered: Ordered,
    pub(super) synced: Synced,
    pub(super) log: Vec<String>,
    verdict: Option<String>,
}

impl Told {
    fn hear(&mut self, delta: &Delta<ConfigMap>, signal: Option<&informer::Synced>) {
        let initial = matches!(delta, Delta::Added { initial: true, .. });
        if initial && signal.is_some_and(informer::Synced::is_synced) {
            self.note(Err(format!("Synced: {delta:?} comes after it")));
        }
        let verdict = self.ordered.told(delta);
        self.note(verdict);
        self.log.push(format!("{delta:?}"));
    }

    pub(super) fn note(&mut self, verdict: Verdict) {
        self.verdict = self.verdict.take().or(verdict.err());
    }
}

/// A handler that is called, and returns at once.
pub(super) struct Called {
    pub(super) registration: Registration<ConfigMap>,
    pub(super) told: Arc<Mutex<Told>>,
}

impl Called {
    pub(super) fn join(informer: &SharedInformer<ConfigMap>) -> Self {
        let told = Arc::new(Mutex::new(Told::default()));
        let signal = Arc::new(Mutex::new(None::<informer::Synced>));
        let (heard, asked) = (told.clone(), signal.clone());
        let registration = informer.add_handler(move |delta| {
            let mut told = heard.lock();
            told.hear(&delta, asked.lock().as_ref());
            told.synced.handled(delta.key().clone());
        });
        *signal.lock() = Some(registration.sync_signal());
        if informer.store().is_synced() {
            told.lock().synced.listed(&view(&informer.store()));
        }
        Self { registration, told }
    }

    /// The deltas since the last call, in words.
    pub(super) fn heard(&self) -> Vec<String> {
        let log = std::mem::take(&mut self.told.lock().log);
        log.iter().map(|line| line.replace("default/", "")).collect()
    }

    /// The same, where the order of different objects is nobody's business.
    pub(super) fn heard_sorted(&self) -> Vec<String> {
        let mut heard = self.heard();
        heard.sort();
        heard
    }
}

/// A handler that takes deltas when told to.
pub(super) struct Slow {
    deltas: Deltas<ConfigMap>,
    told: Told,
    in_hand: Option<trimtab_apimachinery_meta::ObjectKey>,
}

impl Slow {
    pub(super) fn join(informer: &SharedInformer<ConfigMap>) -> Self {
        let mut told = Told::default();
        if informer.store().is_synced() {
            told.synced.listed(&view(&informer.store()));
        }
        Self {
            deltas: informer.deltas(),
            told,
            in_hand: None,
        }
    }

    /// Takes at most so many of what is pending.
    pub(super) fn take(&mut self, most: usize) -> Vec<Delta<ConfigMap>> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let next = self.deltas.next().now_or_never().flatten();
            // Asking said that what was in hand has been handled.
            if let Some(key) = self.in_hand.take() {
                self.told.synced.handled(key);
            }
            let Some(delta) = next else { break };
            let signal = self.deltas.sync_signal();
            self.told.hear(&delta, Some(&signal));
            self.in_hand = Some(delta.key().clone());
            taken.push(delta);
        }
        taken
    }
}

/// An informer with its handlers and the checkers of its store.
pub(super) struct Watched {
    pub(super) informer: SharedInformer<ConfigMap>,
    pub(super) called: Vec<Called>,
    pub(super) slow: Vec<Slow>,
    selector: LabelSelector,
    monotonic: Monotonic,
    /// What the first list brought.
    first: Arc<OnceLock<View>>,
}

impl Watched {
    pub(super) fn new(informer: SharedInformer<ConfigMap>, selector: &str) -> Self {
        let (first, store) = (Arc::new(OnceLock::new()), informer.store());
        let found = first.clone();
        tokio::spawn(async move {
            if store.synced().await.is_ok() {
                let _ = found.set(view(&store));
            }
        });
        Self {
            first,
            called: vec![Called::join(&informer)],
            slow: vec![Slow::join(&informer)],
            informer,
            selector: LabelSelector::parse(selector).unwrap(),
            monotonic: Monotonic::default(),
        }
    }

    /// All clauses, at a moment when nothing is on its way between store and handlers.
    pub(super) fn check(&mut self, server: &Server, names: usize) -> Verdict {
        let store = self.informer.store();
        self.monotonic.sees(&store)?;
        let is = view(&store);
        if let Ok(at) = resource_version::parse(&store.resource_version()) {
            let had = server.state().world.objects_at(at, &self.selector);
            clauses::atomic(&is, &at.to_string(), &had)?;
        }
        for called in &self.called {
            let told = &mut *called.told.lock();
            if let Some(first) = self.first.get() {
                told.synced.listed(first);
            }
            told.verdict.clone().map_or(Ok(()), Err)?;
            told.synced.says(called.registration.is_synced())?;
            complete(&told.ordered.known, &is)?;
        }
        for slow in &mut self.slow {
            if let Some(first) = self.first.get() {
                slow.told.synced.listed(first);
            }
            slow.told.verdict.clone().map_or(Ok(()), Err)?;
            slow.told.synced.says(slow.deltas.sync_signal().is_synced())?;
        }
        let handlers = self.informer.status().handlers;
        handlers
            .iter()
            .try_for_each(|handler| clauses::bounded(handler.backlog, names))
    }

    /// At the end: who takes all that is pending knows what there is.
    pub(super) fn check_end(&mut self, server: &Server, names: usize) -> Verdict {
        for slow in &mut self.slow {
            let taken = slow.take(usize::MAX);
            clauses::bounded_takings(&taken)?;
            complete(&slow.told.ordered.known, &view(&self.informer.store()))?;
        }
        self.check(server, names)
    }
}
