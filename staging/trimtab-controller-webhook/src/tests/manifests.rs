//! What the API server is told.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use super::api::Api;
use super::websites::{Defaults, Rules, Website, v1beta1};
use crate::{Admitted, Handler, Refusal, Request};
use crate::{Conversion, FailurePolicy, Hook, Operation, Target, WebhookError, Webhooks, rule};

struct Anything;

impl Handler for Anything {
    async fn handle(&self, _: &Request) -> Result<Admitted, Refusal> {
        Ok(Admitted::AsSent)
    }
}

fn webhooks() -> Webhooks {
    let pods = rule::<k8s_openapi::api::core::v1::Pod>([Operation::Connect]);
    let labels = [("web".to_owned(), "yes".to_owned())].into();
    let selector = LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    };
    Webhooks::new("websites")
        .hook(
            Hook::defaulting::<Website>(Defaults)
                .reinvoked_if_needed()
                .timeout(Duration::from_secs(3)),
        )
        .hook(Hook::validating::<Website>(Rules))
        .hook(
            Hook::validating_deletion::<Website>(Rules)
                .failure_policy(FailurePolicy::Ignore)
                .object_selector(selector.clone()),
        )
        .hook(
            Hook::validating_handler("pods.connect.example.com", [pods], Anything)
                .namespace_selector(selector)
                .match_condition("not-root", "request.userInfo.username != 'root'"),
        )
        .conversion(Conversion::hub().spoke::<v1beta1::Website>())
}

fn declared(target: &Target) -> [Value; 3] {
    let manifests = webhooks().manifests(target).expect("good webhooks");
    [
        serde_json::to_value(manifests.mutating.expect("some")).expect("JSON"),
        serde_json::to_value(manifests.validating.expect("some")).expect("JSON"),
        serde_json::to_value(&manifests.conversions[0].conversion).expect("JSON"),
    ]
}

#[test]
fn everything_that_was_said_is_declared() {
    let [mutating, validating, conversion] = declared(&Target::service("web", "w").port(8443));
    let client =
        |path: &str| json!({"service": {"namespace": "web", "name": "w", "path": path, "port": 8443}});
    let rules = |operations: &[&str]| {
        json!([{"apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["websites"],
            "operations": operations}])
    };
    let usual = |name: &str, path: &str, operations: &[&str]| {
        json!({"name": name, "clientConfig": client(path), "rules": rules(operations), "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "failurePolicy": "Fail", "matchPolicy": "Equivalent",
            "timeoutSeconds": 10})
    };
    let with = |mut webhook: Value, more: Value| {
        let more = more.as_object().expect("an object").clone();
        webhook.as_object_mut().expect("an object").extend(more);
        webhook
    };
    let changes = ["CREATE", "UPDATE"];
    let selector = json!({"matchLabels": {"web": "yes"}});
    let wanted = with(
        usual(
            "default.v1.websites.example.com",
            "/mutate-example-com-v1-website",
            &changes,
        ),
        json!({"reinvocationPolicy": "IfNeeded", "timeoutSeconds": 3}),
    );
    let metadata = json!({"name": "websites"});
    let version = "admissionregistration.k8s.io/v1";
    assert_eq!(
        mutating,
        json!({"apiVersion": version, "kind": "MutatingWebhookConfiguration", "metadata": metadata,
            "webhooks": [wanted]})
    );
    let wanted = [
        usual(
            "validate.v1.websites.example.com",
            "/validate-example-com-v1-website",
            &changes,
        ),
        with(
            usual(
                "validate-deletion.v1.websites.example.com",
                "/validate-deletion-example-com-v1-website",
                &["DELETE"],
            ),
            json!({"failurePolicy": "Ignore", "objectSelector": selector}),
        ),
        with(
            usual(
                "pods.connect.example.com",
                "/validate-pods-connect-example-com",
                &[],
            ),
            json!({"namespaceSelector": selector,
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                    "operations": ["CONNECT"]}],
                "matchConditions": [{"name": "not-root", "expression": "request.userInfo.username != 'root'"}]}),
        ),
    ];
    assert_eq!(
        validating,
        json!({"apiVersion": version, "kind": "ValidatingWebhookConfiguration", "metadata": metadata,
            "webhooks": wanted})
    );
    assert_eq!(
        conversion,
        json!({"strategy": "Webhook",
            "webhook": {"clientConfig": client("/convert"), "conversionReviewVersions": ["v1"]}})
    );

    let [mutating, _, conversion] = declared(&Target::url("https://127.0.0.1:9/w").expect("a URL"));
    assert_eq!(
        mutating["webhooks"][0]["clientConfig"],
        json!({"url": "https://127.0.0.1:9/w/mutate-example-com-v1-website"})
    );
    assert_eq!(
        conversion["webhook"]["clientConfig"],
        json!({"url": "https://127.0.0.1:9/w/convert"})
    );
}

