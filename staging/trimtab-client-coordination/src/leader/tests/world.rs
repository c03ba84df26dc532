//! Candidates in processes of their own, with work that says what it does.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::clauses::{Event, History};
use crate::leader::{ElectionConfig, Elector, Leadership, StatusHandle};
use crate::tests::{LeaseServer, Process, TIMING, skewed};

pub(super) const LEASE: &str = "election";
/// How often work does something: several times in what a holder leaves of its lease.
pub(super) const TICK: Duration = Duration::from_millis(10);

pub(super) const GRACE: Duration = Duration::from_secs(10);

/// How work behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// How long it goes on once it is told to end.
    pub(super) lingers: Duration,
    /// When it ends without being told.
    pub(super) lasts: Duration,
}

pub(super) struct Candidate {
    pub(super) process: Process,
    pub(super) stop: CancellationToken,
    pub(super) status: StatusHandle,
}

pub(super) struct World {
    pub(super) server: LeaseServer,
    pub(super) candidates: Vec<Candidate>,
    history: Log,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Instant, Event)>>>);

impl Manner {
    /// Ends at once when it is told to, and not before.
    pub(super) const GOOD: Self = Self {
        lingers: Duration::ZERO,
        lasts: Duration::from_secs(1_000_000),
    };
    /// Never ends.
    pub(super) const DEAF: Self = Self {
        lingers: Duration::from_secs(1_000_000),
        ..Self::GOOD
    };
}

impl World {
    pub(super) fn new() -> Self {
        let history = Log::default();
        let log = history.clone();
        let server = LeaseServer::listened_by(move |written| {
            let spec = written.lease.and_then(|lease| lease.spec);
            if spec.is_some_and(|spec| spec.holder_identity.is_none()) {
                log.push(Event::Released { who: written.by });
            }
        });
        Self {
            server,
            candidates: Vec::new(),
            history,
        }
    }

    /// Starts a candidate whose clock is off by so many seconds.
    pub(super) fn start(&mut self, skew: i64, manner: Manner) -> usize {
        self.start_as(&format!("candidate-{}", self.candidates.len()), skew, manner)
    }

    pub(super) fn start_as(&mut self, identity: &str, skew: i64, manner: Manner) -> usize {
        let who = self.candidates.len();
        let config = ElectionConfig {
            identity: identity.to_owned(),
            timing: TIMING,
            grace: GRACE,
            ..ElectionConfig::new(LEASE)
        };
        let elector = Elector::new(self.server.client(who), config).expect("a valid election");
        let mut elector = elector.with_clock(skewed(skew));
        let (status, stop) = (elector.status(), CancellationToken::new());
        let (log, stopped) = (self.history.clone(), stop.clone());
        let process = Process::start(async move {
            let work_log = log.clone();
            let lead = |leadership| work(work_log.clone(), who, manner, leadership);
            elector.run(stopped, lead).await;
            log.push(Event::Gone { who });
        });
        self.candidates.push(Candidate {
            process,
            stop,
            status,
        });
        who
    }

    pub(super) fn history(&self) -> Vec<(Instant, Event)> {
        self.history.0.lock().clone()
    }

    pub(super) fn checked(&self, check: impl FnOnce(&History) -> Result<(), String>) {
        assert_eq!(check(&self.history()), Ok(()));
    }

    /// Who works, if the last that was heard is work.
    pub(super) fn leader(&self) -> Option<usize> {
        let history = self.history.0.lock();
        let last = history
            .iter()
            .rev()
            .find(|(_, event)| !matches!(event, Event::Released { .. } | Event::Gone { .. }));
        match last {
            Some((_, Event::Begin { who, .. } | Event::Act { who, .. })) => Some(*who),
            _ => None,
        }
    }

    /// What is told of a candidate, acts left out.
    pub(super) fn told_of(&self, who: usize) -> Vec<&'static str> {
        let history = self.history.0.lock();
        let told = history.iter().filter_map(|(_, event)| match event {
            Event::Begin { who, .. } => Some((*who, "begin")),
            Event::End { who, .. } => Some((*who, "end")),
            Event::Released { who } => Some((*who, "released")),
            Event::Gone { who } => Some((*who, "gone")),
            Event::Act { .. } => None,
        });
        told.filter(|(of, _)| *of == who).map(|(_, what)| what).collect()
    }
}

impl Log {
    fn push(&self, event: Event) {
        self.0.lock().push((Instant::now(), event));
    }
}

/// Says when work ends, however it does.
struct Ends(Log, Event);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.push(self.1.clone());
    }
}

async fn work(log: Log, who: usize, manner: Manner, leadership: Leadership) {
    let token = leadership.fencing_token();
    log.push(Event::Begin { who, token });
    let _ends = Ends(log.clone(), Event::End { who, token });
    let act = async || {
        loop {
            log.push(Event::Act { who, token });
            assert!(leadership.is_valid(), "work is not polled when it may not work");
            sleep(TICK).await;
        }
    };
    tokio::select! {
        biased;
        () = leadership.stop().cancelled() => {}
        _ = timeout(manner.lasts, act()) => return,
    }
    let _ = timeout(manner.lingers, act()).await;
}
