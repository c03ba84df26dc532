//! The Python client from PyPI: CRUD, watch, custom objects.

use trimtab_tests::{Server, python};

const PROGRAM: &str = r#"
from kubernetes import client, config, watch
config.load_kube_config()
core = client.CoreV1Api()
core.create_namespaced_config_map("default", client.V1ConfigMap(
    metadata=client.V1ObjectMeta(name="py", labels={"by": "python"}), data={"a": "1"}))
found = core.read_namespaced_config_map("py", "default")
assert found.data == {"a": "1"}, found
found.data["a"] = "2"
replaced = core.replace_namespaced_config_map("py", "default", found)
assert int(replaced.metadata.resource_version) > int(found.metadata.resource_version)
try:
    core.replace_namespaced_config_map("py", "default", found)
    raise SystemExit("a stale write was accepted")
except client.ApiException as error:
    assert error.status == 409, error
core.patch_namespaced_config_map("py", "default", {"data": {"b": "3"}})
listed = core.list_namespaced_config_map("default", label_selector="by=python")
assert [item.data for item in listed.items] == [{"a": "2", "b": "3"}], listed

core.delete_namespaced_config_map("py", "default")
events = []
for event in watch.Watch().stream(core.list_namespaced_config_map, "default", label_selector="by=python",
                                  resource_version=listed.metadata.resource_version, timeout_seconds=30):
    events.append((event["type"], event["object"].metadata.name))
    break
assert events == [("DELETED", "py")], events

sites = client.CustomObjectsApi()
where = ("samples.example.com", "v1", "default", "websites")
sites.create_namespaced_custom_object(*where, {
    "apiVersion": "samples.example.com/v1", "kind": "Website",
    "metadata": {"name": "py"}, "spec": {"html": "hello", "host": "py.example.com"}})
for event in watch.Watch().stream(sites.list_namespaced_custom_object, *where, timeout_seconds=30):
    conditions = event["object"].get("status", {}).get("conditions", [])
    if any(c["type"] == "Synced" and c["status"] == "True" for c in conditions):
        print("synced")
        break
"#;

#[test]
fn the_python_client_reads_writes_and_watches() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = Server::up(dir.path(), &["--storage=memory"]);
    if let Some(printed) = python(server.kubeconfig(), PROGRAM) {
        assert_eq!(printed.trim(), "synced");
    }
}
