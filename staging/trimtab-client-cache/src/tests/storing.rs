//! Stores by themselves: replacement in one step, indexes, waiting, the write barrier.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::ConfigMap;
use proptest::prelude::*;
use serde_json::json;
use trimtab_apimachinery_meta::{LabelSelector, ObjectKey};

use super::clauses::{Monotonic, view};
use super::harness::{caught_up, start};
use super::server::{Fault, Server};
use crate::barrier::WriteBarrier;
use crate::cached::{Cached, Codec, Form};
use crate::index::{self, Index, IndexError};
use crate::informer::SharedInformer;
use crate::key_of;
use crate::lister::Lister;
use crate::reflector::Config;
use crate::selection::Selection;
use crate::store::{self, Replacement, Store, WaitError};

const PATIENCE: Duration = Duration::from_secs(30);

thread_local! {
    static CODEC: RefCell<Codec<ConfigMap>> = RefCell::new(Codec::new(&(), Form::default()));
}

/// A config map in one of two namespaces, with up to two owners and some data.
fn object(name: u8, version: u64, owners: &[u8], data: &str) -> Cached<ConfigMap> {
    let namespace = ["one", "two"][usize::from(name) % 2];
    let owners: Vec<_> = owners
        .iter()
        .map(|uid| json!({"apiVersion": "v1", "kind": "Pod", "name": "any", "uid": format!("owner-{uid}")}))
        .collect();
    let text = json!({
        "metadata": {
            "name": format!("object-{name}"),
            "namespace": namespace,
            "uid": format!("uid-{name}"),
            "resourceVersion": version.to_string(),
            "ownerReferences": owners,
            "labels": {"team": data},
        },
        "data": {"word": data},
    });
    CODEC
        .with_borrow_mut(|codec| codec.encode_json(text.to_string().as_bytes()))
        .unwrap()
}

fn replacement(objects: Vec<Cached<ConfigMap>>, version: u64) -> Replacement<ConfigMap> {
    Replacement {
        objects,
        skipped: HashMap::new(),
        resource_version: version.to_string(),
    }
}

fn letters(object: &ConfigMap) -> Vec<String> {
    let word = object.data.as_ref().and_then(|data| data.get("word"));
    word.iter()
        .flat_map(|word| word.chars())
        .map(String::from)
        .collect()
}

/// What every index and lister must answer, found by looking at all objects.
fn same_as_full_scan(store: &Store<ConfigMap>) -> Result<(), TestCaseError> {
    type Values = fn(&ConfigMap) -> Vec<String>;
    let owners: Values = |object| {
        let owners = object.metadata.owner_references.iter().flatten();
        owners.map(|owner| owner.uid.clone()).collect()
    };
    let namespace: Values = |object| object.metadata.namespace.iter().cloned().collect();
    let word: Values = |object| {
        object
            .data
            .iter()
            .flat_map(|data| data.get("word").cloned())
            .collect()
    };
    let indexes = [
        ("word", word),
        (index::OWNER_UID, owners),
        (index::NAMESPACE, namespace),
        ("letters", letters),
    ];
    for (name, values) in indexes {
        let mut scan = BTreeMap::<String, Vec<ObjectKey>>::new();
        for object in store.list() {
            let mut values = values(&object.decode().unwrap());
            values.sort();
            values.dedup();
            for value in values {
                scan.entry(value).or_default().push(object.key().clone());
            }
        }
        let mut found = store.index_values(name).unwrap();
        found.sort();
        prop_assert_eq!(
            found,
            scan.keys().cloned().collect::<Vec<_>>(),
            "values of {}",
            name
        );
        for (value, keys) in scan {
            let found = store.by_index(name, &value).unwrap();
            prop_assert_eq!(
                found
                    .iter()
                    .map(|object| object.key().clone())
                    .collect::<Vec<_>>(),
                keys
            );
        }
        prop_assert!(store.by_index(name, "nothing").unwrap().is_empty());
    }
    let lister = Lister::new(store.clone()).in_namespace("two");
    let selector = LabelSelector::parse("team in (a,ab)").unwrap();
    let team = |object: &Cached<ConfigMap>| {
        object.decode().unwrap().metadata.labels.clone().unwrap()["team"].clone()
    };
    let scan = store
        .list()
        .into_iter()
        .filter(|object| object.namespace() == "two" && matches!(&*team(object), "a" | "ab"));
    let keys = |objects: Vec<Cached<ConfigMap>>| {
        objects
            .iter()
            .map(|object| object.key().clone())
            .collect::<Vec<_>>()
    };
    prop_assert_eq!(keys(lister.list(&selector)), keys(scan.collect()));
    Ok(())
}

