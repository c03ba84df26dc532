//! Admission policies as people write them: refusals, warnings, params of a custom kind, mutations, type checking.

use trimtab_tests::Server;

const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: replicalimits.rules.example.com}
spec:
  group: rules.example.com
  scope: Namespaced
  names: {kind: ReplicaLimit, plural: replicalimits}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          maxReplicas: {type: integer}
";

const LIMIT: &str = "
apiVersion: rules.example.com/v1
kind: ReplicaLimit
metadata: {name: limit}
maxReplicas: 3
";

const POLICIES: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: replica-limit}
spec:
  paramKind: {apiVersion: rules.example.com/v1, kind: ReplicaLimit}
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
  variables:
  - {name: replicas, expression: "object.?spec.?replicas.orValue(1)"}
  validations:
  - expression: variables.replicas <= params.maxReplicas
    messageExpression: "'at most ' + string(params.maxReplicas) + ' replicas, not ' + string(variables.replicas)"
    reason: Forbidden
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: replica-limit}
spec:
  policyName: replica-limit
  validationActions: [Deny]
  paramRef: {name: limit, parameterNotFoundAction: Deny}
  matchResources:
    namespaceSelector:
      matchLabels: {limited: "yes"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: owner}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}
  validations:
  - {expression: "has(object.metadata.labels) && 'owner' in object.metadata.labels", message: nobody owns it}
  - {expression: object.spec.replica > 0 || true}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: owner}
spec: {policyName: owner, validationActions: [Warn]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: sidecar}
spec:
  reinvocationPolicy: IfNeeded
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}
  matchConditions:
  - name: has-none
    expression: "!object.spec.template.spec.?initContainers.orValue([]).exists(c, c.name == 'mesh')"
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >
        Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
          initContainers: [Object.spec.template.spec.initContainers{
            name: 'mesh', image: 'mesh/proxy:v1', restartPolicy: 'Always'}]}}}}
  - patchType: JSONPatch
    jsonPatch:
      expression: >
        [JSONPatch{op: 'add', path: '/metadata/annotations', value: {'mesh': 'none'}},
         JSONPatch{op: 'replace', path: '/metadata/annotations/' + jsonpatch.escapeKey('mesh'), value: 'on'}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: sidecar}
spec: {policyName: sidecar}
"#;

#[test]
fn policies_refuse_warn_and_change() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = Server::apiserver(dir.path(), &[]);
    let Some(kubectl) = server.kubectl() else { return };
    kubectl.with_input(&["apply", "-f", "-"], DEFINITION);
    kubectl.ok(&[
        "wait",
        "--for=condition=Established",
        "crd/replicalimits.rules.example.com",
    ]);
    kubectl.with_input(&["apply", "-f", "-"], POLICIES);
    kubectl.ok(&["label", "namespace", "default", "limited=yes"]);

    let create = ["create", "deployment", "web", "--image=web", "--replicas=5"];
    let error = kubectl.fails(&create);
    assert!(
        error.contains("no params found for policy binding with `Deny` parameterNotFoundAction"),
        "{error}"
    );
    kubectl.with_input(&["apply", "-f", "-"], LIMIT);
    let error = kubectl.fails(&create);
    let expected = "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'replica-limit' with binding 'replica-limit' \
                    denied request: at most 3 replicas, not 5";
    assert!(error.contains(expected), "{error}");
    kubectl.ok(&[
        "patch",
        "replicalimit",
        "limit",
        "--type=merge",
        "-p",
        r#"{"maxReplicas": 5}"#,
    ]);
    let made = kubectl.run(&create);
    let warned = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{warned}");
    let expected = "Warning: Validation failed for ValidatingAdmissionPolicy 'owner' with binding 'owner': nobody owns it";
    assert!(warned.contains(expected), "{warned}");
    // The scale of a deployment is none of the policy's rules' resources.
    kubectl.ok(&["scale", "deployment", "web", "--replicas=9"]);

    let web = kubectl.json(&["get", "deployment", "web"]);
    let mesh = &web["spec"]["template"]["spec"]["initContainers"];
    assert_eq!(
        (&mesh[0]["image"], &mesh[1]),
        (&"mesh/proxy:v1".into(), &serde_json::Value::Null),
        "{web}"
    );
    assert_eq!(web["metadata"]["annotations"]["mesh"], "on");

    let warnings = trimtab_tests::eventually(
        || "nobody looks at the types of expressions".to_owned(),
        || {
            let policy = kubectl.json(&["get", "validatingadmissionpolicy", "owner"]);
            let checking = policy["status"]["typeChecking"]["expressionWarnings"].clone();
            checking.is_array().then_some(checking)
        },
    );
    assert_eq!(warnings[0]["fieldRef"], "spec.validations[1].expression");
    let warning = warnings[0]["warning"].as_str().unwrap_or_default();
    assert!(
        warning.contains("apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replica'"),
        "{warning}"
    );
    let table = kubectl.ok(&["get", "mutatingadmissionpolicies,mutatingadmissionpolicybindings"]);
    assert!(
        table.contains("MUTATIONS") && table.contains("POLICYNAME"),
        "{table}"
    );
    let error = kubectl.fails(&[
        "patch",
        "validatingadmissionpolicy",
        "owner",
        "--type=merge",
        "-p",
        r#"{"spec": {"validations": [{"expression": "objekt.spec.replicas > 0"}]}}"#,
    ]);
    let expected = "spec.validations[0].expression: Invalid value: \"objekt.spec.replicas > 0\": compilation failed: ERROR: \
                    <input>:1:1: undeclared reference to 'objekt' (in container '')";
    assert!(error.contains(expected), "{error}");
    server.stop();
}
