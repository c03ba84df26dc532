//! Each validator refuses bad histories, by the name of its clause: each is a good one with one thing changed.

use std::collections::BTreeMap;

use serde_json::json;
use trimtab::apimachinery::ObjectKey;

use super::{CLAUSES, check};
use crate::history::{Entry, HandlerSeen, InformerMeta, Kind, Report, Seen, Told, What};
use crate::model::{Content, Mark, Model, Scope, State, Tier, View};

fn key(name: &str) -> ObjectKey {
    ObjectKey::namespaced("one", name)
}

fn mark(uid: &str, version: u64) -> Mark {
    Mark {
        uid: uid.to_owned(),
        version,
    }
}

fn content(tier: &str) -> Content {
    Content {
        tier: Some(tier.to_owned()),
        value: Some("v".to_owned()),
    }
}

fn view(objects: &[(&str, &str, u64)]) -> View {
    let one = |(name, uid, version): &(&str, &str, u64)| (key(name), mark(uid, *version));
    objects.iter().map(one).collect()
}

fn told(kind: Kind, name: &str, uid: &str, version: u64) -> What {
    What::Told(Told {
        handler: 0,
        taking: version,
        synced: true,
        key: key(name),
        mark: mark(uid, version),
        content: content("a"),
        kind,
        stored: None,
    })
}

fn seen(version: u64, objects: &[(&str, &str, u64)], backlog: usize) -> What {
    What::Seen(Seen {
        version,
        synced: true,
        view: view(objects),
        indexed: view(objects),
        handlers: vec![HandlerSeen {
            handler: 0,
            backlog,
            synced: true,
        }],
    })
}

fn updated(uid: &str, version: u64) -> Kind {
    Kind::Updated {
        old: mark(uid, version),
    }
}

const DELETED: Kind = Kind::Deleted { observed: true };
const ADDED: Kind = Kind::Added { initial: false };
const LISTED: Kind = Kind::Added { initial: true };

fn end(name: &str, uid: &str, version: u64, value: &str) -> What {
    let metadata =
        json!({"namespace": "one", "name": name, "uid": uid, "resourceVersion": version.to_string()});
    let object = |value: &str| {
        let object = json!({"metadata": metadata, "data": {"v": value}});
        BTreeMap::from([(key(name), object)])
    };
    What::End {
        server: object("v"),
        stored: object(value),
    }
}

/// Of `a` and `b`, which are listed at 11: `a` is changed at 12, deleted at 13 and made again at 14, and `b` leaves the
/// selection at 15.
fn model() -> Model {
    let mut model = Model::default();
    let mut note = |name: &str, version, state: Option<(&str, &str)>| {
        let state = state.map(|(uid, tier)| State {
            uid: uid.to_owned(),
            content: content(tier),
        });
        model.note(key(name), version, state).expect("in their order");
    };
    note("a", 10, Some(("a1", "a")));
    note("b", 11, Some(("b1", "a")));
    note("a", 12, Some(("a1", "a")));
    note("a", 13, None);
    note("a", 14, Some(("a2", "a")));
    note("b", 15, Some(("b1", "b")));
    model
}

fn good() -> Vec<What> {
    let joined = What::Joined {
        handler: 0,
        listed: None,
    };
    let mut entries = vec![
        joined,
        What::FirstList(view(&[("a", "a1", 10), ("b", "b1", 11)])),
        told(LISTED, "a", "a1", 10),
        told(LISTED, "b", "b1", 11),
        seen(11, &[("a", "a1", 10), ("b", "b1", 11)], 0),
        told(updated("a1", 10), "a", "a1", 12),
        seen(12, &[("a", "a1", 12), ("b", "b1", 11)], 0),
        told(DELETED, "a", "a1", 13),
        told(ADDED, "a", "a2", 14),
        told(Kind::Resync, "a", "a2", 14),
        seen(15, &[("a", "a2", 14)], 1),
        told(DELETED, "b", "b1", 15),
        seen(15, &[("a", "a2", 14)], 0),
        end("a", "a2", 14, "v"),
    ];
    // Before that the handler has not been told of all that there is.
    for listed in &mut entries[2..4] {
        change_told(listed, |told| told.synced = false);
    }
    entries
}

