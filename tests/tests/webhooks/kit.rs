//! What the tests share: a place for webhooks, programs in it, and a client that looks closely.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PostParams};
use kube::client::Body;
use kube::core::Status;
use kube::{Client, Resource};
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use trimtab::apimachinery::ObjectKey;
use trimtab::controller::serving::Listener;
use trimtab::controller::webhook::{Provisioner, Target, WebhookServer, Webhooks};
use trimtab::controller::{Error, Manager};
use trimtab::testing::TestEnv;

pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A free port of this machine, and a Service by which the API server finds it.
pub struct Place {
    pub listener: Listener,
    pub target: Target,
}

impl Place {
    pub async fn new(env: &TestEnv, name: &str) -> Self {
        let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
        env.expose(name).await.expect("a new name");
        let target = Target::service("default", name).port(listener.address().port());
        Self { listener, target }
    }

    /// Certificates in a Secret, which the configurations of these webhooks are told to trust.
    pub fn provisioner(&self, client: &Client, webhooks: &Webhooks) -> Provisioner {
        let secret = ObjectKey::namespaced("default", format!("{}-certificates", webhooks.name()));
        Provisioner::in_secret(client.clone(), secret, &self.target).injecting(client.clone(), webhooks)
    }
}

/// Declares these webhooks and runs the program that answers for them, until the token is cancelled or the environment ends.
/// Returns when the API server trusts it.
pub async fn start<F>(
    env: &mut TestEnv,
    webhooks: &Webhooks,
    program: impl FnOnce(Client, WebhookServer, CancellationToken) -> F,
) -> CancellationToken
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let client = env.client();
    let place = Place::new(env, webhooks.name()).await;
    let provisioner = place.provisioner(&client, webhooks);
    start_at(env, webhooks, place, provisioner, program).await
}

/// [`start`], with a place and certificates that the test has made.
pub async fn start_at<F>(
    env: &mut TestEnv,
    webhooks: &Webhooks,
    place: Place,
    provisioner: Provisioner,
    program: impl FnOnce(Client, WebhookServer, CancellationToken) -> F,
) -> CancellationToken
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let manifests = webhooks.manifests(&place.target).expect("good webhooks");
    manifests
        .apply(&env.client(), webhooks.name())
        .await
        .expect("they are taken");
    let server = WebhookServer::on(place.listener, webhooks, provisioner).await;
    let server = server.expect("the certificates come later");
    let mut own = CancellationToken::new();
    env.run(|client, stop| {
        own = stop.child_token();
        program(client, server, own.clone())
    });
    trusted(env, webhooks).await;
    own
}

/// Runs webhooks without a program of their own.
pub async fn alone(client: Client, server: WebhookServer, stop: CancellationToken) -> Result<(), Error> {
    let manager = Manager::new(client).name("alone");
    manager.part(server)?;
    manager.run(stop).await
}

/// Waits until the authorities are known wherever they have to be.
async fn trusted(env: &TestEnv, webhooks: &Webhooks) {
    let manifests = webhooks
        .manifests(&Target::service("any", "any"))
        .expect("good webhooks");
    if manifests.validating.is_some() {
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(env.client());
        let known = |configuration: &ValidatingWebhookConfiguration| {
            let mut webhooks = configuration.webhooks.iter().flatten();
            webhooks.all(|webhook| webhook.client_config.ca_bundle.is_some())
        };
        let waited = env.eventually(&configurations, webhooks.name(), known).await;
        waited.expect("the program tells whom to trust");
    }
    for conversion in manifests.conversions {
        let definitions: Api<CustomResourceDefinition> = Api::all(env.client());
        let known = |definition: &CustomResourceDefinition| bundle_of(definition).is_some();
        let waited = env.eventually(&definitions, &conversion.definition, known).await;
        waited.expect("the program tells whom to trust");
    }
}

/// The authorities in a definition, as PEM.
pub fn bundle_of(definition: &CustomResourceDefinition) -> Option<String> {
    let conversion = definition.spec.conversion.as_ref()?;
    let client_config = conversion.webhook.as_ref()?.client_config.as_ref()?;
    let bundle = client_config.ca_bundle.clone()?;
    String::from_utf8(bundle.0).ok()
}

/// What a client is answered, with all that most clients do not show.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub body: Value,
    /// The warnings, without what is before and around them.
    pub warnings: Vec<String>,
}

impl Answer {
    /// The reason and the message of a refusal.
    pub fn refusal(&self) -> (&str, &str) {
        let text = |field: &str| self.body[field].as_str().unwrap_or_default();
        (text("reason"), text("message"))
    }

    /// Which fields are blamed, and for what: `field: reason`.
    pub fn causes(&self) -> Vec<String> {
        let causes = self.body["details"]["causes"].as_array().into_iter().flatten();
        let text = |cause: &Value, part: &str| cause[part].as_str().unwrap_or_default().to_owned();
        causes
            .map(|cause| format!("{}: {}", text(cause, "field"), text(cause, "reason")))
            .collect()
    }
}

/// Creates an object in the namespace `default`, as it is written.
pub async fn create<K>(client: &Client, object: &Value, params: &PostParams) -> Answer
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let request = kube::api::Request::new(K::url_path(&(), Some("default")));
    let body = serde_json::to_vec(object).expect("it is JSON");
    ask(client, request.create(params, body).expect("a request")).await
}

/// Makes a request, and looks closely at the answer.
pub async fn ask(client: &Client, request: http::Request<Vec<u8>>) -> Answer {
    let answer = client.send(request.map(Body::from)).await.expect("an answer");
    let code = answer.status().as_u16();
    let warnings = answer.headers().get_all(http::header::WARNING).iter();
    let warnings = warnings.map(|warning| {
        let text = warning.to_str().expect("text").strip_prefix("299 - \"");
        let text = text.and_then(|text| text.strip_suffix('"'));
        text.expect("a warning as Kubernetes writes them").to_owned()
    });
    let warnings = warnings.collect();
    let body = answer.into_body().collect_bytes().await.expect("a whole body");
    let body = serde_json::from_slice(&body).expect("JSON");
    Answer { code, body, warnings }
}

/// Asks until the answer is a good one: that a definition has changed counts a moment later, here as in any cluster.
pub async fn eventually<T, E: Debug, F>(ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, E>>,
{
    let mut last = None;
    let asking = async {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(why) => last = Some(why),
            }
            tokio::task::yield_now().await;
        }
    };
    let answer = tokio::time::timeout(TestEnv::PATIENCE, asking).await;
    answer.unwrap_or_else(|_| panic!("it does not become so: {last:?}"))
}

/// The code and the message of a refusal.
pub fn refused<T: Debug>(answer: Result<T, kube::Error>) -> (u16, String) {
    match answer {
        Err(kube::Error::Api(status)) => {
            let Status { code, message, .. } = *status;
            (code, message)
        }
        other => panic!("it should be refused: {other:?}"),
    }
}

/// An object as JSON.
pub fn json_of(object: &impl Serialize) -> Value {
    serde_json::to_value(object).expect("it can be written")
}
