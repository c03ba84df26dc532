//! What priority and fairness tells of itself, under kube-apiserver's names. A flow schema's figures are looked up when
//! the table is made, so a request only counts.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::level::Reason;

/// Upper bounds in seconds; kube-apiserver's.
const BUCKETS: [f64; 13] = [
    0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0,
];

/// What the names of all begin with.
const PREFIX: &str = "apiserver_flowcontrol";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    flow_schema: String,
    priority_level: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    flow_schema: String,
    priority_level: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waited {
    execute: &'static str,
    flow_schema: String,
    priority_level: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Executed {
    flow_schema: String,
    priority_level: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLevel {
    priority_level: String,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All figures of priority and fairness.
#[derive(Debug)]
pub(crate) struct FlowMetrics {
    dispatched: Family<Of, Counter>,
    executing: Family<Of, Gauge>,
    executing_seats: Family<Of, Gauge>,
    queued: Family<Of, Gauge>,
    queued_seats: Family<Of, Gauge>,
    rejected: Family<Rejected, Counter>,
    waited: Histograms<Waited>,
    executed: Histograms<Executed>,
    nominal: Family<OfLevel, Gauge>,
    lower: Family<OfLevel, Gauge>,
    upper: Family<OfLevel, Gauge>,
    current: Family<OfLevel, Gauge>,
    demand_high: Family<OfLevel, Gauge>,
}

/// The figures of one flow schema's requests at its priority level.
#[derive(Debug)]
pub(crate) struct SchemaFigures {
    pub(crate) name: String,
    level: String,
    dispatched: Counter,
    executing: Gauge,
    executing_seats: Gauge,
    queued: Gauge,
    queued_seats: Gauge,
    rejected: Family<Rejected, Counter>,
    waited: [Histogram; 2],
    executed: [Histogram; 2],
}

/// The figures of one priority level's seats.
#[derive(Debug)]
pub(crate) struct LevelFigures {
    pub(crate) exempt: bool,
    nominal: Gauge,
    lower: Gauge,
    upper: Gauge,
    current: Gauge,
    demand_high: Gauge,
}

fn histograms<L: Clone + std::hash::Hash + Eq>() -> Histograms<L> {
    Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram)
}

impl Default for FlowMetrics {
    fn default() -> Self {
        Self {
            dispatched: Family::default(),
            executing: Family::default(),
            executing_seats: Family::default(),
            queued: Family::default(),
            queued_seats: Family::default(),
            rejected: Family::default(),
            waited: histograms(),
            executed: histograms(),
            nominal: Family::default(),
            lower: Family::default(),
            upper: Family::default(),
            current: Family::default(),
            demand_high: Family::default(),
        }
    }
}

impl FlowMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix(PREFIX);
        // The encoder adds the suffix `_total` to counters.
        registry.register(
            "dispatched_requests",
            "Requests that were let in",
            self.dispatched.clone(),
        );
        registry.register(
            "rejected_requests",
            "Requests that were refused for want of seats",
            self.rejected.clone(),
        );
        for (name, help, family) in [
            (
                "current_executing_requests",
                "Requests that are being answered; watches until they have begun",
                &self.executing,
            ),
            (
                "current_executing_seats",
                "Seats held by requests that are being answered",
                &self.executing_seats,
            ),
            (
                "current_inqueue_requests",
                "Requests that wait for seats",
                &self.queued,
            ),
            (
                "current_inqueue_seats",
                "Seats that are waited for",
                &self.queued_seats,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "request_wait_duration_seconds",
            "Time that requests waited for seats, in seconds",
            self.waited.clone(),
        );
        registry.register(
            "request_execution_seconds",
            "Time that requests held seats, in seconds",
            self.executed.clone(),
        );
        for (name, help, family) in [
            (
                "nominal_limit_seats",
                "Seats by the level's shares",
                &self.nominal,
            ),
            (
                "lower_limit_seats",
                "Seats that the level does not lend",
                &self.lower,
            ),
            (
                "upper_limit_seats",
                "Seats with all that may be borrowed",
                &self.upper,
            ),
            (
                "current_limit_seats",
                "Seats that the level has now",
                &self.current,
            ),
            (
                "demand_seats_high_watermark",
                "The most seats that were wanted at once in the last period",
                &self.demand_high,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
    }

    pub(crate) fn schema(&self, name: &str, level: &str) -> Arc<SchemaFigures> {
        let of = Of {
            flow_schema: name.to_owned(),
            priority_level: level.to_owned(),
        };
        let waited = |execute| {
            let of = Waited {
                execute,
                flow_schema: name.to_owned(),
                priority_level: level.to_owned(),
            };
            self.waited.get_or_create(&of).clone()
        };
        let executed = |kind| {
            let of = Executed {
                flow_schema: name.to_owned(),
                priority_level: level.to_owned(),
                r#type: kind,
            };
            self.executed.get_or_create(&of).clone()
        };
        Arc::new(SchemaFigures {
            name: name.to_owned(),
            level: level.to_owned(),
            dispatched: self.dispatched.get_or_create(&of).clone(),
            executing: self.executing.get_or_create(&of).clone(),
            executing_seats: self.executing_seats.get_or_create(&of).clone(),
            queued: self.queued.get_or_create(&of).clone(),
            queued_seats: self.queued_seats.get_or_create(&of).clone(),
            rejected: self.rejected.clone(),
            waited: [waited("false"), waited("true")],
            executed: [executed("regular"), executed("watch")],
        })
    }

    pub(crate) fn level(&self, name: &str, exempt: bool) -> LevelFigures {
        let of = OfLevel {
            priority_level: name.to_owned(),
        };
        LevelFigures {
            exempt,
            nominal: self.nominal.get_or_create(&of).clone(),
            lower: self.lower.get_or_create(&of).clone(),
            upper: self.upper.get_or_create(&of).clone(),
            current: self.current.get_or_create(&of).clone(),
            demand_high: self.demand_high.get_or_create(&of).clone(),
        }
    }

    /// Forgets a level that is no more.
    pub(crate) fn forget_level(&self, name: &str) {
        let of = OfLevel {
            priority_level: name.to_owned(),
        };
        for family in [
            &self.nominal,
            &self.lower,
            &self.upper,
            &self.current,
            &self.demand_high,
        ] {
            family.remove(&of);
        }
    }
}

impl LevelFigures {
    pub(crate) fn bounds(&self, nominal: u32, lower: u32, upper: u32) {
        self.nominal.set(nominal.into());
        self.lower.set(lower.into());
        self.upper.set(upper.into());
    }

    pub(crate) fn current(&self, seats: u32, high: u32) {
        self.current.set(seats.into());
        self.demand_high.set(high.into());
    }
}

impl SchemaFigures {
    pub(super) fn queued(&self, seats: u32) {
        self.queued.inc();
        self.queued_seats.inc_by(seats.into());
    }

    pub(super) fn unqueued(&self, seats: u32) {
        self.queued.dec();
        self.queued_seats.dec_by(seats.into());
    }

    pub(super) fn waited(&self, time: Duration, execute: bool) {
        self.waited[usize::from(execute)].observe(time.as_secs_f64());
    }

    pub(super) fn rejected(&self, reason: Reason) {
        let of = Rejected {
            flow_schema: self.name.clone(),
            priority_level: self.level.clone(),
            reason: reason.as_str(),
        };
        self.rejected.get_or_create(&of).inc();
    }

    pub(super) fn started(&self, seats: u32) {
        self.dispatched.inc();
        self.executing.inc();
        self.executing_seats.inc_by(seats.into());
    }

    pub(super) fn finished(&self, seats: u32, took: Duration, watch: bool) {
        self.executing.dec();
        self.executing_seats.dec_by(seats.into());
        self.executed[usize::from(watch)].observe(took.as_secs_f64());
    }
}
