//! A resource whose objects are in a database of somebody's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http::Method;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use trimtab_apiserver_aggregation::kit::{
    Change, Changes, ExtensionServer, Kept, Name, Storage, StorageError,
};
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::user::MASTERS_GROUP;

use crate::kit::{GROUP, World, begin, definition, send};

const TICKETS: &str = "/apis/samples.test/v1/namespaces/default/tickets";

/// A database that forgets nothing.
#[derive(Clone, Debug)]
struct Tickets {
    data: Arc<Mutex<Data>>,
    revision: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Data {
    rows: BTreeMap<Name, Kept<Value>>,
    log: Vec<Change<Value>>,
}

impl Default for Tickets {
    fn default() -> Self {
        Self {
            data: Arc::default(),
            revision: watch::Sender::new(1),
        }
    }
}

#[async_trait]
impl Storage for Tickets {
    type Object = Value;

    async fn revision(&self) -> Result<u64, StorageError> {
        Ok(*self.revision.borrow())
    }

    async fn get(&self, name: &Name) -> Result<Option<Kept<Value>>, StorageError> {
        Ok(self.data.lock().rows.get(name).cloned())
    }

    async fn list(&self, namespace: Option<&str>) -> Result<(u64, Vec<Kept<Value>>), StorageError> {
        let data = self.data.lock();
        let rows = data
            .rows
            .values()
            .filter(|row| namespace.is_none_or(|n| n == row.name.namespace));
        Ok((*self.revision.borrow(), rows.cloned().collect()))
    }

    async fn write(
        &self,
        name: &Name,
        object: Option<Value>,
        expected: u64,
    ) -> Result<Option<u64>, StorageError> {
        let mut data = self.data.lock();
        let before = data.rows.get(name).cloned();
        if before.as_ref().map_or(0, |row| row.changed) != expected {
            return Ok(None);
        }
        let revision = *self.revision.borrow() + 1;
        let after = object.map(|object| Kept {
            name: name.clone(),
            object,
            created: before.as_ref().map_or(revision, |row| row.created),
            changed: revision,
        });
        match &after {
            Some(row) => drop(data.rows.insert(name.clone(), row.clone())),
            None => drop(data.rows.remove(name)),
        }
        data.log.push(Change {
            revision,
            before,
            after,
        });
        drop(data);
        self.revision.send_replace(revision);
        Ok(Some(revision))
    }

