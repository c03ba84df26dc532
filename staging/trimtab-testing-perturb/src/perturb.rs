//! The test: learns a run in which nothing goes wrong, and compares those with it in which something does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Client, CustomResourceExt};
use tokio_util::sync::CancellationToken;
use trimtab_testing_env::{Builder, EnvError, TestEnv, World};

use crate::journal::Entry;
use crate::plan::{self, Plan};
use crate::point::Point;
use crate::processes::Controller;
use crate::run::{Expected, Run, run};
use crate::scenario::Scenario;
use crate::story;

/// How many plans are run, unless the test or the environment says otherwise.
const PLANS: usize = 64;
/// Says how many plans are run: a number, or `all`.
const VARIABLE: &str = "TRIMTAB_PLANS";

type Definition = Box<dyn Fn() -> CustomResourceDefinition + Send + Sync>;
type Invariant = Box<dyn Fn(&World) -> Result<(), String> + Send + Sync>;
type Environment = Box<dyn Fn(Builder) -> Builder + Send + Sync>;
type Prepare = Box<dyn for<'a> Fn(&'a mut TestEnv) -> BoxFuture<'a, Result<(), EnvError>> + Send + Sync>;

/// A controller, what its users do, and what must hold.
#[must_use = "it does nothing before `check`"]
pub struct Perturb {
    pub(crate) controller: Controller,
    pub(crate) scenario: Scenario,
    pub(crate) definitions: Vec<Definition>,
    pub(crate) manifests: Vec<String>,
    pub(crate) environment: Vec<Environment>,
    pub(crate) prepare: Vec<Prepare>,
    pub(crate) user: Option<String>,
    pub(crate) invariants: Vec<(String, Invariant)>,
    /// Kinds, with JSON pointers.
    pub(crate) differences: Vec<(String, String)>,
    pub(crate) seed: u64,
    pub(crate) patience: Duration,
    plans: Option<usize>,
    several: usize,
}

/// What came of all plans.
#[derive(Debug)]
pub struct Report {
    /// How many plans were run.
    pub plans: usize,
    /// How many there are.
    pub known: usize,
    /// How many of those that were run came to where something was to go wrong. The others changed nothing: the controller's runs
    /// differ although nothing does that the kit decides on, or an earlier fault of the same plan changed its way.
    pub reached: usize,
    /// The plans that failed.
    pub failures: Vec<Failure>,
}

/// A plan that failed.
#[derive(Debug)]
pub struct Failure {
    /// The plan, for [`Perturb::replay`].
    pub plan: String,
    /// What was wrong, as `Converges: …`.
    pub wrong: Vec<String>,
    /// What the controller saw and did.
    pub story: String,
}

impl Perturb {
    /// Tests this controller: anything that works through a client, whatever it is written with. It runs until it is dropped;
    /// an error, or an end, is as the end of a process, which is started again.
    ///
    /// It is started anew for each process of each run, and has to be on the runtime's one thread: what it does on other threads
    /// is not driven.
    pub fn new<F, E>(controller: impl Fn(Client, CancellationToken) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let controller = Arc::new(controller);
        let start: Controller = Arc::new(move |client, stop| {
            let controller = controller.clone();
            Box::pin(async move { controller(client, stop).await.map_err(|error| error.to_string()) })
        });
        Self {
            controller: start,
            scenario: Scenario::default(),
            definitions: Vec::new(),
            manifests: Vec::new(),
            environment: Vec::new(),
            prepare: Vec::new(),
            user: None,
            invariants: Vec::new(),
            differences: Vec::new(),
            seed: 1,
            patience: Duration::from_secs(900),
            plans: None,
            several: 0,
        }
    }

    /// What users do, and what they wait for.
    pub fn scenario(mut self, steps: impl FnOnce(Scenario) -> Scenario) -> Self {
        self.scenario = steps(self.scenario);
        self
    }

