//! The manager: starts informers, waits for them, starts controllers, and stops all of it against that order.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use kube::Client;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::informer::{InformerFactory, Selection};
use trimtab_client_cache::reflector;
use trimtab_client_coordination::events::EventWriter;
use trimtab_client_workqueue::WorkQueue;

use crate::builder::ControllerBuilder;
use crate::controller::{Begin, Begun, Context};
use crate::error::{Error, Result};
use crate::metrics::{Figures, Metrics};
use crate::reconcile::{Reconcile, Reconciled};
use crate::source::Watches;

/// How long turns that are under way at the stop may take; controller-runtime's figure.
const GRACE: Duration = Duration::from_secs(30);
/// How often it is said which caches are not filled yet.
const PROGRESS: Duration = Duration::from_secs(10);
/// How long the last events may take to be written.
const EVENTS: Duration = Duration::from_secs(5);
/// The server takes no longer names of field managers.
const NAME_BYTES: usize = 128;

/// Runs controllers together: they share a client, caches, an event recorder and one life.
pub struct Manager {
    client: Client,
    name: String,
    selection: Selection,
    watching: reflector::Config,
    grace: Duration,
    sync_within: Option<Duration>,
    controllers: Mutex<Vec<Waiting>>,
    names: Mutex<HashSet<String>>,
    metrics: Metrics,
    run: AtomicBool,
    ready: AtomicBool,
}

/// A controller that waits for the manager to run.
struct Waiting {
    controller: Box<dyn Begin>,
    figures: Arc<Figures>,
}

