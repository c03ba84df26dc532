//! The server as a part of a manager: what it brings, when it is there, and how its errors are told.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_controller_runtime::serving::{Certificates, Listener, Router};
use trimtab_controller_runtime::{Error, Lead, Manager, Part};

use super::api::Api;
use super::routes::{VALIDATE, question, webhooks};
use super::server::ask;
use crate::{
    Admitted, Clock, Handler, Hook, Provisioner, Refusal, Target, WebhookError, WebhookServer, Webhooks,
};

const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/websites";

fn provisioner(api: &Api) -> Provisioner {
    let secret = ObjectKey::namespaced("web", "certs");
    Provisioner::in_secret(api.client(), secret, &Target::service("web", "w"))
        .injecting(api.client(), &webhooks())
}

async fn server(provisioner: &Provisioner) -> WebhookServer {
    let bound = WebhookServer::bind("127.0.0.1:0", &webhooks(), provisioner.clone()).await;
    bound.expect("a free port")
}

/// What the manager's endpoint says of the webhooks.
async fn ready(manager: &Manager) -> (u16, String) {
    let router = manager.health().routes(Router::new()).expect("new paths");
    let request = Request::get("/readyz/webhook").body(Full::<Bytes>::default());
    let answer = router.answer(request.expect("a request")).await;
    let code = answer.status().as_u16();
    let body = answer.into_body().bytes().await.expect("a whole body");
    (code, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn what_the_server_has_is_the_managers() {
    let api = Api::default();
    let manager = Manager::new(api.client()).name("websites");
    let webhooks = webhooks();
    let bind = async || WebhookServer::bind("127.0.0.1:0", &webhooks, provisioner(&api)).await;
    manager
        .part(bind().await.expect("a free port"))
        .expect("the first");
    let again = manager.part(bind().await.expect("a free port"));
    assert!(
        matches!(&again, Err(Error::NameTaken { what: "part", name }) if name == "webhooks"),
        "{again:?}"
    );

    let text = manager.metrics_text();
    let figure = "controller_runtime_webhook_requests_total{webhook=\"/convert\",code=\"200\"} 0";
    assert!(text.lines().any(|line| line == figure), "{text}");
    assert_eq!(text.matches("# EOF").count(), 1, "{text}");

    let rules = manager.rules();
    let (admission, extensions) = ("admissionregistration.k8s.io", "apiextensions.k8s.io");
    let allowed = [
        ("", "secrets", "certs", "get update"),
        (
            admission,
            "mutatingwebhookconfigurations",
            "websites",
            "get patch",
        ),
        (
            admission,
            "validatingwebhookconfigurations",
            "websites",
            "get patch",
        ),
        (
            extensions,
            "customresourcedefinitions",
            "websites.example.com",
            "get patch",
        ),
    ];
    for (group, resource, name, verbs) in allowed {
        for verb in verbs.split(' ') {
            assert!(
                rules.allow_named(verb, group, resource, name),
                "{verb} {resource}"
            );
            assert!(
                !rules.allow_named(verb, group, resource, "other"),
                "{verb} other {resource}"
            );
        }
    }
    assert!(rules.allow("create", "", "secrets"));
}

/// Every request that is made is covered by the rules: of one replica that makes the certificates, and one that renews them.
#[tokio::test]
async fn the_rules_cover_what_is_asked() {
    let api = Api::default();
    let service = json!({"namespace": "web", "name": "w"});
    api.put(
        VALIDATING,
        json!({"webhooks": [{"clientConfig": {"service": service}}]}),
    );
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 70);
    for clock in [Clock::system(), Clock::new(move || later)] {
        let provisioner = provisioner(&api).clock(clock);
        let manager = Manager::new(api.client());
        manager.part(server(&provisioner).await).expect("the first");
        provisioner.refresh().await.expect("certificates");
        let rules = manager.rules();
        let asked = std::mem::take(&mut api.0.lock().asked);
        assert!(asked.len() > 4, "{asked:?}");
        for (verb, path) in asked {
            let path = path
                .replace("/api/v1/", "/apis//v1/")
                .replace("/namespaces/web", "");
            let parts: Vec<&str> = path.trim_start_matches("/apis/").split('/').collect();
            let name = parts.get(3).copied().unwrap_or_default();
            assert!(rules.allow_named(verb, parts[0], parts[2], name), "{verb} {path}");
        }
    }
}

#[tokio::test]
async fn a_manager_is_ready_when_the_api_server_can_believe_the_webhooks() {
    let api = Api::default();
    let begin = Timestamp::now();
    let now = Arc::new(Mutex::new(begin));
    let told = now.clone();
    let provisioner = provisioner(&api).clock(Clock::new(move || *told.lock()));
    let manager = Manager::new(api.client());
    manager.part(server(&provisioner).await).expect("the first");
    let says = async |code: u16, words: &str| {
        let (answered, text) = ready(&manager).await;
        assert_eq!(answered, code, "{text}");
        assert!(text.contains(words), "{text}");
    };
    says(500, "there is no certificate for the webhooks yet").await;
    api.0.lock().refused.push(("secrets", 403));
    provisioner.refresh().await.expect_err("refused");
    says(500, "yet: the Secret web/certs cannot be written").await;

    api.0.lock().refused = vec![("validatingwebhookconfigurations", 403)];
    let service = json!({"namespace": "web", "name": "w"});
    api.put(
        VALIDATING,
        json!({"webhooks": [{"clientConfig": {"service": service}}]}),
    );
    provisioner.refresh().await.expect_err("refused");
    says(500, "was not told yet whom to trust: /apis/admissionregistration").await;
    api.0.lock().refused.clear();
    provisioner.refresh().await.expect("injected");
    says(200, "ok").await;

    // A cluster that cannot be written is no reason to take webhooks away that work.
    *now.lock() = begin + SignedDuration::from_hours(24 * 89);
    api.0.lock().refused.push(("secrets", 403));
    provisioner.refresh().await.expect_err("refused");
    says(200, "ok").await;
    *now.lock() = begin + SignedDuration::from_hours(24 * 91);
    says(500, "has expired at").await;
    api.0.lock().refused.clear();
    provisioner.refresh().await.expect("renewed");
    says(200, "ok").await;
}

#[tokio::test]
async fn given_certificates_need_no_rules_and_expire_too() {
    let certificates = Certificates::new();
    let manager = Manager::new(Api::default().client());
    let bound = WebhookServer::bind("127.0.0.1:0", &webhooks(), certificates.clone()).await;
    let server = bound.expect("a free port");
    assert!(server.rules().is_empty());
    manager.part(server).expect("the first");
    assert_eq!(ready(&manager).await.0, 500);
    let (now, day) = (SystemTime::now(), Duration::from_secs(24 * 60 * 60));
    for (ends, code) in [(now - day, 500), (now + day, 200)] {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(["w".to_owned()]).expect("a name");
        (params.not_before, params.not_after) = ((now - 9 * day).into(), ends.into());
        let certificate = params.self_signed(&key).expect("a certificate");
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        let shown = certificates.replace(certificate.as_bytes(), key.as_bytes());
        assert!(shown.expect("a pair"));
        assert_eq!(ready(&manager).await.0, code);
    }
}

/// Others of the manager are answered from their first moment to their last.
#[tokio::test]
async fn it_is_there_first_and_goes_last() {
    let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.address();
    let target = Target::url(format!("https://{address}")).expect("a URL");
    let server = WebhookServer::on(listener, &webhooks(), Provisioner::in_memory(&target)).await;
    let server = server.expect("certificates");
    let bundle = server.ca_bundle().expect("authorities");
    let manager = Manager::new(Api::default().client());
    let stop = CancellationToken::new();
    let (told, mut answers) = tokio::sync::mpsc::unbounded_channel();
    // Declared before the server: the order of declarations is not that of starts.
    let asks = move |lead: Lead| {
        let (told, bundle) = (told.clone(), bundle.clone());
        async move {
            for end in [false, true] {
                if end {
                    lead.stop().cancelled().await;
                }
                let stream = TcpStream::connect(address).await?;
                let answer = ask(stream, &bundle, "127.0.0.1", question("t")).await;
                let _nobody_listens = told.send(answer.map_err(std::io::Error::other)?);
            }
            Ok::<_, std::io::Error>(())
        }
    };
    manager.part(Part::leading("asks", asks)).expect("the first");
    manager.part(server).expect("the first");
    let test = async {
        let first = answers.recv().await.expect("an answer");
        assert_eq!(first["response"]["allowed"], json!(true));
        stop.cancel();
        let last = answers.recv().await.expect("an answer");
        assert_eq!(last["response"]["allowed"], json!(true));
    };
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), test);
    ended.expect("all of it ends in time");
    assert!(TcpStream::connect(address).await.is_err(), "and then it is gone");
}

