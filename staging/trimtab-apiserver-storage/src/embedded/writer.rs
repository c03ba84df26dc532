//! The one thread that writes: it takes all transactions that wait, writes them with one sync, makes them
//! visible and answers them.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;
use redb::StorageBackend as _;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::engine::Engine;
use super::home::{Home, Known};
use super::medium::Medium;
use crate::contract::{DiskUse, Error, Op, Result, Revision, Txn, TxnResponse};
use crate::draft::Draft;
use crate::keeper::{Clock, Committer};
use crate::shared::Shared;
use crate::state::Garbage;

/// At most this many transactions, and about this many bytes, share a sync.
const BATCH_TXNS: usize = 1024;
const BATCH_BYTES: usize = 16 << 20;
/// At most this many rows of garbage are removed along with a batch.
const GARBAGE_ROWS: usize = 500;

/// A file so many times as long as what it holds is worth shortening.
const SPARSE: u64 = 4;

type Answer<T> = oneshot::Sender<Result<T>>;

enum Job {
    Txn(Txn, Answer<TxnResponse>),
    Compact(Revision, Answer<()>),
    Tidy(Answer<()>),
    Close(Option<Answer<()>>),
}

/// The way to the thread. Each job in the queue has someone who awaits its answer, so the queue is as long as
/// there are callers.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: UnboundedSender<Job>,
    medium: Medium,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread, which owns the engine and the directory that is to be let go with it.
    pub(super) fn spawn(
        engine: Engine,
        shared: Arc<Shared>,
        clock: Clock,
        garbage: Vec<Garbage>,
        home: Option<Home>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = unbounded_channel();
        let medium = engine.medium().clone();
        let mut worker = Worker {
            engine,
            shared,
            clock,
            garbage: garbage.into(),
            shortened: 0,
            compacted: true,
        };
        let thread = Builder::new().name("trimtab-store".to_owned()).spawn(move || {
            let closed = worker.run(queue);
            // The file and its lock are let go before anyone hears that the store is closed.
            let known = worker.shared.read(Known::of);
            worker.engine.settle(known.revision);
            drop(worker);
            if let Some(home) = home
                && let Err(error) = home.closed_at(known)
            {
                tracing::warn!(%error, "cannot record at which revision the store was closed");
            }
            if let Some(answer) = closed {
                drop(answer.send(Ok(())));
            }
        })?;
        Ok(Self {
            jobs,
            medium,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// How long the file is, in bytes, and what has been done to the disk.
    pub(super) fn disk_use(&self) -> (Option<u64>, DiskUse) {
        (self.medium.len().ok(), self.medium.done())
    }

    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T> {
        let (answer, response) = oneshot::channel();
        self.jobs.send(job(answer)).map_err(|_| Error::Closed)?;
        response.await.map_err(|_| Error::Closed)?
    }

    /// Does now what is otherwise done when no job waits.
    pub(super) async fn tidy(&self) -> Result<()> {
        self.ask(Job::Tidy).await
    }

    /// Closes the file, waiting for what is under way; for when there is nobody left to await it.
    pub(super) fn stop(&self) {
        drop(self.jobs.send(Job::Close(None)));
        if let Some(thread) = self.thread.lock().take() {
            drop(thread.join());
        }
    }
}

#[async_trait::async_trait]
impl Committer for Writer {
    async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.ask(|answer| Job::Txn(txn, answer)).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.ask(|answer| Job::Compact(revision, answer)).await
    }

    async fn close(&self) -> Result<()> {
        match self.ask(|answer| Job::Close(Some(answer))).await {
            Err(Error::Closed) => Ok(()),
            other => other,
        }
    }
}

struct Worker {
    engine: Engine,
    shared: Arc<Shared>,
    clock: Clock,
    /// Rows that are to be removed when there is time, in this order: of a key that was deleted, the deletion must not go
    /// before what it has deleted, or that would be found again after a crash in between.
    garbage: VecDeque<Garbage>,
    /// The length that the file had after it was last shortened.
    shortened: u64,
    /// Whether something has been compacted since the length was last looked at.
    compacted: bool,
}

impl Worker {
    /// Works until told to close; answers with who wants to know that it is done.
    fn run(&mut self, mut queue: UnboundedReceiver<Job>) -> Option<Answer<()>> {
        loop {
            let job = match queue.try_recv() {
                Ok(job) => Some(job),
                Err(_) if self.collect_garbage() => continue,
                Err(_) if self.defragment() => continue,
                Err(_) => queue.blocking_recv(),
            };
            match job {
                None => return None,
                Some(Job::Txn(txn, answer)) => {
                    if let Some(next) = self.batch(txn, answer, &mut queue)
                        && let ControlFlow::Break(closed) = self.job(next)
                    {
                        return closed;
                    }
                }
                Some(job) => {
                    if let ControlFlow::Break(closed) = self.job(job) {
                        return closed;
                    }
                }
            }
        }
    }

    /// Does a job that shares nothing with others; breaks off, with whom to tell, when it is the last one.
    fn job(&mut self, job: Job) -> ControlFlow<Option<Answer<()>>> {
        match job {
            Job::Close(answer) => return ControlFlow::Break(answer),
            Job::Compact(revision, answer) => drop(answer.send(self.compact(revision))),
            Job::Tidy(answer) => {
                while self.collect_garbage() {}
                self.defragment();
                let done = self.garbage.is_empty() && !self.compacted;
                let failed = || Error::Io("what was compacted cannot be removed now".to_owned());
                drop(answer.send(done.then_some(()).ok_or_else(failed)));
            }
            Job::Txn(..) => {} // those are done in batches
        }
        ControlFlow::Continue(())
    }

    /// Does a transaction and those that wait behind it; answers with the job that ended the batch, if one did.
    fn batch(
        &mut self,
        txn: Txn,
        answer: Answer<TxnResponse>,
        queue: &mut UnboundedReceiver<Job>,
    ) -> Option<Job> {
        let mut draft = Draft::default();
        let mut answers = Vec::new();
        let mut bytes = 0;
        let mut next = Some(Job::Txn(txn, answer));
        let current = self.shared.read(|state| {
            while let Some(Job::Txn(txn, answer)) = next.take_if(|job| matches!(job, Job::Txn(..))) {
                bytes += size(&txn);
                answers.push((answer, draft.txn(state, txn, self.clock.now())));
                if answers.len() >= BATCH_TXNS || bytes >= BATCH_BYTES {
                    break;
                }
                next = queue.try_recv().ok();
            }
            state.revision()
        });
        match self.write(current, &draft) {
            Ok(()) => {
                self.shared.publish(draft.commits);
                answers
                    .into_iter()
                    .for_each(|(answer, response)| drop(answer.send(Ok(response))));
            }
            Err(error) => {
                tracing::error!(%error, transactions = answers.len(), "cannot write");
                answers
                    .into_iter()
                    .for_each(|(answer, _)| drop(answer.send(Err(copy(&error)))));
            }
        }
        next
    }

    fn write(&mut self, current: Revision, draft: &Draft) -> Result<()> {
        if draft.commits.is_empty() {
            return Ok(());
        }
        let some = self.garbage.len().min(GARBAGE_ROWS);
        let garbage = &self.garbage.make_contiguous()[..some];
        self.engine.write(current, &draft.commits, garbage)?;
        self.garbage.drain(..some);
        Ok(())
    }

    fn compact(&mut self, revision: Revision) -> Result<()> {
        let current = self
            .shared
            .read(|state| state.can_compact(revision).map(|()| state.revision()))?;
        self.engine.set_oldest(current, revision)?;
        let garbage = self.shared.write(|state| state.compact(revision))?;
        self.garbage.extend(garbage);
        self.compacted = true;
        Ok(())
    }

    /// Shortens the file when most of it is empty; answers with whether it did.
    fn defragment(&mut self) -> bool {
        if !self.compacted || !self.garbage.is_empty() {
            return false;
        }
        self.compacted = false;
        let len = self.engine.len().unwrap_or(0);
        // What could not be shortened more is left alone until it has grown again.
        if len <= self.shared.config.defragment_from || len < self.shortened.saturating_mul(2) {
            return false;
        }
        let (current, bytes) = self.shared.read(|state| (state.revision(), state.bytes()));
        if len / SPARSE < bytes {
            return false;
        }
        match self.engine.defragment(current) {
            Ok(()) => {
                self.shortened = self.engine.len().unwrap_or(0);
                tracing::info!(from = len, to = self.shortened, "shortened the store's file");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "cannot shorten the store's file");
                false
            }
        }
    }

    /// Removes some garbage; answers with whether it did.
    fn collect_garbage(&mut self) -> bool {
        if self.garbage.is_empty() {
            return false;
        }
        let current = self.shared.read(|state| state.revision());
        let some = self.garbage.len().min(GARBAGE_ROWS);
        let garbage = &self.garbage.make_contiguous()[..some];
        let removed = self.engine.write(current, &[], garbage);
        if let Err(error) = &removed {
            // None is forgotten, since later ones may hide it; it is tried again after the next job.
            tracing::warn!(%error, "cannot remove compacted revisions");
        } else {
            self.garbage.drain(..some);
        }
        removed.is_ok()
    }
}

fn size(txn: &Txn) -> usize {
    let ops = txn.success.iter().chain(&txn.failure);
    ops.map(|op| {
        if let Op::Put { value, .. } = op {
            value.len()
        } else {
            0
        }
    })
    .sum()
}

/// The same error for each of those who shared a write.
fn copy(error: &Error) -> Error {
    match error {
        Error::Full(text) => Error::Full(text.clone()),
        Error::Corrupt { path, why } => Error::Corrupt {
            path: path.clone(),
            why: why.clone(),
        },
        Error::Closed => Error::Closed,
        other => Error::Io(other.to_string()),
    }
}
