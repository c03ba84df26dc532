//! The processes of a program: started, killed in the middle of their work, stopped, and deposed.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, DeleteParams};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::Layer;
use trimtab::client::leader::ElectionConfig;
use trimtab::controller::Part;
use trimtab::prelude::*;

use super::faults::{Faults, Fuse};
use crate::kit::ledger::{Entry, Ledger};
use crate::kit::scenario::Scenario;
use crate::kit::transport;

/// The Lease by which replicas agree.
const LEASE: &str = "program";
/// Less often than by default, which is enough of it for hours.
const RETRY_PERIOD: Duration = Duration::from_secs(5);
/// For how long a leader that cannot renew its Lease takes itself for one; the default.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How long a process may take to stop: the manager's grace for each of its stages, and a little.
const STOPPED_WITHIN: Duration = Duration::from_secs(120);

/// All processes of a run.
pub(super) struct Processes<'a, S> {
    scenario: &'a S,
    client: Client,
    faults: Faults,
    ledger: Ledger,
    terms: Terms,
    elected: bool,
    replicas: Vec<Process>,
    /// How many have been started.
    started: usize,
}

struct Process {
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
    fuse: Fuse,
}

/// When who began to lead; clones are the same.
#[derive(Clone, Default)]
struct Terms(Arc<Mutex<Vec<(Instant, String)>>>);

impl<'a, S: Scenario> Processes<'a, S> {
    /// Starts so many replicas, which elect one of them if there are several.
    pub(super) fn start(scenario: &'a S, client: Client, faults: &Faults, replicas: usize) -> Self {
        let mut processes = Self {
            scenario,
            client,
            faults: faults.clone(),
            ledger: Ledger::default(),
            terms: Terms::default(),
            elected: replicas > 1,
            replicas: Vec::new(),
            started: 0,
        };
        for _ in 0..replicas {
            let process = processes.process();
            processes.replicas.push(process);
        }
        processes
    }

    /// Starts a process.
    fn process(&mut self) -> Process {
        self.started += 1;
        let who = format!("process {}", self.started);
        let (way, fuse) = self.faults.way();
        let transport = way.layer(transport::of(self.client.clone()));
        let client = transport::client(self.ledger.of(&who).layer(transport));
        let mut manager = self.scenario.manager(client).expect("a good description");
        if self.elected {
            let mut election = ElectionConfig::new(LEASE);
            election.identity.clone_from(&who);
            election.timing.retry_period = RETRY_PERIOD;
            election.timing.renew_deadline = RENEW_DEADLINE;
            manager = manager.elected(election);
        }
        let terms = self.terms.clone();
        let led = Part::leading("terms", move |lead| {
            terms.0.lock().push((Instant::now(), who.clone()));
            async move {
                lead.stop().cancelled().await;
                Ok::<_, std::convert::Infallible>(())
            }
        });
        manager.part(led).expect("a name of its own");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        Process {
            stop,
            task: tokio::spawn(async move { manager.run(stopped).await }),
            fuse,
        }
    }

    /// Ends processes and starts others in their place, until `end`.
    pub(super) async fn kill(&mut self, mut rng: Rng, end: &CancellationToken) {
        let pause = |rng: &mut Rng| sleep(Duration::from_millis(rng.u64(..6000)));
        while end.run_until_cancelled(pause(&mut rng)).await.is_some() {
            let replica = rng.usize(..self.replicas.len());
            let process = &mut self.replicas[replica];
            if rng.u8(..4) == 0 {
                match process.stop().await {
                    Ok(()) | Err(Error::CutOff(_)) => {}
                    Err(error) => panic!("a process did not stop as it should: {error}"),
                }
            } else {
                process.die(&mut rng).await;
            }
            pause(&mut rng).await;
            self.replicas[replica] = self.process();
        }
    }

    /// Stops all of them.
    pub(super) async fn stop(&mut self) -> Result<()> {
        for process in &mut self.replicas {
            process.stop().await?;
        }
        Ok(())
    }

    /// What has been written.
    pub(super) fn writes(&self) -> Vec<Entry> {
        self.ledger.writes()
    }

    /// *Single*: who writes is who has begun to lead last. A leader whose Lease was deleted cannot know before it renews it, so it
    /// may write for so long.
    pub(super) fn single(&self, deletions: &[Instant]) -> Result<(), String> {
        for write in self.ledger.writes() {
            let unaware = deletions
                .iter()
                .filter(|at| (**at..=**at + RENEW_DEADLINE).contains(&write.at));
            let mut leaders = unaware.chain([&write.at]).flat_map(|at| self.terms.leaders(*at));
            if !leaders.any(|who| who == write.who) {
                return Err(format!("Single: {write:?} though others led"));
            }
        }
        Ok(())
    }
}

impl Terms {
    /// Who led at that time: the last to begin before it, and who began just then.
    fn leaders(&self, at: Instant) -> Vec<String> {
        let terms = self.0.lock();
        let before = terms.iter().rfind(|(from, _)| *from < at);
        let just_then = terms.iter().filter(|(from, _)| *from == at);
        before
            .into_iter()
            .chain(just_then)
            .map(|(_, who)| who.clone())
            .collect()
    }
}

impl Process {
    /// Dies in the middle of its work, if it has any.
    async fn die(&mut self, rng: &mut Rng) {
        let busy = self.fuse.after(rng.u32(1..20));
        let _or_idle = timeout(Duration::from_secs(5), busy.cancelled()).await;
        sleep(Duration::from_millis(rng.u64(..10))).await;
        self.task.abort();
        if let Ok(ended) = (&mut self.task).await {
            panic!("a process ended by itself: {ended:?}");
        }
    }

    /// Stops as it is told to.
    async fn stop(&mut self) -> Result<()> {
        assert!(!self.task.is_finished(), "a process ended by itself");
        self.stop.cancel();
        let ended = timeout(STOPPED_WITHIN, &mut self.task).await;
        ended.expect("a process stops in time").expect("no panic")
    }
}

/// Takes the Lease away from under its holder, or the permission to write it, until `end`. Returns when it was deleted.
pub(super) async fn depose(
    client: Client,
    faults: &Faults,
    mut rng: Rng,
    end: &CancellationToken,
) -> Vec<Instant> {
    let mut deletions = Vec::new();
    let leases = Api::<Lease>::default_namespaced(client);
    let pause = |rng: &mut Rng| sleep(Duration::from_millis(rng.u64(..20_000)));
    while end.run_until_cancelled(pause(&mut rng)).await.is_some() {
        if rng.bool() {
            deletions.push(Instant::now());
            match leases.delete(LEASE, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                deleted => drop(deleted.expect("the test may delete it")),
            }
        } else {
            faults.refuse_leases(true);
            pause(&mut rng).await;
            faults.refuse_leases(false);
        }
    }
    deletions
}
