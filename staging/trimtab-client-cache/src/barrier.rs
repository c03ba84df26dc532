//! The own-writes barrier: whether caches have caught up with what one has written oneself.
//!
//! A controller that acts on a cache older than its own last write does things twice. It keeps one [`WriteBarrier`] per
//! key, notes each write in it, and does not work on the key again before the barrier is passed.

use std::any::TypeId;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use kube::Resource;
use trimtab_apimachinery_meta::ObjectKey;

use crate::cached::{Cached, Untyped};
use crate::object::{key_of, version};
use crate::store::{Store, WaitError};

/// Writes that caches have to show before one goes on. Spans any number of stores of any kinds.
#[derive(Default)]
pub struct WriteBarrier {
    /// In the order of the writes. A write is looked for only when those before it are visible: before the cache has
    /// seen a create, it looks as if the object had been deleted already.
    pending: VecDeque<Box<dyn Pending>>,
    /// The version of the last write that is visible and whose object is not there.
    lost: Option<String>,
}

trait Pending: Send + Sync {
    fn is_visible(&self) -> bool;
    /// Once it is visible: the version that was written, if the object should be there and is not.
    fn lost(&self) -> Option<&str>;
    /// The object is deleted by a later write: it need not be there.
    fn forget(&mut self, kind: TypeId, key: &ObjectKey);
    /// The version that the store is at.
    fn at(&self) -> String;
    fn visible(&self) -> futures::future::BoxFuture<'_, Result<(), WaitError>>;
}

struct Wrote {
    store: Store<Untyped>,
    /// Of what type the objects in the store are.
    kind: TypeId,
    /// Where the object is, if that is known.
    namespace: Option<String>,
    version: String,
    /// The object, if the store shows all such objects.
    expected: Option<ObjectKey>,
}

struct Deleted {
    store: Store<Untyped>,
    key: ObjectKey,
    uid: String,
}

impl WriteBarrier {
    /// A barrier without writes; it is passed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a create, an update or a patch. `answer` is the object as the server returned it, and `store` must watch
    /// it. An answer without resource version, as of a dry run, is not waited for.
    pub fn wrote<K: Resource + Send + Sync + 'static>(&mut self, store: &Store<K>, answer: &K) {
        let expected = store.shows(answer.meta()).then(|| key_of(answer));
        let namespace = answer.meta().namespace.clone();
        self.note(
            store.cast(),
            TypeId::of::<K>(),
            version(answer),
            namespace,
            expected,
        );
    }

    /// Notes a write of which only the resource version is known.
    pub fn wrote_version<K: Send + Sync + 'static>(&mut self, store: &Store<K>, resource_version: &str) {
        self.note(store.cast(), TypeId::of::<K>(), resource_version, None, None);
    }

    fn note(
        &mut self,
        store: Store<Untyped>,
        kind: TypeId,
        version: &str,
        namespace: Option<String>,
        expected: Option<ObjectKey>,
    ) {
        if trimtab_apimachinery_meta::resource_version::compare(version, version).is_ok() {
            self.pending.push_back(Box::new(Wrote {
                store,
                kind,
                namespace,
                version: version.to_owned(),
                expected,
            }));
        }
    }

    /// Notes a delete of the object with this key and UID. It is visible when the object is gone from the store, is
    /// being deleted there, or another one has its name.
    pub fn deleted<K: Send + Sync + 'static>(
        &mut self,
        store: &Store<K>,
        key: ObjectKey,
        uid: impl Into<String>,
    ) {
        for write in &mut self.pending {
            write.forget(TypeId::of::<K>(), &key);
        }
        self.pending.push_back(Box::new(Deleted {
            store: store.cast(),
            key,
            uid: uid.into(),
        }));
    }

    /// Whether all writes are visible. Forgets those that are.
    pub fn is_passed(&mut self) -> bool {
        while self.pending.front().is_some_and(|write| write.is_visible()) {
            self.pass_first();
        }
        self.pending.is_empty()
    }

    /// Takes the first write out, which is visible.
    fn pass_first(&mut self) {
        let write = self.pending.pop_front();
        if let Some(version) = write.as_ref().and_then(|write| write.lost()) {
            self.lost = Some(version.to_owned());
        }
    }

    /// The version of the last write that is visible by now and whose object is gone nevertheless, though not by a delete that
    /// was noted here. Perhaps no handler was told: who lists anew after the object was made and deleted again has seen
    /// neither. `None` also where the cache need not show the object, as with a selector of fields.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// Waits until all writes are visible, at most for this long. Cancelling the wait loses nothing.
    ///
    /// # Errors
    /// See [`WaitError`]. What was not seen stays in the barrier.
    pub async fn passed(&mut self, patience: Duration) -> Result<(), WaitError> {
        let all = async {
            while let Some(write) = self.pending.front() {
                write.visible().await?;
                self.pass_first();
            }
            Ok(())
        };
        let in_time = tokio::time::timeout(patience, all).await;
        in_time.unwrap_or_else(|_| {
            let at = self.pending.front().map(|write| write.at());
            Err(WaitError::TimedOut(at.unwrap_or_default()))
        })
    }
}

impl fmt::Debug for WriteBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBarrier")
            .field("pending", &self.pending.len())
            .finish()
    }
}

impl Pending for Wrote {
    fn is_visible(&self) -> bool {
        self.store.has_reached(&self.version, self.namespace.as_deref())
    }

    fn lost(&self) -> Option<&str> {
        let is_gone = |key| self.store.get(key).is_none();
        self.expected
            .as_ref()
            .is_some_and(is_gone)
            .then_some(&*self.version)
    }

    fn forget(&mut self, kind: TypeId, key: &ObjectKey) {
        if kind == self.kind && self.expected.as_ref() == Some(key) {
            self.expected = None;
        }
    }

    fn at(&self) -> String {
        self.store.resource_version()
    }

    fn visible(&self) -> futures::future::BoxFuture<'_, Result<(), WaitError>> {
        Box::pin(self.store.reached(&self.version, self.namespace.as_deref()))
    }
}

impl Deleted {
    fn is_going(&self, stored: Option<&Cached<Untyped>>) -> bool {
        stored.is_none_or(|object| object.is_deleting() || object.uid() != self.uid)
    }
}

impl Pending for Deleted {
    fn is_visible(&self) -> bool {
        self.is_going(self.store.get(&self.key).as_ref())
    }

    fn lost(&self) -> Option<&str> {
        None
    }

    fn forget(&mut self, _: TypeId, _: &ObjectKey) {}

    fn at(&self) -> String {
        self.store.resource_version()
    }

    fn visible(&self) -> futures::future::BoxFuture<'_, Result<(), WaitError>> {
        let going = |stored: Option<&Cached<Untyped>>| self.is_going(stored).then_some(());
        Box::pin(self.store.wait_for(&self.key, going))
    }
}