/// A webhook that says when it is asked, and never answers.
struct Silent(tokio::sync::mpsc::UnboundedSender<()>);

impl Handler for Silent {
    async fn handle(&self, _: &crate::Request) -> Result<Admitted, Refusal> {
        let _nobody_listens = self.0.send(());
        std::future::pending().await
    }
}

/// Whoever reads the last words of a program learns that they are of the webhooks.
#[tokio::test]
async fn its_errors_name_it() {
    let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.address();
    let taken = WebhookServer::bind(&address.to_string(), &webhooks(), Certificates::new()).await;
    assert!(matches!(taken, Err(WebhookError::Serve(_))), "{taken:?}");

    let (told, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let silent = Hook::validating_handler("silent.example.com", [], Silent(told)).at(VALIDATE);
    let target = Target::url(format!("https://{address}")).expect("a URL");
    let provisioner = Provisioner::in_memory(&target);
    let server = WebhookServer::on(listener, &Webhooks::new("silent").hook(silent), provisioner).await;
    let server = server.expect("certificates").grace(Duration::ZERO);
    let bundle = server.ca_bundle().expect("authorities");
    let manager = Manager::new(Api::default().client());
    manager.part(server).expect("the first");
    let stop = CancellationToken::new();
    let test = async {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let asks = ask(stream, &bundle, "127.0.0.1", question("t"));
        let stops = async {
            let asked = timeout(Duration::from_secs(30), asked.recv()).await;
            asked.expect("soon").expect("asked");
            stop.cancel();
        };
        let (answer, ()) = tokio::join!(asks, stops);
        answer.expect_err("it is cut off");
    };
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), test);
    let error = ended.expect_err("a question had no answer").to_string();
    assert!(
        error.starts_with("webhooks: 1 connections were cut off"),
        "{error}"
    );
}
