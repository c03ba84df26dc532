//! Expectations case by case, and the clauses of the module against random histories of requests, answers and sightings.

use proptest::prelude::*;

use super::*;

const KEY: &str = "web";
const SECOND: Duration = Duration::from_secs(1);

/// What a key waits for, as creations and deletions.
fn waits(expectations: &Expectations<&str>, now: Instant) -> Option<(usize, usize)> {
    let outstanding = expectations.outstanding(&KEY, now);
    outstanding.map(|outstanding| (outstanding.creations, outstanding.deletions))
}

fn none() -> [&'static str; 0] {
    []
}

#[test]
fn answers_and_observations_may_come_in_any_order() {
    let (expectations, now) = (Expectations::new(), Instant::now());
    expectations.expect_creations(KEY, 2, none(), now);
    expectations.creation_observed(&KEY, "a");
    assert_eq!(
        waits(&expectations, now),
        Some((1, 0)),
        "one of the two has come, whichever it is"
    );
    expectations.created(&KEY, "b");
    assert_eq!(waits(&expectations, now), Some((1, 0)), "b is waited for");
    expectations.created(&KEY, "a");
    assert_eq!(waits(&expectations, now), Some((1, 0)), "a has been seen before");
    expectations.creation_observed(&KEY, "b");
    assert_eq!(waits(&expectations, now), None);
}

#[test]
fn what_was_refused_is_not_waited_for() {
    let (expectations, now) = (Expectations::new(), Instant::now());
    expectations.expect_creations(KEY, 1, none(), now);
    expectations.expect_deletions(KEY, ["x", "y"], now);
    assert_eq!(
        waits(&expectations, now),
        Some((1, 2)),
        "one does not forget the other"
    );
    expectations.creation_failed(&KEY);
    expectations.deletion_failed(&KEY, "x");
    expectations.deletion_observed(&KEY, "x");
    assert_eq!(waits(&expectations, now), Some((0, 1)));
    expectations.deletion_observed(&KEY, "y");
    assert_eq!(waits(&expectations, now), None);
}

#[test]
fn another_ones_object_counts_only_for_a_lost_answer() {
    let (expectations, now) = (Expectations::new(), Instant::now());
    expectations.expect_creations(KEY, 1, none(), now);
    expectations.creation_observed(&KEY, "theirs");
    assert_eq!(
        waits(&expectations, now),
        None,
        "it may be the one whose answer is lost"
    );
    expectations.created(&KEY, "ours");
    assert_eq!(
        waits(&expectations, now),
        Some((1, 0)),
        "the answer says that it is not"
    );

    expectations.creation_observed(&KEY, "theirs too");
    expectations.expect_creations(KEY, 1, none(), now);
    assert_eq!(waits(&expectations, now), Some((2, 0)), "theirs are not saved up");
}

#[test]
fn time_begins_anew_with_each_expectation() {
    let (expectations, start) = (Expectations::expiring_after(10 * SECOND), Instant::now());
    expectations.expect_creations(KEY, 1, none(), start);
    let outstanding = expectations.outstanding(&KEY, start);
    assert_eq!(outstanding.map(|o| o.expires), Some(start + 10 * SECOND));
    expectations.expect_deletions(KEY, ["x"], start + 8 * SECOND);
    assert_eq!(waits(&expectations, start + 17 * SECOND), Some((1, 1)));

    expectations.expect_creations(KEY, 1, none(), start + 18 * SECOND);
    assert_eq!(
        waits(&expectations, start + 18 * SECOND),
        Some((1, 0)),
        "what had expired is forgotten"
    );
    assert_eq!(waits(&expectations, start + 28 * SECOND), None, "the time is up");
}

#[test]
fn nothing_is_kept_that_nobody_waits_for() {
    let (expectations, now) = (Expectations::new(), Instant::now());
    let kept = || expectations.keys.lock().len();
    expectations.creation_observed(&KEY, "a");
    expectations.created(&KEY, "a");
    expectations.expect_creations(KEY, 0, ["a"], now);
    expectations.expect_deletions(KEY, none(), now);
    assert_eq!(kept(), 0);

    expectations.expect_creations(KEY, 1, none(), now);
    expectations.expect_creations("other", 1, none(), now);
    assert_eq!(kept(), 2);
    expectations.created(&KEY, "a");
    expectations.creation_observed(&KEY, "a");
    expectations.forget(&"other");
    assert_eq!(kept(), 0);

    expectations.expect_creations(KEY, 1, none(), now);
    assert!(expectations.is_satisfied(&KEY, now + TIMEOUT));
    assert_eq!(kept(), 0);
}

#[test]
fn no_timeout_is_too_long() {
    let (expectations, now) = (Expectations::expiring_after(Duration::MAX), Instant::now());
    expectations.expect_creations(KEY, 1, none(), now);
    assert!(!expectations.is_satisfied(&KEY, now + TIMEOUT));
}

// === the clauses ===

/// What becomes of a creation.
#[derive(Clone, Debug)]
struct Creation {
    uid: String,
    /// Whether the server has said anything; a lost answer never comes.
    answered: bool,
    /// Whether the server has refused.
    failed: bool,
    observed: bool,
}

