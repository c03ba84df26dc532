//! What the status of policies tells of their expressions.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::super::status;
use super::kit::validating;
use crate::admission::kit::{CONFIGURATIONS, Server};

fn policy(resources: &[&str], validations: &Value) -> Value {
    json!({"spec": {
        "matchConstraints": {"resourceRules": [
            {"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": resources},
        ]},
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "variables": [{"name": "replicas", "expression": "object.spec.replicas"}],
        "validations": validations,
    }})
}

#[tokio::test]
async fn expressions_that_do_not_fit_are_warned_of() {
    let server = Server::new().await;
    let resources = server.registry.resources().snapshot();
    let warnings = |resources_: &[&str], validations: Value| {
        status::warnings(&policy(resources_, &validations), &resources)
    };
    let fine = json!([
        {"expression": "variables.replicas > 1 && params.data['x'] == 'y' && object.metadata.labels.a == 'b'",
            "messageExpression": "'at ' + string(variables.replicas)"},
        {"expression": "object.spec.template.spec.containers.all(c, c.image.startsWith('r/'))"},
    ]);
    assert_eq!(
        warnings(&["deployments", "deployments/status"], fine.clone()),
        Vec::<Value>::new()
    );
    assert_eq!(
        warnings(&["*"], json!([{"expression": "object.wrong == 1"}])),
        Vec::<Value>::new()
    );
    let wrong = json!([
        {"expression": "object.spec.replica > 1"},
        {"expression": "variables.replicas > 'a'", "messageExpression": "params.wrong"},
    ]);
    let found = warnings(&["statefulsets", "deployments"], wrong);
    let fields: Vec<&Value> = found.iter().map(|warning| &warning["fieldRef"]).collect();
    assert_eq!(
        fields,
        [
            "spec.validations[0].expression",
            "spec.validations[1].expression",
            "spec.validations[1].messageExpression"
        ]
    );
    let fault =
        "ERROR: <input>:1:12: undefined field 'replica'\n | object.spec.replica > 1\n | ...........^\n";
    let expected = format!("apps/v1, Kind=Deployment: {fault}\napps/v1, Kind=StatefulSet: {fault}");
    assert_eq!(found[0]["warning"], json!(expected));
}

#[tokio::test(start_paused = true)]
async fn each_generation_is_looked_at_once() {
    let server = Server::new().await;
    let stop = CancellationToken::new();
    let task = status::start(server.registry.clone(), stop.clone());
    let path = format!("{CONFIGURATIONS}/validatingadmissionpolicies/p");
    let settled = async |generation: i64| {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let policy = server.ok("get", &path, Value::Null).await;
            if policy["status"]["observedGeneration"] == json!(generation) {
                return policy["status"].clone();
            }
        }
        panic!("generation {generation} was not looked at");
    };
    validating(
        &server,
        "p",
        json!({"validations": [{"expression": "object.data.x == 1"}]}),
    )
    .await;
    let status = settled(1).await;
    let warning = status["typeChecking"]["expressionWarnings"][0]["warning"]
        .as_str()
        .unwrap_or_default();
    assert!(
        warning.starts_with("/v1, Kind=ConfigMap: ERROR: <input>:1:15: found no matching overload"),
        "{warning}"
    );
    server
        .ok(
            "patch",
            &path,
            json!({"spec": {"validations": [{"expression": "object.data.x == '1'"}]}}),
        )
        .await;
    assert_eq!(
        settled(2).await["typeChecking"]["expressionWarnings"],
        Value::Null
    );
    let before = server.ok("get", &path, Value::Null).await;
    server
        .ok("patch", &path, json!({"metadata": {"labels": {"a": "b"}}}))
        .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = server.ok("get", &path, Value::Null).await;
    assert_eq!(before["status"], after["status"]);
    stop.cancel();
    task.await.expect("ends");
}
