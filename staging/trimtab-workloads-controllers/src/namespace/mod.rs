//! The namespace controller: a namespace that is being deleted is emptied, then let go.

mod content;
mod findings;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use kube::api::Api;
use parking_lot::Mutex;
use tokio::time::Instant;
use trimtab_client_workqueue::{Exponential, WorkQueue};

use crate::context::{Context, InvalidController, without_bookkeeping};
use crate::live::{LiveError, patiently, post_params};
use crate::pool::{Outcome, Pool};
use crate::workload::clock::Clock;

/// The controller's name.
pub(crate) const NAME: &str = "namespace-controller";

/// How many namespaces are emptied at a time. kube-controller-manager's figure.
const WORKERS: usize = 10;
/// What holds a namespace until this controller has emptied it.
const FINALIZER: &str = "kubernetes";
/// When to look again at a namespace that could not be emptied, for the first time; doubled as long as nothing of it goes. A
/// kube-controller-manager waits about eight seconds if finalizers hold something, but most of these are short.
const SOONEST: Duration = Duration::from_millis(50);
/// The limit of the doubling.
const LATEST: Duration = Duration::from_secs(8);
/// How many times as long as a look took is waited until the next, while something goes.
const REST: u32 = 2;

/// Empties namespaces until told to stop.
pub(crate) async fn run(context: Context) -> Result<(), InvalidController> {
    let Context {
        client,
        informers,
        options,
        stop,
        synced,
    } = context;
    let queue = WorkQueue::builder()
        .backoff(Exponential::new(SOONEST, LATEST)?)
        .build()?;
    let emptier = Arc::new(Emptier {
        client,
        delay: options.namespace_delay,
        going: Mutex::default(),
    });
    let namespaces = informers.informer::<Namespace>(without_bookkeeping());
    let (keys, known) = (queue.clone(), emptier.clone());
    let registration = namespaces.add_handler(move |delta| {
        let namespace = delta.object().decode();
        if namespace.is_ok_and(|namespace| is_ours(&namespace) && known.begin(&namespace.metadata)) {
            let _refused_when_stopping = keys.add(delta.key().name.clone());
        }
    });
    if stop.run_until_cancelled(registration.synced()).await.is_some() {
        let _nobody_waits = synced.send(());
        let pool = Pool::start(NAME, queue, WORKERS, move |name: String| {
            let emptier = emptier.clone();
            async move { emptier.process(&name).await }
        });
        stop.cancelled().await;
        registration.leave().await;
        pool.shut_down(Instant::now() + options.drain).await;
    }
    Ok(())
}

/// Whether it is being deleted and held.
fn is_ours(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    namespace.metadata.deletion_timestamp.is_some()
        && finalizers.is_some_and(|finalizers| !finalizers.is_empty())
}

struct Emptier {
    client: Client,
    /// How long a namespace is kept, whatever is in it.
    delay: Duration,
    /// The namespaces that are being deleted.
    going: Mutex<HashMap<String, Going>>,
}

#[derive(Clone)]
struct Going {
    uid: Option<String>,
    /// When its deletion was first seen.
    since: Instant,
    /// How much was left the last time.
    left: Option<usize>,
}

/// What was found of a namespace.
enum Found {
    /// This many objects, or kinds of them that could not be looked at.
    Content(usize),
    /// Nothing, but it is not to go yet.
    Empty,
    /// There is no such namespace, or none to be emptied, any more.
    Gone,
}

impl Emptier {
    /// Whether the namespace is to be emptied from now on. One that is being emptied comes back by itself: most of its
    /// changes are what is said here of how far that is.
    fn begin(&self, namespace: &ObjectMeta) -> bool {
        let name = namespace.name.clone().unwrap_or_default();
        let mut going = self.going.lock();
        let is_known = going.get(&name).is_some_and(|known| known.uid == namespace.uid);
        if !is_known {
            let begun = Going {
                uid: namespace.uid.clone(),
                since: Instant::now(),
                left: None,
            };
            going.insert(name, begun);
        }
        !is_known
    }

    async fn process(&self, name: &str) -> Outcome {
        let began = Instant::now();
        let Some(going) = self.going.lock().get(name).cloned() else {
            return Outcome::Done;
        };
        let goes_at = going.since + self.delay;
        match self.empty(name, began >= goes_at).await {
            Ok(Found::Gone) => {}
            Ok(Found::Empty) => return Outcome::After(goes_at.saturating_duration_since(Instant::now())),
            Ok(Found::Content(count)) => {
                tracing::debug!(namespace = name, count, "some content remains");
                if let Some(going) = self.going.lock().get_mut(name) {
                    going.left = Some(count);
                }
                return match going.left.is_none_or(|before| count < before) {
                    true => Outcome::After((began.elapsed() * REST).clamp(SOONEST, LATEST)),
                    false => Outcome::Retry,
                };
            }
            Err(error) if error.code() == 404 => {}
            Err(error) if error.is_conflict() => return Outcome::Retry,
            Err(error) => {
                tracing::warn!(namespace = name, %error, "emptying failed, trying again");
                return Outcome::Retry;
            }
        }
        let mut known = self.going.lock();
        if known.get(name).is_some_and(|now| now.uid == going.uid) {
            known.remove(name); // and not another one of its name, whose deletion was seen meanwhile
        }
        Outcome::Done
    }

    /// Deletes what is in the namespace, says in its status how far that came, and lets it go if nothing is left and it
    /// `may_go`.
    async fn empty(&self, name: &str, may_go: bool) -> Result<Found, LiveError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let Some(mut namespace) = patiently(api.get_opt(name)).await? else {
            return Ok(Found::Gone);
        };
        if !is_ours(&namespace) {
            return Ok(Found::Gone);
        }
        let status = namespace.status.get_or_insert_default();
        if status.phase.as_deref() != Some("Terminating") {
            status.phase = Some("Terminating".to_owned());
            namespace = patiently(api.replace_status(name, &post_params(), &namespace)).await?;
        }
        let found = content::delete_all(&self.client, name).await;
        let now = Time(Clock::System.now());
        if found.tell(namespace.status.get_or_insert_default(), &now) {
            namespace = patiently(api.replace_status(name, &post_params(), &namespace)).await?;
        }
        if !found.is_empty() {
            return Ok(Found::Content(found.count().max(1)));
        }
        if !may_go {
            return Ok(Found::Empty);
        }
        if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        tracing::info!(namespace = name, "empty");
        let params = post_params();
        let finalized = api.replace_subresource("finalize", name, &params, &namespace);
        let _finalized: Namespace = patiently(finalized).await?;
        Ok(Found::Gone)
    }
}
