//! Certificates while the API server asks: made by the program and renewed, or given to it as files.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, PostParams};
use kube::client::Body;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::sync::watch;
use trimtab::apimachinery::ObjectKey;
use trimtab::controller::rbac::Rules;
use trimtab::controller::serving::Certificates;
use trimtab::controller::webhook::{Clock, Lifetimes, Provisioner, WebhookServer};
use trimtab::testing::TestEnv;

use crate::kit::{self, Outcome, Place};
use crate::{alarms, policy};

/// Has an alarm converted by whoever is at this port, over a new connection that trusts these authorities alone.
async fn ask_anew(port: u16, name: &str, authorities: &str) -> Result<Value, kube::Error> {
    let kubeconfig: Kubeconfig = serde_json::from_value(json!({
        "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "c", "cluster": {
            "server": format!("https://localhost:{port}"),
            "tls-server-name": format!("{name}.default.svc"),
            "certificate-authority-data": ByteString(authorities.as_bytes().to_vec()),
        }}],
    }))
    .expect("it is one");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let client = Client::try_from(config.expect("a configuration"))?;
    let alarm = json!({"apiVersion": "example.com/v1", "kind": "Alarm", "metadata": {"name": "a"},
        "spec": {"hour": 7, "minute": 30}});
    let review = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "request": {"uid": "u", "desiredAPIVersion": "example.com/v1alpha1", "objects": [alarm]}});
    let request = http::Request::post("/convert").header("content-type", "application/json");
    client
        .request(request.body(review.to_string().into_bytes()).expect("a request"))
        .await
}

/// Years in seconds: an authority and what it issues come and go, and no request notices.
#[tokio::test]
async fn certificates_are_renewed_while_requests_go_on() -> Outcome {
    let minutes = SignedDuration::from_mins;
    let lifetimes = Lifetimes {
        authority: minutes(60),
        serving: minutes(15),
        overlap: minutes(5),
    };
    // Certificates are valid from an hour before they are made, so all of these are by the real time, which the API server has.
    let (begin, steps) = (Timestamp::now() - minutes(10), 65);
    let now = Arc::new(AtomicI64::new(begin.as_second()));
    let told = now.clone();
    let clock = Clock::new(move || Timestamp::from_second(told.load(Ordering::Relaxed)).expect("a time"));

    let mut env = TestEnv::start().await?;
    env.install_definition(alarms::definition("v1alpha1")?).await?;
    let (client, webhooks) = (env.client(), alarms::webhooks());
    let place = Place::new(&env, "alarms").await;
    let port = place.listener.address().port();
    let provisioner = place
        .provisioner(&client, &webhooks)
        .lifetimes(lifetimes)?
        .clock(clock);
    kit::start_at(&mut env, &webhooks, place, provisioner.clone(), alarms::run).await;
    let (first, hub) = (
        Api::default_namespaced(client.clone()),
        Api::default_namespaced(client.clone()),
    );
    let alarm = alarms::v1alpha1::AlarmSpec {
        time: "7:30".to_owned(),
    };
    let alarm = alarms::v1alpha1::Alarm::new("wake", alarm);
    let rehearsal = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let real = PostParams::default();
    kit::eventually(|| first.create(&real, &alarm)).await;

    let (round, mut rounds) = watch::channel(0);
    let traffic = async {
        let another = alarms::v1alpha1::Alarm::new("another", alarm.spec.clone());
        loop {
            first.create(&rehearsal, &another).await.expect("it is validated");
            let wake: alarms::v1::Alarm = hub.get("wake").await.expect("it is converted");
            assert_eq!(wake.spec.hour, 7);
            round.send_modify(|round| *round += 1);
        }
    };
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let (mut certificates, mut bundles) = (BTreeSet::new(), Vec::new());
    let renewing = async {
        for _ in 0..steps {
            provisioner.refresh().await.expect("the cluster is there");
            let bundle = provisioner.ca_bundle().expect("authorities");
            let configuration = configurations.get("alarms").await.expect("it is there");
            let known = configuration
                .webhooks
                .iter()
                .flatten()
                .map(|hook| hook.client_config.ca_bundle.clone());
            let known: Vec<_> = known.map(|known| known.map(|known| known.0)).collect();
            assert_eq!(known, [Some(bundle.clone().into_bytes())]);
            let definition = definitions.get("alarms.example.com").await.expect("it is there");
            assert_eq!(kit::bundle_of(&definition).as_ref(), Some(&bundle));

            // An API server that starts now is answered, and so is one that has not heard of the last change.
            for trusted in [&bundle, bundles.last().unwrap_or(&bundle)] {
                let answer = ask_anew(port, "alarms", trusted).await.expect("it is believed");
                assert_eq!(answer["response"]["result"]["status"], "Success", "{answer}");
            }
            // One that had begun before goes by what was; the next one does not.
            rounds.mark_unchanged();
            for _ in 0..2 {
                rounds.changed().await.expect("requests go on");
            }
            certificates.insert(provisioner.certificates().current().expect("one"));
            if bundles.last() != Some(&bundle) {
                bundles.push(bundle);
            }
            now.fetch_add(60, Ordering::Relaxed);
        }
    };
    tokio::select! {
        biased;
        () = renewing => {}
        () = traffic => {}
    }
    let authorities: Vec<usize> = bundles
        .iter()
        .map(|bundle| bundle.matches("BEGIN").count())
        .collect();
    assert_eq!(
        authorities,
        [1, 2, 1],
        "a second one came, and then the first one went"
    );
    assert!(bundles[1].starts_with(&bundles[2]) && bundles[1].ends_with(&bundles[0]));
    assert!(
        certificates.len() > 5,
        "there were {} of 15 minutes in 65",
        certificates.len()
    );
    Ok(env.shutdown().await?)
}

