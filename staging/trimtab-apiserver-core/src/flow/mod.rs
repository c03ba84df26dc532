//! API priority and fairness: which requests are let in when not all can be, and which wait.
//!
//! A request's flow schema says at which priority level it is served; each level has some of the server's seats, and
//! queues in which flows wait that want more than there are. Objects of `flowcontrol.apiserver.k8s.io` say all that;
//! `table` makes of them what requests meet, `follow` keeps that up to date. Where nobody waits a request costs one pass
//! over a handful of strings and one short lock.
//!
//! Without it there are plain limits: so many requests that read, so many that write.

pub(crate) mod bootstrap;
mod classify;
mod deal;
mod demand;
mod dropped;
pub(crate) mod dump;
pub(crate) mod follow;
mod level;
mod metrics;
mod queues;
mod seats;
mod table;
#[cfg(test)]
mod tests;
mod width;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use http::{HeaderName, HeaderValue, Response};
use serde_json::Value;
use tokio::time::Instant;
use trimtab_apiserver_auth::user::MASTERS_GROUP;

pub(crate) use self::classify::Digest;
use self::classify::Schema;
use self::level::Entry;
pub(crate) use self::level::Seat;
pub(crate) use self::metrics::FlowMetrics;
pub(crate) use self::table::Table;
pub(crate) use self::width::{Collection, of_list};
use crate::limits::InFlight;

/// No request waits longer than this for its seat, however long it may take.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// What decides which requests are let in.
#[derive(Debug)]
pub(crate) struct Flow {
    limits: InFlight,
    metrics: FlowMetrics,
    /// Unless the limits are plain.
    table: Option<ArcSwap<Table>>,
    hashes: RandomState,
    reading: Arc<AtomicU32>,
    mutating: Arc<AtomicU32>,
}

/// A request that has been let in; it is until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Permit {
    seat: Option<Seat>,
    plain: Option<PlainSeat>,
}

#[derive(Debug)]
struct PlainSeat(Arc<AtomicU32>);

/// A request that is not let in.
#[derive(Debug)]
pub(crate) struct TooMany {
    /// After how many seconds it is to come again.
    pub(crate) retry_after: u64,
}

/// Which flow schema a request was given, and which priority level.
#[derive(Clone, Debug)]
pub(crate) struct Classified(Arc<Schema>);

impl Flow {
    /// Lets requests in by these objects, flow schemas and levels.
    pub(crate) fn new(limits: InFlight, schemas: &[Value], levels: &[Value]) -> Self {
        let metrics = FlowMetrics::default();
        let seats = limits.reading.saturating_add(limits.mutating);
        // As kube-apiserver: without a limit there is nothing to share out.
        let fair = limits.fair && seats > 0;
        let table = fair.then(|| {
            let table = Table::new(schemas, levels, seats, &metrics, None);
            table.share_out();
            ArcSwap::from_pointee(table)
        });
        Self {
            limits,
            metrics,
            table,
            hashes: RandomState::default(),
            reading: Arc::default(),
            mutating: Arc::default(),
        }
    }

    pub(crate) fn metrics(&self) -> &FlowMetrics {
        &self.metrics
    }

    /// The table by which requests are let in, unless the limits are plain.
    pub(crate) fn table(&self) -> Option<Arc<Table>> {
        self.table.as_ref().map(ArcSwap::load_full)
    }

    /// From now on requests are let in by these objects.
    pub(crate) fn replace(&self, schemas: &[Value], levels: &[Value]) {
        let Some(table) = &self.table else { return };
        let seats = self.limits.reading.saturating_add(self.limits.mutating);
        let next = Table::new(schemas, levels, seats, &self.metrics, Some(&table.load()));
        next.share_out();
        table.store(Arc::new(next));
    }

    /// Lets a request in, as soon as there is room for it, and says by which objects. `width` tells how many seats it
    /// takes, given how many it may; `may_last` tells how long the whole of it may take: it waits for a quarter of that.
    ///
    /// Dropping the future gives up the place in the queue.
    ///
    /// # Errors
    ///
    /// [`TooMany`].
    pub(crate) async fn enter(
        &self,
        digest: &Digest<'_>,
        width: impl FnOnce(u32) -> u32,
        may_last: impl FnOnce() -> Duration,
    ) -> (Option<Classified>, Result<Permit, TooMany>) {
        let Some(table) = &self.table else {
            return (None, self.enter_plain(digest));
        };
        let schema = table.load().classify(digest).cloned();
        let Some(schema) = schema else {
            return (None, Ok(Permit::default()));
        };
        let level = &schema.level;
        let seats = width(level.widest()).max(1);
        let flow = if level.figures.exempt {
            0
        } else {
            schema.flow(digest, &self.hashes)
        };
        let entry = match level.enter(&schema.figures, flow, seats) {
            Entry::In(seat) => Ok(seat),
            Entry::Waits(waiting) => {
                let patience = (may_last() / 4).min(LONGEST_WAIT);
                waiting.wait(Instant::now() + patience).await
            }
            Entry::Refused(reason) => Err(reason),
        };
        let permit = entry.map(|mut seat| {
            seat.of_watch = digest.verb == "watch";
            Permit {
                seat: Some(seat),
                plain: None,
            }
        });
        let permit = permit.map_err(|_| TooMany {
            retry_after: level.retry_after(),
        });
        (Some(Classified(schema)), permit)
    }

    /// Whether a request that may last is let in without a seat: connections to pods, and with plain limits watches, too.
    pub(crate) fn is_free(&self, is_watch: bool, is_connection: bool) -> bool {
        is_connection || (is_watch && self.table.is_none())
    }

    fn enter_plain(&self, digest: &Digest<'_>) -> Result<Permit, TooMany> {
        let reads = matches!(digest.verb, "get" | "list" | "watch");
        let (count, limit) = if reads {
            (&self.reading, self.limits.reading)
        } else {
            (&self.mutating, self.limits.mutating)
        };
        if limit == 0 {
            return Ok(Permit::default());
        }
        let seat = PlainSeat(count.clone());
        let before = count.fetch_add(1, Ordering::Relaxed);
        // Administrators are to get in when nobody else does.
        if before >= limit && !digest.user.is_in(MASTERS_GROUP) {
            return Err(TooMany { retry_after: 1 });
        }
        Ok(Permit {
            seat: None,
            plain: Some(seat),
        })
    }
}

impl Drop for PlainSeat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Permit {
    /// Whether dropping it makes room for anybody.
    pub(crate) fn holds(&self) -> bool {
        self.seat.is_some() || self.plain.is_some()
    }
}

impl Classified {
    /// Says on the answer which objects it was.
    pub(crate) fn mark<B>(&self, response: &mut Response<B>) {
        let (schema, level) = &self.0.uids;
        let headers = response.headers_mut();
        headers.insert(SCHEMA_UID, HeaderValue::clone(schema));
        headers.insert(LEVEL_UID, HeaderValue::clone(level));
    }
}
