//! The writers against a server of one Deployment that remembers what it is asked.

use std::sync::Arc;

use http::{Method, Request, Response};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus};
use kube::client::Body;
use kube::{Api, Client, Error};
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::merge::difference;
use super::{FieldsOfOthers, Outcome, apply, apply_status, create_or_patch, create_or_update};
use crate::retry::{DEFAULT_RETRY, is_conflict, retry_on_conflict};

/// Clones are the same server.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    stored: Option<Value>,
    version: u64,
    /// The writes that were asked for: of patches all, else the spec.
    log: Vec<String>,
    /// How many writes are overtaken by somebody else's.
    races: u32,
}

impl Server {
    fn of(stored: Option<Value>) -> Self {
        let server = Self::default();
        if let Some(stored) = stored {
            server.0.lock().store(stored);
        }
        server
    }

    fn api(&self) -> Api<Deployment> {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.expect("a whole body");
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let (code, answer) = server.0.lock().answer(&head, body);
                let body = Body::from(serde_json::to_vec(&answer).expect("JSON"));
                Ok::<_, Error>(Response::builder().status(code).body(body).expect("a response"))
            }
        });
        Api::namespaced(Client::new(service, "default"), "default")
    }

    fn log(&self) -> Vec<String> {
        self.0.lock().log.clone()
    }

    fn stored(&self) -> Value {
        self.0.lock().stored.clone().expect("it is there")
    }
}

impl State {
    fn answer(&mut self, head: &http::request::Parts, mut body: Value) -> (u16, Value) {
        let all = "/apis/apps/v1/namespaces/default/deployments";
        let path = head.uri.path().trim_start_matches(all);
        let of_status = path.ends_with("/status");
        if head.method != Method::GET {
            let shown = if head.method == Method::PATCH {
                &body
            } else {
                &body["spec"]
            };
            let query = head.uri.query().unwrap_or_default().trim_start_matches('&');
            self.log.push(format!("{} {path}?{query} {shown}", head.method));
            self.race();
        }
        match (&head.method, self.stored.clone()) {
            (&Method::POST, Some(_)) => refusal(409, "AlreadyExists"),
            (&Method::POST, None) => {
                body["status"] = Value::Null;
                (201, self.store(body))
            }
            (_, None) => refusal(404, "NotFound"),
            (&Method::GET, Some(stored)) => (200, stored),
            (&Method::PUT, Some(stored)) => {
                if body["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"] {
                    return refusal(409, "Conflict");
                }
                body["status"] = stored["status"].clone();
                (200, self.store(body))
            }
            (_, Some(mut stored)) => {
                let mut merged = stored.clone();
                json_patch::merge(&mut merged, &body);
                if of_status {
                    stored["status"] = merged["status"].clone();
                    return (200, self.store(stored));
                }
                merged["status"] = stored["status"].clone();
                (200, self.store(merged))
            }
        }
    }

    /// Somebody else writes first, if that is asked for.
    fn race(&mut self) {
        if self.races > 0 {
            self.races -= 1;
            let mut other = self.stored.clone().unwrap_or_else(stored);
            other["metadata"]["labels"]["race"] = json!(self.races.to_string());
            self.store(other);
        }
    }

    fn store(&mut self, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.stored = Some(object.clone());
        object
    }
}

fn refusal(code: u16, reason: &str) -> (u16, Value) {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
    });
    (code, body)
}

fn deployment(name: &str) -> Deployment {
    let mut object = Deployment::default();
    object.metadata.name = Some(name.to_owned());
    object
}

fn stored() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "a", "namespace": "default", "labels": {"team": "a"}},
        "spec": {"replicas": 1, "paused": true, "selector": {}, "template": {}, "unknown": 1},
        "status": {"replicas": 1},
    })
}

fn spec(object: &mut Deployment) -> &mut DeploymentSpec {
    object.spec.get_or_insert_default()
}

fn status(object: &mut Deployment) -> &mut DeploymentStatus {
    object.status.get_or_insert_default()
}

type Change = fn(&mut Deployment);

