//! Controllers with the known kinds of bugs: each is found, and its twin, which does it right, passes.
//!
//! `several.rs` has one that takes two things to go wrong. `bugs.rs` has the controllers, each with the bug and without; `mini.rs` what they are made of.

mod bugs;
mod mini;
mod several;

use bugs::{BUGS, Bug};

fn found(name: &str) {
    let bug = bug(name);
    let failure = (bug.test)(true)
        .find()
        .unwrap_or_else(|| panic!("{name}: it is not found"));
    let troubles = failure.plan.split('@').next().unwrap_or_default();
    assert!(
        failure.wrong.iter().any(|wrong| wrong.starts_with(bug.clause)),
        "{name}: it is found as what it is, by {troubles}: {failure}"
    );
    assert!(
        failure.story.contains(&format!(".replay(\"{}\")", failure.plan)),
        "{failure}"
    );
    let again = std::panic::catch_unwind(|| (bug.test)(true).replay(&failure.plan));
    assert!(again.is_err(), "{name}: it is seen again by {}", failure.plan);
}

fn passes(name: &str) {
    (bug(name).test)(false).plans(34).check(); // two of each kind
}

fn bug(name: &str) -> &'static Bug {
    BUGS.iter()
        .find(|bug| bug.name == name)
        .expect("a bug of the table")
}

macro_rules! bugs {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[test]
            fn is_found() {
                super::found(stringify!($name));
            }

            #[test]
            fn done_right_passes() {
                super::passes(stringify!($name));
            }
        })*

        #[test]
        fn all_bugs_are_tested() {
            let names: Vec<&str> = BUGS.iter().map(|bug| bug.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

bugs!(
    leaks_what_it_made_before_a_crash,
    makes_it_again_when_the_answer_is_lost,
    stops_at_what_exists_already,
    does_the_second_step_only_after_the_first,
    lets_go_before_it_has_cleaned_up,
    relies_on_a_delete_event,
    counts_by_events,
    acts_on_differences,
    deletes_what_its_cache_does_not_know,
    overwrites_with_old_data,
    retries_a_conflict_with_old_data_at_once,
    forgets_what_failed,
    does_not_list_anew,
    gives_a_number_twice,
    fights_over_a_field,
);
