//! Triggers from outside the cluster: streams of them, and lists that are asked for from time to time.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, ready};
use futures::{FutureExt, Stream, StreamExt};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use trimtab_client_workqueue::Add;

use super::{Inlet, LOW, Running, Sight, Source, Trigger};
use crate::share::Share;
use crate::subject::RequestKey;

/// A source that is a task.
struct Task {
    what: String,
    trouble: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl<Q: RequestKey> Source<Q> {
    /// Triggers what a stream says, as fast as it says it: the queue merges triggers of the same key. `what` is for people. A
    /// stream that ends ends the source.
    ///
    /// In a [sharded](crate::ControllerBuilder::sharded) controller each replica must be told of all keys. What a replica is given
    /// later it does not hear of by this: a watch or [`Source::every`] must know of the keys, too.
    ///
    /// A `tokio::sync::mpsc::Receiver` becomes a stream with `futures::stream::poll_fn(move |cx| receiver.poll_recv(cx))`.
    pub fn stream(
        what: impl Into<String>,
        triggers: impl Stream<Item = Trigger<Q>> + Send + 'static,
    ) -> Self {
        let what = what.into();
        Self::task(what, move |inlet, _| {
            triggers
                .for_each(move |trigger| {
                    trigger.send(&inlet);
                    ready(())
                })
                .boxed()
        })
    }

    /// Asks for keys now and after each period, for what only polling can tell: the state of a system outside the
    /// cluster. What the keys stand for is looked at when nothing more urgent waits. An answer that takes longer
    /// than a period is given up; that and an error show as the source's trouble until the next answer.
    ///
    /// # Panics
    /// A period of zero.
    pub fn every<F, E>(
        what: impl Into<String>,
        period: Duration,
        list: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Vec<Q>, E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        assert!(!period.is_zero(), "a source cannot poll without a pause");
        let what = what.into();
        let reason: Arc<str> = what.clone().into();
        Self::task(what, move |inlet, trouble| {
            async move {
                let mut ticks = interval(period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    let failure = match timeout(period, list()).await {
                        Ok(Ok(keys)) => {
                            let add = Add::now().priority(LOW).because(reason.to_string());
                            let _shut_down = inlet.add_all(keys, add);
                            None
                        }
                        Ok(Err(error)) => Some(error.to_string()),
                        Err(_) => Some(format!("no answer within {period:?}")),
                    };
                    if let Some(error) = &failure {
                        tracing::warn!(source = %reason, %error, "polling failed; trying again after the period");
                    }
                    *trouble.lock() = failure;
                }
            }
            .boxed()
        })
    }

    fn task(
        what: String,
        run: impl FnOnce(Inlet<Q>, Arc<Mutex<Option<String>>>) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Self {
        Self {
            what: what.clone(),
            rules: Vec::new(),
            start: Box::new(move |inlet, _, _| {
                let trouble = Arc::new(Mutex::new(None));
                Box::new(Task {
                    what,
                    task: tokio::spawn(run(inlet, trouble.clone())),
                    trouble,
                })
            }),
        }
    }
}

impl<Q: RequestKey> Trigger<Q> {
    pub(crate) fn send(self, inlet: &Inlet<Q>) -> bool {
        let add = Add::now().priority(self.priority).because(self.reason);
        inlet.add(self.key, Sight::Hidden, add)
    }
}

impl Running for Task {
    fn what(&self) -> String {
        self.what.clone()
    }

    fn is_synced(&self) -> bool {
        true
    }

    fn synced(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Only the outside knows the keys.
    fn again(&self, _: &Add, _: &Share) {}
}

impl Drop for Task {
    fn drop(&mut self) {
        self.task.abort();
    }
}
