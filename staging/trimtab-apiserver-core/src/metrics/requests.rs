//! Figures of requests. What a request counts for is looked up by its words as they are, so that counting it allocates
//! nothing; only the first of its kind makes labels.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::buckets::Buckets;

/// Who answers; kube-apiserver names itself so.
const COMPONENT: &str = "apiserver";
/// Upper bounds in seconds; kube-apiserver's.
const SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
/// Upper bounds in bytes; kube-apiserver's.
const BYTES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Upper bounds of events' sizes in bytes; kube-apiserver's.
const EVENT_BYTES: [u64; 8] = [
    1 << 10,
    1 << 11,
    1 << 12,
    1 << 13,
    1 << 14,
    1 << 15,
    1 << 16,
    1 << 17,
];

/// What requests are told apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words<'a> {
    pub(crate) verb: &'static str,
    pub(crate) dry_run: &'static str,
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) scope: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Plain {
    component: &'static str,
    group: String,
    resource: String,
    scope: &'static str,
    subresource: String,
    verb: &'static str,
    version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Latency {
    dry_run: &'static str,
    #[prometheus(flatten)]
    plain: Plain,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    code: u16,
    #[prometheus(flatten)]
    of: Latency,
}

/// The figures of all requests.
#[derive(Debug)]
pub(crate) struct Requests {
    counts: Family<Request, Counter>,
    latency: Family<Latency, Histogram, fn() -> Histogram>,
    sizes: Family<Plain, Histogram, fn() -> Histogram>,
    lasting: Family<Plain, Gauge>,
    terminated: Family<Request, Counter>,
    events: Arc<Events>,
    hashes: RandomState,
    series: RwLock<HashMap<u64, Vec<Arc<Series>>, RandomState>>,
}

/// The figures of one kind of request.
#[derive(Debug)]
struct Series {
    latency: Histogram,
    sizes: Option<Histogram>,
    codes: RwLock<Vec<(u16, Counter)>>,
    of: Latency,
}

impl Words<'_> {
    fn is(&self, of: &Latency) -> bool {
        let plain = &of.plain;
        (self.verb, self.dry_run, self.scope) == (plain.verb, of.dry_run, plain.scope)
            && (self.group, self.version) == (plain.group.as_str(), plain.version.as_str())
            && (self.resource, self.subresource) == (plain.resource.as_str(), plain.subresource.as_str())
    }

    fn hash(&self, hashes: &RandomState) -> u64 {
        let mut hash = hashes.build_hasher();
        for word in [
            self.verb,
            self.dry_run,
            self.group,
            self.version,
            self.resource,
            self.subresource,
            self.scope,
        ] {
            hash.write(word.as_bytes());
            hash.write_u8(0xff);
        }
        hash.finish()
    }

    fn latency(&self) -> Latency {
        Latency {
            dry_run: self.dry_run,
            plain: self.plain(),
        }
    }

    fn plain(&self) -> Plain {
        Plain {
            component: COMPONENT,
            group: self.group.to_owned(),
            resource: self.resource.to_owned(),
            scope: self.scope,
            subresource: self.subresource.to_owned(),
            verb: self.verb,
            version: self.version.to_owned(),
        }
    }
}

fn with_code(of: &Latency, code: u16) -> Request {
    Request { code, of: of.clone() }
}

/// Registers figures, and answers them.
fn figures<F: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, figures: F) -> F {
    registry.register(name, help, figures.clone());
    figures
}