fn change_told(what: &mut What, change: impl FnOnce(&mut Told)) {
    match what {
        What::Told(told) => change(told),
        other => panic!("nobody is told by {other:?}"),
    }
}

fn report(entries: Vec<What>) -> Report {
    let entries = entries.into_iter().zip(1..).map(|(what, step)| Entry {
        step,
        informer: 0,
        what,
    });
    let scope = Scope {
        tier: Tier::Is("a"),
        ..Scope::all()
    };
    Report {
        seed: 7,
        steps: 99,
        informers: vec![InformerMeta {
            name: "tier a".to_owned(),
            scope,
            metadata_only: false,
        }],
        entries: entries.collect(),
        model: model(),
        acknowledged: vec![(key("a"), mark("a1", 12))],
    }
}

fn with(at: usize, what: What) -> Vec<What> {
    let mut entries = good();
    entries[at] = what;
    entries
}

fn without(at: usize) -> Vec<What> {
    let mut entries = good();
    entries.remove(at);
    entries
}

fn before(at: usize, what: What) -> Vec<What> {
    let mut entries = good();
    entries.insert(at, what);
    entries
}

/// A delta has something else about it.
fn told_but(at: usize, change: impl FnOnce(&mut Told)) -> Vec<What> {
    let mut entries = good();
    change_told(&mut entries[at], change);
    entries
}

/// A look shows something else.
fn seen_but(at: usize, change: impl FnOnce(&mut Seen)) -> Vec<What> {
    let mut entries = good();
    match &mut entries[at] {
        What::Seen(seen) => change(seen),
        other => panic!("nobody looks in {other:?}"),
    }
    entries
}

