//! What every namespace has: the service account that pods run as by default, and the certificates by which they know
//! the server. Made where it is missing, mended where it is wrong.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::{Client, Error, Resource};
use serde::Serialize;
use tokio::time::Instant;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::Object;
use trimtab_client_cache::informer::Selection;
use trimtab_client_cache::store::Store;
use trimtab_client_workqueue::{Add, WorkQueue};

use crate::context::{Context, InvalidController, without_bookkeeping};
use crate::live::{LiveError, patiently, post_params};
use crate::pool::{Outcome, Pool};

/// The name of the controller that makes service accounts.
pub(crate) const SERVICE_ACCOUNTS: &str = "serviceaccount-controller";
/// The name of the controller that makes ConfigMaps with the server's certificates.
pub(crate) const ROOT_CA: &str = "root-ca-certificate-publisher-controller";

/// The service account of pods that name none.
const DEFAULT: &str = "default";
/// Where pods find the certificates.
const ROOT_CA_CERT: &str = "kube-root-ca.crt";
/// For people who look at the ConfigMap, as kube-controller-manager puts it.
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
     internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
     clusters.",
);

/// An object that is to be in every namespace.
struct Standing<K> {
    controller: &'static str,
    name: &'static str,
    /// Without a namespace.
    wanted: K,
    /// Makes it what it should be. False: it is already.
    mend: fn(&mut K, &K) -> bool,
}

/// Makes default service accounts until told to stop.
pub(crate) async fn service_accounts(context: Context) -> Result<(), InvalidController> {
    let wanted = ServiceAccount {
        metadata: named(DEFAULT),
        ..ServiceAccount::default()
    };
    let standing = Standing {
        controller: SERVICE_ACCOUNTS,
        name: DEFAULT,
        wanted,
        mend: |_, _| false,
    };
    keep(context, standing).await
}

/// Publishes the server's certificates until told to stop. Does nothing if the options have none.
pub(crate) async fn root_ca(context: Context) -> Result<(), InvalidController> {
    let Some(root_ca) = context.options.root_ca.clone() else {
        tracing::info!(controller = ROOT_CA, "no certificates to publish");
        let _nobody_waits = context.synced.send(());
        context.stop.cancelled().await;
        return Ok(());
    };
    let (key, text) = (DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned());
    let wanted = ConfigMap {
        metadata: ObjectMeta {
            annotations: Some([(key, text)].into()),
            ..named(ROOT_CA_CERT)
        },
        data: Some([("ca.crt".to_owned(), root_ca)].into()),
        ..ConfigMap::default()
    };
    let mend = |found: &mut ConfigMap, wanted: &ConfigMap| {
        let annotations = found.metadata.annotations.get_or_insert_default();
        let described = annotations
            .get(DESCRIPTION.0)
            .is_some_and(|text| !text.is_empty());
        if described && found.data == wanted.data {
            return false;
        }
        annotations.insert(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned());
        found.data.clone_from(&wanted.data);
        true
    };
    keep(
        context,
        Standing {
            controller: ROOT_CA,
            name: ROOT_CA_CERT,
            wanted,
            mend,
        },
    )
    .await
}

async fn keep<K>(context: Context, standing: Standing<K>) -> Result<(), InvalidController>
where
    K: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize,
{
    let Context {
        client,
        informers,
        options,
        stop,
        synced,
    } = context;
    let queue = WorkQueue::builder().build()?;
    let of_name = Selection::all().fields(format!("metadata.name={}", standing.name));
    let (namespaces, objects) = (
        informers.informer::<Namespace>(without_bookkeeping()),
        informers.informer::<K>(of_name),
    );
    let keys = queue.clone();
    let by_namespace = namespaces.add_handler(move |delta| {
        let _refused_when_stopping = keys.add_with(delta.key().name.clone(), Add::now().end_backoff());
    });
    let keys = queue.clone();
    let by_object = objects.add_handler(move |delta| {
        let _refused_when_stopping = keys.add_with(delta.key().namespace.clone(), Add::now().end_backoff());
    });
    let both = async {
        by_namespace.synced().await;
        by_object.synced().await;
    };
    if stop.run_until_cancelled(both).await.is_some() {
        let _nobody_waits = synced.send(());
        let (controller, standing) = (standing.controller, Arc::new(standing));
        let (namespaces, objects) = (namespaces.store(), objects.store());
        let pool = Pool::start(controller, queue, 1, move |name: String| {
            let (client, standing) = (client.clone(), standing.clone());
            let (namespace, objects) = (namespaces.get(&ObjectKey::cluster(&name)), objects.clone());
            async move {
                let namespace = namespace.and_then(|namespace| namespace.decode().ok());
                let Some(namespace) = namespace.filter(|namespace| is_active(namespace)) else {
                    return Outcome::Done;
                };
                match ensure(&client, &standing, &objects, &name).await {
                    Ok(true) => Outcome::Done,
                    // Deleted before a watch has told of it, it would be missed by nobody.
                    Ok(false) => Outcome::Retry,
                    Err(error) if is_ending(&error) => Outcome::Done,
                    Err(error) => {
                        let namespace = namespace.metadata.name.as_deref();
                        tracing::warn!(controller, namespace, %error, "trying again");
                        Outcome::Retry
                    }
                }
            }
        });
        stop.cancelled().await;
        by_namespace.leave().await;
        by_object.leave().await;
        pool.shut_down(Instant::now() + options.drain).await;
    }
    Ok(())
}

/// False: it was made, or was there, and no watch has told of it yet.
async fn ensure<K>(
    client: &Client,
    standing: &Standing<K>,
    objects: &Store<K>,
    namespace: &str,
) -> Result<bool, LiveError>
where
    K: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let params = post_params();
    let key = ObjectKey {
        namespace: namespace.to_owned(),
        name: standing.name.to_owned(),
    };
    let Some(found) = objects.get(&key) else {
        return match patiently(api.create(&params, &standing.wanted)).await {
            Err(LiveError::Server(Error::Api(status))) if status.is_already_exists() => Ok(false),
            created => created.map(|_| false),
        };
    };
    // What cannot be decoded is not what is wanted either.
    let mut mended = match found.decode() {
        Ok(found) => (*found).clone(),
        Err(_) => standing.wanted.clone(),
    };
    if !(standing.mend)(&mut mended, &standing.wanted) {
        return Ok(true);
    }
    patiently(api.replace(standing.name, &params, &mended))
        .await
        .map(|_| true)
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
}

/// Whether the namespace is gone or going.
fn is_ending(error: &LiveError) -> bool {
    let LiveError::Server(Error::Api(status)) = error else {
        return false;
    };
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 404 || causes.any(|cause| cause.reason == "NamespaceTerminating")
}
