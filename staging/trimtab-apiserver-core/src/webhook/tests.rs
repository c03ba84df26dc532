//! Calls of a server on loopback, and Services in a map.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_auth::certs::Pair;

use super::testing::{Hook, Reply};
use super::*;
use crate::admission::Reader;

/// Answers with fixed addresses.
#[derive(Debug)]
struct Fixed(Result<Vec<(String, u16)>, String>);

#[async_trait]
impl Resolver for Fixed {
    async fn resolve(&self, _: &str, _: &str, _: u16) -> Result<Vec<(String, u16)>, String> {
        self.0.clone()
    }
}

fn clients(addresses: Result<Vec<(String, u16)>, String>) -> Clients {
    Clients::new(std::sync::Arc::new(Fixed(addresses)))
}

fn nowhere() -> Clients {
    clients(Err("nowhere".to_owned()))
}

fn target(config: &Value) -> Target {
    Target::read(config).expect("a target")
}

fn soon() -> Instant {
    end(Duration::from_secs(10), None)
}

async fn echo() -> Hook {
    Hook::start(|asked| Reply::Json(json!({"got": asked.body}))).await
}

#[tokio::test]
async fn a_document_comes_back_over_a_connection_that_is_kept() {
    let (hook, clients) = (echo().await, nowhere());
    let target = target(&hook.client_config("/a/"));
    for _ in 0..3 {
        let answer = clients.post(&target, &json!({"x": 1}), soon()).await;
        assert_eq!(answer, Ok(json!({"got": {"x": 1}})));
    }
    let asked = &hook.asked()[0];
    assert_eq!(asked.path_and_query, "/a?timeout=10s");
    assert_eq!(
        (asked.content_type.as_str(), asked.agent.as_str()),
        ("application/json", "kube-apiserver-admission")
    );
    assert_eq!(hook.connections(), 1);
}

#[tokio::test]
async fn a_service_is_called_by_its_name_at_an_address_that_answers() {
    let hook = echo().await;
    let port = hook.address.port();
    // Nobody listens at the first one.
    let addresses = vec![("127.0.0.2".to_owned(), port), ("127.0.0.1".to_owned(), port)];
    let clients = clients(Ok(addresses));
    let config = json!({
        "service": {"namespace": "default", "name": "hook", "path": "/x"},
        "caBundle": STANDARD.encode(&hook.authority),
    });
    let answer = clients.post(&target(&config), &json!(1), soon()).await;
    assert_eq!(answer, Ok(json!({"got": 1})));

    let mut other = config;
    other["service"]["name"] = "other".into();
    let error = clients
        .post(&target(&other), &json!(1), soon())
        .await
        .expect_err("fails");
    assert_eq!(
        error.message,
        "Post \"https://other.default.svc:443/x?timeout=10s\": tls: failed to verify certificate: x509: certificate is \
         valid for 127.0.0.1, hook.default.svc, not other.default.svc"
    );
    let error = nowhere().post(&target(&other), &json!(1), soon()).await;
    assert_eq!(
        error.expect_err("fails").message,
        "Post \"https://other.default.svc:443/x?timeout=10s\": nowhere"
    );
}

/// A certificate that is its own authority.
fn self_signed(name: &str, change: impl Fn(&mut CertificateParams)) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let certificate = params.self_signed(&key).expect("a certificate");
    Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

