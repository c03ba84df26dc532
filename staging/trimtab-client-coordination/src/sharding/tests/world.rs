//! Members in processes of their own, whose work says what it does.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::clauses::{Act, Verdict, disjoint, exclusive};
use crate::sharding::partitions::Partitions;
use crate::sharding::{Held, Member, MemberConfig, Shards};
use crate::tests::{LeaseServer, Process, TIMING, skewed};

/// How often work does something.
const TICK: Duration = Duration::from_millis(100);
/// How often it does once it was told to end: several times in what a member leaves of its lease.
const LAST_TICK: Duration = Duration::from_millis(15);
/// The partitions that are worked on all the time.
pub(super) const WORKED_ON: [u8; 4] = [0, 63, 64, 255];

pub(super) const GRACE: Duration = Duration::from_secs(5);

/// How work behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// How long a piece of work takes, if it is not told to end.
    pub(super) lasts: Duration,
    /// How long it goes on once it is told to end.
    pub(super) lingers: Duration,
}

pub(super) struct Running {
    pub(super) process: Process,
    pub(super) stop: CancellationToken,
    pub(super) shards: Shards,
}

pub(super) struct World {
    pub(super) server: LeaseServer,
    pub(super) members: Vec<Running>,
    history: Arc<Mutex<Vec<Act>>>,
}

impl Manner {
    /// Takes a moment.
    pub(super) const GOOD: Self = Self {
        lasts: Duration::from_millis(150),
        lingers: Duration::ZERO,
    };
    /// Never ends.
    pub(super) const DEAF: Self = Self {
        lasts: Duration::from_secs(1_000_000),
        lingers: Duration::from_secs(1_000_000),
    };
}

pub(super) fn hash_in(partition: u8) -> u64 {
    u64::from(partition) << 56 | 7
}

pub(super) fn config(identity: &str) -> MemberConfig {
    MemberConfig {
        identity: identity.to_owned(),
        timing: TIMING,
        grace: GRACE,
        ..MemberConfig::new("group")
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            server: LeaseServer::new(),
            members: Vec::new(),
            history: Arc::default(),
        }
    }

    /// Starts a member whose clock is off by so many seconds.
    pub(super) fn start(&mut self, skew: i64, manner: Manner) -> usize {
        self.start_as(&format!("m{}", self.members.len()), skew, manner)
    }

    pub(super) fn start_as(&mut self, identity: &str, skew: i64, manner: Manner) -> usize {
        let who = self.members.len();
        let member = Member::new(self.server.client(who), config(identity)).expect("a valid member");
        let member = member.with_clock(skewed(skew));
        let (shards, stop) = (member.shards(), CancellationToken::new());
        let (history, stopped, of_work) = (Arc::clone(&self.history), stop.clone(), shards.clone());
        let process = Process::start(async move {
            let work = WORKED_ON.map(|partition| work_on(&history, &of_work, who, partition, manner));
            tokio::select! {
                biased;
                () = member.run(stopped) => {}
                _ = join_all(work) => {}
            }
        });
        self.members.push(Running {
            process,
            stop,
            shards,
        });
        who
    }

    /// Starts so many members and waits until all is settled.
    pub(super) async fn of(members: usize, manner: Manner) -> Self {
        let mut world = Self::new();
        for _ in 0..members {
            world.start(0, manner);
        }
        sleep(6 * TIMING.retry_period).await;
        world
    }

    /// What each member may work on now.
    pub(super) fn owned(&self) -> Vec<Partitions> {
        let owned = |shards: &Shards| {
            let owned = shards.owned();
            // Whether work may begin is the same for all that is owned.
            let may = owned
                .iter()
                .next()
                .is_some_and(|first| shards.owns(hash_in(first)));
            if may { owned } else { Partitions::NONE }
        };
        self.members.iter().map(|member| owned(&member.shards)).collect()
    }

    pub(super) fn check_now(&self) -> Verdict {
        disjoint(&self.owned())
    }

    pub(super) fn check(&self) -> Verdict {
        self.check_now()?;
        exclusive(&self.history.lock())
    }

    /// Who worked on a partition last.
    pub(super) fn last_on(&self, partition: u8) -> Option<(usize, Instant)> {
        let history = self.history.lock();
        let last = history.iter().rev().find(|act| act.partition == partition);
        last.map(|act| (act.who, act.at))
    }

    /// How many partitions each member owns.
    pub(super) fn shares(&self) -> Vec<usize> {
        self.owned().iter().map(Partitions::len).collect()
    }
}

/// Works on a partition whenever that may be.
async fn work_on(history: &Mutex<Vec<Act>>, shards: &Shards, who: usize, partition: u8, manner: Manner) {
    for work in 0.. {
        if let Some(held) = shards.hold(hash_in(partition)) {
            let act = || {
                let at = Instant::now();
                history.lock().push(Act {
                    at,
                    who,
                    work,
                    partition,
                });
            };
            let _ = held.run(work_once(&held, manner, act)).await;
        }
        sleep(LAST_TICK).await;
    }
}

async fn work_once(held: &Held, manner: Manner, act: impl Fn()) {
    let acts = async |tick| {
        loop {
            act();
            assert!(held.is_valid(), "work is not polled when it may not work");
            sleep(tick).await;
        }
    };
    tokio::select! {
        biased;
        () = held.stop().cancelled() => {}
        _ = timeout(manner.lasts, acts(TICK)) => return,
    }
    let _ = timeout(manner.lingers, acts(LAST_TICK)).await;
}
