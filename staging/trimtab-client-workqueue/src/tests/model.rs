//! What the queue is to do, written down as plainly as it goes: all keys in one map, looked through for each question.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::{Add, Phase, WorkQueue};

use super::world::{Adding, base_backoff};

/// A turn that a key is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    /// Time since the start.
    pub(super) at: Duration,
    pub(super) priority: i32,
    pub(super) pace: Pace,
    pub(super) reasons: Vec<&'static str>,
    pub(super) marked: bool,
}

/// What a time stands for: see the queue's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Trigger,
    Eager,
    Backoff,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) owed: Option<Owed>,
    /// Once it is ready: when it came to its priority, compared with other keys.
    pub(super) ready: Option<u64>,
    /// Among delayed keys of one time: who came first.
    delay_order: u64,
    /// Since when and with what priority it is in hand.
    pub(super) held: Option<(Duration, i32)>,
    pub(super) failures: u32,
}

/// What a worker is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) key: u8,
    pub(super) priority: i32,
    pub(super) failures: u32,
    pub(super) waited: Duration,
    pub(super) reasons: Vec<&'static str>,
    pub(super) marked: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    ageing: Duration,
    flow_of: Option<fn(u8) -> u8>,
    pub(super) now: Duration,
    pub(super) keys: BTreeMap<u8, Key>,
    /// For each priority, the flows in the order of their turns.
    turns: BTreeMap<i32, Vec<u8>>,
    order: u64,
    since_aged: u32,
    open: bool,
}

