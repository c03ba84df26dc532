//! Which entries learn of authorities, and what happens when others write.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;

use super::super::{Clock, ProvisionError, Provisioner};
use super::material::BEGIN;
use crate::target::Target;
use crate::tests::api::Api;
use crate::tests::websites::{Defaults, Rules, Website, v1beta1};
use crate::{Conversion, Hook, Webhooks};

const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/websites";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/websites";
const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/websites.example.com";

fn webhooks() -> Webhooks {
    Webhooks::new("websites")
        .hook(Hook::defaulting::<Website>(Defaults))
        .hook(Hook::validating::<Website>(Rules))
        .conversion(Conversion::hub().spoke::<v1beta1::Website>())
}

fn service(namespace: &str, name: &str) -> Value {
    json!({"service": {"namespace": namespace, "name": name, "path": "/x"}})
}

fn configuration(clients: &[Value]) -> Value {
    let webhooks: Vec<Value> = clients
        .iter()
        .map(|client| json!({"name": "n", "clientConfig": client}))
        .collect();
    json!({"metadata": {"name": "websites"}, "webhooks": webhooks, "later": {"unknown": 1}})
}

fn provisioner(api: &Api, target: &Target) -> Provisioner {
    Provisioner::in_memory(target)
        .clock(Clock::new(|| BEGIN))
        .injecting(api.client(), &webhooks())
}

fn bundles(configuration: &Value) -> Vec<Value> {
    let webhooks = configuration["webhooks"].as_array().expect("a list");
    webhooks
        .iter()
        .map(|webhook| webhook["clientConfig"]["caBundle"].clone())
        .collect()
}

#[tokio::test]
async fn entries_that_point_here_learn_of_the_authorities_and_no_others() {
    let api = Api::default();
    let target = Target::service("web", "w");
    let mut old = service("web", "w");
    old["caBundle"] = json!("b2xk");
    let mut others = service("web", "other");
    others["caBundle"] = json!("b2xk");
    let url = json!({"url": "https://w.web.svc/x"});
    api.put(
        MUTATING,
        configuration(&[service("web", "w"), others, old, service("default", "w"), url]),
    );
    // There is no validating configuration yet.
    let conversion = json!({"strategy": "Webhook", "webhook": {"clientConfig": service("web", "w")}});
    api.put(
        DEFINITION,
        json!({"metadata": {"name": "d"}, "spec": {"conversion": conversion, "group": "g"}}),
    );
    let provisioner = provisioner(&api, &target);
    provisioner.refresh().await.expect("injected");
    assert_eq!(
        api.writes(),
        ["PATCH websites 200", "PATCH websites.example.com 200"]
    );
    let ours = json!(STANDARD.encode(provisioner.ca_bundle().expect("authorities")));
    let injected = api.get(MUTATING);
    assert_eq!(
        bundles(&injected),
        [
            ours.clone(),
            json!("b2xk"),
            ours.clone(),
            Value::Null,
            Value::Null
        ]
    );
    assert_eq!(injected["later"], json!({"unknown": 1}));
    let client = &api.get(DEFINITION)["spec"]["conversion"]["webhook"]["clientConfig"];
    assert_eq!(client["caBundle"], ours);

    provisioner.refresh().await.expect("injected");
    assert_eq!(api.writes(), Vec::<String>::new(), "they know");
    // What others undo is done again; what comes later is found.
    api.put(MUTATING, configuration(&[service("web", "w")]));
    api.put(VALIDATING, configuration(&[service("web", "w")]));
    provisioner.refresh().await.expect("injected");
    for path in [MUTATING, VALIDATING] {
        assert_eq!(bundles(&api.get(path)), std::slice::from_ref(&ours), "{path}");
    }
}

#[tokio::test]
async fn a_url_points_here_if_it_begins_so() {
    let api = Api::default();
    let target = Target::url("https://127.0.0.1:9443/hooks/").expect("a URL");
    let urls = [
        ("https://127.0.0.1:9443/hooks/validate", true),
        ("https://127.0.0.1:9443/hooks", true),
        ("https://127.0.0.1:9443/hooksmith", false),
        ("https://127.0.0.1:94430/hooks/validate", false),
        ("https://127.0.0.1:9443/", false),
    ];
    api.put(
        VALIDATING,
        configuration(&urls.map(|(url, _)| json!({"url": url}))),
    );
    provisioner(&api, &target).refresh().await.expect("injected");
    let known = bundles(&api.get(VALIDATING));
    for ((url, ours), bundle) in urls.iter().zip(known) {
        assert_eq!(bundle.is_string(), *ours, "{url}");
    }
}

#[tokio::test]
async fn a_conflict_is_looked_at_again() {
    let api = Api::default();
    api.put(MUTATING, configuration(&[service("web", "w")]));
    let target = Target::service("web", "w");
    api.0.lock().others = 2;
    provisioner(&api, &target).refresh().await.expect("injected");
    assert_eq!(
        api.writes(),
        ["PATCH websites 409", "PATCH websites 409", "PATCH websites 200"]
    );

    api.put(MUTATING, configuration(&[service("web", "w")]));
    api.0.lock().others = 100;
    let failed = provisioner(&api, &target)
        .refresh()
        .await
        .expect_err("always a conflict");
    let says = failed.to_string();
    assert!(
        matches!(failed, ProvisionError::Api { .. }) && says.contains(MUTATING),
        "{says}"
    );
}

/// *Trusted before used*, where it can be seen: without a successful injection no new authority issues.
#[tokio::test]
async fn an_authority_that_cannot_be_made_known_issues_nothing() {
    let api = Api::default();
    api.put(MUTATING, configuration(&[service("web", "w")]));
    let now = Arc::new(Mutex::new(BEGIN));
    let told = now.clone();
    let provisioner = provisioner(&api, &Target::service("web", "w")).clock(Clock::new(move || *told.lock()));
    let pass = async |days: i64| {
        for _ in 0..days {
            *now.lock() += SignedDuration::from_hours(24);
            let _failed = provisioner.refresh().await;
        }
        let bundle = provisioner.ca_bundle().expect("authorities");
        (
            bundle,
            provisioner.certificates().current().expect("a certificate"),
        )
    };
    let (first, _) = pass(243).await;
    api.0.lock().refused.push(("mutatingwebhook", 403));
    let (second, shown) = pass(5).await;
    assert!(
        second.ends_with(&first) && second != first,
        "a new authority is there"
    );
    assert_eq!(bundles(&api.get(MUTATING)), [json!(STANDARD.encode(&first))]);
    let (_, later) = pass(10).await;
    assert_eq!(later, shown, "it waits");
    api.0.lock().refused.clear();
    let (third, at_last) = pass(2).await;
    assert_eq!(bundles(&api.get(MUTATING)), [json!(STANDARD.encode(&third))]);
    assert_ne!(at_last, shown, "known, and then used");
}
