//! What is answered from stored bytes is what decoding, filtering and encoding would have answered: one checker, over
//! objects as they may be found in a store that others write to as well.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{Op, Revision, Txn};

use super::kit::{Server, request, run};
use crate::api::{ApiRequest, ApiResponse};
use crate::registry::call::Call;
use crate::registry::list_options::ListOptions;
use crate::registry::shape::Shaper;
use crate::registry::storage;
use crate::registry::view::Filter;

/// JSON as text has it: keys in any order, more than once, escaped or not.
#[derive(Clone, Debug)]
enum Json {
    /// Null, a boolean or a number.
    Word(&'static str),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// How JSON is spelt.
#[derive(Clone, Copy, Debug)]
struct Spelling {
    /// Between tokens.
    space: &'static str,
    /// Whether what is not ASCII is escaped, and the first character of each text.
    escapes: bool,
}

impl Json {
    fn spell(&self, how: Spelling, out: &mut String) {
        let all = |open: char, close: char, parts: Vec<String>, out: &mut String| {
            let separator = format!("{0},{0}", how.space);
            out.push(open);
            out.push_str(how.space);
            out.push_str(&parts.join(&separator));
            out.push_str(how.space);
            out.push(close);
        };
        match self {
            Self::Word(word) => out.push_str(word),
            Self::Text(text) => out.push_str(&spell(text, how)),
            Self::List(items) => {
                let items = items.iter().map(|item| item.spelt(how));
                all('[', ']', items.collect(), out);
            }
            Self::Object(fields) => {
                let fields = fields
                    .iter()
                    .map(|(k, v)| format!("{}{}:{}{}", spell(k, how), how.space, how.space, v.spelt(how)));
                all('{', '}', fields.collect(), out);
            }
        }
    }

    fn spelt(&self, how: Spelling) -> String {
        let mut out = String::new();
        self.spell(how, &mut out);
        out
    }
}

fn spell(text: &str, how: Spelling) -> String {
    if !how.escapes {
        return Value::from(text).to_string();
    }
    let mut out = String::from("\"");
    for (i, c) in text.chars().enumerate() {
        if i == 0 || !c.is_ascii() || c.is_control() || matches!(c, '"' | '\\') {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out + "\""
}

fn text() -> impl Strategy<Value = Json> {
    prop_oneof!["[a-c]", ".{0,8}"].prop_map(Json::Text)
}

/// 1e400 is no number for the parser of values.
fn word() -> impl Strategy<Value = Json> {
    let words = [
        "null",
        "true",
        "0",
        "-0",
        "1.50",
        "1e3",
        "18446744073709551616",
        "-9223372036854775808",
        "0.1",
        "1e400",
    ];
    proptest::sample::select(words.to_vec()).prop_map(Json::Word)
}

fn value() -> impl Strategy<Value = Json> {
    prop_oneof![9 => text(), 1 => word()].prop_recursive(3, 12, 4, |inner| {
        let fields = proptest::collection::vec(("[a-c]|.{0,3}", inner.clone()), 0..4);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Json::List),
            fields.prop_map(Json::Object),
        ]
    })
}

/// The fields of `metadata`, most of them as they should be.
fn metadata() -> impl Strategy<Value = Json> {
    let labels = proptest::collection::vec(("[xy]", prop_oneof![9 => text(), 1 => word()]), 0..3);
    let field = prop_oneof![
        8 => labels.prop_map(|l| ("labels".to_owned(), Json::Object(l))),
        4 => value().prop_map(|v| ("annotations".to_owned(), v)),
        1 => ("labels|name|namespace|resourceVersion|[a-z]{0,3}", value()),
    ];
    let fixed = vec![
        ("name".to_owned(), Json::Text("NAME".to_owned())),
        ("namespace".to_owned(), Json::Text("ns".to_owned())),
    ];
    proptest::collection::vec(field, 0..4).prop_map(move |mut fields| {
        fields.extend(fixed.clone());
        Json::Object(fields)
    })
}

/// An object's text; `NAME`, `KIND` and `VERSION` are what it is.
fn object() -> impl Strategy<Value = String> {
    let head = prop_oneof![
        9 => Just(vec!["kind", "apiVersion", "metadata"]),
        2 => Just(vec!["apiVersion", "kind", "metadata"]),
        1 => proptest::collection::vec(proptest::sample::select(vec!["kind", "apiVersion", "metadata", "data"]), 0..5),
    ];
    let rest = prop_oneof![
        9 => proptest::collection::vec(("data|[a-z]{1,4}", value()), 0..3),
        1 => proptest::collection::vec(("data|kind|apiVersion|metadata", value()), 0..3),
    ];
    let spelling = prop_oneof![
        8 => Just(Spelling { space: "", escapes: false }),
        1 => Just(Spelling { space: " ", escapes: false }),
        1 => Just(Spelling { space: "\n", escapes: false }),
        1 => Just(Spelling { space: "", escapes: true }),
    ];
    (head, metadata(), rest, spelling, "[ \n]{0,2}").prop_map(|(head, metadata, rest, how, end)| {
        let part = |key: &str| match key {
            "metadata" => metadata.clone(),
            "kind" => Json::Text("KIND".to_owned()),
            _ => Json::Text("VERSION".to_owned()),
        };
        let head = head.into_iter().map(|key| (key.to_owned(), part(key)));
        Json::Object(head.chain(rest).collect()).spelt(how) + &end
    })
}

/// A kind that is built in, and a custom one.
#[derive(Clone, Copy, Debug)]
struct Kind {
    kind: &'static str,
    version: &'static str,
    group: &'static str,
    plural: &'static str,
    prefix: &'static str,
}

const KINDS: [Kind; 2] = [
    Kind {
        kind: "ConfigMap",
        version: "v1",
        group: "",
        plural: "configmaps",
        prefix: "/registry/configmaps/ns/",
    },
    Kind {
        kind: "Widget",
        version: "example.com/v1",
        group: "example.com",
        plural: "widgets",
        prefix: "/registry/example.com/widgets/ns/",
    },
];

impl Kind {
    fn resource(self, server: &Server) -> Arc<Resource> {
        let resource = server.registry.resources().get(self.group, "v1", self.plural);
        resource.unwrap_or_else(|| panic!("{self:?} is served"))
    }
}

/// Stores an object; answers the revision, and its bytes.
async fn put(server: &Server, kind: Kind, i: usize, text: &str) -> (Revision, Bytes) {
    let text = text
        .replace("NAME", &format!("n{i}"))
        .replace("KIND", kind.kind)
        .replace("VERSION", kind.version);
    let value = Bytes::from(text);
    let put = Op::Put {
        key: format!("{}n{i}", kind.prefix).into(),
        value: value.clone(),
        ttl: None,
    };
    let txn = Txn {
        success: vec![put],
        ..Txn::default()
    };
    let done = server.registry.store().txn(txn).await;
    (done.unwrap_or_else(|e| panic!("{e}")).revision, value)
}

/// What a request comes to: its code, and what it answers.
type Outcome = (u16, Value);

fn outcome(answer: Result<Value, ApiError>) -> Outcome {
    match answer {
        Ok(value) => (200, value),
        Err(error) => (error.code, json!(error.message)),
    }
}

async fn from_bytes(server: &Server, request: ApiRequest) -> Outcome {
    let answer = server.registry.handle(request).await;
    outcome(answer.and_then(ApiResponse::decoded).map(|answer| match answer {
        ApiResponse::Value { value, .. } => value,
        other => panic!("{other:?}"),
    }))
}

/// The same by way of values.
async fn from_values(server: &Server, kind: Kind, request: ApiRequest) -> Outcome {
    let resource = kind.resource(server);
    let call =
        Call::new(&server.registry, request.clone(), resource.clone()).unwrap_or_else(|e| panic!("{e}"));
    let shaper = Shaper::new(&resource, &request, call.now);
    outcome(if request.info.name.is_empty() {
        let options = ListOptions::read(&request, &resource, false).unwrap_or_else(|e| panic!("{e}"));
        call.page(&options).await.map(|page| shaper.list(page))
    } else {
        let stored = call.stored(&request.info.name).await;
        stored.map(|stored| stored.map_or(Value::Null, |stored| shaper.object(stored.object)))
    })
}

async fn check_same(server: &Server, kind: Kind, path: &str) -> Value {
    let ask = || request("GET", path, "");
    let (bytes, values) = (
        from_bytes(server, ask()).await,
        from_values(server, kind, ask()).await,
    );
    if values.0 == 500 && !path.contains("limit=0") {
        // By way of values more is read than the page takes, and what cannot be read may be there.
        return Value::Null;
    }
    assert_eq!(bytes, values, "{path}");
    bytes.1
}

async fn check(kind: Kind, texts: &[String], selector: &str, limit: usize) {
    let server = Server::new();
    for (i, text) in texts.iter().enumerate() {
        put(&server, kind, i, text).await;
    }
    let plural = kind.plural;
    for i in 0..texts.len() {
        for shape in ["", "?as=metadata", "?as=table"] {
            check_same(&server, kind, &format!("ns/{plural}/n{i}{shape}")).await;
        }
    }
    for shape in [
        "",
        "&as=metadata-list",
        "&as=table",
        "&as=table&includeObject=Object",
    ] {
        let mut token = String::new();
        loop {
            let path = format!("ns/{plural}?limit={limit}{selector}{shape}&continue={token}");
            let page = check_same(&server, kind, &path).await;
            token = page["metadata"]["continue"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if token.is_empty() {
                break;
            }
        }
    }
}

/// The events of a watch from the beginning, as the values of the store's history would have them.
async fn check_watch(kind: Kind, texts: &[String], selector: &str, shape: &str) {
    let server = Server::new();
    let (resource, plural) = (kind.resource(&server), kind.plural);
    let path = format!("ns/{plural}?watch=1&timeoutSeconds=1{selector}{shape}");
    let ask = request("GET", &path, "");
    let options = ListOptions::read(&ask, &resource, true).unwrap_or_else(|e| panic!("{e}"));
    let filter = Filter::new(resource.clone(), options.labels.clone(), options.fields.clone());
    let mut expected = Vec::new();
    let mut before: [Option<Bytes>; 2] = [None, None];
    // The cache is there before the changes, which then come by it.
    server.ok("GET", &format!("ns/{plural}"), Value::Null, 200).await;
    // What cannot be read ends the watches that see it.
    let readable = |text: &&String| serde_json::from_str::<Value>(text).is_ok();
    for (i, text) in texts.iter().filter(readable).enumerate() {
        let (revision, value) = put(&server, kind, i % 2, text).await;
        let before = before[i % 2].replace(value.clone());
        let decode = |bytes: &Bytes| storage::decode(&resource, b"", bytes, revision).unwrap_or_default();
        let (now, before) = (decode(&value), before.as_ref().map(decode));
        let was = before.as_ref().is_some_and(|object| filter.matches(object));
        match (filter.matches(&now), was) {
            (true, true) => expected.push(("MODIFIED", now)),
            (true, false) => expected.push(("ADDED", now)),
            (false, true) => expected.push(("DELETED", before.unwrap_or_default())),
            (false, false) => {}
        }
    }
    check_events(
        &server,
        kind,
        &ask,
        &format!("{path}&resourceVersion=1"),
        expected,
    )
    .await;
    let call = Call::new(&server.registry, ask.clone(), resource.clone()).unwrap_or_else(|e| panic!("{e}"));
    let initial = call.page(&options).await.unwrap_or_else(|e| panic!("{e}"));
    let initial = initial.objects.into_iter().map(|object| ("ADDED", object));
    check_events(&server, kind, &ask, &path, initial.collect()).await;
}

async fn check_events(
    server: &Server,
    kind: Kind,
    ask: &ApiRequest,
    path: &str,
    expected: Vec<(&str, Value)>,
) {
    let shaper = Shaper::new(&kind.resource(server), ask, server.registry.now());
    let mut events = server.watch(path).await;
    for (i, (wanted, object)) in expected.into_iter().enumerate() {
        let (kind, _, got) = events.next().await.unwrap_or_default();
        assert_eq!(
            (kind.as_str(), got),
            (wanted, shaper.event(object, i == 0)),
            "{path}"
        );
    }
    assert_eq!(events.next().await, None, "{path}");
}

fn selector() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "",
        "&labelSelector=x",
        "&labelSelector=x%3Da",
        "&labelSelector=x%21%3Da,y",
        "&fieldSelector=metadata.name%3Dn1",
        "&fieldSelector=metadata.name%21%3Dn1",
        "&fieldSelector=metadata.namespace%3Dns&labelSelector=%21x",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn bytes_answer_as_values_do(
        kind in proptest::sample::select(KINDS.to_vec()),
        texts in proptest::collection::vec(object(), 0..5), selector in selector(), limit in 0..4usize,
    ) {
        run(check(kind, &texts, selector, limit));
    }

    #[test]
    fn lines_from_bytes_are_those_from_values(
        kind in proptest::sample::select(KINDS.to_vec()),
        texts in proptest::collection::vec(object(), 0..6), selector in selector(),
        shape in proptest::sample::select(vec!["", "&as=metadata", "&as=table"]),
    ) {
        run(check_watch(kind, &texts, selector, shape));
    }
}

/// What the registry stores is answered from its bytes, or nothing would be gained.
#[tokio::test]
async fn what_is_written_here_is_never_decoded() {
    let server = Server::new();
    let object =
        json!({"metadata": {"name": "a", "annotations": {"x": "\u{1f600}\n"}}, "data": {"k": "\"\u{0}"}});
    let created = server.ok("POST", "ns/configmaps", object, 201).await;
    let answer = server
        .registry
        .handle(request("GET", "ns/configmaps/a", ""))
        .await;
    assert!(matches!(answer, Ok(ApiResponse::Encoded { .. })), "{answer:?}");
    assert_eq!(
        server.ok("GET", "ns/configmaps/a", Value::Null, 200).await,
        created
    );
}

/// What cannot be read fails the list at once, with a status: not in the middle.
#[tokio::test]
async fn what_cannot_be_read_is_said_before_anything_is_sent() {
    let server = Arc::new(Server::new());
    for i in 0..3 {
        let text = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"NAME"}}"#;
        put(&server, KINDS[0], i, text).await;
    }
    put(&server, KINDS[0], 3, "{\"kind\":").await;
    for path in [
        "ns/configmaps",
        "ns/configmaps/n3",
        "ns/configmaps?labelSelector=none",
    ] {
        let (code, message) = from_bytes(&server, request("GET", path, "")).await;
        assert_eq!(code, 500, "{path}");
        let message = message.as_str().unwrap_or_default();
        assert!(message.contains("a stored ConfigMap cannot be read"), "{message}");
    }
}
