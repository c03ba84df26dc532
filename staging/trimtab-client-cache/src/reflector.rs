//! The reflector: keeps a store equal to what the server has, by list and watch, whatever happens in between.
//!
//! It lists once, as a stream where the server can, else in pages, and watches from there. *Ordered*: changes reach the
//! sink in the order in which the server tells them. *Complete*: each list replaces everything. *Monotonic*: a list that is
//! older than what was seen is not taken. An interrupted watch resumes where it ended; only what the server no longer
//! has leads to a new list. After a failure the reflector waits, each reflector for itself, and never gives up.

mod backoff;
mod decode;
mod failure;
mod listing;
mod run;
mod status;
mod transport;

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use parking_lot::Mutex;
use tracing::Instrument;
use trimtab_apimachinery_meta::ObjectKey;

pub use failure::Failure;
pub use status::{Status, StatusHandle};

use crate::cached::{Cached, Codec, Maker, Undecodables, Untyped};
use crate::selection::Selection;
use crate::store::{Replacement, Writer};
use crate::{Delta, Object};
use backoff::Backoff;
use transport::Endpoint;

/// Where a reflector puts what it learns.
pub trait Sink<K>: Send {
    /// All objects, at one moment.
    fn replace(&mut self, replacement: Replacement<K>);
    /// One object has been created or changed.
    fn upsert(&mut self, object: Cached<K>);
    /// One object is gone; `last` is its last state.
    fn delete(&mut self, last: Cached<K>);
    /// One object is gone, and its last state cannot be decoded.
    fn delete_key(&mut self, key: &ObjectKey, resource_version: &str);
    /// Every write up to this version has been told.
    fn bookmark(&mut self, resource_version: &str);
    /// The version up to which everything has been told; empty before the first list.
    fn resource_version(&self) -> String;
    /// What the sink has of an object, so that a list need not bring it once more.
    fn stored(&self, key: &ObjectKey) -> Option<Cached<K>>;
}

/// How a reflector behaves. The defaults are client-go's, except where a comment says why not.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Whether to ask for lists as streams. A server that cannot is asked once.
    pub streamed_lists: bool,
    /// Whether to ask for bookmarks, which say how far the server is where nothing happens to the objects. Streamed lists need
    /// them, so without there are none.
    pub bookmarks: bool,
    /// Objects per page of a list that is not streamed; 0 for all at once.
    pub page_size: u32,
    /// How long the server is asked to keep a watch open: a random time in here.
    pub watch_timeout: RangeInclusive<Duration>,
    /// How long to wait for the head of an answer, and for more of a list.
    pub answer_timeout: Duration,
    /// After how long without a word a watch is taken for dead, and resumed. Servers send bookmarks about every minute, so
    /// this is two of them missed. client-go waits for the transport to notice.
    pub silence_timeout: Duration,
    /// After how long without a word in the middle of a streamed list the server is taken for one that does not
    /// know of such lists.
    pub initial_silence: Duration,
    /// The wait after the first failure; doubled by each further one.
    pub backoff_first: Duration,
    /// The limit of the doubling. Each wait is up to twice as long, by chance.
    pub backoff_max: Duration,
    /// How often a list that is older than what was seen is refused before the server is believed to have been set back,
    /// as by restoring a backup.
    pub backwards_refusals: u32,
}

impl Config {
    /// For a server in the same process, with no network between, that nothing happens on for days: watches stay open and silent
    /// for as long, so whoever drives time past them has nothing to wait for.
    pub fn in_process() -> Self {
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        Self {
            streamed_lists: false,
            bookmarks: false,
            watch_timeout: YEAR..=YEAR,
            silence_timeout: YEAR,
            ..Self::default()
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            streamed_lists: true,
            bookmarks: true,
            page_size: 500,
            watch_timeout: Duration::from_secs(300)..=Duration::from_secs(600),
            answer_timeout: Duration::from_secs(60),
            silence_timeout: Duration::from_secs(120),
            initial_silence: Duration::from_secs(10),
            backoff_first: Duration::from_millis(800),
            backoff_max: Duration::from_secs(30),
            backwards_refusals: 3,
        }
    }
}

/// Lists and watches one kind and feeds a [`Sink`].
pub struct Reflector<K>(UntypedReflector, PhantomData<fn() -> K>);

/// A reflector of objects of whatever type.
pub(crate) struct UntypedReflector {
    client: Client,
    endpoint: Endpoint,
    maker: Arc<Mutex<Maker>>,
    config: Config,
    backoff: Backoff,
    status: StatusHandle,
    /// Whether the server is believed to stream lists.
    streams: bool,
    /// Whether the next list may begin at the version that was seen last.
    resumable: bool,
    /// How many lists in a row were older than what was seen.
    backwards: u32,
}