/// What a pair of files holds, as cert-manager would write them, and the authority behind it.
struct Given {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: String,
}

impl Given {
    async fn new(client: &Client, place: &Place, secret: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let elsewhere = ObjectKey::namespaced("default", secret);
        Provisioner::in_secret(client.clone(), elsewhere, &place.target)
            .refresh()
            .await?;
        let secrets: Api<Secret> = Api::default_namespaced(client.clone());
        let mut data = secrets.get(secret).await?.data.unwrap_or_default();
        let mut part = |key: &str| data.remove(key).expect("it is among them").0;
        Ok(Self {
            certificate: part("tls.crt"),
            key: part("tls.key"),
            authority: String::from_utf8(part("ca.crt"))?,
        })
    }
}

#[tokio::test]
async fn certificates_from_files_are_replaced_while_requests_go_on() -> Outcome {
    let mut env = TestEnv::start().await?;
    env.install::<policy::Website>().await?;
    let (client, webhooks) = (env.client(), policy::webhooks());
    let place = Place::new(&env, "policy").await;
    let (target, port) = (place.target.clone(), place.listener.address().port());
    let (old, new) = (
        Given::new(&client, &place, "old").await?,
        Given::new(&client, &place, "new").await?,
    );
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    let write = async |name: &str, content: &[u8]| tokio::fs::write(file(name), content).await;
    write("tls.crt", &old.certificate).await?;
    write("tls.key", &old.key).await?;

    let certificates = Certificates::from_files(file("tls.crt"), file("tls.key")).await?;
    let server = WebhookServer::on(place.listener, &webhooks, certificates.clone()).await?;
    let trusting = async |authorities: &str| {
        let manifests = webhooks.manifests(&target)?.with_ca_bundle(authorities);
        manifests.apply(&client, "policy").await
    };
    trusting(&old.authority).await?;
    env.run(|client, stop| policy::run(client, server, stop));
    let is_answered = async |name: &str| {
        let site = json!({"apiVersion": "example.com/v1", "kind": "Website", "metadata": {"name": name},
            "spec": {"host": "a.b"}});
        let answer = kit::create::<policy::Website>(&client, &site, &PostParams::default()).await;
        assert_eq!(
            (answer.code, &answer.body["spec"]["replicas"]),
            (201, &json!(2)),
            "{answer:?}"
        );
    };
    is_answered("first").await;

    // Whoever is to be believed later is trusted before.
    trusting(&format!("{}{}", old.authority, new.authority)).await?;
    is_answered("second").await;
    write("tls.crt", &new.certificate).await?;
    let half = certificates
        .reload()
        .await
        .expect_err("the key is another's")
        .to_string();
    assert!(half.contains(&*file("tls.key").display().to_string()), "{half}");
    is_answered("third").await;
    write("tls.key", &new.key).await?;
    assert!(certificates.reload().await?, "it is another one");
    assert!(!certificates.reload().await?, "and stays");
    is_answered("fourth").await;
    let convert_is_not_there = |answer: Result<Value, kube::Error>| match answer {
        Err(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    };
    assert!(
        convert_is_not_there(ask_anew(port, "policy", &new.authority).await),
        "it is shown to who comes now"
    );
    assert!(
        !convert_is_not_there(ask_anew(port, "policy", &old.authority).await),
        "who must know the new one"
    );
    trusting(&new.authority).await?;
    is_answered("fifth").await;
    Ok(env.shutdown().await?)
}

/// A client of somebody who may do what they are allowed, and no more.
fn as_user(administrator: Client, user: &'static str) -> Client {
    let service = tower::service_fn(move |mut request: http::Request<Body>| {
        let user = http::HeaderValue::from_static(user);
        request.headers_mut().insert("impersonate-user", user);
        let administrator = administrator.clone();
        async move { administrator.send(request).await }
    });
    Client::new(service, "default")
}

#[tokio::test]
async fn the_rules_of_a_program_are_what_it_needs() -> Outcome {
    let mut env = TestEnv::start().await?;
    env.install_definition(alarms::definition("v1alpha1")?).await?;
    let (administrator, webhooks) = (env.client(), alarms::webhooks());
    let place = Place::new(&env, "alarms").await;
    let client = as_user(administrator.clone(), "alarms");
    let provisioner = place.provisioner(&client, &webhooks);
    let refused = provisioner
        .refresh()
        .await
        .expect_err("nothing is allowed yet")
        .to_string();
    assert!(
        refused.contains("User \"alarms\" cannot get resource \"secrets\""),
        "{refused}"
    );

    let mut rules = Rules::default();
    rules.extend(provisioner.rules());
    let roles: Api<ClusterRole> = Api::all(administrator.clone());
    roles
        .create(&PostParams::default(), &rules.cluster_role("alarms"))
        .await?;
    let binding = json!({
        "metadata": {"name": "alarms"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "alarms"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alarms"}],
    });
    let bindings: Api<ClusterRoleBinding> = Api::all(administrator.clone());
    bindings
        .create(&PostParams::default(), &serde_json::from_value(binding)?)
        .await?;
    let program = |_, server, stop| alarms::run(client.clone(), server, stop);
    kit::start_at(&mut env, &webhooks, place, provisioner, program).await;
    let others: Api<Secret> = Api::default_namespaced(client.clone());
    let (code, _) = kit::refused(others.get("another").await);
    assert_eq!(code, 403, "and no more than that");
    Ok(env.shutdown().await?)
}
