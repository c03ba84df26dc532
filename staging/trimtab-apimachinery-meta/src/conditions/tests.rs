//! Conditions one by one, and the clauses of the module against random histories.

use proptest::prelude::*;
use regex::Regex;

use super::*;
use crate::field::FieldPath;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

fn condition(type_: &str, status: &str, second: i64) -> Condition {
    new(type_, status, "Reason", "", at(second))
}

fn observed(type_: &str, status: &str, generation: i64) -> Condition {
    Condition {
        observed_generation: Some(generation),
        ..condition(type_, status, 1)
    }
}

fn types(conditions: &[Condition]) -> Vec<&str> {
    conditions.iter().map(|c| c.type_.as_str()).collect()
}

#[test]
fn only_a_new_status_moves_the_transition_time() {
    let mut list = Vec::new();
    assert!(
        set(&mut list, new("Ready", FALSE, "Starting", "", at(1))),
        "absent: appended"
    );
    assert!(
        !set(&mut list, new("Ready", FALSE, "Starting", "", at(2))),
        "the same: no change"
    );
    assert_eq!(list[0].last_transition_time, Time(at(1)));

    assert!(
        set(&mut list, new("Ready", FALSE, "Waiting", "for a disk", at(3))),
        "reason and message"
    );
    assert_eq!(
        (list[0].reason.as_str(), list[0].last_transition_time.0),
        ("Waiting", at(1))
    );

    let seen = Condition {
        observed_generation: Some(2),
        ..list[0].clone()
    };
    assert!(set(&mut list, seen), "observed generation");
    assert_eq!(list[0].last_transition_time.0, at(1));

    assert!(set(&mut list, new("Ready", TRUE, "Done", "", at(4))), "status");
    assert_eq!(list[0].last_transition_time.0, at(4));
    assert_eq!(
        list[0].observed_generation, None,
        "all fields are those of the new condition"
    );
    assert_eq!(list.len(), 1);
}

#[test]
fn conditions_are_found_by_type() {
    let mut list = vec![condition("A", TRUE, 1), condition("B", UNKNOWN, 1)];
    assert!(is_true(&list, "A") && !is_false(&list, "A"));
    assert!(!is_true(&list, "B") && !is_false(&list, "B") && is_present_and_equal(&list, "B", UNKNOWN));
    assert!(!is_true(&list, "C") && find(&list, "C").is_none());
    assert!(remove(&mut list, "A") && !remove(&mut list, "A"));
}

#[test]
fn of_several_with_one_type_the_last_counts_and_the_others_leave_no_trace() {
    let mut list = vec![condition("A", TRUE, 1)];
    let flutter = [
        condition("A", FALSE, 2),
        condition("B", FALSE, 2),
        condition("A", TRUE, 3),
    ];
    assert!(set_all(&mut list, flutter.clone()), "B is new");
    assert_eq!(
        list,
        [condition("A", TRUE, 1), condition("B", FALSE, 2)],
        "A was True all the time"
    );
    assert!(!set_all(&mut list, flutter), "nothing is new");
}

#[test]
fn a_condition_is_current_if_it_is_about_this_generation() {
    let cases = [
        (None, None, true),
        (None, Some(3), true),
        (Some(3), None, true),
        (Some(3), Some(3), true),
        (Some(2), Some(3), false),
        (Some(4), Some(3), false),
    ];
    for (seen, generation, current) in cases {
        let condition = Condition {
            observed_generation: seen,
            ..condition("A", TRUE, 1)
        };
        assert_eq!(
            is_current(&condition, generation),
            current,
            "{seen:?} {generation:?}"
        );
    }
}

#[test]
fn foreign_conditions_are_not_merged() {
    let before = vec![condition("Theirs", TRUE, 1), condition("A", TRUE, 1)];
    let mut list = before.clone();
    let error = merge(
        &mut list,
        &["A", "B"],
        [condition("B", TRUE, 2), condition("Theirs", FALSE, 2)],
    );
    assert_eq!(
        error.map_err(|error| error.to_string()),
        Err("condition \"Theirs\" is not among one's own: A, B".to_owned())
    );
    assert_eq!(list, before);
}

