//! Watches: one stream of etcd's after another, as one.
//!
//! A watch is read when it is polled and not otherwise, so a slow reader holds up etcd and not this process. No
//! task belongs to it: dropping it ends its stream.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::Status;

use super::client::WatchCall;
use super::status::{Verdict, verdict};
use super::txn::key_value;
use super::{Inner, as_i64, wire};
use crate::contract::{
    Error, Event, EventKind, KeyValue, Result, Revision, WatchBatch, WatchRequest, WatchStream,
};
use crate::state::{in_range, is_empty};

/// Progress that was asked for is asked for again after so long, and twice as long each time: a member does not
/// answer while it brings a watch up to date.
const ASK_AGAIN: Duration = Duration::from_millis(100);
const ASK_SELDOM: Duration = Duration::from_secs(1);
/// A member that has not answered after it was asked so often, which takes 10 seconds, is left. Questions are counted
/// and not seconds, since a watch that is not read hears no answers.
const PATIENCE: u32 = 12;
/// The pauses between attempts to start a stream again.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a closed store's watches may take to deliver what is known to have happened.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long etcd may take to say what it has compacted; it looks each 100 milliseconds.
const COMPACTED_WITHIN: Duration = Duration::from_secs(3);
/// The watch id of progress that was asked for.
const ALL_WATCHES: i64 = -1;

/// What a store tells its watches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signal {
    /// Watches that are behind this revision should find out how far they are.
    pub(super) target: Revision,
    /// Watches should end once they have come to `target`.
    pub(super) closed: bool,
}

/// Progress is being asked for.
#[derive(Clone, Copy, Debug)]
struct Asking {
    times: u32,
    next: Instant,
    pause: Duration,
}

