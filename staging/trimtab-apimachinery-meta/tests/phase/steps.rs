//! What a phase may become.

use trimtab_apimachinery_meta::phase::{IllegalTransition, Phase};

use crate::{Backup, Gate, Roll};

/// All phases of a kind and the absence of one, against the steps that are said to be legal; to stay always is.
fn check<P: Phase + Clone>(others: &[P], legal: &[(&str, &str)]) {
    let all: Vec<P> = P::ALL.iter().chain(others).cloned().collect();
    for to in &all {
        let begins = legal.contains(&("", to.as_str()));
        assert_eq!(P::legal(None, to).is_ok(), begins, "begins as {:?}", to.as_str());
        for from in &all {
            let step = (from.as_str(), to.as_str());
            let expected = step.0 == step.1 || legal.contains(&step);
            assert_eq!(P::legal(Some(from), to).is_ok(), expected, "{step:?}");

            let mut phase = Some(from.clone());
            let entered = to.clone().enter(&mut phase);
            let mut always = from.clone();
            let gone = always.go_to(to.clone());
            assert_eq!(entered, gone, "{step:?}");
            assert_eq!(entered.is_ok(), expected, "{step:?}");
            assert!(
                entered.is_err() || entered == Ok(step.0 != step.1),
                "{step:?} says whether it changes anything"
            );
            let now = if expected { step.1 } else { step.0 };
            assert_eq!(phase.as_ref().map(P::as_str), Some(now), "{step:?}");
            assert_eq!(always.as_str(), now, "{step:?}");
        }
    }
}

#[test]
fn only_declared_steps_are_legal() {
    check(
        &[
            Backup::Other("Paused".to_owned()),
            Backup::Other("Frozen".to_owned()),
        ],
        &[
            ("", "Pending"),
            ("Pending", "Running"),
            ("Pending", "Failed"),
            ("Running", "Succeeded"),
            ("Running", "Failed"),
        ],
    );
    let (shut, ajar) = ("it's shut", "a \"\\\" ajar");
    check::<Gate>(
        &[],
        &[
            ("", shut),
            ("", ajar),
            (shut, ajar),
            (shut, "Open"),
            (ajar, shut),
            ("Open", ajar),
        ],
    );
    check(
        &[Roll::Other("Sideways".to_owned())],
        &[
            ("", "Forward"),
            ("Forward", "Back"),
            ("Back", "Done"),
            ("Sideways", "Back"),
            ("Sideways", "Forward"),
        ],
    );
}

#[test]
fn an_empty_phase_is_none_yet() {
    let empty = Backup::Other(String::new());
    assert_eq!(Backup::legal(Some(&empty), &Backup::Pending), Ok(()));
    assert!(matches!(
        Backup::legal(Some(&empty), &Backup::Running),
        Err(IllegalTransition::NotInitial { .. })
    ));
    assert!(Backup::legal(None, &empty).is_err());
}

#[test]
fn an_unknown_variant_with_a_declared_name_is_the_declared_phase() {
    let disguised = Backup::Other("Running".to_owned());
    assert!(disguised.is_known());
    assert_eq!(Backup::legal(Some(&disguised), &Backup::Succeeded), Ok(()));
    assert!(Backup::legal(Some(&Backup::Succeeded), &disguised).is_err());
}

#[test]
fn refusals_say_what_would_be_legal() {
    let other = |text: &str| Backup::Other(text.to_owned());
    let mut cases = vec![
        (
            Backup::legal(None, &Backup::Running),
            "Backup cannot begin as Running: it begins as Pending",
        ),
        (
            Backup::legal(Some(&Backup::Running), &Backup::Pending),
            "Backup cannot go from Running to Pending: from Running it goes to Succeeded or Failed",
        ),
        (
            Backup::legal(Some(&Backup::Failed), &Backup::Running),
            "Backup cannot go from Failed to Running: Failed is terminal",
        ),
        (
            Backup::legal(Some(&Backup::Running), &other("Paused")),
            "Backup cannot become \"Paused\": it is not declared",
        ),
        (
            Backup::legal(Some(&other("Paused")), &Backup::Running),
            "Backup cannot go from \"Paused\" to Running: \"Paused\" is not declared, so it is another version's to leave",
        ),
    ];
    cases.push((
        Roll::legal(Some(&Roll::Other("Sideways".to_owned())), &Roll::Done),
        "Roll cannot go from \"Sideways\" to Done: \"Sideways\" is not declared, and from such it goes to Back or Forward",
    ));
    cases.push((
        Gate::legal(None, &Gate::Open),
        "Gate cannot begin as Open: it begins as it's shut or a \"\\\" ajar",
    ));
    for (found, expected) in cases {
        assert_eq!(found.map_err(|error| error.to_string()), Err(expected.to_owned()));
    }
}

#[test]
fn a_phase_knows_what_it_is() {
    assert_eq!(
        Backup::ALL,
        [
            Backup::Pending,
            Backup::Running,
            Backup::Succeeded,
            Backup::Failed
        ]
    );
    let (other, all) = (Backup::Other("Paused".to_owned()), Backup::ALL.iter());
    let holds = |f: fn(&Backup) -> bool| {
        all.clone()
            .chain([&other])
            .filter(|p| f(p))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(holds(Backup::is_initial), [Backup::Pending]);
    assert_eq!(holds(Backup::is_terminal), [Backup::Succeeded, Backup::Failed]);
    assert_eq!(holds(Backup::is_known), Backup::ALL);
    assert_eq!(Gate::default(), Gate::Shut, "other derives see a plain enum");
}
