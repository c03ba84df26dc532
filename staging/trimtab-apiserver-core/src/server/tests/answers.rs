//! Answers of a whole server that are kube-apiserver's, where they depend on more than one kind's rules.

use http::Method;
use serde_json::{Value, json};

use super::{send, server};

/// A request, and what of its answer is looked at: the code, and a part of the body or the first warning.
struct Step(Method, &'static str, Value, u16, &'static str, Value);

#[tokio::test]
async fn requests_are_answered_as_by_kube_apiserver() {
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {"restartPolicy": "Never",
        "containers": [{"name": "c", "image": "i"}]}}}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let mut other_pod = pod.clone();
    other_pod["metadata"]["name"] = json!("q");
    let orphans = "299 - \"child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove \
                   them or set propagationPolicy=Orphan to suppress this warning\"";
    let steps = [
        // Jobs leave their pods alone, as of old, and say so.
        Step(
            Method::POST,
            "/apis/batch/v1/namespaces/default/jobs",
            job,
            201,
            "/kind",
            json!("Job"),
        ),
        Step(
            Method::DELETE,
            "/apis/batch/v1/namespaces/default/jobs/j",
            json!({"dryRun": ["All"], "propagationPolicy": "Background"}),
            200,
            "/status",
            json!("Success"),
        ),
        Step(
            Method::DELETE,
            "/apis/batch/v1/namespaces/default/jobs/j",
            json!({"dryRun": ["All"]}),
            200,
            "warning",
            json!(orphans),
        ),
        Step(
            Method::DELETE,
            "/apis/batch/v1/namespaces/default/jobs/j",
            Value::Null,
            200,
            "/metadata/finalizers",
            json!(["orphan"]),
        ),
        Step(
            Method::GET,
            "/apis/batch/v1/jobs?fieldSelector=spec.x%3Dy",
            Value::Null,
            400,
            "/message",
            json!("field label \"spec.x\" not supported for Job"),
        ),
        // Kinds of storage answer with what was deleted.
        Step(
            Method::POST,
            "/apis/storage.k8s.io/v1/storageclasses",
            json!({"metadata": {"name": "s"}, "provisioner": "p"}),
            201,
            "/kind",
            json!("StorageClass"),
        ),
        Step(
            Method::DELETE,
            "/apis/storage.k8s.io/v1/storageclasses/s",
            Value::Null,
            200,
            "/kind",
            json!("StorageClass"),
        ),
        // A binding names the pod that it is about.
        Step(
            Method::POST,
            "/api/v1/namespaces/default/serviceaccounts",
            json!({"metadata": {"name": "default"}}),
            201,
            "/kind",
            json!("ServiceAccount"),
        ),
        Step(
            Method::POST,
            "/api/v1/namespaces/default/pods",
            pod,
            201,
            "/kind",
            json!("Pod"),
        ),
        Step(
            Method::POST,
            "/api/v1/namespaces/default/pods/p/binding",
            json!({"target": {"name": "n"}}),
            400,
            "/message",
            json!("name in URL does not match name in Binding object"),
        ),
        Step(
            Method::POST,
            "/api/v1/namespaces/default/pods/p/binding",
            json!({"metadata": {"name": "p"}, "target": {"name": "n"}}),
            201,
            "/status",
            json!("Success"),
        ),
        // So does one at the namespace, the old way.
        Step(
            Method::POST,
            "/api/v1/namespaces/default/bindings",
            json!({"target": {"name": "n"}}),
            400,
            "/message",
            json!("Name parameter required."),
        ),
        Step(
            Method::POST,
            "/api/v1/namespaces/default/bindings",
            json!({"metadata": {"name": "p"}, "target": {"name": "n"}}),
            409,
            "/message",
            json!(
                "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n\""
            ),
        ),
        Step(
            Method::POST,
            "/api/v1/namespaces/default/pods",
            other_pod,
            201,
            "/kind",
            json!("Pod"),
        ),
        Step(
            Method::POST,
            "/api/v1/namespaces/default/bindings",
            json!({"metadata": {"name": "q"}, "target": {"name": "n"}}),
            201,
            "/status",
            json!("Success"),
        ),
        Step(
            Method::GET,
            "/api/v1/namespaces/default/pods/q",
            Value::Null,
            200,
            "/spec/nodeName",
            json!("n"),
        ),
        // An eviction says on the pod why it goes.
        Step(
            Method::POST,
            "/api/v1/namespaces/default/pods/q/eviction",
            json!({"metadata": {"name": "q"}, "deleteOptions": {"preconditions": {"uid": "u"}}}),
            409,
            "/details/kind",
            json!("Pod"),
        ),
        Step(
            Method::POST,
            "/api/v1/namespaces/default/pods/q/eviction?dryRun=All",
            json!({"metadata": {"name": "q"}}),
            201,
            "/status",
            json!("Success"),
        ),
        Step(
            Method::GET,
            "/api/v1/namespaces/default/pods/q",
            Value::Null,
            200,
            "/status/conditions/1",
            Value::Null,
        ),
        Step(
            Method::POST,
            "/api/v1/namespaces/default/pods/q/eviction",
            json!({"metadata": {"name": "q"}}),
            201,
            "/status",
            json!("Success"),
        ),
        Step(
            Method::GET,
            "/api/v1/namespaces/default/pods/q",
            Value::Null,
            200,
            "/status/conditions/1/reason",
            json!("EvictionByEvictionAPI"),
        ),
        // Limits have a name even if they are given none.
        Step(
            Method::POST,
            "/api/v1/namespaces/default/limitranges",
            json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}}),
            201,
            "/kind",
            json!("LimitRange"),
        ),
        // Of tokens that are bound, the version of what they are bound to does not matter.
        Step(
            Method::POST,
            "/api/v1/namespaces/default/serviceaccounts/default/token",
            json!({"spec": {"boundObjectRef": {"kind": "Pod", "name": "none"}}}),
            404,
            "/message",
            json!("pods \"none\" not found"),
        ),
        // What may be old comes in one page.
        Step(
            Method::GET,
            "/api/v1/namespaces?limit=1&resourceVersion=0",
            Value::Null,
            200,
            "/metadata/continue",
            Value::Null,
        ),
        Step(
            Method::GET,
            "/api/v1/namespaces?limit=1",
            Value::Null,
            200,
            "/items/0/metadata/name",
            json!("default"),
        ),
    ];
    let server = server().await;
    let service = server.service();
    for Step(method, path, body, code, at, expected) in steps {
        let (answered, warnings, answer) = send(&service, method.clone(), path, &body).await;
        assert_eq!(answered.as_u16(), code, "{method} {path}: {answer}");
        let found = match at {
            "warning" => warnings.first().map(|w| json!(w)).unwrap_or_default(),
            at => answer.pointer(at).cloned().unwrap_or_default(),
        };
        assert_eq!(found, expected, "{method} {path}: {answer}");
    }
    server.shutdown().await.expect("stops");
}