#[derive(Clone, Debug)]
enum Change {
    Upsert(u8, Vec<u8>, String),
    Delete(u8),
    Replace(Vec<(u8, Vec<u8>, String)>),
    AddIndex,
    /// A state from the past.
    Old(u8),
}

fn change() -> impl Strategy<Value = Change> {
    let owners = || prop::collection::vec(0..3_u8, 0..3);
    prop_oneof![
        6 => (0..8_u8, owners(), "[a-c]{0,3}").prop_map(|(name, owners, data)| Change::Upsert(name, owners, data)),
        3 => (0..8_u8).prop_map(Change::Delete),
        1 => prop::collection::vec((0..8_u8, owners(), "[a-c]{0,3}"), 0..8).prop_map(Change::Replace),
        1 => Just(Change::AddIndex),
        2 => (0..8_u8).prop_map(Change::Old),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn indexes_answer_as_full_scans_do(changes in prop::collection::vec(change(), 0..60)) {
        let (store, mut writer) = store::store();
        let (mut added, mut monotonic) = (false, Monotonic::default());
        for (change, version) in changes.into_iter().zip(10..) {
            match change {
                Change::Upsert(name, owners, data) => drop(writer.upsert(object(name, version, &owners, &data))),
                Change::Delete(name) => drop(writer.delete(object(name, version, &[], "gone"))),
                Change::Replace(objects) => {
                    let objects: BTreeMap<_, _> = objects.into_iter().map(|each| (each.0, each)).collect();
                    let objects = objects.into_values().map(|(name, owners, data)| object(name, version, &owners, &data));
                    writer.replace(replacement(objects.collect(), version));
                }
                Change::AddIndex => {
                    let result = store.add_index(Index::new("letters", letters));
                    let expected = if added { Err(IndexError::Exists("letters".into())) } else { Ok(()) };
                    prop_assert_eq!(result, expected);
                    if !added {
                        store.add_index(Index::by_field("word", ["data", "word"])).unwrap();
                    }
                    added = true;
                }
                Change::Old(name) => {
                    let before = view(&store);
                    let key = object(name, 1, &[], "").key().clone();
                    // Of what is not there it is known to be the past only once there was a list.
                    if before.contains_key(&key) || !store.resource_version().is_empty() {
                        prop_assert!(writer.upsert(object(name, 1, &[0], "abc")).is_empty());
                        prop_assert!(writer.delete(object(name, 1, &[], "")).is_empty());
                        prop_assert!(writer.delete_key(&key, "1").is_empty());
                    }
                    prop_assert_eq!(view(&store), before);
                }
            }
            monotonic.sees(&store).map_err(TestCaseError::fail)?;
            if added {
                same_as_full_scan(&store)?;
            }
        }
    }
}

#[test]
fn an_index_has_one_name() {
    let (store, _writer) = store::store::<ConfigMap>();
    for name in [index::NAMESPACE, index::OWNER_UID] {
        let added = store.add_index(Index::new(name, letters));
        assert_eq!(added, Err(IndexError::Exists(name.to_owned())));
    }
    let unknown = IndexError::Unknown("letters".into());
    assert_eq!(store.by_index("letters", "a").unwrap_err(), unknown);
    assert_eq!(store.index_values("letters"), Err(unknown.clone()));
    store.add_index(Index::new("letters", letters)).unwrap();
    assert!(store.remove_index("letters") && !store.remove_index("letters"));
    assert_eq!(store.index_values("letters"), Err(unknown));
    assert!(!store.remove_index(index::OWNER_UID), "it is built in");
    assert_eq!(store.owned_by("nobody").len(), 0);
}

/// *Atomic*, with readers in other threads: what is read at once, by any way, is of one replacement.
#[test]
fn a_reader_sees_all_of_a_replacement_or_none() {
    let (store, mut writer) = store::store();
    store.add_index(Index::new("letters", letters)).unwrap();
    let generation = |round: u64| {
        let word = ["a", "b"][(round % 2) as usize];
        let objects = (0..40)
            .map(|name| object(name + 40 * (round % 2) as u8, round, &[], word))
            .collect();
        replacement(objects, round)
    };
    writer.replace(generation(1));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (store, mut seen) = (store.clone(), 0);
                scope.spawn(move || {
                    while store.resource_version() != "400" {
                        for objects in [store.list(), store.by_index("letters", "a").unwrap()] {
                            let versions: Vec<_> = objects
                                .iter()
                                .map(|o| o.resource_version().into_owned())
                                .collect();
                            let torn = versions.iter().any(|version| *version != versions[0]);
                            assert!(!torn && matches!(objects.len(), 0 | 40), "Atomic: {versions:?}");
                        }
                        let count = store.list_in("one").len();
                        assert_eq!((count, store.len()), (20, 40), "Atomic");
                        seen += 1;
                    }
                    seen
                })
            })
            .collect();
        (2..=400).for_each(|round| drop(writer.replace(generation(round))));
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_it_can() {
    let (store, mut writer) = store::store();
    let key = object(1, 1, &[], "").key().clone();
    let not_yet = WaitError::TimedOut(String::new());
    assert_eq!(store.wait_until("1", PATIENCE).await, Err(not_yet));
    assert!(matches!(
        store.wait_until("x", PATIENCE).await,
        Err(WaitError::Invalid(_))
    ));
    assert_eq!(store.synced().now_or_never(), None);
    writer.replace(replacement(vec![object(1, 3, &[], "a")], 5));
    assert_eq!(store.synced().now_or_never(), Some(Ok(())));
    assert_eq!(store.wait_until("5", PATIENCE).now_or_never(), Some(Ok(())));
    assert_eq!(
        store.wait_until("6", PATIENCE).await,
        Err(WaitError::TimedOut("5".into()))
    );

    let gone = store.wait_for(&key, |object| object.is_none().then_some("gone"));
    let changed = store.wait_for(&key, |object| {
        object
            .filter(|object| letters(&object.decode().unwrap()) == ["b"])
            .cloned()
    });
    let reached = store.wait_until("10", PATIENCE);
    let steps = async {
        writer.upsert(object(1, 8, &[], "b"));
        tokio::task::yield_now().await;
        writer.delete(object(1, 9, &[], "b"));
        tokio::task::yield_now().await;
        writer.bookmark("10");
    };
    let (gone, changed, reached, ()) = tokio::join!(gone, changed, reached, steps);
    assert_eq!((gone, reached), (Ok("gone"), Ok(())));
    assert_eq!(changed.unwrap().resource_version(), "8");

    let never = store.wait_until("11", PATIENCE);
    drop(writer);
    assert_eq!(never.await, Err(WaitError::Stopped));
    assert_eq!(store.synced().await, Ok(()), "it was");
}