impl Requests {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let sizes: fn() -> Histogram = || Histogram::new(BYTES);
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        // The encoder adds the suffix `_total` to counters.
        let new = Self {
            counts: figures(
                registry,
                "apiserver_request",
                "Requests by verb, resource, scope and code",
                Family::default(),
            ),
            latency: figures(
                registry,
                "apiserver_request_duration_seconds",
                "Time to answer, in seconds",
                Family::new_with_constructor(seconds),
            ),
            sizes: figures(
                registry,
                "apiserver_response_sizes",
                "Sizes of answers to gets and lists, in bytes",
                Family::new_with_constructor(sizes),
            ),
            lasting: figures(
                registry,
                "apiserver_longrunning_requests",
                "Watches that are being answered",
                Family::default(),
            ),
            terminated: figures(
                registry,
                "apiserver_request_terminations",
                "Requests that the server did not let in",
                Family::default(),
            ),
            events: Arc::default(),
            hashes: RandomState::default(),
            series: RwLock::default(),
        };
        registry.register_collector(Box::new(Sent(new.events.clone())));
        new
    }

    /// Counts an answered request. `size` is the answer's, in bytes, if that is known.
    pub(crate) fn answered(&self, words: Words<'_>, code: u16, took: Duration, size: Option<u64>) {
        let series = self.series(words);
        series.latency.observe(took.as_secs_f64());
        if let (Some(sizes), Some(size)) = (&series.sizes, size) {
            sizes.observe(size as f64);
        }
        let known = |codes: &[(u16, Counter)]| {
            let found = codes.iter().find(|(known, _)| *known == code);
            found.map(|(_, counter)| counter.inc()).is_some()
        };
        if known(&series.codes.read()) {
            return;
        }
        let mut codes = series.codes.write();
        if !known(&codes) {
            let counter = self.counts.get_or_create(&with_code(&series.of, code)).clone();
            counter.inc();
            codes.push((code, counter));
        }
    }

    /// Counts a request that was not let in.
    pub(crate) fn terminated(&self, words: Words<'_>, code: u16) {
        self.terminated
            .get_or_create(&with_code(&words.latency(), code))
            .inc();
    }

    /// Counts a watch as being answered until the result is dropped, and by it its events.
    pub(crate) fn watching(&self, words: Words<'_>) -> Watching {
        let gauge = self.lasting.get_or_create(&words.plain()).clone();
        gauge.inc();
        Watching {
            gauge,
            events: self.events.of(words),
        }
    }

    fn series(&self, words: Words<'_>) -> Arc<Series> {
        let hash = words.hash(&self.hashes);
        let find = |all: &HashMap<u64, Vec<Arc<Series>>, RandomState>| {
            let same = all.get(&hash)?.iter().find(|series| words.is(&series.of));
            same.cloned()
        };
        if let Some(series) = find(&self.series.read()) {
            return series;
        }
        let mut all = self.series.write();
        if let Some(series) = find(&all) {
            return series;
        }
        let of = words.latency();
        let reads = matches!(words.verb, "GET" | "LIST");
        let series = Arc::new(Series {
            latency: self.latency.get_or_create(&of).clone(),
            sizes: reads.then(|| self.sizes.get_or_create(&words.plain()).clone()),
            codes: RwLock::default(),
            of,
        });
        all.entry(hash).or_default().push(series.clone());
        series
    }
}

/// A watch that is being answered.
#[derive(Debug)]
pub(crate) struct Watching {
    gauge: Gauge,
    events: Arc<Buckets>,
}

impl Watching {
    /// Counts an event of so many bytes.
    pub(crate) fn event(&self, size: usize) {
        self.events.add(size as u64);
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEvents {
    group: String,
    resource: String,
    version: String,
}

/// Events that were sent to those who watch, by resource. Thousands may be sent at once by all threads, so a size is
/// counted without a lock.
#[derive(Debug, Default)]
struct Events(RwLock<HashMap<OfEvents, Arc<Buckets>>>);

impl Events {
    fn of(&self, words: Words<'_>) -> Arc<Buckets> {
        let of = OfEvents {
            group: words.group.to_owned(),
            resource: words.resource.to_owned(),
            version: words.version.to_owned(),
        };
        let mut all = self.0.write();
        let new = || Arc::new(Buckets::new(&EVENT_BYTES));
        all.entry(of).or_insert_with(new).clone()
    }
}

/// Encodes them whenever the metrics are read.
#[derive(Debug)]
struct Sent(Arc<Events>);

impl Collector for Sent {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use prometheus_client::encoding::EncodeMetric as _;
        use prometheus_client::metrics::counter::ConstCounter;
        let all = self.0.0.read();
        if all.is_empty() {
            return Ok(());
        }
        let help = "Events that were sent to those who watch";
        let mut metric =
            encoder.encode_descriptor("apiserver_watch_events", help, None, MetricType::Counter)?;
        for (of, sizes) in &*all {
            ConstCounter::new(sizes.count()).encode(metric.encode_family(of)?)?;
        }
        let help = "Sizes of the events that were sent to those who watch, in bytes";
        let mut metric =
            encoder.encode_descriptor("apiserver_watch_events_sizes", help, None, MetricType::Histogram)?;
        for (of, sizes) in &*all {
            sizes.encode(&mut metric.encode_family(of)?, 1.0)?;
        }
        Ok(())
    }
}
