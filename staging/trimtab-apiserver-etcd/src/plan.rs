//! The steps of a change of transport: which there are, in which order, and what takes each back.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How etcd is reached, by clients and by its own members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// In the clear.
    Http,
    /// By TLS, with certificates on both sides.
    Https,
}

/// How the change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// One member after the other, with a quorum up all the time.
    Rolling,
    /// By a snapshot from which all members are made anew, while clients wait.
    Snapshot,
}

/// How a member is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// As it was found.
    Before,
    /// Peers find it by http; it has certificates to call those by https that are further; clients find it by both
    /// where it can do that.
    Both,
    /// As it will be.
    After,
    /// As it was found, but clients do not find it.
    FencedBefore,
    /// As it will be, with what was restored, but clients do not find it.
    FencedAfter,
}

/// By which schemes a member's peer URLs are in the list of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Names {
    /// As they were found.
    Old,
    /// By both.
    Both,
    /// By the new one.
    New,
}

/// A step. Each may be done again when it is not known whether it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Make or look at certificates.
    Certificates,
    /// Stop a member, start it in another stage, and wait until all members are well.
    Restart {
        /// Which one.
        member: usize,
        /// How it was run.
        from: Stage,
        /// How it is run.
        to: Stage,
    },
    /// Change where its peers find a member.
    Advertise {
        /// Which one.
        member: usize,
        /// What was in the list.
        from: Names,
        /// What is in the list.
        to: Names,
    },
    /// Save a snapshot and an inventory.
    Save,
    /// Restore the snapshot into a member's new directory.
    Restore {
        /// Which one.
        member: usize,
    },
    /// Stop a member.
    Stop {
        /// Which one.
        member: usize,
        /// How it was run.
        stage: Stage,
    },
    /// Start a member, without waiting for anything.
    Start {
        /// Which one.
        member: usize,
        /// How it is run.
        stage: Stage,
    },
    /// Wait until all members are well, and compare what they hold with the inventory.
    Verify,
}

/// The steps of a change for members in this order, by their index.
pub fn steps(strategy: Strategy, to: Scheme, order: &[usize]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut each = |step: &dyn Fn(usize) -> Step| steps.extend(order.iter().map(|member| step(*member)));
    let restart = |from, to| move |member| Step::Restart { member, from, to };
    let advertise = |from, to| move |member| Step::Advertise { member, from, to };
    match (strategy, to) {
        // A member is found by https only once all others have certificates to call it with, so they get them first,
        // and its list has both URLs while it changes from one to the other.
        (Strategy::Rolling, Scheme::Https) => {
            each(&restart(Stage::Before, Stage::Both));
            each(&advertise(Names::Old, Names::Both));
            each(&restart(Stage::Both, Stage::After));
            each(&advertise(Names::Both, Names::New));
        }
        (Strategy::Rolling, Scheme::Http) => {
            each(&advertise(Names::Old, Names::Both));
            each(&restart(Stage::Before, Stage::Both));
            each(&advertise(Names::Both, Names::New));
            each(&restart(Stage::Both, Stage::After));
        }
        (Strategy::Snapshot, _) => {
            each(&restart(Stage::Before, Stage::FencedBefore));
            steps.push(Step::Save);
            let mut each =
                |step: &dyn Fn(usize) -> Step| steps.extend(order.iter().map(|member| step(*member)));
            each(&|member| Step::Restore { member });
            each(&|member| Step::Stop {
                member,
                stage: Stage::FencedBefore,
            });
            each(&|member| Step::Start {
                member,
                stage: Stage::FencedAfter,
            });
            steps.push(Step::Verify);
            steps.extend(
                order
                    .iter()
                    .map(|member| restart(Stage::FencedAfter, Stage::After)(*member)),
            );
        }
    }
    if to == Scheme::Https {
        steps.insert(0, Step::Certificates);
    }
    steps
}

impl Step {
    /// What takes it back; nothing for what only adds files, which stay.
    pub fn inverse(self) -> Option<Self> {
        match self {
            Self::Restart { member, from, to } => Some(Self::Restart {
                member,
                from: to,
                to: from,
            }),
            Self::Advertise { member, from, to } => Some(Self::Advertise {
                member,
                from: to,
                to: from,
            }),
            Self::Stop { member, stage } => Some(Self::Start { member, stage }),
            Self::Start { member, stage } => Some(Self::Stop { member, stage }),
            Self::Certificates | Self::Save | Self::Restore { .. } | Self::Verify => None,
        }
    }

    /// Whether clients may have written to what would be given up if it were taken back.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Restart {
                from: Stage::FencedAfter,
                to: Stage::After,
                ..
            }
        )
    }

    /// Whether clients of the old scheme are shut out by it.
    pub fn shuts_out(self) -> bool {
        matches!(
            self,
            Self::Restart {
                to: Stage::After | Stage::FencedBefore,
                ..
            }
        )
    }
}

impl Scheme {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Http => Self::Https,
            Self::Https => Self::Http,
        }
    }

    /// The scheme of a URL.
    pub fn of(url: &str) -> Option<Self> {
        match url.split_once("://")?.0 {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            _ => None,
        }
    }

    /// A URL with this scheme.
    pub fn apply(self, url: &str) -> String {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        format!("{self}://{rest}")
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rolling => "rolling",
            Self::Snapshot => "snapshot",
        })
    }
}
