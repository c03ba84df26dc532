//! The processes of the controller under test: started, killed, started again.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::Client;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::journal::What;
use crate::wire::{Order, Shared, Wire};

/// How often processes may end by themselves; who started them would start them again, later and later.
const MOST_ENDS: usize = 5;
/// When a process that has ended by itself is started again.
const AGAIN: Duration = Duration::from_secs(10);

/// Starts the controller with a client; it runs until it is told to stop, or dropped.
pub(crate) type Controller =
    Arc<dyn Fn(Client, CancellationToken) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// All processes of a run. Those that run are killed with it.
pub(crate) struct Processes {
    controller: Controller,
    shared: Shared,
    running: Vec<Process>,
    started: u32,
    ends: Vec<String>,
}

struct Process {
    number: u32,
    dead: CancellationToken,
    task: JoinHandle<()>,
}

impl Processes {
    pub(crate) fn new(controller: Controller, shared: Shared) -> Self {
        Self {
            controller,
            shared,
            running: Vec::new(),
            started: 0,
            ends: Vec::new(),
        }
    }

    /// Does what it is told. Returns when that makes no sense any more, with why.
    pub(crate) async fn run(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> String {
        self.start(None);
        loop {
            // The sender is in `self`.
            let Some(order) = orders.recv().await else {
                return "nobody gives orders".to_owned();
            };
            match order {
                Order::Enough => return "Quiet: it asks and asks without a pause".to_owned(),
                Order::Start { view } => self.start(view),
                Order::Kill(process) => self.kill(process),
                Order::Replace { process, down, view } => {
                    self.kill(process);
                    self.start_after(down, view);
                }
                Order::Ended { process, why } => {
                    self.shared
                        .note(process, What::Life(format!("ended by itself: {why}")));
                    self.running.retain(|running| running.number != process);
                    self.ends.push(why);
                    if self.ends.len() > MOST_ENDS {
                        let whys = self.ends.join("; ");
                        return format!("Lives: processes end by themselves again and again: {whys}");
                    }
                    self.start_after(AGAIN, None);
                }
            }
        }
    }

    fn start(&mut self, view: Option<u64>) {
        self.started += 1;
        let number = self.started;
        let as_of = view.map_or(String::new(), |view| {
            format!(", and sees what was at version {view}")
        });
        self.shared.note(number, What::Life(format!("starts{as_of}")));
        let wire = Wire::new(self.shared.clone(), number, view);
        let dead = wire.dead.clone();
        // Nobody tells it to stop: what dies is not told.
        let runs = (self.controller)(wire.client(), CancellationToken::new());
        let inner = tokio::spawn(runs);
        let shared = self.shared.clone();
        let ended = dead.clone();
        let task = tokio::spawn(async move {
            let abort = AbortOnDrop(inner.abort_handle());
            let why = match inner.await {
                Ok(Ok(())) => "without an error".to_owned(),
                Ok(Err(error)) => error,
                Err(panicked) => panicked.to_string(),
            };
            drop(abort);
            if !ended.is_cancelled() {
                shared.order(Order::Ended { process: number, why });
            }
        });
        self.running.push(Process { number, dead, task });
    }

    fn start_after(&self, pause: Duration, view: Option<u64>) {
        let shared = self.shared.clone();
        tokio::spawn(async move {
            sleep(pause).await;
            shared.order(Order::Start { view });
        });
    }

    fn kill(&mut self, number: u32) {
        if let Some(at) = self.running.iter().position(|process| process.number == number) {
            self.shared.note(number, What::Life("is killed".to_owned()));
            self.running.remove(at).kill();
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.running.drain(..).for_each(Process::kill);
    }
}

impl Process {
    /// Its tasks get no answer any more, those that it has set free too.
    fn kill(self) {
        self.dead.cancel();
        self.task.abort();
    }
}

/// Aborts the controller with the task that waits for it.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
