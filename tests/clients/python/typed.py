"""The typed client: each verb, patch, subresource and way of listing and watching."""

import datetime

from kubernetes import client, watch

import shared
from shared import DEADLINE, check, part, refused

shared.load()
core = client.CoreV1Api()
apps = client.AppsV1Api()
meta = client.V1ObjectMeta


def names(listed):
    return [item.metadata.name for item in listed.items]


with part("the version and the groups"):
    version = client.VersionApi().get_code()
    check("the major version", version.major, "1")
    groups = {group.name for group in client.ApisApi().get_api_versions().groups}
    check("groups", groups >= {"apps", "batch", "coordination.k8s.io", "rbac.authorization.k8s.io"}, True)
    served = {r.name for r in core.get_api_resources().resources}
    check("resources", served >= {"pods", "pods/status", "pods/binding", "pods/eviction", "configmaps"}, True)

core.create_namespace(client.V1Namespace(metadata=meta(name="typed")))
NS = "typed"

with part("create, read, replace, delete"):
    made = core.create_namespaced_config_map(NS, client.V1ConfigMap(metadata=meta(name="a"), data={"k": "1"}))
    check("the data", made.data, {"k": "1"})
    check("a time with its zone", made.metadata.creation_timestamp.tzinfo is not None, True)
    with refused(409, "AlreadyExists", 'configmaps "a" already exists'):
        core.create_namespaced_config_map(NS, client.V1ConfigMap(metadata=meta(name="a")))
    made.data["k"] = "2"
    new = core.replace_namespaced_config_map("a", NS, made)
    check("the same object", new.metadata.uid, made.metadata.uid)
    with refused(409, "Conflict", "the object has been modified"):
        core.replace_namespaced_config_map("a", NS, made)
    with refused(422, "Invalid", "metadata.name"):
        core.create_namespaced_config_map(NS, client.V1ConfigMap(metadata=meta(name="No_Name")))
    dry = core.create_namespaced_config_map(NS, client.V1ConfigMap(metadata=meta(name="dry")), dry_run="All")
    check("a dry run's answer", dry.metadata.name, "dry")
    with refused(404, "NotFound", 'configmaps "dry" not found'):
        core.read_namespaced_config_map("dry", NS)
    made = core.create_namespaced_config_map(NS, client.V1ConfigMap(metadata=meta(generate_name="some-")))
    check("a generated name", made.metadata.name.startswith("some-"), True)
    with refused(409, "Conflict", "does not match the UID in record"):
        core.delete_namespaced_config_map("a", NS, body=client.V1DeleteOptions(
            preconditions=client.V1Preconditions(uid="00000000-0000-0000-0000-000000000000")))
    gone = core.delete_namespaced_config_map("a", NS)
    check("a delete's answer", gone["status"], "Success")
    with refused(404, "NotFound"):
        core.delete_namespaced_config_map("a", NS)

with part("the three patches"):
    apps.create_namespaced_deployment(NS, shared.deployment("patched"))
    strategic = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "example.com/side:1"}]}}}}
    got = apps.patch_namespaced_deployment("patched", NS, strategic)
    check("a strategic merge", [c.name for c in got.spec.template.spec.containers], ["side", "main"])
    check("the generation", got.metadata.generation, 2)
    got = apps.patch_namespaced_deployment("patched", NS, strategic, _content_type="application/merge-patch+json")
    check("a merge", [c.name for c in got.spec.template.spec.containers], ["side"])
    steps = [
        {"op": "test", "path": "/spec/replicas", "value": 1},
        {"op": "replace", "path": "/spec/replicas", "value": 3},
        {"op": "add", "path": "/metadata/annotations", "value": {"a/b": "c"}},
    ]
    got = apps.patch_namespaced_deployment("patched", NS, steps)
    check("a JSON patch", (got.spec.replicas, got.metadata.annotations), (3, {"a/b": "c"}))
    with refused(422, "Invalid"):
        apps.patch_namespaced_deployment("patched", NS, steps)
    with refused(415, "UnsupportedMediaType"):
        apps.patch_namespaced_deployment("patched", NS, {}, _content_type="application/json")

