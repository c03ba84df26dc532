//! The recorder against a server that remembers what it is told.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::correlate::{Correlator, Kin, REMEMBERED};
use super::series::{Memory, Request as Written};
use super::{Counters, EventWriter, Note, QUEUE, Record, Recorder, Reporter};

/// What the server was asked: creates by note and patches by count, in order.
#[derive(Clone, Debug, Default)]
struct Server {
    log: Arc<Mutex<Vec<String>>>,
    down: Arc<Mutex<bool>>,
    /// What it answers instead, with a code.
    refusal: Arc<Mutex<Option<(u16, serde_json::Value)>>>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                if *server.down.lock() {
                    return Err("connection refused");
                }
                let method = request.method().clone();
                let body = request.into_body().collect_bytes().await.expect("a whole body");
                let value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
                let line = match method {
                    Method::POST => format!("create {}", value["note"].as_str().unwrap_or_default()),
                    _ => format!("count {}", value["series"]["count"]),
                };
                server.log.lock().push(line);
                if let Some((code, status)) = server.refusal.lock().clone() {
                    let body = Body::from(serde_json::to_vec(&status).expect("JSON"));
                    return Ok(Response::builder().status(code).body(body).expect("a response"));
                }
                let answer = serde_json::to_vec(&Event::default()).expect("JSON");
                Ok(Response::builder()
                    .status(StatusCode::OK)
                    .body(Body::from(answer))
                    .expect("a response"))
            }
        });
        Client::new(service, "default")
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }
}

fn object(name: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.name = Some(name.into());
    object
}

