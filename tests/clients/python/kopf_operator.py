"""A kopf operator on a kind of its own: handlers, a timer, a finalizer, status; driven and watched from outside."""

import threading

import kopf
from kubernetes import client, watch

import shared
from shared import DEADLINE, check, part

shared.load()
NS = "operated"
GROUP = "clients.example.com"
FINALIZER = "clients.example.com/cleanup"
custom = client.CustomObjectsApi()
core = client.CoreV1Api()
WHERE = (GROUP, "v1", NS, "jars")


@kopf.on.startup()
def configure(settings, **_):
    settings.persistence.finalizer = FINALIZER


@kopf.on.create(GROUP, "v1", "jars")
def created(spec, name, namespace, body, **_):
    child = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"size": str(spec["size"])}}
    kopf.adopt(child, owner=body)
    core.create_namespaced_config_map(namespace, child)
    kopf.info(body, reason="Made", message=f"{name} has its child")
    return {"child": name}


@kopf.on.update(GROUP, "v1", "jars", field="spec.size")
def resized(old, new, name, namespace, patch, **_):
    core.patch_namespaced_config_map(name, namespace, {"data": {"size": str(new)}})
    patch.status["resized"] = f"{old}->{new}"


@kopf.on.delete(GROUP, "v1", "jars")
def deleted(name, namespace, **_):
    meta = client.V1ObjectMeta(name=f"{name}-was-here")
    core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=meta))


@kopf.timer(GROUP, "v1", "jars", interval=0.2)
def ticked(status, patch, **_):
    if status.get("ticks", 0) < 3:
        patch.status["ticks"] = status.get("ticks", 0) + 1


def wait(what, done):
    """Follows the jar until `done` says so of an event."""
    watcher = watch.Watch()
    for event in watcher.stream(custom.list_namespaced_custom_object, *WHERE, timeout_seconds=DEADLINE):
        if done(event["type"], event["object"]):
            watcher.stop()
            return event["object"]
    raise AssertionError(f"not in {DEADLINE} s: {what}")


def drive():
    with part("the operator's create handler, with its finalizer and its status"):
        custom.create_namespaced_custom_object(*WHERE, {
            "apiVersion": f"{GROUP}/v1", "kind": "Jar", "metadata": {"name": "j"}, "spec": {"size": 1}})
        jar = wait("created", lambda _, o: o.get("status", {}).get("created") == {"child": "j"})
        check("its finalizer", jar["metadata"]["finalizers"], [FINALIZER])
        child = core.read_namespaced_config_map("j", NS)
        check("the child", child.data, {"size": "1"})
        owners = [(o.kind, o.name, o.uid) for o in child.metadata.owner_references]
        check("its owner", owners, [("Jar", "j", jar["metadata"]["uid"])])
    with part("the timer"):
        wait("three ticks", lambda _, o: o.get("status", {}).get("ticks") == 3)
    with part("the update handler"):
        custom.patch_namespaced_custom_object(*WHERE, "j", {"spec": {"size": 2}})
        wait("resized", lambda _, o: o.get("status", {}).get("resized") == "1->2")
        check("the child", core.read_namespaced_config_map("j", NS).data, {"size": "2"})
    with part("events of what it did"):
        watcher = watch.Watch()
        for event in watcher.stream(core.list_namespaced_event, NS, field_selector="involvedObject.name=j",
                                    timeout_seconds=DEADLINE):
            if event["object"].reason == "Made":
                check("the message", event["object"].message, "j has its child")
                watcher.stop()
                break
        else:
            raise AssertionError("no event")
    with part("the delete handler, and the end of the object"):
        version = custom.list_namespaced_custom_object(*WHERE)["metadata"]["resourceVersion"]
        custom.delete_namespaced_custom_object(*WHERE, "j")
        watcher = watch.Watch()
        for event in watcher.stream(custom.list_namespaced_custom_object, *WHERE, resource_version=version,
                                    timeout_seconds=DEADLINE):
            if event["type"] == "DELETED":
                watcher.stop()
                break
        else:
            raise AssertionError("not deleted")
        check("cleaned up", core.read_namespaced_config_map("j-was-here", NS).metadata.name, "j-was-here")


core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NS)))
shared.establish("jars", "Jar")
ready, stop, failure = threading.Event(), threading.Event(), []


def run():
    try:
        kopf.run(namespaces=[NS], standalone=True, ready_flag=ready, stop_flag=stop, priority=0)
    except BaseException as error:  # told by the main thread
        failure.append(error)
    finally:
        ready.set()


operator = threading.Thread(target=run, daemon=True)
operator.start()
with part("the operator starts"):
    check("it is ready", ready.wait(DEADLINE), True)
    check("without failures", failure, [])
try:
    drive()
finally:
    stop.set()
    operator.join(DEADLINE)
with part("the operator stops"):
    check("it runs", operator.is_alive(), False)
    check("failures", failure, [])