with part("server-side apply: fields, conflicts, force, removal"):
    def apply(data, manager, **options):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": data}
        return core.patch_namespaced_config_map(
            "applied", NS, body, field_manager=manager, _content_type="application/apply-patch+yaml", **options).data

    check("made by apply", apply({"a": "1", "b": "1"}, "one"), {"a": "1", "b": "1"})
    check("one more", apply({"c": "1"}, "two"), {"a": "1", "b": "1", "c": "1"})
    with refused(409, "Conflict", 'conflict with "one": .data.a'):
        apply({"a": "2"}, "two")
    check("forced", apply({"a": "2"}, "two", force=True), {"a": "2", "b": "1"})
    check("taken away", apply({"a": "2"}, "one", force=True), {"a": "2"})
    managers = core.read_namespaced_config_map("applied", NS).metadata.managed_fields
    check("the managers", {(m.manager, m.operation) for m in managers}, {("one", "Apply"), ("two", "Apply")})
    with refused(422, "Invalid", "fieldManager: Required value"):
        apply({}, None)

with part("lists: selectors, pages, a resource version"):
    for number in range(7):
        labels = {"even": str(number % 2 == 0).lower(), "number": str(number)}
        core.create_namespaced_secret(NS, client.V1Secret(
            metadata=meta(name=f"s{number}", labels=labels), string_data={"k": str(number)}))
    check("by a label", names(core.list_namespaced_secret(NS, label_selector="even=true")), ["s0", "s2", "s4", "s6"])
    check("by a set", names(core.list_namespaced_secret(NS, label_selector="number in (1,3),even!=true")), ["s1", "s3"])
    check("by a field", names(core.list_namespaced_secret(NS, field_selector="metadata.name=s5")), ["s5"])
    with refused(400, "BadRequest", "field label not supported"):
        core.list_namespaced_secret(NS, field_selector="data.k=5")
    seen, token, version = [], None, None
    while True:
        page = core.list_namespaced_secret(NS, limit=3, _continue=token)
        version = version or page.metadata.resource_version
        check("one resource version for all pages", page.metadata.resource_version, version)
        seen.append(names(page))
        token = page.metadata._continue
        if not token:
            break
        check("what is left", page.metadata.remaining_item_count, 7 - sum(map(len, seen)))
        if len(seen) == 1:  # what comes between the pages is on none of them
            core.create_namespaced_secret(NS, client.V1Secret(metadata=meta(name="s55")))
    check("the pages", seen, [["s0", "s1", "s2"], ["s3", "s4", "s5"], ["s6"]])
    exact = core.list_namespaced_secret(NS, resource_version=version, resource_version_match="Exact")
    check("a list of the past", len(exact.items), 7)
    check("base64", core.read_namespaced_secret("s3", NS).data, {"k": "Mw=="})
    core.delete_collection_namespaced_secret(NS, label_selector="even=true")
    check("after deletion by a selector", names(core.list_namespaced_secret(NS)), ["s1", "s3", "s5", "s55"])

