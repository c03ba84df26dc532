//! How reviews are answered.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::convert::Converts;
use super::super::review;
use super::{check_identity_kept, websites};
use crate::tests::websites::website;

fn question(desired: &str, objects: &[Value]) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "request": {"uid": "c4e55572", "desiredAPIVersion": desired, "objects": objects},
    })
}

async fn ask(question: &str) -> Result<(Value, bool), String> {
    let websites: Arc<dyn Converts> = Arc::new(websites());
    let conversions = HashMap::from([(websites.kind(), websites)]);
    let answer = review(&conversions, question.as_bytes()).await?;
    let review: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(review["apiVersion"], "apiextensions.k8s.io/v1");
    assert_eq!(review["kind"], "ConversionReview");
    assert_eq!(review["response"]["uid"], "c4e55572");
    Ok((review["response"].clone(), answer.panicked))
}

#[tokio::test]
async fn all_objects_come_back_in_their_order() {
    let mut second = website("v1alpha1", json!({"text": "b"}));
    second["metadata"]["name"] = json!("b");
    let objects = [
        website("v1beta1", json!({"html": "a"})),
        second,
        website("v1", json!({})),
    ];
    let (response, panicked) = ask(&question("example.com/v1", &objects).to_string())
        .await
        .expect("a review");
    assert!(!panicked);
    assert_eq!(response["result"], json!({"status": "Success"}));
    let converted = response["convertedObjects"].as_array().expect("a list");
    assert_eq!(converted.len(), 3);
    for (sent, converted) in objects.iter().zip(converted) {
        check_identity_kept(sent, converted);
        assert_eq!(converted["apiVersion"], "example.com/v1");
    }
    let texts: Vec<&Value> = converted.iter().map(|object| &object["spec"]["text"]).collect();
    assert_eq!(texts, [&json!("a"), &json!("b"), &Value::Null]);

    let (none, _) = ask(&question("example.com/v1", &[]).to_string())
        .await
        .expect("a review");
    assert_eq!(none["convertedObjects"], json!([]));
}

#[tokio::test]
async fn one_that_fails_fails_all() {
    let good = website("v1", json!({}));
    let bad = |key: &str, value: &str| {
        let mut bad = good.clone();
        bad[key] = json!(value);
        bad
    };
    let panicked = "the conversion panicked; its log says more";
    let cases = [
        (
            "example.com/v1beta1",
            bad("kind", "Page"),
            "Page.example.com is of no kind that is converted here",
        ),
        (
            "example.org/v1",
            good.clone(),
            "Website.example.com cannot be converted from example.com/v1 to example.org/v1, which is of another group",
        ),
        (
            "v1",
            good.clone(),
            "Website.example.com cannot be converted from example.com/v1 to v1, which is of another group",
        ),
        (
            "example.com/v2",
            good.clone(),
            "Website.example.com \"a\" cannot be converted from v1 to v2: there is no version \"v2\", \
             but v1, v1beta1, v1alpha1",
        ),
        (
            "example.com/v1",
            json!(7),
            " cannot be converted from  to example.com/v1, which is of another group",
        ),
        (
            "example.com/v1",
            website("v1beta1", json!({"html": "panic"})),
            panicked,
        ),
    ];
    for (desired, object, says) in cases {
        let question = question(desired, &[good.clone(), object]).to_string();
        let (response, did_panic) = ask(&question).await.expect("a review");
        assert_eq!(response["result"]["status"], "Failure", "{response}");
        assert_eq!(response["result"]["message"], says);
        assert_eq!(response["convertedObjects"], json!([]));
        assert_eq!(did_panic, says == panicked);
    }
}

#[tokio::test]
async fn what_is_no_review_is_not_answered() {
    let good = question("example.com/v1", &[]);
    let mut cases = vec![(
        "[]".to_owned(),
        "the body is no ConversionReview: invalid type: sequence",
    )];
    for (field, value, says) in [
        (
            "kind",
            json!("AdmissionReview"),
            "expected ConversionReview of apiextensions.k8s.io/v1",
        ),
        (
            "apiVersion",
            json!("apiextensions.k8s.io/v1beta1"),
            "of \"apiextensions.k8s.io/v1beta1\"",
        ),
        ("request", Value::Null, "request missing in ConversionReview"),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        cases.push((bad.to_string(), says));
    }
    for (body, says) in cases {
        let error = ask(&body).await.expect_err("no review");
        assert!(error.contains(says), "{error}");
    }
}