fn created(message: &str) -> Note {
    Note::normal("Created", "Create", message)
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn repetitions_become_a_count() {
    let server = Server::default();
    let (recorder, writer) = EventWriter::start(server.client(), "example.com/test", "host");
    for _ in 0..5 {
        assert!(recorder.record(&object("a"), created("first")));
    }
    assert!(recorder.record(&object("b"), created("other object")));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(server.log(), ["create first", "count 2", "create other object"]);
    sleep(Duration::from_secs(13 * 60)).await;
    assert_eq!(server.log()[3..], ["count 5"], "the series has ended");
    assert!(recorder.record(&object("a"), created("later")));
    assert!(writer.shut_down(LONG).await);
    assert_eq!(server.log()[4..], ["create later"]);
    assert!(!recorder.record(&object("a"), created("too late")));
    assert_eq!(recorder.dropped(), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_writes_what_waits_counts_included() {
    let server = Server::default();
    let (recorder, writer) = EventWriter::start(server.client(), "example.com/test", "host");
    for _ in 0..4 {
        recorder.record(&object("a"), created("first"));
    }
    assert!(writer.shut_down(LONG).await);
    assert_eq!(server.log(), ["create first", "count 2", "count 4"]);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_costs_records_but_no_time() {
    let server = Server::default();
    *server.down.lock() = true;
    let (recorder, writer) = EventWriter::start(server.client(), "example.com/test", "host");
    for i in 0..QUEUE + 50 {
        recorder.record(&object(&format!("o{i}")), created("lost"));
    }
    assert_eq!(recorder.dropped(), 50);
    sleep(Duration::from_secs(5)).await;
    *server.down.lock() = false;
    assert!(writer.shut_down(LONG).await);
    assert_eq!(
        server.log().len(),
        QUEUE,
        "what was taken is written when the server is back"
    );
}

/// What was written since this was last asked.
fn news(server: &Server) -> Vec<String> {
    std::mem::take(&mut *server.log.lock())
}

/// Records notes that differ in their texts, and waits until they are written.
async fn record(recorder: &Recorder, texts: std::ops::Range<u32>) {
    for text in texts {
        assert!(recorder.record(&object("a"), created(&format!("text {text}"))));
    }
    sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn many_similar_notes_become_one_event() {
    let server = Server::default();
    let (recorder, writer) = EventWriter::start(server.client(), "example.com/test", "host");
    record(&recorder, 0..9).await;
    assert_eq!(news(&server).len(), 9, "each by itself");
    record(&recorder, 3..4).await;
    assert_eq!(news(&server), ["count 2"], "what is known is counted");
    record(&recorder, 9..14).await;
    let combined = "create (combined from similar events): text 9";
    assert_eq!(news(&server), [combined, "count 2"]);
    let other = Note::normal("Created", "Repair", "another action");
    assert!(recorder.record(&object("a"), other));
    record(&recorder, 3..4).await;
    assert_eq!(
        news(&server),
        ["create another action"],
        "it is not alike; and the third is only counted"
    );
    sleep(Duration::from_secs(599)).await;
    news(&server);
    record(&recorder, 20..21).await;
    assert!(news(&server).is_empty(), "it is alike still, and counted");
    sleep(Duration::from_secs(601)).await;
    assert!(
        news(&server).contains(&"count 6".to_owned()),
        "as is told when the series ends"
    );
    record(&recorder, 30..31).await;
    assert_eq!(news(&server), ["create text 30"], "it is over");
    let counts = recorder.counts();
    assert_eq!((counts.combined, counts.filtered, counts.failed), (6, 0, 0));
    assert!(writer.shut_down(LONG).await);
}

#[tokio::test(start_paused = true)]
async fn a_flood_about_one_object_is_held_back() {
    let server = Server::default();
    let (recorder, writer) = EventWriter::start(server.client(), "example.com/test", "host");
    let reason = |reason: u32| Note::normal(format!("Reason{reason}"), "Create", "text");
    for at in 0..30 {
        assert!(recorder.record(&object("a"), reason(at)));
        assert!(recorder.record(&object("b"), created("first")));
    }
    let grave = Note::warning("Failed", "Create", "of another severity");
    assert!(recorder.record(&object("a"), grave));
    sleep(Duration::from_secs(1)).await;
    let log = news(&server);
    let of_flood = log.iter().filter(|line| *line == "create text").count();
    assert_eq!(of_flood, 25);
    let others = log
        .iter()
        .filter(|line| *line != "create text")
        .collect::<Vec<_>>();
    assert_eq!(others, ["create first", "count 2", "create of another severity"]);
    assert_eq!((recorder.counts().filtered, recorder.dropped()), (5, 0));

    // Repetitions of what was written are counted all the same, and told in the end.
    for _ in 0..3 {
        assert!(recorder.record(&object("a"), reason(0)));
    }
    sleep(Duration::from_secs(1)).await;
    assert!(news(&server).is_empty());
    sleep(Duration::from_secs(297)).await;
    assert!(recorder.record(&object("a"), reason(40)));
    sleep(Duration::from_secs(2)).await;
    assert!(news(&server).is_empty(), "not in five minutes yet");
    assert!(recorder.record(&object("a"), reason(40)));
    assert!(recorder.record(&object("a"), reason(41)));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(news(&server), ["create text"], "one in five minutes");
    assert_eq!(recorder.counts().filtered, 7);
    assert!(writer.shut_down(LONG).await);
    let rest = news(&server);
    assert!(
        rest.contains(&"count 4".to_owned()) && rest.contains(&"count 30".to_owned()),
        "{rest:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn refusals_that_are_to_be_expected_are_no_failures() {
    let status = |reason: &str, message: &str, cause: &str| {
        serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 0, "reason": reason,
            "message": message, "details": {"causes": [{"reason": cause, "message": "", "field": ""}]},
        })
    };
    let gone = |kind: &str| {
        serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound",
            "message": "not found", "details": {"name": "a", "kind": kind}})
    };
    let cases = [
        (409, status("AlreadyExists", "there", ""), 0),
        (403, status("Forbidden", "forbidden", "NamespaceTerminating"), 0),
        (403, status("Forbidden", "namespace a is being terminated", ""), 0),
        (404, gone("namespaces"), 0),
        (404, gone("events"), 1),
        (403, status("Forbidden", "you may not", ""), 1),
        (422, status("Invalid", "what is that", "FieldValueInvalid"), 1),
    ];
    for (code, refusal, failed) in cases {
        let server = Server::default();
        *server.refusal.lock() = Some((code, refusal.clone()));
        let (recorder, writer) = EventWriter::start(server.client(), "example.com/test", "host");
        recorder.record(&object("a"), created("first"));
        sleep(Duration::from_secs(600)).await;
        assert_eq!(server.log().len(), 1, "a refusal is an answer: {refusal}");
        let counts = recorder.counts();
        assert_eq!((counts.failed, counts.written), (failed, 0), "{refusal}");
        assert!(writer.shut_down(LONG).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up() {
    let server = Server::default();
    *server.down.lock() = true;
    let (recorder, writer) = EventWriter::start(server.client(), "example.com/test", "host");
    recorder.record(&object("a"), created("lost"));
    sleep(Duration::from_secs(120)).await;
    *server.down.lock() = false;
    recorder.record(&object("a"), created("lost"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(server.log(), ["create lost"], "what was given up is written anew");
    let counts = recorder.counts();
    assert_eq!((counts.failed, counts.written), (1, 1));
    assert!(writer.shut_down(LONG).await);
}

fn noted(name: &str, message: &str) -> Record {
    let reporter = Reporter {
        controller: "example.com/test".to_owned(),
        instance: "host".to_owned(),
    };
    Record {
        reporter: Arc::new(reporter),
        regarding: kube::Resource::object_ref(&object(name), &()),
        note: created(message),
        at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn created_event(requests: &[(super::series::Key, Written)]) -> &Event {
    match requests {
        [(_, Written::Create(event))] => event,
        other => panic!("not one new event: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn events_have_names_of_their_own_that_the_server_takes() {
    let (mut memory, now, counters) = (Memory::new(), Instant::now(), Counters::default());
    let mut names = std::collections::BTreeSet::new();
    for (name, kept) in [
        ("a", true),
        ("b", true),
        ("a", true),
        ("system:node", false),
        (&"n".repeat(253), false),
    ] {
        let requests = memory.observe(noted(name, &format!("text {}", names.len())), now, &counters);
        let event = created_event(&requests);
        let event_name = event.metadata.name.clone().expect("a name");
        assert_eq!(event_name.starts_with(&format!("{name}.")), kept, "{event_name}");
        assert!(trimtab_apimachinery_meta::names::dns1123_subdomain(&event_name).is_empty());
        assert!(names.insert(event_name), "though all are of one time");
    }
    let requests = memory.observe(noted("c", &"ü".repeat(2000)), now, &counters);
    assert_eq!(
        created_event(&requests).note.as_ref().map(String::len),
        Some(1024)
    );
}

#[tokio::test(start_paused = true)]
async fn notes_of_two_fields_of_an_object_are_two_events() {
    let (mut memory, now, counters) = (Memory::new(), Instant::now(), Counters::default());
    for field in ["spec.containers{a}", "spec.containers{b}"] {
        let mut record = noted("a", "text");
        record.regarding.field_path = Some(field.to_owned());
        created_event(&memory.observe(record, now, &counters));
    }
}

#[tokio::test(start_paused = true)]
async fn what_two_controllers_note_are_two_events() {
    let (mut memory, now, counters) = (Memory::new(), Instant::now(), Counters::default());
    for controller in ["one", "other"] {
        let mut record = noted("a", "text");
        record.reporter = Arc::new(Reporter {
            controller: controller.to_owned(),
            ..(*record.reporter).clone()
        });
        let requests = memory.observe(record, now, &counters);
        let event = created_event(&requests);
        assert_eq!(event.reporting_controller.as_deref(), Some(controller));
        assert_eq!(event.reporting_instance.as_deref(), Some("host"));
    }
}

#[tokio::test(start_paused = true)]
async fn memories_are_bounded_and_lose_no_counts() {
    let (mut memory, now, counters) = (Memory::new(), Instant::now(), Counters::default());
    for _ in 0..3 {
        memory.observe(noted("first", "text"), now, &counters);
    }
    let most = u32::try_from(REMEMBERED).expect("small");
    for at in 1..most {
        assert_eq!(
            memory
                .observe(noted(&format!("o{at}"), "text"), now, &counters)
                .len(),
            1
        );
    }
    let requests = memory.observe(noted("one too many", "text"), now, &counters);
    let [(_, Written::Patch(gone)), (_, Written::Create(_))] = &requests[..] else {
        panic!("the count of what goes is written: {requests:?}");
    };
    let count = gone.series.as_ref().map(|series| series.count);
    assert_eq!(
        (gone.regarding.as_ref().and_then(|of| of.name.as_deref()), count),
        (Some("first"), Some(3))
    );
    let again = memory.observe(noted("first", "text"), now, &counters);
    created_event(&again);
    assert!(memory.rest().is_empty());
}

#[tokio::test(start_paused = true)]
async fn tokens_come_back_up_to_a_burst() {
    let mut correlator = Correlator::new();
    let subject = Kin::of(&noted("a", "")).subject;
    let start = Instant::now();
    // After how many seconds, how many of fifty requests are allowed.
    for (at, expected) in [(0, 25), (299, 0), (300, 1), (900, 2), (1_000_000, 25)] {
        let now = start + Duration::from_secs(at);
        let allowed = (0..50).filter(|_| correlator.allows(&subject, now)).count();
        assert_eq!(allowed, expected, "after {at} s");
    }
    let other = Kin::of(&noted("b", "")).subject;
    assert!(correlator.allows(&other, start));
}

#[tokio::test(start_paused = true)]
async fn ten_different_texts_within_ten_minutes_are_many() {
    let mut correlator = Correlator::new();
    let kin = Kin::of(&noted("a", ""));
    let start = Instant::now();
    // After how many seconds, which text, and whether it is combined.
    let firsts = (0..9).map(|text| (0, text, false));
    let then = [
        (0, 3, false),
        (0, 9, true),
        (0, 9, true),
        (600, 10, true),
        (1_200, 3, false),
        (1_801, 11, false),
    ];
    for (at, text, expected) in firsts.chain(then) {
        let combined = correlator.combines(&kin, text, start + Duration::from_secs(at));
        assert_eq!(combined, expected, "text {text} after {at} s");
    }
}
