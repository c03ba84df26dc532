//! What is counted: from a pod's end to a number, each once.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::UncountedTerminatedPods;

use super::{Ending, MOST, Work};
use crate::job::indexes::Indexes;
use crate::job::policy::Verdict;
use crate::workload::pods::Phase;

impl Work<'_> {
    /// Puts what has ended into the status, and lets go what is there already.
    pub(super) fn track(&mut self, ending: &Option<Ending>, succeeded: &Indexes, failed: Option<&Indexes>) {
        let waiting: BTreeSet<usize> = match failed {
            Some(failed) if ending.is_none() => self.last_failures(succeeded, failed).into_values().collect(),
            _ => BTreeSet::new(),
        };
        let stored = self.before.uncounted_terminated_pods.clone().unwrap_or_default();
        let is_stored =
            |list: &Option<Vec<String>>, uid: &str| list.iter().flatten().any(|listed| listed == uid);
        let stored_indexes = Indexes::parse(
            self.before.completed_indexes.as_deref().unwrap_or_default(),
            self.end,
        );
        let ends = self.stored_ending().is_some();
        let fails = ending.as_ref().is_some_and(|ending| !ending.well);
        let well = ending.as_ref().is_some_and(|ending| ending.well);
        let mut indexes = Vec::new();
        let mut uncounted = self.status.uncounted_terminated_pods.take().unwrap_or_default();
        let listed = |uncounted: &UncountedTerminatedPods| {
            let count = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
            count(&uncounted.succeeded) + count(&uncounted.failed)
        };
        for (at, pod) in self.pods.iter().enumerate().filter(|(_, pod)| pod.tracked) {
            let uid = &*pod.facts.uid;
            // What was listed as failed, since it was being deleted, stays that, even if it ends well: servers refuse lists with both.
            let listed_failed = is_stored(&stored.failed, uid);
            let succeeds = pod.facts.phase == Phase::Succeeded && !listed_failed;
            let failed = self.is_failed(pod) || listed_failed;
            if self.deleting {
                self.plan.release.push(at);
                continue;
            }
            if !(succeeds || failed || ending.is_some())
                || waiting.contains(&at)
                || self.plan.drop.contains(&at)
            {
                continue;
            }
            if listed(&uncounted) + indexes.len() >= MOST {
                break; // the rest comes in the next turn
            }
            // What is no longer needed once the Job has succeeded is no failure, and no success either.
            let spared = well && pod.facts.deleting && pod.facts.phase != Phase::Failed && !listed_failed;
            let valid = self.has_valid_index(pod);
            let is_recorded = if spared {
                true
            } else if succeeds && self.indexed {
                let index = pod.index.filter(|_| valid);
                indexes.extend(index);
                index.is_none_or(|index| stored_indexes.has(index))
            } else if succeeds {
                add(&mut uncounted.succeeded, uid);
                is_stored(&stored.succeeded, uid)
            } else if (failed || fails) && valid && self.verdict(pod) != Verdict::Ignore {
                add(&mut uncounted.failed, uid);
                is_stored(&stored.failed, uid)
            } else {
                true
            };
            if is_recorded && (ending.is_none() || ends) {
                self.plan.release.push(at);
            }
        }
        self.status.uncounted_terminated_pods = Some(uncounted);
        if self.indexed {
            let completed = stored_indexes.with(indexes);
            self.status.succeeded = Some(completed.count()).filter(|count| *count != 0);
            self.status.completed_indexes = Some(completed.to_string()).filter(|text| !text.is_empty());
            self.status.failed_indexes = failed.map(ToString::to_string);
        }
    }
}

fn add(list: &mut Option<Vec<String>>, uid: &str) {
    let list = list.get_or_insert_default();
    if !list.iter().any(|listed| listed == uid) {
        list.push(uid.to_owned());
    }
}
