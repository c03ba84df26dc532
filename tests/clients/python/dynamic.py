"""The dynamic client and the custom objects' one, on kinds that exist since a moment ago; and the informer."""

import json
import queue

from kubernetes import client, dynamic, watch
from kubernetes.informer import informer

import shared
from shared import DEADLINE, check, part, refused

shared.load()
NS = "dynamic"
GROUP = "clients.example.com"
VERSION = f"{GROUP}/v1"
core = client.CoreV1Api()
core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NS)))


def widget(name, **spec):
    return {"apiVersion": VERSION, "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 1, **spec}}


def not_served(plural):
    """Of what is not served there is not even a Status."""
    try:
        client.CustomObjectsApi().list_namespaced_custom_object(GROUP, "v1", NS, plural)
        check(f"{plural} are served", True, False)
    except client.ApiException as error:
        check(f"the answer for {plural}", (error.status, error.body.strip()), (404, "404 page not found"))


with part("a CustomResourceDefinition, served once it is established"):
    shared.establish("widgets", "Widget", scale=True)
    with refused(422, "Invalid", "spec.versions"):
        broken = shared.definition("broken", "Broken")
        broken["spec"]["versions"][0]["storage"] = False
        client.ApiextensionsV1Api().create_custom_resource_definition(broken)
    # Its cache of discovery must be of this server alone, and must begin with the new kind.
    api = dynamic.DynamicClient(client.ApiClient())
    widgets = api.resources.get(api_version=VERSION, kind="Widget")
    check("discovery", (widgets.name, widgets.namespaced, widgets.singular_name), ("widgets", True, "widget"))
    check("the subresources", set(widgets.subresources), {"status", "scale"})

with part("custom objects: defaults, validation, pruning"):
    made = widgets.create(body=widget("a", bogus=1), namespace=NS)
    check("defaulted and pruned", made.spec.to_dict(), {"size": 1, "colour": "red"})
    with refused(422, "Invalid", "spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9"):
        widgets.create(body=widget("b", size=10), namespace=NS)
    with refused(422, "Invalid", "spec.size: Required value"):
        widgets.create(body={**widget("b"), "spec": {}}, namespace=NS)
    with refused(400, "BadRequest", 'unknown field "spec.bogus"'):
        widgets.create(body=widget("b", bogus=1), namespace=NS, query_params=[("fieldValidation", "Strict")])
    with refused(400, "BadRequest"):
        widgets.create(body={**widget("b"), "kind": "Gadget"}, namespace=NS)
    not_served("gadgets")

with part("custom objects: patches, apply, replace"):
    def patch(body, content_type, **options):
        return widgets.patch(body=body, name="a", namespace=NS, content_type=content_type, **options)

    got = patch({"spec": {"size": 2, "colour": None}}, "application/merge-patch+json")
    check("a merge, and the default again", got.spec.to_dict(), {"size": 2, "colour": "red"})
    got = patch([{"op": "replace", "path": "/spec/size", "value": 3}], "application/json-patch+json")
    check("a JSON patch", (got.spec.size, got.metadata.generation), (3, 3))
    with refused(415, "UnsupportedMediaType", "application/merge-patch+json"):
        patch({"spec": {"size": 4}}, "application/strategic-merge-patch+json")
    applied = widgets.server_side_apply(body=widget("applied", size=5), namespace=NS, field_manager="one")
    check("applied", applied.spec.size, 5)
    with refused(409, "Conflict", 'Apply failed with 1 conflict: conflict with "one": .spec.size'):
        widgets.server_side_apply(body=widget("applied", size=6), namespace=NS, field_manager="two")
    applied = widgets.server_side_apply(
        body=widget("applied", size=6), namespace=NS, field_manager="two", force_conflicts=True)
    check("forced", applied.spec.size, 6)
    stale = applied.to_dict()
    applied.spec.size = 7
    check("replaced", widgets.replace(body=applied, namespace=NS).spec.size, 7)
    with refused(409, "Conflict", 'widgets.clients.example.com "applied"'):
        widgets.replace(body=stale, namespace=NS)

with part("custom objects: status and scale"):
    got = widgets.status.patch(
        body={"spec": {"size": 9}, "status": {"replicas": 2, "any": {"thing": [1]}}},
        name="a", namespace=NS, content_type="application/merge-patch+json")
    check("only the status", (got.spec.size, got.status.to_dict()), (3, {"replicas": 2, "any": {"thing": [1]}}))
    check("no new generation", got.metadata.generation, 3)
    got = patch({"status": {"replicas": 5}}, "application/merge-patch+json")
    check("not the status", got.status.replicas, 2)
    custom = client.CustomObjectsApi()
    scale = custom.patch_namespaced_custom_object_scale(GROUP, "v1", NS, "widgets", "a", {"spec": {"replicas": 4}})
    check("the scale", (scale["kind"], scale["spec"], scale["status"]), ("Scale", {"replicas": 4}, {"replicas": 2}))
    check("the object", widgets.get(name="a", namespace=NS).spec.replicas, 4)

with part("custom objects: pages and watches"):
    for number in range(5):
        widgets.create(body=widget(f"p{number}"), namespace=NS)
    seen, token, version = [], None, None
    while True:
        page = widgets.get(namespace=NS, limit=3, _continue=token)
        seen.append([item.metadata.name for item in page.items])
        token, version = page.metadata["continue"], page.metadata.resourceVersion
        if not token:
            break
    check("the pages", seen, [["a", "applied", "p0"], ["p1", "p2", "p3"], ["p4"]])
    widgets.delete(name="p0", namespace=NS)
    widgets.create(body=widget("late"), namespace=NS)
    watcher, events = watch.Watch(), []
    for event in widgets.watch(namespace=NS, resource_version=version, timeout=DEADLINE, watcher=watcher):
        events.append((event["type"], event["object"].metadata.name))
        if len(events) == 2:
            watcher.stop()
    check("events", events, [("DELETED", "p0"), ("ADDED", "late")])

with part("the informer: the present, then what changes"):
    told = queue.Queue()
    seen = informer.SharedInformer(core.list_namespaced_config_map, namespace=NS, label_selector="seen=yes")
    for kind in (informer.ADDED, informer.MODIFIED, informer.DELETED):
        seen.add_event_handler(kind, lambda item, kind=kind: told.put((kind, item.metadata.name)))

    def config_map(name):
        meta = client.V1ObjectMeta(name=name, labels={"seen": "yes"})
        core.create_namespaced_config_map(NS, client.V1ConfigMap(metadata=meta, data={"k": "1"}))

    config_map("before")
    seen.start()
    try:
        check("the present", told.get(timeout=DEADLINE), ("ADDED", "before"))
        config_map("after")
        check("a create", told.get(timeout=DEADLINE), ("ADDED", "after"))
        core.patch_namespaced_config_map("before", NS, {"data": {"k": "2"}})
        check("a patch", told.get(timeout=DEADLINE), ("MODIFIED", "before"))
        check("the cache", seen.cache.get_by_key(f"{NS}/before").data, {"k": "2"})
        # Selected no more: it is gone for this informer, though it is there.
        core.patch_namespaced_config_map("before", NS, {"metadata": {"labels": {"seen": None}}})
        check("selected no more", told.get(timeout=DEADLINE), ("DELETED", "before"))
        check("the cache's keys", seen.cache.list_keys(), [f"{NS}/after"])
    finally:
        seen.stop()

with part("built-in kinds: unknown fields, and answers as a Table"):
    maps = api.resources.get(api_version="v1", kind="ConfigMap")
    body = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "unknown"}, "dataa": {"k": "1"}}
    with refused(400, "BadRequest", 'unknown field "dataa"'):
        maps.create(body=body, namespace=NS, query_params=[("fieldValidation", "Strict")])
    check("ignored", maps.create(body=body, namespace=NS).to_dict().get("dataa"), None)
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = json.loads(api.request("get", f"/api/v1/namespaces/{NS}/configmaps", header_params=accept, serialize=False).data)
    check("a Table", (table["kind"], [c["name"] for c in table["columnDefinitions"]]), ("Table", ["Name", "Data", "Age"]))

