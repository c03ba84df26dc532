//! Figures of informers: what their caches hold, what the server told them, what their handlers still have to be told.
//!
//! They are asked for when somebody looks. A series is there as long as its informer runs; informers that differ in
//! nothing that the labels say are one series.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder};
use prometheus_client::metrics::MetricType;
use trimtab_client_cache::informer::{InformerFactory, InformerStatus};

/// What a series is of: the names of its labels with their values, in their order.
type Labels = Vec<(&'static str, String)>;

/// The figures of informers that have the same labels, added up.
#[derive(Debug, Default)]
struct Figures {
    objects: u64,
    size: u64,
    synced: Option<bool>,
    events: u64,
    bookmarks: u64,
    lists: [u64; 2],
    relists: [u64; 3],
    watches: u64,
    failures: u64,
    undecodable: u64,
    received: u64,
    /// The longest of them.
    silent: f64,
    panics: u64,
    /// By the names of handlers, how much they still have to be told and whether all of that name are synced.
    handlers: BTreeMap<String, (u64, bool)>,
}

/// The ways to list, as `informer_lists_total` tells them apart.
const LISTS: [&str; 2] = ["streamed", "paged"];
/// Why lists are read again, as `informer_relists_total` tells it.
const RELISTS: [&str; 3] = ["expired", "unknown", "failed"];

/// The figures of the informers of all clusters of a manager. All have names that begin with `informer_` and the labels `kind`,
/// `resource` (as `deployments.apps`) and `scope` (which objects, and what is kept of them). Nothing here keeps an informer
/// running.
#[derive(Debug, Default)]
pub(crate) struct Informers(Mutex<Vec<InformerFactory>>);

impl Informers {
    pub(crate) fn add(&self, factory: InformerFactory) {
        self.0.lock().push(factory);
    }
}

impl Collector for Informers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let factories = self.0.lock().clone();
        let statuses: Vec<_> = factories.iter().flat_map(InformerFactory::status).collect();
        write(encoder, &rows(&statuses))
    }
}

fn rows(statuses: &[InformerStatus]) -> BTreeMap<Labels, Figures> {
    let mut rows = BTreeMap::<Labels, Figures>::new();
    for status in statuses {
        let mut scope = status.selection.to_string();
        if status.metadata_only {
            scope.push_str("; metadata only");
        }
        let labels = vec![
            ("kind", status.kind.clone()),
            ("resource", status.resource.clone()),
            ("scope", scope),
        ];
        rows.entry(labels).or_default().add(status);
    }
    rows
}

impl Figures {
    fn add(&mut self, status: &InformerStatus) {
        self.objects += status.objects as u64;
        self.size += status.bytes as u64;
        self.synced = Some(self.synced.unwrap_or(true) && status.synced);
        self.undecodable += status.undecodable;
        self.panics += status.handler_panics;
        for reflector in &status.reflectors {
            self.events += reflector.events;
            self.bookmarks += reflector.bookmarks;
            self.watches += reflector.watches;
            self.failures += reflector.failures;
            self.received += reflector.bytes;
            self.silent = self.silent.max(reflector.silent_for.as_secs_f64());
            add(&mut self.lists, [reflector.streamed_lists, reflector.paged_lists]);
            let relists = [
                reflector.relists_expired,
                reflector.relists_unknown,
                reflector.relists_failed,
            ];
            add(&mut self.relists, relists);
        }
        for handler in &status.handlers {
            let (backlog, synced) = self.handlers.entry(handler.name.clone()).or_insert((0, true));
            *backlog += handler.backlog as u64;
            *synced &= handler.synced;
        }
    }
}

fn add<const N: usize>(to: &mut [u64; N], more: [u64; N]) {
    to.iter_mut().zip(more).for_each(|(to, more)| *to += more);
}