/// The key's objects as they really are, beside the expectations.
struct World {
    expectations: Expectations<&'static str>,
    start: Instant,
    now: Instant,
    last_expected: Instant,
    creations: Vec<Creation>,
    /// UIDs of deletions that were asked for and not seen.
    deletions: Vec<String>,
    /// UIDs that the cache has shown.
    shown: Vec<String>,
    made: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    Delete(Vec<proptest::sample::Index>),
    Answer(proptest::sample::Index),
    Refuse(proptest::sample::Index),
    Appear(proptest::sample::Index),
    AppearAgain(proptest::sample::Index),
    Go(proptest::sample::Index),
    GoAgain(proptest::sample::Index),
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let index = any::<proptest::sample::Index>;
    prop_oneof![
        2 => (0..4_usize).prop_map(Step::Create),
        1 => proptest::collection::vec(index(), 0..3).prop_map(Step::Delete),
        4 => index().prop_map(Step::Answer),
        1 => index().prop_map(Step::Refuse),
        4 => index().prop_map(Step::Appear),
        2 => index().prop_map(Step::AppearAgain),
        2 => index().prop_map(Step::Go),
        1 => index().prop_map(Step::GoAgain),
        2 => (0..200_u64).prop_map(Step::Pass),
    ]
}

impl World {
    fn new() -> Self {
        let start = Instant::now();
        Self {
            expectations: Expectations::new(),
            start,
            now: start,
            last_expected: start,
            creations: Vec::new(),
            deletions: Vec::new(),
            shown: vec!["old-1".to_owned(), "old-2".to_owned()],
            made: 0,
        }
    }

    fn step(&mut self, step: Step) {
        let pick =
            |list: Vec<usize>, index: proptest::sample::Index| (!list.is_empty()).then(|| *index.get(&list));
        let which = |world: &Self, fits: fn(&Creation) -> bool| {
            let creations = world.creations.iter().enumerate();
            creations
                .filter(|(_, c)| fits(c))
                .map(|(at, _)| at)
                .collect::<Vec<_>>()
        };
        match step {
            Step::Create(count) => {
                self.begin();
                self.expectations
                    .expect_creations(KEY, count, self.shown.clone(), self.now);
                for _ in 0..count {
                    self.made += 1;
                    self.creations.push(Creation {
                        uid: format!("new-{}", self.made),
                        answered: false,
                        failed: false,
                        observed: false,
                    });
                }
            }
            Step::Delete(indices) => {
                self.begin();
                let picked = indices
                    .iter()
                    .filter_map(|index| pick((0..self.shown.len()).collect(), *index));
                let uids: Vec<String> = picked.map(|at| self.shown[at].clone()).collect();
                self.expectations.expect_deletions(KEY, uids.clone(), self.now);
                self.deletions.extend(uids);
                self.deletions.sort();
                self.deletions.dedup();
            }
            Step::Answer(index) => {
                if let Some(at) = pick(which(self, |c| !c.answered), index) {
                    self.creations[at].answered = true;
                    for _ in 0..2 {
                        self.expectations.created(&KEY, &self.creations[at].uid);
                    }
                }
            }
            Step::Refuse(index) => {
                let open = which(self, |c| !c.answered && !c.observed);
                if let Some(at) = pick(open, index) {
                    (self.creations[at].answered, self.creations[at].failed) = (true, true);
                    self.expectations.creation_failed(&KEY);
                }
            }
            Step::Appear(index) => {
                if let Some(at) = pick(which(self, |c| !c.failed && !c.observed), index) {
                    self.creations[at].observed = true;
                    self.shown.push(self.creations[at].uid.clone());
                    self.expectations.creation_observed(&KEY, &self.creations[at].uid);
                }
            }
            Step::AppearAgain(index) => {
                if !self.shown.is_empty() {
                    let uid: &String = index.get(&self.shown);
                    self.expectations.creation_observed(&KEY, uid);
                }
            }
            Step::Go(index) => {
                if let Some(at) = pick((0..self.deletions.len()).collect(), index) {
                    let uid = self.deletions.remove(at);
                    self.shown.retain(|shown| *shown != uid);
                    self.expectations.deletion_observed(&KEY, &uid);
                }
            }
            Step::GoAgain(index) => {
                let uid = format!("new-{}", index.index(self.made + 1));
                if !self.deletions.contains(&uid) && !self.shown.contains(&uid) {
                    self.expectations.deletion_observed(&KEY, &uid);
                }
            }
            Step::Pass(seconds) => self.now += Duration::from_secs(seconds),
        }
    }

    /// What has expired is forgotten when something new is expected; answers to it do not come later.
    fn begin(&mut self) {
        if self.is_expired() {
            self.creations.clear();
            self.deletions.clear();
        }
        self.last_expected = self.now;
    }

    fn is_expired(&self) -> bool {
        self.now >= self.last_expected + TIMEOUT
    }

    /// Creations that are on their way to being observed, or whose answer was lost.
    fn really_outstanding(&self) -> (usize, usize) {
        let creations = self.creations.iter().filter(|c| !c.failed && !c.observed);
        (creations.count(), self.deletions.len())
    }

    /// *Outstanding*, *Once* and *Settled*: until time is up, the key waits for just as much as has not been observed;
    /// *Expiring*: then for nothing.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let found = waits(&self.expectations, self.now).unwrap_or((0, 0));
        let at = self.now - self.start;
        if self.is_expired() {
            prop_assert_eq!(found, (0, 0), "Expiring, at {:?}", at);
            self.creations.clear();
            self.deletions.clear();
        } else {
            let expected = self.really_outstanding();
            let clause = if found < expected {
                "Outstanding or Once"
            } else {
                "Settled"
            };
            prop_assert_eq!(found, expected, "{}, at {:?}", clause, at);
        }
        prop_assert_eq!(self.expectations.is_satisfied(&KEY, self.now), found == (0, 0));
        Ok(())
    }
}

proptest! {
    #[test]
    fn the_clauses_hold_in_all_histories(steps in proptest::collection::vec(any_step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.check()?;
        }
        let late = world.now + TIMEOUT;
        prop_assert!(world.expectations.is_satisfied(&KEY, late), "Expiring");
    }
}
