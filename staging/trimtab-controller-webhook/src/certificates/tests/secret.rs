//! Replicas that share a Secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::ObjectKey;

use super::super::{Clock, Lifetimes, ProvisionError, Provisioner};
use super::material::BEGIN;
use crate::target::Target;
use crate::tests::api::Api;
use jiff::SignedDuration;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const SECRET: &str = "/api/v1/namespaces/web/secrets/certs";

fn replica(api: &Api) -> Provisioner {
    let target = Target::service("web", "w");
    Provisioner::in_secret(api.client(), ObjectKey::namespaced("web", "certs"), &target)
        .clock(Clock::new(|| BEGIN))
}

#[tokio::test]
async fn the_first_makes_what_all_show() {
    let api = Api::default();
    let replicas = [replica(&api), replica(&api), replica(&api)];
    assert_eq!(replicas[0].ca_bundle(), None);
    let [a, b, c] = &replicas;
    let (a, b, c) = tokio::join!(a.refresh(), b.refresh(), c.refresh());
    (a.and(b).and(c)).expect("certificates");
    assert_eq!(
        api.writes(),
        ["POST secrets 200", "POST secrets 409", "POST secrets 409"],
        "they were all at it"
    );
    let shown = replicas
        .each_ref()
        .map(|replica| replica.certificates().current());
    assert!(shown[0].is_some() && shown.iter().all(|other| *other == shown[0]));
    assert!(
        replicas
            .iter()
            .all(|replica| replica.ca_bundle() == replicas[0].ca_bundle())
    );

    let secret = api.get(SECRET);
    assert_eq!(secret["type"], "kubernetes.io/tls");
    let bundle = STANDARD
        .decode(secret["data"]["ca.crt"].as_str().expect("authorities"))
        .expect("base64");
    assert_eq!(String::from_utf8(bundle).ok(), replicas[0].ca_bundle());
    // A later one, and a restarted one, read it; nobody writes.
    replica(&api).refresh().await.expect("certificates");
    replicas[1].refresh().await.expect("certificates");
    assert_eq!(api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_renewal_is_written_once_at_the_version_seen() {
    let api = Api::default();
    replica(&api).refresh().await.expect("certificates");
    let later = || {
        let now = BEGIN + SignedDuration::from_hours(24 * 70);
        replica(&api).clock(Clock::new(move || now))
    };
    let (one, two) = (later(), later());
    let (first, second) = tokio::join!(one.refresh(), two.refresh());
    first.and(second).expect("certificates");
    assert_eq!(
        api.writes(),
        ["POST secrets 200", "PUT certs 200", "PUT certs 409"]
    );
    assert_eq!(one.certificates().current(), two.certificates().current());
    // Somebody who writes all the time is told of, and not waited for.
    api.0.lock().others = 100;
    let now = BEGIN + SignedDuration::from_hours(24 * 140);
    let beaten = replica(&api).clock(Clock::new(move || now)).refresh().await;
    assert!(matches!(beaten, Err(ProvisionError::Contended(secret)) if secret == "web/certs"));
}

#[tokio::test]
async fn others_secrets_are_left_alone_and_empty_ones_filled() {
    let api = Api::default();
    let secret = |data: Value| json!({"metadata": {"name": "certs", "namespace": "web"}, "type": "Opaque", "data": data});
    api.put(SECRET, secret(json!({"tls.crt": "eA==", "tls.key": "eA=="})));
    let foreign = replica(&api).refresh().await.expect_err("somebody else's");
    assert!(matches!(foreign, ProvisionError::Foreign(_)));
    assert_eq!(
        foreign.to_string(),
        "the Secret web/certs holds something else than certificates of webhooks; remove it, or name another"
    );
    assert_eq!(api.writes(), Vec::<String>::new());

    api.put(SECRET, secret(Value::Null));
    replica(&api).refresh().await.expect("certificates");
    let mut filled = api.get(SECRET);
    assert_eq!(filled["type"], "Opaque");
    assert!(filled["data"]["tls.crt"].is_string());

    // Ours, but damaged; what others have added stays.
    filled["data"]["tls.key"] = json!("eA==");
    filled["data"]["more"] = json!("eA==");
    api.put(SECRET, filled);
    let mended = replica(&api);
    mended.refresh().await.expect("certificates");
    assert!(!mended.certificates().is_empty());
    assert_eq!(api.get(SECRET)["data"]["more"], "eA==");
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_until_the_stop() {
    let api = Api::default();
    api.0.lock().refused.push(("secrets", 403));
    let provisioner = replica(&api);
    let stop = CancellationToken::new();
    let watching = async {
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert!(provisioner.certificates().is_empty());
        let tries = api.writes();
        assert_eq!(
            tries,
            vec!["POST secrets 403"; 6],
            "after 0, 1, 3, 7, 15 and 31 seconds"
        );
        api.0.lock().refused.clear();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!provisioner.certificates().is_empty());
        // From now on once a minute.
        api.0.lock().log.clear();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(api.0.lock().log, vec!["GET certs 200"; 10]);
        stop.cancel();
    };
    tokio::join!(provisioner.run(stop.clone()), watching);
}

#[tokio::test(start_paused = true)]
async fn silence_is_not_waited_for() {
    let api = Api::default();
    api.0.lock().silent = true;
    let late = replica(&api).refresh().await;
    assert!(matches!(late, Err(ProvisionError::Late(_))), "{late:?}");
}

#[tokio::test]
async fn renewal_continues_where_it_stood() {
    // Every step by another replica, with nothing but the Secret in common.
    let api = Api::default();
    let at = |days: i64| {
        let now = BEGIN + SignedDuration::from_hours(24 * days);
        let lifetimes = Lifetimes::default();
        replica(&api)
            .lifetimes(lifetimes)
            .expect("good lifetimes")
            .clock(Clock::new(move || now))
    };
    let mut authorities = Vec::new();
    for days in [0, 61, 122, 183, 244, 245, 300, 366] {
        let replica = at(days);
        replica.refresh().await.expect("certificates");
        let bundle = replica.ca_bundle().expect("authorities");
        authorities.push(bundle.matches("BEGIN").count());
    }
    assert_eq!(authorities, [1, 1, 1, 1, 2, 2, 2, 1]);
}
