//! The manager's life: what starts after what, and what stops before what.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all, pending};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use trimtab_client_coordination::events::EventWriter;
use trimtab_client_coordination::leader::Elector;
use trimtab_client_coordination::sharding::{Member, PARTITIONS, Partitions, Shards};

use super::endpoints::Ready;
use super::lead::Leading;
use super::part::Stage;
use super::{Lead, Manager, Part, Parts, Waiting};
use crate::cluster::Cluster;
use crate::controller::{Context, Operate};
use crate::error::{Error, Result};
use crate::introspection::{Fact, Level};
use crate::source::Running;

/// How often it is said which caches are not filled yet.
const PROGRESS: Duration = Duration::from_secs(10);
/// How long the last events may take to be written.
const EVENTS: Duration = Duration::from_secs(5);
/// How much longer than its lease lasts a leader or a member may not have renewed it. client-go's users' figure.
const LEASE_TOLERANCE: Duration = Duration::from_secs(20);
/// The server takes no longer names of field managers.
const NAME_BYTES: usize = 128;

/// Tasks of one stage: each says who it is and how it ended, and how many turns it cut off.
struct Tasks {
    running: JoinSet<(String, Result<usize>)>,
    stop: CancellationToken,
}

pub(super) async fn run(manager: &Manager, stop: CancellationToken) -> Result<()> {
    if manager.name.is_empty() || manager.name.len() > NAME_BYTES {
        return Err(Error::Invalid(format!(
            "the manager's name must have 1 to {NAME_BYTES} bytes: {:?}",
            manager.name
        )));
    }
    if manager.run.swap(true, Ordering::AcqRel) {
        return Err(Error::AlreadyRun);
    }
    let _not_ready_if_dropped = NotReady(&manager.ready);
    let elector = match manager.election.clone() {
        Some(mut election) => {
            election.grace = manager.grace;
            let lease = election.name.clone();
            let elector = Elector::new(manager.client().clone(), election).map_err(Error::other)?;
            watch_leadership(manager, lease, &elector)?;
            Some(elector)
        }
        None => None,
    };
    let member = match manager.membership.clone() {
        Some(mut membership) => {
            membership.grace = manager.grace;
            let group = membership.group.clone();
            let member = Member::new(manager.client().clone(), membership).map_err(Error::other)?;
            watch_membership(manager, group, member.shards())?;
            Some(member)
        }
        None => None,
    };
    let endpoints = manager.endpoints.lock().take();
    let endpoints = match endpoints {
        Some(endpoints) => Some(endpoints.open(manager).await?),
        None => None,
    };
    let Parts {
        controllers,
        parts,
        clusters,
        ..
    } = std::mem::take(&mut *manager.waiting.lock());
    let mut parts = Staged::new(parts);

    let mut servers = Tasks::new();
    let shown = endpoints.as_ref().is_some_and(|endpoints| endpoints.shows_page);
    if let Some(endpoints) = endpoints {
        servers.spawn("endpoints".to_owned(), |stop| endpoints.serve(stop).boxed());
    }
    servers.run_parts(parts.take(Stage::Server));

    let (recorder, writer) =
        EventWriter::start(manager.client().clone(), &manager.name, instance(&manager.name));
    let context = Context {
        manager: manager.name.clone(),
        cluster: Cluster::new("", manager.informers.clone(), manager.selection.clone()),
        recorder,
        shards: member.as_ref().map(Member::shards),
        introspection: shown.then(|| manager.introspection.clone()),
        grace: manager.grace,
    };
    let all: Vec<Cluster> = clusters.into_iter().chain([context.cluster.clone()]).collect();
    show_informers(manager, &all);
    let begin = |Waiting { controller, figures }| controller.begin(&context, figures);
    let controllers: Vec<Arc<dyn Operate>> = controllers.into_iter().map(begin).collect();
    let _closed_if_dropped = Closed(&controllers);

    let mut membership = Tasks::new();
    if let Some(member) = member {
        membership.spawn("sharding".to_owned(), |stop| {
            member.run(stop).map(|()| Ok(0)).boxed()
        });
    }
    let mut beside = Tasks::new();
    beside.run_parts(parts.take(Stage::Beside));
    let (led, unled): (Vec<_>, Vec<_>) = controllers
        .iter()
        .cloned()
        .partition(|controller| controller.settings().led);
    for controller in unled {
        let name = controller.settings().name.clone();
        beside.spawn(name, move |stop| {
            async move { Ok(controller.work(Lead::alone(stop)).await) }.boxed()
        });
    }
    let mut leading = Tasks::new();
    let lead = Leading {
        controllers: led,
        parts: Mutex::new(parts.take(Stage::Leading)),
    };
    leading.spawn("leader".to_owned(), move |stop| match elector {
        Some(elector) => lead.elected(elector, stop).boxed(),
        None => lead.alone(stop).boxed(),
    });

    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        error = servers.broken() => Err(error),
        error = leading.broken() => Err(error),
        error = beside.broken() => Err(error),
        error = membership.broken() => Err(error),
        error = watch_over(manager, &controllers) => Err(error),
    };
    manager.ready.set(false);
    // It leaves at once, and waits for what is in hand.
    membership.stop.cancel();
    let mut stopped = leading.end(manager.grace).await;
    stopped.extend(beside.end(manager.grace).await);
    stopped.extend(membership.end(manager.grace).await);
    controllers.iter().for_each(|controller| controller.close());
    if !writer.shut_down(EVENTS).await {
        tracing::warn!("the last events were not written in time");
    }
    stopped.extend(servers.end(manager.grace).await);

    let mut cut_off = 0;
    let mut outcome = ended;
    for ended in stopped {
        match ended {
            Ok(turns) => cut_off += turns,
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    match outcome {
        Ok(()) if cut_off > 0 => Err(Error::CutOff(cut_off)),
        outcome => outcome,
    }
}

/// Tells of the election in health and metrics.
fn watch_leadership(manager: &Manager, lease: String, elector: &Elector) -> Result<()> {
    let status = elector.status();
    manager.metrics.leads(lease, status.clone());
    let shown = status.clone();
    manager.introspection.facts("Leadership", move || {
        let status = shown.snapshot();
        let mut facts = vec![
            Fact::new("leads", if status.is_leader { "yes" } else { "no" }),
            Fact::new("holder", status.holder.unwrap_or_else(|| "nobody".to_owned())),
            Fact::new("transitions", status.transitions.to_string()),
        ];
        facts.extend(
            status
                .trouble
                .map(|trouble| Fact::new("trouble", trouble).level(Level::Bad)),
        );
        facts
    });
    let check = move || {
        let health = status.health(LEASE_TOLERANCE);
        async move { health.map_err(|error| error.to_string()) }
    };
    manager
        .health
        .live("leader-election", check)
        .map_err(Error::other)
}

/// Tells of the membership in health, metrics and on the page.
fn watch_membership(manager: &Manager, group: String, shards: Shards) -> Result<()> {
    manager.metrics.shares(group, shards.clone());
    let shown = shards.clone();
    manager.introspection.facts("Sharding", move || {
        let status = shown.status();
        let mut facts = vec![
            Fact::new("member", if status.is_member { "yes" } else { "no" }),
            Fact::new("members", status.members.join(", ")),
            Fact::new("works on", of_all(status.owned)),
        ];
        for (name, partitions) in [("waits for", status.claimed), ("lets go", status.yielding)] {
            if !partitions.is_empty() {
                facts.push(Fact::new(name, of_all(partitions)));
            }
        }
        let trouble = status.trouble;
        facts.extend(trouble.map(|trouble| Fact::new("trouble", trouble).level(Level::Bad)));
        facts
    });
    let check = move || {
        let health = shards.health(LEASE_TOLERANCE);
        async move { health.map_err(|error| error.to_string()) }
    };
    manager.health.live("sharding", check).map_err(Error::other)
}

fn of_all(partitions: Partitions) -> String {
    format!("{} of {PARTITIONS} partitions", partitions.len())
}

/// Tells of the informers in metrics and on the page.
fn show_informers(manager: &Manager, clusters: &[Cluster]) {
    for cluster in clusters {
        manager.metrics.informs(cluster.informers().clone());
        let informers = cluster.informers().clone();
        manager.introspection.informers(move || informers.status());
    }
}

/// Says what is not filled yet and when all is; returns only when a deadline has passed.
async fn watch_over(manager: &Manager, controllers: &[Arc<dyn Operate>]) -> Error {
    let sources: Vec<(&str, Arc<dyn Running>)> = controllers
        .iter()
        .flat_map(|controller| {
            let name = controller.settings().name.as_str();
            controller.sources().into_iter().map(move |source| (name, source))
        })
        .collect();
    let all = join_all(sources.iter().map(|(_, source)| source.synced()));
    let progress = async {
        let mut tick = interval_at(Instant::now() + PROGRESS, PROGRESS);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            tracing::warn!(missing = missing(&sources), "waiting for caches");
        }
    };
    let deadline = async {
        match manager.sync_within {
            Some(deadline) => sleep(deadline).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        _ = all => {}
        () = progress => {}
        () = deadline => return Error::NotSynced(missing(&sources)),
    }
    manager.ready.set(true);
    tracing::info!(controllers = controllers.len(), "manager ready");
    pending().await
}

/// Which caches are not filled, and what each struggles with.
fn missing(sources: &[(&str, Arc<dyn Running>)]) -> String {
    let missing = sources.iter().filter(|(_, source)| !source.is_synced());
    let each = missing.map(|(name, source)| {
        let trouble = source.trouble().unwrap_or_else(|| "no answer yet".to_owned());
        format!("{} of controller {name} ({trouble})", source.what())
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Tells replicas apart in events.
fn instance(name: &str) -> String {
    let host = std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
    host.map_or_else(|| name.to_owned(), |host| format!("{name}-{host}"))
}

impl Tasks {
    fn new() -> Self {
        Self {
            running: JoinSet::new(),
            stop: CancellationToken::new(),
        }
    }

    fn run_parts(&mut self, parts: Vec<Part>) {
        for Part { name, mut run, .. } in parts {
            self.spawn(name, move |stop| {
                let running = run(Lead::alone(stop));
                async move { running.await.map(|()| 0) }.boxed()
            });
        }
    }

    fn spawn(
        &mut self,
        name: String,
        run: impl FnOnce(CancellationToken) -> BoxFuture<'static, Result<usize>>,
    ) {
        let running = run(self.stop.clone());
        self.running.spawn(async move { (name, running.await) });
    }

    /// Waits for something to end that should not.
    async fn broken(&mut self) -> Error {
        match self.running.join_next().await {
            None => pending().await,
            Some(Ok((_, Err(error @ Error::Part { .. })))) => error,
            Some(Ok((name, Err(error)))) => Error::part(name, &error),
            Some(Ok((name, Ok(_)))) => Error::ended(name),
            Some(Err(panicked)) => Error::other(format!("a part of the manager failed: {panicked}")),
        }
    }

    /// Stops all of it and waits. Controllers keep to the grace themselves; what takes longer than that is cut off.
    async fn end(mut self, grace: Duration) -> Vec<Result<usize>> {
        const MARGIN: Duration = Duration::from_secs(1);
        self.stop.cancel();
        let deadline = Instant::now() + grace + MARGIN;
        let mut ended = Vec::new();
        loop {
            match timeout_at(deadline, self.running.join_next()).await {
                Ok(Some(Ok((name, result)))) => ended.push(result.map_err(|error| match error {
                    error @ Error::Part { .. } => error,
                    error => Error::part(name, &error),
                })),
                Ok(Some(Err(panicked))) => ended.push(Err(Error::other(format!(
                    "a part of the manager failed: {panicked}"
                )))),
                Ok(None) => return ended,
                Err(_) => {
                    let left = self.running.len();
                    tracing::warn!(
                        left,
                        ?grace,
                        "parts of the manager did not stop in time and are cut off"
                    );
                    self.running.shutdown().await;
                    return ended;
                }
            }
        }
    }
}

/// Parts by their stages.
struct Staged(Vec<Part>);

impl Staged {
    fn new(parts: Vec<Part>) -> Self {
        Self(parts)
    }

    fn take(&mut self, stage: Stage) -> Vec<Part> {
        let (taken, left) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|part| part.stage == stage);
        self.0 = left;
        taken
    }
}

/// Ends readiness also when the run is dropped.
struct NotReady<'a>(&'a Ready);

impl Drop for NotReady<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Ends the controllers also when the run is dropped.
struct Closed<'a>(&'a [Arc<dyn Operate>]);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|controller| controller.close());
    }
}