with part("finalizers and deletion of the definition"):
    widgets.create(namespace=NS, body={
        **widget("held"), "metadata": {"name": "held", "finalizers": ["clients.example.com/hold"]}})
    held = widgets.delete(name="held", namespace=NS)
    check("marked", held.metadata.deletionTimestamp is not None, True)
    held = widgets.get(name="held", namespace=NS)
    with refused(422, "Invalid", "metadata.finalizers"):
        widgets.patch(name="held", namespace=NS, content_type="application/merge-patch+json",
                      body={"metadata": {"finalizers": ["clients.example.com/hold", "clients.example.com/more"]}})
    widgets.patch(name="held", namespace=NS, content_type="application/merge-patch+json",
                  body={"metadata": {"finalizers": None}})
    with refused(404, "NotFound"):
        widgets.get(name="held", namespace=NS)
    extensions = client.ApiextensionsV1Api()
    name = f"widgets.{GROUP}"
    version = extensions.list_custom_resource_definition().metadata.resource_version
    extensions.delete_custom_resource_definition(name)
    watcher = watch.Watch()
    for event in watcher.stream(extensions.list_custom_resource_definition, resource_version=version,
                                field_selector=f"metadata.name={name}", timeout_seconds=DEADLINE):
        if event["type"] == "DELETED":
            watcher.stop()
    not_served("widgets")
