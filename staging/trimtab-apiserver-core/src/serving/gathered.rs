//! A connection whose small writes leave together: what all of its streams have to send at one time is one record of
//! TLS and one call of the system, instead of one for each frame.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is gathered before it is sent without waiting for more: two records of TLS.
const MOST_GATHERED: usize = 32 * 1024;

/// A stream as the protocol sees it: what it writes is gathered, and flushing does nothing. Its [`Sender`] sends.
#[derive(Debug)]
pub(super) struct Gathered<S>(Arc<Mutex<Shared<S>>>);

/// Runs a connection over a [`Gathered`] stream, and sends what it has written.
#[derive(Debug)]
pub(super) struct Sender<S> {
    shared: Arc<Mutex<Shared<S>>>,
    /// While others that can run have their turn, since they may have something to send as well.
    turn: Option<Arc<Turn>>,
}

#[derive(Debug)]
struct Shared<S> {
    inner: S,
    gathered: Vec<u8>,
    /// How much of it has been sent.
    sent: usize,
}

/// Notices that everybody else who could run has run.
#[derive(Debug)]
struct Turn {
    is_over: AtomicBool,
    connection: Waker,
}

/// Makes a stream gather what is written to it.
pub(super) fn gathered<S>(inner: S) -> (Gathered<S>, Sender<S>) {
    let shared = Arc::new(Mutex::new(Shared {
        inner,
        gathered: Vec::new(),
        sent: 0,
    }));
    (Gathered(shared.clone()), Sender { shared, turn: None })
}

// === impl Sender ===

impl<S: AsyncWrite + Unpin> Sender<S> {
    /// Polls the connection, and sends what it has written once nobody else has anything to add.
    ///
    /// # Errors
    ///
    /// That of the connection, or of sending; it is to be dropped then.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: impl FnOnce(&mut Context<'_>) -> Poll<hyper::Result<()>>,
    ) -> Poll<Result<(), Ended>> {
        let waited = match &self.turn {
            // Whoever has woken us meanwhile is looked after in a moment, together with the others.
            Some(turn) if !turn.is_over.load(Ordering::Acquire) => return Poll::Pending,
            turn => turn.is_some(),
        };
        self.turn = None;
        if let Poll::Ready(ended) = connection(cx) {
            return Poll::Ready(ended.map_err(Ended::Protocol));
        }
        let mut shared = self.shared.lock();
        if shared.is_empty() {
            return Poll::Pending;
        }
        if waited || shared.sent > 0 {
            return match shared.poll_send(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(Ended::Sending(error))),
                _ => Poll::Pending,
            };
        }
        let turn = Arc::new(Turn {
            is_over: AtomicBool::new(false),
            connection: cx.waker().clone(),
        });
        let waker = Waker::from(turn.clone());
        let mut others = std::pin::pin!(tokio::task::yield_now());
        let _ = others.as_mut().poll(&mut Context::from_waker(&waker));
        self.turn = Some(turn);
        Poll::Pending
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_over.store(true, Ordering::Release);
        self.connection.wake_by_ref();
    }
}

/// Why a connection has ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Protocol(hyper::Error),
    #[error("cannot send")]
    Sending(#[source] io::Error),
}

// === impl Shared ===

impl<S> Shared<S> {
    fn is_empty(&self) -> bool {
        self.gathered.is_empty()
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    /// Sends what has been gathered.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let rest @ [_, ..] = &self.gathered[self.sent..] {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        // Not kept: most connections have nothing to send most of the time.
        self.gathered = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Makes room for more, if need be by sending.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= MOST_GATHERED {
            ready!(self.poll_send(cx))?;
        }
        Poll::Ready(Ok(MOST_GATHERED - self.gathered.len()))
    }
}

