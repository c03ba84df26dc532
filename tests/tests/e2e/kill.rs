//! The real server, killed with SIGKILL while clients write, and started again on the same data dir, some times over. What
//! the clients saw must be one history: resource versions give its order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::StreamExt as _;
use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Error};
use trimtab_tests::{DEADLINE, Server};

use crate::rust_client::client;

const ROUNDS: u64 = 3;
const WRITERS: u64 = 4;
const NAMES: usize = 5;

/// A write, and what its caller knows of it.
#[derive(Clone, Debug)]
struct Asked {
    name: String,
    /// What it writes, like no other; `None` for a deletion.
    value: Option<String>,
    /// The version that it replaces; `None` to create, or to delete whatever is there.
    expected: Option<u64>,
    began: Instant,
    ended: Instant,
    answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Done, at this version; of a deletion no version is told.
    Done(Option<u64>),
    /// Refused by the server: nothing has happened.
    Refused,
    /// The server died; it may have happened.
    Unknown,
}

/// A change as a watch tells of it: the version, the name, and the value unless it was deleted.
type Change = (u64, String, Option<String>);

fn version(map: &ConfigMap) -> u64 {
    let text = map.metadata.resource_version.as_deref().unwrap_or_default();
    text.parse().expect("a resource version is a number here")
}

fn map(name: &str, value: &str, expected: Option<u64>) -> ConfigMap {
    let mut map = ConfigMap {
        data: Some(BTreeMap::from([("value".to_owned(), value.to_owned())])),
        ..ConfigMap::default()
    };
    map.metadata.name = Some(name.to_owned());
    map.metadata.resource_version = expected.map(|version| version.to_string());
    map
}

fn value(map: &ConfigMap) -> String {
    map.data
        .clone()
        .unwrap_or_default()
        .remove("value")
        .unwrap_or_default()
}

/// Creates, replaces and deletes until the server is gone.
async fn write(api: Api<ConfigMap>, round: u64, writer: u64, done: Arc<AtomicU64>) -> Vec<Asked> {
    let mut random = fastrand::Rng::with_seed(round * 100 + writer);
    let mut all = Vec::new();
    for turn in 0.. {
        let name = format!("m{}", random.usize(0..NAMES));
        let text = format!("{round}-{writer}-{turn}");
        let seen = match api.get_opt(&name).await {
            Ok(seen) => seen.map(|map| version(&map)),
            Err(_) => return all,
        };
        let deletes = seen.is_some() && random.u8(0..5) == 0;
        let began = Instant::now();
        let answer = match seen {
            _ if deletes => api.delete(&name, &DeleteParams::default()).await.map(|_| None),
            None => api
                .create(&PostParams::default(), &map(&name, &text, None))
                .await
                .map(|m| Some(version(&m))),
            Some(seen) => {
                let new = map(&name, &text, Some(seen));
                api.replace(&name, &PostParams::default(), &new)
                    .await
                    .map(|m| Some(version(&m)))
            }
        };
        let answer = match answer {
            Ok(version) => Answer::Done(version),
            Err(Error::Api(status)) if matches!(status.code, 404 | 409) => Answer::Refused,
            Err(_) => Answer::Unknown,
        };
        done.fetch_add(u64::from(answer != Answer::Refused), Ordering::Relaxed);
        all.push(Asked {
            name,
            value: (!deletes).then_some(text),
            expected: seen.filter(|_| !deletes),
            began,
            ended: Instant::now(),
            answer,
        });
        if answer == Answer::Unknown {
            return all;
        }
    }
    all
}

/// Everything from a version on, until the watch breaks or `until` has been seen.
async fn watch(api: Api<ConfigMap>, from: u64, until: Option<u64>) -> Vec<Change> {
    let mut changes = Vec::new();
    let params = WatchParams::default().fields("metadata.name!=kube-root-ca.crt");
    let Ok(stream) = api.watch(&params, &from.to_string()).await else {
        return changes;
    };
    let mut stream = stream.boxed();
    while until.is_none_or(|until| changes.last().is_none_or(|(at, ..)| *at < until)) {
        let (map, deleted) = match stream.next().await {
            Some(Ok(WatchEvent::Added(map) | WatchEvent::Modified(map))) => (map, false),
            Some(Ok(WatchEvent::Deleted(map))) => (map, true),
            Some(Ok(WatchEvent::Bookmark(_))) => continue,
            Some(Ok(WatchEvent::Error(status))) => panic!("Resumable: {status:?}"),
            Some(Err(_)) | None => return changes,
        };
        let name = map.metadata.name.clone().unwrap_or_default();
        changes.push((version(&map), name, (!deleted).then(|| value(&map))));
    }
    changes
}

