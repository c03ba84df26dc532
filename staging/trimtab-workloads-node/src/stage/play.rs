//! Which stage an object goes to, when, and what that does to it. No I/O.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use trimtab_client_coordination::events::Note;

use super::format::{Operator, Planned, Stage, Term, Time};
use super::{Stages, World};
use crate::clock::later;

/// The stage that an object goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    name: String,
    /// When.
    pub(crate) due: Timestamp,
}

/// What is done to an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    Note(Note),
    /// Changes the object, or the part that is named.
    Patch {
        subresource: String,
        strategic: bool,
        change: Value,
    },
    Delete,
}

/// What is to be done now.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing ever, unless the object changes.
    Nothing,
    /// Nothing until then.
    Wait(Pick),
    /// The stage's time has come.
    Do(Vec<Act>),
}

/// Chooses a stage for the object, or stays with the one that was chosen, and says what is to be done by now.
///
/// # Errors
/// A template that the object is not made for.
pub(crate) fn pick(
    stages: &Stages,
    kind: &str,
    object: &Value,
    chosen: Option<Pick>,
    now: Timestamp,
    random: &mut fastrand::Rng,
    world: &dyn World,
) -> Result<Step, String> {
    let matching: Vec<&Stage> = stages.of(kind).filter(|stage| stage.has(object)).collect();
    let stays = chosen.and_then(|chosen| {
        let stage = matching.iter().find(|stage| stage.name == chosen.name)?;
        Some((*stage, chosen))
    });
    let (stage, pick) = match stays {
        Some(stays) => stays,
        None => {
            let Some(stage) = draw(&matching, object, random) else {
                return Ok(Step::Nothing);
            };
            let pick = Pick {
                name: stage.name.clone(),
                due: stage.due(object, now, random),
            };
            (stage, pick)
        }
    };
    if pick.due > now {
        return Ok(Step::Wait(pick));
    }
    let mut acts = Vec::new();
    for planned in &stage.acts {
        let told = |why: String| format!("stage {}: {why}", stage.name);
        acts.extend(planned.act(object, world).map_err(told)?);
    }
    Ok(Step::Do(acts))
}

/// One of the stages, by their weights; each is as good as the other where none has any.
fn draw<'a>(matching: &[&'a Stage], object: &Value, random: &mut fastrand::Rng) -> Option<&'a Stage> {
    let weights: Vec<u64> = matching
        .iter()
        .map(|stage| {
            let from = stage.weight_from.as_ref();
            let said = from.and_then(|path| path.texts(object).first()?.parse().ok());
            u64::try_from(said.unwrap_or(stage.weight)).unwrap_or_default()
        })
        .collect();
    let sum: u64 = weights.iter().sum();
    if sum == 0 {
        return (!matching.is_empty()).then(|| matching[random.usize(..matching.len())]);
    }
    let mut at = random.u64(..sum);
    for (stage, weight) in matching.iter().zip(weights) {
        match at.checked_sub(weight) {
            None => return Some(stage),
            Some(rest) => at = rest,
        }
    }
    None
}

impl Stage {
    fn has(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| term.holds(object))
    }

    fn due(&self, object: &Value, now: Timestamp, random: &mut fastrand::Rng) -> Timestamp {
        let span = |time: &Option<Time>| time.as_ref().and_then(|time| time.span(object, now));
        let delay = span(&self.delay).unwrap_or_default();
        let wait = match span(&self.jitter) {
            Some(jitter) if jitter > delay => {
                delay + Duration::from_secs_f64((jitter - delay).as_secs_f64() * random.f64())
            }
            // As in KWOK: the shorter of both.
            Some(jitter) => jitter,
            None => delay,
        };
        later(now, wait)
    }
}

impl Term {
    fn holds(&self, object: &Value) -> bool {
        let found = self.path.texts(object);
        let listed = || found.iter().any(|found| self.values.contains(found));
        match self.operator {
            Operator::In => listed(),
            Operator::NotIn => !listed(),
            Operator::Exists => !found.is_empty(),
            Operator::DoesNotExist => found.is_empty(),
        }
    }
}

impl Time {
    /// What the object says: a duration, or a time to come; else what is fixed.
    fn span(&self, object: &Value, now: Timestamp) -> Option<Duration> {
        let said = self
            .from
            .as_ref()
            .and_then(|path| path.texts(object).into_iter().next());
        let said = said.and_then(|text| {
            let until = text.parse::<Timestamp>().map(|then| then.duration_since(now));
            let span = until.or_else(|_| text.parse::<SignedDuration>()).ok()?;
            Some(Duration::try_from(span).unwrap_or_default())
        });
        said.or(self.fixed)
    }
}

impl Planned {
    fn act(&self, object: &Value, world: &dyn World) -> Result<Option<Act>, String> {
        Ok(match self {
            Self::Event {
                warning,
                reason,
                message,
            } => {
                let message = message.render(object, world)?;
                Some(Act::Note(match warning {
                    true => Note::warning(reason, "Stage", message),
                    false => Note::normal(reason, "Stage", message),
                }))
            }
            Self::Finalizers { add, remove, empty } => {
                let before: Vec<String> = object["metadata"]["finalizers"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|value| value.as_str().map(str::to_owned))
                    .collect();
                let mut after: Vec<String> = match empty {
                    true => Vec::new(),
                    false => before
                        .iter()
                        .filter(|one| !remove.contains(one))
                        .cloned()
                        .collect(),
                };
                let new = add
                    .iter()
                    .filter(|one| !after.contains(one))
                    .cloned()
                    .collect::<Vec<_>>();
                after.extend(new);
                let version = &object["metadata"]["resourceVersion"];
                (after != before).then(|| Act::Patch {
                    subresource: String::new(),
                    strategic: false,
                    change: json!({"metadata": {"finalizers": after, "resourceVersion": version}}),
                })
            }
            Self::Delete => Some(Act::Delete),
            Self::Patch {
                root,
                subresource,
                strategic,
                template,
            } => {
                let text = template.render(object, world)?;
                let value: Value =
                    serde_saphyr::from_str(&text).map_err(|why| format!("{why} in:\n{text}"))?;
                let change = match (root.as_str(), value.is_null()) {
                    (_, true) => return Ok(None),
                    ("", false) => value,
                    (root, false) => json!({ root: value }),
                };
                Some(Act::Patch {
                    subresource: subresource.clone(),
                    strategic: *strategic,
                    change,
                })
            }
        })
    }
}
