//! Figures of controllers and their queues, under controller-runtime's and client-go's names.

use std::fmt;
use std::sync::Arc;

use kube::Client;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use trimtab_client_cache::informer::InformerFactory;
use trimtab_client_coordination::leader::StatusHandle;
use trimtab_client_coordination::sharding::Shards;
use trimtab_client_workqueue::{self as workqueue, WorkQueue};

use crate::error::Error;
use crate::informer_metrics::Informers;
use crate::process_metrics::Process;
use crate::reconcile::Next;
use crate::requests::Requests;
use crate::subject::RequestKey;
use crate::worker::Ended;

/// Upper bounds of the durations of turns, in seconds. controller-runtime's figures, without those between.
const SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0,
];

type Labels = Vec<(&'static str, String)>;

/// The metrics of one manager.
pub(crate) struct Metrics {
    registry: Registry,
    totals: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
    terminal: Family<Labels, Counter>,
    panics: Family<Labels, Counter>,
    timeouts: Family<Labels, Counter>,
    impatience: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram>,
    active: Family<Labels, Gauge>,
    most: Family<Labels, Gauge>,
    queues: Arc<Queues>,
    elections: Arc<Elections>,
    groups: Arc<Groups>,
    informers: Arc<Informers>,
    requests: Arc<Requests>,
    /// What parts of the manager have brought.
    others: Mutex<Vec<Registry>>,
}

/// The figures of one controller.
#[derive(Debug)]
pub(crate) struct Figures {
    totals: [Counter; 4],
    errors: Counter,
    terminal: Counter,
    panics: Counter,
    timeouts: Counter,
    impatience: Counter,
    seconds: Histogram,
    active: Gauge,
}

/// A turn that is being measured.
pub(crate) struct Timer<'a> {
    figures: &'a Figures,
    begun: Instant,
}

/// How a turn ended, as metrics tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    RequeueAfter,
    /// A conflict, or what was waited for is not there: the key comes again.
    Requeue,
    Error,
    Terminal,
    Panic,
    TimedOut,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut all = Self {
            registry: Registry::default(),
            totals: Family::default(),
            errors: Family::default(),
            terminal: Family::default(),
            panics: Family::default(),
            timeouts: Family::default(),
            impatience: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            active: Family::default(),
            most: Family::default(),
            queues: Arc::default(),
            elections: Arc::default(),
            groups: Arc::default(),
            informers: Arc::default(),
            requests: Arc::default(),
            others: Mutex::default(),
        };
        let registry = all.registry.sub_registry_with_prefix("controller_runtime");
        registry.register("reconcile", "Turns, by how they ended", all.totals.clone());
        registry.register("reconcile_errors", "Turns that failed", all.errors.clone());
        let help = "Turns that failed and are not tried again before a change";
        registry.register("terminal_reconcile_errors", help, all.terminal.clone());
        registry.register("reconcile_panics", "Turns that panicked", all.panics.clone());
        let help = "Turns that took longer than their controller's deadline";
        registry.register("reconcile_timeouts", help, all.timeouts.clone());
        let help = "Turns after which the caches did not show their writes in time";
        registry.register("own_writes_unseen", help, all.impatience.clone());
        registry.register(
            "reconcile_time_seconds",
            "How long turns took",
            all.seconds.clone(),
        );
        registry.register("active_workers", "Turns under way", all.active.clone());
        let help = "How many turns may be under way at once";
        registry.register("max_concurrent_reconciles", help, all.most.clone());
        all.registry.register_collector(Box::new(all.queues.clone()));
        all.registry.register_collector(Box::new(all.elections.clone()));
        all.registry.register_collector(Box::new(all.groups.clone()));
        all.registry.register_collector(Box::new(all.informers.clone()));
        all.registry.register_collector(Box::new(Process));
        all.requests.register(&mut all.registry);
        all
    }

    /// The figures of a controller, which begin at 0.
    pub(crate) fn controller<Q: RequestKey>(
        &self,
        name: &str,
        workers: usize,
        queue: WorkQueue<Q>,
    ) -> Figures {
        self.queues
            .0
            .lock()
            .push((name.to_owned(), Box::new(move || queue.metrics())));
        let labels = || vec![("controller", name.to_owned())];
        let workers = i64::try_from(workers).unwrap_or(i64::MAX);
        self.most.get_or_create_owned(&labels()).set(workers);
        let results = ["success", "requeue_after", "requeue", "error"].map(|result| {
            let mut labels = labels();
            labels.push(("result", result.to_owned()));
            labels
        });
        Figures {
            totals: results.map(|labels| self.totals.get_or_create_owned(&labels)),
            errors: self.errors.get_or_create_owned(&labels()),
            terminal: self.terminal.get_or_create_owned(&labels()),
            panics: self.panics.get_or_create_owned(&labels()),
            timeouts: self.timeouts.get_or_create_owned(&labels()),
            impatience: self.impatience.get_or_create_owned(&labels()),
            seconds: self.seconds.get_or_create_owned(&labels()),
            active: self.active.get_or_create_owned(&labels()),
        }
    }

    /// Does not tell of the server's warnings that begin so.
    pub(crate) fn know(&self, beginning: String) {
        self.requests.know(beginning);
    }

    /// A client whose requests are told of.
    pub(crate) fn observe(&self, client: Client) -> Client {
        self.requests.observe(client)
    }

    /// Tells of the informers of a cluster from now on.
    pub(crate) fn informs(&self, factory: InformerFactory) {
        self.informers.add(factory);
    }

    /// Tells of an election from now on.
    pub(crate) fn leads(&self, lease: String, status: StatusHandle) {
        self.elections.0.lock().push((lease, status));
    }

    /// Tells of a membership in a group that shares keys from now on.
    pub(crate) fn shares(&self, group: String, shards: Shards) {
        self.groups.0.lock().push((group, shards));
    }

    /// Tells of these figures, too, from now on.
    pub(crate) fn also(&self, figures: Registry) {
        self.others.lock().push(figures);
    }

    /// All of it, in the text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let others = self.others.lock();
        let mut all = std::iter::once(&self.registry).chain(&*others);
        let written = all.try_for_each(|registry| encode_registry(&mut text, registry));
        // To write into a string does not fail; half a text would be refused by its reader.
        match written.and_then(|()| encode_eof(&mut text)) {
            Ok(()) => text,
            Err(fmt::Error) => String::new(),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Figures {
    /// Begins to measure a turn that begun then. A turn that is cut off is not counted as ended, but is not active any more.
    pub(crate) fn begin(&self, begun: Instant) -> Timer<'_> {
        self.active.inc();
        Timer { figures: self, begun }
    }

    /// How many turns are under way.
    pub(crate) fn active(&self) -> usize {
        usize::try_from(self.active.get()).unwrap_or_default()
    }

    /// Counts a turn whose writes were not seen in time.
    pub(crate) fn impatient(&self) {
        self.impatience.inc();
    }
}

