//! The bodies of answers, as they arrive.

use std::collections::VecDeque;
use std::io;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use kube::client::Body;
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::Faults;
use super::ask::{Ask, Kind};
use super::memory::{OldList, at_version, has, version_of};
use super::refusal::failure;
use crate::history::{Wire, lock};

const INITIAL_EVENTS_END: &str = "\"k8s.io/initial-events-end\":\"true\"";

/// How a body ends after what is still to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// As if it were complete.
    Ended,
    /// With an error.
    Cut,
    /// Never.
    Stalled,
}

impl From<Ending> for Wire {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Ended => Self::Ended,
            Ending::Cut => Self::Cut,
            Ending::Stalled => Self::Stalled,
        }
    }
}

/// A piece of a body; after the last piece of a list nothing comes for a moment.
struct Piece {
    bytes: Bytes,
    ends_list: bool,
}

/// A body on its way to an informer.
pub(super) struct Tap {
    faults: Faults,
    pieces: VecDeque<Piece>,
    /// What comes after the pieces, unless there is more of the stream.
    ending: Option<Ending>,
    stream: Option<Stream>,
}

/// A watch under way.
struct Stream {
    ask: Ask,
    lines: Lines,
    cut: broadcast::Receiver<()>,
    /// The lines of the initial list, until it is complete.
    listing: Option<Vec<Bytes>>,
    /// The version of the line that was delivered last.
    version: u64,
}

/// The lines of a body.
struct Lines {
    body: Body,
    begun: BytesMut,
}

impl Tap {
    /// Delivers this, then ends.
    pub(super) fn of_whole(faults: Faults, body: Bytes) -> Self {
        Self::of_part(faults, body, Ending::Ended)
    }

    /// Delivers this, which is not all, then ends in some way.
    pub(super) fn of_part(faults: Faults, body: Bytes, ending: Ending) -> Self {
        let mut tap = Self {
            faults,
            pieces: VecDeque::new(),
            ending: Some(ending),
            stream: None,
        };
        tap.put(body, false);
        tap
    }

    /// Delivers a stream. A watch may begin with what has been delivered before.
    pub(super) fn of_stream(faults: Faults, ask: Ask, body: Body) -> Self {
        let (kind, version) = (ask.kind, ask.version);
        let mut tap = Self {
            pieces: VecDeque::new(),
            ending: None,
            stream: Some(Stream {
                lines: Lines {
                    body,
                    begun: BytesMut::new(),
                },
                cut: faults.0.control.cut.subscribe(),
                listing: (kind == Kind::StreamedList).then(Vec::new),
                version,
                ask,
            }),
            faults,
        };
        if kind == Kind::Watch && tap.faults.happens(tap.faults.0.weather.begins_again) {
            tap.repeat();
        }
        tap
    }

    /// Delivers a streamed list of the past, and then what has happened since.
    pub(super) fn of_old_list(faults: Faults, ask: Ask, old: OldList, since: Body) -> Self {
        let mut tap = Self::of_stream(faults, ask, since);
        for line in old.lines {
            let ends_list = has(&line, INITIAL_EVENTS_END);
            tap.put(line, ends_list);
        }
        if let Some(stream) = &mut tap.stream {
            stream.listing = None;
            stream.version = old.version;
        }
        tap
    }

    pub(super) fn into_body(self) -> StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>> {
        let frames = stream::unfold(self, |mut tap| async move {
            let next = tap.next().await?;
            Some((next.map(Frame::data), tap))
        });
        StreamBody::new(frames.boxed())
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                self.faults.open().await;
                if piece.ends_list {
                    self.faults.close();
                }
                return Some(Ok(piece.bytes));
            }
            match self.ending {
                Some(Ending::Ended) => {
                    self.faults.open().await;
                    // The list is taken when its body has ended.
                    self.faults.close();
                    return None;
                }
                Some(Ending::Cut) => {
                    self.ending = Some(Ending::Ended);
                    return Some(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Some(Ending::Stalled) => std::future::pending().await,
                None => self.read().await,
            }
        }
    }

    /// Puts a line, with its end, or a part of one, into pieces.
    fn put(&mut self, bytes: Bytes, ends_list: bool) {
        let cuts = match self.faults.happens(self.faults.0.weather.pieces) {
            true => self.faults.roll(|rng| rng.usize(1..4)),
            false => 0,
        };
        let mut rest = bytes;
        for _ in 0..cuts {
            let at = self.faults.roll(|rng| rng.usize(..=rest.len()));
            let bytes = rest.split_to(at);
            self.pieces.push_back(Piece {
                bytes,
                ends_list: false,
            });
        }
        self.pieces.push_back(Piece {
            bytes: rest,
            ends_list,
        });
    }

