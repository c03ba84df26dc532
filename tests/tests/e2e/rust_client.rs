//! A Rust program on the `kube` crate: typed and dynamic CRUD, server-side apply, watch.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use trimtab_tests::Server;

pub(crate) async fn client(server: &Server) -> kube::Client {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).expect("the server wrote a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .expect("it makes sense");
    kube::Client::try_from(config).expect("it makes a client")
}

#[tokio::test]
async fn the_kube_crate_reads_writes_and_watches() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = Server::up(dir.path(), &["--storage=memory"]);
    let client = client(&server).await;

    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let data = |value: &str| Some(BTreeMap::from([("a".to_owned(), value.to_owned())]));
    let mut map = ConfigMap {
        data: data("1"),
        ..ConfigMap::default()
    };
    map.metadata.name = Some("rs".to_owned());
    let created = maps.create(&PostParams::default(), &map).await.expect("created");
    let version = created
        .metadata
        .resource_version
        .clone()
        .expect("stored objects have a version");

    let mut changed = created.clone();
    changed.data = data("2");
    maps.replace("rs", &PostParams::default(), &changed)
        .await
        .expect("replaced");
    let stale = maps
        .replace("rs", &PostParams::default(), &created)
        .await
        .expect_err("stale");
    assert!(matches!(stale, kube::Error::Api(status) if status.code == 409));

    let applied = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"b": "3"}});
    let params = PatchParams::apply("test");
    let merged = maps
        .patch("rs", &params, &Patch::Apply(&applied))
        .await
        .expect("applied");
    assert_eq!(
        merged.data.map(|d| d.len()),
        Some(2),
        "apply adds what is new and keeps what others own"
    );

    let sites: Api<DynamicObject> = Api::default_namespaced_with(
        client.clone(),
        &ApiResource::from_gvk(&GroupVersionKind::gvk("samples.example.com", "v1", "Website")),
    );
    let none = sites
        .list(&ListParams::default())
        .await
        .expect("the custom resource is served");
    assert!(none.items.is_empty());

    maps.delete("rs", &DeleteParams::default())
        .await
        .expect("deleted");
    let params = WatchParams::default().fields("metadata.name=rs").timeout(60);
    let events = maps.watch(&params, &version).await.expect("watched").take(3);
    let kinds: Vec<&str> = events
        .map_ok(|event| match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            WatchEvent::Bookmark(_) => "bookmark",
            WatchEvent::Error(_) => "error",
        })
        .try_collect()
        .await
        .expect("the watch goes on");
    assert_eq!(kinds, ["modified", "modified", "deleted"]);
}