/// A server, an informer on it that is caught up, and the only object's UID.
async fn with_object() -> (Server, SharedInformer<ConfigMap>, ObjectKey) {
    let server = Server::new();
    server.put("a", &[]);
    let informer = start(&server, Config::default());
    caught_up(&server, &informer).await;
    (server, informer, "default/a".parse().unwrap())
}

fn decoded(object: serde_json::Value) -> ConfigMap {
    serde_json::from_value(object).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_write_barrier_is_passed_when_the_writes_are_seen() {
    let (server, informer, key) = with_object().await;
    let store = informer.store();
    let uid = |key: &ObjectKey| store.get(key).unwrap().uid().into_owned();
    let mut barrier = WriteBarrier::new();
    assert!(barrier.is_passed());
    barrier.wrote(&store, &ConfigMap::default());
    assert!(barrier.is_passed(), "a dry run");

    let answer = decoded(server.change(|state| state.world.put("a", json!({}))));
    barrier.wrote(&store, &answer);
    assert!(!barrier.is_passed());
    assert_eq!(barrier.passed(PATIENCE).await, Ok(()));
    assert!(
        barrier.is_passed()
            && Some(&*store.get(&key).unwrap().resource_version())
                == answer.metadata.resource_version.as_deref()
    );

    // Made again at once: the deleted one is gone.
    barrier.deleted(&store, key.clone(), uid(&key));
    assert!(!barrier.is_passed());
    server.delete("a");
    server.put("a", &[]);
    assert_eq!(barrier.passed(PATIENCE).await, Ok(()));

    // Created and deleted: before the cache has seen the create, it has seen no delete.
    let new = decoded(server.change(|state| state.world.put("b", json!({}))));
    barrier.wrote(&store, &new);
    barrier.deleted(&store, key_of(&new), new.metadata.uid.clone().unwrap());
    assert!(!barrier.is_passed());
    caught_up(&server, &informer).await;
    assert!(!barrier.is_passed(), "created, not deleted");
    let at = store.resource_version();
    assert_eq!(barrier.passed(PATIENCE).await, Err(WaitError::TimedOut(at)));
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    server.change(|state| state.world.put("b", going));
    assert_eq!(barrier.passed(PATIENCE).await, Ok(()), "being deleted");
}

/// Made and deleted between two lists, so that no handler hears of it.
#[test]
fn a_write_barrier_knows_what_is_gone_although_nobody_was_told() {
    let one = Selection::in_namespace("one");
    let cases = [
        (Selection::all(), false, false, true),
        (Selection::all(), true, false, false),
        // By a delete that was noted.
        (Selection::all(), false, true, false),
        (one.clone(), false, false, true),
        (Selection::in_namespace("two"), false, false, false),
        (one.labels("team=a"), false, false, true),
        (Selection::all().labels("team!=a"), false, false, false),
        // Who is to tell?
        (
            Selection::all().fields("metadata.name=object-2"),
            false,
            false,
            false,
        ),
    ];
    for (selection, is_there, is_deleted, is_lost) in cases {
        let (store, mut writers) = store::store_in(store::Scope::of(&selection));
        let store = store.cast::<ConfigMap>();
        let written = object(2, 10, &[], "a");
        let mut barrier = WriteBarrier::new();
        let answer = written.decode().unwrap();
        barrier.wrote(&store, &*answer);
        if is_deleted {
            barrier.deleted(&store, written.key().clone(), written.uid());
        }
        assert!(!barrier.is_passed() && barrier.lost().is_none(), "{selection}");
        let objects = if is_there { vec![written] } else { Vec::new() };
        let list = Replacement {
            objects,
            skipped: HashMap::new(),
            resource_version: "15".to_owned(),
        };
        let told = writers[0].replace(list.cast());
        assert_eq!(told.len(), usize::from(is_there), "{selection}");
        assert!(barrier.is_passed(), "{selection}");
        assert_eq!(
            barrier.lost(),
            is_lost.then_some("10"),
            "{selection}, there: {is_there}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_barrier_stays_up_while_the_cache_is_cut_off() {
    let (server, informer, key) = with_object().await;
    server.fail_watches([Fault::Mute]);
    server.cut();
    let answer = decoded(server.change(|state| state.world.put("a", json!({}))));
    let mut barrier = WriteBarrier::new();
    barrier.wrote(&informer.store(), &answer);
    assert!(matches!(
        barrier.passed(PATIENCE).await,
        Err(WaitError::TimedOut(_))
    ));
    assert_eq!(barrier.passed(PATIENCE * 3).await, Ok(()));
    barrier.deleted(&informer.store(), key, "uid-1");
    drop(informer);
    assert_eq!(barrier.passed(PATIENCE).await, Err(WaitError::Stopped));
    assert!(!barrier.is_passed());
}

/// *Once*: what is made of a state is made once for each type, and anew for another state.
#[test]
fn what_is_made_of_a_state_is_kept_with_it() {
    let made = std::cell::Cell::new(0);
    let length = |object: &Cached<ConfigMap>| {
        made.set(made.get() + 1);
        object.name().len()
    };
    let state = object(1, 1, &[], "a");
    assert_eq!(
        (*state.derived(length), *state.clone().derived(length), made.get()),
        (8, 8, 1)
    );
    assert_eq!(*state.derived(|object| object.name().to_owned()), "object-1");
    assert_eq!((*state.derived(length), made.get()), (8, 1));
    assert_eq!((*object(1, 2, &[], "a").derived(length), made.get()), (8, 2));
}

#[test]
fn what_no_controller_has_is_found() {
    let (store, mut writer) = store::store::<ConfigMap>();
    store.add_index(Index::orphans()).unwrap();
    writer.upsert(object(1, 1, &[], "a"));
    writer.upsert(object(3, 2, &[7], "b")); // an owner that does not control it
    let controlled = json!({"metadata": {"name": "own", "namespace": "two", "uid": "own", "resourceVersion": "3",
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "any", "uid": "controller", "controller": true}]}});
    let controlled = CODEC
        .with_borrow_mut(|codec| codec.encode_json(controlled.to_string().as_bytes()))
        .unwrap();
    assert_eq!(controlled.belonging().controller.as_deref(), Some("controller"));
    writer.upsert(controlled);
    let orphans = store.by_index(index::ORPHANS, "two").unwrap();
    let names: Vec<_> = orphans.iter().map(Cached::name).collect();
    assert_eq!(names, ["object-1", "object-3"]);
    let belonging = orphans[0].belonging();
    assert_eq!(belonging.labels().collect::<Vec<_>>(), [("team", "a")]);
    let selected = LabelSelector::parse("team=a").unwrap();
    assert!(belonging.is_selected_by(&selected) && !orphans[1].belonging().is_selected_by(&selected));
}
