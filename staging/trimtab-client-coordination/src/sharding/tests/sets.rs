//! Tables: hashes, sets of partitions, shares, and which members can work.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use crate::sharding::assign::share;
use crate::sharding::{Field, MemberConfig, PARTITIONS, Partitions, Timing, hash_of, hash_of_name};

#[test]
fn hashes_are_those_of_the_api_server() {
    // From the test vectors of FNV's authors.
    for (text, hash) in [
        ("", 0xcbf2_9ce4_8422_2325),
        ("a", 0xaf63_dc4c_8601_ec8c),
        ("foobar", 0x8594_4171_f739_67e8),
    ] {
        assert_eq!(hash_of(text), hash, "{text:?}");
    }
}

#[test]
fn names_that_are_counted_up_are_spread() {
    let names = || (0..1000).map(|at| format!("default/website-{at:04}"));
    let fall_into = |hash: fn(&str) -> u64| {
        let partitions = names().map(|name| Partitions::of(hash(&name)));
        partitions.collect::<Partitions>().len()
    };
    assert!(
        fall_into(hash_of) < PARTITIONS / 4,
        "which is why there is the other one"
    );
    assert!(fall_into(hash_of_name) > PARTITIONS * 9 / 10);
}

#[test]
fn selectors_have_as_few_ranges_as_can_be() {
    let range = |from: &str, to: &str| format!("shardRange(object.metadata.uid, '0x{from}', '0x{to}')");
    let cases = [
        (Partitions::NONE, None),
        (
            Partitions::ALL,
            Some(range("0000000000000000", "10000000000000000")),
        ),
        (
            Partitions::from_iter([0, 1, 2]),
            Some(range("0000000000000000", "0300000000000000")),
        ),
        (
            Partitions::from_iter([0x7f, 0x80, 0xff]),
            Some(format!(
                "{} || {}",
                range("7f00000000000000", "8100000000000000"),
                range("ff00000000000000", "10000000000000000")
            )),
        ),
    ];
    for (partitions, expected) in cases {
        assert_eq!(partitions.selector(Field::Uid), expected, "{partitions:?}");
        let by_namespace = expected.map(|selector| selector.replace("metadata.uid", "metadata.namespace"));
        assert_eq!(partitions.selector(Field::Namespace), by_namespace);
    }
    let longest: Partitions = (0..=u8::MAX).step_by(2).collect();
    let longest = longest.selector(Field::Namespace).expect("some");
    assert!(longest.len() <= 12 * 1024, "{}", longest.len());
}

#[test]
fn what_is_no_set_is_not_read_as_one() {
    for text in [
        "",
        "0",
        &"g".repeat(64),
        &"0".repeat(63),
        &"0".repeat(65),
        &"é".repeat(32),
    ] {
        assert_eq!(Partitions::from_hex(text), None, "{text:?}");
    }
    let some = Partitions::from_iter([0, 6, 255]);
    assert_eq!(some.to_hex(), format!("82{}1", "0".repeat(61)));
    let some = Partitions::from_iter([0, 6, 7, 8, 255]);
    assert_eq!(format!("{some:?}"), "{0 6-8 255}");
}

fn members(count: usize) -> BTreeSet<String> {
    (0..count).map(|at| format!("website-controller-{at}")).collect()
}

#[test]
fn from_one_to_ten_members_only_what_must_changes_hands() {
    let (mut moved, mut given) = (0, 0);
    for count in 1..10 {
        let (before, after) = (members(count), members(count + 1));
        let stays = |member: &String| (share(&before, member) & share(&after, member)).len();
        moved += PARTITIONS - before.iter().map(stays).sum::<usize>();
        let joining = after.difference(&before).next().expect("one more");
        given += share(&after, joining).len();
    }
    assert_eq!(moved, given, "nothing moves but to who joins");
    // Each is given about a fair share when it joins: 256/2 + 256/3 + … + 256/10.
    let fair: usize = (2..=10).map(|count| PARTITIONS / count).sum();
    assert!(given.abs_diff(fair) < fair / 5, "{given} of {fair}");
}