    /// Serves this custom resource.
    pub fn crd<K: CustomResourceExt + 'static>(mut self) -> Self {
        self.definitions.push(Box::new(K::crd));
        self
    }

    /// Applies these manifests before the controller starts.
    pub fn manifests(mut self, manifests: &str) -> Self {
        self.manifests.push(manifests.to_owned());
        self
    }

    /// Prepares the environment before the controller starts, as by running other controllers, which are left in peace.
    pub fn prepare(
        mut self,
        prepare: impl for<'a> Fn(&'a mut TestEnv) -> BoxFuture<'a, Result<(), EnvError>> + Send + Sync + 'static,
    ) -> Self {
        self.prepare.push(Box::new(prepare));
        self
    }

    /// Says what the environment is to be: `|env| env.workload_controllers().nodes(3)`, for a controller whose pods are to run.
    /// What runs there is left in peace.
    pub fn environment(mut self, make: impl Fn(Builder) -> Builder + Send + Sync + 'static) -> Self {
        self.environment.push(Box::new(make));
        self
    }

    /// Leaves out one of the environment's controllers, since it is the one under test: `garbage-collector-controller`, say.
    pub fn without(self, controller: &str) -> Self {
        let controller = controller.to_owned();
        self.environment(move |env| env.without(&controller))
    }

    /// Gives the controller a client of this user, instead of the administrator's.
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Says what must hold at every moment: it is looked at after each change that the server commits.
    pub fn always(self, name: &str, holds: impl Fn(&World) -> bool + Send + Sync + 'static) -> Self {
        self.always_or(name, move |world| {
            if holds(world) {
                Ok(())
            } else {
                Err("it does not hold".to_owned())
            }
        })
    }

    /// As [`Perturb::always`], of what can say why it does not hold.
    pub fn always_or(
        mut self,
        name: &str,
        holds: impl Fn(&World) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.invariants.push((name.to_owned(), Box::new(holds)));
        self
    }

    /// Says that objects of this kind may end otherwise there: a JSON pointer, as `/status/restarts`; everywhere, if it is empty.
    pub fn may_differ(mut self, kind: &str, pointer: &str) -> Self {
        self.differences.push((kind.to_owned(), pointer.to_owned()));
        self
    }

    /// The seed of what is random; 1 unless set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How long, of the test's time, users wait for what they wait for, and for all to end well; 15 minutes unless set.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs so many plans at most, taken from all over; 64 unless set. `TRIMTAB_PLANS` in the environment of the process is stronger: a
    /// number, or `all`.
    pub fn plans(mut self, most: usize) -> Self {
        self.plans = Some(most);
        self
    }

    /// Runs so many plans more in which two or three things go wrong. One that fails is made smaller as long as it still fails.
    pub fn several(mut self, count: usize) -> Self {
        self.several = count;
        self
    }

    /// Runs the plans until one fails.
    ///
    /// # Panics
    ///
    /// When the run fails in which nothing goes wrong, and with the story of the plan that fails.
    #[allow(clippy::print_stderr)] // what was not done is told
    pub fn check(self) {
        let report = self.run(true);
        if let Some(failure) = report.failures.first() {
            panic!("\n{failure}");
        }
        if report.plans < report.known {
            let Report {
                plans,
                known,
                reached,
                ..
            } = report;
            eprintln!(
                "{plans} of {known} plans were run, {reached} came to their fault; {VARIABLE}=all runs all"
            );
        }
    }

    /// Runs the plans, all of them, and says what came of them.
    ///
    /// # Panics
    ///
    /// When the run fails in which nothing goes wrong.
    pub fn report(self) -> Report {
        self.run(false)
    }

    /// Runs the plans until one fails, which is the answer.
    ///
    /// # Panics
    ///
    /// When the run fails in which nothing goes wrong.
    pub fn find(self) -> Option<Failure> {
        self.run(true).failures.pop()
    }

    /// Runs one plan, which a failure has told.
    ///
    /// # Panics
    ///
    /// When the plan cannot be read, when the run fails in which nothing goes wrong, and with the story if this one fails.
    pub fn replay(self, plan: &str) {
        let plan: Plan = plan.parse().unwrap_or_else(|why| panic!("{why}"));
        let learned = self.learn();
        let run = self.perturbed(&plan, &learned);
        if !run.wrong.is_empty() {
            panic!("\n{}", failure(&plan, &run, &learned));
        }
    }

    fn run(self, first_only: bool) -> Report {
        let learned = self.learn();
        let points: Vec<Point> = learned.journal.iter().filter_map(Entry::point).cloned().collect();
        let singles = plan::singles(&points, learned.any_version);
        let several = plan::several(&singles, self.several, self.seed);
        let known = singles.len() + several.len();
        let most = match std::env::var(VARIABLE).as_deref() {
            Ok("all") => usize::MAX,
            Ok(number) => number.parse().unwrap_or(PLANS),
            Err(_) => self.plans.unwrap_or(PLANS),
        };
        let mut report = Report {
            plans: 0,
            known,
            reached: 0,
            failures: Vec::new(),
        };
        for plan in singles.into_iter().take(most).chain(several) {
            let run = self.perturbed(&plan, &learned);
            report.plans += 1;
            report.reached += usize::from(run.due.is_empty());
            if run.wrong.is_empty() {
                continue;
            }
            let (plan, run) = self.smallest(plan, run, &learned);
            report.failures.push(failure(&plan, &run, &learned));
            if first_only {
                break;
            }
        }
        report
    }

    /// A run in which nothing goes wrong.
    fn learn(&self) -> Run {
        let learned = run(self, &Plan::default(), None);
        if !learned.wrong.is_empty() {
            let story = story::tell(&Plan::default(), &learned, &learned);
            panic!("nothing goes wrong, and it fails all the same\n{story}");
        }
        learned
    }

    fn perturbed(&self, plan: &Plan, learned: &Run) -> Run {
        let expected = Expected {
            state: &learned.state,
            orphans: &learned.orphans,
            changes: &learned.changes,
        };
        run(self, plan, Some(expected))
    }

    /// The plan without what it fails without.
    fn smallest(&self, mut plan: Plan, mut run: Run, learned: &Run) -> (Plan, Run) {
        'smaller: loop {
            for smaller in plan.smaller() {
                let tried = self.perturbed(&smaller, learned);
                if !tried.wrong.is_empty() {
                    (plan, run) = (smaller, tried);
                    continue 'smaller;
                }
            }
            return (plan, run);
        }
    }
}

fn failure(plan: &Plan, run: &Run, learned: &Run) -> Failure {
    Failure {
        plan: plan.to_string(),
        wrong: run.wrong.clone(),
        story: story::tell(plan, run, learned),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the controller fails when {}\n\n{}", self.plan, self.story)
    }
}

impl fmt::Debug for Perturb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Perturb")
            .field("scenario", &self.scenario)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
