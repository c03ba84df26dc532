//! The faults: a layer between an informer's client and the server that refuses, cuts, delays, stalls and repeats.
//!
//! It keeps to what a correct client can survive. Nothing is left out of a stream that goes on: what is lost is lost
//! with the end of the stream. What is repeated is old: a resumed watch may begin with lines that were delivered
//! before, and a list may be one of the past as a whole, as from a server that is behind, but not more often in a
//! row than a reflector refuses before it believes that the server was set back.

mod ask;
mod memory;
mod refusal;
mod stream;
mod weather;

use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use kube::Client;
use kube::client::Body;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep, sleep_until};

use self::ask::{Ask, Kind};
use self::memory::Memory;
use self::stream::Tap;
pub(crate) use self::weather::Weather;
use crate::history::{InformerId, Log, What, Wire, lock};
use crate::world::Pace;

/// How long nothing is delivered to an informer after the end of a list, so that one can look at it.
const LOOK: Duration = Duration::from_millis(1);

type Answer = Response<StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>>;

/// What all layers of a run obey.
#[derive(Debug)]
pub(crate) struct Control {
    calm: AtomicBool,
    /// Wakes streams in the order in which they were opened, so that a run can be repeated.
    cut: broadcast::Sender<()>,
}

/// The layer in front of one informer. Clones are the same.
#[derive(Clone)]
pub(crate) struct Faults(Arc<Inner>);

struct Inner {
    server: Client,
    informer: InformerId,
    log: Log,
    pace: Pace,
    weather: Weather,
    control: Arc<Control>,
    rng: Mutex<fastrand::Rng>,
    memory: Mutex<Memory>,
    /// Nothing is delivered before this.
    closed_until: Mutex<Option<Instant>>,
}

impl Control {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            calm: AtomicBool::new(false),
            cut: broadcast::Sender::new(16),
        })
    }

    /// Cuts most of the streams that are open.
    pub(crate) fn cut(&self) {
        // Without a stream there is nobody to tell.
        let _streams = self.cut.send(());
    }

    /// From now on nothing goes wrong; what has gone wrong stays.
    pub(crate) fn calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }
}

impl Faults {
    pub(crate) fn new(
        server: Client,
        informer: InformerId,
        log: Log,
        pace: Pace,
        weather: Weather,
        control: Arc<Control>,
        rng: fastrand::Rng,
    ) -> Self {
        Self(Arc::new(Inner {
            server,
            informer,
            log,
            pace,
            weather,
            control,
            rng: Mutex::new(rng),
            memory: Mutex::default(),
            closed_until: Mutex::default(),
        }))
    }

    /// A client whose requests go through this.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    /// Whether something happens that has this chance.
    fn happens(&self, chance: f64) -> bool {
        !self.0.control.calm.load(Ordering::Relaxed) && lock(&self.0.rng).f64() < chance
    }

    fn roll<T>(&self, die: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        die(&mut lock(&self.0.rng))
    }

    fn note(&self, wire: Wire, detail: impl Display) {
        let detail = detail.to_string();
        self.0.log.note(self.0.informer, What::Wire { wire, detail });
    }

    /// Waits until something may be delivered.
    async fn open(&self) {
        loop {
            let until = *lock(&self.0.closed_until);
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => sleep_until(until).await,
                None => return,
            }
        }
    }

    /// Delivers nothing for a moment.
    fn close(&self) {
        *lock(&self.0.closed_until) = Some(Instant::now() + LOOK);
    }

    /// Perhaps waits: mostly not for long.
    async fn delayed(&self, chance: f64) {
        if self.happens(chance) {
            let Pace { short, long, .. } = self.0.pace;
            let most = if self.roll(|rng| rng.u8(..)) < 240 {
                short
            } else {
                long
            };
            let delay = most.mul_f64(self.roll(|rng| rng.f64()));
            self.note(Wire::Delayed, format!("{delay:?}"));
            sleep(delay).await;
        }
    }

    async fn answer(self, request: Request<Body>) -> io::Result<Answer> {
        let ask = Ask::of(&request);
        let weather = &self.0.weather;
        self.note(Wire::Asked, &ask);
        if self.happens(weather.refused) {
            self.note(Wire::Refused, "");
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        if self.happens(weather.mute) {
            self.note(Wire::Mute, "");
            std::future::pending::<()>().await;
        }
        if self.happens(weather.answered) {
            return Ok(self.refuse(ask.kind));
        }
        if ask.goes_on && self.happens(weather.pages_expired) {
            // After a while in which what was on the first page may have gone.
            sleep(self.0.pace.short * 5).await;
            return Ok(self.refuse_page());
        }
        self.delayed(weather.late).await;
        if ask.kind != Kind::Watch && self.happens(weather.old_list) {
            let old = self.roll(|rng| lock(&self.0.memory).old_list(&ask, rng));
            if let Some(old) = old {
                return self.old_list(&ask, old).await;
            }
        }
        let response = self.0.server.send(request).await.map_err(io::Error::other)?;
        // What is delivered later was true before.
        self.delayed(weather.late).await;
        let (head, body) = response.into_parts();
        let tap = if ask.kind == Kind::List || !head.status.is_success() {
            let whole = body.collect().await.map_err(io::Error::other)?.to_bytes();
            self.whole(&ask, head.status, whole)
        } else {
            Tap::of_stream(self, ask, body)
        };
        Ok(Response::from_parts(head, tap.into_body()))
    }

    /// An answer that is complete, unless something happens on the way.
    fn whole(self, ask: &Ask, status: StatusCode, body: Bytes) -> Tap {
        let weather = self.0.weather.clone();
        for (chance, ending) in weather.endings() {
            if self.happens(chance * weather.of_lists) {
                let left = self.roll(|rng| rng.usize(..body.len().max(1)));
                self.note(ending.into(), format!("after {left} of {} bytes", body.len()));
                return Tap::of_part(self, body.slice(..left), ending);
            }
        }
        if status.is_success() {
            lock(&self.0.memory).remember_page(ask, body.clone());
        }
        Tap::of_whole(self, body)
    }

    /// A list of the past, and what has happened since if it is a stream.
    async fn old_list(self, ask: &Ask, old: memory::OldList) -> io::Result<Answer> {
        self.note(Wire::OldList, "");
        let mut head = Response::builder().header("Content-Type", "application/json");
        let tap = if ask.kind == Kind::List {
            let body = old.lines.into_iter().next().unwrap_or_default();
            Tap::of_whole(self, body)
        } else {
            let since = self
                .0
                .server
                .send(ask.watch_from(old.version))
                .await
                .map_err(io::Error::other)?;
            head = head.status(since.status());
            Tap::of_old_list(self, ask.clone(), old, since.into_body())
        };
        head.body(tap.into_body()).map_err(io::Error::other)
    }
}

impl tower::Service<Request<Body>> for Faults {
    type Response = Answer;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Answer>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.clone().answer(request).boxed()
    }
}