/// What is bad, and the history.
type Bad = (&'static str, Vec<What>);

fn not_ordered() -> Vec<Bad> {
    let update = |to| told(updated("a1", 12), "a", "a1", to);
    vec![
        ("an older state after a newer one", before(6, update(10))),
        ("the same state twice", before(6, update(12))),
        ("added what is known", told_but(5, |told| told.kind = ADDED)),
        (
            "updated from what is not known",
            told_but(5, |told| told.kind = updated("a1", 9)),
        ),
        (
            "another object without a deletion",
            told_but(5, |told| told.mark = mark("a2", 14)),
        ),
        (
            "the end of an object that it was not",
            told_but(7, |told| told.mark = mark("a2", 13)),
        ),
        (
            "a state that never was",
            told_but(5, |told| told.mark.version = 16),
        ),
        (
            "a state of another object",
            told_but(8, |told| told.mark.uid = "a3".to_owned()),
        ),
        (
            "a state that was not to be seen",
            told_but(11, |told| told.kind = updated("b1", 11)),
        ),
        (
            "deleted while it was there",
            told_but(5, |told| told.kind = DELETED),
        ),
        ("another content", told_but(5, |told| told.content.value = None)),
        (
            "told before the store has it",
            told_but(5, |told| told.stored = Some(mark("a1", 10))),
        ),
        (
            "told again of what is not known",
            told_but(9, |told| told.mark = mark("a1", 12)),
        ),
    ]
}

fn not_monotonic() -> Vec<Bad> {
    let put = |seen: &mut Seen, name, mark| drop(seen.view.insert(key(name), mark));
    vec![
        (
            "the store at an older version",
            seen_but(6, |seen| seen.version = 10),
        ),
        (
            "an older state of an object",
            seen_but(6, |seen| put(seen, "b", mark("b1", 9))),
        ),
        ("a ghost", seen_but(12, |seen| put(seen, "b", mark("b1", 11)))),
        ("no list after a list", seen_but(6, |seen| seen.synced = false)),
    ]
}

fn not_complete() -> Vec<Bad> {
    vec![
        ("a change that nobody told of", without(5)),
        ("a deletion that nobody told of", without(11)),
        ("another end than the server's", with(13, end("a", "a2", 15, "v"))),
        ("another content in the end", with(13, end("a", "a2", 14, "w"))),
    ]
}

fn not_atomic() -> Vec<Bad> {
    vec![
        ("half a list", with(1, What::FirstList(view(&[("a", "a1", 12)])))),
        (
            "half a replacement",
            seen_but(6, |seen| drop(seen.view.remove(&key("b")))),
        ),
        (
            "a state of another version",
            seen_but(6, |seen| seen.version = 13),
        ),
        (
            "an index that finds less",
            seen_but(6, |seen| drop(seen.indexed.remove(&key("a")))),
        ),
    ]
}

fn not_bounded() -> Vec<Bad> {
    let again = |kind, taking| {
        let mut again = told(kind, "a", "a2", 16);
        change_told(&mut again, |told| told.taking = taking);
        again
    };
    vec![
        (
            "more pending than there are objects",
            seen_but(10, |seen| seen.handlers[0].backlog = 3),
        ),
        ("two changes in one go", before(9, again(updated("a2", 14), 14))),
        ("a change and a deletion in one go", before(9, again(DELETED, 14))),
    ]
}

fn not_synced() -> Vec<Bad> {
    let mut unsynced = good();
    for what in &mut unsynced {
        if let What::Seen(seen) = what {
            seen.handlers[0].synced = false;
        }
    }
    let mut early = good();
    early.swap(1, 2);
    vec![
        ("told before there is a list", early),
        (
            "synced before it was told of everything",
            told_but(3, |told| told.synced = true),
        ),
        (
            "told of the list after it was synced",
            told_but(8, |told| told.kind = LISTED),
        ),
        ("synced before it was told, by its status", {
            let mut entries = good();
            entries.swap(3, 4);
            entries
        }),
        (
            "not synced any more",
            seen_but(12, |seen| seen.handlers[0].synced = false),
        ),
        ("never synced", unsynced),
    ]
}

#[test]
fn a_good_history_keeps_every_clause() {
    assert_eq!(check(&report(good())), Ok(()));
}

#[test]
fn each_validator_refuses_bad_histories_by_the_name_of_its_clause() {
    let cases = BTreeMap::from([
        ("Ordered", not_ordered()),
        ("Monotonic", not_monotonic()),
        ("Complete", not_complete()),
        ("Atomic", not_atomic()),
        ("Bounded", not_bounded()),
        ("Synced", not_synced()),
        (
            "Leaves",
            vec![("told after it has left", before(11, What::Left(0)))],
        ),
    ]);
    for (clause, validator) in CLAUSES {
        let bad = match cases.get(clause) {
            Some(bad) => bad
                .iter()
                .map(|(what, entries)| (*what, report(entries.clone())))
                .collect(),
            None => {
                let mut lost = report(good());
                lost.acknowledged.push((key("a"), mark("a1", 11)));
                vec![("a write that the watch does not tell of", lost)]
            }
        };
        for (what, report) in bad {
            let violation = validator(&report).err();
            assert_eq!(
                violation.map(|violation| violation.clause),
                Some(clause),
                "{what}"
            );
        }
    }
    let clauses = CLAUSES.map(|(clause, _)| clause);
    assert!(cases.keys().all(|clause| clauses.contains(clause)));
}

#[test]
fn a_violation_says_what_is_needed_to_see_it_again() {
    let bad = told_but(7, |told| told.mark = mark("a2", 13));
    let said = check(&report(bad)).expect_err("the end of an object that it was not");
    let parts = [
        "Ordered: handler 0 was told Deleted { observed: true } of a2@13: it knows Some",
        "seed 7, step 8 of 99, key one/a",
        "informer 0: tier a",
        "12: a1 Content",
        "step 3: Told",
        "TRIMTAB_ROBUSTNESS_SEED=7 TRIMTAB_ROBUSTNESS_STEPS=99",
    ];
    let missing: Vec<_> = parts.into_iter().filter(|part| !said.contains(part)).collect();
    assert!(missing.is_empty(), "{missing:?} in\n{said}");
}