#[test]
fn paths_of_the_core_group_are_controller_runtimes() {
    struct Pods;
    impl crate::Validator<k8s_openapi::api::core::v1::Pod> for Pods {
        async fn create(&self, _: &k8s_openapi::api::core::v1::Pod, _: &Request) -> Result<(), Refusal> {
            Ok(())
        }
    }
    let webhooks = Webhooks::new("pods").hook(Hook::validating(Pods));
    let router = webhooks.router().expect("a router");
    assert_eq!(router.paths().collect::<Vec<_>>(), ["/validate--v1-pod"]);
    let manifests = webhooks
        .manifests(&Target::service("web", "w"))
        .expect("good webhooks");
    assert_eq!(manifests.mutating, None);
    let validating = manifests.validating.expect("some").webhooks.expect("some");
    assert_eq!(validating[0].name, "validate.v1.pods.core");
}

#[test]
fn the_bundle_goes_everywhere_and_yaml_says_it_all() {
    let manifests = webhooks()
        .manifests(&Target::service("web", "w"))
        .expect("good webhooks")
        .with_ca_bundle("PEM\n");
    let yaml = manifests.to_yaml().expect("YAML");
    let documents: Vec<Value> = yaml
        .split("---\n")
        .skip(1)
        .map(|document| serde_saphyr::from_str(document).expect("YAML"))
        .collect();
    let wanted = [
        serde_json::to_value(&manifests.mutating).expect("JSON"),
        serde_json::to_value(&manifests.validating).expect("JSON"),
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "websites.example.com"},
            "spec": {"conversion": serde_json::to_value(&manifests.conversions[0].conversion).expect("JSON")}}),
    ];
    assert_eq!(documents, wanted);
    assert_eq!(yaml.matches("caBundle: UEVNCg==").count(), 5, "{yaml}");
}

#[tokio::test(start_paused = true)]
async fn manifests_are_applied_and_refusals_name_the_object() {
    let api = Api::default();
    let manifests = webhooks()
        .manifests(&Target::service("web", "w"))
        .expect("good webhooks");
    manifests.apply(&api.client(), "websites").await.expect("applied");
    let patches = std::mem::take(&mut api.0.lock().patches);
    let kinds: Vec<&Value> = patches.iter().map(|(_, body)| &body["kind"]).collect();
    assert_eq!(
        kinds,
        [
            "MutatingWebhookConfiguration",
            "ValidatingWebhookConfiguration",
            "CustomResourceDefinition"
        ]
    );
    for (query, body) in &patches {
        assert!(
            query.contains("force=true") && query.contains("fieldManager=websites"),
            "{query}"
        );
        assert!(!body.to_string().contains("caBundle"));
    }
    assert_eq!(
        patches[2].1["spec"],
        json!({"conversion": serde_json::to_value(&manifests.conversions[0].conversion).expect("JSON")})
    );

    api.0.lock().refused.push(("validating", 403));
    let refused = manifests
        .apply(&api.client(), "websites")
        .await
        .expect_err("refused");
    let says = refused.to_string();
    let wanted = "the ValidatingWebhookConfiguration websites cannot be applied: ";
    assert!(says.starts_with(wanted), "{says}");
    api.0.lock().silent = true;
    let late = manifests.apply(&api.client(), "websites").await;
    assert!(matches!(late, Err(WebhookError::Late { .. })), "{late:?}");
}

#[test]
fn what_makes_no_sense_is_not_declared() {
    let target = Target::service("web", "w");
    let validating = || Hook::validating::<Website>(Rules);
    let cases = [
        (validating().named("websites.example"), "three parts"),
        (validating().named("..websites"), "three parts"),
        (validating().timeout(Duration::from_secs(31)), "31s"),
        (validating().timeout(Duration::ZERO), "0ns"),
        (validating().timeout(Duration::from_millis(1500)), "1.5s"),
        (validating().rules([]), "no rules"),
        (
            validating()
                .match_condition("a", "true")
                .match_condition("a", "false"),
            "same name",
        ),
        (validating().reinvoked_if_needed(), "asked last"),
    ];
    for (hook, says) in cases {
        let refused = Webhooks::new("w").hook(hook).manifests(&target).expect_err(says);
        assert!(matches!(refused, WebhookError::Undeclarable { .. }));
        assert!(refused.to_string().contains(says), "{refused}");
    }

    let twice = || Webhooks::new("w").hook(validating());
    let path = twice().hook(validating().named("another.name.example.com"));
    assert!(
        matches!(path.router(), Err(WebhookError::PathTaken(path)) if path == "/validate-example-com-v1-website")
    );
    let name = twice().hook(validating().at("/another"));
    assert!(matches!(name.manifests(&target), Err(WebhookError::NameTaken(_))));
    let both = twice().hook(validating().at("/another").named("another.name.example.com"));
    assert!(both.router().is_ok());
    let slash = Webhooks::new("w").hook(validating().at("another"));
    assert!(matches!(slash.router(), Err(WebhookError::Serve(_))));
    let convert = Webhooks::new("w").hook(validating().at("/convert"));
    assert!(matches!(convert.router(), Err(WebhookError::PathTaken(_))));
    let conversion = || Conversion::hub().spoke::<v1beta1::Website>();
    let conversions = Webhooks::new("w")
        .conversion(conversion())
        .conversion(conversion());
    assert!(
        matches!(conversions.router(), Err(WebhookError::ConversionTaken(kind)) if kind == "Website.example.com")
    );
    let spokes = Webhooks::new("w").conversion(conversion().spoke::<v1beta1::Website>());
    assert!(matches!(spokes.router(), Err(WebhookError::Spoke { .. })));
}
