//! A process that can be paused, as by SIGSTOP or a busy machine, and killed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Clones control the same process.
#[derive(Clone)]
pub(crate) struct Process(Arc<Mutex<Control>>);

#[derive(Default)]
struct Control {
    state: State,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Running,
    Paused,
    Killed,
    Ended,
}

struct Body<F> {
    main: Option<Pin<Box<F>>>,
    control: Process,
}

impl Process {
    /// Runs `main` until it ends or is killed. All that it does must be in this one future.
    pub(crate) fn start(main: impl Future<Output = ()> + Send + 'static) -> Self {
        let process = Self(Arc::default());
        tokio::spawn(Body {
            main: Some(Box::pin(main)),
            control: process.clone(),
        });
        process
    }

    pub(crate) fn pause(&self) {
        self.turn(State::Paused);
    }

    pub(crate) fn resume(&self) {
        self.turn(State::Running);
    }

    /// It does nothing any more, and closes nothing. What it has sent is on its way.
    pub(crate) fn kill(&self) {
        self.turn(State::Killed);
    }

    /// Whether it was neither killed nor has ended.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.0.lock().state, State::Running | State::Paused)
    }

    fn turn(&self, state: State) {
        let mut control = self.0.lock();
        if matches!(control.state, State::Running | State::Paused) {
            control.state = state;
        }
        if let Some(waker) = control.waker.take() {
            waker.wake();
        }
    }
}

impl<F: Future<Output = ()>> Future for Body<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let state = {
            let mut control = self.control.0.lock();
            control.waker = Some(cx.waker().clone());
            control.state
        };
        match state {
            State::Paused => Poll::Pending,
            State::Killed | State::Ended => {
                self.main = None;
                Poll::Ready(())
            }
            State::Running => {
                let ended = match &mut self.main {
                    Some(main) => main.as_mut().poll(cx).is_ready(),
                    None => true,
                };
                if !ended {
                    return Poll::Pending;
                }
                self.main = None;
                self.control.0.lock().state = State::Ended;
                Poll::Ready(())
            }
        }
    }
}