/// Holds the clauses against what was seen: `told` piece by piece while the server came and went, `all` in one go.
fn check(
    asked: &[Asked],
    told: &[Change],
    all: &[Change],
    last: &BTreeMap<String, (u64, String)>,
) -> Result<(), String> {
    if !all.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(format!("Ordered, Unique: {all:?}"));
    }
    if let Some((told, wanted)) = told.iter().zip(all).find(|(told, wanted)| told != wanted) {
        return Err(format!("Reliable: told {told:?}, where {wanted:?} was next"));
    }
    let mut now: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut happened: BTreeMap<&str, u64> = BTreeMap::new();
    let mut deleted: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, name, value) in all {
        let before = now.get(name).map(|(version, _)| *version);
        let Some(value) = value else {
            now.remove(name)
                .ok_or_else(|| format!("Linearizable: {name} was deleted twice, at {at}"))?;
            *deleted.entry(name).or_default() += 1;
            continue;
        };
        let by = asked.iter().find(|asked| asked.value.as_ref() == Some(value));
        let by = by.ok_or_else(|| format!("Linearizable: nobody has written {value}, at {at}"))?;
        if happened.insert(value, *at).is_some() {
            return Err(format!("Unique: {value} has happened again, at {at}"));
        }
        if by.answer == Answer::Refused || by.name != *name {
            return Err(format!("Atomic: {by:?} has happened at {at} to {name}"));
        }
        if by.expected != before {
            return Err(format!("Linearizable: {by:?} has replaced {before:?}"));
        }
        now.insert(name.clone(), (*at, value.clone()));
    }
    if now != *last {
        return Err(format!("Durable: {now:?} is to be there, and {last:?} is"));
    }
    for done in asked {
        match (done.answer, &done.value) {
            (Answer::Done(version), Some(value)) if happened.get(value.as_str()) != version.as_ref() => {
                return Err(format!(
                    "Durable: {done:?} is known to have happened at {:?}",
                    happened.get(value.as_str())
                ));
            }
            (Answer::Done(Some(version)), _) => {
                let late = |other: &&Asked| matches!(other.answer, Answer::Done(Some(v)) if v < version);
                if let Some(other) = asked.iter().filter(late).find(|other| other.began > done.ended) {
                    return Err(format!(
                        "Linearizable: {other:?} came before {done:?}, which had ended"
                    ));
                }
            }
            _ => {}
        }
    }
    for name in asked
        .iter()
        .map(|asked| asked.name.as_str())
        .collect::<BTreeSet<_>>()
    {
        let count = |answer| {
            let of = |asked: &&Asked| asked.name == name && asked.value.is_none() && asked.answer == answer;
            asked.iter().filter(of).count()
        };
        let (done, unknown) = (count(Answer::Done(None)), count(Answer::Unknown));
        let seen = deleted.get(name).copied().unwrap_or_default();
        if !(done..=done + unknown).contains(&seen) {
            return Err(format!(
                "Durable: {name} was deleted {seen} times, {done} are acknowledged"
            ));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_server_that_is_killed_see_one_history() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (mut asked, mut told) = (Vec::new(), Vec::<Change>::new());
    let mut start = 0;
    for round in 0..ROUNDS {
        let server = Server::up(dir.path(), &[]);
        let api: Api<ConfigMap> = Api::default_namespaced(client(&server).await);
        if round == 0 {
            let list = api.list(&ListParams::default()).await.expect("lists");
            start = list
                .metadata
                .resource_version
                .unwrap_or_default()
                .parse()
                .expect("a number");
        }
        let from = told.last().map_or(start, |(at, ..)| *at);
        let watching = tokio::spawn(watch(api.clone(), from, None));
        let done = Arc::new(AtomicU64::new(0));
        let writers =
            (0..WRITERS).map(|writer| tokio::spawn(write(api.clone(), round, writer, done.clone())));
        let writers = join_all(writers.collect::<Vec<_>>());
        let enough = 40 + fastrand::Rng::with_seed(round).u64(0..40);
        tokio::task::block_in_place(|| {
            trimtab_tests::eventually(
                || "the writers do not get on".to_owned(),
                || (done.load(Ordering::Relaxed) >= enough).then_some(()),
            );
            server.kill();
        });
        for writer in writers.await {
            asked.extend(writer.expect("no panic"));
        }
        told.extend(watching.await.expect("no panic"));
    }
    let server = Server::up(dir.path(), &[]);
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server).await);
    let list = api.list(&ListParams::default()).await.expect("lists");
    let last: BTreeMap<_, _> = list
        .items
        .iter()
        .filter(|map| map.metadata.name.as_deref() != Some("kube-root-ca.crt"))
        .map(|map| {
            (
                map.metadata.name.clone().unwrap_or_default(),
                (version(map), value(map)),
            )
        })
        .collect();
    // One more write is where the watch of everything ends.
    let end = api
        .create(&PostParams::default(), &map("end", "end", None))
        .await
        .expect("creates");
    let all = tokio::time::timeout(DEADLINE, watch(api, start, Some(version(&end)))).await;
    let mut all = all.expect("the last write is told of");
    assert_eq!(all.pop().map(|(_, name, _)| name).as_deref(), Some("end"));
    assert_eq!(check(&asked, &told, &all, &last), Ok(()));
    let done = asked
        .iter()
        .filter(|asked| asked.answer != Answer::Refused)
        .count();
    assert!(
        done > 100 && told.len() > 60 && told.len() <= all.len(),
        "{done} {} {}",
        told.len(),
        all.len()
    );

    // The checker can say no.
    let said = |told: &[Change], all: &[Change], last| check(&asked, told, all, last).expect_err("is false");
    assert!(said(&told[1..], &all, &last).starts_with("Reliable"));
    let mut lost = all.clone();
    lost.pop();
    assert!(!said(&[], &lost, &last).is_empty());
    let mut twice = all.clone();
    twice.push(all[0].clone());
    assert!(said(&[], &twice, &last).starts_with("Ordered, Unique"));
    assert!(said(&told, &all, &BTreeMap::new()).starts_with("Durable"));
    server.stop();
}