#[tokio::test]
async fn servers_are_believed_by_their_authority_or_when_they_are_it() {
    let past = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let good = self_signed("127.0.0.1", |_| {});
    let cases = [
        (good.clone(), good.certificate.clone(), None),
        (
            good.clone(),
            self_signed("127.0.0.1", |_| {}).certificate,
            Some("x509: certificate signed by unknown authority"),
        ),
        {
            let pair = self_signed("h", |_| {});
            let authority = pair.certificate.clone();
            (
                pair,
                authority,
                Some("x509: certificate is valid for h, not 127.0.0.1"),
            )
        },
        {
            let pair = self_signed("127.0.0.1", past);
            let authority = pair.certificate.clone();
            (
                pair,
                authority,
                Some("x509: certificate has expired or is not yet valid: "),
            )
        },
    ];
    for (pair, authority, expected) in cases {
        let hook = Hook::with(pair, authority, |_| Reply::Json(json!({}))).await;
        let answer = nowhere()
            .post(&target(&hook.client_config("/")), &json!(1), soon())
            .await;
        match expected {
            None => assert_eq!(answer, Ok(json!({}))),
            Some(text) => {
                let error = answer.expect_err("must not be believed");
                let text = format!("tls: failed to verify certificate: {text}");
                assert!(error.message.contains(&text), "{error}");
            }
        }
    }
    let hook = echo().await;
    let mut config = hook.client_config("/");
    config["caBundle"] = STANDARD
        .encode(
            trimtab_apiserver_auth::certs::Authority::generate()
                .expect("one")
                .certificate(),
        )
        .into();
    let error = nowhere().post(&target(&config), &json!(1), soon()).await;
    let message = error.expect_err("must not be believed").message;
    assert!(
        message.ends_with("tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        "{message}"
    );
}

#[test]
fn bundles_that_hold_no_authority_are_refused() {
    for (bundle, expected) in [
        ("nonsense", "unable to parse bytes as PEM block"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "failed to parse certificate: ",
        ),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "no valid certificate authority data seen",
        ),
    ] {
        let error = tls::authorities(bundle.as_bytes()).expect_err(bundle);
        let text = format!("unable to load root certificates: {expected}");
        assert!(error.starts_with(&text), "{error}");
    }
}