// === summaries ===

#[test]
fn a_summary_is_as_good_as_its_worst_part() {
    let summary = Summary::of(["Synced", "Available"]).unless(["Degraded"]);
    let said =
        |type_: &str, status: &str, reason: &str, message: &str| new(type_, status, reason, message, at(1));
    let synced = said("Synced", TRUE, "Applied", "");
    let available = said("Available", TRUE, "Ready", "");
    let cases = [
        (
            vec![],
            (
                UNKNOWN,
                "Missing",
                "Synced: not reported yet; Available: not reported yet",
            ),
        ),
        (vec![synced.clone(), available.clone()], (TRUE, "AsExpected", "")),
        (
            vec![said("Available", FALSE, "NoServers", "0 of 2"), synced.clone()],
            (FALSE, "NoServers", "Available: 0 of 2"),
        ),
        (
            vec![said("Available", FALSE, "NoServers", "0 of 2")],
            (FALSE, "NoServers", "Available: 0 of 2"),
        ),
        (
            vec![
                said("Degraded", TRUE, "Slow", "a disk"),
                said("Synced", FALSE, "Refused", ""),
                available.clone(),
            ],
            (FALSE, "Refused", "Synced: Refused; Degraded: a disk"),
        ),
        (
            vec![
                said("Degraded", UNKNOWN, "", ""),
                synced.clone(),
                available.clone(),
            ],
            (UNKNOWN, "Unknown", "Degraded: Unknown"),
        ),
        (
            vec![said("Synced", "Perhaps", "Odd", ""), available.clone()],
            (UNKNOWN, "Odd", "Synced: Odd"),
        ),
        (
            vec![
                synced.clone(),
                available.clone(),
                said("Degraded", FALSE, "Fine", ""),
                said("Else", FALSE, "No", ""),
            ],
            (TRUE, "AsExpected", ""),
        ),
    ];
    for (parts, expected) in cases {
        let made = summary.condition("Ready", &parts, None, at(9));
        assert_eq!(
            (&*made.status, &*made.reason, &*made.message),
            expected,
            "{parts:?}"
        );
        assert_eq!((&*made.type_, made.last_transition_time.0), ("Ready", at(9)));
    }
}

#[test]
fn a_summary_does_not_trust_what_was_said_of_an_earlier_generation() {
    let summary = Summary::of(["A"]);
    let made = |parts: &[Condition]| summary.condition("Ready", parts, Some(2), at(1));
    let stale = made(&[observed("A", FALSE, 1)]);
    assert_eq!(
        (&*stale.status, &*stale.reason, &*stale.message),
        (UNKNOWN, "Stale", "A: not looked at since the last change")
    );
    let current = made(&[observed("A", TRUE, 2)]);
    assert_eq!((&*current.status, current.observed_generation), (TRUE, Some(2)));
}

#[test]
fn a_summary_is_not_made_of_itself() {
    let list = [condition("Ready", FALSE, 1), condition("A", TRUE, 1)];
    let made = Summary::of(["Ready", "A"]).condition("Ready", &list, None, at(2));
    assert_eq!(made.status, TRUE, "or it would stay False for ever");
}

#[test]
fn a_summary_is_a_valid_condition_however_much_its_parts_say() {
    let long = "ä".repeat(MESSAGE_MAX / 2);
    let list = [
        new("A", FALSE, "R", &*long, at(1)),
        new("B", FALSE, "R", &*long, at(1)),
    ];
    let made = Summary::of(["A", "B"]).condition("Ready", &list, None, at(1));
    assert_eq!(validate(std::slice::from_ref(&made), &FieldPath::root()), []);
    assert!(made.message.ends_with('…'), "it says that it was cut");
}

// === validation ===

