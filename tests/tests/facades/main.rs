//! The facades from outside: each path a user writes resolves, and what is shared between tasks can be.
//!
//! Most of this is shown by compiling. It breaks when a public name goes or a type loses `Send`.
//!
//! - `phases`: a declared phase, its schema, and the server that has it.
//! - `claims`: patches that adopt and release.

mod claims;
mod phases;

use trimtab::{apimachinery, apiserver, client, controller, testing, workloads};

fn shared<T: Send + Sync + 'static>() -> &'static str {
    std::any::type_name::<T>()
}

fn sent<T: Send>(value: T) -> T {
    value
}

#[test]
fn what_tasks_share_can_be_shared() {
    let all = [
        shared::<apimachinery::ApiError>(),
        shared::<apimachinery::ObjectKey>(),
        shared::<apimachinery::phase::Machine>(),
        shared::<apimachinery::schema::Schema>(),
        shared::<apimachinery::structural::Validator>(),
        shared::<client::cache::InformerFactory>(),
        shared::<client::cache::expectations::Expectations<apimachinery::ObjectKey>>(),
        shared::<client::cache::SharedInformer<k8s_openapi::api::core::v1::Pod>>(),
        shared::<client::cache::store::Store<k8s_openapi::api::core::v1::Pod>>(),
        shared::<client::events::Recorder>(),
        shared::<client::leader::Elector>(),
        shared::<client::leader::StatusHandle>(),
        shared::<client::sharding::Held>(),
        shared::<client::sharding::Member>(),
        shared::<client::sharding::Shards>(),
        shared::<client::workqueue::WorkQueue<String>>(),
        shared::<controller::Manager>(),
        shared::<controller::Error>(),
        shared::<controller::introspection::Introspection>(),
        shared::<controller::introspection::Page>(),
        shared::<controller::introspection::Timeline>(),
        shared::<controller::introspection::TurnRecord>(),
        shared::<apiserver::ApiServer>(),
        shared::<apiserver::StartError>(),
        shared::<apiserver::storage::EmbeddedStore>(),
        shared::<workloads::SetError>(),
        shared::<testing::EnvError>(),
    ];
    let inside = |name: &str| name.starts_with("trimtab_");
    assert!(all.iter().all(|name| inside(name)), "{all:?}");
}

#[tokio::test]
async fn what_runs_for_long_can_run_on_any_thread() {
    let queue = client::workqueue::WorkQueue::<u8>::builder()
        .build()
        .expect("the defaults make sense");
    queue.add(1).expect("it is open");
    let taken = tokio::spawn(sent(async move { queue.get().await.map(|work| *work.key()) }));
    assert_eq!(taken.await.expect("it does not panic"), Some(1));

    let env = tokio::spawn(sent(testing::TestEnv::start()))
        .await
        .expect("it does not panic");
    let env = env.expect("it starts");
    let stop = tokio_util::sync::CancellationToken::new();
    let manager = controller::Manager::new(env.client());
    stop.cancel();
    tokio::spawn(sent(async move { manager.run(stop).await }))
        .await
        .expect("it does not panic")
        .expect("it stops");
    tokio::spawn(sent(env.shutdown()))
        .await
        .expect("it does not panic")
        .expect("it stops");
}