impl Manager {
    /// A manager without controllers. Its name is that of the program until [`Manager::name`] says otherwise.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            name: program(),
            selection: Selection::all(),
            watching: reflector::Config::default(),
            grace: GRACE,
            sync_within: None,
            controllers: Mutex::default(),
            names: Mutex::default(),
            metrics: Metrics::new(),
            run: AtomicBool::new(false),
            ready: AtomicBool::new(false),
        }
    }

    /// The name of the field manager and of the reporter of events. It decides which fields this program owns: another
    /// name is another owner. At most 128 bytes.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }

    /// Watches one namespace instead of all; kinds without namespaces are watched as a whole.
    #[must_use]
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        Self {
            selection: Selection::in_namespace(namespace),
            ..self
        }
    }

    /// How informers list and watch.
    #[must_use]
    pub fn watching(self, watching: reflector::Config) -> Self {
        Self { watching, ..self }
    }

    /// How long turns that are under way at the stop may take before they are cut off. The default is 30 seconds.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Fails [`Manager::run`] if the caches are not filled within this time. By default a controller waits for ever, as for a
    /// kind that is yet to be installed; meanwhile the manager is not ready and says what it waits for.
    #[must_use]
    pub fn sync_within(self, deadline: Duration) -> Self {
        Self {
            sync_within: Some(deadline),
            ..self
        }
    }

    /// Describes a controller that reconciles `K`s.
    pub fn controller<K: Reconciled, R: Reconcile<K>>(&self, reconciler: R) -> ControllerBuilder<'_, K, R> {
        ControllerBuilder::new(self, reconciler)
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the caches of all controllers are filled and the manager is not stopping.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// The figures of all controllers and queues, in the OpenMetrics text format.
    pub fn metrics_text(&self) -> String {
        self.metrics.text()
    }

    /// Starts the informers, then each controller as soon as its caches are filled, and runs until `stop`. Then no turn
    /// is begun any more, those under way may end, the last events are written, and the informers stop.
    ///
    /// Dropping the future stops everything at once.
    ///
    /// # Errors
    /// [`Error::AlreadyRun`]; [`Error::Invalid`] for a name that the server would not take; [`Error::NotSynced`]; [`Error::CutOff`]
    /// if turns had to be cut off.
    pub async fn run(&self, stop: CancellationToken) -> Result<()> {
        if self.name.is_empty() || self.name.len() > NAME_BYTES {
            return Err(Error::Invalid(format!(
                "the manager's name must have 1 to {NAME_BYTES} bytes: {:?}",
                self.name
            )));
        }
        if self.run.swap(true, Ordering::AcqRel) {
            return Err(Error::AlreadyRun);
        }
        let halt = CancellationToken::new();
        let _halt_if_dropped = halt.clone().drop_guard();
        let _not_ready_if_dropped = NotReady(&self.ready);
        let (recorder, writer) = EventWriter::start(self.client.clone(), &self.name, instance(&self.name));
        let context = Context {
            client: self.client.clone(),
            manager: self.name.clone(),
            selection: self.selection.clone(),
            factory: InformerFactory::with_config(self.client.clone(), self.watching.clone()),
            recorder,
            stop: halt.clone(),
            grace: self.grace,
        };
        let waiting = std::mem::take(&mut *self.controllers.lock());
        let mut tasks = JoinSet::new();
        let mut watches = Vec::new();
        for Waiting { controller, figures } in waiting {
            let Begun {
                name,
                watches: of_controller,
                run,
            } = controller.begin(&context, figures);
            watches.push((name, of_controller));
            tasks.spawn(run);
        }

        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            Some(ended) = tasks.join_next() => Err(Error::other(match ended {
                Ok(_) => "a controller ended by itself".to_owned(),
                Err(error) => format!("a controller's task failed: {error}"),
            })),
            error = self.watch_over(&watches) => Err(error),
        };
        self.ready.store(false, Ordering::Release);
        halt.cancel();
        let mut cut_off = 0;
        while let Some(ended) = tasks.join_next().await {
            cut_off += ended.unwrap_or_default();
        }
        drop((watches, context));
        if !writer.shut_down(EVENTS).await {
            tracing::warn!("the last events were not written in time");
        }
        match ended {
            Ok(()) if cut_off > 0 => Err(Error::CutOff(cut_off)),
            ended => ended,
        }
    }

    /// Says what is not filled yet and when all is; returns only when a deadline has passed.
    async fn watch_over(&self, watches: &[(String, Watches)]) -> Error {
        let all = join_all(
            watches
                .iter()
                .flat_map(|(_, watches)| watches.iter())
                .map(|watch| watch.synced()),
        );
        let progress = async {
            let mut tick = interval_at(Instant::now() + PROGRESS, PROGRESS);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                tracing::warn!(missing = missing(watches), "waiting for caches");
            }
        };
        let deadline = async {
            match self.sync_within {
                Some(deadline) => sleep(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = all => {}
            () = progress => {}
            () = deadline => return Error::NotSynced(missing(watches)),
        }
        self.ready.store(true, Ordering::Release);
        tracing::info!(controllers = watches.len(), "manager ready");
        std::future::pending().await
    }

    /// Takes a controller that its builder has described.
    pub(crate) fn add(
        &self,
        name: String,
        queue: WorkQueue<ObjectKey>,
        controller: Box<dyn Begin>,
    ) -> Result<()> {
        let mut controllers = self.controllers.lock();
        if self.run.load(Ordering::Acquire) {
            return Err(Error::AlreadyRun);
        }
        if !self.names.lock().insert(name.clone()) {
            return Err(Error::NameTaken(name));
        }
        let figures = Arc::new(self.metrics.controller(&name, queue));
        controllers.push(Waiting { controller, figures });
        Ok(())
    }
}

/// Which caches are not filled, and what each struggles with.
fn missing(watches: &[(String, Watches)]) -> String {
    let mut missing = Vec::new();
    for (name, watches) in watches {
        for watch in watches.iter().filter(|watch| !watch.is_synced()) {
            let trouble = watch.trouble().unwrap_or_else(|| "no answer yet".to_owned());
            missing.push(format!("{} of controller {name} ({trouble})", watch.kind()));
        }
    }
    missing.join(", ")
}

/// The name of the program, as other clients of Kubernetes use it.
fn program() -> String {
    let path = std::env::args().next().unwrap_or_default();
    let stem = std::path::Path::new(&path)
        .file_stem()
        .and_then(|stem| stem.to_str());
    stem.filter(|stem| !stem.is_empty())
        .unwrap_or("trimtab")
        .to_owned()
}

/// Tells replicas apart in events.
fn instance(name: &str) -> String {
    let host = std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
    host.map_or_else(|| name.to_owned(), |host| format!("{name}-{host}"))
}

/// Ends readiness also when the run is dropped.
struct NotReady<'a>(&'a AtomicBool);

impl Drop for NotReady<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager")
            .field("name", &self.name)
            .field("ready", &self.is_ready())
            .finish_non_exhaustive()
    }
}
