"""What the programs share: a client with deadlines, and checks that name what they checked."""

import contextlib
import json
import sys
import traceback

from kubernetes import client, config, watch

# Seconds that a watch or a wait may take before the program gives up.
DEADLINE = 30


def load():
    """Loads the kubeconfig that KUBECONFIG names."""
    config.load_kube_config()


def check(what, got, want):
    """Ends the program at the first difference."""
    if got != want:
        sys.exit(f"DIFFERENT: {what}\n  got:  {got!r}\n  want: {want!r}")


@contextlib.contextmanager
def part(name):
    """A part of a program, which says that it passed, or where it failed."""
    try:
        yield
    except SystemExit:
        print(f"in: {name}", file=sys.stderr)
        raise
    except Exception:
        traceback.print_exc()
        sys.exit(f"FAILED: {name}")
    print(f"ok: {name}", flush=True)


@contextlib.contextmanager
def refused(code, reason, text=""):
    """What it holds must be refused, with this code, this reason and this in the message."""
    try:
        yield
    except client.ApiException as error:
        status = json.loads(error.body)
        check("the kind of the answer", (status["kind"], status["apiVersion"]), ("Status", "v1"))
        check("the code", (error.status, status["code"]), (code, code))
        check("the reason", status["reason"], reason)
        if text not in status["message"]:
            sys.exit(f"DIFFERENT: the message\n  got:  {status['message']!r}\n  want: … {text!r} …")
        return
    sys.exit(f"DIFFERENT: accepted, but {reason} was expected")


def pod(name, **labels):
    """A Pod of one container."""
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name=name, labels=labels or None),
        spec=client.V1PodSpec(containers=[client.V1Container(name="main", image="example.com/main:1")]),
    )


def deployment(name, replicas=1):
    """A Deployment of such Pods."""
    labels = {"app": name}
    return client.V1Deployment(
        metadata=client.V1ObjectMeta(name=name),
        spec=client.V1DeploymentSpec(
            replicas=replicas,
            selector=client.V1LabelSelector(match_labels=labels),
            template=client.V1PodTemplateSpec(
                metadata=client.V1ObjectMeta(labels=labels), spec=pod(name).spec
            ),
        ),
    )


def definition(plural, kind, group="clients.example.com", scale=False):
    """A CustomResourceDefinition with a status, and a scale if asked for."""
    subresources = {"status": {}}
    if scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
        }
    properties = {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 9},
                "colour": {"type": "string", "default": "red"},
                "replicas": {"type": "integer"},
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
                    "subresources": subresources,
                }
            ],
        },
    }


def establish(plural, kind, **options):
    """Creates a CustomResourceDefinition and waits until it is served."""
    extensions = client.ApiextensionsV1Api()
    wanted = definition(plural, kind, **options)
    extensions.create_custom_resource_definition(wanted)
    watcher = watch.Watch()
    selector = f"metadata.name={wanted['metadata']['name']}"
    for event in watcher.stream(
        extensions.list_custom_resource_definition, field_selector=selector, timeout_seconds=DEADLINE
    ):
        conditions = event["object"].status.conditions or []
        if any(c.type == "Established" and c.status == "True" for c in conditions):
            watcher.stop()
            return
    sys.exit(f"DIFFERENT: {plural} were not established in {DEADLINE} s")
