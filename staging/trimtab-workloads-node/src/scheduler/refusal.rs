//! Why nodes do not take a pod, and how kube-scheduler says it.

use std::collections::BTreeMap;
use std::fmt;

/// Which part of the scheduler refused: what has to change for it to say something else follows from this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Part {
    Unschedulable = 1,
    Taints = 1 << 1,
    NodeAffinity = 1 << 2,
    Ports = 1 << 3,
    Resources = 1 << 4,
    Volumes = 1 << 5,
    Spread = 1 << 6,
    PodAffinity = 1 << 7,
}

/// Several parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts(u16);

/// What a node has too little of, or how it is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    Said(&'static str),
    Insufficient(String),
}

/// Why one node does not take the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) part: Part,
    pub(crate) reasons: Vec<Reason>,
    /// Whether it might take the pod if others made room.
    pub(crate) resolvable: bool,
}

/// Why no node takes the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unschedulable {
    /// How many nodes there are.
    pub(crate) nodes: usize,
    /// Why it could not be on any node, whatever it is like.
    pub(crate) beforehand: Option<String>,
    /// By reason, for how many nodes it is one.
    pub(crate) reasons: BTreeMap<String, usize>,
    /// Why making room did not help.
    pub(crate) preemption: Option<String>,
    pub(crate) parts: Parts,
}

impl Parts {
    pub(crate) const ALL: Self = Self(u16::MAX);

    pub(crate) fn and(self, part: Part) -> Self {
        Self(self.0 | part as u16)
    }

    pub(crate) fn of(parts: &[Part]) -> Self {
        parts.iter().fold(Self::default(), |all, part| all.and(*part))
    }

    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl Refusal {
    /// Others cannot make a difference.
    pub(crate) fn final_one(part: Part, why: &'static str) -> Self {
        Self {
            part,
            reasons: vec![Reason::Said(why)],
            resolvable: false,
        }
    }

    /// It could be otherwise if some pods were not there.
    pub(crate) fn passing(part: Part, why: &'static str) -> Self {
        Self {
            resolvable: true,
            ..Self::final_one(part, why)
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(why) => f.write_str(why),
            Self::Insufficient(what) => write!(f, "Insufficient {what}"),
        }
    }
}

impl Unschedulable {
    pub(crate) fn count(&mut self, reason: String) {
        *self.reasons.entry(reason).or_default() += 1;
    }
}

impl fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 && self.beforehand.is_none() {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.nodes)?;
        if let Some(beforehand) = &self.beforehand {
            write!(f, " {beforehand}.")?;
        } else if !self.reasons.is_empty() {
            write!(f, " {}.", histogram(&self.reasons))?;
        }
        match &self.preemption {
            // Claims of devices are what kube-scheduler tries to free first; there are none here.
            Some(preemption) => write!(f, " no new claims to deallocate, preemption: {preemption}"),
            None => Ok(()),
        }
    }
}

/// `1 Insufficient cpu, 2 Too many pods`, in the order of the texts.
fn histogram(reasons: &BTreeMap<String, usize>) -> String {
    let mut counted: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    counted.sort_unstable();
    counted.join(", ")
}
