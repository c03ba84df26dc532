//! The namespace controller: a namespace that is being deleted is emptied, then let go.

mod content;
mod findings;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::api::Api;
use parking_lot::Mutex;
use tokio::time::Instant;
use trimtab_client_cache::informer::Selection;
use trimtab_client_workqueue::{Add, Exponential, WorkQueue};

use crate::context::{Context, InvalidController};
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
    let (keys, delay) = (queue.clone(), options.namespace_delay);
    let namespaces = informers.informer::<Namespace>(Selection::all());
    let registration = namespaces.add_handler(move |delta| {
        if delta.object().decode().is_ok_and(|namespace| is_ours(&namespace)) {
            let _refused_when_stopping = keys.add_with(delta.key().name.clone(), Add::after(delay));
        }
    });
    if stop.run_until_cancelled(registration.synced()).await.is_some() {
        let _nobody_waits = synced.send(());
        let left = Arc::<Left>::default();
        let pool = Pool::start(NAME, queue, WORKERS, move |name: String| {
            let (client, left) = (client.clone(), left.clone());
            async move { process(&client, &left, &name).await }
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

/// How many objects were left in a namespace when it was last looked at.
type Left = Mutex<HashMap<String, usize>>;

async fn process(client: &Client, left: &Left, name: &str) -> Outcome {
    let began = Instant::now();
    let outcome = match empty(client, name).await {
        Ok(0) => Outcome::Done,
        Ok(count) => {
            tracing::debug!(namespace = name, count, "some content remains");
            let before = left.lock().insert(name.to_owned(), count);
            return match before.is_none_or(|before| count < before) {
                true => Outcome::After((began.elapsed() * REST).clamp(SOONEST, LATEST)),
                false => Outcome::Retry,
            };
        }
        Err(error) if error.code() == 404 => Outcome::Done,
        Err(error) if error.is_conflict() => Outcome::Retry,
        Err(error) => {
            tracing::warn!(namespace = name, %error, "emptying failed, trying again");
            Outcome::Retry
        }
    };
    if matches!(outcome, Outcome::Done) {
        left.lock().remove(name);
    }
    outcome
}

/// Deletes what is in the namespace, says in its status how far that came, and lets it go if nothing is left. How many
/// objects are, or kinds of them that could not be looked at.
async fn empty(client: &Client, name: &str) -> Result<usize, LiveError> {
    let api: Api<Namespace> = Api::all(client.clone());
    let Some(mut namespace) = patiently(api.get_opt(name)).await? else {
        return Ok(0);
    };
    if !is_ours(&namespace) {
        return Ok(0);
    }
    if namespace
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        != Some("Terminating")
    {
        namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        namespace = patiently(api.replace_status(name, &post_params(), &namespace)).await?;
    }
    let found = content::delete_all(client, name).await;
    if found.tell(
        namespace.status.get_or_insert_default(),
        &Time(Clock::System.now()),
    ) {
        namespace = patiently(api.replace_status(name, &post_params(), &namespace)).await?;
    }
    if !found.is_empty() {
        return Ok(found.count().max(1));
    }
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    tracing::info!(namespace = name, "empty");
    let params = post_params();
    let finalized = api.replace_subresource("finalize", name, &params, &namespace);
    patiently(finalized).await.map(|_: Namespace| 0)
}