with part("watches: from a version, resumed, from the present"):
    start = core.list_namespaced_config_map(NS).metadata.resource_version

    def write(name, value):
        return core.create_namespaced_config_map(NS, client.V1ConfigMap(metadata=meta(name=name), data={"k": value}))

    write("w1", "1")
    core.patch_namespaced_config_map("w1", NS, {"data": {"k": "2"}})
    core.delete_namespaced_config_map("w1", NS)
    write("w2", "1")

    def follow(count, **options):
        watcher, found = watch.Watch(), []
        for event in watcher.stream(core.list_namespaced_config_map, NS, timeout_seconds=DEADLINE, **options):
            found.append(event)
            if len(found) == count:
                watcher.stop()
        return found, watcher.resource_version

    events, last = follow(3, resource_version=start)
    told = [(e["type"], e["object"].metadata.name, e["object"].data) for e in events]
    check("events", told, [("ADDED", "w1", {"k": "1"}), ("MODIFIED", "w1", {"k": "2"}), ("DELETED", "w1", {"k": "2"})])
    events, _ = follow(1, resource_version=last)
    check("resumed", [(e["type"], e["object"].metadata.name) for e in events], [("ADDED", "w2")])
    # From the present: what is there comes first, and with it the mark that it was all.
    watcher, kinds = watch.Watch(), []
    for event in watcher.stream(core.list_namespaced_config_map, NS, timeout_seconds=DEADLINE, send_initial_events=True,
                                resource_version_match="NotOlderThan", allow_watch_bookmarks=True):
        kinds.append(event["type"])
        if event["type"] == "BOOKMARK":
            marks = event["raw_object"]["metadata"]["annotations"]
            check("the mark", marks, {"k8s.io/initial-events-end": "true"})
            break
    check("all of the present", set(kinds[:-1]), {"ADDED"})
    check("as many as a list has", len(kinds) - 1, len(core.list_namespaced_config_map(NS).items))

with part("status and scale"):
    apps.create_namespaced_deployment(NS, shared.deployment("scaled", replicas=2))
    got = apps.patch_namespaced_deployment_status("scaled", NS, {"spec": {"replicas": 9}, "status": {"replicas": 2}})
    check("only the status", (got.spec.replicas, got.status.replicas), (2, 2))
    check("no new generation", got.metadata.generation, 1)
    scale = apps.read_namespaced_deployment_scale("scaled", NS)
    check("the scale", (scale.spec.replicas, scale.status.replicas, scale.status.selector), (2, 2, "app=scaled"))
    scale.spec.replicas = 5
    check("scaled", apps.replace_namespaced_deployment_scale("scaled", NS, scale).spec.replicas, 5)
    check("by a patch", apps.patch_namespaced_deployment_scale("scaled", NS, {"spec": {"replicas": 6}}).spec.replicas, 6)
    got = apps.read_namespaced_deployment("scaled", NS)
    check("the object", (got.spec.replicas, got.metadata.generation), (6, 3))

with part("binding and eviction"):
    core.create_namespaced_service_account(NS, client.V1ServiceAccount(metadata=meta(name="default")))
    for name in ("bound", "other"):
        core.create_namespaced_pod(NS, shared.pod(name, app="budgeted"))
    # The answers are not read as objects: servers answer with a Status, and the client takes it for a Binding.
    core.create_namespaced_pod_binding("bound", NS, client.V1Binding(
        metadata=meta(name="bound"), target=client.V1ObjectReference(kind="Node", name="node-1", api_version="v1")),
        _preload_content=False)
    bound = core.read_namespaced_pod("bound", NS)
    check("the node", bound.spec.node_name, "node-1")
    conditions = {c.type: c.status for c in bound.status.conditions}
    check("the condition", conditions.get("PodScheduled"), "True")
    with refused(409, "Conflict", "already assigned to node"):
        core.create_namespaced_pod_binding("bound", NS, client.V1Binding(
            metadata=meta(name="bound"), target=client.V1ObjectReference(kind="Node", name="node-2")))
    check("by the node", names(core.list_pod_for_all_namespaces(field_selector="spec.nodeName=node-1")), ["bound"])
    policy = client.PolicyV1Api()
    policy.create_namespaced_pod_disruption_budget(NS, client.V1PodDisruptionBudget(
        metadata=meta(name="budget"), spec=client.V1PodDisruptionBudgetSpec(
            min_available=2, selector=client.V1LabelSelector(match_labels={"app": "budgeted"}))))
    core.patch_namespaced_pod_status("bound", NS, {"status": {"phase": "Running", "conditions": [
        {"type": "Ready", "status": "True"}]}})
    eviction = client.V1Eviction(metadata=meta(name="bound"))
    with refused(429, "TooManyRequests"):
        core.create_namespaced_pod_eviction("bound", NS, eviction)
    policy.delete_namespaced_pod_disruption_budget("budget", NS)
    core.create_namespaced_pod_eviction("other", NS, client.V1Eviction(metadata=meta(name="other")), _preload_content=False)
    with refused(404, "NotFound"):
        core.read_namespaced_pod("other", NS)