/// A watch under way.
pub(super) struct Watching {
    inner: Arc<Inner>,
    start: Bytes,
    end: Bound<Bytes>,
    create: wire::WatchCreate,
    /// Every change before this revision has been delivered.
    next: Revision,
    call: Option<WatchCall>,
    /// Changes of a revision of which more may come.
    pending: Vec<Event>,
    signal: tokio::sync::watch::Receiver<Signal>,
    asking: Option<Asking>,
    closing: Option<Instant>,
    pause: Duration,
    /// Whether a token was fetched since something arrived.
    renewed: bool,
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching")
            .field("start", &self.start)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Watching {
    /// A watch that starts with the changes of `from`. It connects when it is first polled.
    pub(super) fn start(inner: Arc<Inner>, request: WatchRequest, from: Revision) -> Result<WatchStream> {
        let WatchRequest { start, end, .. } = request;
        // etcd refuses ranges that hold nothing; of those, nothing of what it says is delivered.
        let bound = if is_empty(&start, &end) {
            Bound::Included(start.clone())
        } else {
            end.clone()
        };
        let (key, range_end) = inner.root.their_range(&start, &bound)?;
        let create = wire::WatchCreate {
            key,
            range_end,
            start_revision: 0,
            progress_notify: true,
            prev_kv: true,
            fragment: true,
        };
        let watching = Self {
            start,
            end,
            create,
            next: from.max(1),
            call: None,
            pending: Vec::new(),
            signal: inner.signal.subscribe(),
            inner,
            asking: None,
            closing: None,
            pause: FIRST_PAUSE,
            renewed: false,
        };
        Ok(Box::pin(stream::unfold(Some(watching), |watching| async {
            let mut watching = watching?;
            match watching.next_batch().await {
                Ok(batch) => Some((Ok(batch), Some(watching))),
                Err(error) => Some((Err(error), None)),
            }
        })))
    }

    async fn next_batch(&mut self) -> Result<WatchBatch> {
        loop {
            let Signal { target, closed } = *self.signal.borrow_and_update();
            let now = Instant::now();
            let behind = target >= self.next;
            if closed {
                let end = *self.closing.get_or_insert(now + LAST_WORDS);
                if !behind || now >= end {
                    return Err(Error::Closed);
                }
            }
            let Some(call) = &mut self.call else {
                self.connect().await?;
                continue;
            };
            if !behind || !call.asks {
                self.asking = None;
            } else if self.asking.is_none() {
                self.asking = Some(Asking {
                    times: 0,
                    next: now,
                    pause: ASK_AGAIN,
                });
            }
            let ask_at = self.asking.map_or(now, |asking| asking.next);
            tokio::select! {
                biased;
                message = call.responses.message() => {
                    if let Some(batch) = self.take(message).await? {
                        return Ok(batch);
                    }
                }
                () = sleep_until(ask_at), if self.asking.is_some() => self.ask(),
                () = sleep_until(self.closing.unwrap_or(now)), if closed => {}
                // The sender lives as long as we do.
                _ = self.signal.changed() => {}
            }
        }
    }

    /// Starts a stream, or waits a little.
    async fn connect(&mut self) -> Result<()> {
        self.create.start_revision = as_i64(self.next);
        self.pending.clear();
        self.asking = None;
        match self.inner.client.watch(self.create.clone()).await {
            Ok(call) => self.call = Some(call),
            Err(failure) => {
                let verdict = verdict(&failure.status);
                if verdict == Verdict::Refused
                    || (verdict == Verdict::Login && !self.inner.client.can_log_in())
                {
                    return Err(failure.into());
                }
                tracing::debug!(member = failure.member, status = %failure.status, "cannot watch etcd, trying again");
                self.wait().await;
            }
        }
        Ok(())
    }

    async fn wait(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Asks how far the watch is, or gives the member up.
    fn ask(&mut self) {
        let (Some(asking), Some(call)) = (&mut self.asking, &mut self.call) else {
            return;
        };
        if asking.times >= PATIENCE {
            tracing::info!("a member of etcd does not say how far a watch is, asking another");
            self.inner.client.leave(call.member);
            self.call = None;
            return;
        }
        asking.times += 1;
        asking.next = Instant::now() + asking.pause;
        asking.pause = (asking.pause * 2).min(ASK_SELDOM);
        // A full queue holds the same question.
        let _ = call.requests.try_send(wire::WatchRequest {
            kind: Some(wire::watch_request::Kind::Progress(wire::Empty {})),
        });
    }

    /// The stream is of no use any more.
    async fn lost(&mut self, why: &str) {
        tracing::debug!(
            why,
            next = self.next,
            "a watch of etcd has ended, starting it again"
        );
        if let Some(call) = self.call.take() {
            self.inner.client.leave(call.member);
        }
        self.wait().await;
    }

    async fn take(
        &mut self,
        message: Result<Option<wire::WatchResponse>, Status>,
    ) -> Result<Option<WatchBatch>> {
        let response = match message {
            Ok(Some(response)) => response,
            Ok(None) => {
                self.lost("the stream has ended").await;
                return Ok(None);
            }
            Err(status) => {
                self.ended(status.message()).await?;
                return Ok(None);
            }
        };
        if response.compact_revision > 0 {
            let revision = u64::try_from(response.compact_revision).unwrap_or(0);
            self.inner.compacted_to(revision + 1);
            return Err(Error::Compacted {
                oldest: self.inner.oldest(),
            });
        }
        if response.canceled {
            self.ended(&response.cancel_reason).await?;
            return Ok(None);
        }
        self.pause = FIRST_PAUSE;
        self.renewed = false;
        let revision = self.inner.saw(response.header.as_ref());
        if response.created {
            return Ok(None);
        }
        if response.events.is_empty() {
            return Ok(self.progress(response.watch_id, revision));
        }
        self.events(response.events, response.fragment).await
    }

    /// etcd has ended the watch, or its stream, and said why.
    async fn ended(&mut self, why: &str) -> Result<()> {
        if why.contains("required revision has been compacted") {
            return Err(self.inner.compacted(self.next.saturating_sub(1)).await);
        }
        let denied = why.contains("permission denied");
        // Old versions say that a token that has expired may not read.
        if denied || why.contains("invalid auth token") || why.contains("revision of auth store is old") {
            if self.renewed && denied {
                return Err(Error::Io(format!(
                    "etcd: {why}: the user needs a role that may read {}",
                    self.create.key.escape_ascii()
                )));
            }
            self.renewed = true;
            self.call = None;
            if let Err(failure) = self.inner.client.renew_token().await {
                tracing::warn!(member = failure.member, status = %failure.status, "cannot log in to etcd");
                self.wait().await;
            }
            return Ok(());
        }
        self.lost(why).await;
        Ok(())
    }

    fn progress(&mut self, watch: i64, revision: Revision) -> Option<WatchBatch> {
        let asks = self.call.as_ref().is_some_and(|call| call.asks);
        // An answer to a question that was not ours to ask could have overtaken changes.
        if (watch == ALL_WATCHES && !asks) || revision < self.next || !self.pending.is_empty() {
            return None;
        }
        self.next = revision + 1;
        self.asking = None;
        Some(WatchBatch {
            events: Vec::new(),
            revision,
        })
    }

    async fn events(&mut self, events: Vec<wire::Event>, more: bool) -> Result<Option<WatchBatch>> {
        for event in events {
            match self.event(event) {
                Ok(Some(event)) => self.pending.push(event),
                Ok(None) => {}
                // What was there before has been compacted meanwhile.
                Err(revision) => return Err(self.inner.compacted(revision - 1).await),
            }
        }
        // Of the last revision of a fragment, more may be in the next one.
        let whole = match self.pending.last() {
            Some(last) if more => {
                let last = last.kv.mod_revision;
                self.pending.partition_point(|e| e.kv.mod_revision < last)
            }
            _ => self.pending.len(),
        };
        let rest = self.pending.split_off(whole);
        let events = std::mem::replace(&mut self.pending, rest);
        let Some(last) = events.last() else {
            return Ok(None);
        };
        let revision = last.kv.mod_revision;
        self.next = revision + 1;
        self.asking = None;
        Ok(Some(WatchBatch { events, revision }))
    }

    /// An event as the contract has it; `None` if it has been delivered, or is of no interest. The error is its
    /// revision, when etcd cannot say any more what was there before it.
    fn event(&self, event: wire::Event) -> Result<Option<Event>, Revision> {
        let Some(kv) = event.kv else { return Ok(None) };
        let root = &self.inner.root;
        let created = kv.create_revision == kv.mod_revision;
        let kv = key_value(root.ours(kv.key.clone()), kv);
        if kv.mod_revision < self.next || !in_range(&kv.key, &self.start, &self.end) {
            return Ok(None);
        }
        let prev = event.prev_kv.map(|prev| key_value(kv.key.clone(), prev));
        match (event.kind, prev) {
            (0, prev) if created || prev.is_some() => Ok(Some(Event {
                kind: EventKind::Put,
                kv,
                prev,
            })),
            (1, Some(prev)) => Ok(Some(Event {
                kind: EventKind::Delete,
                kv: KeyValue {
                    create_revision: prev.create_revision,
                    ..kv
                },
                prev: Some(prev),
            })),
            _ => Err(kv.mod_revision),
        }
    }
}

/// The revision to which etcd is compacted, given that it is: a watch from the beginning is refused with it.
pub(super) async fn compact_revision(inner: &Inner) -> Result<Revision> {
    let create = wire::WatchCreate {
        key: inner.root.health(),
        start_revision: 1,
        ..wire::WatchCreate::default()
    };
    let mut call = inner.client.watch(create).await?;
    let refused = async {
        loop {
            match call.responses.message().await {
                Ok(Some(response)) if response.compact_revision > 0 => {
                    return Ok(u64::try_from(response.compact_revision).unwrap_or(0));
                }
                Ok(Some(response)) if !response.canceled => {}
                Ok(Some(response)) => return Err(Error::Io(format!("etcd: {}", response.cancel_reason))),
                Ok(None) => return Err(Error::Io("etcd: the stream has ended".to_owned())),
                Err(status) => return Err(Error::Io(format!("etcd: {}", status.message()))),
            }
        }
    };
    match timeout(COMPACTED_WITHIN, refused).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Io("etcd: a compacted watch was not refused".to_owned())),
    }
}
