//! The engine on a simulated cluster: crashes before and after each effect, failures of each step.

use std::collections::BTreeSet;

use super::*;
use crate::error::Error;
use crate::journal::Record;
use crate::plan::{Names, Scheme, Stage, Strategy, steps};

/// What a simulated member is like.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    stage: Option<Stage>,
    names: Names,
    restored: bool,
}

/// A cluster, what is on the disk of it, and when the process dies or a step fails.
#[derive(Debug)]
struct Simulation {
    members: Vec<Member>,
    saved: bool,
    kept: Journal,
    /// Effects and writes of the journal until the process dies.
    left: Option<usize>,
    /// The step that fails, each time that it goes forward.
    fails: Option<usize>,
    back: bool,
    /// What was opened to clients, in order.
    served: Vec<Stage>,
}

const DEATH: &str = "the process dies";

impl Simulation {
    fn new(strategy: Strategy, to: Scheme, count: usize) -> Self {
        let record = |n: usize| Record {
            name: format!("m{n}"),
            environment: String::new(),
            peer_urls: vec![to.other().apply("x://127.0.0.1:1")],
            restored: "new".into(),
            fence: 1,
            stage: Some(Stage::Before),
        };
        let order: Vec<usize> = (0..count).collect();
        let members = (0..count).map(record).collect();
        let mut kept = Journal::new("x".to_owned(), to, strategy, members);
        kept.steps = steps(strategy, to, &order);
        let member = Member {
            stage: Some(Stage::Before),
            names: Names::Old,
            restored: false,
        };
        Self {
            members: vec![member; count],
            saved: false,
            kept,
            left: None,
            fails: None,
            back: false,
            served: Vec::new(),
        }
    }

