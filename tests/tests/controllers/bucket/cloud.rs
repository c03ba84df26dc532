//! A cloud with buckets, in memory: the system outside the cluster, with failures of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep};

/// How long a call is on its way.
const LATENCY: Duration = Duration::from_millis(20);

/// The cloud; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cloud(Arc<Mutex<State>>);

/// What there is to know of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) region: String,
    pub(crate) versioning: bool,
    /// How many objects are in it.
    pub(crate) objects: u32,
    /// A tag: whose it is.
    pub(crate) owner: String,
}

/// What the cloud says when it does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CloudError {
    /// Nothing was done.
    #[error("the cloud is busy")]
    Busy,
    /// Nobody knows what was done.
    #[error("the cloud did not answer")]
    NoAnswer,
    #[error("there is no bucket {0:?}")]
    NoSuchBucket(String),
    #[error("the name {0:?} is taken")]
    NameTaken(String),
    #[error("there are {0} objects in it")]
    NotEmpty(u32),
}

/// What has become of a bucket, for tests to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deed {
    pub(crate) at: Instant,
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) exists: bool,
}

#[derive(Debug, Default)]
struct State {
    buckets: BTreeMap<String, Facts>,
    deeds: Vec<Deed>,
    listeners: Vec<UnboundedSender<String>>,
    /// Decides what goes wrong; nothing does without it.
    trouble: Option<fastrand::Rng>,
    /// How many calls are not answered at all, from now on.
    stuck: u32,
    /// Nobody hears of changes.
    mute: bool,
}

/// What becomes of a call.
enum Fate {
    Done,
    Busy,
    DoneUnanswered,
    Stuck,
}

impl Cloud {
    /// Makes a bucket; one that this owner has by that name already is as good.
    pub(crate) async fn create(&self, name: &str, region: &str, owner: &str) -> Result<Facts, CloudError> {
        self.call(|state| {
            if let Some(facts) = state.buckets.get(name) {
                let taken = || CloudError::NameTaken(name.to_owned());
                return Some(facts.clone())
                    .filter(|facts| facts.owner == owner)
                    .ok_or_else(taken);
            }
            let facts = Facts {
                region: region.to_owned(),
                versioning: false,
                objects: 0,
                owner: owner.to_owned(),
            };
            state.put(name, Some(facts.clone()));
            Ok(facts)
        })
        .await
    }

    /// What there is by this name.
    pub(crate) async fn describe(&self, name: &str) -> Result<Option<Facts>, CloudError> {
        self.call(|state| Ok(state.buckets.get(name).cloned())).await
    }

    /// All buckets.
    pub(crate) async fn list(&self) -> Result<BTreeMap<String, Facts>, CloudError> {
        self.call(|state| Ok(state.buckets.clone())).await
    }

    /// Keeps what is overwritten, or does so no more.
    pub(crate) async fn set_versioning(&self, name: &str, on: bool) -> Result<Facts, CloudError> {
        self.call(|state| {
            let facts = state.buckets.get(name).cloned();
            let mut facts = facts.ok_or_else(|| CloudError::NoSuchBucket(name.to_owned()))?;
            facts.versioning = on;
            state.put(name, Some(facts.clone()));
            Ok(facts)
        })
        .await
    }

    /// Deletes an empty bucket; one that is gone is as good.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), CloudError> {
        self.call(|state| match state.buckets.get(name).map(|facts| facts.objects) {
            Some(0) => {
                state.put(name, None);
                Ok(())
            }
            Some(objects) => Err(CloudError::NotEmpty(objects)),
            None => Ok(()),
        })
        .await
    }

    /// The names of buckets that have changed, from now on. That all are told is not promised.
    pub(crate) fn events(&self) -> impl Stream<Item = String> + Send + 'static {
        let (sender, mut receiver) = unbounded_channel();
        self.0.lock().listeners.push(sender);
        futures::stream::poll_fn(move |cx| receiver.poll_recv(cx))
    }

    async fn call<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, CloudError>,
    ) -> Result<T, CloudError> {
        sleep(LATENCY).await;
        let fate = self.0.lock().fate();
        match fate {
            Fate::Done => change(&mut self.0.lock()),
            Fate::Busy => Err(CloudError::Busy),
            Fate::DoneUnanswered => {
                let _nobody_hears_of_it = change(&mut self.0.lock());
                Err(CloudError::NoAnswer)
            }
            Fate::Stuck => std::future::pending().await,
        }
    }

    // === what happens to it from elsewhere ===

    /// Somebody makes, changes or deletes a bucket by the cloud's own console.
    pub(crate) fn put(&self, name: &str, facts: Option<Facts>) {
        self.0.lock().put(name, facts);
    }

    /// Somebody changes a bucket. False: there is none.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Facts)) -> bool {
        let Some(mut facts) = self.get(name) else {
            return false;
        };
        change(&mut facts);
        self.put(name, Some(facts));
        true
    }

    pub(crate) fn get(&self, name: &str) -> Option<Facts> {
        self.0.lock().buckets.get(name).cloned()
    }

    pub(crate) fn all(&self) -> BTreeMap<String, Facts> {
        self.0.lock().buckets.clone()
    }

    /// What has become of buckets so far.
    pub(crate) fn deeds(&self) -> Vec<Deed> {
        self.0.lock().deeds.clone()
    }

    /// Calls fail, get lost or are stuck, and events are lost, as this says; nothing goes wrong any more without it.
    pub(crate) fn trouble(&self, trouble: Option<fastrand::Rng>) {
        self.0.lock().trouble = trouble;
    }

    /// So many calls are not answered at all.
    pub(crate) fn get_stuck(&self, calls: u32) {
        self.0.lock().stuck = calls;
    }

    /// Whether changes are told to nobody.
    pub(crate) fn mute(&self, mute: bool) {
        self.0.lock().mute = mute;
    }
}

impl State {
    fn put(&mut self, name: &str, facts: Option<Facts>) {
        let exists = facts.is_some();
        let before = match facts {
            Some(facts) => {
                let owner = facts.owner.clone();
                self.buckets.insert(name.to_owned(), facts);
                Some(owner)
            }
            None => self.buckets.remove(name).map(|facts| facts.owner),
        };
        let Some(owner) = before else { return };
        self.deeds.push(Deed {
            at: Instant::now(),
            name: name.to_owned(),
            owner,
            exists,
        });
        let lost = self.mute || self.trouble.as_mut().is_some_and(|rng| rng.u8(..3) == 0);
        if !lost {
            self.listeners
                .retain(|listener| listener.send(name.to_owned()).is_ok());
        }
    }

    fn fate(&mut self) -> Fate {
        if self.stuck > 0 {
            self.stuck -= 1;
            return Fate::Stuck;
        }
        match self.trouble.as_mut().map(|rng| rng.u8(..20)) {
            Some(0..3) => Fate::Busy,
            Some(3..5) => Fate::DoneUnanswered,
            Some(5) => Fate::Stuck,
            _ => Fate::Done,
        }
    }
}