    async fn watch(&self, from: u64) -> Result<Changes<Value>, StorageError> {
        let (data, revision) = (self.data.clone(), self.revision.subscribe());
        let changes = stream::unfold((data, revision, from), |(data, mut revision, next)| async move {
            revision.wait_for(|now| *now >= next).await.ok()?;
            let change = data
                .lock()
                .log
                .iter()
                .find(|change| change.revision >= next)
                .cloned()?;
            let after = change.revision + 1;
            Some((Ok(change), (data, revision, after)))
        });
        Ok(changes.boxed())
    }
}

#[tokio::test]
async fn a_database_of_ones_own_can_do_all_that_a_store_can() {
    let world = World::new().await;
    let tickets = Tickets::default();
    let server = ExtensionServer::builder(world.delegation())
        .kept(definition("Ticket", "tickets", "Namespaced"), tickets.clone())
        .start()
        .await
        .expect("starts");
    let root = UserInfo {
        name: "root".to_owned(),
        groups: vec![MASTERS_GROUP.to_owned()],
        ..UserInfo::default()
    };
    let service = || server.service(root.clone());
    let ask = |method: Method, path: String, kind: &'static str, body: Value| {
        let body = match body {
            Value::Null => Bytes::new(),
            body => body.to_string().into(),
        };
        let service = service();
        async move { send(service, method, &path, &[("content-type", kind)], body).await }
    };
    let (json_type, merge, apply) = (
        "application/json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
    );
    let ticket = |name: &str, text: &str| {
        json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Ticket", "metadata": {"name": name, "labels": {"n": name}},
            "spec": {"text": text}})
    };
    let watched = begin(
        service(),
        Method::GET,
        &format!("{TICKETS}?watch=1"),
        &[],
        Bytes::new(),
    )
    .await;
    let mut watched = watched.into_body();
    let made = ask(Method::POST, TICKETS.to_owned(), json_type, ticket("a", "one")).await;
    assert_eq!(
        (made.code.as_u16(), &made.json["metadata"]["resourceVersion"]),
        (201, &json!("2")),
        "{}",
        made.text
    );
    let twice = ask(Method::POST, TICKETS.to_owned(), json_type, ticket("a", "one")).await;
    assert_eq!(
        (twice.code.as_u16(), &twice.json["reason"]),
        (409, &json!("AlreadyExists")),
        "{}",
        twice.text
    );
    let a = format!("{TICKETS}/a");
    let patched = ask(Method::PATCH, a.clone(), merge, json!({"spec": {"text": "two"}})).await;
    assert_eq!(
        patched.json["spec"],
        json!({"text": "two", "times": 1}),
        "{}",
        patched.text
    );
    let old = ask(Method::PUT, a.clone(), json_type, made.json.clone()).await;
    assert_eq!(
        (old.code.as_u16(), &old.json["reason"]),
        (409, &json!("Conflict")),
        "{}",
        old.text
    );
    let applied = ask(
        Method::PATCH,
        format!("{a}?fieldManager=me"),
        apply,
        ticket("a", "three"),
    )
    .await;
    assert_eq!(
        applied.code.as_u16(),
        409,
        "somebody else's field: {}",
        applied.text
    );
    let status = ask(
        Method::PATCH,
        format!("{a}/status"),
        merge,
        json!({"status": {"seen": true}}),
    )
    .await;
    assert_eq!(
        (status.code.as_u16(), &status.json["status"]["seen"]),
        (200, &json!(true)),
        "{}",
        status.text
    );
    let row = tickets
        .data
        .lock()
        .rows
        .values()
        .next()
        .cloned()
        .expect("is kept");
    assert_eq!((&row.object["status"]["seen"], row.created), (&json!(true), 2));
    ask(Method::POST, TICKETS.to_owned(), json_type, ticket("b", "x")).await;
    // What others write in it is seen as well.
    let name = Name {
        namespace: "other".to_owned(),
        name: "c".to_owned(),
    };
    let mut own = ticket("c", "y");
    own["metadata"]["namespace"] = "other".into();
    tickets.write(&name, Some(own), 0).await.expect("writes");
    let all = ask(
        Method::GET,
        "/apis/samples.test/v1/tickets".to_owned(),
        json_type,
        Value::Null,
    )
    .await;
    let names: Vec<&str> = all.json["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|i| i["metadata"]["name"].as_str())
        .collect();
    assert_eq!(names, ["a", "b", "c"], "{}", all.text);
    let page = ask(Method::GET, format!("{TICKETS}?limit=1"), json_type, Value::Null).await;
    let next = page.json["metadata"]["continue"]
        .as_str()
        .expect("there is more")
        .to_owned();
    let page = ask(
        Method::GET,
        format!("{TICKETS}?limit=1&continue={next}"),
        json_type,
        Value::Null,
    )
    .await;
    assert_eq!(page.json["items"][0]["metadata"]["name"], "b", "{}", page.text);
    let selected = ask(
        Method::GET,
        format!("{TICKETS}?labelSelector=n%3Db"),
        json_type,
        Value::Null,
    )
    .await;
    assert_eq!(selected.json["items"].as_array().map(Vec::len), Some(1));
    let gone = ask(Method::DELETE, a.clone(), json_type, Value::Null).await;
    assert_eq!(gone.code.as_u16(), 200, "{}", gone.text);
    assert_eq!(
        ask(Method::GET, a, json_type, Value::Null).await.code.as_u16(),
        404
    );
    let mut text = String::new();
    while text.lines().filter(|line| line.ends_with('}')).count() < 5 {
        let frame = watched.frame().await.expect("goes on").expect("is whole");
        text.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data")));
    }
    let kinds: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|event| {
            format!(
                "{} {}",
                event["type"].as_str().unwrap_or(""),
                event["object"]["metadata"]["name"].as_str().unwrap_or("")
            )
        })
        .collect();
    assert_eq!(
        kinds,
        ["ADDED a", "MODIFIED a", "MODIFIED a", "ADDED b", "DELETED a"]
    );
    server.shutdown().await.expect("stops");
    world.server.shutdown().await.expect("stops");
}
