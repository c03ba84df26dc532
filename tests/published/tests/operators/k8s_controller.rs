//! k8s-controller 0.15.0, on kube 5, as its documentation says to use it: a controller that counts Pods, with a finalizer.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Mutex;

use k8s_controller::{Context, Controller, TraceMetadata};
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt as _};
use kube_runtime::controller::Action;
use kube_runtime::watcher;
use serde_json::json;
use trimtab_testing::perturb::Perturb;

/// Counts the Pods that are not gone.
#[derive(Default)]
struct Counter(Mutex<BTreeSet<String>>);

#[async_trait::async_trait]
impl Context for Counter {
    type Resource = Pod;
    type Error = kube::Error;

    const FINALIZER_NAME: Option<&'static str> = Some("example.com/counter");

    async fn apply(
        &self,
        _: Client,
        pod: &Pod,
        _: &mut TraceMetadata,
    ) -> Result<Option<Action>, kube::Error> {
        self.0.lock().expect("nobody panics").extend(pod.uid());
        Ok(None)
    }

    async fn cleanup(
        &self,
        _: Client,
        pod: &Pod,
        _: &mut TraceMetadata,
    ) -> Result<Option<Action>, kube::Error> {
        self.0
            .lock()
            .expect("nobody panics")
            .remove(&pod.uid().unwrap_or_default());
        Ok(None)
    }
}

#[test]
fn the_counter_of_pods_passes() {
    let pod = json!({
        "metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "none"}]},
    });
    let pod: Pod = serde_json::from_value(pod).expect("a Pod");
    Perturb::new(|client, _| async move {
        let counter = Counter::default();
        Controller::namespaced_all(client, counter, watcher::Config::default())
            .run()
            .await;
        Ok::<_, Infallible>(())
    })
    .scenario(|users| {
        users
            .create(pod)
            .until("it is counted", |world| {
                world
                    .get::<Pod>("default", "a")
                    .is_some_and(|pod| !pod.finalizers().is_empty())
            })
            .delete::<Pod>("a")
            .until("it is gone", |world| world.count::<Pod>() == 0)
    })
    .plans(usize::MAX)
    .check();
}
