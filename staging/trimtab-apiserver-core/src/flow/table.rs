//! Flow schemas and priority levels as requests meet them: made anew from the objects whenever one of them changes, with
//! levels that stay the same as long as they have the same name.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;
use serde_json::Value;

use super::bootstrap::{self, CATCH_ALL, EXEMPT};
use super::classify::{Digest, Distinguisher, Rule, Schema};
use super::level::Level;
use super::metrics::FlowMetrics;
use super::queues::Shape;
use super::seats::{Claim, Share, divide};
use crate::registry::meta;

/// What the work estimator may give a request of a level: part of the level's nominal seats; kube-apiserver's.
const WIDEST_PART: f64 = 0.15;
/// A list is at most so many seats wide; kube-apiserver's `MaximumListSeatsLimit`.
pub(crate) const WIDEST_LIST: u32 = 100;

/// The table at one moment.
#[derive(Debug)]
pub(crate) struct Table {
    /// In the order in which they are tried; the last one takes everything.
    pub(crate) schemas: Vec<Arc<Schema>>,
    pub(crate) levels: BTreeMap<String, Placed>,
}

/// A level with its part of the seats.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) level: Arc<Level>,
    uid: HeaderValue,
    nominal: u32,
    lower: u32,
    upper: u32,
}

/// What an object says of a level.
struct Spec {
    shape: Shape,
    share: Share,
}

impl Table {
    /// The table of these objects. `before` is the one that it follows.
    pub(crate) fn new(
        schemas: &[Value],
        levels: &[Value],
        seats: u32,
        metrics: &FlowMetrics,
        before: Option<&Table>,
    ) -> Self {
        let mut specs: BTreeMap<&str, (Spec, &Value)> = BTreeMap::new();
        let wanted = bootstrap::objects();
        // Those that must be are there even if their objects are not.
        let mandatory = |kind: &'static str| {
            let of_kind = wanted
                .iter()
                .filter(move |w| w.mandatory && w.object["kind"] == kind);
            of_kind.map(|w| &w.object)
        };
        for object in mandatory("PriorityLevelConfiguration").chain(levels) {
            match Spec::read(object) {
                Some(spec) => drop(specs.insert(meta::name(object), (spec, object))),
                None => tracing::warn!(name = meta::name(object), "a priority level makes no sense"),
            }
        }
        let sum = specs.values().map(|(spec, _)| spec.share.shares).sum();
        let mut placed = BTreeMap::new();
        for (name, (spec, object)) in specs {
            let (nominal, lower, upper) = spec.share.bounds(seats, sum);
            let old = before.and_then(|table| table.levels.get(name));
            let level = old.map(|old| old.level.clone()).unwrap_or_else(|| {
                let figures = metrics.level(name, spec.shape == Shape::Exempt);
                // Half of what it lends is lent until it is known who needs it.
                let limit = nominal - (nominal - lower) / 2;
                Arc::new(Level::new(name, spec.shape, limit, figures))
            });
            level.set_shape(spec.shape, spec.widest(nominal));
            level.figures.bounds(nominal, lower, upper);
            let of = Placed {
                level,
                uid: uid(object),
                nominal,
                lower,
                upper,
            };
            placed.insert(name.to_owned(), of);
        }
        if let Some(before) = before {
            let gone = before.levels.keys().filter(|name| !placed.contains_key(*name));
            gone.for_each(|name| metrics.forget_level(name));
        }
        let there = |name: &str| schemas.iter().any(|schema| meta::name(schema) == name);
        let missing = mandatory("FlowSchema").filter(|schema| !there(meta::name(schema)));
        let mut compiled: Vec<Arc<Schema>> = schemas
            .iter()
            .chain(missing)
            .filter_map(|schema| compile(schema, &placed, metrics))
            .collect();
        compiled.sort_by(|a, b| {
            let last = |schema: &Schema| schema.name == CATCH_ALL;
            let key = |schema: &Schema| (last(schema), schema.precedence);
            key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
        });
        Self {
            schemas: compiled,
            levels: placed,
        }
    }

    /// The flow schema of a request; the one that takes everything if no rule matches.
    pub(crate) fn classify(&self, digest: &Digest<'_>) -> Option<&Arc<Schema>> {
        let matching = self.schemas.iter().find(|schema| schema.matches(digest));
        matching.or(self.schemas.last())
    }

    /// Whether there is a level of this name.
    pub(crate) fn has_level(&self, name: &str) -> bool {
        self.levels.contains_key(name)
    }

    /// Shares the seats out anew, by what each level wanted since the last time.
    pub(crate) fn share_out(&self) {
        let claims: Vec<Claim> = self.levels.values().map(Placed::claim).collect();
        for (placed, (claim, seats)) in self.levels.values().zip(claims.iter().zip(divide(&claims))) {
            placed.level.set_limit(seats);
            placed.level.figures.current(seats, claim.high);
        }
    }
}