// === impl Gathered ===

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut shared = self.0.lock();
        let taken = ready!(shared.poll_room(cx))?.min(bytes.len());
        shared.gathered.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.0.lock();
        let room = ready!(shared.poll_room(cx))?;
        let mut taken = 0;
        for slice in slices {
            let part = &slice[..slice.len().min(room - taken)];
            shared.gathered.extend_from_slice(part);
            taken += part.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing, so that more can be gathered: the [`Sender`] sends.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.lock();
        ready!(shared.poll_send(cx))?;
        Pin::new(&mut shared.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::sync::mpsc;

    use super::*;

    /// Remembers each write; reads nothing.
    #[derive(Debug, Default)]
    struct Recorder(Vec<Vec<u8>>);

    impl AsyncWrite for Recorder {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A protocol: sends what it is given, as far as the stream takes it, until there is no one left who gives.
    struct Protocol<S> {
        stream: Gathered<S>,
        given: mpsc::UnboundedReceiver<Vec<u8>>,
        waiting: VecDeque<u8>,
    }

    impl<S: AsyncWrite + Unpin> Protocol<S> {
        fn new(stream: Gathered<S>) -> (Self, mpsc::UnboundedSender<Vec<u8>>) {
            let (giver, given) = mpsc::unbounded_channel();
            let waiting = VecDeque::new();
            (
                Self {
                    stream,
                    given,
                    waiting,
                },
                giver,
            )
        }

        fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
            loop {
                while !self.waiting.is_empty() {
                    let bytes = self.waiting.make_contiguous();
                    let taken = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes)).expect("takes it");
                    self.waiting.drain(..taken);
                    assert!(Pin::new(&mut self.stream).poll_flush(cx).is_ready());
                }
                match ready!(self.given.poll_recv(cx)) {
                    Some(bytes) => self.waiting.extend(bytes),
                    None => return Pin::new(&mut self.stream).poll_shutdown(cx).map(|_| Ok(())),
                }
            }
        }
    }

    #[tokio::test]
    async fn what_all_who_can_run_have_to_send_leaves_together() {
        let (stream, mut sender) = gathered(Recorder::default());
        let shared = stream.0.clone();
        let (mut protocol, giver) = Protocol::new(stream);
        for round in 0..2 {
            let streams = (0..3).map(|n| {
                let giver = giver.clone();
                tokio::spawn(async move { giver.send(vec![b'0' + n]).expect("is served") })
            });
            let _streams: Vec<_> = streams.collect();
            poll_fn(|cx| {
                let polled = sender.poll(cx, |cx| protocol.poll(cx));
                assert!(polled.is_pending(), "round {round} ends with its givers");
                let sent = shared.lock().inner.0.len() > round;
                if sent { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
        assert_eq!(shared.lock().inner.0, [b"012", b"012"]);
        drop(giver);
        poll_fn(|cx| sender.poll(cx, |cx| protocol.poll(cx)))
            .await
            .expect("ends");
    }

    #[tokio::test]
    async fn what_is_more_than_the_client_takes_waits_and_arrives_in_order() {
        let (ours, mut theirs) = duplex(1000);
        let (stream, mut sender) = gathered(ours);
        let (mut protocol, giver) = Protocol::new(stream);
        let all: Vec<u8> = (0..5 * MOST_GATHERED).map(|n| (n % 251) as u8).collect();
        for part in all.chunks(999) {
            giver.send(part.to_vec()).expect("is served");
        }
        drop(giver);
        let served = poll_fn(|cx| sender.poll(cx, |cx| protocol.poll(cx)));
        let mut arrived = Vec::new();
        let (ended, read) = tokio::join!(served, theirs.read_to_end(&mut arrived));
        ended.expect("all is sent");
        read.expect("all is read");
        assert!(
            arrived == all,
            "{} of {} bytes, or not these",
            arrived.len(),
            all.len()
        );
    }

    #[tokio::test]
    async fn what_is_gathered_is_sent_before_the_end() {
        let (ours, mut theirs) = duplex(1000);
        let (mut stream, _sender) = gathered(ours);
        stream.write_all(b"good").await.expect("gathers");
        stream.write_all(b"bye").await.expect("gathers");
        stream.shutdown().await.expect("sends");
        let mut arrived = Vec::new();
        theirs.read_to_end(&mut arrived).await.expect("reads");
        assert_eq!(arrived, b"goodbye");
    }

    #[tokio::test]
    async fn a_connection_that_cannot_send_ends() {
        let (ours, theirs) = duplex(1000);
        let (stream, mut sender) = gathered(ours);
        let (mut protocol, giver) = Protocol::new(stream);
        drop(theirs);
        giver.send(b"hello".to_vec()).expect("is served");
        let ended = poll_fn(|cx| sender.poll(cx, |cx| protocol.poll(cx))).await;
        assert!(matches!(ended, Err(Ended::Sending(_))), "{ended:?}");
    }
}
