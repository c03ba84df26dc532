//! What is between a process and the API server: a network, and a server that has much to do.
//!
//! Everything that happens here, a real API server or what is before it does to real clients. Calls come late, are refused
//! for a while, are done though nobody is told, or get lost. Watches lag, are cut, begin anew from a list, and say again what
//! they have said; but what one watch tells, it tells in the order in which it happened, and it leaves nothing out before it
//! ends.

mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::util::BoxCloneService;
use tower::{BoxError, Layer, ServiceExt};

use crate::kit::transport::{Answer, Transport};

/// How long a client waits for an answer before it takes the connection for dead.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// What goes wrong in one run, for all of its processes; clones are the same.
#[derive(Clone)]
pub(super) struct Faults(Arc<Mutex<State>>);

struct State {
    rng: Rng,
    calls: bool,
    watches: bool,
    leases_refused: bool,
}

/// A process's own way to the server.
pub(super) struct Way {
    faults: Faults,
    fuse: Fuse,
}

/// Tells when a process has made a number of calls, so that it can be killed in the middle of its work.
#[derive(Clone, Default)]
pub(super) struct Fuse(Arc<Mutex<Option<(u32, CancellationToken)>>>);

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is done, and takes as long.
    Done(Duration),
    /// It is not done, and the server says so.
    Refused(Refusal),
    /// It is done, and the server says that it does not know.
    DoneUnsure,
    /// It is done, and the answer gets lost.
    DoneUnanswered,
    /// It gets lost.
    Lost,
    /// It is done so long after it was sent, when the client has given up.
    DoneLate(Duration),
}

/// An answer by which nothing is done.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    TooMany { seconds: u64 },
    Internal,
    Unavailable,
    Conflict,
    Expired,
}

impl Faults {
    /// Calls go wrong, or watches do, as chance has it.
    pub(super) fn new(rng: Rng, calls: bool, watches: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng,
            calls,
            watches,
            leases_refused: false,
        })))
    }

    /// The way of a new process.
    pub(super) fn way(&self) -> (Way, Fuse) {
        let fuse = Fuse::default();
        let way = Way {
            faults: self.clone(),
            fuse: fuse.clone(),
        };
        (way, fuse)
    }

    /// Nothing goes wrong any more, but for what has begun to.
    pub(super) fn end(&self) {
        let state = &mut *self.0.lock();
        (state.calls, state.watches, state.leases_refused) = (false, false, false);
    }

    /// Leases can be read and not written.
    pub(super) fn refuse_leases(&self, refused: bool) {
        self.0.lock().leases_refused = refused;
    }

    fn fate(&self, request: &Request<Body>) -> Fate {
        let state = &mut *self.0.lock();
        let is_write = request.method() != Method::GET;
        if state.leases_refused && is_write && request.uri().path().contains("/leases") {
            return Fate::Refused(Refusal::Unavailable);
        }
        let rng = &mut state.rng;
        let usual = Fate::Done(Duration::from_millis(rng.u64(1..8)));
        if state.watches && is_watch(request) && rng.u8(..100) < 10 {
            return Fate::Refused(Refusal::Expired);
        }
        if !state.calls {
            return usual;
        }
        match rng.u8(..100) {
            0..6 => Fate::Done(Duration::from_millis(rng.u64(200..6000))),
            6..11 => Fate::Refused(Refusal::TooMany {
                seconds: rng.u64(1..4),
            }),
            11..14 => Fate::Refused(Refusal::Internal),
            14..17 => Fate::Refused(Refusal::Unavailable),
            17..21 if is_write => Fate::Refused(Refusal::Conflict),
            21..25 => Fate::DoneUnsure,
            25..27 => Fate::DoneUnanswered,
            27..29 => Fate::Lost,
            29 => Fate::DoneLate(Duration::from_millis(rng.u64(30_000..60_000))),
            _ => usual,
        }
    }
}

impl Fuse {
    /// Is told when so many calls more have been sent.
    pub(super) fn after(&self, calls: u32) -> CancellationToken {
        let told = CancellationToken::new();
        *self.0.lock() = Some((calls, told.clone()));
        told
    }

    fn count(&self) {
        let mut fuse = self.0.lock();
        match fuse.take() {
            Some((0 | 1, told)) => told.cancel(),
            Some((calls, told)) => *fuse = Some((calls - 1, told)),
            None => {}
        }
    }
}

impl Layer<Transport> for Way {
    type Service = Transport;

    fn layer(&self, inner: Transport) -> Transport {
        let (faults, fuse) = (self.faults.clone(), self.fuse.clone());
        BoxCloneService::new(tower::service_fn(move |request: Request<Body>| {
            let (faults, inner) = (faults.clone(), inner.clone());
            if !is_watch(&request) {
                fuse.count();
            }
            pass(faults, inner, request)
        }))
    }
}

async fn pass(faults: Faults, inner: Transport, request: Request<Body>) -> Result<Answer, BoxError> {
    let is_watch = is_watch(&request);
    let fate = faults.fate(&request);
    // What has been sent goes its way, also when whoever sent it is dead.
    let send = |after: Duration| {
        tokio::spawn(async move {
            sleep(after).await;
            inner.oneshot(request).await
        })
    };
    let lost = async || {
        sleep(CLIENT_TIMEOUT).await;
        Err(BoxError::from("the connection timed out"))
    };
    match fate {
        Fate::Done(after) => {
            let answer = send(after).await??;
            Ok(if is_watch {
                watch::disturbed(faults, answer)
            } else {
                answer
            })
        }
        Fate::Refused(refusal) => {
            sleep(Duration::from_millis(2)).await;
            Ok(refusal.answer())
        }
        Fate::DoneUnsure => {
            send(Duration::ZERO).await??;
            Ok(status(
                504,
                "Timeout",
                "the request could not be completed in time",
                None,
            ))
        }
        Fate::DoneUnanswered => {
            drop(send(Duration::ZERO));
            lost().await
        }
        Fate::Lost => lost().await,
        Fate::DoneLate(after) => {
            drop(send(after));
            lost().await
        }
    }
}

fn is_watch(request: &Request<Body>) -> bool {
    request
        .uri()
        .query()
        .is_some_and(|query| query.contains("watch=true"))
}

impl Refusal {
    fn answer(self) -> Answer {
        match self {
            Self::TooMany { seconds } => status(
                429,
                "TooManyRequests",
                "too many requests, try again later",
                Some(seconds),
            ),
            Self::Internal => status(
                500,
                "InternalError",
                "an error on the server has prevented the request",
                None,
            ),
            Self::Unavailable => status(
                503,
                "ServiceUnavailable",
                "the server is not able to handle the request",
                None,
            ),
            Self::Conflict => status(
                409,
                "Conflict",
                "the object has been modified; apply your changes to the latest version",
                None,
            ),
            Self::Expired => status(410, "Expired", "too old resource version", None),
        }
    }
}

/// A failure as the API server words it.
fn failure(code: u16, reason: &str, message: &str, retry_after: Option<u64>) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": message, "details": {"retryAfterSeconds": retry_after}})
}

fn status(code: u16, reason: &str, message: &str, retry_after: Option<u64>) -> Answer {
    let body = failure(code, reason, message, retry_after).to_string();
    let body = Full::<Bytes>::from(body).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = StatusCode::from_u16(code).expect("a code of HTTP");
    if let Some(seconds) = retry_after {
        answer
            .headers_mut()
            .insert(http::header::RETRY_AFTER, seconds.into());
    }
    answer
}