impl Timer<'_> {
    pub(crate) fn end(self, outcome: Outcome) {
        let figures = self.figures;
        figures.seconds.observe(self.begun.elapsed().as_secs_f64());
        let [success, requeue_after, requeue, error] = &figures.totals;
        match outcome {
            Outcome::Success => success.inc(),
            Outcome::RequeueAfter => requeue_after.inc(),
            Outcome::Requeue => requeue.inc(),
            Outcome::Error | Outcome::Terminal | Outcome::Panic | Outcome::TimedOut => {
                if outcome == Outcome::Terminal {
                    figures.terminal.inc();
                }
                if outcome == Outcome::Panic {
                    figures.panics.inc();
                }
                if outcome == Outcome::TimedOut {
                    figures.timeouts.inc();
                }
                figures.errors.inc();
                error.inc()
            }
        };
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.figures.active.dec();
    }
}

impl Outcome {
    pub(crate) fn of(result: &Result<Next, Ended>) -> Self {
        match result {
            Ok(Next::Done) => Self::Success,
            Ok(Next::After(_)) => Self::RequeueAfter,
            Ok(Next::Again) => Self::Requeue,
            Err(Ended::Panicked(_)) => Self::Panic,
            Err(Ended::Failed(error)) if error.is_conflict() => Self::Requeue,
            Err(Ended::Failed(error)) if error.is_terminal() => Self::Terminal,
            Err(Ended::Failed(Error::TimedOut(_))) => Self::TimedOut,
            Err(Ended::Failed(_)) => Self::Error,
        }
    }
}

/// The elections in which the manager is a candidate.
#[derive(Debug, Default)]
struct Elections(Mutex<Vec<(String, StatusHandle)>>);

impl Collector for Elections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (lease, status) in &*self.0.lock() {
            let status = status.snapshot();
            let labels: Labels = vec![("name", lease.clone())];
            let help = "Whether this process leads";
            let name = "leader_election_master_status";
            encoder
                .encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_family(&labels)?
                .encode_gauge(&i64::from(status.is_leader))?;
            let help = "Renewals that needed more than one request";
            encoder
                .encode_descriptor("leader_election_slowpath", help, None, MetricType::Counter)?
                .encode_family(&labels)?
                .encode_counter::<Labels, _, u64>(&status.slow_renewals, None)?;
        }
        Ok(())
    }
}

/// The groups of which the manager is a member.
#[derive(Debug, Default)]
struct Groups(Mutex<Vec<(String, Shards)>>);