    /// One thing that a death may come before.
    fn effect(&mut self) -> Result<()> {
        match &mut self.left {
            Some(0) => Err(Error::Usage(DEATH.to_owned())),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// How peers listen in a stage, and whether they have certificates to call with.
    fn listens(&self, stage: Stage) -> (Scheme, bool) {
        let to = self.kept.to;
        match stage {
            Stage::Before | Stage::FencedBefore => (to.other(), to == Scheme::Http),
            Stage::Both => (Scheme::Http, true),
            Stage::After | Stage::FencedAfter => (to, to == Scheme::Https),
        }
    }

    /// Whether a member can be called by another as the list of members says.
    fn reachable(&self, by: &Member, whom: &Member) -> bool {
        let (Some(mine), Some(theirs)) = (by.stage, whom.stage) else {
            return false;
        };
        let (scheme, _) = self.listens(theirs);
        let to = self.kept.to;
        // What was restored has its own list.
        let listed = match (theirs, whom.names) {
            (Stage::FencedAfter, _) => scheme == to,
            (Stage::After, _) if self.kept.strategy == Strategy::Snapshot => scheme == to,
            (_, Names::Old) => scheme == to.other(),
            (_, Names::Both) => true,
            (_, Names::New) => scheme == to,
        };
        listed && (scheme == Scheme::Http || self.listens(mine).1)
    }

    /// All that run must find each other, and all must run.
    fn check_well(&self) {
        for (n, by) in self.members.iter().enumerate() {
            for (m, whom) in self.members.iter().enumerate() {
                assert!(
                    n == m || self.reachable(by, whom),
                    "m{n} does not find m{m}: {:?}",
                    self.members
                );
            }
        }
    }

    /// Without one of the members, the others must find each other: a quorum.
    fn check_quorum(&self, without: usize) {
        for (n, by) in self.members.iter().enumerate() {
            for (m, whom) in self.members.iter().enumerate() {
                let counts = n != m && n != without && m != without;
                assert!(
                    !counts || self.reachable(by, whom),
                    "m{n} does not find m{m} without m{without}"
                );
            }
        }
    }

    async fn run(&mut self) -> Result<Ended> {
        let mut journal = self.kept.clone();
        drive(&mut journal, self, false).await
    }
}

impl Hands for Simulation {
    async fn perform(&mut self, step: Step, journal: &mut Journal) -> Result<()> {
        let fails = !self.back && self.fails == Some(journal.done);
        self.effect()?;
        match step {
            Step::Certificates => {}
            Step::Restart { member, to, .. } => {
                self.members[member].stage = None;
                self.effect()?;
                if self.kept.strategy == Strategy::Rolling {
                    self.check_quorum(member);
                }
                self.members[member].stage = Some(to);
                if matches!(to, Stage::Before | Stage::After) {
                    self.served.push(to);
                }
                journal.members[member].stage = Some(to);
                if !fails {
                    self.check_well();
                }
            }
            Step::Advertise { member, to, .. } => {
                self.members[member].names = to;
                self.check_well();
            }
            Step::Save => self.saved = true,
            Step::Restore { member } => {
                assert!(self.saved);
                self.members[member].restored = true;
            }
            Step::Stop { member, .. } => {
                self.members[member].stage = None;
                journal.members[member].stage = None;
            }
            Step::Start { member, stage } => {
                assert!(stage != Stage::FencedAfter || self.members[member].restored);
                self.members[member].stage = Some(stage);
                journal.members[member].stage = Some(stage);
            }
            Step::Verify => self.check_well(),
        }
        self.effect()?;
        if fails {
            return Err(Error::Usage("it fails".to_owned()));
        }
        Ok(())
    }

    fn keep(&mut self, journal: &Journal) -> Result<()> {
        self.effect()?;
        self.kept = journal.clone();
        self.effect()
    }

    fn tell(&mut self, _: &Journal, _: usize, _: Step, back: bool) {
        self.back = back;
    }
}

fn worlds() -> impl Iterator<Item = (Strategy, Scheme, usize)> {
    let strategies = [Strategy::Rolling, Strategy::Snapshot];
    strategies.into_iter().flat_map(|strategy| {
        [Scheme::Http, Scheme::Https]
            .into_iter()
            .flat_map(move |to| [1, 3].into_iter().map(move |count| (strategy, to, count)))
    })
}

fn check_changed(world: &Simulation) {
    for member in &world.members {
        assert_eq!(member.stage, Some(Stage::After));
        assert!(world.kept.strategy == Strategy::Snapshot || member.names == Names::New);
    }
    world.check_well();
}

fn check_as_before(world: &Simulation) {
    for member in &world.members {
        assert_eq!((member.stage, member.names), (Some(Stage::Before), Names::Old));
    }
    world.check_well();
}

/// Nobody is served by what was found again once somebody was served by what was restored.
fn check_no_loss(world: &Simulation) {
    if world.kept.strategy == Strategy::Snapshot {
        let first = world.served.iter().position(|stage| *stage == Stage::After);
        let first = first.unwrap_or(world.served.len());
        assert!(
            !world.served[first..].contains(&Stage::Before),
            "{:?}",
            world.served
        );
    }
}

#[tokio::test]
async fn a_process_that_dies_anywhere_any_number_of_times_is_gone_on_from() {
    for (strategy, to, count) in worlds() {
        for first in 0.. {
            let mut world = Simulation::new(strategy, to, count);
            world.left = Some(first);
            let mut result = world.run().await;
            let died = result.is_err();
            // Again after a while, then after another.
            for later in [first % 7, first % 11 + 3] {
                if result.is_err() {
                    world.left = Some(later);
                    // What a failing step's death is to the engine is a failure; to the disk, nothing came after it.
                    result = world.run().await;
                }
            }
            world.left = None;
            if result.is_err() {
                result = world.run().await;
            }
            match result.expect("goes on") {
                Ended::Changed => check_changed(&world),
                other => panic!("{strategy} {to} {count} {first}: {other:?}"),
            }
            check_no_loss(&world);
            if !died {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_step_that_fails_leaves_everything_as_before_also_when_the_process_dies_on_the_way_back() {
    for (strategy, to, count) in worlds() {
        let all = Simulation::new(strategy, to, count).kept.steps;
        for (fails, failing) in all.iter().enumerate() {
            for death in [None, Some(3), Some(8), Some(13), Some(20)] {
                let mut world = Simulation::new(strategy, to, count);
                world.fails = Some(fails);
                let mut result = world.run_until_back().await;
                if failing.is_final() {
                    assert!(result.is_err(), "stops, since clients may have written");
                    world.fails = None;
                    assert_eq!(world.run().await.expect("goes on"), Ended::Changed);
                    check_changed(&world);
                    continue;
                }
                if let Some(death) = death {
                    world.left = Some(death);
                    result = world.run().await;
                    world.left = None;
                }
                if result.is_err() || !world.kept.finished {
                    result = world.run().await;
                }
                match result.expect("goes back") {
                    Ended::Returned(why) => assert_eq!(why, "it fails"),
                    other => panic!("{strategy} {to} {count} {fails}: {other:?}"),
                }
                check_as_before(&world);
                check_no_loss(&world);
            }
        }
    }
}

impl Simulation {
    /// Runs until it has turned back, or ended otherwise, and then dies.
    async fn run_until_back(&mut self) -> Result<Ended> {
        for effects in 0.. {
            let mut probe = Simulation::new(self.kept.strategy, self.kept.to, self.members.len());
            probe.fails = self.fails;
            probe.left = Some(effects);
            let result = probe.run().await;
            let turned = probe.kept.direction == Direction::Back;
            let died = matches!(&result, Err(error) if error.to_string() == DEATH);
            if turned || !died {
                probe.left = None;
                *self = probe;
                return result;
            }
        }
        unreachable!("it ends")
    }
}

#[test]
fn a_plan_has_each_step_once_and_final_ones_last() {
    for (strategy, to, count) in worlds() {
        let order: Vec<usize> = (0..count).collect();
        let steps = steps(strategy, to, &order);
        let texts: BTreeSet<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        assert_eq!(texts.len(), steps.len(), "{strategy} {to}");
        let first = steps
            .iter()
            .position(|step| step.is_final())
            .unwrap_or(steps.len());
        assert!(
            steps[first..].iter().all(|step| step.is_final()),
            "{strategy} {to}"
        );
        assert_eq!(first == steps.len(), strategy == Strategy::Rolling);
    }
}