impl Placed {
    fn claim(&self) -> Claim {
        let demand = self.level.take_demand();
        Claim {
            exempt: self.level.figures.exempt,
            nominal: self.nominal,
            lower: self.lower,
            upper: self.upper,
            high: demand.high,
            smoothed: demand.smoothed,
        }
    }
}

impl Spec {
    fn read(object: &Value) -> Option<Self> {
        let spec = &object["spec"];
        let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
        let (shape, of) = match (spec["type"].as_str()?, meta::name(object)) {
            ("Exempt", EXEMPT) => (Shape::Exempt, &spec["exempt"]),
            ("Limited", name) if name != EXEMPT => {
                let limited = &spec["limited"];
                let queuing = &limited["limitResponse"]["queuing"];
                let shape = match limited["limitResponse"]["type"].as_str()? {
                    "Reject" => Shape::Reject,
                    "Queue" => Shape::Queue {
                        queues: number(&queuing["queues"]).filter(|n| *n > 0)?,
                        hand: number(&queuing["handSize"]).filter(|n| *n > 0)? as usize,
                        length: number(&queuing["queueLengthLimit"]).filter(|n| *n > 0)? as usize,
                    },
                    _ => return None,
                };
                (shape, limited)
            }
            _ => return None,
        };
        if !of.is_object() {
            return None;
        }
        let share = Share {
            shares: number(&of["nominalConcurrencyShares"]).unwrap_or(0),
            lendable_percent: number(&of["lendablePercent"]).unwrap_or(0).min(100),
            borrowing_percent: number(&of["borrowingLimitPercent"]),
        };
        Some(Self { shape, share })
    }

    /// How wide a request may be, so that it does not keep all others of its queue waiting.
    fn widest(&self, nominal: u32) -> u32 {
        let Shape::Queue { hand, .. } = self.shape else {
            return WIDEST_LIST;
        };
        let part = (f64::from(nominal) * WIDEST_PART).ceil() as u32;
        let of_hand = nominal / u32::try_from(hand).unwrap_or(u32::MAX).max(1);
        part.min(of_hand).clamp(1, WIDEST_LIST)
    }
}

/// A schema, unless its level does not exist.
fn compile(schema: &Value, levels: &BTreeMap<String, Placed>, metrics: &FlowMetrics) -> Option<Arc<Schema>> {
    let spec = &schema["spec"];
    let placed = levels.get(level_of(schema))?;
    let name = meta::name(schema);
    Some(Arc::new(Schema {
        name: name.to_owned(),
        precedence: spec["matchingPrecedence"].as_i64().unwrap_or(1000),
        figures: metrics.schema(name, &placed.level.name),
        level: placed.level.clone(),
        uids: (uid(schema), placed.uid.clone()),
        distinguisher: Distinguisher::read(spec),
        rules: spec["rules"]
            .as_array()
            .into_iter()
            .flatten()
            .map(Rule::read)
            .collect(),
    }))
}

/// The level that a schema names.
pub(crate) fn level_of(schema: &Value) -> &str {
    schema["spec"]["priorityLevelConfiguration"]["name"]
        .as_str()
        .unwrap_or_default()
}

fn uid(object: &Value) -> HeaderValue {
    HeaderValue::from_str(meta::text(object, "uid")).unwrap_or(HeaderValue::from_static(""))
}
