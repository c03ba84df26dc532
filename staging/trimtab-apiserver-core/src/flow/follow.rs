//! Keeps what decides up to date: with the objects as they change, with the seats that levels need, and with the objects
//! that every cluster has; and says on each flow schema whether its priority level is there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::select;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_storage::{Error, RangeRequest, Revision, Store, WatchRequest};

use super::Flow;
use super::bootstrap::{self, LEVELS, SCHEMAS, dangling};
use super::table::level_of;
use crate::api::{ApiRequest, BodyFormat};
use crate::registry::{Registry, keys, meta};

/// How often seats are shared out anew; kube-apiserver's `borrowingAdjustmentPeriod`.
const SHARE_OUT: Duration = Duration::from_secs(10);
/// How often it is looked whether the objects that every cluster has are as they should be.
const ENSURE: Duration = Duration::from_secs(60);
/// How long to wait after the store failed.
const PAUSE: Duration = Duration::from_secs(1);
/// A status is written at most so many times a minute: others may want it otherwise, and are to have a turn.
const MOST_WRITES: usize = 5;
/// Who writes the statuses.
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";

/// All objects, as they were at a revision.
#[derive(Debug)]
pub(crate) struct Objects {
    pub(crate) schemas: Vec<Value>,
    pub(crate) levels: Vec<Value>,
    revision: Revision,
}

/// Reads what there is.
///
/// # Errors
///
/// When the store cannot be read.
pub(crate) async fn read(store: &dyn Store) -> Result<Objects, Error> {
    let revision = store.revision().await?;
    let all =
        async |path: &str| {
            let request = RangeRequest::prefix(prefix(path)).at(revision);
            let kvs = store.range(request).await?.kvs;
            let objects = kvs.iter().filter_map(|kv| match serde_json::from_slice(&kv.value) {
            Ok(object) => Some(object),
            Err(error) => {
                tracing::error!(key = %kv.key.escape_ascii(), %error, "a stored object cannot be read");
                None
            }
        });
            Ok::<Vec<Value>, Error>(objects.collect())
        };
    Ok(Objects {
        schemas: all(SCHEMAS).await?,
        levels: all(LEVELS).await?,
        revision,
    })
}

fn prefix(path: &str) -> String {
    format!("{}{path}", keys::ROOT)
}

/// Keeps `flow` up to date until `stop`.
pub(crate) async fn run(flow: Arc<Flow>, registry: Arc<Registry>, stop: CancellationToken) {
    let mut follower = Follower {
        flow,
        registry,
        written: HashMap::new(),
    };
    let keep_up = async {
        loop {
            if let Err(error) = follower.keep_up().await {
                tracing::debug!(%error, "flow schemas and priority levels cannot be followed; trying again");
                sleep(PAUSE).await;
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = keep_up => {}
    }
}

struct Follower {
    flow: Arc<Flow>,
    registry: Arc<Registry>,
    /// When each schema's status was written, in the last minute.
    written: HashMap<String, Vec<Instant>>,
}

impl Follower {
    /// Follows the objects until that cannot go on.
    async fn keep_up(&mut self) -> Result<(), Error> {
        let store = self.registry.store().clone();
        let objects = read(&*store).await?;
        let mut streams = Vec::new();
        for path in [SCHEMAS, LEVELS] {
            let request = WatchRequest::prefix(prefix(path)).from(objects.revision + 1);
            streams.push(store.watch(request).await?);
        }
        let (Some(levels), Some(schemas)) = (streams.pop(), streams.pop()) else {
            return Ok(());
        };
        let mut changes = select(schemas, levels);
        self.digest(objects).await;
        let mut share_out = interval(SHARE_OUT);
        let mut ensure = interval(ENSURE);
        for timer in [&mut share_out, &mut ensure] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            timer.reset(); // both have been done at the start
        }
        loop {
            tokio::select! {
                biased;
                change = changes.next() => {
                    change.unwrap_or(Err(Error::Closed))?;
                    // Objects come in groups as a rule.
                    while let Some(more) = changes.next().now_or_never() {
                        more.unwrap_or(Err(Error::Closed))?;
                    }
                    self.digest(read(&*store).await?).await;
                }
                _ = share_out.tick() => {
                    if let Some(table) = self.flow.table() {
                        table.share_out();
                    }
                }
                _ = ensure.tick() => {
                    bootstrap::ensure(&*store, self.registry.ambient()).await?;
                    self.digest(read(&*store).await?).await;
                }
            }
        }
    }

    async fn digest(&mut self, objects: Objects) {
        self.flow.replace(&objects.schemas, &objects.levels);
        let Some(table) = self.flow.table() else { return };
        let now = Instant::now();
        self.written.retain(|_, times| {
            times.retain(|time| now - *time < Duration::from_secs(60));
            !times.is_empty()
        });
        for schema in &objects.schemas {
            let level = level_of(schema);
            let timestamp = self.registry.timestamp();
            let condition = dangling(level, table.has_level(level), &timestamp);
            if says(schema, &condition) {
                continue;
            }
            let name = meta::name(schema);
            let times = self.written.entry(name.to_owned()).or_default();
            if times.len() >= MOST_WRITES {
                continue; // it is looked at again in a minute
            }
            times.push(now);
            match self.registry.handle(status(name, &condition)).await {
                Ok(_) => {}
                Err(error) if ApiError::is_not_found(&error) => {}
                Err(error) => tracing::warn!(name, %error, "a flow schema's status cannot be written"),
            }
        }
    }
}

/// Whether a schema has this condition already.
fn says(schema: &Value, condition: &Value) -> bool {
    let conditions = schema["status"]["conditions"].as_array();
    let has = |there: &Value| {
        ["type", "status", "reason", "message"]
            .iter()
            .all(|field| there[*field] == condition[*field])
    };
    conditions.into_iter().flatten().any(has)
}

fn status(name: &str, condition: &Value) -> ApiRequest {
    let mut request = ApiRequest::own("patch", "PATCH", MANAGER);
    request.info.group = "flowcontrol.apiserver.k8s.io".to_owned();
    request.info.version = "v1".to_owned();
    request.info.resource = "flowschemas".to_owned();
    request.info.subresource = "status".to_owned();
    request.info.name = name.to_owned();
    request.query = vec![
        ("fieldManager".to_owned(), MANAGER.to_owned()),
        ("force".to_owned(), "true".to_owned()),
    ];
    request.body_format = BodyFormat::ApplyPatch;
    let body = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": name},
        "status": {"conditions": [condition]},
    });
    request.body = Bytes::from(body.to_string());
    request
}
