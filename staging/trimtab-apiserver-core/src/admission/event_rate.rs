//! Event rates: nobody floods the server with events.

use std::collections::HashMap;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;
use trimtab_apimachinery_meta::{ApiError, StatusReason};

use crate::registry::hooks::{Admission, Attributes, Operation};

const GROUP: &str = "eventratelimit.admission.k8s.io";
/// How many rates of a kind are kept unless something else is said; as kube-apiserver.
const DEFAULT_CACHE: usize = 4096;

/// Refuses events beyond certain rates: of the server, of each namespace, of each user, or of each source and object.
#[derive(Debug)]
pub struct EventRateLimit {
    limits: Vec<Limit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

#[derive(Debug)]
struct Limit {
    by: By,
    per_second: f64,
    burst: f64,
    most: usize,
    buckets: Mutex<HashMap<String, Bucket>>,
}

/// What is left of a burst, as of when; it fills again at the limit's rate.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

// === impl By ===

impl By {
    fn read(text: &str) -> Option<Self> {
        match text {
            "Server" => Some(Self::Server),
            "Namespace" => Some(Self::Namespace),
            "User" => Some(Self::User),
            "SourceAndObject" => Some(Self::SourceAndObject),
            _ => None,
        }
    }

    fn key(self, attributes: &Attributes, event: &Value) -> String {
        match self {
            Self::Server => String::new(),
            Self::Namespace => attributes.namespace.clone(),
            Self::User => attributes.user.name.clone(),
            Self::SourceAndObject => {
                // Those of events.k8s.io call the same things otherwise.
                let (old, new) = (&event["source"], &event["deprecatedSource"]);
                let source = if old.is_object() { old } else { new };
                let (old, new) = (&event["involvedObject"], &event["regarding"]);
                let about = if old.is_object() { old } else { new };
                let parts = ["component", "host"].map(|field| &source[field]);
                let more = ["kind", "namespace", "name", "uid", "apiVersion"].map(|field| &about[field]);
                parts.into_iter().chain(more).filter_map(Value::as_str).collect()
            }
        }
    }
}

// === impl Limit ===

impl Limit {
    fn read(limit: &Value) -> Result<Self, String> {
        let kind = limit["type"].as_str().unwrap_or_default();
        let by = By::read(kind)
            .ok_or_else(|| format!("type: {kind:?} is none of Server, Namespace, User, SourceAndObject"))?;
        let positive = |field: &str| {
            let number = limit[field].as_u64().filter(|n| *n > 0 && *n <= i32::MAX as u64);
            number.ok_or_else(|| format!("{field}: must be positive"))
        };
        let most = match &limit["cacheSize"] {
            Value::Null => DEFAULT_CACHE,
            size => match size.as_u64() {
                Some(0) => DEFAULT_CACHE,
                Some(size) => usize::try_from(size).unwrap_or(usize::MAX),
                None => return Err("cacheSize: must not be negative".to_owned()),
            },
        };
        Ok(Self {
            by,
            per_second: positive("qps")? as f64,
            burst: positive("burst")? as f64,
            most,
            buckets: Mutex::default(),
        })
    }

    /// Takes one event out of the bucket of `key`, if there is one.
    fn accept(&self, key: &str, now: Instant) -> bool {
        let mut buckets = self.buckets.lock();
        if !buckets.contains_key(key) && buckets.len() >= self.most {
            // A bucket that is left out is full when it comes back: that one goes that has waited longest.
            let oldest = buckets.iter().min_by_key(|(_, bucket)| bucket.at);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                buckets.remove(&oldest);
            }
        }
        let full = Bucket {
            left: self.burst,
            at: now,
        };
        let bucket = buckets.entry(key.to_owned()).or_insert(full);
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + since * self.per_second).min(self.burst);
        bucket.at = now;
        let some = bucket.left >= 1.0;
        if some {
            bucket.left -= 1.0;
        }
        some
    }
}

// === impl EventRateLimit ===

impl EventRateLimit {
    /// The plugin, with the limits of a `Configuration` of eventratelimit.admission.k8s.io/v1alpha1.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration, and where.
    pub fn new(config: &Value) -> Result<Self, String> {
        let version = config["apiVersion"].as_str().unwrap_or_default();
        if config["kind"] != "Configuration" || version != format!("{GROUP}/v1alpha1") {
            return Err(format!("want a Configuration of {GROUP}/v1alpha1"));
        }
        let limits = config["limits"].as_array().map_or(&[][..], Vec::as_slice);
        if limits.is_empty() {
            return Err("limits: must not be empty".to_owned());
        }
        let read = |(n, limit)| Limit::read(limit).map_err(|why| format!("limits[{n}].{why}"));
        let limits = limits.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(Self { limits })
    }
}

#[async_trait]
impl Admission for EventRateLimit {
    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.resource.plural == "events"
            && matches!(attributes.resource.group.as_str(), "" | "events.k8s.io")
            && matches!(attributes.operation, Operation::Create | Operation::Update)
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        event: Option<&Value>,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        if attributes.dry_run {
            return Ok(());
        }
        let (now, event) = (Instant::now(), event.unwrap_or(&Value::Null));
        let mut reached = Vec::new();
        for limit in &self.limits {
            let key = limit.by.key(attributes, event);
            if !limit.accept(&key, now) {
                reached.push(format!("limit reached on type {:?} for key {key}", limit.by));
            }
        }
        let text = match reached.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        Err(ApiError::new(
            429,
            StatusReason::TooManyRequests,
            format!("Too many requests: {text}"),
        ))
    }
}