impl Model {
    pub(super) fn new(ageing: Duration, flow_of: Option<fn(u8) -> u8>) -> Self {
        Self {
            ageing,
            flow_of,
            now: Duration::ZERO,
            keys: BTreeMap::new(),
            turns: BTreeMap::new(),
            order: 0,
            since_aged: 0,
            open: true,
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.ripen();
    }

    pub(super) fn add(&mut self, add: &Adding) {
        let Adding {
            key,
            delay,
            rate_limited,
            priority,
            lower,
            end_backoff,
            mark,
            reason,
        } = *add;
        let now = self.now;
        let entry = self.keys.entry(key).or_default();
        let delay = if rate_limited {
            if entry.owed.is_none() {
                entry.failures += 1;
            }
            base_backoff(entry.failures.max(1))
        } else {
            delay
        };
        let claim = Owed {
            at: now + delay,
            priority,
            pace: match (end_backoff, rate_limited) {
                (true, _) => Pace::Eager,
                (false, true) => Pace::Backoff,
                (false, false) => Pace::Trigger,
            },
            reasons: reason.into_iter().collect(),
            marked: mark,
        };
        let overdue = |owed: &Owed| owed.at + self.ageing <= now;
        match &mut entry.owed {
            None => entry.owed = Some(claim),
            Some(owed) if entry.ready.is_some() => {
                owed.marked |= mark;
                note(&mut owed.reasons, &claim.reasons);
                let wanted = merged_priority(owed.priority, priority, lower);
                if wanted > owed.priority || wanted < owed.priority && !overdue(owed) {
                    owed.priority = wanted;
                    self.make_ready(key);
                }
                return;
            }
            Some(owed) => {
                owed.priority = merged_priority(owed.priority, priority, lower);
                owed.marked |= mark;
                note(&mut owed.reasons, &claim.reasons);
                let before = owed.at;
                earlier(owed, &claim);
                if owed.at == before {
                    return;
                }
            }
        }
        self.place(key);
    }

    pub(super) fn take(&mut self) -> Option<Given> {
        let ready: Vec<(i32, u64, Duration)> = self
            .keys
            .values()
            .filter_map(|key| Some((key.owed.as_ref()?.priority, key.ready?, key.owed.as_ref()?.at)))
            .collect();
        let top = ready.iter().map(|(priority, ..)| *priority).max()?;
        // The first to have come, of each lower priority; then the one of them who is ready longest.
        let lower: BTreeSet<i32> = ready.iter().map(|r| r.0).filter(|p| *p < top).collect();
        let heads = lower.iter().filter_map(|priority| {
            let of_this = ready.iter().filter(|(p, ..)| p == priority);
            let (_, _, at) = of_this.min_by_key(|(_, order, _)| *order)?;
            Some((*at, *priority))
        });
        let aged = heads.min().filter(|(at, _)| *at + self.ageing <= self.now);
        let priority = match aged {
            Some((_, priority)) if self.since_aged + 1 >= WorkQueue::<u8>::AGED_TURN => {
                self.since_aged = 0;
                priority
            }
            _ => {
                self.since_aged = (self.since_aged + 1).min(WorkQueue::<u8>::AGED_TURN);
                top
            }
        };
        let key = self.next_of(priority)?;
        let entry = self.keys.get_mut(&key)?;
        entry.ready = None;
        let owed = entry.owed.take()?;
        entry.held = Some((self.now, priority));
        let given = Given {
            key,
            priority,
            failures: entry.failures,
            waited: self.now - owed.at,
            reasons: owed.reasons,
            marked: owed.marked,
        };
        self.forget_empty(priority);
        Some(given)
    }

    /// What becomes of a key whose turn is over; `back` says when it wants to come again, and `failed` whether it failed.
    pub(super) fn finish(
        &mut self,
        key: u8,
        back: Option<Duration>,
        failed: bool,
        reason: Option<&'static str>,
    ) {
        let (now, open) = (self.now, self.open);
        let entry = self.keys.get_mut(&key).expect("it is in hand");
        let (_, priority) = entry.held.take().expect("it is in hand");
        let mut claim = None;
        if failed {
            if !matches!(&entry.owed, Some(owed) if owed.pace == Pace::Backoff) {
                entry.failures += 1;
            }
            claim = Some((base_backoff(entry.failures.max(1)), Pace::Backoff));
        } else {
            entry.failures = 0;
            claim = back.map(|delay| (delay, Pace::Trigger)).or(claim);
        }
        if let Some((delay, pace)) = claim {
            let claim = Owed {
                at: now + delay,
                priority,
                pace,
                reasons: reason.into_iter().collect(),
                marked: false,
            };
            match &mut entry.owed {
                Some(_) if !open => {}
                None => entry.owed = Some(claim),
                Some(owed) => {
                    if failed && owed.pace == Pace::Trigger {
                        (owed.at, owed.pace) = (claim.at, claim.pace);
                    }
                    owed.priority = owed.priority.max(priority);
                    note(&mut owed.reasons, &claim.reasons);
                    earlier(owed, &claim);
                }
            }
        }
        if entry.owed.is_some() {
            self.place(key);
        } else {
            self.keys.remove(&key);
        }
    }

    /// Draining: what is delayed or comes back will not be handed out.
    pub(super) fn drain(&mut self) {
        self.open = false;
    }

    pub(super) fn phase(&self, key: u8) -> Option<Phase> {
        let key = self.keys.get(&key)?;
        Some(match (&key.held, &key.owed, key.ready) {
            (Some(_), Some(_), _) => Phase::InHandAgain,
            (Some(_), None, _) => Phase::InHand,
            (None, _, Some(_)) => Phase::Ready,
            (None, _, None) => Phase::Delayed,
        })
    }

    pub(super) fn phase_counts(&self, phase: Phase) -> usize {
        let keys = self.keys.keys().filter(|key| self.phase(**key) == Some(phase));
        keys.count()
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        let waiting = self
            .keys
            .values()
            .filter(|key| key.held.is_none() && key.ready.is_none());
        waiting.filter_map(|key| Some(key.owed.as_ref()?.at)).min()
    }

    fn place(&mut self, key: u8) {
        let entry = self.keys.get_mut(&key).expect("it has just been there");
        if entry.held.is_some() {
            return;
        }
        self.order += 1;
        entry.delay_order = self.order;
        self.ripen();
    }

    /// Makes ready what is due, in the order of time.
    fn ripen(&mut self) {
        let due = |(name, key): (&u8, &Key)| {
            let at = key.owed.as_ref()?.at;
            let waits = key.held.is_none() && key.ready.is_none() && at <= self.now;
            waits.then_some((at, key.delay_order, *name))
        };
        let mut all: Vec<_> = self.keys.iter().filter_map(due).collect();
        all.sort_unstable();
        for (_, _, key) in all {
            self.make_ready(key);
        }
    }

    /// Puts a key at the end of its priority.
    fn make_ready(&mut self, key: u8) {
        self.order += 1;
        let entry = self.keys.get_mut(&key).expect("it is there");
        entry.ready = Some(self.order);
        let priority = entry.owed.as_ref().map_or(0, |owed| owed.priority);
        let flow = self.flow_of.map_or(0, |flow_of| flow_of(key));
        let turns = self.turns.entry(priority).or_default();
        if !turns.contains(&flow) {
            turns.push(flow);
        }
        let known: Vec<i32> = self.turns.keys().copied().collect();
        known.into_iter().for_each(|priority| self.forget_empty(priority));
    }

    /// The key of this priority whose turn it is.
    fn next_of(&mut self, priority: i32) -> Option<u8> {
        let ready_keys = |flow: u8, model: &Self| -> Vec<(u64, u8)> {
            let of_flow = |key: u8| model.flow_of.map_or(0, |flow_of| flow_of(key)) == flow;
            let here = |key: &Key| key.owed.as_ref().is_some_and(|owed| owed.priority == priority);
            let keys = model
                .keys
                .iter()
                .filter(|(name, key)| of_flow(**name) && here(key));
            let mut keys: Vec<_> = keys.filter_map(|(name, key)| Some((key.ready?, *name))).collect();
            keys.sort_unstable();
            keys
        };
        loop {
            let turns = self.turns.get_mut(&priority)?;
            if turns.is_empty() {
                return None;
            }
            let flow = turns.remove(0);
            let keys = ready_keys(flow, self);
            if keys.len() > 1 {
                self.turns.entry(priority).or_default().push(flow);
            }
            if let Some((_, key)) = keys.first() {
                return Some(*key);
            }
        }
    }

    fn forget_empty(&mut self, priority: i32) {
        let any = self.keys.values().any(|key| {
            key.ready.is_some() && key.owed.as_ref().is_some_and(|owed| owed.priority == priority)
        });
        if !any {
            self.turns.remove(&priority);
        }
    }
}

fn merged_priority(old: i32, new: i32, lower: bool) -> i32 {
    if lower { new } else { old.max(new) }
}

fn note(reasons: &mut Vec<&'static str>, more: &[&'static str]) {
    for reason in more {
        if !reasons.contains(reason) {
            reasons.push(reason);
        }
    }
}

/// The earlier time; a backoff gives way to those who ask for its end.
fn earlier(owed: &mut Owed, claim: &Owed) {
    if (owed.pace != Pace::Backoff || claim.pace == Pace::Eager) && claim.at < owed.at {
        (owed.at, owed.pace) = (claim.at, claim.pace);
    } else if claim.pace == Pace::Eager && owed.pace == Pace::Trigger {
        owed.pace = Pace::Eager;
    }
}

/// The same add for the queue.
pub(super) fn add_of(adding: &Adding) -> Add {
    let mut add = match (adding.rate_limited, adding.delay) {
        (true, _) => Add::rate_limited(),
        (false, Duration::ZERO) => Add::now(),
        (false, delay) => Add::after(delay),
    }
    .priority(adding.priority);
    if adding.lower {
        add = add.lower();
    }
    if adding.end_backoff {
        add = add.end_backoff();
    }
    if adding.mark {
        add = add.marked();
    }
    match adding.reason {
        Some(reason) => add.because(reason),
        None => add,
    }
}