#[test]
fn what_an_api_server_refuses_is_said_in_its_words() {
    let path = FieldPath::new("status.conditions");
    let good = condition("example.com/Ready", TRUE, 1);
    let bad = Condition {
        observed_generation: Some(-1),
        ..new(
            "",
            "Maybe",
            "not a word",
            "",
            Timestamp::constant(-62_135_596_800, 0),
        )
    };
    let long = new(
        "Ready",
        TRUE,
        &"a".repeat(REASON_MAX + 1),
        "a".repeat(MESSAGE_MAX + 1),
        at(1),
    );
    let list = [good.clone(), bad, good, long, condition("Ready", TRUE, 1)];
    let mut list = list.to_vec();
    list[4].reason.clear();
    let found: Vec<String> = validate(&list, &path)
        .iter()
        .map(|e| {
            e.to_string()
                .split(" (e.g.")
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(
        found,
        [
            "status.conditions[1].type: Invalid value: \"\": name part must be non-empty",
            "status.conditions[1].type: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or \
             '.', and must start and end with an alphanumeric character",
            "status.conditions[1].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
            "status.conditions[1].observedGeneration: Invalid value: -1: must be greater than or equal to zero",
            "status.conditions[1].lastTransitionTime: Required value: must be set",
            "status.conditions[1].reason: Invalid value: \"not a word\": a condition reason must start with alphabetic \
             character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an \
             alphanumeric character or '_'",
            "status.conditions[2].type: Duplicate value: \"example.com/Ready\"",
            "status.conditions[3].reason: Too long: may not be more than 1024 bytes",
            "status.conditions[3].message: Too long: may not be more than 32768 bytes",
            "status.conditions[4].type: Duplicate value: \"Ready\"",
            "status.conditions[4].reason: Required value: must be set",
        ]
    );
}

// === the clauses ===

/// *One of a type*: the list has no type twice.
fn one_of_a_type(after: &[Condition]) -> Result<(), TestCaseError> {
    let mut seen = types(after);
    seen.sort_unstable();
    seen.dedup();
    prop_assert_eq!(seen.len(), after.len(), "One of a type: {:?}", types(after));
    Ok(())
}

/// *Order kept*: what stayed is in the order in which it was, and what is new comes after it.
fn order_kept(before: &[Condition], after: &[Condition]) -> Result<(), TestCaseError> {
    let stayed: Vec<&str> = types(before)
        .into_iter()
        .filter(|t| find(after, t).is_some())
        .collect();
    prop_assert_eq!(&types(after)[..stayed.len()], &stayed[..], "Order kept");
    Ok(())
}

/// *Transition*: the time of a condition that stayed changes if and only if its status does, and then to `now`.
fn transition(before: &[Condition], after: &[Condition], now: Timestamp) -> Result<(), TestCaseError> {
    for condition in after {
        let old = find(before, &condition.type_).filter(|old| old.status == condition.status);
        let expected = old.map_or(now, |old| old.last_transition_time.0);
        let untouched = find(before, &condition.type_) == Some(condition);
        prop_assert!(
            untouched || condition.last_transition_time.0 == expected,
            "Transition: {} at {}",
            condition.type_,
            now
        );
    }
    Ok(())
}

/// *Foreign untouched*: conditions of other types are what and where they were, among themselves.
fn foreign_untouched(before: &[Condition], after: &[Condition], own: &[&str]) -> Result<(), TestCaseError> {
    let foreign = |list: &[Condition]| {
        let foreign = list.iter().filter(|c| !own.contains(&c.type_.as_str()));
        foreign.cloned().collect::<Vec<_>>()
    };
    prop_assert_eq!(foreign(before), foreign(after), "Foreign untouched");
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    Set(Condition),
    SetAll(Vec<Condition>),
    Merge(Vec<Condition>),
    Remove(String),
}

const OWN: [&str; 3] = ["A", "B", "C"];

fn any_condition(types: &'static str) -> impl Strategy<Value = Condition> {
    let statuses = prop_oneof![Just(TRUE), Just(FALSE), Just(UNKNOWN)];
    (types, statuses, "[RS]", "[mn]", proptest::option::of(1..3_i64)).prop_map(
        |(type_, status, reason, message, seen)| Condition {
            observed_generation: seen,
            ..new(&type_, status, &reason, message, at(0))
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let several = |types| proptest::collection::vec(any_condition(types), 0..5);
    prop_oneof![
        any_condition("[A-F]").prop_map(Step::Set),
        several("[A-F]").prop_map(Step::SetAll),
        several("[A-C]").prop_map(Step::Merge),
        "[A-F]".prop_map(Step::Remove),
    ]
}

fn timed(conditions: Vec<Condition>, now: Timestamp) -> Vec<Condition> {
    let conditions = conditions.into_iter();
    conditions
        .map(|condition| Condition {
            last_transition_time: Time(now),
            ..condition
        })
        .collect()
}

proptest! {
    #[test]
    fn the_clauses_hold_in_all_histories(steps in proptest::collection::vec(any_step(), 1..20)) {
        let mut list: Vec<Condition> = Vec::new();
        for (second, step) in (1..).zip(steps) {
            let (before, now) = (list.clone(), at(second));
            let changed = match step {
                Step::Set(condition) => {
                    let condition = timed(vec![condition], now).remove(0);
                    let changed = set(&mut list, condition.clone());
                    prop_assert!(is_present_and_equal(&list, &condition.type_, &condition.status));
                    changed
                }
                Step::SetAll(conditions) => set_all(&mut list, timed(conditions, now)),
                Step::Merge(wished) => {
                    let wished = timed(wished, now);
                    let changed = merge(&mut list, &OWN, wished.clone()).expect("all are one's own");
                    foreign_untouched(&before, &list, &OWN)?;
                    for type_ in OWN {
                        let last = wished.iter().rfind(|c| c.type_ == type_);
                        let same = find(&list, type_).map(|c| (&c.status, &c.reason, &c.message, c.observed_generation));
                        let expected = last.map(|c| (&c.status, &c.reason, &c.message, c.observed_generation));
                        prop_assert_eq!(same, expected, "own conditions are what is wished");
                    }
                    changed
                }
                Step::Remove(type_) => remove(&mut list, &type_),
            };
            prop_assert_eq!(changed, list != before, "it says whether anything changed");
            one_of_a_type(&list)?;
            order_kept(&before, &list)?;
            transition(&before, &list, now)?;
        }
    }

    /// The summary's status is the worst of the parts' in this order, whatever the order of the list.
    #[test]
    fn the_worst_part_decides(list in proptest::collection::vec(any_condition("[A-F]"), 0..6), generation in 1..3_i64) {
        let mut parts = Vec::new();
        set_all(&mut parts, list);
        let rank = |type_: &str, good: &str, bad: &str| match find(&parts, type_) {
            None if good == TRUE => 1,
            None => 0,
            Some(c) if c.observed_generation.is_some_and(|seen| seen != generation) => 1,
            Some(c) if c.status == bad => 2,
            Some(c) if c.status == good => 0,
            Some(_) => 1,
        };
        let ranks = [rank("A", TRUE, FALSE), rank("B", TRUE, FALSE), rank("C", FALSE, TRUE)];
        let expected = [TRUE, UNKNOWN, FALSE][ranks.into_iter().max().unwrap_or(0)];
        let summary = Summary::of(["A", "B"]).unless(["C"]);
        let made = summary.condition("Ready", &parts, Some(generation), at(1));
        prop_assert_eq!(&made.status, expected);
        prop_assert_eq!(validate(std::slice::from_ref(&made), &FieldPath::root()), []);
        parts.reverse();
        prop_assert_eq!(summary.condition("Ready", &parts, Some(generation), at(1)), made);
    }

    /// The patterns are those that Go's type declares for custom resources.
    #[test]
    fn types_and_reasons_are_judged_as_by_the_patterns(
        type_ in "[a-zA-Z0-9./_-]{0,6}", reason in "[a-zA-Z0-9:,_ -]{0,4}"
    ) {
        let pattern = |text: &str| Regex::new(text).expect("it is one");
        let types = pattern(
            "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
        );
        let reasons = pattern("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$");
        let valid = types.is_match(&type_) && reasons.is_match(&reason);
        let found = validate(&[new(&type_, TRUE, &reason, "", at(1))], &FieldPath::root());
        prop_assert_eq!(found.is_empty(), valid, "{} {}: {:?}", type_, reason, found);
    }
}