const SCALE: Change = |object| spec(object).replicas = Some(3);
const OBSERVE: Change = |object| status(object).replicas = Some(3);
const BOTH: Change = |object| {
    SCALE(object);
    OBSERVE(object);
    object.metadata.labels = None;
};
const NOTHING: Change = |object| spec(object).replicas = Some(1);
const RENAME: Change = |object| object.metadata.name = Some("b".to_owned());
const MOVE: Change = |object| object.metadata.namespace = Some("elsewhere".to_owned());

/// How a request that has the whole spec is logged.
fn whole(head: &str, replicas: u32, paused: bool) -> String {
    let mut spec = json!({"replicas": replicas, "selector": {}, "template": {}});
    if paused {
        spec["paused"] = json!(true);
    }
    format!("{head}? {spec}")
}

#[tokio::test]
async fn what_is_there_is_updated_and_what_is_not_is_created() {
    let there = Some(stored());
    let cases: [(Option<Value>, Change, Outcome, Option<String>); 4] = [
        (None, SCALE, Outcome::Created, Some(whole("POST ", 3, false))),
        (
            there.clone(),
            SCALE,
            Outcome::Updated,
            Some(whole("PUT /a", 3, true)),
        ),
        (there.clone(), NOTHING, Outcome::Unchanged, None),
        (there, OBSERVE, Outcome::Updated, Some(whole("PUT /a", 1, true))),
    ];
    for (before, change, outcome, log) in cases {
        let server = Server::of(before.clone());
        let written = create_or_update(&server.api(), deployment("a"), change).await;
        let written = written.expect("it is written");
        assert_eq!(written.outcome, outcome, "{before:?}");
        assert_eq!(server.log(), Vec::from_iter(log), "{before:?}");
        assert!(
            written.object.metadata.resource_version.is_some(),
            "what the server has"
        );
    }
}

#[tokio::test]
async fn what_has_changed_is_patched() {
    let there = Some(stored());
    let patch = |patch: Value| format!("PATCH /a? {patch}");
    let status = || format!("PATCH /a/status? {}", json!({"status": {"replicas": 3}}));
    let scaled = || json!({"spec": {"replicas": 3}});
    let both = json!({"metadata": {"labels": null}, "spec": {"replicas": 3}});
    let create = whole("POST ", 3, false);
    let cases: [(Option<Value>, Change, Outcome, Vec<String>); 6] = [
        (None, SCALE, Outcome::Created, vec![create.clone()]),
        (None, BOTH, Outcome::Created, vec![create, status()]),
        (there.clone(), NOTHING, Outcome::Unchanged, vec![]),
        (there.clone(), SCALE, Outcome::Updated, vec![patch(scaled())]),
        (
            there.clone(),
            BOTH,
            Outcome::UpdatedStatus,
            vec![patch(both), status()],
        ),
        (there, OBSERVE, Outcome::UpdatedStatusOnly, vec![status()]),
    ];
    for (before, change, outcome, log) in cases {
        let server = Server::of(before.clone());
        let written = create_or_patch(&server.api(), deployment("a"), change).await;
        let written = written.expect("it is written");
        assert_eq!((written.outcome, server.log()), (outcome, log), "{before:?}");
        let last: Deployment = serde_json::from_value(server.stored()).expect("a Deployment");
        assert_eq!(written.object, last, "what the server has");
        if before.is_some() {
            assert_eq!(
                server.stored()["spec"]["unknown"],
                json!(1),
                "what the type does not know"
            );
        }
    }
}