#[tokio::test]
async fn answers_that_are_none_are_told_in_the_words_of_kubernetes() {
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "code": 418});
    let large = vec![b' '; crate::http::MAX_BODY + 1];
    let cases = [
        (
            Reply::raw(500, "text/plain", " broken\n"),
            500,
            "an error on the server (\"broken\") has prevented the request from succeeding",
        ),
        (
            Reply::raw(500, "application/json", "{}"),
            500,
            "an error on the server (\"unknown\") has prevented the request from succeeding",
        ),
        (
            Reply::raw(404, "text/plain", "404 page not found"),
            404,
            "the server could not find the requested resource",
        ),
        (
            Reply::raw(503, "text/plain", ""),
            503,
            "the server is currently unable to handle the request",
        ),
        (Reply::raw(403, "text/plain", "not you"), 403, "not you"),
        (
            Reply::raw(302, "text/plain", ""),
            302,
            "the server responded with the status code 302 but did not return more information",
        ),
        (Reply::raw(500, "application/json", status.to_string()), 418, "no"),
        (
            Reply::raw(200, "text/plain", ""),
            503,
            "0-length response with status code: 200 and content type: text/plain",
        ),
        (
            Reply::raw(200, "text/plain", "<html>"),
            503,
            "couldn't get version/kind; json parse error: invalid character '<' looking for beginning of value",
        ),
        (
            Reply::raw(200, "application/json", large),
            503,
            "the response is larger than 3145728 bytes",
        ),
    ];
    for (reply, code, expected) in cases {
        let hook = Hook::start(move |_| reply.clone()).await;
        let answer = nowhere()
            .post(&target(&hook.client_config("/")), &json!(1), soon())
            .await;
        let error = answer.expect_err(expected);
        assert_eq!((error.code, error.message.as_str()), (code, expected));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_to_refuse() {
    let hook = echo().await;
    let (config, address) = (hook.client_config("/"), hook.address);
    drop(hook);
    loop {
        // Its port is free once its task has ended.
        let answer = nowhere().post(&target(&config), &json!(1), soon()).await;
        let Err(error) = answer else { continue };
        let expected = format!(
            "Post \"https://{address}/?timeout=10s\": dial tcp {address}: connect: connection refused"
        );
        if error.message == expected {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_has_its_time_and_no_more() {
    let hook = Hook::start(|_| Reply::Never).await;
    let start = Instant::now();
    let deadline = start + Duration::from_millis(2500);
    for (timeout, deadline, shown, lasts) in [
        (10, None, "10s", Duration::from_secs(10)),
        (3600, None, "30s", LONGEST),
        (10, Some(deadline), "3s", Duration::from_millis(2500)),
    ] {
        let until = end(
            Duration::from_secs(timeout),
            deadline.map(|d| Instant::now() + (d - start)),
        );
        assert_eq!(until.duration_since(Instant::now()), lasts);
        let answer = nowhere()
            .post(&target(&hook.client_config("/")), &json!(1), until)
            .await;
        let expected = format!(
            "Post \"https://{}/?timeout={shown}\": context deadline exceeded",
            hook.address
        );
        assert_eq!(answer.expect_err("too late").message, expected);
    }
}

/// Objects by resource and name, all in one namespace.
#[derive(Debug, Default)]
struct Objects(BTreeMap<(&'static str, String), Value>);

#[async_trait]
impl Reader for Objects {
    async fn get(&self, _: &str, plural: &str, _: &str, name: &str) -> Result<Option<Value>, ApiError> {
        let found = self.0.iter().find(|((p, n), _)| *p == plural && n == name);
        Ok(found.map(|(_, object)| object.clone()))
    }

    async fn list(&self, _: &str, plural: &str, _: &str) -> Result<Vec<Value>, ApiError> {
        let all = self.0.iter().filter(|((p, _), _)| *p == plural);
        Ok(all.map(|(_, object)| object.clone()).collect())
    }
}

async fn resolve(objects: &[(&'static str, &str, Value)], port: u16) -> Result<Vec<(String, u16)>, String> {
    let map = objects
        .iter()
        .map(|(plural, name, object)| ((*plural, (*name).to_owned()), object.clone()));
    let reader: std::sync::Arc<dyn Reader> = std::sync::Arc::new(Objects(map.collect()));
    let mut found = ServiceAddresses::new(reader).resolve("ns", "s", port).await?;
    found.sort();
    Ok(found)
}

#[tokio::test]
async fn services_are_found_at_the_ready_addresses_behind_them() {
    let service = |spec: Value| ("services", "s", json!({"spec": spec}));
    let plain = || service(json!({"ports": [{"port": 443, "targetPort": 8443}]}));
    let slice = |name: &'static str, of: &str, ports: Value, endpoints: Value| {
        let labels = json!({"kubernetes.io/service-name": of});
        let object = json!({"metadata": {"labels": labels}, "ports": ports, "endpoints": endpoints});
        ("endpointslices", name, object)
    };
    let endpoint =
        |address: &str, ready: Value| json!({"addresses": [address], "conditions": {"ready": ready}});
    let ready = json!([
        endpoint("10.0.0.1", json!(true)),
        endpoint("10.0.0.2", json!(false)),
        endpoint("10.0.0.3", json!(null))
    ]);
    let endpoints = json!({"subsets": [
        {"addresses": [{"ip": "10.0.1.1"}], "notReadyAddresses": [{"ip": "10.0.1.2"}], "ports": [{"port": 9443}]},
        {"addresses": [{"ip": "10.0.1.3"}], "ports": [{"name": "other", "port": 1}]},
    ]});
    let addresses = |list: &[(&str, u16)]| -> Result<Vec<(String, u16)>, String> {
        Ok(list
            .iter()
            .map(|(host, port)| ((*host).to_owned(), *port))
            .collect())
    };
    let cases = [
        (vec![], Err("service \"s\" not found".to_owned())),
        (
            vec![
                plain(),
                slice("a", "s", json!([{"name": "", "port": 8443}]), ready.clone()),
                slice("b", "t", json!([{"port": 1}]), ready.clone()),
            ],
            addresses(&[("10.0.0.1", 8443), ("10.0.0.3", 8443)]),
        ),
        (
            vec![plain(), slice("a", "s", json!(null), ready.clone())],
            addresses(&[("10.0.0.1", 8443), ("10.0.0.3", 8443)]),
        ),
        (
            vec![
                service(
                    json!({"ports": [{"name": "m", "port": 80}, {"name": "h", "port": 443, "targetPort": "https"}]}),
                ),
                slice(
                    "a",
                    "s",
                    json!([{"name": "m", "port": 1}, {"name": "h", "port": 7443}]),
                    ready.clone(),
                ),
            ],
            addresses(&[("10.0.0.1", 7443), ("10.0.0.3", 7443)]),
        ),
        (
            vec![plain(), ("endpoints", "s", endpoints)],
            addresses(&[("10.0.1.1", 9443)]),
        ),
        (
            vec![plain()],
            Err("no endpoints available for service \"s\"".to_owned()),
        ),
        (
            vec![service(json!({"ports": [{"port": 80}]}))],
            Err("no service port 443 found for service \"s\"".to_owned()),
        ),
        (
            vec![service(
                json!({"type": "ExternalName", "externalName": "h.example.com"}),
            )],
            addresses(&[("h.example.com", 443)]),
        ),
        (
            vec![service(json!({"type": "Odd"}))],
            Err("unsupported service type \"Odd\"".to_owned()),
        ),
    ];
    for (objects, expected) in cases {
        assert_eq!(resolve(&objects, 443).await, expected, "{objects:?}");
    }
}
