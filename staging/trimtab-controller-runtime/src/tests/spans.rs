//! A key's way from its trigger to the write of its status, as a backend of traces is told it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tracing::Dispatch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, set_default};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use super::server::Server;
use super::widgets::{run, wish};

/// All spans in the order in which they began; clones are the same.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<Seen>>>);

#[derive(Clone, Debug)]
struct Seen {
    id: u64,
    name: &'static str,
    parent: Option<u64>,
    fields: BTreeMap<&'static str, String>,
    begun: Instant,
    /// When it was over, and how many were over before.
    ended: Option<(Instant, usize)>,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Trace {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let parent = context
            .span(id)
            .and_then(|span| Some(span.parent()?.id().into_u64()));
        let mut seen = Seen {
            id: id.into_u64(),
            name: attributes.metadata().name(),
            parent,
            fields: BTreeMap::new(),
            begun: Instant::now(),
            ended: None,
        };
        attributes.record(&mut seen);
        self.0.lock().push(seen);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut all = self.0.lock();
        // Identifiers of spans that are over are used again.
        if let Some(seen) = all.iter_mut().rev().find(|seen| seen.id == id.into_u64()) {
            values.record(seen);
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let mut all = self.0.lock();
        let before = all.iter().filter(|seen| seen.ended.is_some()).count();
        if let Some(seen) = all.iter_mut().rev().find(|seen| seen.id == id.into_u64()) {
            seen.ended = Some((Instant::now(), before));
        }
    }
}

impl Trace {
    /// Listens to this thread, which has all tasks of a test, until what is returned is dropped.
    ///
    /// As long as there is one subscriber in the process, `tracing` asks that of whichever thread comes first whether a span is
    /// wanted, and remembers the answer for all: no, in another test's thread. With two of them it asks both.
    fn listen(&self) -> (DefaultGuard, Dispatch) {
        let another = Dispatch::new(Registry::default());
        (set_default(Registry::default().with(self.clone())), another)
    }

    /// The turns, in the order in which they began.
    fn turns(&self) -> Vec<Seen> {
        let all = self.0.lock();
        all.iter().filter(|seen| seen.name == "turn").cloned().collect()
    }

    /// What happened within a span, in the order in which it began: `reconcile(request apply ConfigMap default/a)`.
    fn within(&self, span: &Seen) -> Vec<String> {
        // Of spans with the same identifier, those that began while this one was there.
        let of = |child: &&Seen| {
            child.parent == Some(span.id)
                && child.begun >= span.begun
                && span
                    .ended
                    .is_none_or(|(_, order)| child.ended.is_some_and(|(_, before)| before < order))
        };
        let children: Vec<Seen> = self.0.lock().iter().filter(of).cloned().collect();
        let told = children.iter().map(|child| {
            let of = ["verb", "kind", "object", "part", "seen"];
            let fields = of.iter().filter_map(|field| child.fields.get(field).cloned());
            let mut told = vec![child.name.to_owned()];
            told.extend(fields);
            match &*self.within(child) {
                [] => told.join(" "),
                within => format!("{}({})", told.join(" "), within.join(", ")),
            }
        });
        told.collect()
    }
}

fn field<'a>(span: &'a Seen, name: &str) -> &'a str {
    span.fields.get(name).map(String::as_str).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_one_trace_from_its_trigger_to_its_status() {
    let trace = Trace::default();
    let _listens = trace.listen();
    let server = Server::default();
    server.0.lock().lag = Duration::from_millis(300);
    let running = run(&server, |controller| controller);
    sleep(Duration::from_secs(1)).await;
    server.put("widgets", "a", wish("x"));
    sleep(Duration::from_secs(5)).await;

    let turns = trace.turns();
    let first = turns.first().expect("a turn");
    assert_eq!(first.parent, None);
    assert_eq!(
        trace.within(first),
        [
            "reconcile(request patch Widget default/a, request apply ConfigMap default/a)",
            "request patch Widget default/a status",
            "settle true",
        ]
    );
    for (name, value) in [
        ("controller", "widget"),
        ("key", "default/a"),
        ("reasons", "Widget default/a added"),
        ("attempt", "1"),
        ("outcome", "success"),
        ("otel.status_code", ""),
    ] {
        assert_eq!(field(first, name), value, "{name}");
    }
    field(first, "waited_seconds").parse::<f64>().expect("a number");
    let (ended, _) = first.ended.expect("it is over");
    assert_eq!(
        (ended - first.begun).as_millis(),
        300,
        "when the caches show what was written"
    );
    let second = turns.get(1).expect("its own writes are a trigger");
    assert!(
        field(second, "reasons").contains("ConfigMap default/a"),
        "{second:?}"
    );
    assert_eq!(
        trace.within(second),
        ["reconcile"],
        "there is nothing to do and to wait for"
    );
    running.end().await.expect("it ends well");
}

#[tokio::test(start_paused = true)]
async fn a_trace_says_what_went_wrong() {
    let cases = [
        ("fail", "error", "asked for", true),
        ("terminal", "terminal", "asked for", false),
        ("panic", "panic", "asked for", true),
        ("slow", "timed_out", "the turn took longer than 3s", true),
    ];
    for (text, outcome, says, again) in cases {
        let trace = Trace::default();
        let _listens = trace.listen();
        let server = Server::default();
        let running = run(&server, |controller| controller.deadline(Duration::from_secs(3)));
        server.put("widgets", "a", wish(text));
        sleep(Duration::from_secs(4)).await;
        let turns = trace.turns();
        let first = turns.first().expect("a turn");
        assert_eq!(field(first, "outcome"), outcome);
        assert_eq!(field(first, "otel.status_code"), "ERROR");
        assert_eq!(field(first, "otel.status_description"), says);
        assert_eq!(first.fields.contains_key("again_seconds"), again, "{first:?}");
        running.end().await.expect("it ends well");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_the_one_that_is_marked() {
    let trace = Trace::default();
    let _listens = trace.listen();
    let server = Server::default();
    server.0.lock().failures = 1;
    let running = run(&server, |controller| controller);
    server.put("widgets", "a", wish("x"));
    sleep(Duration::from_secs(5)).await;
    let requests: Vec<Seen> = {
        let all = trace.0.lock();
        all.iter()
            .filter(|seen| seen.name == "request")
            .cloned()
            .collect()
    };
    let marks: Vec<&str> = requests
        .iter()
        .map(|request| field(request, "otel.status_code"))
        .collect();
    assert_eq!(marks[0], "ERROR");
    assert!(!field(&requests[0], "otel.status_description").is_empty());
    assert!(
        marks.len() > 2 && marks[1..].iter().all(|mark| mark.is_empty()),
        "{marks:?}"
    );
    assert!(
        requests
            .iter()
            .all(|request| field(request, "otel.kind") == "client")
    );
    let attempts: Vec<String> = trace
        .turns()
        .iter()
        .map(|turn| field(turn, "attempt").to_owned())
        .collect();
    assert!(
        attempts.starts_with(&["1".to_owned(), "2".to_owned()]),
        "{attempts:?}"
    );
    running.end().await.expect("it ends well");
}
