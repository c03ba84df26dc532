//! Which pods are made, and which are too many.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::{MOST, New, Work};
use crate::job::indexes::Indexes;
use crate::job::policy::Verdict;
use crate::job::seen::Seen;
use crate::workload::clock::later;
use crate::workload::pods::Phase;

/// The wait after the first failure, doubled with each that follows, and its limit. kube-controller-manager's figures.
const BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10 * 60);

impl Work<'_> {
    /// Sees to the number of pods. Returns how many run then.
    pub(super) fn manage(
        &mut self,
        active: &[usize],
        done: i32,
        succeeded: &Indexes,
        failed: Option<&Indexes>,
    ) -> i32 {
        let count = active.len() as i32;
        if self.spec.suspend == Some(true) {
            self.plan.drop = active.to_vec();
            return 0;
        }
        let parallelism = self.spec.parallelism.unwrap_or(1);
        let wanted = match self.spec.completions {
            None if done > 0 => count,
            None => parallelism,
            Some(completions) => (completions - done).clamp(0, parallelism.max(0)),
        };
        let mut surplus = self.surplus(active, usize::try_from(count - wanted).unwrap_or_default());
        surplus.truncate(MOST);
        if !surplus.is_empty() {
            let left = count - surplus.len() as i32;
            self.plan.drop = surplus;
            return left;
        }
        let ending = match self.replaces_failed_only {
            true => self.pods.iter().filter(|pod| pod.facts.is_terminating()).count() as i32,
            false => 0,
        };
        let missing = usize::try_from(wanted - ending - count)
            .unwrap_or_default()
            .min(MOST);
        if missing == 0 {
            return count;
        }
        if failed.is_none() {
            let retry = self.backoff();
            if retry > self.now {
                self.look_again(retry);
                return count;
            }
        }
        self.plan.create = match self.indexed {
            false => vec![New::default(); missing],
            true => self.new_indexes(active, succeeded, failed, missing),
        };
        count + self.plan.create.len() as i32
    }

    /// Which pods are too many: those without an index of their own, then those worth least.
    fn surplus(&self, active: &[usize], least: usize) -> Vec<usize> {
        let worth = |at: &usize| {
            let facts = &self.pods[*at].facts;
            let since = facts.ready.map(|since| std::cmp::Reverse(since));
            (
                !facts.node.is_empty(),
                facts.phase,
                facts.is_ready(),
                since,
                std::cmp::Reverse((facts.restarts, facts.created)),
            )
        };
        let mut active = active.to_vec();
        active.sort_by_cached_key(worth);
        let mut surplus = Vec::new();
        if self.indexed {
            let mut taken = BTreeSet::new();
            // The one worth most keeps the index.
            for at in active.iter().rev() {
                let index = self.pods[*at].index.filter(|index| *index < self.end);
                if index.is_none_or(|index| !taken.insert(index)) {
                    surplus.push(*at);
                }
            }
        }
        let rest: Vec<_> = active.into_iter().filter(|at| !surplus.contains(at)).collect();
        let more = least.saturating_sub(surplus.len());
        surplus.extend(rest.into_iter().take(more));
        surplus
    }

    /// When pods may be made again after failures.
    fn backoff(&self) -> Timestamp {
        let ended = |phase_is: &dyn Fn(&Seen) -> bool| -> Vec<Timestamp> {
            self.pods
                .iter()
                .filter(|pod| phase_is(pod))
                .map(|pod| pod.finished)
                .collect()
        };
        let success = ended(&|pod| pod.facts.phase == Phase::Succeeded)
            .into_iter()
            .max();
        let failures = ended(&|pod| self.is_failed(pod));
        let after: Vec<_> = failures
            .into_iter()
            .filter(|at| success.is_none_or(|success| *at > success))
            .collect();
        retry(after.len() as i32, after.into_iter().max())
    }

    fn new_indexes(
        &mut self,
        active: &[usize],
        succeeded: &Indexes,
        failed: Option<&Indexes>,
        most: usize,
    ) -> Vec<New> {
        let mut busy = succeeded
            .clone()
            .with(active.iter().filter_map(|at| self.pods[*at].index));
        if self.replaces_failed_only {
            let ending = self.pods.iter().filter(|pod| pod.facts.is_terminating());
            busy = busy.with(ending.filter_map(|pod| pod.index));
        }
        if let Some(failed) = failed {
            busy = busy.union(failed);
        }
        let indexes = busy.missing(self.end, most);
        let last = failed.map(|failed| self.last_failures(succeeded, failed));
        let Some(last) = last else {
            let plain = indexes.into_iter().map(|index| New {
                index: Some(index),
                failures: None,
            });
            return plain.collect();
        };
        let mut new = Vec::new();
        let mut soonest = None;
        for index in indexes {
            let before = last.get(&index).map(|at| self.pods[*at]);
            let failures = before.map_or((0, 0), |pod| match self.verdict(pod) {
                Verdict::Ignore => (pod.failures, pod.ignored + 1),
                _ => (pod.failures + 1, pod.ignored),
            });
            let due = before.map_or(Timestamp::MIN, |pod| {
                retry(pod.failures + pod.ignored + 1, Some(pod.finished))
            });
            if due <= self.now {
                new.push(New {
                    index: Some(index),
                    failures: Some(failures),
                });
            } else {
                soonest = Some(soonest.map_or(due, |soonest: Timestamp| soonest.min(due)));
            }
        }
        if let Some(soonest) = soonest {
            self.look_again(soonest);
        }
        new
    }

    /// For each index that waits for another try, the place of the pod that failed last: it stays until that is there.
    pub(super) fn last_failures(&self, succeeded: &Indexes, failed: &Indexes) -> BTreeMap<i32, usize> {
        let active: BTreeSet<i32> = self
            .pods
            .iter()
            .filter(|pod| pod.facts.is_active())
            .filter_map(|pod| pod.index)
            .collect();
        let mut last: BTreeMap<i32, usize> = BTreeMap::new();
        for (at, pod) in self.pods.iter().enumerate() {
            let Some(index) = pod.index.filter(|index| *index < self.end) else {
                continue;
            };
            let settled = succeeded.has(index) || failed.has(index) || active.contains(&index);
            if !pod.tracked || !self.is_failed(pod) || settled {
                continue;
            }
            let weight = |at: usize| {
                (
                    self.pods[at].failures + self.pods[at].ignored,
                    self.pods[at].finished,
                )
            };
            let place = last.entry(index).or_insert(at);
            if weight(at) >= weight(*place) {
                *place = at;
            }
        }
        last
    }
}

/// When to try again after so many failures, of which the last was then.
fn retry(failures: i32, last: Option<Timestamp>) -> Timestamp {
    let Some(last) = last.filter(|_| failures > 0) else {
        return Timestamp::MIN;
    };
    let doublings = u32::try_from(failures - 1).unwrap_or_default().min(16);
    later(last, BACKOFF.saturating_mul(1 << doublings).min(LONGEST_BACKOFF))
}