#[test]
fn shares_are_about_equal() {
    for count in [2, 3, 5, 10] {
        let members = members(count);
        let shares: Vec<usize> = members
            .iter()
            .map(|member| share(&members, member).len())
            .collect();
        let fair = PARTITIONS / count;
        assert!(
            shares.iter().all(|share| (fair / 2..=fair * 2).contains(share)),
            "{shares:?}"
        );
    }
    assert_eq!(share(&BTreeSet::new(), "nobody"), Partitions::NONE);
}

#[test]
fn only_what_can_work_is_taken() {
    let good = MemberConfig::new("website-controller");
    let with = |group: &str, identity: &str| MemberConfig {
        identity: identity.to_owned(),
        ..MemberConfig::new(group)
    };
    let long = "a".repeat(64);
    let cases = [
        (good.clone(), ""),
        (with("group", "pod-0.example"), ""),
        (with("", "a"), "group is \"\", which as a label must not be empty"),
        (with(&long, "a"), "which as a label must be no more than 63"),
        (with("a b", "a"), "which as a label a valid label must"),
        (with("Group", "a"), "lease is \"Group-a\", which a lowercase"),
        (with("group", ""), "lease is \"group-\", which a lowercase"),
        (
            with("group", "host_1"),
            "lease is \"group-host_1\", which a lowercase",
        ),
        (
            MemberConfig {
                namespace: Some("a.b".to_owned()),
                ..good.clone()
            },
            "leases is \"a.b\", which must not contain dots",
        ),
        (
            MemberConfig {
                timing: Timing {
                    retry_period: Duration::ZERO,
                    ..Timing::default()
                },
                ..good.clone()
            },
            "timing of the membership cannot work",
        ),
    ];
    for (config, expected) in cases {
        let told = config.validate().err().map(|error| error.to_string());
        let told = told.unwrap_or_default();
        let as_expected = told.contains(expected) && told.is_empty() == expected.is_empty();
        assert!(as_expected, "{config:?}: {told:?}, not {expected:?}");
    }
    assert_ne!(good.identity, MemberConfig::new("website-controller").identity);
}

/// The partitions that a selector selects.
fn selected(selector: &str) -> Vec<u8> {
    let edge = |text: &str| {
        let digits = text.split('\'').next().unwrap_or_default();
        u128::from_str_radix(digits, 16).expect("an edge") >> 56
    };
    let ranges = selector.split(" || ").filter(|range| !range.is_empty());
    let partitions = ranges.flat_map(|range| {
        let edges: Vec<u128> = range.split("'0x").skip(1).map(edge).collect();
        (edges[0]..edges[1]).map(|partition| u8::try_from(partition).expect("a partition"))
    });
    partitions.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sets_do_what_sets_do(
        one in prop::collection::btree_set(any::<u8>(), 0..256),
        other in prop::collection::btree_set(any::<u8>(), 0..64),
    ) {
        let [a, b]: [Partitions; 2] = [&one, &other].map(|set| set.iter().copied().collect());
        let same = |set: Partitions, expected: BTreeSet<u8>| set.iter().collect::<BTreeSet<u8>>() == expected;
        prop_assert!(same(a | b, &one | &other) && same(a & b, &one & &other) && same(a - b, &one - &other));
        prop_assert_eq!((a.len(), a.is_empty()), (one.len(), one.is_empty()));
        prop_assert_eq!(Partitions::from_hex(&a.to_hex()), Some(a));
        for partition in 0..=u8::MAX {
            let first = u64::from(partition) << 56;
            let last = first | u64::MAX >> 8;
            prop_assert_eq!([a.contains_hash(first), a.contains_hash(last)], [one.contains(&partition); 2]);
        }
        let selector = a.selector(Field::Uid).unwrap_or_default();
        prop_assert_eq!(selected(&selector), a.iter().collect::<Vec<u8>>());
    }
}