fn write(encoder: DescriptorEncoder<'_>, rows: &BTreeMap<Labels, Figures>) -> fmt::Result {
    let mut out = Out { encoder, rows };
    out.gauge("informer_objects", "Objects in the cache", |f| f.objects)?;
    let help = "Bytes that the objects in the cache take, without what they share";
    out.gauge("informer_size_bytes", help, |f| f.size)?;
    let help = "Whether the first list is in the cache";
    out.gauge("informer_synced", help, |f| {
        u64::from(f.synced.unwrap_or_default())
    })?;
    let help = "How long ago the server last said anything";
    out.gauge("informer_silent_seconds", help, |f| f.silent)?;
    let help = "Changes of objects that the server told of, without those of lists";
    out.counter("informer_events", help, |f| f.events)?;
    out.counter("informer_bookmarks", "Bookmarks that the server sent", |f| {
        f.bookmarks
    })?;
    let help = "Bytes of lists and watches that were received";
    out.counter("informer_received_bytes", help, |f| f.received)?;
    out.counters("informer_lists", "Lists that were read", "how", |f| {
        LISTS.into_iter().zip(f.lists).collect()
    })?;
    let help = "Lists after the first, because a watch could not be resumed";
    out.counters("informer_relists", help, "reason", |f| {
        RELISTS.into_iter().zip(f.relists).collect()
    })?;
    out.counter("informer_watches", "Watches that the server answered", |f| {
        f.watches
    })?;
    let help = "Failed lists and watches, each followed by another try";
    out.counter("informer_failures", help, |f| f.failures)?;
    let help = "Times that an object was found not to be of its type";
    out.counter("informer_undecodable", help, |f| f.undecodable)?;
    let help = "Objects that a handler still has to be told of";
    out.handlers("informer_handler_backlog", help, |(backlog, _)| backlog)?;
    let help = "Whether a handler has handled the whole initial list";
    out.handlers("informer_handler_synced", help, |(_, synced)| u64::from(synced))?;
    let help = "Changes that were lost to a panic of their handler";
    out.counter("informer_handler_panics", help, |f| f.panics)
}

/// Writes one metric after the other.
struct Out<'a, 'r> {
    encoder: DescriptorEncoder<'a>,
    rows: &'r BTreeMap<Labels, Figures>,
}

impl Out<'_, '_> {
    fn each(
        &mut self,
        (name, help, kind): (&str, &str, MetricType),
        one: impl Fn(&mut MetricEncoder<'_>, &Labels, &Figures) -> fmt::Result,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, kind)?;
        self.rows
            .iter()
            .try_for_each(|(labels, figures)| one(&mut metric, labels, figures))
    }

    fn gauge<V: EncodeGaugeValue>(&mut self, name: &str, help: &str, of: fn(&Figures) -> V) -> fmt::Result {
        self.each((name, help, MetricType::Gauge), |metric, labels, figures| {
            metric.encode_family(labels)?.encode_gauge(&of(figures))
        })
    }

    fn counter(&mut self, name: &str, help: &str, of: fn(&Figures) -> u64) -> fmt::Result {
        self.each((name, help, MetricType::Counter), |metric, labels, figures| {
            metric
                .encode_family(labels)?
                .encode_counter::<Labels, _, u64>(&of(figures), None)
        })
    }

    /// A counter with a label more.
    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        of: fn(&Figures) -> Vec<(&'static str, u64)>,
    ) -> fmt::Result {
        self.each((name, help, MetricType::Counter), |metric, labels, figures| {
            of(figures).into_iter().try_for_each(|(value, count)| {
                let labels = with(labels, label, value);
                metric
                    .encode_family(&labels)?
                    .encode_counter::<Labels, _, u64>(&count, None)
            })
        })
    }

    /// A gauge of each handler.
    fn handlers(&mut self, name: &str, help: &str, of: fn((u64, bool)) -> u64) -> fmt::Result {
        self.each((name, help, MetricType::Gauge), |metric, labels, figures| {
            figures.handlers.iter().try_for_each(|(handler, figures)| {
                let labels = with(labels, "handler", handler);
                metric.encode_family(&labels)?.encode_gauge(&of(*figures))
            })
        })
    }
}

fn with(labels: &Labels, name: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_owned()));
    labels
}
