//! What is refused in pod specs, in the words of Kubernetes.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::FieldPath;

use super::*;
use crate::strategies::checks::tests::told;

/// A good pod spec with fields replaced.
fn spec(pod: &Value, container: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "emptyDir": {}}]});
    for (field, value) in pod.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    for (field, value) in container.as_object().into_iter().flatten() {
        spec["containers"][0][field] = value.clone();
    }
    default_pod_spec(&mut spec);
    spec
}

#[test]
fn errors_of_pods_and_containers() {
    let none = json!({});
    let cases: [(Value, Value, &[&str]); 17] = [
        (none.clone(), none.clone(), &[]),
        (
            json!({"containers": []}),
            Value::Null,
            &["spec.containers: Required value"],
        ),
        (
            none.clone(),
            json!({"name": "", "image": ""}),
            &[
                "spec.containers[0].name: Required value",
                "spec.containers[0].image: Required value",
            ],
        ),
        (
            json!({"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]}),
            none.clone(),
            &["spec.containers[1].name: Duplicate value: \"c\""],
        ),
        (
            json!({"initContainers": [{"name": "c", "image": "i", "lifecycle": {}}]}),
            none.clone(),
            &[
                "spec.initContainers[0].name: Duplicate value: \"c\"",
                "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without \
                 restartPolicy=Always",
            ],
        ),
        (
            json!({"restartPolicy": "Sometimes"}),
            none.clone(),
            &[
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \
                 \"Never\"",
            ],
        ),
        (
            none.clone(),
            json!({"ports": [{"containerPort": 80, "name": "a"}, {"containerPort": 99999, "name": "a"}]}),
            &[
                "spec.containers[0].ports[1].name: Duplicate value: \"a\"",
                "spec.containers[0].ports[1].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            none.clone(),
            json!({"env": [{"name": "a=b"}, {"name": "x", "valueFrom": {}}]}),
            &[
                "spec.containers[0].env[0].name: Invalid value: \"a=b\": a valid environment variable name must consist \
                 only of printable ASCII characters other than '='",
                "spec.containers[0].env[1].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, \
                 `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            ],
        ),
        (
            none.clone(),
            json!({"env": [{"name": "n", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]}),
            &[
                "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nope\": error converting \
                 fieldPath: field label not supported: spec.nope",
            ],
        ),
        (
            none.clone(),
            json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "w", "mountPath": "/a"}]}),
            &[
                "spec.containers[0].volumeMounts[1].name: Not found: \"w\"",
                "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique",
            ],
        ),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}, "configMap": {"name": "m"}}]}),
            none.clone(),
            &["spec.volumes[0].configMap: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            json!({"volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {
                "accessModes": ["ReadWriteOnce"]}}}}]}),
            none.clone(),
            &["spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value"],
        ),
        (
            none.clone(),
            json!({"livenessProbe": {"successThreshold": 2}}),
            &[
                "spec.containers[0].livenessProbe: Required value: must specify a handler type",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        ),
        (
            none.clone(),
            json!({"readinessProbe": {"httpGet": {"port": "NO"}}}),
            &[
                "spec.containers[0].readinessProbe.httpGet.port: Invalid value: \"NO\": must contain only alpha-numeric \
                 characters (a-z, 0-9), and hyphens (-)",
                "spec.containers[0].readinessProbe.httpGet.port: Invalid value: \"NO\": must contain at least one letter \
                 (a-z)",
            ],
        ),
        (
            json!({"tolerations": [{"value": "x"}], "activeDeadlineSeconds": 0}),
            none.clone(),
            &[
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
                "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which \
                 means \"match all values and all keys\"",
            ],
        ),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}}),
            none.clone(),
            &[
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required \
                 value: must have at least one node selector term",
            ],
        ),
        (
            json!({"ephemeralContainers": [{"name": "e", "image": "i", "lifecycle": {"preStop": {"exec": {}}}}]}),
            none,
            &["spec.ephemeralContainers[0].lifecycle: Forbidden: cannot be set for an Ephemeral Container"],
        ),
    ];
    for (pod, container, expected) in cases {
        let errors = validate_pod_spec(&spec(&pod, &container), &FieldPath::new("spec"));
        assert_eq!(told(&errors), expected, "{pod} {container}");
    }
}
