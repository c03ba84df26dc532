//! What is to be done next, by a table.

use jiff::{SignedDuration, Timestamp};

use super::super::ProvisionError;
use super::super::rotation::{Certificate, Facts, Life, Lifetimes, Step};

const NOW: Timestamp = Timestamp::constant(2_000_000_000, 0);

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// Of so many days, so many of which are left.
fn life(of: i64, left: i64) -> Life {
    Life {
        from: NOW - days(of - left) - SignedDuration::from_hours(1),
        until: NOW + days(left),
    }
}

fn facts(authorities: &[Life], certificate: Life, issuer: Option<usize>) -> Facts {
    Facts {
        authorities: authorities.to_vec(),
        certificate: Certificate {
            life: certificate,
            names: ["a", "b"].map(str::to_owned).into(),
            issuer,
        },
    }
}

#[test]
fn each_state_has_its_next_step() {
    let (young, old, over) = (life(365, 300), life(365, 100), life(365, 0));
    let fresh = life(90, 80);
    let cases = [
        ("nothing", facts(&[], fresh, None), true, Some(Step::Begin)),
        ("all is well", facts(&[young], fresh, Some(0)), true, None),
        (
            "the authority is over",
            facts(&[over], fresh, Some(0)),
            true,
            Some(Step::Begin),
        ),
        (
            "more than a third of the certificate is left",
            facts(&[young], life(90, 31), Some(0)),
            true,
            None,
        ),
        (
            "less than a third of it",
            facts(&[young], life(90, 29), Some(0)),
            true,
            Some(Step::Issue),
        ),
        (
            "it need not be trusted anew",
            facts(&[young], life(90, 29), Some(0)),
            false,
            Some(Step::Issue),
        ),
        (
            "it is over",
            facts(&[young], life(90, 0), Some(0)),
            false,
            Some(Step::Issue),
        ),
        (
            "it is not yet valid",
            facts(&[young], life(90, 95), Some(0)),
            true,
            Some(Step::Issue),
        ),
        (
            "nobody's certificate",
            facts(&[young], fresh, None),
            false,
            Some(Step::Issue),
        ),
        (
            "less than a third of the authority is left",
            facts(&[old], fresh, Some(0)),
            true,
            Some(Step::AddAuthority),
        ),
        (
            "certificate first, when it needs one as well",
            facts(&[old], life(90, 29), Some(0)),
            true,
            Some(Step::Issue),
        ),
        (
            "unless that prolongs nothing",
            facts(&[life(365, 29)], life(90, 29), Some(0)),
            true,
            Some(Step::AddAuthority),
        ),
        (
            "certificate first, when it is of no use",
            facts(&[old], life(90, -1), Some(0)),
            true,
            Some(Step::Issue),
        ),
        (
            "the overlap has begun",
            facts(&[life(365, 365), old], life(90, 20), Some(1)),
            true,
            None,
        ),
        (
            "the overlap is over",
            facts(&[life(365, 364), old], fresh, Some(1)),
            true,
            Some(Step::Issue),
        ),
        (
            "but the authority is not known yet",
            facts(&[life(365, 364), old], fresh, Some(1)),
            false,
            None,
        ),
        (
            "the certificate is over in the overlap",
            facts(&[life(365, 365), old], life(90, 0), Some(1)),
            false,
            Some(Step::Issue),
        ),
        (
            "the old authority is over",
            facts(&[young, over], fresh, Some(0)),
            true,
            Some(Step::Forget),
        ),
        (
            "the old authority is over, and its certificate with it",
            facts(&[young, over], fresh, Some(1)),
            true,
            Some(Step::Issue),
        ),
    ];
    let names = ["b", "a"].map(str::to_owned);
    for (what, facts, trusted, step) in cases {
        assert_eq!(
            facts.next(&names, &Lifetimes::default(), NOW, trusted),
            step,
            "{what}"
        );
    }
    // Minutes count as days do, though certificates are dated back by an hour.
    let minutes = |of: i64, left: i64| Life {
        from: NOW - SignedDuration::from_mins(of - left) - SignedDuration::from_hours(1),
        until: NOW + SignedDuration::from_mins(left),
    };
    for (left, step) in [(15, None), (6, None), (4, Some(Step::Issue))] {
        let facts = facts(&[minutes(60, 50)], minutes(15, left), Some(0));
        let lifetimes = Lifetimes::default();
        assert_eq!(
            facts.next(&names, &lifetimes, NOW, true),
            step,
            "{left} minutes left"
        );
    }
    let more = ["a", "c"].map(str::to_owned);
    let step = facts(&[young], fresh, Some(0)).next(&more, &Lifetimes::default(), NOW, false);
    assert_eq!(step, Some(Step::Issue), "a name is missing");
}

#[test]
fn lifetimes_leave_no_gap() {
    let lifetimes = |authority, serving, overlap| Lifetimes {
        authority: days(authority),
        serving: days(serving),
        overlap: days(overlap),
    };
    assert!(Lifetimes::default().check().is_ok());
    for (authority, serving, overlap, fine) in [
        (12, 3, 1, true),
        (11, 3, 1, false),
        (30, 3, 2, false),
        (12, 0, 0, false),
        (12, 3, -1, false),
        (3, 1, 0, true),
    ] {
        let checked = lifetimes(authority, serving, overlap).check();
        assert_eq!(checked.is_ok(), fine, "{authority} {serving} {overlap}");
        if let Err(error) = checked {
            assert!(matches!(error, ProvisionError::Lifetimes { .. }));
        }
    }
}