with part("a token of a service account, and what it may do"):
    token = core.create_namespaced_service_account_token("default", NS, client.AuthenticationV1TokenRequest(
        spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600))).status.token
    configuration = client.Configuration.get_default_copy()
    configuration.cert_file = configuration.key_file = None
    configuration.api_key = {"authorization": f"Bearer {token}"}
    with client.ApiClient(configuration) as theirs:
        who = client.AuthenticationV1Api(theirs).create_self_subject_review({})
        check("who", who.status.user_info.username, f"system:serviceaccount:{NS}:default")
        with refused(403, "Forbidden", f'User "system:serviceaccount:{NS}:default" cannot list resource "secrets"'):
            client.CoreV1Api(theirs).list_namespaced_secret(NS)
        rbac = client.RbacAuthorizationV1Api()
        rbac.create_namespaced_role(NS, client.V1Role(metadata=meta(name="r"), rules=[
            client.V1PolicyRule(api_groups=[""], resources=["secrets"], verbs=["list"])]))
        rbac.create_namespaced_role_binding(NS, client.V1RoleBinding(
            metadata=meta(name="r"), role_ref=client.V1RoleRef(
                api_group="rbac.authorization.k8s.io", kind="Role", name="r"),
            subjects=[client.RbacV1Subject(kind="ServiceAccount", name="default", namespace=NS)]))
        review = client.AuthorizationV1Api().create_subject_access_review(client.V1SubjectAccessReview(
            spec=client.V1SubjectAccessReviewSpec(user=who.status.user_info.username,
            resource_attributes=client.V1ResourceAttributes(verb="list", resource="secrets", namespace=NS))))
        check("allowed by a review", review.status.allowed, True)
        check("allowed", "s1" in names(client.CoreV1Api(theirs).list_namespaced_secret(NS)), True)

with part("leases, events and quotas"):
    now = datetime.datetime.now(datetime.timezone.utc)
    coordination = client.CoordinationV1Api()
    lease = coordination.create_namespaced_lease(NS, client.V1Lease(metadata=meta(name="l"), spec=client.V1LeaseSpec(
        holder_identity="me", lease_duration_seconds=15, renew_time=now)))
    check("microseconds", lease.spec.renew_time, now)
    core.create_namespaced_event(NS, client.CoreV1Event(
        metadata=meta(name="e"), involved_object=client.V1ObjectReference(kind="ConfigMap", name="w2", namespace=NS),
        reason="Tried", message="it", type="Normal", first_timestamp=now, last_timestamp=now, count=1))
    found = core.list_namespaced_event(NS, field_selector="involvedObject.name=w2,reason=Tried")
    check("by what they concern", names(found), ["e"])
    core.create_namespaced_resource_quota(NS, client.V1ResourceQuota(
        metadata=meta(name="q"), spec=client.V1ResourceQuotaSpec(hard={"services": "0"})))
    core.patch_namespaced_resource_quota_status("q", NS, {"status": {"hard": {"services": "0"}, "used": {"services": "0"}}})
    with refused(403, "Forbidden", "exceeded quota: q, requested: services=1, used: services=0, limited: services=0"):
        core.create_namespaced_service(NS, client.V1Service(metadata=meta(name="x"), spec=client.V1ServiceSpec(
            ports=[client.V1ServicePort(port=80)])))