    /// Delivers lines again that were delivered before, as one piece.
    fn repeat(&mut self) {
        let Some(stream) = &self.stream else { return };
        let memory = &self.faults.0.memory;
        let old = self
            .faults
            .roll(|rng| lock(memory).old_lines(&stream.ask.path, stream.version, rng));
        if !old.is_empty() {
            self.faults.note(
                Wire::Again,
                format!("{} lines, not after {}", old.len(), stream.version),
            );
            self.put(Bytes::from(old.concat()), false);
        }
    }

    fn end(&mut self, ending: Ending, wire: Wire) {
        self.faults.note(wire, "");
        self.ending = Some(ending);
        self.stream = None;
    }

    /// Reads the next line and decides what becomes of it.
    async fn read(&mut self) {
        let Some(stream) = &mut self.stream else {
            return self.ending = Some(Ending::Ended);
        };
        let line = tokio::select! {
            biased;
            _ = stream.cut.recv() => {
                if self.faults.happens(0.8) {
                    self.end(Ending::Cut, Wire::Cut);
                }
                return;
            }
            line = stream.lines.next() => line,
        };
        let Some(line) = line else {
            return self.end(Ending::Ended, Wire::EndedByServer);
        };
        let weather = self.faults.0.weather.clone();
        self.faults.delayed(weather.delayed).await;
        for (chance, ending) in weather.endings() {
            if self.faults.happens(chance) {
                // Between two lines, or in the middle of one.
                let half = self.faults.roll(|rng| rng.usize(..=line.len()));
                self.put(line.slice(..half), false);
                return self.end(ending, ending.into());
            }
        }
        if self.faults.happens(weather.error_event) {
            self.put(self.error_line(), false);
            return self.end(Ending::Ended, Wire::ErrorEvent);
        }
        self.deliver(line).await;
        if self
            .stream
            .as_ref()
            .is_some_and(|stream| stream.listing.is_none())
            && self.faults.happens(weather.again)
        {
            self.repeat();
        }
    }

    async fn deliver(&mut self, mut line: Bytes) {
        let Some(stream) = &mut self.stream else { return };
        let ends_list = stream.listing.is_some() && has(&line, INITIAL_EVENTS_END);
        if ends_list && self.faults.happens(self.faults.0.weather.grows) {
            line = self.grow(line).await;
        }
        let Some(stream) = &mut self.stream else { return };
        let version = version_of(&line).unwrap_or_default();
        match &mut stream.listing {
            Some(lines) => lines.push(line.clone()),
            None => {
                stream.version = version;
                lock(&self.faults.0.memory).remember_line(&stream.ask.path, version, line.clone());
            }
        }
        if ends_list {
            stream.version = version;
            let lines = stream.listing.take().unwrap_or_default();
            lock(&self.faults.0.memory).remember_stream(&stream.ask, OldList { version, lines });
        }
        self.put(line, ends_list);
    }

    /// Holds back the end of a list for what happens meanwhile, which then belongs to the list.
    async fn grow(&mut self, end: Bytes) -> Bytes {
        let patience = self.faults.0.pace.short * 4;
        let (mut more, mut version) = (Vec::new(), None);
        if let Some(stream) = &mut self.stream {
            let listing = async {
                while more.len() < 3
                    && let Some(line) = stream.lines.next().await
                {
                    // Nothing is lost with a bookmark.
                    if !line.starts_with(b"{\"type\":\"BOOKMARK\"") {
                        version = version_of(&line).or(version);
                        more.push(line);
                    }
                }
            };
            // What has been read of a line stays where it is.
            let _in_time = timeout(patience, listing).await;
            stream
                .listing
                .iter_mut()
                .for_each(|lines| lines.extend(more.iter().cloned()));
        }
        if let Some(version) = version {
            self.faults
                .note(Wire::Grown, format!("by {} to {version}", more.len()));
        }
        more.into_iter().for_each(|line| self.put(line, false));
        version.map_or(end.clone(), |version| at_version(&end, version))
    }

    fn error_line(&self) -> Bytes {
        let (code, reason) = self.faults.roll(|rng| {
            [
                (410, "Expired"),
                (410, "Gone"),
                (429, "TooManyRequests"),
                (500, "InternalError"),
                (504, "Timeout"),
            ][rng.usize(..5)]
        });
        let status = failure(code, reason, "as a test wishes");
        Bytes::from(format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n"))
    }
}

impl Lines {
    /// The next line, with its end. Cancelling loses nothing.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                return Some(self.begun.split_to(end + 1).freeze());
            }
            // A stream that breaks on its own is told as one that ends: the informer resumes either.
            let data = self.body.frame().await?.ok()?.into_data();
            self.begun.extend_from_slice(&data.unwrap_or_default());
        }
    }
}