impl Collector for Groups {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (group, shards) in &*self.0.lock() {
            let status = shards.status();
            let labels: Labels = vec![("name", group.clone())];
            let figures = [
                (
                    "sharding_members",
                    "Replicas that share the keys, as this one sees them",
                    status.members.len(),
                ),
                (
                    "sharding_partitions",
                    "Partitions of the keys that this replica works on",
                    status.owned.len(),
                ),
            ];
            for (name, help, count) in figures {
                encoder
                    .encode_descriptor(name, help, None, MetricType::Gauge)?
                    .encode_family(&labels)?
                    .encode_gauge(&i64::try_from(count).unwrap_or(i64::MAX))?;
            }
        }
        Ok(())
    }
}

/// The queues, by the names of their controllers; asked for their figures when somebody looks.
#[derive(Default)]
struct Queues(Mutex<Vec<(String, QueueFigures)>>);

/// The figures of a queue of any keys.
type QueueFigures = Box<dyn Fn() -> workqueue::Metrics + Send + Sync>;

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").finish_non_exhaustive()
    }
}

/// The figures of one queue with its labels.
type Row = (Labels, workqueue::Metrics);

impl Collector for Queues {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let queues = self.0.lock();
        let labels = |name: &String| vec![("name", name.clone()), ("controller", name.clone())];
        let rows: Vec<Row> = queues
            .iter()
            .map(|(name, queue)| (labels(name), queue()))
            .collect();
        drop(queues);

        by_priority(&mut encoder, "workqueue_depth", "Ready keys", &rows, |f| {
            let depth = |depth: &usize| i64::try_from(*depth).unwrap_or(i64::MAX);
            f.depth.iter().map(|(p, keys)| (*p, depth(keys))).collect()
        })?;
        let help = "How long the key that is next has been ready";
        let name = "workqueue_longest_waiting_seconds";
        by_priority(&mut encoder, name, help, &rows, |f| {
            let waiting = f.longest_waiting.iter();
            waiting.map(|(p, waited)| (*p, waited.as_secs_f64())).collect()
        })?;
        let help = "Times a key became ready";
        counter(&mut encoder, "workqueue_adds", help, &rows, |figures| {
            figures.adds
        })?;
        let help = "Adds with a delay";
        counter(&mut encoder, "workqueue_retries", help, &rows, |figures| {
            figures.retries
        })?;
        let help = "How long keys waited when they were ready";
        histogram(
            &mut encoder,
            "workqueue_queue_duration_seconds",
            help,
            &rows,
            |f| &f.queue_duration,
        )?;
        let help = "How long keys were in hand, the wait for their own writes included";
        histogram(
            &mut encoder,
            "workqueue_work_duration_seconds",
            help,
            &rows,
            |f| &f.work_duration,
        )?;
        let help = "How long the keys in hand have been in hand, together";
        gauge(
            &mut encoder,
            "workqueue_unfinished_work_seconds",
            help,
            &rows,
            |f| f.unfinished.as_secs_f64(),
        )?;
        let help = "How long the key that has been in hand longest has been";
        let name = "workqueue_longest_running_processor_seconds";
        gauge(&mut encoder, name, help, &rows, |f| {
            f.longest_running.as_secs_f64()
        })
    }
}

fn each(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, kind): (&str, &str, MetricType),
    rows: &[Row],
    one: impl Fn(&mut MetricEncoder<'_>, &workqueue::Metrics) -> fmt::Result,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, figures) in rows {
        one(&mut metric.encode_family(labels)?, figures)?;
    }
    Ok(())
}

fn by_priority<V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: &[Row],
    of: fn(&workqueue::Metrics) -> Vec<(i32, V)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, figures) in rows {
        for (priority, value) in of(figures) {
            let mut labels = labels.clone();
            labels.push(("priority", priority.to_string()));
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
    }
    Ok(())
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: &[Row],
    of: fn(&workqueue::Metrics) -> u64,
) -> fmt::Result {
    each(
        encoder,
        (name, help, MetricType::Counter),
        rows,
        |metric, figures| metric.encode_counter::<Labels, _, u64>(&of(figures), None),
    )
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: &[Row],
    of: fn(&workqueue::Metrics) -> f64,
) -> fmt::Result {
    each(
        encoder,
        (name, help, MetricType::Gauge),
        rows,
        |metric, figures| metric.encode_gauge(&of(figures)),
    )
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: &[Row],
    of: fn(&workqueue::Metrics) -> &workqueue::Histogram,
) -> fmt::Result {
    each(
        encoder,
        (name, help, MetricType::Histogram),
        rows,
        |metric, figures| {
            let figures = of(figures);
            let bounds = workqueue::Histogram::BOUNDS.into_iter().zip(figures.counts);
            let inside: u64 = figures.counts.iter().sum();
            let beyond = (f64::MAX, figures.count.saturating_sub(inside));
            let buckets: Vec<_> = bounds.chain([beyond]).collect();
            metric.encode_histogram::<Labels>(figures.sum.as_secs_f64(), figures.count, &buckets, None)
        },
    )
}