impl<K: Object> Reflector<K> {
    /// The reflectors of the selected objects of a kind: one for each selected namespace, or one for all.
    pub fn of_each_namespace(
        client: &Client,
        kind: &K::DynamicType,
        selection: &Selection,
        config: &Config,
    ) -> Vec<Self> {
        let reflectors = UntypedReflector::of_each_namespace::<K>(client, kind, selection, config);
        let of_type = |reflector| Self(reflector, PhantomData);
        reflectors.into_iter().map(of_type).collect()
    }

    /// What reads the reflector's status while it runs.
    pub fn status_handle(&self) -> StatusHandle {
        self.0.status_handle()
    }

    /// Feeds the sink for ever. Cancelling stops between two changes.
    pub async fn run(self, sink: &mut impl Sink<K>) -> std::convert::Infallible {
        self.0.run(&mut Typed(sink, PhantomData)).await
    }
}

impl UntypedReflector {
    pub(crate) fn of_each_namespace<K: Object>(
        client: &Client,
        kind: &K::DynamicType,
        selection: &Selection,
        config: &Config,
    ) -> Vec<Self> {
        let maker = Codec::<K>::with_projection(kind, selection.projection.clone()).0;
        let mut paths: Vec<_> = selection
            .namespaces()
            .map(|namespace| K::url_path(kind, Some(namespace)))
            .collect();
        if paths.is_empty() {
            paths.push(K::url_path(kind, None));
        }
        Self::of_each_path(client, paths, K::metadata_api(), maker, selection, config)
    }

    fn of_each_path(
        client: &Client,
        paths: Vec<String>,
        metadata_only: bool,
        maker: Maker,
        selection: &Selection,
        config: &Config,
    ) -> Vec<Self> {
        let maker = Arc::new(Mutex::new(maker));
        let of = |path| Self {
            client: client.clone(),
            endpoint: Endpoint {
                path,
                metadata_only,
                bookmarks: config.bookmarks,
                selection: selection.clone(),
            },
            maker: maker.clone(),
            backoff: Backoff::new(config.backoff_first, config.backoff_max),
            status: StatusHandle::default(),
            // The end of a streamed list does not say whether it was sharded.
            streams: config.streamed_lists && config.bookmarks && selection.shard.is_empty(),
            resumable: true,
            backwards: 0,
            config: config.clone(),
        };
        paths.into_iter().map(of).collect()
    }

    pub(crate) fn status_handle(&self) -> StatusHandle {
        self.status.clone()
    }

    pub(crate) fn undecodable(&self) -> Undecodables {
        self.maker.lock().undecodables()
    }

    pub(crate) async fn run(mut self, sink: &mut dyn Sink<Untyped>) -> std::convert::Infallible {
        self.status
            .begin(self.config.silence_timeout + self.config.answer_timeout);
        let span = tracing::info_span!("reflector", path = %self.endpoint.path);
        let forever = async {
            loop {
                self.list_and_watch(sink).await;
            }
        };
        forever.instrument(span).await
    }
}

impl<K> fmt::Debug for Reflector<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reflector")
            .field("endpoint", &self.0.endpoint)
            .finish_non_exhaustive()
    }
}

/// A sink of objects of a type, fed with ones of whatever type.
struct Typed<'s, S, K>(&'s mut S, PhantomData<fn() -> K>);

impl<S: Sink<K>, K> Sink<Untyped> for Typed<'_, S, K> {
    fn replace(&mut self, replacement: Replacement<Untyped>) {
        self.0.replace(replacement.cast());
    }

    fn upsert(&mut self, object: Cached<Untyped>) {
        self.0.upsert(object.cast());
    }

    fn delete(&mut self, last: Cached<Untyped>) {
        self.0.delete(last.cast());
    }

    fn delete_key(&mut self, key: &ObjectKey, resource_version: &str) {
        self.0.delete_key(key, resource_version);
    }

    fn bookmark(&mut self, resource_version: &str) {
        self.0.bookmark(resource_version);
    }

    fn resource_version(&self) -> String {
        self.0.resource_version()
    }

    fn stored(&self, key: &ObjectKey) -> Option<Cached<Untyped>> {
        self.0.stored(key).map(Cached::cast)
    }
}

/// A store without handlers.
impl<K: Object> Sink<K> for Writer<K> {
    fn replace(&mut self, replacement: Replacement<K>) {
        ignore(Writer::replace(self, replacement));
    }

    fn upsert(&mut self, object: Cached<K>) {
        ignore(Writer::upsert(self, object));
    }

    fn delete(&mut self, last: Cached<K>) {
        ignore(Writer::delete(self, last));
    }

    fn delete_key(&mut self, key: &ObjectKey, resource_version: &str) {
        ignore(Writer::delete_key(self, key, resource_version));
    }

    fn bookmark(&mut self, resource_version: &str) {
        Writer::bookmark(self, resource_version);
    }

    fn resource_version(&self) -> String {
        Writer::resource_version(self)
    }

    fn stored(&self, key: &ObjectKey) -> Option<Cached<K>> {
        self.reader().get(key)
    }
}

/// Nobody is to be told.
fn ignore<K>(_: Vec<Delta<K>>) {}