#[tokio::test]
async fn a_change_may_not_make_it_another_object() {
    for before in [None, Some(stored())] {
        for (name, change, told) in [
            ("a", RENAME, "must not touch name and namespace"),
            ("a", MOVE, "must not touch name and namespace"),
            ("", NOTHING, "has no name"),
        ] {
            let server = Server::of(before.clone());
            let updated = create_or_update(&server.api(), deployment(name), change).await;
            let patched = create_or_patch(&server.api(), deployment(name), change).await;
            for error in [updated.err(), patched.err()] {
                let error = error.expect("it is refused").to_string();
                assert!(error.contains(told), "{error}");
            }
            assert!(server.log().is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn conflicts_are_told_and_can_be_retried() {
    let server = Server::of(Some(stored()));
    server.0.lock().races = 3;
    let api = server.api();
    let once = create_or_update(&api, deployment("a"), SCALE).await;
    assert!(is_conflict(&once.expect_err("somebody was faster")));
    let again = || create_or_update(&api, deployment("a"), SCALE);
    let written = retry_on_conflict(DEFAULT_RETRY, again).await;
    assert_eq!(written.expect("at last nobody is").outcome, Outcome::Updated);
    assert_eq!(
        server.stored()["metadata"]["labels"]["race"],
        json!("0"),
        "nothing of theirs is lost"
    );

    let server = Server::default();
    server.0.lock().races = 1;
    let error = create_or_update(&server.api(), deployment("a"), SCALE).await;
    let error = error.expect_err("somebody was faster");
    assert!(matches!(error, Error::Api(status) if status.is_already_exists()));
}

#[tokio::test]
async fn what_is_applied_is_what_is_wished() {
    let server = Server::of(Some(stored()));
    let mut wish = deployment("a");
    wish.metadata.managed_fields = Some(Vec::new());
    wish.metadata.generation = Some(3);
    BOTH(&mut wish);
    for (others, force) in [(FieldsOfOthers::Keep, ""), (FieldsOfOthers::Take, "force=true&")] {
        server.0.lock().log.clear();
        apply(&server.api(), "me", &wish, others)
            .await
            .expect("it is applied");
        apply_status(&server.api(), "me", &wish, others)
            .await
            .expect("it is applied");
        let head = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}});
        let (mut object, mut status) = (head.clone(), head);
        object["spec"] = json!({"replicas": 3, "selector": {}, "template": {}});
        status["status"] = json!({"replicas": 3});
        let expected = [
            format!("PATCH /a?{force}fieldManager=me {object}"),
            format!("PATCH /a/status?{force}fieldManager=me {status}"),
        ];
        assert_eq!(server.log(), expected);
    }
    server.0.lock().log.clear();
    let nameless = apply(&server.api(), "me", &deployment(""), FieldsOfOthers::Take).await;
    let without = apply_status(&server.api(), "me", &deployment("a"), FieldsOfOthers::Take).await;
    for (result, told) in [(nameless, "has no name"), (without, "has none")] {
        let error = result.expect_err("it is refused").to_string();
        assert!(error.contains(told), "{error}");
    }
    assert!(server.log().is_empty());
}

#[tokio::test]
async fn what_does_not_say_its_kind_is_not_applied() {
    use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
    let server = Server::of(Some(stored()));
    let client = server.api().into_client();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment"));
    let api: Api<DynamicObject> = Api::namespaced_with(client, "default", &resource);
    let named = DynamicObject::new("a", &resource);
    let bare = DynamicObject {
        types: None,
        ..named.clone()
    };
    let refused = apply(&api, "me", &bare, FieldsOfOthers::Keep).await;
    let told = refused.expect_err("it is refused").to_string();
    assert!(told.contains("does not say its apiVersion and kind"), "{told}");
    apply(&api, "me", &named, FieldsOfOthers::Keep)
        .await
        .expect("it is applied");
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..3_u8).prop_map(Value::from),
        "[ab]{0,1}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_difference_makes_one_of_the_other(before in json_value(), after in json_value()) {
        let mut made = before.clone();
        match difference(&before, &after) {
            Some(patch) => {
                json_patch::merge(&mut made, &patch);
                prop_assert_eq!(made, after);
            }
            None => prop_assert_eq!(before, after),
        }
    }

    #[test]
    fn a_null_field_is_the_same_as_none(kept in json_value(), field in "[a-d]") {
        let before = json!({"kept": kept});
        let mut after = before.clone();
        after[field] = Value::Null;
        prop_assert_eq!(difference(&before, &after), None);
        prop_assert_eq!(difference(&after, &before), None);
    }
}
